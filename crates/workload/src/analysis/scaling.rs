//! How the server takes more users: throughput, time per token, and who disturbs whom.

use super::finding::{Finding, ScalingStep, StepFit};
use super::{Evidence, limits, name};
use crate::summary::LevelSummary;

/// Throughput that grows by less than this for twice the users does not grow.
const KNEE: f64 = 0.05;
/// The time per token must have grown by this share of what the users did.
const IN_PROPORTION: f64 = 0.8;
/// A line fits if no level is further from it, as a share of the level's time.
const FITS: f64 = 0.1;
/// From this growth of the time per token on there is something to fit.
const GROWTH: f64 = 1.2;
/// The longest gap of a typical request must be so many median gaps.
const STALLS: f64 = 3.0;
/// Long gaps below which they may be chance.
const LONG_GAPS: usize = 5;
/// Share of the long gaps that must have another's prompt in them.
const WITH_PROMPT: f64 = 0.5;
/// That share must be so many times the one of ordinary gaps.
const ABOVE_CHANCE: f64 = 2.0;

/// A closed level that was answered as meant, with what scaling looks at.
#[derive(Clone, Copy)]
struct Point<'a> {
    users: u32,
    tokens_per_second: f64,
    tpot_p50_ms: f64,
    streams: f64,
    level: &'a LevelSummary,
}

/// The whole closed levels, each number of users once, in ascending order.
fn points<'a>(evidence: &Evidence<'a>) -> Vec<Point<'a>> {
    let point = |level: &'a LevelSummary| {
        Some(Point {
            users: level.plan.users()?,
            tokens_per_second: level.tokens_per_second?,
            tpot_p50_ms: level.tpot_ms?.p50,
            streams: level.streams?.mean,
            level,
        })
    };
    let whole = evidence.measured().filter(|level| level.is_complete() && level.counts.failed == 0);
    let mut points: Vec<Point<'_>> = whole.filter_map(point).collect();
    points.sort_by_key(|point| point.users);
    points.dedup_by_key(|point| point.users);
    points
}

fn step(from: &Point<'_>, to: &Point<'_>) -> ScalingStep {
    let doublings = (f64::from(to.users) / f64::from(from.users)).log2();
    // The same factor at each doubling.
    let factor = (to.tokens_per_second / from.tokens_per_second).powf(1.0 / doublings);
    ScalingStep { from: from.users, to: to.users, gain_per_doubling: factor - 1.0 }
}

/// The first step after which throughput stands still while each token takes longer in proportion,
/// at a level that shows no cap and is not among `limits`: what is shared is used up.
pub(super) fn saturated(evidence: &Evidence<'_>, limits: &[Finding]) -> Option<Finding> {
    let points = points(evidence);
    let cap = evidence.max_num_seqs;
    points.windows(2).find_map(|pair| {
        let (from, to) = (&pair[0], &pair[1]);
        let step = step(from, to);
        let stands = step.gain_per_doubling < KNEE;
        let slower = to.tpot_p50_ms / from.tpot_p50_ms;
        let in_proportion = IN_PROPORTION * f64::from(to.users) / f64::from(from.users) <= slower;
        let below_cap = cap.is_none_or(|cap| to.users <= cap)
            && limits::signs(to.level, cap).count() == 0
            && !limits.iter().any(|limit| holds_back(limit, to));
        (stands && in_proportion && below_cap).then_some(Finding::Saturated {
            step,
            tokens_per_second: (from.tokens_per_second, to.tokens_per_second),
            tpot_p50_ms: (from.tpot_p50_ms, to.tpot_p50_ms),
            streams: to.streams,
        })
    })
}

/// Whether `limit` says that something else held the level back.
fn holds_back(limit: &Finding, point: &Point<'_>) -> bool {
    match limit {
        Finding::SequenceCap { users, .. } | Finding::CapUndecided { users, .. } => {
            *users == point.users
        }
        Finding::KvLimit { level, .. } | Finding::KvUndecided { level, .. } => {
            *level == name(point.level)
        }
        _ => false,
    }
}

/// Growth of throughput from level to level, and the line through the times per token.
pub(super) fn scaling(evidence: &Evidence<'_>) -> Option<Finding> {
    let points = points(evidence);
    let steps: Vec<_> = points.windows(2).map(|pair| step(&pair[0], &pair[1])).collect();
    (!steps.is_empty()).then(|| Finding::Scaling { steps, fit: fit(&points) })
}

/// The line through the times per output token over the streams at once, if they grow and each
/// level is near it.
fn fit(points: &[Point<'_>]) -> Option<StepFit> {
    let (first, last) = (points.first()?, points.last()?);
    let grows = GROWTH * first.tpot_p50_ms <= last.tpot_p50_ms;
    if points.len() < 3 || !grows {
        return None;
    }
    let mean =
        |value: fn(&Point<'_>) -> f64| points.iter().map(value).sum::<f64>() / points.len() as f64;
    let (x_mean, y_mean) = (mean(|point| point.streams), mean(|point| point.tpot_p50_ms));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for point in points {
        covariance += (point.streams - x_mean) * (point.tpot_p50_ms - y_mean);
        variance += (point.streams - x_mean).powi(2);
    }
    let per_sequence_ms = covariance / variance;
    let base_ms = y_mean - per_sequence_ms * x_mean;
    let off = |point: &Point<'_>| {
        (point.tpot_p50_ms / (base_ms + per_sequence_ms * point.streams) - 1.0).abs()
    };
    let deviation = points.iter().map(off).max_by(f64::total_cmp)?;
    let fits = 0.0 < variance && 0.0 <= base_ms && 0.0 < per_sequence_ms && deviation <= FITS;
    fits.then_some(StepFit { levels: points.len(), base_ms, per_sequence_ms, deviation })
}

/// Long gaps of ordinary requests, at the time of other requests' prompts: at the level where they
/// are longest, with the names of the others.
pub(super) fn interference(evidence: &Evidence<'_>) -> Option<Finding> {
    let disturbed: Vec<_> = evidence
        .measured()
        .filter_map(|level| {
            let gaps = level.interference?;
            let stalls =
                STALLS * gaps.median_ms <= gaps.longest_p50_ms && LONG_GAPS <= gaps.long_gaps;
            let coincide = WITH_PROMPT <= gaps.long_with_prompt
                && ABOVE_CHANCE * gaps.others_with_prompt <= gaps.long_with_prompt;
            (stalls && coincide).then_some((name(level), gaps))
        })
        .collect();
    let ratio = |gaps: &crate::interference::Interference| gaps.longest_p50_ms / gaps.median_ms;
    let (level, gaps) = *disturbed.iter().max_by(|a, b| ratio(&a.1).total_cmp(&ratio(&b.1)))?;
    let others = disturbed.iter().map(|(name, _)| *name).filter(|name| *name != level).collect();
    Some(Finding::PrefillInterference { level, gaps, others })
}
