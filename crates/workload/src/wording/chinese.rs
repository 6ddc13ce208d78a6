//! Chinese.

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

/// `Concurrency 为 64`.
fn of(level: LevelName) -> String {
    all_of(&[level])
}

/// `Concurrency 为 1、4、8`.
fn all_of(levels: &[LevelName]) -> String {
    names(levels, "、", "Concurrency 为 ", schedule)
}

fn schedule(arrivals: Arrivals) -> String {
    match arrivals {
        Arrivals::Constant { rate } => format!("以固定速率每秒 {rate:.2} 个请求"),
        Arrivals::Poisson { rate } => format!("以泊松到达每秒 {rate:.2} 个请求"),
        Arrivals::Ramp { from, to } => format!("以每秒 {from:.2} 到 {to:.2} 个请求的变化速率"),
        Arrivals::Trace { span_s, speed } => {
            format!("以 {speed:.2} 倍速重放 {span_s:.2} s 的记录")
        }
    }
}
