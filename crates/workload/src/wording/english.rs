//! English.

use super::{list, percent, seconds};
use crate::analysis::{Finding, Signs};

pub(super) fn text(finding: &Finding) -> String {
    match finding {
        Finding::Interrupted { level, levels_not_run } => interrupted(*level, levels_not_run),
        Finding::Failures { users, failed, sent, first } => format!(
            "At concurrency {users}, {failed} of {sent} requests failed; they are counted in Total \
             Requests and in nothing else. The first one said: {first}"
        ),
        Finding::SequenceCap { .. } => sequence_cap(finding),
        Finding::CapUndecided { users, max_num_seqs, signs } => {
            undecided(*users, *max_num_seqs, signs)
        }
        Finding::QueuedBelowCap { users, max_num_seqs, queue } => format!(
            "At concurrency {users}, {} of {} later requests spent more than a tenth of a service \
             time in the server's queue (at most {}), although max_num_seqs={max_num_seqs} was not \
             reached and the KV cache is not known to have been full: what they waited for does \
             not show.",
            queue.waited,
            queue.later,
            seconds(queue.max_ms)
        ),
        Finding::KvLimit { .. } | Finding::Preempted { .. } => memory(finding),
        Finding::NothingLimited { users, max_num_seqs, gauges, queue_times } => {
            nothing_limited(*users, *max_num_seqs, *gauges, *queue_times)
        }
        Finding::OtherLength { users, requests, asked, min, max } => format!(
            "At concurrency {users}, {requests} answers were not {} as asked for: lengths \
             range from {min} to {max}. The server may not honour `ignore_eos`, or its length limit \
             is lower; levels compare only if their lengths are equal.",
            asked.map_or("as long".to_owned(), |asked| format!("{asked} tokens long"))
        ),
        Finding::ChunksCounted { levels } => format!(
            "At concurrency {} the server gave no token usage: Num Generated Tokens and throughput \
             count the chunks of the stream, and a chunk may hold more than one token.",
            list(levels, ", ")
        ),
        Finding::PromptLength { asked, used } => prompt_length(*asked, *used),
        Finding::PrefixCache { users, share } => format!(
            "At concurrency {users}, {} of the prompt tokens came from the server's prefix cache, \
             though all prompts of a run differ: an earlier run with the same seed may have left \
             them there, and times to first token are too good.",
            percent(*share)
        ),
        Finding::EvidenceMissing { gauges, queue_times } => missing(*gauges, *queue_times),
        Finding::Delivered { levels } => delivered(levels),
        Finding::Percentiles { p95, p99 } => percentiles(p95, p99),
    }
}

fn interrupted(level: Option<(u32, usize, usize)>, not_run: &[u32]) -> String {
    let mut text = String::from("The run was stopped before its end.");
    if let Some((users, ended, meant)) = level {
        text += &format!(
            " Concurrency {users} is incomplete: {ended} of {meant} requests had ended, its figures \
             describe only those and do not compare with the others."
        );
    }
    if !not_run.is_empty() {
        text += &format!(" Not run: concurrency {}.", list(not_run, ", "));
    }
    text
}

fn sequence_cap(finding: &Finding) -> String {
    let Finding::SequenceCap {
        users,
        cap,
        cap_is_known,
        queued,
        signs,
        predicted_wait_ms,
        measured_wait_ms,
    } = finding
    else {
        unreachable!("the caller matched it");
    };
    let named =
        if *cap_is_known { format!("max_num_seqs={cap}") } else { format!("{cap} at a time") };
    let measured = match measured_wait_ms {
        Some(wait) => format!("measured {}", seconds(*wait)),
        None => "which could not be measured here".to_owned(),
    };
    format!(
        "At concurrency {users} the cap on concurrent sequences was reached ({named}), so later \
         requests could only queue: {queued} requests were waiting at a time. Evidence: {}. Mean \
         time in the queue by (C - M) / X: {}, {measured}.",
        evidence(signs),
        seconds(*predicted_wait_ms)
    )
}

fn evidence(found: &Signs) -> String {
    super::signs(
        found,
        "; ",
        [
            |signs| {
                let sign = signs.gauges?;
                Some(format!(
                    "the server's gauges showed {} running and {} waiting (in {} of {} readings)",
                    sign.running,
                    sign.waiting,
                    percent(sign.share),
                    sign.samples
                ))
            },
            |signs| {
                let sign = signs.queue?;
                Some(format!(
                    "{} of {} later requests spent more than a tenth of a service time in the \
                 server's queue (at most {})",
                    sign.waited,
                    sign.later,
                    seconds(sign.max_ms)
                ))
            },
            |signs| {
                let sign = signs.streams?;
                Some(format!(
                    "never more than {} streams received tokens at once, and just that many for {} of \
                 the time",
                    sign.top,
                    percent(sign.share)
                ))
            },
        ],
    )
}

