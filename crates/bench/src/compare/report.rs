//! A comparison in words: Markdown.

use std::fmt::{self, Display, Formatter, Write};
use std::path::PathBuf;

use workload::load::Load;

use super::{Change, Comparison, Metric, RUNS_FOR_T};

/// How a level is called in the report.
pub(super) fn load_label(load: &Load) -> String {
    match load {
        Load::Closed { users, requests_per_user, .. } => {
            format!("{users} users with {requests_per_user} requests each")
        }
        Load::Open { requests, arrivals } => {
            let schedule = serde_json::to_string(arrivals).expect("plain data with text keys");
            format!("{requests} requests by {schedule}")
        }
    }
}

impl Change {
    /// The verdict in words, like "B is 12.0 % faster (95 % CI 9.0 to 15.0 %)".
    pub fn verdict(&self) -> String {
        let size = self.percent.abs();
        let word = match (self.metric, 0.0 < self.percent) {
            (Metric::Throughput, true) => "faster",
            (Metric::Throughput, false) => "slower",
            (_, true) => "longer",
            (_, false) => "shorter",
        };
        if let Some(requests) = self.too_few {
            let needed = Change::p95_needs();
            return format!("not judged: {requests} requests a run, {needed} are needed");
        }
        match self.percent_interval {
            None => format!("{size:.1} % {word} in B; too few users or runs to say how sure"),
            Some([low, high]) if low <= 0.0 && 0.0 <= high => {
                format!("no detectable change (95 % CI {low:+.1} to {high:+.1} %)")
            }
            Some([low, high]) => {
                let (near, far) = if 0.0 < low { (low, high) } else { (-high, -low) };
                format!("B is {size:.1} % {word} (95 % CI {near:.1} to {far:.1} %)")
            }
        }
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Comparison\n")?;
        writeln!(f, "- A: {}\n- B: {}", list(&self.a), list(&self.b))?;
        let is_over_runs = RUNS_FOR_T <= self.a.len().min(self.b.len());
        f.write_str(if is_over_runs {
            "- Intervals: Welch's t over the runs\n"
        } else {
            "- Intervals: bootstrap over the users and waves of each run. How much one run \
             differs from the next is not in them: repeat both sides three times (A1,A2,A3 B1,B2,B3) for that.\n"
        })?;
        if !self.warnings.is_empty() {
            writeln!(f, "\n## Warnings\n")?;
        }
        for warning in &self.warnings {
            writeln!(f, "- {warning}")?;
        }
        for level in &self.levels {
            writeln!(f, "\n## {}\n", load_label(&level.load))?;
            f.write_str("| Metric | A | B | Difference | Verdict |\n|---|---:|---:|---:|---|\n")?;
            for change in &level.changes {
                let name = change.metric.name();
                let Change { a, b, percent, .. } = change;
                let verdict = change.verdict();
                writeln!(f, "| {name} | {a:.2} | {b:.2} | {percent:+.1} % | {verdict} |")?;
            }
        }
        Ok(())
    }
}

fn list(folders: &[PathBuf]) -> String {
    let mut text = String::new();
    for (index, folder) in folders.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(text, "{comma}{}", folder.display()).expect("a String takes all");
    }
    text
}
