//! What held requests back: the cap on sequences, the KV cache, each other's prompts.

use super::finding::{Finding, GaugeSign, QueueSign, Signs, StreamSign, TwoGroups};
use super::{Evidence, name};
use crate::level::LevelName;
use crate::summary::LevelSummary;

/// Readings or requests that show something must be this share of all to count.
const NOTICEABLE: f64 = 0.1;
/// A number of running requests is a plateau if it stood in this share of the readings with a
/// queue; the rest are the moments in which finished requests give way to new ones.
const GAUGE_HOLDS: f64 = 0.5;
/// A number of streams is a plateau if it stood for this share of the time; new requests are
/// computed before they stream, which takes the rest.
const STREAMS_HOLD: f64 = 0.3;
/// Fewer readings or requests than this are chance.
const LEAST: usize = 2;
/// Share of the waits in which prompts must have been computed, if they were what was waited for.
const COVERED: f64 = 0.8;
/// That share must be so many times what chance would cover.
const ABOVE_CHANCE: f64 = 1.5;
/// From this correlation on, waits follow the number of prompts computed meanwhile.
const FOLLOWS: f64 = 0.8;

/// What held each level back.
pub(super) fn limits(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for level in evidence.measured() {
        let memory = kv_limit(level, evidence.max_num_seqs);
        // A full cache explains a plateau and a queue as well as a cap would.
        if !matches!(memory, Some(Finding::KvLimit { .. })) {
            findings.extend(places(level, evidence));
        }
        findings.extend(memory);
    }
    findings
}

/// That nothing held any closed level back.
pub(super) fn nothing_limited(evidence: &Evidence<'_>) -> Option<Finding> {
    let measured = evidence.measured();
    Some(Finding::NothingLimited {
        users: measured.clone().filter_map(|level| level.plan.users()).max()?,
        max_num_seqs: evidence.max_num_seqs,
        gauges: measured.clone().any(|level| level.gauges.is_some()),
        queue_times: measured.clone().any(|level| level.queue.is_some()),
    })
}

/// Whether requests waited for a place or, where there were places, for each other's prompts.
fn places(level: &LevelSummary, evidence: &Evidence<'_>) -> Option<Finding> {
    let LevelName::Users(users) = name(level) else { return behind_prompts(level, evidence) };
    let known = evidence.max_num_seqs;
    if let Some(max_num_seqs) = known.filter(|cap| users <= *cap) {
        let queued = |queue| Finding::QueuedBelowCap { users, max_num_seqs, queue };
        return behind_prompts(level, evidence).or_else(|| queue_sign(level).map(queued));
    }
    let signs = signs(level, known);
    let seen = signs.gauges.map(|sign| sign.running).or(signs.streams.map(|sign| sign.top));
    let cap = known.or(seen).filter(|_| 2 <= signs.count());
    if let Some(cap) = cap {
        return sequence_cap(level, users, cap, known.is_some(), signs);
    }
    let plateau = signs.gauges.is_some() || signs.streams.is_some();
    let prompts = if plateau { None } else { behind_prompts(level, evidence) };
    let undecided = Finding::CapUndecided { users, max_num_seqs: known, signs };
    let is_open = known.is_some() || 0 < signs.count();
    prompts.or_else(|| is_open.then_some(undecided))
}

fn sequence_cap(
    level: &LevelSummary,
    users: u32,
    cap: u32,
    cap_is_known: bool,
    signs: Signs,
) -> Option<Finding> {
    let ttft = level.ttft_ms?;
    // The median must be one of those that did not wait, and the 95th percentile one that did.
    let apart = |service_ms: f64| ttft.p50 < service_ms / 6.0 && service_ms / 2.0 <= ttft.p95;
    let shape = level.wait_shape.filter(|shape| shape.is_bimodal() && apart(shape.service_ms));
    Some(Finding::SequenceCap {
        users,
        cap,
        cap_is_known,
        queued: signs.gauges.map_or(users - cap, |sign| sign.waiting),
        signs,
        predicted_wait_ms: f64::from(users - cap) / requests_per_ms(level)?,
        measured_wait_ms: measured_wait_ms(level),
        groups: shape.map(|shape| TwoGroups {
            shape,
            ttft_p50_ms: ttft.p50,
            ttft_p95_ms: ttft.p95,
        }),
    })
}

