//! What each chart shows, in a sentence or two with the numbers.

use workload::lengths::Lengths;
use workload::load::LevelPlan;
use workload::percentile::Spread;
use workload::summary::LevelSummary;
use workload::waits::WaitShape;

use crate::level::LevelView;
use crate::number::{counted, duration, percent};

/// Below this gain in tokens per second for twice the users, more users bring next to nothing.
pub(crate) const KNEE_GAIN: f64 = 0.05;
/// A mean wait between these multiples of the service time is called a whole one.
const WHOLE: std::ops::RangeInclusive<f64> = 0.75..=1.25;

/// Why the time to first token of a level is what it is.
pub(crate) fn why(level: &LevelView<'_>) -> Option<String> {
    let waits = level.summary.wait_shape?;
    let ttft = level.summary.ttft_ms?;
    let Some(mean_ms) = waits.waited_mean_ms else {
        return Some(format!(
            "At {} no request waited for a place: TTFT is {} in the median and {} at P95, where an \
             answer takes {}.",
            level.name(),
            duration(ttft.p50),
            duration(ttft.p95),
            duration(waits.service_ms)
        ));
    };
    let mut text = match (level.cap, level.summary.plan.users()) {
        (Some(cap), Some(users)) if level.is_capped => format!(
            "At {} the server ran at most {cap} requests at a time, so {} of {users} users were \
             always waiting for a place. Of",
            level.name(),
            users.saturating_sub(cap)
        ),
        _ => format!("At {}, of", level.name()),
    };
    text += &format!(
        " {} requests, {} waited {} on average for their first token, ",
        waits.requests,
        waits.waited,
        duration(mean_ms)
    );
    let service = duration(waits.service_ms);
    text += &match is_whole_service(&waits) {
        true => format!("about one whole service time: once it runs, a request takes {service}. "),
        false => format!(
            "{:.1} times the {service} that a request takes once it runs. ",
            mean_ms / waits.service_ms
        ),
    };
    if let Some(ttft_ms) = waits.at_once_p50_ms {
        let others = waits.requests - waits.waited;
        let median = duration(ttft_ms);
        text += &format!("Of the other {others}, half had it within {median}. ");
    }
    if level.is_capped && level.has_one_length() && waits.is_bimodal() {
        text += "All answers are equally long, so places become free together, a whole batch at a \
                 time; who just misses them waits until that batch has been answered. ";
    }
    Some(text + &percentiles(&ttft, &waits))
}

/// Whether those that waited did so for about one whole service.
fn is_whole_service(waits: &WaitShape) -> bool {
    waits.waited_mean_ms.is_some_and(|ms| WHOLE.contains(&(ms / waits.service_ms)))
}

/// What the two groups make of the percentiles.
fn percentiles(ttft: &Spread, waits: &WaitShape) -> String {
    let share = percent(waits.waited as f64 / waits.requests as f64);
    let (p50, p95) = (duration(ttft.p50), duration(ttft.p95));
    let has_waited = |ms: f64| waits.service_ms / 2.0 <= ms;
    match (has_waited(ttft.p50), has_waited(ttft.p95)) {
        (false, true) => format!(
            "So the median request is one that did not wait (TTFT P50 {p50}), and P95 falls among \
             the {share} that did (TTFT P95 {p95})."
        ),
        (true, _) => {
            format!("So many, {share}, show even in the median: TTFT P50 {p50}, P95 {p95}.")
        }
        (false, false) => {
            format!("So few, {share}, hardly show in the percentiles: TTFT P50 {p50}, P95 {p95}.")
        }
    }
}

/// The level from which on more users bring next to nothing: the first whose successor gains less
/// than [`KNEE_GAIN`] per doubling of users. `None` if each step still gained more.
pub(crate) fn knee<'a, 'b>(levels: &'b [LevelView<'a>]) -> Option<&'b LevelView<'a>> {
    levels.windows(2).find_map(|pair| {
        let [before, after] = pair else { return None };
        let users = |level: &LevelView<'_>| level.summary.plan.users().map(f64::from);
        let doublings = (users(after)? / users(before)?).log2();
        let gain = after.summary.tokens_per_second? / before.summary.tokens_per_second?;
        (0.0 < doublings && gain.log2() < doublings * (1.0 + KNEE_GAIN).log2()).then_some(before)
    })
}

/// What throughput costs in latency.
pub(crate) fn throughput(levels: &[LevelView<'_>]) -> String {
    let (Some(first), Some(last)) = (levels.first(), levels.last()) else { return String::new() };
    let rate = |level: &LevelView<'_>| level.summary.tokens_per_second.unwrap_or(0.0);
    let p95 = |level: &LevelView<'_>| {
        level.summary.ttft_ms.map_or("unknown".to_owned(), |ttft| duration(ttft.p95))
    };
    let mut text = match levels.len() {
        1 => format!("{}: {:.2} tokens/s, TTFT P95 {}.", first.name(), rate(first), p95(first)),
        _ => format!(
            "From {} to {} throughput goes from {:.2} to {:.2} tokens/s, and TTFT P95 from {} to {}.",
            first.name(),
            last.name(),
            rate(first),
            rate(last),
            p95(first),
            p95(last)
        ),
    };
    match knee(levels) {
        Some(knee) => {
            text += &format!(
                " The knee is at {}: beyond it, twice the users bring less than {} more.",
                knee.name(),
                percent(KNEE_GAIN)
            );
        }
        None if 1 < levels.len() => {
            text += &format!(
                " There is no knee: each doubling of users still brought more than {}.",
                percent(KNEE_GAIN)
            );
        }
        None => {}
    }
    if let Some((cap, level)) = first_beyond_cap(levels) {
        text += &format!(
            " {} are more than the {cap} sequences that run at once: what is beyond the cap waits.",
            level.name()
        );
    }
    text
}

