//! The numbers of a level that have a name: columns of summary.csv, keys beside ours in
//! summary.json, what `--assert` can ask for. The names are those of vLLM's own load test.

use std::fmt;

use workload::percentile::Spread;
use workload::summary::LevelSummary;

/// What a metric is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things.
    Count,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Things per second.
    PerSecond,
    /// A part of a whole, 0..=1.
    Share,
}

impl fmt::Display for Unit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Unit::Count => "count",
            Unit::Seconds => "s",
            Unit::Milliseconds => "ms",
            Unit::PerSecond => "1/s",
            Unit::Share => "share",
        })
    }
}

/// A number of a level that has a name.
#[derive(Clone, Debug)]
pub(crate) struct Metric {
    /// vLLM's name where vLLM has one.
    pub(crate) name: String,
    /// Other names under which it is found.
    aliases: Vec<String>,
    /// What it is counted in.
    pub(crate) unit: Unit,
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Level(fn(&LevelSummary) -> Option<f64>),
    Spread(fn(&LevelSummary) -> Option<Spread>, fn(&Spread) -> Option<f64>),
}

/// Numbers of a level as a whole: name, another name for it, unit, value.
type Whole = (&'static str, Option<&'static str>, Unit, fn(&LevelSummary) -> Option<f64>);

const OF_THE_LEVEL: [Whole; 17] = [
    ("num_prompts", None, Unit::Count, |level| Some(level.plan.requests() as f64)),
    ("completed", Some("ok"), Unit::Count, |level| Some(level.counts.ok as f64)),
    ("failed", None, Unit::Count, |level| Some(level.counts.failed as f64)),
    ("refused", None, Unit::Count, |level| Some(level.counts.refused as f64)),
    ("dropped", None, Unit::Count, |level| Some(level.counts.dropped as f64)),
    ("cancelled", None, Unit::Count, |level| Some(level.counts.cancelled as f64)),
    ("duration", Some("total_time_s"), Unit::Seconds, |level| level.total_time_s),
    ("total_input_tokens", None, Unit::Count, input_tokens),
    ("total_output_tokens", None, Unit::Count, output_tokens),
    ("request_throughput", None, Unit::PerSecond, |level| level.requests_per_second),
    ("output_throughput", Some("throughput"), Unit::PerSecond, |level| level.tokens_per_second),
    ("total_token_throughput", None, Unit::PerSecond, |level| {
        Some((input_tokens(level)? + output_tokens(level)?) / level.total_time_s?)
    }),
    ("request_goodput", None, Unit::PerSecond, |level| level.goodput?.per_second),
    ("goodput_share", Some("goodput"), Unit::Share, |level| Some(level.goodput?.share)),
    ("mean_concurrency", None, Unit::Count, |level| level.delivered_concurrency),
    ("cached_input_share", None, Unit::Share, |level| level.cached_share),
    ("client_breaches", None, Unit::Count, |level| Some(level.validity.breaches.len() as f64)),
];

