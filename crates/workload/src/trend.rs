//! Whether the requests of an open loop piled up.
//!
//! A rate above what the server can do has no steady state: more and more requests are on their way,
//! and each takes longer than the one before, for as long as the level lasts. Its percentiles are
//! then those of the level's length.

use serde::{Deserialize, Serialize};

use crate::load::LevelPlan;
use crate::percentile::median;
use crate::record::RequestRecord;
use crate::streams::{Window, mean_in_flight};

/// An open level at its beginning and its end: the first and the last third of [`Window::steady`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArrivalTrend {
    /// Requests sent in the window, per second.
    pub sent_per_second: f64,
    /// Requests answered in it, per second.
    pub answered_per_second: f64,
    /// Requests on their way at a time in the first third.
    pub in_flight_first: f64,
    /// The same in the last third.
    pub in_flight_last: f64,
    /// Median latency of the requests sent in the first third, milliseconds.
    pub latency_first_ms: f64,
    /// The same in the last third.
    pub latency_last_ms: f64,
}

/// From which factor between the thirds on requests pile up.
const MORE_IN_FLIGHT: f64 = 1.5;
/// From which factor between the thirds on they take longer.
const MORE_LATENCY: f64 = 1.25;

impl ArrivalTrend {
    /// Compares the thirds. `None` in a closed loop, which cannot pile up, and where a third has no
    /// successful request.
    pub fn of(plan: &LevelPlan, records: &[RequestRecord]) -> Option<ArrivalTrend> {
        plan.arrivals()?;
        let window = Window::steady(plan, records)?;
        let third = (window.end_ns - window.start_ns) / 3;
        let first = Window { end_ns: window.start_ns + third, ..window };
        let last = Window { start_ns: window.end_ns - third, ..window };
        let ok = || records.iter().filter(|record| record.is_ok());
        let latency = |part: Window| {
            let sent = ok().filter(|record| part.contains(record.sent_ns));
            median(sent.filter_map(RequestRecord::latency_ms).collect())
        };
        let is_sent =
            |record: &&RequestRecord| record.was_sent() && window.contains(record.sent_ns);
        let sent = records.iter().filter(is_sent).count();
        let answered = ok().filter(|record| window.contains(record.done_ns)).count();
        Some(ArrivalTrend {
            sent_per_second: sent as f64 / window.seconds(),
            answered_per_second: answered as f64 / window.seconds(),
            in_flight_first: (0 < third).then(|| mean_in_flight(records, first))?,
            in_flight_last: mean_in_flight(records, last),
            latency_first_ms: latency(first)?,
            latency_last_ms: latency(last)?,
        })
    }

    /// Whether many more requests, and at least one, were on their way at the end.
    pub fn piles_up(&self) -> bool {
        let more = (MORE_IN_FLIGHT * self.in_flight_first).max(self.in_flight_first + 1.0);
        more <= self.in_flight_last
    }

    /// Whether requests took much longer at the end.
    pub fn slows_down(&self) -> bool {
        MORE_LATENCY * self.latency_first_ms <= self.latency_last_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lengths::Lengths;
    use crate::load::{Arrivals, Load};
    use crate::record::Status;
    use crate::record::tests::answered;

    /// 60 requests a tenth of a second apart at a server that answers one each `service_ms`.
    fn one_by_one(service_ms: u64) -> ArrivalTrend {
        let load = Load::Open { arrivals: Arrivals::Constant { rate: 10.0 }, requests: 60 };
        let plan =
            LevelPlan { load, lengths: Lengths { prompt_tokens: 5, output_tokens: 11 }.into() };
        let mut free = 0;
        let request = |n: u64| {
            let start = free.max(100 * n);
            free = start + service_ms;
            answered(n as u32, 0, [100 * n, start + 1, free])
        };
        let records: Vec<_> = (0..60).map(request).collect();
        ArrivalTrend::of(&plan, &records).expect("answers while requests came")
    }

    #[test]
    fn requests_pile_up_above_the_capacity_only() {
        let steady = one_by_one(90);
        assert!(!steady.piles_up() && !steady.slows_down(), "{steady:?}");
        let growing = one_by_one(150);
        assert!(growing.piles_up() && growing.slows_down(), "{growing:?}");
        assert!(growing.answered_per_second < 7.0 && 9.9 < growing.sent_per_second);
    }

    #[test]
    fn dropped_requests_were_not_sent() {
        let load = Load::Open { arrivals: Arrivals::Constant { rate: 10.0 }, requests: 60 };
        let lengths = Lengths { prompt_tokens: 5, output_tokens: 11 }.into();
        let request = |n: u64| {
            let mut record = answered(n as u32, 0, [100 * n, 100 * n + 1, 100 * n + 50]);
            if n % 2 == 1 {
                record.status = Status::Dropped;
            }
            record
        };
        let records: Vec<_> = (0..60).map(request).collect();
        let trend = ArrivalTrend::of(&LevelPlan { load, lengths }, &records).expect("answers");
        assert!((4.5..5.5).contains(&trend.sent_per_second), "{trend:?}");
    }

    #[test]
    fn a_closed_loop_has_no_trend() {
        let load = Load::closed(1, 60);
        let plan =
            LevelPlan { load, lengths: Lengths { prompt_tokens: 5, output_tokens: 11 }.into() };
        let records: Vec<_> = (0..60)
            .map(|n| answered(0, n, [100, 101, 102].map(|ms| ms * u64::from(n + 1))))
            .collect();
        assert_eq!(ArrivalTrend::of(&plan, &records), None);
    }
}
