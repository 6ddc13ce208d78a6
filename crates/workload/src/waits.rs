//! How requests waited for their first token: how long, in which shape, and behind whose prompts.

use serde::{Deserialize, Serialize};

use crate::load::{LevelPlan, Load};
use crate::percentile::{Spread, median};
use crate::record::RequestRecord;
use crate::stages::StageTimes;

/// What the server's own queue times show.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueDigest {
    /// Mean over the requests with a queue time, milliseconds.
    pub mean_ms: f64,
    /// Largest, milliseconds.
    pub max_ms: f64,
    /// Requests looked at for long waits: all but each user's first (all, if each sent one), since
    /// the first ones arrive together and are let in step by step on any server.
    pub later: usize,
    /// Those of them that waited longer than [`LONG_WAIT`] of a typical service time, and than a step.
    pub later_waited: usize,
}

/// A wait counts from this share of the median service time (latency less queue time) on.
pub const LONG_WAIT: f64 = 0.1;

/// From which queue time on a request has waited, milliseconds: [`LONG_WAIT`] of a typical service
/// time, and at least a step of the server, for which every request waits. `None` without queue
/// times.
fn long_wait_ms(timed: &[&RequestRecord]) -> Option<f64> {
    let service = timed.iter().filter_map(|record| Some(record.latency_ms()? - record.queue_ms()?));
    let step = timed.iter().filter_map(|record| record.tpot_ms());
    let share_ms = LONG_WAIT * median(service.collect())?;
    Some(share_ms.max(median(step.collect()).unwrap_or(0.0)))
}

fn with_queue_times(records: &[RequestRecord]) -> Vec<&RequestRecord> {
    records.iter().filter(|record| record.is_ok() && record.queue_ms().is_some()).collect()
}

impl QueueDigest {
    /// Sums up the successful among `records`. `None` if none has a queue time.
    pub fn of(plan: &LevelPlan, records: &[RequestRecord]) -> Option<QueueDigest> {
        let timed = with_queue_times(records);
        let queue = Spread::of(timed.iter().filter_map(|record| record.queue_ms()).collect())?;
        let long_ms = long_wait_ms(&timed)?;
        let burst_alone = matches!(plan.load, Load::Closed { requests_per_user: 1, .. });
        let all_count = burst_alone || plan.users().is_none();
        let later = timed.iter().filter(|record| all_count || 1 <= record.index);
        let waited = |record: &&&RequestRecord| record.queue_ms().is_some_and(|ms| long_ms < ms);
        Some(QueueDigest {
            mean_ms: queue.mean,
            max_ms: queue.max,
            later: later.clone().count(),
            later_waited: later.filter(waited).count(),
        })
    }
}

/// The shape of the times to first token beside the time that an answer takes once it is let in.
///
/// With a cap on sequences and answers of equal length places come free together: whoever finds
/// none waits for about one whole service, whoever finds one hardly at all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitShape {
    /// Successful requests.
    pub requests: usize,
    /// Typical time that an answer takes once it is let in: the median of the latency less the queue
    /// time or, where that is unknown, less the time to first token; milliseconds.
    pub service_ms: f64,
    /// Requests whose first token took at least half of that: they waited for a place.
    pub waited: usize,
    /// Mean time to first token of those, milliseconds.
    pub waited_mean_ms: Option<f64>,
    /// Requests whose first token took from a sixth to a half of the service time.
    pub between: usize,
    /// Median time to first token of those that did not wait, milliseconds.
    pub at_once_p50_ms: Option<f64>,
}

impl WaitShape {
    /// Sums up the successful among `records`. `None` without times.
    pub fn of(records: &[RequestRecord]) -> Option<WaitShape> {
        let ok = || records.iter().filter(|record| record.is_ok());
        let service = ok().filter_map(|record| {
            Some(record.latency_ms()? - record.queue_ms().or(record.ttft_ms())?)
        });
        let service_ms = median(service.collect()).filter(|ms| 0.0 < *ms)?;
        let ttft: Vec<f64> = ok().filter_map(RequestRecord::ttft_ms).collect();
        let (waited, others): (Vec<f64>, Vec<f64>) =
            ttft.iter().partition(|ms| service_ms / 2.0 <= **ms);
        Some(WaitShape {
            requests: ttft.len(),
            service_ms,
            waited: waited.len(),
            waited_mean_ms: Spread::of(waited).map(|waited| waited.mean),
            between: others.iter().filter(|ms| service_ms / 6.0 <= **ms).count(),
            at_once_p50_ms: median(others),
        })
    }

    /// Whether the requests fall into two groups: fewer than half waited for about one whole service,
    /// the others hardly, and few are between.
    pub fn is_bimodal(&self) -> bool {
        let share = self.waited as f64 / self.requests as f64;
        let one_service = self.waited_mean_ms.map(|ms| ms / self.service_ms);
        (0.05..=0.45).contains(&share)
            && one_service.is_some_and(|services| (0.6..=1.5).contains(&services))
            && 4 * self.between <= self.waited
    }
}

