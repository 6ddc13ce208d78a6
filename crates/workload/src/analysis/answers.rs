//! What came back: ends of requests, lengths, and what the sample is worth.

use super::finding::Finding;
use super::{Evidence, name, names_where};
use crate::gaps::ChunkCheck;
use crate::summary::LevelSummary;

/// The prefix cache is worth a word from this share of the prompt tokens on.
const CACHE_NOTICEABLE: f64 = 0.01;
/// Chunks and tokens may differ by this share.
const CHUNKS_DIFFER: f64 = 0.01;

pub(super) fn interrupted(evidence: &Evidence<'_>) -> Option<Finding> {
    let broken = evidence.levels.iter().find(|level| !level.is_complete());
    let level = broken.map(|level| {
        let ended = level.counts.ok + level.counts.failed;
        (name(level), ended, level.plan.requests())
    });
    let levels_not_run = evidence.levels_not_run.to_vec();
    let whole = level.is_none() && levels_not_run.is_empty();
    (!whole).then_some(Finding::Interrupted { level, levels_not_run })
}

pub(super) fn failures(level: &LevelSummary) -> Option<Finding> {
    Some(Finding::Failures {
        level: name(level),
        failed: level.counts.failed - level.counts.refused,
        sent: level.counts.sent,
        first: level.first_failure.clone()?,
    })
}

pub(super) fn refusals(level: &LevelSummary) -> Option<Finding> {
    Some(Finding::Refusals {
        level: name(level),
        refused: level.counts.refused,
        sent: level.counts.sent,
        first: level.first_refusal.clone()?,
    })
}

pub(super) fn dropped(level: &LevelSummary) -> Option<Finding> {
    let dropped = level.counts.dropped;
    let due = level.counts.sent;
    (0 < dropped).then(|| Finding::Dropped { level: name(level), dropped, due })
}

pub(super) fn goodput(levels: &[LevelSummary]) -> Option<Finding> {
    let levels = levels.iter().filter_map(|level| Some((name(level), level.goodput?)));
    let levels: Vec<_> = levels.collect();
    (!levels.is_empty()).then_some(Finding::Goodput { levels })
}

/// What is to be said about the lengths of a level's answers.
pub(super) fn lengths(level: &LevelSummary) -> Vec<Finding> {
    [stopped_early(level), other_length(level)].into_iter().flatten().collect()
}

/// Both signs are needed: the reason `stop`, and fewer tokens than asked for by the usage.
fn stopped_early(level: &LevelSummary) -> Option<Finding> {
    let stopped = level.stopped_early;
    let is_unwanted = 0 < stopped && 0 < level.other_length;
    is_unwanted.then(|| Finding::StoppedEarly {
        level: name(level),
        stopped,
        answers: level.counts.ok,
    })
}

fn other_length(level: &LevelSummary) -> Option<Finding> {
    let tokens = level.tokens.filter(|_| 0 < level.other_length)?;
    Some(Finding::OtherLength {
        level: name(level),
        requests: level.other_length,
        asked: level.plan.lengths.constant_output(),
        min: tokens.min as u32,
        max: tokens.max as u32,
    })
}

pub(super) fn chunk_mismatch(levels: &[LevelSummary]) -> Option<Finding> {
    let differ = |check: &ChunkCheck| CHUNKS_DIFFER < check.mismatch && !check.is_told;
    let differing =
        levels.iter().filter_map(|level| Some((name(level), level.chunk_check.filter(differ)?)));
    let levels: Vec<_> = differing.collect();
    (!levels.is_empty()).then_some(Finding::ChunkMismatch { levels })
}

pub(super) fn chunks_counted(levels: &[LevelSummary]) -> Option<Finding> {
    let levels = names_where(levels, |level| 0 < level.without_usage);
    (!levels.is_empty()).then_some(Finding::ChunksCounted { levels })
}

pub(super) fn prompt_length(evidence: &Evidence<'_>) -> Option<Finding> {
    let asked = evidence.levels.first()?.plan.lengths.constant_prompt();
    let used = evidence.levels.iter().filter_map(|level| level.prompt_tokens);
    let used = used.map(|spread| (spread.min as u32, spread.max as u32));
    let used = used.reduce(|all, level| (all.0.min(level.0), all.1.max(level.1)));
    let as_asked = match used {
        Some(_) => evidence.levels.iter().all(|level| level.other_prompt_length == 0),
        None => evidence.exact_prompts,
    };
    (!as_asked).then_some(Finding::PromptLength { asked, used })
}

pub(super) fn prefix_cache(level: &LevelSummary) -> Option<Finding> {
    let share = level.cached_share.filter(|share| CACHE_NOTICEABLE <= *share)?;
    let laws = &level.plan.lengths;
    let is_meant = laws.share_beginnings() || laws.prompt.is_none();
    Some(Finding::PrefixCache { level: name(level), share, is_meant })
}

pub(super) fn evidence_missing(evidence: &Evidence<'_>) -> Option<Finding> {
    let mut measured = evidence.measured().peekable();
    measured.peek()?;
    let queue_times = !measured.any(|level| level.queue.is_some());
    let gauges = !evidence.has_gauges;
    (gauges || queue_times).then_some(Finding::EvidenceMissing { gauges, queue_times })
}

pub(super) fn percentiles(levels: &[LevelSummary]) -> Option<Finding> {
    let p95 = names_where(levels, |level| 0 < level.counts.ok && !level.bounds.p95);
    let p99 = names_where(levels, |level| 0 < level.counts.ok && !level.bounds.p99);
    let bounded = p95.is_empty() && p99.is_empty();
    (!bounded).then_some(Finding::Percentiles { p95, p99 })
}
