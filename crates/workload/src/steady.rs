//! A level without its beginning and its end: what it did while it was under the load that was
//! meant, whether that stayed the same, and what the end cost.
//!
//! At the beginning all prompts come at once, at the end fewer and fewer users are left. Both belong
//! to the run, so its figures hold them; beside them stand those of the requests that were sent in
//! between. They are chosen by when they were sent: chosen by their end, the slow ones would be
//! missing.

use serde::{Deserialize, Serialize};

use crate::load::LevelPlan;
use crate::percentile::{Spread, median};
use crate::record::{RequestRecord, milliseconds};
use crate::streams::Window;

/// What was measured in [`Window::steady`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steady {
    /// The window.
    pub window: Window,
    /// Successful requests sent in it; the figures of requests are theirs.
    pub requests: usize,
    /// Generated tokens of successful requests that were read in it, over its length.
    pub tokens_per_second: f64,
    /// Time to first token.
    pub ttft_ms: Option<Spread>,
    /// From the first byte sent to the last token read.
    pub latency_ms: Option<Spread>,
    /// Time per output token after the first.
    pub tpot_ms: Option<Spread>,
    /// Figures that changed from its first third to its last.
    pub drifts: Vec<Drift>,
}

/// A figure that was another one at the end of the window than at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Which one.
    pub metric: Metric,
    /// Its median over the requests sent in the first third of them, milliseconds.
    pub first_ms: f64,
    /// Its median over the requests sent in the last third, milliseconds.
    pub last_ms: f64,
    /// How many deviations of chance lie between the two (Mann-Whitney), above 0 if it grew.
    pub z: f64,
}

/// A figure of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Time to first token.
    Ttft,
    /// Time per output token after the first.
    Tpot,
    /// From the first byte sent to the last token read.
    Latency,
}

impl Metric {
    fn of(self, record: &RequestRecord) -> Option<f64> {
        match self {
            Metric::Ttft => record.ttft_ms(),
            Metric::Tpot => record.tpot_ms(),
            Metric::Latency => record.latency_ms(),
        }
    }
}

/// The time after the load had begun to go: in a closed loop after the first user had finished its
/// last request, in an open one after the last request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    /// Its length, seconds.
    pub time_s: f64,
    /// Its share of the level's total time, 0..=1.
    pub share: f64,
    /// Generated tokens of successful requests that were read in it, over its length.
    pub tokens_per_second: f64,
}

/// Requests of a third below which nothing is said about a drift.
const DRIFT_LEAST: usize = 8;
/// By which factor medians must differ for a drift.
const DRIFT_FACTOR: f64 = 1.25;
/// How unlikely by chance a drift must be, in standard deviations.
const DRIFT_Z: f64 = 3.0;
impl Steady {
    /// Sums up the steady part of a level. `None` if it has none.
    pub fn of(plan: &LevelPlan, records: &[RequestRecord]) -> Option<Steady> {
        let window = Window::steady(plan, records)?;
        let mut sent: Vec<_> =
            records.iter().filter(|r| r.is_ok() && window.contains(r.sent_ns)).collect();
        sent.sort_by_key(|record| record.sent_ns);
        let spread =
            |metric: Metric| Spread::of(sent.iter().filter_map(|r| metric.of(r)).collect());
        let drift = |metric| drift(metric, &sent);
        Some(Steady {
            window,
            requests: sent.len(),
            tokens_per_second: tokens_in(records, window) / window.seconds(),
            ttft_ms: spread(Metric::Ttft),
            latency_ms: spread(Metric::Latency),
            tpot_ms: spread(Metric::Tpot),
            drifts: [Metric::Ttft, Metric::Tpot, Metric::Latency]
                .into_iter()
                .filter_map(drift)
                .collect(),
        })
    }
}

impl Drain {
    /// The end of a level. `None` if the load never stood, or no token came after it had begun to go.
    pub fn of(plan: &LevelPlan, records: &[RequestRecord]) -> Option<Drain> {
        let start = records.iter().map(|record| record.sent_ns).min()?;
        let begin = Window::under_load(plan, records)?.end_ns;
        let ok = records.iter().filter(|record| record.is_ok());
        let end = ok.filter_map(|record| record.last_token_ns).max()?;
        let window = (begin < end).then_some(Window { start_ns: begin, end_ns: end })?;
        let time_s = window.seconds();
        Some(Drain {
            time_s,
            share: time_s / (milliseconds(start, end) / 1000.0),
            tokens_per_second: tokens_in(records, window) / time_s,
        })
    }
}

/// Generated tokens of successful requests that were read in `window`. Where the server does not
/// say how many a chunk carried, each of an answer's chunks counts for the same number.
fn tokens_in(records: &[RequestRecord], window: Window) -> f64 {
    let inside = |record: &RequestRecord| {
        let chunks = record.chunks.iter().filter(|chunk| window.contains(chunk.at_ns)).count();
        let each = f64::from(record.tokens()) / record.chunks.len().max(1) as f64;
        each * chunks as f64
    };
    records.iter().filter(|record| record.is_ok()).map(inside).sum()
}

