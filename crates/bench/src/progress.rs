//! What is shown on the error stream while the test runs.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use workload::gauges::GaugeSample;
use workload::load::{Arrivals, Load};
use workload::summary::LevelSummary;

/// How often the display is brought up to date.
pub(crate) const PERIOD: Duration = Duration::from_millis(250);

/// Without a terminal: time between two lines, nanoseconds.
const LINE_PERIOD_NS: u64 = 10_000_000_000;

/// Time over which the rate of tokens is taken, nanoseconds.
const RATE_PERIOD_NS: u64 = 1_000_000_000;

/// The state of a level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Now, nanoseconds since the origin of the run.
    pub(crate) at_ns: u64,
    /// Requests that are over.
    pub(crate) done: usize,
    /// Pieces of answers so far: about one a token.
    pub(crate) pieces: u64,
    /// The last reading of the server's gauges.
    pub(crate) gauges: Option<GaugeSample>,
}

/// Shows how far a run is: bars on a terminal, a line now and then elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    /// `None` without a terminal.
    bar: Option<ProgressBar>,
    is_terminal: bool,
    name: String,
    total: usize,
    rate: Rate,
    last_line_ns: u64,
}

/// Tokens a second over about the last second.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    from_ns: u64,
    from_pieces: u64,
    per_second: f64,
}

impl Rate {
    fn update(&mut self, view: &View) {
        let span_ns = view.at_ns.saturating_sub(self.from_ns);
        if RATE_PERIOD_NS <= span_ns {
            let pieces = view.pieces.saturating_sub(self.from_pieces);
            self.per_second = pieces as f64 * 1e9 / span_ns as f64;
            self.from_ns = view.at_ns;
            self.from_pieces = view.pieces;
        }
    }
}

impl Progress {
    /// Shows nothing yet.
    pub(crate) fn new() -> Progress {
        Progress {
            bar: None,
            is_terminal: stderr().is_terminal(),
            name: String::new(),
            total: 0,
            rate: Rate::default(),
            last_line_ns: 0,
        }
    }

    /// Says something while nothing else is shown.
    pub(crate) fn note(&self, text: &str) {
        eprintln!("millrace: {text}");
    }

    /// Begins something called `name` with `total` parts at `at_ns`.
    pub(crate) fn begin(&mut self, name: String, total: usize, at_ns: u64) {
        self.rate = Rate { from_ns: at_ns, ..Rate::default() };
        self.last_line_ns = at_ns;
        self.total = total;
        if self.is_terminal {
            let target = ProgressDrawTarget::stderr_with_hz(5);
            let bar = ProgressBar::with_draw_target(Some(total as u64), target);
            let template = "{prefix:>16} [{bar:30}] {pos}/{len} {msg}";
            let style = ProgressStyle::with_template(template).expect("a valid template");
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(name.clone());
            self.bar = Some(bar);
        }
        self.name = name;
    }

    /// Shows how many parts are done.
    pub(crate) fn step(&self, done: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
    }

    /// Shows the state of a level.
    pub(crate) fn update(&mut self, view: &View) {
        self.rate.update(view);
        let text = live_text(self.rate.per_second, view.gauges);
        if let Some(bar) = &self.bar {
            bar.set_position(view.done as u64);
            bar.set_message(text);
        } else if LINE_PERIOD_NS <= view.at_ns.saturating_sub(self.last_line_ns) {
            self.last_line_ns = view.at_ns;
            eprintln!("{}: {}/{} requests, {text}", self.name, view.done, self.total);
        }
    }

    /// Takes away what [`Progress::begin`] showed.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Ends a level with its result.
    pub(crate) fn end_level(&mut self, level: &LevelSummary) {
        let text = result_text(level);
        match self.bar.take() {
            Some(bar) => {
                bar.set_position((level.counts.ok + level.counts.failed) as u64);
                bar.abandon_with_message(text);
            }
            None => eprintln!("{}: {text}", self.name),
        }
    }
}

/// What a level is called: `8 users`, `10 requests/s`.
pub(crate) fn name(load: &Load) -> String {
    match load {
        Load::Closed { users, .. } => format!("{users} users"),
        Load::Open { arrivals, .. } => match arrivals {
            Arrivals::Constant { rate } => format!("{rate} requests/s"),
            Arrivals::Poisson { rate } => format!("{rate} requests/s (Poisson)"),
            Arrivals::Ramp { from, to } => format!("{from} to {to} requests/s"),
            Arrivals::Trace { span_s, speed } => format!("trace of {span_s:.0} s at speed {speed}"),
        },
    }
}

fn live_text(per_second: f64, gauges: Option<GaugeSample>) -> String {
    let load = gauges.map(|g| format!(", {} running, {} waiting", g.running, g.waiting));
    format!("{per_second:.0} tokens/s{}", load.unwrap_or_default())
}

fn result_text(level: &LevelSummary) -> String {
    let failed = match level.counts.failed {
        0 => String::new(),
        failed => format!(", {failed} FAILED"),
    };
    let dropped = match level.counts.dropped {
        0 => String::new(),
        dropped => format!(", {dropped} DROPPED"),
    };
    let figures = match (level.total_time_s, level.tokens_per_second, level.ttft_ms) {
        (Some(time), Some(rate), Some(ttft)) => {
            format!("{time:.1} s, {rate:.1} tokens/s, TTFT P50 {:.0} ms", ttft.p50)
        }
        _ => "no request succeeded".to_owned(),
    };
    format!("{} requests: {figures}{failed}{dropped}", level.counts.sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_second_or_more() {
        let mut rate = Rate::default();
        let view = |at_ns, pieces| View { at_ns, done: 0, pieces, gauges: None };
        rate.update(&view(500_000_000, 100));
        assert_eq!(rate.per_second, 0.0, "too short to tell");
        rate.update(&view(2_000_000_000, 300));
        assert_eq!(rate.per_second, 150.0);
        rate.update(&view(3_000_000_000, 400));
        assert_eq!(rate.per_second, 100.0);
    }

    #[test]
    fn gauges_are_shown_where_the_server_has_them() {
        let gauges =
            GaugeSample { at_ns: 0, running: 50, waiting: 14, kv_usage: None, preemptions: None };
        assert_eq!(live_text(99.6, Some(gauges)), "100 tokens/s, 50 running, 14 waiting");
        assert_eq!(live_text(0.0, None), "0 tokens/s");
    }
}
