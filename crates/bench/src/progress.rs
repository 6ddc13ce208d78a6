//! What is shown on the error stream while the test runs.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use workload::gauges::GaugeSample;
use workload::percentile::median;
use workload::record::RequestRecord;
use workload::summary::LevelSummary;

mod words;

pub(crate) use words::name;

/// How often the display is brought up to date.
pub(crate) const PERIOD: Duration = Duration::from_millis(250);

/// Without a terminal: time between two lines, nanoseconds.
const LINE_PERIOD_NS: u64 = 10_000_000_000;

/// Time over which the rate of tokens is taken, nanoseconds.
const RATE_PERIOD_NS: u64 = 1_000_000_000;

/// The median is of so many of the last requests, so that it costs little.
const MEDIAN_OF: usize = 1000;

/// What is said when the run is stopped.
const STOPPING: &str =
    "stopping: the report will be of what is complete; Ctrl-C again ends without one";

/// The state of a level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// Now, nanoseconds since the origin of the run.
    pub(crate) at_ns: u64,
    /// Requests that are over.
    pub(crate) records: &'a [RequestRecord],
    /// Pieces of answers so far: about one a token.
    pub(crate) pieces: u64,
    /// The last reading of the server's gauges.
    pub(crate) gauges: Option<GaugeSample>,
}

/// What is said about the state of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Live {
    tokens_per_second: Option<f64>,
    gauges: Option<GaugeSample>,
    ttft_p50_ms: Option<f64>,
    failed: usize,
    seconds_left: Option<f64>,
}

/// Shows how far a run is: two lines on a terminal below those of the levels that are over, a line
/// now and then elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    /// `None` without a terminal.
    screen: Option<Screen>,
    name: String,
    total: usize,
    /// Tokens that are expected of the whole level.
    tokens: u64,
    start_ns: u64,
    rate: Rate,
    last_line_ns: u64,
    is_stopping: bool,
}

/// What is drawn on a terminal: two lines that are there from the beginning to the end.
#[derive(Debug)]
struct Screen {
    lines: MultiProgress,
    bar: ProgressBar,
    /// The state of a level.
    below: ProgressBar,
}

/// Tokens a second over about the last second.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    from_ns: u64,
    from_pieces: u64,
    per_second: Option<f64>,
}

impl Rate {
    fn update(&mut self, at_ns: u64, pieces: u64) {
        let span_ns = at_ns.saturating_sub(self.from_ns);
        if RATE_PERIOD_NS <= span_ns {
            let more = pieces.saturating_sub(self.from_pieces);
            self.per_second = Some(more as f64 * 1e9 / span_ns as f64);
            self.from_ns = at_ns;
            self.from_pieces = pieces;
        }
    }
}

impl Screen {
    fn new() -> Screen {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        let style = |template| ProgressStyle::with_template(template).expect("a valid template");
        let bar = style("{prefix} [{wide_bar}] {pos}/{len} {msg}").progress_chars("=> ");
        Screen {
            bar: lines.add(ProgressBar::new(0).with_style(bar)),
            below: lines.add(ProgressBar::new(0).with_style(style("  {wide_msg}"))),
            lines,
        }
    }

    /// Shows something called `name` instead of what was shown before.
    fn begin(&self, name: &str, total: usize) {
        self.below.set_message("");
        self.bar.set_prefix(name.to_owned());
        self.bar.set_message("");
        self.bar.set_position(0);
        self.bar.set_length(total as u64);
        self.bar.force_draw();
    }

    /// Leaves what is shown as it is: the terminal has written `^C` behind it, so that nobody knows
    /// any more where it stands.
    fn abandon(self) {
        self.lines.set_draw_target(ProgressDrawTarget::hidden());
        eprintln!();
    }

    fn clear(&self) {
        // A terminal that takes no text shows no progress either; the test goes on.
        drop(self.lines.clear());
    }

    /// Puts a line above what is drawn, where it stays.
    fn print(&self, line: &str) {
        drop(self.lines.println(line));
    }
}

impl Progress {
    /// Shows nothing yet.
    pub(crate) fn new() -> Progress {
        Progress {
            screen: stderr().is_terminal().then(Screen::new),
            name: String::new(),
            total: 0,
            tokens: 0,
            start_ns: 0,
            rate: Rate::default(),
            last_line_ns: 0,
            is_stopping: false,
        }
    }

