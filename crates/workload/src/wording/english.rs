//! English.

use super::{Subject, each, names, percent};
use crate::analysis::Finding;
use crate::level::LevelName;
use crate::load::Arrivals;

mod answers;
mod client;
mod course;
mod limits;

pub(super) fn text(finding: &Finding) -> String {
    match Subject::of(finding) {
        Subject::Client => client::text(finding),
        Subject::Limits => limits::text(finding),
        Subject::Course => course::text(finding),
        Subject::Answers => answers::text(finding),
    }
}

/// `concurrency 64`.
fn of(level: LevelName) -> String {
    all_of(&[level])
}

/// `concurrency 1, 4, 8`.
fn all_of(levels: &[LevelName]) -> String {
    names(levels, ", ", "concurrency ", schedule)
}

fn schedule(arrivals: Arrivals) -> String {
    match arrivals {
        Arrivals::Constant { rate } => format!("a constant {rate:.2} requests/s"),
        Arrivals::Poisson { rate } => format!("Poisson arrivals of {rate:.2} requests/s"),
        Arrivals::Ramp { from, to } => {
            format!("rates that go from {from:.2} to {to:.2} requests/s")
        }
        Arrivals::Trace { span_s, speed } => {
            format!("a trace of {span_s:.2} s at speed {speed:.2}")
        }
    }
}
