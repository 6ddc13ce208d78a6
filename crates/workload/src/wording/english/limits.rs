//! What held requests back.

use super::{of, percent};
use crate::analysis::{Finding, QueueSign, Signs, TwoGroups};
use crate::waits::PromptQueue;
use crate::wording::time;

pub(super) fn text(finding: &Finding) -> String {
    match finding {
        Finding::SequenceCap { .. } => sequence_cap(finding),
        Finding::CapUndecided { users, max_num_seqs, signs } => {
            undecided(*users, *max_num_seqs, signs)
        }
        Finding::QueuedBelowCap { users, max_num_seqs, queue } => format!(
            "At concurrency {users}, {}, although max_num_seqs={max_num_seqs} was not reached and \
             the KV cache is not known to have been full: what they waited for does not show.",
            queued(queue)
        ),
        Finding::QueuedForPrompts { level, queue, max_num_batched_tokens } => {
            format!("At {} {}", of(*level), prompts(queue, *max_num_batched_tokens))
        }
        Finding::KvLimit { level, running, kv_usage, preemptions, queue } => {
            let preempted = match preemptions {
                Some(count) => format!("; {count} requests were preempted and computed again"),
                None => String::new(),
            };
            let waited = queue.as_ref().map(|queue| format!("; {}", queued(queue)));
            format!(
                "At {} the KV cache was the limit: it was up to {} full while requests waited and \
                 at most {running} ran{preempted}{}.",
                of(*level),
                percent(*kv_usage),
                waited.unwrap_or_default()
            )
        }
        Finding::KvUndecided { level, kv_usage } => format!(
            "At {} the KV cache was up to {} full while requests waited, but neither preemptions \
             nor queue times nor streams show that they waited for it; a second sign is missing, so \
             nothing is concluded.",
            of(*level),
            percent(*kv_usage)
        ),
        Finding::Preempted { level, preemptions } => format!(
            "At {} the server preempted running requests {preemptions} times and computed them \
             again: their KV cache had run out of room.",
            of(*level)
        ),
        Finding::NothingLimited { users, max_num_seqs, gauges, queue_times } => {
            nothing_limited(*users, *max_num_seqs, *gauges, *queue_times)
        }
        _ => unreachable!("its subject is another"),
    }
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
        groups,
    } = finding
    else {
        unreachable!("the caller matched it");
    };
    let named =
        if *cap_is_known { format!("max_num_seqs={cap}") } else { format!("{cap} at a time") };
    let measured = match measured_wait_ms {
        Some(wait) => format!("measured {}", time(*wait)),
        None => "which could not be measured here".to_owned(),
    };
    let groups = groups.map(|groups| two_groups(&groups, *cap, *queued)).unwrap_or_default();
    format!(
        "At concurrency {users} the cap on concurrent sequences was reached ({named}), so later \
         requests could only queue: {queued} requests were waiting at a time. Evidence: {}. Mean \
         time in the queue by (C - M) / X: {}, {measured}.{groups}",
        evidence(signs),
        time(*predicted_wait_ms)
    )
}

/// Why the median shows nothing of a wait that the 95th percentile is made of.
fn two_groups(groups: &TwoGroups, cap: u32, queued: u32) -> String {
    let TwoGroups { shape, ttft_p50_ms, ttft_p95_ms } = groups;
    let at_once = match shape.at_once_p50_ms {
        Some(ms) => format!("the others had their first token after {} (median)", time(ms)),
        None => "no other had its first token sooner".to_owned(),
    };
    format!(
        " Waits come in two sizes (bimodal), since answers of equal length end together and their \
         places come free together: of every {cap} requests let in, {queued} had waited for about \
         one whole service time ({}), the rest hardly at all. So {} of {} requests waited, {} on \
         average, and {at_once}; the TTFT P50 of {} is that of requests that found a place, the P95 \
         of {} that of requests that did not.",
        time(shape.service_ms),
        shape.waited,
        shape.requests,
        time(shape.waited_mean_ms.unwrap_or(0.0)),
        time(*ttft_p50_ms),
        time(*ttft_p95_ms)
    )
}

fn queued(queue: &QueueSign) -> String {
    format!(
        "{} of {} later requests spent more than a tenth of a service time in the server's queue \
         (at most {})",
        queue.waited,
        queue.later,
        time(queue.max_ms)
    )
}

fn prompts(queue: &PromptQueue, budget: Option<u32>) -> String {
    let budget = match (budget, queue.open_prompt_tokens) {
        (Some(budget), Some(open)) => format!(
            "; up to {open} prompt tokens were open at once, and a step computes at most {budget} \
             (max_num_batched_tokens)"
        ),
        _ => String::new(),
    };
    let follows = match queue.correlation {
        Some(correlation) => format!(
            "; their waits follow the number of prompts computed meanwhile (correlation \
             {correlation:.2})"
        ),
        None => String::new(),
    };
    format!(
        "requests waited for each other's prompts, not for a place: {} spent {} in the server's \
         queue on average. Evidence: during {} of that time some prompt was being computed, where \
         chance would give {}{follows}{budget}. Prompts that arrive together are computed one step \
         after another.",
        queue.waited,
        time(queue.mean_ms),
        percent(queue.covered),
        percent(queue.covered_by_chance)
    )
}

fn evidence(found: &Signs) -> String {
    crate::wording::signs(
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
            |signs| Some(queued(&signs.queue?)),
            |signs| {
                let sign = signs.streams?;
                Some(format!(
                    "never more than {} streams received tokens at once, and just that many for {} \
                     of the time",
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

fn nothing_limited(users: u32, cap: Option<u32>, gauges: bool, queue_times: bool) -> String {
    let seen = match (gauges, queue_times) {
        (true, true) => "by its gauges, its queue times and the streams that received tokens",
        (true, false) => "by its gauges and the streams that received tokens",
        (false, true) => "by its queue times and the streams that received tokens",
        (false, false) => "by the streams that received tokens, the only evidence there is",
    };
    match cap {
        Some(cap) if users <= cap => format!(
            "No level reached the cap on concurrent sequences: the highest concurrency was {users}, \
             and max_num_seqs={cap}. No other limit shows itself, {seen}."
        ),
        Some(_) | None => {
            format!("Up to concurrency {users} no cap of the server shows itself, {seen}.")
        }
    }
}
