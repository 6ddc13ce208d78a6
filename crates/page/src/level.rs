//! A level as the charts look at it.

use workload::analysis::Finding;
use workload::gauges::GaugeSample;
use workload::load::Arrivals;
use workload::record::RequestRecord;
use workload::streams::Window;
use workload::summary::LevelSummary;

use crate::number::tick;
use crate::words::Words;

/// A level: its summary, what is known of its requests, and what the findings say about it.
#[derive(Clone, Copy)]
pub(crate) struct LevelView<'a> {
    /// Its place in the run, from 1.
    pub(crate) number: usize,
    /// Its figures.
    pub(crate) summary: &'a LevelSummary,
    /// Its requests.
    pub(crate) records: &'a [RequestRecord],
    /// When its first request was sent. 0 without requests.
    pub(crate) start_ns: u64,
    /// The server's gauges meanwhile.
    pub(crate) samples: &'a [GaugeSample],
    /// Sequences that the server runs at once, as it says or as was found.
    pub(crate) cap: Option<u32>,
    /// Whether that cap was found to have bound here.
    pub(crate) is_capped: bool,
    /// The words of the page.
    pub(crate) words: &'static Words,
}

impl<'a> LevelView<'a> {
    /// `64 users`; a level of an open loop is known by its rate.
    pub(crate) fn name(&self) -> String {
        let words = &self.words.levels;
        match (self.summary.plan.users(), self.summary.plan.arrivals()) {
            (Some(users), _) => (words.users)(users),
            (None, Some(Arrivals::Trace { .. })) => (words.trace)(self.number),
            (None, _) => (words.rate)(&self.short_name()),
        }
    }

    /// `64`, for a place where there is no more room.
    pub(crate) fn short_name(&self) -> String {
        match (self.summary.plan.users(), self.summary.plan.arrivals()) {
            (Some(users), _) => users.to_string(),
            (None, Some(Arrivals::Constant { rate } | Arrivals::Poisson { rate })) => tick(rate),
            (None, Some(Arrivals::Ramp { from, to })) => format!("{}-{}", tick(from), tick(to)),
            (None, Some(Arrivals::Trace { .. }) | None) => self.number.to_string(),
        }
    }

    /// Class of its colour and pattern in charts of all levels.
    pub(crate) fn class(&self) -> String {
        format!("c{}", (self.number - 1) % 8)
    }

    /// Name of its section in the page.
    pub(crate) fn id(&self) -> String {
        format!("level-{}", self.number)
    }

    /// Seconds from its first request to `at_ns`; 0 for what came before.
    pub(crate) fn seconds(&self, at_ns: u64) -> f64 {
        at_ns.saturating_sub(self.start_ns) as f64 / 1e9
    }

    /// Seconds from its first request to the end of its last answer.
    pub(crate) fn duration_s(&self) -> f64 {
        self.seconds(self.records.iter().map(|record| record.done_ns).max().unwrap_or(0))
    }

    /// The time after the first answer in which requests came as planned.
    pub(crate) fn steady(&self) -> Option<Window> {
        Some(self.summary.steady.as_ref()?.window)
    }

    /// Whether all its answers are equally long.
    pub(crate) fn has_one_length(&self) -> bool {
        self.summary.tokens.is_some_and(|tokens| tokens.min == tokens.max)
    }
}

/// The cap on sequences: what the server says, or else what was found.
pub(crate) fn cap(known: Option<u32>, findings: &[Finding]) -> Option<u32> {
    let found = findings.iter().find_map(|finding| match finding {
        Finding::SequenceCap { cap, .. } => Some(*cap),
        _ => None,
    });
    known.or(found)
}

/// Whether the cap on sequences was found to have bound at so many users.
pub(crate) fn is_capped(users: Option<u32>, findings: &[Finding]) -> bool {
    findings.iter().any(|finding| {
        matches!(finding, Finding::SequenceCap { users: bound, .. } if Some(*bound) == users)
    })
}

/// The level that explains most: the largest that met a cap, else the last one.
pub(crate) fn focus<'a, 'b>(levels: &'b [LevelView<'a>]) -> Option<&'b LevelView<'a>> {
    let users = |level: &&LevelView<'_>| level.summary.plan.users();
    levels.iter().filter(|level| level.is_capped).max_by_key(users).or(levels.last())
}
