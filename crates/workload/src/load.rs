//! How a level is loaded: by users who wait for their answers, or by a schedule that does not.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;
use crate::lengths::LengthLaws;
use crate::random::{Purpose, RequestKey};

/// How the requests of a level come about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub enum Load {
    /// Closed loop: each user sends its next request when the last one has been answered.
    Closed {
        /// Users who send at the same time, all beginning together.
        users: u32,
        /// Requests that each of them sends.
        requests_per_user: u32,
        /// Seconds from the end of an answer to the user's next request.
        #[serde(default = "no_time")]
        think_time_s: Distribution,
    },
    /// Open loop: requests are due by a schedule, whether or not earlier ones have been answered.
    Open {
        /// The schedule.
        arrivals: Arrivals,
        /// Requests in all.
        requests: u32,
    },
}

/// Times that users may think, in seconds.
pub const THINK_TIME_LIMITS: RangeInclusive<f64> = 0.0..=3600.0;

fn no_time() -> Distribution {
    Distribution::fixed(0.0)
}

impl Load {
    /// `users` who each send `requests_per_user` requests and do not think in between.
    pub const fn closed(users: u32, requests_per_user: u32) -> Load {
        Load::Closed { users, requests_per_user, think_time_s: Distribution::fixed(0.0) }
    }

    /// Requests in all.
    pub fn requests(&self) -> usize {
        match self {
            Load::Closed { users, requests_per_user, .. } => {
                *users as usize * *requests_per_user as usize
            }
            Load::Open { requests, .. } => *requests as usize,
        }
    }

    /// How long after the end of the user's answer before it the request `key` is due: nothing
    /// before a first request and in an open loop.
    pub fn think_time_ns(&self, key: RequestKey) -> u64 {
        match self {
            Load::Closed { think_time_s, .. } if 0 < key.request => {
                nanoseconds(think_time_s.draw(&mut key.random(Purpose::ThinkTime)))
            }
            Load::Closed { .. } | Load::Open { .. } => 0,
        }
    }
}

/// A schedule of requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "arrivals", rename_all = "snake_case")]
pub enum Arrivals {
    /// One after another at equal distances.
    Constant {
        /// Requests per second.
        rate: f64,
    },
    /// At random, independent of one another: exponential distances.
    Poisson {
        /// Requests per second, averaged.
        rate: f64,
    },
    /// At a rate that changes evenly with time.
    Ramp {
        /// Requests per second at the beginning.
        from: f64,
        /// Requests per second at the end.
        to: f64,
    },
    /// When a recorded trace says, which brings its own times.
    Trace {
        /// From the trace's first request to its last as they are replayed, seconds.
        span_s: f64,
        /// How many times faster than recorded.
        speed: f64,
    },
}

impl Arrivals {
    /// When each of `requests` requests is due, nanoseconds after the level's beginning, ascending.
    ///
    /// The same `seed` and `level` give the same times. `None` for a trace, which has its own.
    pub fn schedule_ns(self, requests: u32, seed: u64, level: u32) -> Option<Vec<u64>> {
        let count = f64::from(requests);
        let times: Vec<f64> = match self {
            Arrivals::Constant { rate } => {
                (0..requests).map(|index| f64::from(index) / rate).collect()
            }
            Arrivals::Poisson { rate } => {
                poisson_s(rate, seed, level).take(requests as usize).collect()
            }
            Arrivals::Ramp { from, to } => {
                let time_s = 2.0 * count / (from + to);
                (0..requests).map(|index| ramp_s(from, to, time_s, f64::from(index))).collect()
            }
            Arrivals::Trace { .. } => return None,
        };
        Some(times.into_iter().map(nanoseconds).collect())
    }

    /// How many requests are due in the first `time_s` seconds; those of [`Arrivals::schedule_ns`]
    /// with the same `seed` and `level`. `None` for a trace.
    pub fn requests_within(self, time_s: f64, seed: u64, level: u32) -> Option<u32> {
        let requests = match self {
            Arrivals::Constant { rate } => (time_s * rate).ceil(),
            Arrivals::Poisson { rate } => {
                poisson_s(rate, seed, level).take_while(|at_s| *at_s < time_s).count() as f64
            }
            Arrivals::Ramp { from, to } => (time_s * (from + to) / 2.0).ceil(),
            Arrivals::Trace { .. } => return None,
        };
        Some(requests as u32)
    }
}

/// The times of a Poisson process, seconds.
fn poisson_s(rate: f64, seed: u64, level: u32) -> impl Iterator<Item = f64> {
    let mut random = RequestKey { seed, level, user: 0, request: 0 }.random(Purpose::Arrivals);
    let mut at_s = 0.0;
    std::iter::repeat_with(move || {
        at_s += random.exponential() / rate;
        at_s
    })
}

