//! The report: Markdown in the form of the one this project starts from.

use crate::language::Language;
use crate::load::{Arrivals, Load};
use crate::percentile::Spread;
use crate::summary::LevelSummary;

/// Everything that is printed.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Lines that say what was tested, one under another.
    pub basics: &'a [String],
    /// The levels, in the order in which they ran.
    pub levels: &'a [LevelSummary],
    /// Paragraphs that say what was found.
    pub analysis: &'a [String],
    /// Language of the two headings.
    pub language: Language,
}

/// Characters of the first cell of a row.
const NAME_WIDTH: usize = 22;
/// Characters of the cells for Min, Max, Mean, P50, P95 and P99.
const VALUE_WIDTHS: [usize; 6] = [8, 9, 9, 9, 9, 9];
/// Hyphens of the line that ends a level.
const LINE_WIDTH: usize = 40;

impl Report<'_> {
    /// The Markdown text, without a newline at its end.
    ///
    /// A figure that does not exist, since no request of the level succeeded, is printed as `-`.
    pub fn to_markdown(&self) -> String {
        let (basics, analysis) = match self.language {
            Language::English => ("Basics", "Analysis"),
            Language::Chinese => ("基础信息", "分析"),
        };
        let mut text = format!("# {basics}\n");
        for line in self.basics {
            text += &format!("{line}\n");
        }
        for level in self.levels {
            text += &format!("\n{}\n{}\n", level_section(level), "-".repeat(LINE_WIDTH));
        }
        text + &format!("\n\n\n# {analysis}\n\n{}", self.analysis.join("\n\n"))
    }
}

fn level_section(level: &LevelSummary) -> String {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    format!(
        "## {}\n\n\
         *   **Total Requests:** {}\n\
         *   **Total Time:** {} s\n\
         *   **Total Throughput:** {} tokens/s\n\n\
         {}{}{}{}{}",
        heading(level),
        level.counts.sent,
        figure(level.total_time_s),
        figure(level.tokens_per_second),
        row("Metric", ["Min", "Max", "Mean", "P50", "P95", "P99"].map(str::to_owned)),
        rule(),
        row("TTFT (ms)", cells(level.ttft_ms, 2)),
        row("Latency (ms)", cells(level.latency_ms, 2)),
        row("Num Generated Tokens", cells(level.tokens, 0)),
    )
}

/// `Concurrency Level: 64`; an open loop is known by its rate.
fn heading(level: &LevelSummary) -> String {
    match level.plan.load {
        Load::Closed { users, .. } => format!("Concurrency Level: {users}"),
        Load::Open { arrivals: Arrivals::Constant { rate }, .. } => {
            format!("Constant Rate: {rate:.2} requests/s")
        }
        Load::Open { arrivals: Arrivals::Poisson { rate }, .. } => {
            format!("Poisson Rate: {rate:.2} requests/s")
        }
        Load::Open { arrivals: Arrivals::Ramp { from, to }, .. } => {
            format!("Ramp: {from:.2} to {to:.2} requests/s")
        }
        Load::Open { arrivals: Arrivals::Trace { span_s, speed }, .. } => {
            format!("Trace: {span_s:.2} s at speed {speed:.2}")
        }
    }
}

/// The values with so many `decimals`, the mean always with two.
fn cells(spread: Option<Spread>, decimals: usize) -> [String; 6] {
    let Some(spread) = spread else { return std::array::from_fn(|_| "-".to_owned()) };
    let Spread { min, max, mean, p50, p95, p99, .. } = spread;
    let value = |value: f64| format!("{value:.decimals$}");
    [value(min), value(max), format!("{mean:.2}"), value(p50), value(p95), value(p99)]
}

/// A row of the table. A value too long for its cell widens that cell only.
fn row(name: &str, cells: [String; 6]) -> String {
    let mut line = format!("| {name:<NAME_WIDTH$} |");
    for (cell, width) in cells.iter().zip(VALUE_WIDTHS) {
        line += &format!(" {cell:<width$} |");
    }
    line + "\n"
}

fn rule() -> String {
    let mut line = format!("|{}|", "-".repeat(NAME_WIDTH + 2));
    for width in VALUE_WIDTHS {
        line += &format!("{}|", "-".repeat(width + 2));
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_too_long_widens_its_own_cell_only() {
        let values = ["1234567.89", "1.00", "2.00", "3.00", "4.00", "5.00"].map(str::to_owned);
        let line = row("TTFT (ms)", values);
        let plain = row("TTFT (ms)", std::array::from_fn(|_| "1.00".to_owned()));
        assert_eq!(line.len(), plain.len() + 2);
        assert!(line.ends_with("| 1.00      | 2.00      | 3.00      | 4.00      | 5.00      |\n"));
    }
}