fn behind_prompts(level: &LevelSummary, evidence: &Evidence<'_>) -> Option<Finding> {
    let queue = level.prompt_queue.filter(|queue| LEAST <= queue.waited)?;
    let covered =
        COVERED <= queue.covered && ABOVE_CHANCE * queue.covered_by_chance <= queue.covered;
    let budget = evidence.max_num_batched_tokens;
    let above_budget = budget.zip(queue.open_prompt_tokens);
    let above_budget = above_budget.is_some_and(|(budget, open)| u64::from(budget) < open);
    let follows = queue.correlation.is_some_and(|correlation| FOLLOWS <= correlation);
    (covered && (above_budget || follows)).then(|| Finding::QueuedForPrompts {
        level: name(level),
        queue,
        max_num_batched_tokens: budget.filter(|_| above_budget),
    })
}

/// The signs of a cap at `level`; `known` is the cap that the server names.
pub(super) fn signs(level: &LevelSummary, known: Option<u32>) -> Signs {
    let gauges = gauge_sign(level, known);
    let streams = stream_sign(level, known);
    // Without a cap to compare with, the two numbers must at least be the same.
    let streams = match (gauges, streams) {
        (Some(gauges), Some(streams)) if !near(streams.top, gauges.running) => None,
        _ => streams,
    };
    Signs { gauges, queue: queue_sign(level), streams }
}

fn gauge_sign(level: &LevelSummary, known: Option<u32>) -> Option<GaugeSign> {
    let gauges = level.gauges?;
    let holds = enough(gauges.samples_waiting, gauges.samples)
        && GAUGE_HOLDS * gauges.samples_waiting as f64 <= gauges.samples_at_top as f64;
    let is_cap = match known {
        Some(cap) => gauges.running_top == cap,
        None => Some(gauges.running_top) < level.plan.users() && !kv_full(level),
    };
    (holds && is_cap).then(|| GaugeSign {
        running: gauges.running_top,
        waiting: gauges.waiting_at_top,
        share: gauges.samples_at_top as f64 / gauges.samples as f64,
        samples: gauges.samples,
    })
}

fn queue_sign(level: &LevelSummary) -> Option<QueueSign> {
    let queue = level.queue.filter(|queue| LEAST <= queue.later_waited)?;
    Some(QueueSign { waited: queue.later_waited, later: queue.later, max_ms: queue.max_ms })
}

fn stream_sign(level: &LevelSummary, known: Option<u32>) -> Option<StreamSign> {
    let streams = level.streams?;
    let is_cap = known.is_none_or(|cap| near(streams.top, cap));
    let flat = Some(streams.top) < level.plan.users() && STREAMS_HOLD <= streams.share_at_top;
    (flat && is_cap).then_some(StreamSign { top: streams.top, share: streams.share_at_top })
}

/// Whether two counts of concurrent requests are the same but for one or two per cent.
fn near(one: u32, other: u32) -> bool {
    one.abs_diff(other) <= (other / 50).max(1)
}

fn enough(showing: usize, all: usize) -> bool {
    LEAST <= showing && NOTICEABLE * all as f64 <= showing as f64
}

/// Successful requests per millisecond.
pub(super) fn requests_per_ms(level: &LevelSummary) -> Option<f64> {
    level.requests_per_second.map(|per_second| per_second / 1000.0)
}

/// Mean time in the server's queue: by its own queue times or, without them, the mean number of
/// waiting requests over the throughput in requests (Little's law).
pub fn measured_wait_ms(level: &LevelSummary) -> Option<f64> {
    let by_gauges = || Some(level.gauges?.waiting_mean / requests_per_ms(level)?);
    level.queue.map(|queue| queue.mean_ms).or_else(by_gauges)
}

fn kv_full(level: &LevelSummary) -> bool {
    level.gauges.is_some_and(|gauges| enough(gauges.samples_kv_full, gauges.samples))
}

/// The gauges say that the cache was full; preemptions, queue times or streams must say so too.
fn kv_limit(level: &LevelSummary, cap: Option<u32>) -> Option<Finding> {
    let gauges = level.gauges?;
    let preemptions = gauges.preemptions.filter(|count| 0 < *count);
    let below_cap = cap.is_none_or(|cap| gauges.running_top < cap);
    if kv_full(level) && below_cap {
        let (level_name, kv_usage) = (name(level), gauges.kv_usage_max?);
        let queue = queue_sign(level);
        let plateau = stream_sign(level, Some(gauges.running_top));
        let is_seen_twice = preemptions.is_some() || queue.is_some() || plateau.is_some();
        return Some(match is_seen_twice {
            true => {
                let running = gauges.running_top;
                Finding::KvLimit { level: level_name, running, kv_usage, preemptions, queue }
            }
            false => Finding::KvUndecided { level: level_name, kv_usage },
        });
    }
    Some(Finding::Preempted { level: name(level), preemptions: preemptions? })
}
