//! What came back.

use super::{all_of, each, of, percent};
use crate::analysis::Finding;
use crate::level::LevelName;
use crate::slo::{Goodput, Slo};
use crate::wording::{fine_percent, time};

pub(super) fn text(finding: &Finding) -> String {
    match finding {
        Finding::Goodput { levels } => format!(
            "Goodput, the requests that met every limit ({}): {}.",
            levels.first().map_or(String::new(), |(_, goodput)| limits(goodput.slo)),
            each(levels, "; ", |(level, goodput)| good(*level, goodput))
        ),
        Finding::StoppedEarly { level, stopped, answers } => format!(
            "At {}, {stopped} of {answers} answers ended early, by the server's own reason `stop`: \
             it did not honour `ignore_eos`, and may honour `min_tokens`.",
            of(*level)
        ),
        Finding::OtherLength { level, requests, asked, min, max } => format!(
            "At {}, {requests} answers were not {} as asked for: lengths range from {min} to {max}. \
             The server may not honour `ignore_eos`, or its length limit is lower; levels compare \
             only if their lengths are equal.",
            of(*level),
            asked.map_or("as long".to_owned(), |asked| format!("{asked} tokens long"))
        ),
        Finding::ChunkMismatch { levels } => format!(
            "A chunk of the stream does not stand for a token here: {}. Figures of tokens go by the \
             server's count, gaps between chunks (ICL) are not gaps between tokens (ITL).",
            each(levels, "; ", |(level, check)| {
                format!(
                    "at {} the server counts {} generated tokens, and {} chunks with text came ({} \
                     apart)",
                    of(*level),
                    check.usage_tokens,
                    check.chunks,
                    fine_percent(check.mismatch)
                )
            })
        ),
        Finding::ChunksCounted { levels } => format!(
            "At {} the server gave no token usage: Num Generated Tokens and throughput count the \
             chunks of the stream, and a chunk may hold more than one token.",
            all_of(levels)
        ),
        Finding::PromptLength { asked, used } => prompt_length(*asked, *used),
        Finding::PrefixCache { level, share, is_meant: true } => format!(
            "At {}, {} of the prompt tokens came from the server's prefix cache, since prompts begin \
             as others do: they cost no prefill.",
            of(*level),
            percent(*share)
        ),
        Finding::PrefixCache { level, share, is_meant: false } => format!(
            "At {}, {} of the prompt tokens came from the server's prefix cache, though all prompts \
             of a run differ: an earlier run with the same seed may have left them there, and times \
             to first token are too good.",
            of(*level),
            percent(*share)
        ),
        Finding::EvidenceMissing { gauges, queue_times } => missing(*gauges, *queue_times),
        Finding::Percentiles { p95, p99 } => percentiles(p95, p99),
        _ => unreachable!("its subject is another"),
    }
}

fn limits(slo: Slo) -> String {
    let limit = |name: &str, ms: Option<f64>| ms.map(|ms| format!("{name} {}", time(ms)));
    let all = [limit("TTFT", slo.ttft_ms), limit("TPOT", slo.tpot_ms), limit("E2E", slo.e2e_ms)];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn good(level: LevelName, goodput: &Goodput) -> String {
    let rate = match goodput.per_second {
        Some(rate) => format!(", {rate:.2} a second"),
        None => String::new(),
    };
    let missed =
        [("TTFT", goodput.missed_ttft), ("TPOT", goodput.missed_tpot), ("E2E", goodput.missed_e2e)];
    let missed: Vec<_> = missed.into_iter().filter(|(_, count)| 0 < *count).collect();
    let missed = match missed.is_empty() {
        true => String::new(),
        false => format!(
            " (answers that missed a limit: {})",
            each(&missed, ", ", |(name, count)| format!("{name} {count}"))
        ),
    };
    format!(
        "{} at {}, {} of {} requests{rate}{missed}",
        percent(goodput.share),
        of(level),
        goodput.good,
        goodput.requests
    )
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

fn percentiles(p95: &[LevelName], p99: &[LevelName]) -> String {
    let mut parts = Vec::new();
    if !p95.is_empty() {
        parts.push(format!("P95 at {} (fewer than 59 requests)", all_of(p95)));
    }
    if !p99.is_empty() {
        parts.push(format!("P99 at {} (fewer than 299)", all_of(p99)));
    }
    format!(
        "Percentiles are interpolated linearly between order statistics. These rest on too few \
         requests to bound anything with 95% confidence and only lean towards the maximum: {}.",
        parts.join("; ")
    )
}
