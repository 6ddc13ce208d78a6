//! What charts show.

use workload::percentile::Spread;
use workload::waits::WaitShape;

use super::users;
use crate::number::{counted, duration, percent};
use crate::words::{Goodput, Median, Queue, Scaling, Sentences, Steady, Throughput, Wait, Why};

pub(super) const SENTENCES: Sentences = Sentences {
    nothing: |level| format!("At {level} no request succeeded."),
    why,
    throughput,
    scaling,
    distribution,
    decomposition: |level, [quick, slow]| {
        format!(
            "At {level} the quick half of the requests spend {} until their first token, {} of it \
             in the queue; the slowest twentieth spend {}, {} of it in the queue.",
            quick.0, quick.1, slow.0, slow.1
        )
    },
    gaps,
    requests,
    gauges,
    load,
    steady,
    goodput,
};

fn why(facts: &Why<'_>) -> String {
    let Why { level, ttft, waits, capped, wait, in_batches } = facts;
    let service = duration(waits.service_ms);
    let Some(Wait { mean_ms, is_whole, median }) = wait else {
        return format!(
            "At {level} no request waited for a place: TTFT is {} in the median and {} at P95, \
             where an answer takes {service}.",
            duration(ttft.p50),
            duration(ttft.p95),
        );
    };
    let mut text = match capped {
        Some((cap, all)) => format!(
            "At {level} the server ran at most {cap} requests at a time, so {} of {all} users were \
             always waiting for a place. Of",
            all.saturating_sub(*cap)
        ),
        None => format!("At {level}, of"),
    };
    text += &format!(
        " {} requests, {} waited {} on average for their first token, ",
        waits.requests,
        waits.waited,
        duration(*mean_ms)
    );
    text += &match is_whole {
        true => format!("about one whole service time: once it runs, a request takes {service}. "),
        false => format!(
            "{:.1} times the {service} that a request takes once it runs. ",
            mean_ms / waits.service_ms
        ),
    };
    if let Some(ttft_ms) = waits.at_once_p50_ms {
        let others = waits.requests - waits.waited;
        let half = duration(ttft_ms);
        text += &format!("Of the other {others}, half had it within {half}. ");
    }
    if *in_batches {
        text += "All answers are equally long, so places become free together, a whole batch at a \
                 time; who just misses them waits until that batch has been answered. ";
    }
    text + &percentiles(ttft, waits, median)
}

fn percentiles(ttft: &Spread, waits: &WaitShape, median: &Median) -> String {
    let share = percent(waits.waited as f64 / waits.requests as f64);
    let (p50, p95) = (duration(ttft.p50), duration(ttft.p95));
    match median {
        Median::Quick => format!(
            "So the median request is one that did not wait (TTFT P50 {p50}), and P95 falls among \
             the {share} that did (TTFT P95 {p95})."
        ),
        Median::Waited => {
            format!("So many, {share}, show even in the median: TTFT P50 {p50}, P95 {p95}.")
        }
        Median::Few => {
            format!("So few, {share}, hardly show in the percentiles: TTFT P50 {p50}, P95 {p95}.")
        }
    }
}

fn throughput(facts: &Throughput<'_>) -> String {
    let [(first, rate, p95), (last, rate_last, p95_last)] = facts.ends;
    let time = |ms: Option<f64>| ms.map_or("unknown".to_owned(), duration);
    let mut text = match facts.is_one {
        true => format!("{first}: {rate:.2} tokens/s, TTFT P95 {}.", time(p95)),
        false => format!(
            "From {first} to {last} throughput goes from {rate:.2} to {rate_last:.2} tokens/s, and \
             TTFT P95 from {} to {}.",
            time(p95),
            time(p95_last)
        ),
    };
    let gain = percent(facts.knee_gain);
    match facts.knee {
        Some(knee) => {
            text += &format!(
                " The knee is at {knee}: beyond it, twice the users bring less than {gain} more."
            );
        }
        None if !facts.is_one => {
            text += &format!(
                " There is no knee: each doubling of users still brought more than {gain}."
            );
        }
        None => {}
    }
    if let Some((cap, level)) = facts.beyond_cap {
        text += &format!(
            " {level} are more than the {cap} sequences that run at once: what is beyond the cap \
             waits."
        );
    }
    text
}

fn scaling(facts: &Scaling) -> String {
    let Scaling { users: [first, last], factor, ideal } = *facts;
    format!(
        "{} get {factor:.1} times the tokens/s of {}: {} of what perfect scaling ({ideal:.1} times) \
         would bring.",
        users(last),
        users(first),
        percent(factor / ideal)
    )
}

fn distribution(level: &str, what: &str, spread: &Spread, has_gap: bool) -> String {
    let mut text = format!(
        "At {level} half of all requests have a {what} of at most {}, {} of at most {}.",
        duration(spread.p50),
        percent(0.95),
        duration(spread.p95)
    );
    if has_gap {
        text += &format!(
            " The flat stretch of its line is a gap: hardly any request lies between the quick \
             ones and the slow ones, which reach {}.",
            duration(spread.max)
        );
    }
    text
}

fn gaps(level: &str, gaps: &Spread, is_exact: bool) -> String {
    let what = if is_exact { "tokens (ITL)" } else { "chunks (ICL)" };
    format!(
        "At {level} half of all gaps between {what} are at most {}, {} at most {}; the longest is \
         {}.",
        duration(gaps.p50),
        percent(0.99),
        duration(gaps.p99),
        duration(gaps.max)
    )
}

fn requests(waits: &WaitShape) -> String {
    let service = duration(waits.service_ms);
    match waits.waited_mean_ms {
        Some(mean_ms) => format!(
            "{} of {} requests waited for their first token, {} on average; an answer takes \
             {service}.",
            waits.waited,
            waits.requests,
            duration(mean_ms)
        ),
        None => format!(
            "None of {} requests waited long for its first token; an answer takes {service}.",
            waits.requests
        ),
    }
}

fn gauges(queue: Option<Queue>) -> String {
    match queue {
        None => "No reading of the server's gauges shows a queue.".to_owned(),
        Some(Queue { running, waiting, samples, of }) => format!(
            "While requests were waiting, {running} ran in {samples} of {of} readings of the \
             server's gauges, with {waiting} in the queue."
        ),
    }
}

fn load(requests: usize, lengths: Option<(u32, u32)>) -> String {
    let requests = counted(requests as u64, "request", "requests");
    match lengths {
        Some((prompt, output)) => {
            format!("{requests} of {prompt} prompt and {output} generated tokens each.")
        }
        None => format!("{requests} of different lengths."),
    }
}

fn steady(facts: &Steady) -> String {
    let figure = |(rate, p95): (f64, Option<f64>)| {
        let p95 = p95.map_or("unknown".to_owned(), duration);
        format!("{rate:.2} tokens/s and TTFT P95 {p95}")
    };
    format!(
        "In its steady part, {} long and with {}: {}. Over the whole level: {}.",
        duration(facts.length_ms),
        counted(facts.requests as u64, "request", "requests"),
        figure(facts.part),
        figure(facts.whole)
    )
}

fn goodput(facts: &Goodput) -> String {
    let names = ["TTFT", "time per later token", "latency"];
    let limits = names.iter().zip(facts.limits_ms).filter_map(|(what, limit_ms)| {
        limit_ms.map(|limit_ms| format!("{what} at most {}", duration(limit_ms)))
    });
    format!(
        "{} of {} requests ({}) met what was expected of them: {}.",
        facts.good,
        facts.requests,
        percent(facts.share),
        limits.collect::<Vec<_>>().join(", ")
    )
}
