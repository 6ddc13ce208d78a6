//! Two runs, or two sets of repeated runs, beside each other: what changed, and how sure that is.
//!
//! Levels are paired by their load. With three or more runs on both sides, the interval of a
//! difference is Welch's t-interval over the runs; with fewer, it is a bootstrap over the users and
//! waves of each run, which knows what varies within a run but not what varies between runs.

mod interval;
mod resample;
mod report;
mod side;

use std::path::PathBuf;

use serde::Serialize;
use workload::load::Load;
use workload::percentile::sample_size_with_bound;
use workload::random::Random;
use workload::validity::Verdict;

use interval::Interval;
pub use resample::Metric;
use resample::Table;
pub use side::CompareError;
pub(crate) use side::Run;

/// How often users are drawn anew.
const RESAMPLES: usize = 2000;
/// The seed of the draws: the same folders give the same intervals.
const SEED: u64 = 0;
/// From so many runs on both sides, the interval is over runs.
const RUNS_FOR_T: usize = 3;

/// B beside A.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Folders of the runs of A.
    pub a: Vec<PathBuf>,
    /// Folders of the runs of B.
    pub b: Vec<PathBuf>,
    /// What should be known before the numbers are believed.
    pub warnings: Vec<String>,
    /// The levels that every run has, in A's order.
    pub levels: Vec<LevelComparison>,
}

/// One level of both.
#[derive(Clone, Debug, Serialize)]
pub struct LevelComparison {
    /// How it was loaded.
    pub load: Load,
    /// Its metrics, those that both sides have.
    pub changes: Vec<Change>,
}

/// One metric of a level.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Change {
    /// Which.
    pub metric: Metric,
    /// Of A, the mean over its runs.
    pub a: f64,
    /// Of B, the mean over its runs.
    pub b: f64,
    /// How much larger B is, percent.
    pub percent: f64,
    /// The 95 % confidence interval of that, percent; `None` where nothing can vary.
    pub percent_interval: Option<[f64; 2]>,
    /// Requests of the run with the fewest, if a percentile needs more to be judged: below
    /// [`Change::p95_needs`] it only leans towards the maximum.
    pub too_few: Option<usize>,
}

impl Change {
    /// Requests from which on a 95th percentile is judged.
    pub fn p95_needs() -> usize {
        sample_size_with_bound(0.95)
    }
}

/// Reads the folders and compares those of `b` to those of `a`; neither is empty.
pub fn compare(a: &[PathBuf], b: &[PathBuf]) -> Result<Comparison, CompareError> {
    let read = |folders: &[PathBuf]| {
        folders.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>, _>>()
    };
    let (a_runs, b_runs) = (read(a)?, read(b)?);
    let runs: Vec<&Run> = a_runs.iter().chain(&b_runs).collect();
    let mut warnings = health_warnings(&runs);
    warnings.extend(difference_warnings(&runs));
    let mut levels = Vec::new();
    for load in all_loads(&runs) {
        let lacking: Vec<_> = runs.iter().filter(|run| run.level(load).is_none()).collect();
        if lacking.is_empty() {
            levels.push(compare_level(load, &a_runs, &b_runs));
        }
        for run in lacking {
            let label = report::load_label(load);
            warnings.push(format!("{} has no level of {label}", run.folder.display()));
        }
    }
    if levels.is_empty() {
        return Err(CompareError::NothingInCommon);
    }
    Ok(Comparison { a: a.to_vec(), b: b.to_vec(), warnings, levels })
}

fn all_loads<'a>(runs: &[&'a Run]) -> Vec<&'a Load> {
    let mut loads = Vec::new();
    for load in runs.iter().flat_map(|run| run.loads()) {
        if !loads.contains(&load) {
            loads.push(load);
        }
    }
    loads
}

fn health_warnings(runs: &[&Run]) -> Vec<String> {
    let mut warnings = Vec::new();
    for run in runs {
        let (folder, summary) = (run.folder.display(), &run.summary);
        match summary.verdict {
            Verdict::Valid => {}
            Verdict::Warning => warnings.push(format!("{folder}: the client had a WARNING")),
            Verdict::Invalid => warnings.push(format!("{folder} is INVALID: the client was unfit")),
        }
        if 0 < summary.counts.failed + summary.counts.dropped {
            let counts = summary.counts;
            warnings.push(format!(
                "{folder}: of {} requests, {} failed and {} were dropped",
                counts.sent, counts.failed, counts.dropped
            ));
        }
        if summary.interrupted {
            warnings.push(format!("{folder} was stopped before its end"));
        }
    }
    warnings
}