fn undecided(users: u32, max_num_seqs: Option<u32>, signs: &Signs) -> String {
    let asked = match max_num_seqs {
        Some(cap) => format!("At concurrency {users} more users asked than max_num_seqs={cap}"),
        None => format!("At concurrency {users} the server may have reached a limit"),
    };
    match signs.count() {
        0 => format!("{asked}, but nothing that was measured shows requests queueing for it."),
        _ => format!(
            "{asked}, and there is one sign of it ({}); a second one is missing, so nothing is \
             concluded.",
            evidence(signs)
        ),
    }
}

fn memory(finding: &Finding) -> String {
    match finding {
        Finding::KvLimit { users, running, kv_usage, preemptions } => {
            let preempted = match preemptions {
                Some(count) => format!("; {count} requests were preempted and computed again"),
                None => String::new(),
            };
            format!(
                "At concurrency {users} the KV cache was the limit: it was up to {} full while \
                 requests waited and at most {running} ran{preempted}.",
                percent(*kv_usage)
            )
        }
        Finding::Preempted { users, preemptions } => format!(
            "At concurrency {users} the server preempted running requests {preemptions} times and \
             computed them again: their KV cache had run out of room."
        ),
        _ => unreachable!("the caller matched it"),
    }
}

fn nothing_limited(users: u32, cap: Option<u32>, gauges: bool, queue_times: bool) -> String {
    let seen = match (gauges, queue_times) {
        (true, true) => "by its gauges, its queue times and the streams that received tokens",
        (true, false) => "by its gauges and the streams that received tokens",
        (false, true) => "by its queue times and the streams that received tokens",
        (false, false) => "by the streams that received tokens, the only evidence there is",
    };
    match cap {
        Some(cap) => format!(
            "No level reached the cap on concurrent sequences: the highest concurrency was {users}, \
             and max_num_seqs={cap}. No other limit shows itself, {seen}."
        ),
        None => format!("Up to concurrency {users} no cap of the server shows itself, {seen}."),
    }
}

fn prompt_length(asked: Option<u32>, used: Option<(u32, u32)>) -> String {
    match (asked, used) {
        (Some(asked), Some((min, max))) => format!(
            "Prompt lengths are approximate: {asked} tokens were asked for, and the server counted \
             {min} to {max}."
        ),
        (None, Some((min, max))) => format!(
            "Prompt lengths are approximate: the server did not count the tokens that were asked \
             for, but {min} to {max}."
        ),
        (Some(asked), None) => format!(
            "Prompt lengths are approximate: {asked} words were sent for {asked} tokens, and the \
             server does not say how many tokens they were."
        ),
        (None, None) => "Prompt lengths are approximate: a word was sent for each token, and the \
                         server does not say how many tokens they were."
            .to_owned(),
    }
}

fn missing(gauges: bool, queue_times: bool) -> String {
    let what = match (gauges, queue_times) {
        (true, true) => "no gauges of running and waiting requests and no queue times",
        (true, false) => "no gauges of running and waiting requests",
        _ => "no queue times of its requests",
    };
    format!("The server gives {what}, so limits can only be inferred from what remains.")
}

fn delivered(levels: &[(u32, f64)]) -> String {
    let levels: Vec<_> =
        levels.iter().map(|(users, mean)| format!("{mean:.2} of {users}")).collect();
    format!(
        "Delivered concurrency, the number of requests on their way averaged from a level's first \
         byte to its end, when some users have already finished: {}.",
        levels.join(", ")
    )
}

fn percentiles(p95: &[u32], p99: &[u32]) -> String {
    let mut parts = Vec::new();
    if !p95.is_empty() {
        parts.push(format!("P95 at concurrency {} (fewer than 59 requests)", list(p95, ", ")));
    }
    if !p99.is_empty() {
        parts.push(format!("P99 at concurrency {} (fewer than 299)", list(p99, ", ")));
    }
    format!(
        "Percentiles are interpolated linearly between order statistics. These rest on too few \
         requests to bound anything with 95% confidence and only lean towards the maximum: {}.",
        parts.join("; ")
    )
}
