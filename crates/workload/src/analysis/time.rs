//! The course of a level: its steady part, its end, and where the time of its requests went.

use super::finding::{DrainTail, Finding, StageMeans, SteadyFigures};
use super::name;
use crate::summary::LevelSummary;

/// A level's end is worth a word from this share of its time on.
const DRAIN_NOTICEABLE: f64 = 0.1;
/// And if its throughput is below this share of the steady one.
const DRAIN_SLOWER: f64 = 0.8;
/// By this share the sides of Little's law may differ.
const LITTLE: f64 = 0.05;

/// What an open level shows: whether its rate was too high, and its times both ways.
pub(super) fn rate(level: &LevelSummary) -> Vec<Finding> {
    let verdict = level.trend.and_then(|trend| {
        let level = name(level);
        match (trend.piles_up(), trend.slows_down()) {
            (true, true) => Some(Finding::RateExceeded { level, trend }),
            (false, false) => Some(Finding::RateHeld { level, trend }),
            // One sign: nothing is said.
            (true, false) | (false, true) => None,
        }
    });
    verdict.into_iter().chain(from_due(level)).collect()
}

fn from_due(level: &LevelSummary) -> Option<Finding> {
    Some(Finding::FromDue {
        level: name(level),
        ttft_ms: (level.ttft_ms?, level.ttft_user_ms?),
        latency_ms: (level.latency_ms?, level.latency_user_ms?),
        lag_ms: level.validity.schedule_lag_ms?,
    })
}

pub(super) fn steady_state(levels: &[LevelSummary]) -> Option<Finding> {
    let figures = |level: &LevelSummary| {
        let steady = level.steady.as_ref()?;
        Some(SteadyFigures {
            level: name(level),
            whole_tokens_per_second: level.tokens_per_second?,
            tokens_per_second: steady.tokens_per_second,
            whole_ttft_p95_ms: level.ttft_ms?.p95,
            ttft_p95_ms: steady.ttft_ms?.p95,
        })
    };
    let levels: Vec<_> = levels.iter().filter_map(figures).collect();
    (!levels.is_empty()).then_some(Finding::SteadyState { levels })
}

/// Levels whose end is long and slow.
pub(super) fn drain_tail(levels: &[LevelSummary]) -> Option<Finding> {
    let tail = |level: &LevelSummary| {
        let (drain, steady) = (level.drain?, level.steady.as_ref()?);
        let is_long = DRAIN_NOTICEABLE <= drain.share;
        let is_slow = drain.tokens_per_second < DRAIN_SLOWER * steady.tokens_per_second;
        (is_long && is_slow).then(|| DrainTail {
            level: name(level),
            share: drain.share,
            tokens_per_second: drain.tokens_per_second,
            steady_tokens_per_second: steady.tokens_per_second,
        })
    };
    let levels: Vec<_> = levels.iter().filter_map(tail).collect();
    (!levels.is_empty()).then_some(Finding::DrainTail { levels })
}

/// That a level was not the same from beginning to end, or that its two observers disagree.
pub(super) fn unsteady(level: &LevelSummary) -> Vec<Finding> {
    let drifts = level.steady.as_ref().map(|steady| steady.drifts.clone()).unwrap_or_default();
    let drifts = (!drifts.is_empty()).then(|| Finding::Drifts { level: name(level), drifts });
    let little = level.little.filter(|little| LITTLE < little.residual);
    let not_steady = little.map(|little| Finding::NotSteady { level: name(level), little });
    [drifts, not_steady, gauges_disagree(level)].into_iter().flatten().collect()
}

fn gauges_disagree(level: &LevelSummary) -> Option<Finding> {
    let in_flight = level.little?.in_flight;
    let by_gauges = level.little?.in_flight_by_gauges?;
    let differ = (LITTLE * in_flight).max(1.0) < (in_flight - by_gauges).abs();
    differ.then(|| Finding::GaugesDisagree { level: name(level), in_flight, by_gauges })
}

pub(super) fn stages(levels: &[LevelSummary]) -> Option<Finding> {
    let means = |level: &LevelSummary| {
        let stages = level.stages?;
        Some(StageMeans {
            level: name(level),
            lag_ms: stages.lag_ms.mean,
            network_ms: stages.network_ms.mean,
            queue_ms: stages.queue_ms.mean,
            prefill_ms: stages.prefill_ms.mean,
        })
    };
    let levels: Vec<_> = levels.iter().filter_map(means).collect();
    (!levels.is_empty()).then_some(Finding::Stages { levels })
}
