//! What each chart shows, in a sentence or two with the numbers: what is to be said.

use workload::lengths::Lengths;
use workload::load::LevelPlan;
use workload::percentile::Spread;
use workload::summary::LevelSummary;
use workload::waits::WaitShape;

use crate::level::LevelView;
use crate::words::{Goodput, Median, Queue, Scaling, Steady, Throughput, Wait, Why, Words};

/// Below this gain in tokens per second for twice the users, more users bring next to nothing.
const KNEE_GAIN: f64 = 0.05;
/// A mean wait between these multiples of the service time is called a whole one.
const WHOLE: std::ops::RangeInclusive<f64> = 0.75..=1.25;

/// Why the time to first token of a level is what it is.
pub(crate) fn why(level: &LevelView<'_>) -> Option<String> {
    let waits = level.summary.wait_shape?;
    let ttft = level.summary.ttft_ms?;
    let wait = waits.waited_mean_ms.map(|mean_ms| Wait {
        mean_ms,
        is_whole: WHOLE.contains(&(mean_ms / waits.service_ms)),
        median: median(&ttft, &waits),
    });
    let users = level.summary.plan.users().filter(|_| level.is_capped);
    Some((level.words.sentences.why)(&Why {
        level: &level.name(),
        ttft,
        waits,
        capped: level.cap.zip(users),
        wait,
        in_batches: level.is_capped && level.has_one_length() && waits.is_bimodal(),
    }))
}

/// Where those that waited show among the percentiles.
fn median(ttft: &Spread, waits: &WaitShape) -> Median {
    let has_waited = |ms: f64| waits.service_ms / 2.0 <= ms;
    match (has_waited(ttft.p50), has_waited(ttft.p95)) {
        (true, _) => Median::Waited,
        (false, true) => Median::Quick,
        (false, false) => Median::Few,
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
pub(crate) fn throughput(words: &Words, levels: &[LevelView<'_>]) -> String {
    let (Some(first), Some(last)) = (levels.first(), levels.last()) else { return String::new() };
    let figures = |level: &LevelView<'_>| {
        let rate = level.summary.tokens_per_second.unwrap_or(0.0);
        (rate, level.summary.ttft_ms.map(|ttft| ttft.p95))
    };
    let ends = [first, last].map(|level| (level.name(), figures(level)));
    let knee = knee(levels).map(LevelView::name);
    let beyond_cap = first_beyond_cap(levels).map(|(cap, level)| (cap, level.name()));
    (words.sentences.throughput)(&Throughput {
        ends: [&ends[0], &ends[1]].map(|(name, (rate, p95))| (name.as_str(), *rate, *p95)),
        is_one: levels.len() == 1,
        knee: knee.as_deref(),
        knee_gain: KNEE_GAIN,
        beyond_cap: beyond_cap.as_ref().map(|(cap, level)| (*cap, level.as_str())),
    })
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
pub(crate) fn scaling(words: &Words, first: (u32, f64), last: (u32, f64)) -> String {
    (words.sentences.scaling)(&Scaling {
        users: [first.0, last.0],
        factor: last.1 / first.1,
        ideal: f64::from(last.0) / f64::from(first.0),
    })
}

/// How the values of the level in focus are spread.
pub(crate) fn distribution(level: &LevelView<'_>, what: &str, spread: Option<Spread>) -> String {
    let sentences = &level.words.sentences;
    let Some(spread) = spread else { return (sentences.nothing)(&level.name()) };
    let has_gap = 10.0 * spread.p50.max(spread.min) < spread.p95;
    (sentences.distribution)(&level.name(), what, &spread, has_gap)
}

/// What the gaps between tokens are, or those between chunks where tokens are not known.
pub(crate) fn gaps(level: &LevelView<'_>) -> String {
    let Some(gaps) = level.summary.gaps else { return String::new() };
    let say = level.words.sentences.gaps;
    say(&level.name(), &gaps.itl_ms.unwrap_or(gaps.icl_ms), gaps.itl_ms.is_some())
}

/// What the picture of all requests shows.
pub(crate) fn requests(level: &LevelView<'_>) -> String {
    let sentences = &level.words.sentences;
    match &level.summary.wait_shape {
        Some(waits) => (sentences.requests)(waits),
        None => (sentences.nothing)(&level.name()),
    }
}

/// What the server's gauges show meanwhile. `None` without any.
pub(crate) fn gauges(level: &LevelView<'_>) -> Option<String> {
    let gauges = level.summary.gauges?;
    let queue = (0 < gauges.samples_at_top).then_some(Queue {
        running: gauges.running_top,
        waiting: gauges.waiting_at_top,
        samples: gauges.samples_at_top,
        of: gauges.samples_waiting,
    });
    Some((level.words.sentences.gauges)(queue))
}

/// What was asked of the server at a level.
pub(crate) fn load(words: &Words, plan: &LevelPlan) -> String {
    let lengths = plan.lengths.constant();
    let lengths =
        lengths.map(|Lengths { prompt_tokens, output_tokens }| (prompt_tokens, output_tokens));
    (words.sentences.load)(plan.requests(), lengths)
}

/// A level without its beginning and end, beside the whole. `None` if it has no steady part.
pub(crate) fn steady(words: &Words, level: &LevelSummary) -> Option<String> {
    let steady = level.steady.as_ref()?;
    let p95 = |ttft: Option<Spread>| ttft.map(|ttft| ttft.p95);
    Some((words.sentences.steady)(&Steady {
        length_ms: 1000.0 * steady.window.seconds(),
        requests: steady.requests,
        part: (steady.tokens_per_second, p95(steady.ttft_ms)),
        whole: (level.tokens_per_second?, p95(level.ttft_ms)),
    }))
}

/// How many requests met what was expected of them. `None` if nothing was.
pub(crate) fn goodput(words: &Words, level: &LevelSummary) -> Option<String> {
    let goodput = level.goodput?;
    Some((words.sentences.goodput)(&Goodput {
        good: goodput.good,
        requests: goodput.requests,
        share: goodput.share,
        limits_ms: [goodput.slo.ttft_ms, goodput.slo.tpot_ms, goodput.slo.e2e_ms],
    }))
}