/// The cap and the first level with more users than it lets run.
pub(crate) fn first_beyond_cap<'a, 'b>(
    levels: &'b [LevelView<'a>],
) -> Option<(u32, &'b LevelView<'a>)> {
    levels.iter().find_map(|level| {
        let cap = level.cap?;
        (cap < level.summary.plan.users()?).then_some((cap, level))
    })
}

/// How throughput grows with users.
pub(crate) fn scaling(first: (u32, f64), last: (u32, f64)) -> String {
    let (factor, ideal) = (last.1 / first.1, f64::from(last.0) / f64::from(first.0));
    format!(
        "{} get {factor:.1} times the tokens/s of {}: {} of what perfect scaling ({ideal:.1} times) \
         would bring.",
        counted(u64::from(last.0), "user", "users"),
        counted(u64::from(first.0), "user", "users"),
        percent(factor / ideal)
    )
}

/// How the values of the level in focus are spread.
pub(crate) fn distribution(level: &LevelView<'_>, what: &str, spread: Option<Spread>) -> String {
    let Some(Spread { min, p50, p95, max, .. }) = spread else {
        return format!("At {} no request succeeded.", level.name());
    };
    let mut text = format!(
        "At {} half of all requests have a {what} of at most {}, {} of at most {}.",
        level.name(),
        duration(p50),
        percent(0.95),
        duration(p95)
    );
    if 10.0 * p50.max(min) < p95 {
        text += &format!(
            " The flat stretch of its line is a gap: hardly any request lies between the quick \
             ones and the slow ones, which reach {}.",
            duration(max)
        );
    }
    text
}

/// What the gaps between tokens are, or those between chunks where tokens are not known.
pub(crate) fn gaps(level: &LevelView<'_>) -> String {
    let Some(gaps) = level.summary.gaps else { return String::new() };
    let (what, Spread { p50, p99, max, .. }) = match gaps.itl_ms {
        Some(itl_ms) => ("tokens (ITL)", itl_ms),
        None => ("chunks (ICL)", gaps.icl_ms),
    };
    format!(
        "At {} half of all gaps between {what} are at most {}, {} at most {}; the longest is {}.",
        level.name(),
        duration(p50),
        percent(0.99),
        duration(p99),
        duration(max)
    )
}

/// What the picture of all requests shows.
pub(crate) fn requests(level: &LevelView<'_>) -> String {
    let Some(waits) = level.summary.wait_shape else {
        return format!("At {} no request succeeded.", level.name());
    };
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

/// What the server's gauges show meanwhile. `None` without any.
pub(crate) fn gauges(level: &LevelView<'_>) -> Option<String> {
    let gauges = level.summary.gauges?;
    Some(match gauges.samples_at_top {
        0 => "No reading of the server's gauges shows a queue.".to_owned(),
        at_top => format!(
            "While requests were waiting, {} ran in {at_top} of {} readings of the server's \
             gauges, with {} in the queue.",
            gauges.running_top, gauges.samples_waiting, gauges.waiting_at_top
        ),
    })
}

/// What was asked of the server at a level.
pub(crate) fn load(plan: &LevelPlan) -> String {
    let requests = counted(plan.requests() as u64, "request", "requests");
    match plan.lengths.constant() {
        Some(Lengths { prompt_tokens, output_tokens }) => format!(
            "{requests} of {prompt_tokens} prompt and {output_tokens} generated tokens each."
        ),
        None => format!("{requests} of different lengths."),
    }
}

/// A level without its beginning and end, beside the whole. `None` if it has no steady part.
pub(crate) fn steady(level: &LevelSummary) -> Option<String> {
    let steady = level.steady.as_ref()?;
    let figure = |rate: f64, ttft: Option<Spread>| {
        let ttft = ttft.map_or("unknown".to_owned(), |ttft| duration(ttft.p95));
        format!("{rate:.2} tokens/s and TTFT P95 {ttft}")
    };
    Some(format!(
        "In its steady part, {} long and with {}: {}. Over the whole level: {}.",
        duration(1000.0 * steady.window.seconds()),
        counted(steady.requests as u64, "request", "requests"),
        figure(steady.tokens_per_second, steady.ttft_ms),
        figure(level.tokens_per_second?, level.ttft_ms)
    ))
}

/// How many requests met what was expected of them. `None` if nothing was.
pub(crate) fn goodput(level: &LevelSummary) -> Option<String> {
    let goodput = level.goodput?;
    let limits = [
        ("TTFT", goodput.slo.ttft_ms),
        ("time per later token", goodput.slo.tpot_ms),
        ("latency", goodput.slo.e2e_ms),
    ];
    let limits = limits.into_iter().filter_map(|(what, limit_ms)| {
        limit_ms.map(|limit_ms| format!("{what} at most {}", duration(limit_ms)))
    });
    Some(format!(
        "{} of {} requests ({}) met what was expected of them: {}.",
        goodput.good,
        goodput.requests,
        percent(goodput.share),
        limits.collect::<Vec<_>>().join(", ")
    ))
}
