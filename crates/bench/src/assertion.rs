//! What a run must have reached for its exit code to be 0, like `p95_ttft<500ms` or `valid`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use workload::summary::LevelSummary;

use crate::metric::{self, Metric, Unit};
use crate::table::level_name;

/// A condition on one metric at one level or at each: `METRIC OPERATOR VALUE [@LEVEL]`; or `valid`.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// As it was given.
    text: String,
    metric: Metric,
    relation: Relation,
    /// In the unit of the metric.
    limit: f64,
    /// Name of the level; `None` means each.
    level: Option<String>,
}

/// Two of the same text are the same.
impl PartialEq for Assertion {
    fn eq(&self, other: &Assertion) -> bool {
        self.text == other.text
    }
}

#[derive(Clone, Copy, Debug)]
struct Relation {
    sign: &'static str,
    holds: fn(&f64, &f64) -> bool,
}

/// Longer ones first, since a shorter one may be their beginning.
const RELATIONS: [Relation; 5] = [
    Relation { sign: "<=", holds: f64::le },
    Relation { sign: ">=", holds: f64::ge },
    Relation { sign: "==", holds: f64::eq },
    Relation { sign: "<", holds: f64::lt },
    Relation { sign: ">", holds: f64::gt },
];

/// Why a text is no assertion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// It compares nothing.
    #[error(
        "it has none of < <= > >= ==; write one like p95_ttft<500ms or failed==0@64, or `valid`"
    )]
    Relation,
    /// Nothing is called so.
    #[error("there is no metric `{name}`; there are {known}")]
    Metric {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Its value is not a number in the unit of its metric.
    #[error("`{value}` is no value of {metric}; write {example}")]
    Value {
        /// What was given.
        value: String,
        /// What it is compared with.
        metric: String,
        /// How it is written.
        example: &'static str,
    },
}

impl FromStr for Assertion {
    type Err = AssertionError;

    fn from_str(text: &str) -> Result<Assertion, AssertionError> {
        let (condition, level) = match text.split_once('@') {
            Some((condition, level)) => (condition, Some(level.trim())),
            None => (text, None),
        };
        // A level is INVALID from two breaches on.
        let condition = if condition.trim() == "valid" { "client_breaches<=1" } else { condition };
        let place = condition.find(['<', '>', '=']).ok_or(AssertionError::Relation)?;
        let (name, rest) = (condition[..place].trim(), &condition[place..]);
        let relation = RELATIONS.into_iter().find(|relation| rest.starts_with(relation.sign));
        let relation = relation.ok_or(AssertionError::Relation)?;
        let metric = Metric::named(name).ok_or_else(|| AssertionError::Metric {
            name: name.to_owned(),
            known: metric::overview(),
        })?;
        let value = rest[relation.sign.len()..].trim();
        let limit = limit(value, metric.unit, name.ends_with("_ms"));
        let limit = limit.ok_or_else(|| AssertionError::Value {
            value: value.to_owned(),
            metric: name.to_owned(),
            example: example(metric.unit),
        })?;
        let level = level.filter(|level| *level != "all").map(str::to_owned);
        Ok(Assertion { text: text.to_owned(), metric, relation, limit, level })
    }
}

/// `value` in `unit`. Times must say theirs, unless `is_named` says that the metric's name does.
fn limit(value: &str, unit: Unit, is_named: bool) -> Option<f64> {
    let end = value.find(|c: char| c.is_ascii_alphabetic() && c != 'e').unwrap_or(value.len());
    let (number, suffix) = value.split_at(end);
    let (number, suffix) = match number.strip_suffix('%') {
        Some(number) if suffix.is_empty() => (number, "%"),
        _ => (number, suffix),
    };
    // Divided, not multiplied by a fraction: 95 % is 0.95 to the bit.
    let (times, parts) = match (unit, suffix) {
        (Unit::Milliseconds, "us") => (1.0, 1000.0),
        (Unit::Milliseconds, "ms") => (1.0, 1.0),
        (Unit::Milliseconds, "") if is_named => (1.0, 1.0),
        (Unit::Milliseconds, "s") => (1000.0, 1.0),
        (Unit::Seconds, "ms") => (1.0, 1000.0),
        (Unit::Seconds, "" | "s") => (1.0, 1.0),
        (Unit::Share, "%") => (1.0, 100.0),
        (Unit::Count | Unit::PerSecond | Unit::Share, "") => (1.0, 1.0),
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    number.is_finite().then_some(number * times / parts)
}

fn example(unit: Unit) -> &'static str {
    match unit {
        Unit::Milliseconds => "a time like 500ms or 0.5s",
        Unit::Seconds => "a time like 90s",
        Unit::Share => "a share like 0.95 or 95%",
        Unit::Count | Unit::PerSecond => "a plain number like 1000",
    }
}

/// What has become of an assertion.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AssertionResult {
    /// As it was given.
    pub assertion: String,
    /// Whether it held at each level that it is about, and there was one.
    pub passed: bool,
    /// Unit of the values: `ms`, `s`, `1/s`, `count` or `share`.
    pub unit: String,
    /// What was looked at.
    pub levels: Vec<Checked>,
}

/// An assertion at one level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// Name of the level: its users, or its rate like `2.5/s`.
    pub level: String,
    /// What was measured; `None` if there is no value, which is a failure.
    pub value: Option<f64>,
    /// Whether the assertion held.
    pub passed: bool,
}

impl Assertion {
    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is about a level that is among those called `names`, or about each.
    pub(crate) fn is_about_one_of(&self, names: &[String]) -> bool {
        self.level.as_ref().is_none_or(|level| names.contains(level))
    }

    /// Whether it is about goodput, which only exists where limits are given.
    pub(crate) fn needs_slo(&self) -> bool {
        self.metric.name.contains("goodput")
    }

    /// Looks whether it holds at the `levels` that ran.
    pub fn check(&self, levels: &[LevelSummary]) -> AssertionResult {
        let checked = levels.iter().filter_map(|level| {
            let name = level_name(&level.plan.load);
            let value = self.metric.value(level);
            let passed = value.is_some_and(|value| (self.relation.holds)(&value, &self.limit));
            let is_meant = self.level.as_ref().is_none_or(|meant| *meant == name);
            is_meant.then_some(Checked { level: name, value, passed })
        });
        let levels: Vec<Checked> = checked.collect();
        AssertionResult {
            assertion: self.text.clone(),
            passed: !levels.is_empty() && levels.iter().all(|checked| checked.passed),
            unit: self.metric.unit.to_string(),
            levels,
        }
    }
}

/// One line: what was asked, whether it held, and what was measured (where it did not, if so).
impl fmt::Display for AssertionResult {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed { "passed" } else { "FAILED" };
        let shown = self.levels.iter().filter(|checked| checked.passed == self.passed);
        let values: Vec<String> = shown.map(|checked| self.words(checked)).collect();
        match values.is_empty() {
            true => write!(out, "{verdict}: {} (no level of it ran)", self.assertion),
            false => write!(out, "{verdict}: {} ({})", self.assertion, values.join(", ")),
        }
    }
}

impl AssertionResult {
    fn words(&self, checked: &Checked) -> String {
        let unit = match self.unit.as_str() {
            "count" | "share" => "",
            unit => &format!(" {unit}"),
        };
        match checked.value {
            // Rounding must not make a value look as if it met the limit.
            Some(value) if checked.passed => format!("{value:.2}{unit} at {}", checked.level),
            Some(value) => format!("{value}{unit} at {}", checked.level),
            None => format!("no value at {}", checked.level),
        }
    }
}

#[cfg(test)]
mod tests;