    /// Says something that stays.
    pub(crate) fn note(&self, text: &str) {
        self.print(&format!("millrace: {text}"));
    }

    /// Says once that the run is being stopped; from then on there are only plain lines.
    pub(crate) fn stopping(&mut self) {
        if !self.is_stopping {
            self.is_stopping = true;
            if let Some(screen) = self.screen.take() {
                screen.abandon();
            }
            self.note(STOPPING);
        }
    }

    /// Whether [`Progress::stopping`] has been said.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Begins something called `name` with `total` parts at `at_ns`.
    pub(crate) fn begin(&mut self, name: &str, total: usize, at_ns: u64) {
        self.last_line_ns = at_ns;
        name.clone_into(&mut self.name);
        self.total = total;
        if let Some(screen) = &self.screen {
            screen.begin(name, total);
        }
    }

    /// Begins a level of `total` requests at `at_ns`, of which so many `tokens` are expected.
    pub(crate) fn begin_level(&mut self, name: &str, total: usize, tokens: u64, at_ns: u64) {
        self.begin(name, total, at_ns);
        self.tokens = tokens;
        self.start_ns = at_ns;
        self.rate = Rate { from_ns: at_ns, ..Rate::default() };
    }

    /// Shows how many parts are done at `at_ns`.
    pub(crate) fn step(&mut self, done: usize, at_ns: u64) {
        if let Some(screen) = &self.screen {
            screen.bar.set_position(done as u64);
        } else if self.is_line_due(at_ns) {
            eprintln!("{}: {done}/{}", self.name, self.total);
        }
    }

    /// Whether it is time for a line; then the next is due some time later.
    fn is_line_due(&mut self, at_ns: u64) -> bool {
        let is_due = LINE_PERIOD_NS <= at_ns.saturating_sub(self.last_line_ns);
        if is_due {
            self.last_line_ns = at_ns;
        }
        is_due
    }

    /// Shows the state of a level.
    pub(crate) fn update(&mut self, view: &View<'_>) {
        self.rate.update(view.at_ns, view.pieces);
        if self.screen.is_none() && !self.is_line_due(view.at_ns) {
            return;
        }
        let live = self.live(view);
        let done = view.records.len();
        match &self.screen {
            Some(Screen { bar, below, .. }) => {
                bar.set_position(done as u64);
                bar.set_message(live.time_left().unwrap_or_default());
                below.set_message(live.to_string());
            }
            None => {
                let left = live.time_left().map(|left| format!(", {left}")).unwrap_or_default();
                eprintln!("{}: {done}/{} requests, {live}{left}", self.name, self.total);
            }
        }
    }

    fn live(&self, view: &View<'_>) -> Live {
        let last = view.records.iter().rev().take(MEDIAN_OF).filter(|record| record.is_ok());
        let share = self.share_done(view);
        let elapsed_s = view.at_ns.saturating_sub(self.start_ns) as f64 / 1e9;
        // Before that an estimate would be a guess.
        let is_known = 0.02 <= share && 1.0 <= elapsed_s;
        Live {
            tokens_per_second: self.rate.per_second,
            gauges: view.gauges,
            ttft_p50_ms: median(last.filter_map(RequestRecord::ttft_ms).collect()),
            failed: view.records.iter().filter(|r| r.status.failure().is_some()).count(),
            seconds_left: is_known.then(|| elapsed_s * (1.0 - share) / share),
        }
    }

    /// How much of a level is over: of its requests or of its tokens, whichever is more. Requests
    /// end together, tokens come all the time; but an answer may be shorter than expected.
    fn share_done(&self, view: &View<'_>) -> f64 {
        let share = |part: f64, whole: f64| if 0.0 < whole { (part / whole).min(1.0) } else { 0.0 };
        let requests = share(view.records.len() as f64, self.total as f64);
        requests.max(share(view.pieces as f64, self.tokens as f64))
    }

    /// Ends a level with its result, which stays.
    pub(crate) fn end_level(&mut self, level: &LevelSummary) {
        self.print(&format!("{}: {}", self.name, words::result(level)));
    }

    /// Takes away what does not stay, at the end of the run.
    pub(crate) fn end(&self) {
        if let Some(screen) = &self.screen {
            screen.clear();
        }
    }

    fn print(&self, line: &str) {
        match &self.screen {
            Some(screen) => screen.print(line),
            None => eprintln!("{line}"),
        }
    }
}

#[cfg(test)]
mod tests;
