//! Little's law, `L = lambda W`: a check that needs no model of the server.
//!
//! The mean number of requests on their way is the rate of their arrivals times their mean time.
//! Within the client's own stamps it holds if the level was steady; and the server's gauges count
//! the same requests from the other side.

use serde::{Deserialize, Serialize};

use crate::gauges::GaugeSample;
use crate::load::LevelPlan;
use crate::record::{RequestRecord, milliseconds};
use crate::streams::{Window, mean_in_flight};

/// Both sides of the law over [`Window::steady`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Little {
    /// Requests on their way at a time by the client's stamps: L.
    pub in_flight: f64,
    /// Requests that ran or waited at a time by the server's gauges, if it has them.
    pub in_flight_by_gauges: Option<f64>,
    /// Requests sent in the window, per second: lambda.
    pub requests_per_second: f64,
    /// Their mean time from the first byte sent to the answer's end, seconds: W.
    pub mean_time_s: f64,
    /// `|L - lambda W| / L`.
    pub residual: f64,
}

/// Requests that must be sent in the window for each one on its way: at the window's edges the law
/// counts time of requests that were sent outside.
const LEAST: f64 = 3.0;
/// Readings below which the gauges say nothing about a mean.
const READINGS: usize = 10;

impl Little {
    /// Both sides of the law. `None` without a steady part, or with too few requests sent in it.
    pub fn of(
        plan: &LevelPlan,
        records: &[RequestRecord],
        samples: &[GaugeSample],
    ) -> Option<Little> {
        let window = Window::steady(plan, records)?;
        let is_sent =
            |record: &&RequestRecord| record.was_sent() && window.contains(record.sent_ns);
        let sent: Vec<_> = records.iter().filter(is_sent).collect();
        let in_flight = mean_in_flight(records, window);
        if sent.is_empty() || (sent.len() as f64) < LEAST * in_flight {
            return None;
        }
        let time_ms: f64 = sent.iter().map(|r| milliseconds(r.sent_ns, r.done_ns)).sum();
        let mean_time_s = time_ms / 1000.0 / sent.len() as f64;
        let requests_per_second = sent.len() as f64 / window.seconds();
        Some(Little {
            in_flight,
            in_flight_by_gauges: by_gauges(samples, window),
            requests_per_second,
            mean_time_s,
            residual: (in_flight - requests_per_second * mean_time_s).abs() / in_flight,
        })
    }
}

fn by_gauges(samples: &[GaugeSample], window: Window) -> Option<f64> {
    let inside = samples.iter().filter(|sample| window.contains(sample.at_ns));
    let open: Vec<f64> =
        inside.map(|sample| f64::from(sample.running) + f64::from(sample.waiting)).collect();
    (READINGS <= open.len()).then(|| open.iter().sum::<f64>() / open.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lengths::{LengthLaws, Lengths};
    use crate::load::{Arrivals, Load};
    use crate::record::tests::answered;
    use crate::streams::tests::capped;

    const LENGTHS: LengthLaws = LengthLaws::fixed(Lengths { prompt_tokens: 5, output_tokens: 11 });

    #[test]
    fn it_holds_for_a_closed_loop_at_a_cap() {
        let load = Load::closed(64, 20);
        let plan = LevelPlan { load, lengths: LENGTHS };
        let sample = |n: u64| GaugeSample {
            at_ns: 10_000_000 * n,
            running: 50,
            waiting: 14,
            kv_usage: None,
            preemptions: None,
        };
        let samples: Vec<_> = (0..200).map(sample).collect();
        let little = Little::of(&plan, &capped(64, 20, 50), &samples).expect("enough requests");
        assert!(little.residual < 0.02, "{little:?}");
        assert_eq!(little.in_flight_by_gauges, Some(64.0));
        assert!((63.0..=64.0).contains(&little.in_flight), "{little:?}");
        let few = Little::of(&plan, &capped(64, 20, 50), &samples[..9]).expect("enough requests");
        assert_eq!(few.in_flight_by_gauges, None);
    }

    #[test]
    fn it_breaks_where_requests_pile_up() {
        let load = Load::Open { arrivals: Arrivals::Constant { rate: 100.0 }, requests: 100 };
        let plan = LevelPlan { load, lengths: LENGTHS };
        let request =
            |n: u64| answered(n as u32, 0, [10 * n, 10 * n + 20 + 5 * n, 11 * (n + 2) + 5 * n]);
        let records: Vec<_> = (0..100).map(request).collect();
        let little = Little::of(&plan, &records, &[]).expect("enough requests");
        assert!(0.05 < little.residual, "{little:?}");
    }

    #[test]
    fn few_requests_prove_nothing() {
        let load = Load::closed(2, 2);
        let plan = LevelPlan { load, lengths: LENGTHS };
        let of_user = |user| {
            (0..2).map(move |n| answered(user, n as u32, [100 * n, 100 * n + 1, 100 * n + 100]))
        };
        let records: Vec<_> = (0..2).flat_map(of_user).collect();
        assert_eq!(Little::of(&plan, &records, &[]), None);
    }
}