/// Compares the first third of `sent`, which is in the order of sending, with the last.
fn drift(metric: Metric, sent: &[&RequestRecord]) -> Option<Drift> {
    let values: Vec<f64> = sent.iter().filter_map(|record| metric.of(record)).collect();
    let third = values.len() / 3;
    if third < DRIFT_LEAST {
        return None;
    }
    let (first, last) = (&values[..third], &values[values.len() - third..]);
    let (first_ms, last_ms) = (median(first.to_vec())?, median(last.to_vec())?);
    let z = mann_whitney_z(first, last);
    let is_large = DRIFT_FACTOR * first_ms.min(last_ms) <= first_ms.max(last_ms);
    // Both say it in the same direction.
    let is_sure = DRIFT_Z <= z * (last_ms - first_ms).signum();
    (is_large && is_sure).then_some(Drift { metric, first_ms, last_ms, z })
}

/// How far `last` lies above `first`, in the standard deviations of two samples of one distribution.
fn mann_whitney_z(first: &[f64], last: &[f64]) -> f64 {
    let mut sorted = first.to_vec();
    sorted.sort_by(f64::total_cmp);
    let wins = |value: &f64| {
        let below = sorted.partition_point(|other| other < value);
        let not_above = sorted.partition_point(|other| other <= value);
        (below + not_above) as f64 / 2.0 // equals count half
    };
    let wins: f64 = last.iter().map(wins).sum();
    let (n, m) = (first.len() as f64, last.len() as f64);
    (wins - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lengths::{LengthLaws, Lengths};
    use crate::load::{Arrivals, Load};
    use crate::record::tests::answered;

    const LENGTHS: LengthLaws = LengthLaws::fixed(Lengths { prompt_tokens: 5, output_tokens: 11 });

    fn closed(users: u32) -> LevelPlan {
        LevelPlan { load: Load::closed(users, 5), lengths: LENGTHS }
    }

    const OPEN: LevelPlan = LevelPlan {
        load: Load::Open { arrivals: Arrivals::Constant { rate: 10.0 }, requests: 60 },
        lengths: LENGTHS,
    };

    #[test]
    fn the_burst_and_the_end_are_outside_the_window() {
        let mut records = Vec::new();
        for user in 0..2 {
            records.push(answered(user, 0, [0, 500, 1000])); // the burst waits for its first token
            for index in 1..4 {
                let at = 1000 * u64::from(index);
                records.push(answered(user, index, [at, at + 10, at + 1000]));
            }
        }
        records.push(answered(1, 4, [4000, 4010, 6000])); // alone at the end
        let steady = Steady::of(&closed(2), &records).expect("a steady part");
        assert_eq!(steady.window, Window { start_ns: 1_000_000_000, end_ns: 4_000_000_000 });
        assert_eq!(steady.requests, 7);
        assert_eq!(steady.ttft_ms.map(|ttft| ttft.max), Some(10.0));
        // Of each user 11 tokens for each of three requests and the last of the burst.
        assert!((steady.tokens_per_second - 68.0 / 3.0).abs() < 1e-9, "{steady:?}");
        let drain = Drain::of(&closed(2), &records).expect("it ends alone");
        assert_eq!((drain.time_s, drain.share), (2.0, 2.0 / 6.0));
        assert_eq!(drain.tokens_per_second, 13.0 / 2.0, "11 of the last, two at its beginning");
    }

    #[test]
    fn one_wave_has_no_steady_part() {
        let records = [answered(0, 0, [0, 1, 100]), answered(1, 0, [0, 1, 100])];
        assert_eq!(Steady::of(&closed(2), &records), None);
        assert_eq!(Drain::of(&closed(2), &records), None);
    }

    /// An open level of 60 requests, of which the later two thirds take `slower` ms more.
    fn open(slower: u64) -> Vec<RequestRecord> {
        let request = |n: u64| {
            let (sent, more) = (100 * n, if n < 20 { 0 } else { slower });
            answered(n as u32, 0, [sent, sent + 10 + n % 3 + more, sent + 60 + more])
        };
        (0..60).map(request).collect()
    }

    #[test]
    fn a_figure_that_grows_is_a_drift_and_noise_is_none() {
        assert_eq!(Steady::of(&OPEN, &open(0)).expect("a steady part").drifts, []);
        let drifts = Steady::of(&OPEN, &open(30)).expect("a steady part").drifts;
        let metrics: Vec<_> = drifts.iter().map(|drift| drift.metric).collect();
        assert_eq!(metrics, [Metric::Ttft, Metric::Latency]);
        assert_eq!((drifts[1].first_ms, drifts[1].last_ms), (60.0, 90.0));
        assert!(3.0 < drifts[0].z);
    }

    #[test]
    fn few_requests_show_no_drift() {
        let records: Vec<_> = open(30).into_iter().step_by(4).collect();
        assert_eq!(Steady::of(&OPEN, &records).expect("a steady part").drifts, []);
    }
}
