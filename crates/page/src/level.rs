//! A level as the charts look at it.

use workload::analysis::Finding;
use workload::gauges::GaugeSample;
use workload::load::Arrivals;
use workload::percentile::percentile;
use workload::record::RequestRecord;
use workload::streams::Window;
use workload::summary::LevelSummary;

use crate::number::{counted, tick};

/// A level: its summary, what is known of its requests, and what the findings say about it.
#[derive(Clone, Copy, Debug)]
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
}

impl<'a> LevelView<'a> {
    /// `64 users`; a level of an open loop is known by its rate.
    pub(crate) fn name(&self) -> String {
        match (self.summary.plan.users(), self.summary.plan.arrivals()) {
            (Some(users), _) => counted(u64::from(users), "user", "users"),
            (None, Some(Arrivals::Trace { .. })) => format!("trace {}", self.number),
            (None, _) => format!("{} requests/s", self.short_name()),
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

    /// The time in which every user had a request on its way.
    pub(crate) fn window(&self) -> Option<Window> {
        self.summary.plan.users()?;
        Window::all_users_active(self.records)
    }

    /// Whether all its answers are equally long.
    pub(crate) fn has_one_length(&self) -> bool {
        self.summary.tokens.is_some_and(|tokens| tokens.min == tokens.max)
    }

    /// Who waited for a place, and for how long. `None` without a successful request.
    pub(crate) fn waits(&self) -> Option<Waits> {
        Waits::of(self.records)
    }
}

/// The successful requests of a level, divided into those that waited for a place and the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Waits {
    /// Successful requests.
    pub(crate) requests: usize,
    /// Typical time of an answer once it runs, milliseconds: the median of the latency less the
    /// queue time or, where that is unknown, less the time to first token.
    pub(crate) service_ms: f64,
    /// Requests whose first token took at least half of that: they waited for a place.
    pub(crate) waited: usize,
    /// Mean time to first token of those, milliseconds.
    pub(crate) waited_mean_ms: Option<f64>,
    /// Requests whose first token took from a sixth to a half of the service time.
    pub(crate) between: usize,
    /// Median time to first token of those that did not wait, milliseconds.
    pub(crate) at_once_p50_ms: Option<f64>,
}

impl Waits {
    fn of(records: &[RequestRecord]) -> Option<Waits> {
        let ok = || records.iter().filter(|record| record.is_ok());
        let service = ok().filter_map(|record| {
            Some(record.latency_ms()? - record.queue_ms().or(record.ttft_ms())?)
        });
        let service_ms = median(service.collect()).filter(|ms| 0.0 < *ms)?;
        let (waited, others): (Vec<f64>, Vec<f64>) = ok()
            .filter_map(RequestRecord::ttft_ms)
            .partition(|ttft_ms| service_ms / 2.0 <= *ttft_ms);
        let count = waited.len();
        Some(Waits {
            requests: count + others.len(),
            service_ms,
            waited: count,
            waited_mean_ms: (0 < count).then(|| waited.iter().sum::<f64>() / count as f64),
            between: others.iter().filter(|ms| service_ms / 6.0 <= **ms).count(),
            at_once_p50_ms: median(others),
        })
    }

    /// Whether the requests fall into two groups: some waited for about one whole service, the
    /// others hardly, and few are between.
    pub(crate) fn is_bimodal(&self) -> bool {
        let share = self.waited as f64 / self.requests as f64;
        (0.05..=0.7).contains(&share) && self.is_whole_service() && 4 * self.between <= self.waited
    }

    /// Whether those that waited did so for about one whole service.
    pub(crate) fn is_whole_service(&self) -> bool {
        self.waited_mean_ms.is_some_and(|ms| (0.6..=1.5).contains(&(ms / self.service_ms)))
    }
}

/// Median of values in any order; `None` if there are none.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    percentile(&values, 0.5)
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