/// When the integral of a rate that goes from `from` to `to` in `time_s` seconds reaches `index`.
///
/// The root of `from·t + (to - from)·t²/(2·time) = index`, written so that nothing cancels.
fn ramp_s(from: f64, to: f64, time_s: f64, index: f64) -> f64 {
    let growth = (to - from) / time_s;
    let root = (from * from + 2.0 * growth * index).max(0.0).sqrt();
    if index == 0.0 { 0.0 } else { 2.0 * index / (from + root) }
}

/// Whole nanoseconds of `seconds`, at least 0.
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

/// What a level was meant to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelPlan {
    /// How its requests come about.
    pub load: Load,
    /// How long they are.
    pub lengths: LengthLaws,
}

impl LevelPlan {
    /// Requests of the whole level.
    pub fn requests(&self) -> usize {
        self.load.requests()
    }

    /// Users of a closed loop; an open one has none.
    pub fn users(&self) -> Option<u32> {
        match self.load {
            Load::Closed { users, .. } => Some(users),
            Load::Open { .. } => None,
        }
    }

    /// The schedule of an open loop; a closed one has none.
    pub fn arrivals(&self) -> Option<Arrivals> {
        match self.load {
            Load::Closed { .. } => None,
            Load::Open { arrivals, .. } => Some(arrivals),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(arrivals: Arrivals, requests: u32) -> Vec<u64> {
        arrivals.schedule_ns(requests, 5, 1).expect("it is no trace")
    }

    fn is_ascending(times: &[u64]) -> bool {
        times.windows(2).all(|pair| pair[0] <= pair[1])
    }

    #[test]
    fn constant_arrivals_have_equal_distances() {
        let times = schedule(Arrivals::Constant { rate: 4.0 }, 4);
        assert_eq!(times, [0, 250_000_000, 500_000_000, 750_000_000]);
    }

    #[test]
    fn poisson_arrivals_have_exponential_distances() {
        let arrivals = Arrivals::Poisson { rate: 10.0 };
        let times = schedule(arrivals, 5000);
        assert!(is_ascending(&times));
        let distances: Vec<f64> =
            times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9).collect();
        let mean = distances.iter().sum::<f64>() / distances.len() as f64;
        assert!((0.095..0.105).contains(&mean), "{mean}");
        let short = distances.iter().filter(|distance| **distance < 0.1).count() as f64 / 4999.0;
        assert!((0.60..0.66).contains(&short), "1 - 1/e is shorter than the mean: {short}");
        assert_eq!(times, schedule(arrivals, 5000));
        assert_ne!(times, arrivals.schedule_ns(5000, 6, 1).expect("it is no trace"));
        assert_ne!(times, arrivals.schedule_ns(5000, 5, 2).expect("it is no trace"));
    }

    #[test]
    fn a_ramp_has_its_rates_at_both_ends() {
        for (from, to) in [(10.0, 50.0), (50.0, 10.0), (0.0, 60.0), (60.0, 0.0), (30.0, 30.0)] {
            let times = schedule(Arrivals::Ramp { from, to }, 3000);
            assert!(is_ascending(&times));
            let within = |start_s: f64, end_s: f64| {
                let span = nanoseconds(start_s)..nanoseconds(end_s);
                times.iter().filter(|at| span.contains(at)).count() as f64
            };
            // 3,000 requests at 30 a second on average take 100 s.
            assert!((within(0.0, 10.0) / 10.0 - (0.95 * from + 0.05 * to)).abs() < 0.6, "{from}");
            assert!((within(90.0, 100.1) / 10.0 - (0.05 * from + 0.95 * to)).abs() < 0.6, "{from}");
        }
    }

    #[test]
    fn requests_within_a_time_are_those_of_the_schedule() {
        for arrivals in [
            Arrivals::Constant { rate: 7.0 },
            Arrivals::Poisson { rate: 7.0 },
            Arrivals::Ramp { from: 1.0, to: 13.0 },
        ] {
            let requests = arrivals.requests_within(20.0, 5, 1).expect("it is no trace");
            assert!((100..180).contains(&requests), "{arrivals:?}: {requests}");
            let times = schedule(arrivals, requests);
            assert!(times.last().is_some_and(|last| *last < 20_000_000_000), "{arrivals:?}");
        }
    }

    #[test]
    fn users_think_before_all_requests_but_the_first() {
        let think_time_s = Distribution::Uniform { min: 1.0, max: 2.0 };
        let load = Load::Closed { users: 2, requests_per_user: 3, think_time_s };
        let key = RequestKey { seed: 1, level: 1, user: 1, request: 0 };
        assert_eq!(load.think_time_ns(key), 0);
        let later = [1, 2].map(|request| load.think_time_ns(RequestKey { request, ..key }));
        assert!(later.iter().all(|ns| (1_000_000_000..=2_000_000_000).contains(ns)), "{later:?}");
        assert_ne!(later[0], later[1]);
        assert_eq!(Load::closed(2, 3).think_time_ns(RequestKey { request: 1, ..key }), 0);
    }
}