/// What the server computed while requests were in its queue: other requests' prompts, if they
/// waited for each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptQueue {
    /// Requests that waited, by the bound of [`QueueDigest::later_waited`], first ones included.
    pub waited: usize,
    /// Mean time in the queue of those, milliseconds.
    pub mean_ms: f64,
    /// Share of that time in which some prompt was being computed, 0..=1.
    pub covered: f64,
    /// Share of the level's whole time in which some prompt was being computed, 0..=1: what chance
    /// would cover.
    pub covered_by_chance: f64,
    /// Correlation, over all requests, of the time in the queue with the number of other requests
    /// whose first token came meanwhile, -1..=1. `None` if either never changes.
    pub correlation: Option<f64>,
    /// Most prompt tokens that were open at once, sent but without a first token yet, if the server
    /// counts them.
    pub open_prompt_tokens: Option<u64>,
}

/// When a request was in the queue, and when its prompt was computed, in nanoseconds.
struct PromptSpan {
    queued_ns: (u64, u64),
    computed_ns: (u64, u64),
}

impl PromptQueue {
    /// Looks at the successful among `records`. `None` if none waited, or without times.
    pub fn of(records: &[RequestRecord]) -> Option<PromptQueue> {
        let long_ms = long_wait_ms(&with_queue_times(records))?;
        let ok = records.iter().filter(|record| record.is_ok());
        let spans: Vec<PromptSpan> = ok.filter_map(prompt_span).collect();
        let length = |(start, end): (u64, u64)| end.saturating_sub(start);
        let waited = || spans.iter().filter(|s| long_ms * 1e6 < length(s.queued_ns) as f64);
        let waited_ns: u64 = waited().map(|span| length(span.queued_ns)).sum();
        let computing = merged(spans.iter().map(|span| span.computed_ns).collect());
        let covered: u64 = waited().map(|span| overlap(&computing, span.queued_ns)).sum();
        let start = spans.iter().map(|span| span.queued_ns.0).min()?;
        let end = records.iter().map(|record| record.done_ns).max()?;
        let whole = length((start, end));
        (0 < waited_ns && 0 < whole).then(|| PromptQueue {
            waited: waited().count(),
            mean_ms: waited_ns as f64 / 1e6 / waited().count() as f64,
            covered: covered as f64 / waited_ns as f64,
            covered_by_chance: overlap(&computing, (start, end)) as f64 / whole as f64,
            correlation: correlation(&spans),
            open_prompt_tokens: open_prompt_tokens(records),
        })
    }
}

fn prompt_span(record: &RequestRecord) -> Option<PromptSpan> {
    let times = StageTimes::of(record)?;
    let first = record.first_token_ns?;
    let before = |end: u64, ms: f64| end.saturating_sub((ms.max(0.0) * 1e6) as u64);
    let begun = before(first, times.prefill_ms);
    let queued_ns = (before(begun, times.queue_ms), begun);
    Some(PromptSpan { queued_ns, computed_ns: (begun, first) })
}

/// The union of `spans`, in order, without overlaps.
pub(crate) fn merged(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.sort_unstable();
    let mut union: Vec<(u64, u64)> = Vec::with_capacity(spans.len());
    for (start, end) in spans {
        match union.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => union.push((start, end)),
        }
    }
    union
}

/// How much of `span` the `union` covers, which is in order and without overlaps.
pub(crate) fn overlap(union: &[(u64, u64)], span: (u64, u64)) -> u64 {
    let first = union.partition_point(|(_, end)| *end <= span.0);
    let parts = union[first..].iter().take_while(|(start, _)| *start < span.1);
    parts.map(|(start, end)| end.min(&span.1) - start.max(&span.0)).sum()
}

fn correlation(spans: &[PromptSpan]) -> Option<f64> {
    let mut firsts: Vec<u64> = spans.iter().map(|span| span.computed_ns.1).collect();
    firsts.sort_unstable();
    let before = |ns: u64| firsts.partition_point(|first| *first <= ns);
    let pairs = spans.iter().map(|span| {
        let (start, end) = span.queued_ns;
        ((end - start) as f64, (before(end) - before(start)) as f64)
    });
    pearson(&pairs.collect::<Vec<_>>())
}

/// The correlation of pairs by Pearson, -1..=1. `None` if one side never changes.
fn pearson(pairs: &[(f64, f64)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let (x_mean, y_mean) = pairs.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
    let (x_mean, y_mean) = (x_mean / n, y_mean / n);
    let sum = |of: fn(f64, f64) -> f64| -> f64 {
        pairs.iter().map(|(x, y)| of(x - x_mean, y - y_mean)).sum()
    };
    let scale = (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt();
    (0.0 < scale).then(|| sum(|x, y| x * y) / scale)
}

fn open_prompt_tokens(records: &[RequestRecord]) -> Option<u64> {
    let mut events = Vec::with_capacity(2 * records.len());
    for record in records.iter().filter(|record| record.has_tokens()) {
        let tokens = i64::from(record.prompt_tokens?);
        events.push((record.sent_ns, tokens));
        events.push((record.first_token_ns?, -tokens));
    }
    events.sort_unstable(); // at the same time those that leave come first
    let open = events.iter().scan(0, |open, (_, change)| {
        *open += change;
        Some(*open)
    });
    open.max().map(|most| most.max(0) as u64)
}

#[cfg(test)]
mod tests;