/// Times of a request: name, other names for it, value.
type Timing = (&'static str, &'static [&'static str], fn(&LevelSummary) -> Option<Spread>);

const OF_A_REQUEST: [Timing; 6] = [
    ("ttft", &[], |level| level.ttft_ms),
    ("tpot", &[], |level| level.tpot_ms),
    ("itl", &[], |level| level.gaps?.itl_ms),
    ("e2el", &["e2e", "latency"], |level| level.latency_ms),
    ("ttft_user", &[], |level| level.ttft_user_ms),
    ("e2el_user", &["e2e_user", "latency_user"], |level| level.latency_user_ms),
];

/// What a sample of times is summed up by: name, another name for it, value.
type Statistic = (&'static str, Option<&'static str>, fn(&Spread) -> Option<f64>);

const STATISTICS: [Statistic; 7] = [
    ("mean", None, |spread| Some(spread.mean)),
    ("median", Some("p50"), |spread| Some(spread.p50)),
    ("std", None, |spread| spread.std),
    ("p95", None, |spread| Some(spread.p95)),
    ("p99", None, |spread| Some(spread.p99)),
    ("min", None, |spread| Some(spread.min)),
    ("max", None, |spread| Some(spread.max)),
];

impl Metric {
    /// Every metric there is, in the order of the columns.
    pub(crate) fn all() -> Vec<Metric> {
        let whole = OF_THE_LEVEL.iter().map(|&(name, alias, unit, value)| Metric {
            name: name.to_owned(),
            aliases: alias.into_iter().map(str::to_owned).collect(),
            unit,
            source: Source::Level(value),
        });
        let times = OF_A_REQUEST.iter().flat_map(|timing| {
            STATISTICS.iter().map(move |statistic| Metric::of_times(timing, statistic))
        });
        whole.chain(times).collect()
    }

    fn of_times(timing: &Timing, statistic: &Statistic) -> Metric {
        let &(time, other_times, spread) = timing;
        let &(word, other_word, value) = statistic;
        let name = format!("{word}_{time}_ms");
        let words = || [word].into_iter().chain(other_word);
        let times = [time].into_iter().chain(other_times.iter().copied());
        let aliases = times.flat_map(|time| words().map(move |word| format!("{word}_{time}")));
        let with_unit = aliases.flat_map(|alias| [format!("{alias}_ms"), alias]);
        let aliases = with_unit.filter(|alias| *alias != name).collect();
        Metric { name, aliases, unit: Unit::Milliseconds, source: Source::Spread(spread, value) }
    }

    /// The metric called `name`, by whichever of its names.
    pub(crate) fn named(name: &str) -> Option<Metric> {
        let is_it =
            |metric: &Metric| metric.name == name || metric.aliases.iter().any(|n| n == name);
        Metric::all().into_iter().find(is_it)
    }

    /// Its value at `level`. `None` if there is none, since no request succeeded or the server does
    /// not say.
    pub(crate) fn value(&self, level: &LevelSummary) -> Option<f64> {
        match self.source {
            Source::Level(value) => value(level),
            Source::Spread(spread, value) => spread(level).as_ref().and_then(value),
        }
    }
}

/// Every name, for whoever has asked for another.
pub(crate) fn overview() -> String {
    let statistics: Vec<String> = STATISTICS.iter().map(|s| with_alias(s.0, s.1)).collect();
    let times: Vec<&str> = OF_A_REQUEST.iter().map(|timing| timing.0).collect();
    let whole: Vec<String> =
        OF_THE_LEVEL.iter().map(|whole| with_alias(whole.0, whole.1)).collect();
    format!(
        "{} of {} (like p95_ttft), and {}",
        statistics.join(", "),
        times.join(", "),
        whole.join(", ")
    )
}

fn with_alias(name: &str, alias: Option<&str>) -> String {
    alias.map_or(name.to_owned(), |alias| format!("{name} ({alias})"))
}

fn output_tokens(level: &LevelSummary) -> Option<f64> {
    Some((level.tokens?.mean * level.counts.ok as f64).round())
}

/// Known only if the server gave the usage of each request.
fn input_tokens(level: &LevelSummary) -> Option<f64> {
    let told = level.prompt_tokens.filter(|_| level.without_usage == 0)?;
    Some((told.mean * level.counts.ok as f64).round())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_means_two_things() {
        let mut names = HashSet::new();
        for metric in Metric::all() {
            assert!(names.insert(metric.name.clone()), "{} is there twice", metric.name);
            for alias in metric.aliases {
                assert!(names.insert(alias.clone()), "{alias} is there twice");
            }
        }
    }

    #[test]
    fn metrics_are_found_by_every_name() {
        let found = |name: &str| Metric::named(name).map(|metric| metric.name);
        for name in ["median_ttft_ms", "p50_ttft_ms", "p50_ttft", "median_ttft"] {
            assert_eq!(found(name).as_deref(), Some("median_ttft_ms"), "{name}");
        }
        assert_eq!(found("p99_e2e").as_deref(), Some("p99_e2el_ms"));
        assert_eq!(found("p99_latency_ms").as_deref(), Some("p99_e2el_ms"));
        assert_eq!(found("throughput").as_deref(), Some("output_throughput"));
        assert_eq!(found("p98_ttft"), None);
    }
}