/// Where runs differ from the first in what they measured, other than by levels.
fn difference_warnings(runs: &[&Run]) -> Vec<String> {
    let mut warnings = Vec::new();
    let first = runs[0];
    for run in &runs[1..] {
        let version = |run: &Run| serde_json::Value::from(run.summary.version.as_str());
        let fields = [
            (
                "the model's served names",
                first.summary.server["model"].clone(),
                run.summary.server["model"].clone(),
            ),
            ("lengths", first.summary.lengths.clone(), run.summary.lengths.clone()),
            ("sampling", first.summary.sampling.clone(), run.summary.sampling.clone()),
            ("version", version(first), version(run)),
        ];
        for (name, ours, theirs) in fields {
            if ours != theirs {
                let (one, other) = (first.folder.display(), run.folder.display());
                warnings.push(format!("{name} differ: {ours} in {one}, {theirs} in {other}"));
            }
        }
    }
    warnings
}

fn compare_level(load: &Load, a: &[Run], b: &[Run]) -> LevelComparison {
    let (a, b) = (tables(a, load), tables(b, load));
    let measured = |side: &[Table<'_>]| side.iter().map(Table::measured).collect::<Vec<_>>();
    let (a_values, b_values) = (measured(&a), measured(&b));
    let is_over_runs = RUNS_FOR_T <= a.len().min(b.len());
    let runs = || a.iter().chain(&b);
    let wholes: Option<Vec<usize>> = runs().map(Table::wholes).collect();
    let requests = runs().map(Table::requests).min().unwrap_or(0);
    let resamples = match &wholes {
        Some(_) if !is_over_runs => resampled_ratios(&a, &b),
        _ => Vec::new(),
    };
    let mut changes = Vec::new();
    for (index, metric) in Metric::ALL.into_iter().enumerate() {
        let (Some(a), Some(b)) = (column(&a_values, index), column(&b_values, index)) else {
            continue;
        };
        let interval = if is_over_runs {
            interval::over_runs(&a, &b)
        } else {
            let ratios = resamples.iter().filter_map(|ratios| ratios[index]).collect();
            wholes.as_ref().and_then(|wholes| interval::of_resamples(ratios, wholes))
        };
        let is_short = metric == Metric::TtftP95 && requests < Change::p95_needs();
        let change = change(metric, mean(&a), mean(&b), interval);
        changes.extend(change.map(|c| Change { too_few: is_short.then_some(requests), ..c }));
    }
    LevelComparison { load: load.clone(), changes }
}

/// The level of every run that has it.
fn tables<'a>(runs: &'a [Run], load: &Load) -> Vec<Table<'a>> {
    runs.iter().filter_map(|run| Some(Table::of(run.level(load)?, load))).collect()
}

/// B / A of every metric for each draw.
fn resampled_ratios(a: &[Table<'_>], b: &[Table<'_>]) -> Vec<[Option<f64>; 6]> {
    let mut random = Random::new(SEED, &[]);
    let mut draw = || {
        let a: Vec<_> = a.iter().map(|run| run.drawn(&mut random)).collect();
        let b: Vec<_> = b.iter().map(|run| run.drawn(&mut random)).collect();
        std::array::from_fn(|index| {
            let ratio = mean(&column(&b, index)?) / mean(&column(&a, index)?);
            Some(ratio).filter(|ratio| ratio.is_finite())
        })
    };
    (0..RESAMPLES).map(|_| draw()).collect()
}

/// One metric of every run; `None` if a run lacks it.
fn column(values: &[[Option<f64>; 6]], index: usize) -> Option<Vec<f64>> {
    values.iter().map(|run| run[index]).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn change(metric: Metric, a: f64, b: f64, interval: Option<Interval>) -> Option<Change> {
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    let percent_interval = interval.map(|ends| [percent(ends.low), percent(ends.high)]);
    (0.0 < a).then(|| {
        let percent = percent(b / a);
        Change { metric, a, b, percent, percent_interval, too_few: None }
    })
}

#[cfg(test)]
mod tests;
