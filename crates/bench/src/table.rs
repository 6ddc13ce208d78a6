//! Levels with their named metrics: rows of summary.csv, and keys of summary.json.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use workload::load::{Arrivals, Load};
use workload::summary::LevelSummary;

use crate::metric::Metric;

/// Columns that say which level a row is about; the metrics follow.
const KEYS: [&str; 3] = ["level", "max_concurrency", "request_rate"];

/// The contents of summary.csv: a line of names, then a line a level. A cell without a value is
/// empty; numbers are written in full.
pub(crate) fn to_csv(levels: &[LevelSummary]) -> Vec<u8> {
    let metrics = Metric::all();
    let mut rows = csv::Writer::from_writer(Vec::new());
    let names = KEYS.into_iter().chain(metrics.iter().map(|metric| metric.name.as_str()));
    rows.write_record(names).expect(IN_MEMORY);
    for (number, level) in (1..).zip(levels) {
        let values = keys(number, level).into_iter().chain(metrics.iter().map(|m| m.value(level)));
        let cells = values.map(|value| value.map_or(String::new(), |value| value.to_string()));
        rows.write_record(cells).expect(IN_MEMORY);
    }
    rows.into_inner().expect(IN_MEMORY)
}

const IN_MEMORY: &str = "every row has as many cells, and memory takes all";

/// Values of [`KEYS`]: a closed loop has users, an open one a rate.
fn keys(number: u32, level: &LevelSummary) -> [Option<f64>; 3] {
    let requests = level.plan.requests() as f64;
    let rate = level.plan.arrivals().map(|arrivals| match arrivals {
        Arrivals::Constant { rate } | Arrivals::Poisson { rate } => rate,
        Arrivals::Ramp { from, to } => f64::midpoint(from, to),
        Arrivals::Trace { span_s, .. } => requests / span_s,
    });
    let rate = rate.filter(|rate| rate.is_finite()); // a trace of one moment has none
    [Some(f64::from(number)), level.plan.users().map(f64::from), rate]
}

/// How a level is called in options and in words: its users, or its rate like `2.5/s`.
pub(crate) fn level_name(load: &Load) -> String {
    match load {
        Load::Closed { users, .. } => users.to_string(),
        Load::Open { arrivals, .. } => match arrivals {
            Arrivals::Constant { rate } | Arrivals::Poisson { rate } => format!("{rate}/s"),
            Arrivals::Ramp { from, to } => format!("{from}..{to}/s"),
            Arrivals::Trace { .. } => "trace".to_owned(),
        },
    }
}

/// Writes levels with their metrics as further keys.
pub(crate) fn with_metrics<S: Serializer>(
    levels: &[LevelSummary],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(levels.len()))?;
    for (number, summary) in (1..).zip(levels) {
        list.serialize_element(&Entry { summary, metrics: Metrics { number, summary } })?;
    }
    list.end()
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    summary: &'a LevelSummary,
    #[serde(flatten)]
    metrics: Metrics<'a>,
}

/// What a row of summary.csv has.
struct Metrics<'a> {
    number: u32,
    summary: &'a LevelSummary,
}

impl Serialize for Metrics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in KEYS.iter().zip(keys(self.number, self.summary)) {
            map.serialize_entry(key, &value)?;
        }
        for metric in Metric::all() {
            map.serialize_entry(&metric.name, &metric.value(self.summary))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use workload::lengths::Lengths;
    use workload::load::LevelPlan;

    use super::*;

    /// The page that explains the columns.
    const PAGE: &str = include_str!("../../../docs/comparing-runs.md");

    fn without_answers(load: Load) -> LevelSummary {
        let lengths = Lengths { prompt_tokens: 5, output_tokens: 11 };
        LevelSummary::of(LevelPlan { load, lengths: lengths.into() }, 0, &[], &[])
    }

    const CLOSED: Load = Load::closed(4, 5);
    const OPEN: Load = open(Arrivals::Poisson { rate: 2.5 });

    const fn open(arrivals: Arrivals) -> Load {
        Load::Open { arrivals, requests: 7 }
    }

    #[test]
    fn a_row_says_its_load_and_leaves_empty_what_has_no_value() {
        let text = to_csv(&[without_answers(CLOSED), without_answers(OPEN)]);
        let text = String::from_utf8(text).expect("numbers and names");
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows[0].starts_with("level,max_concurrency,request_rate,num_prompts,completed,"));
        assert!(rows[1].starts_with("1,4,,20,0,0,0,0,0,,"), "{}", rows[1]);
        assert!(rows[2].starts_with("2,,2.5,7,0,0,0,0,0,,"), "{}", rows[2]);
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn every_column_is_documented_with_its_unit() {
        for key in KEYS {
            assert!(PAGE.contains(&format!("| `{key}` |")), "{key} is not in comparing-runs.md");
        }
        for metric in Metric::all() {
            let row = format!("| `{}` | {} |", metric.name, metric.unit);
            assert!(PAGE.contains(&row), "comparing-runs.md has no row {row}");
        }
    }

    #[test]
    fn metrics_do_not_hide_keys_of_our_own() {
        let level = serde_json::to_value(without_answers(CLOSED)).expect("plain data");
        let Value::Object(level) = level else { panic!("a level is an object") };
        for metric in Metric::all() {
            assert!(!level.contains_key(&metric.name), "{} is there twice", metric.name);
        }
        for key in KEYS {
            assert!(!level.contains_key(key), "{key} is there twice");
        }
    }

    #[test]
    fn a_level_in_json_has_all_that_its_row_has() {
        #[derive(Serialize)]
        struct Run(#[serde(serialize_with = "with_metrics")] Vec<LevelSummary>);
        let run = Run(vec![without_answers(CLOSED), without_answers(OPEN)]);
        let run = serde_json::to_value(run).expect("plain data");
        assert_eq!(
            (&run[0]["max_concurrency"], &run[0]["request_rate"]),
            (&4.0.into(), &Value::Null)
        );
        assert_eq!((&run[1]["level"], &run[1]["request_rate"]), (&2.0.into(), &2.5.into()));
        let csv = String::from_utf8(to_csv(&[without_answers(CLOSED)])).expect("text");
        for name in csv.lines().next().expect("names").split(',') {
            assert!(run[0].as_object().is_some_and(|level| level.contains_key(name)), "{name}");
        }
    }

    #[test]
    fn levels_are_called_by_users_or_rate() {
        let ramp = open(Arrivals::Ramp { from: 1.0, to: 9.5 });
        let trace = open(Arrivals::Trace { span_s: 10.0, speed: 1.0 });
        let names = [CLOSED, OPEN, ramp, trace].map(|load| level_name(&load));
        assert_eq!(names, ["4", "2.5/s", "1..9.5/s", "trace"]);
    }
}
