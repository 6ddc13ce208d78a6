//! The levels of load of a run: those that are listed, or found on the way.

use serde::{Deserialize, Serialize};
use workload::distribution::Distribution;
use workload::load::{Arrivals, Load};
use workload::saturation::{Saturation, next_users};
use workload::summary::LevelSummary;

use crate::error::BenchError;

/// The levels of load of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub enum Loads {
    /// Users who wait for each answer before they send again.
    Closed {
        /// Numbers of users, one level after another.
        levels: Vec<u32>,
        /// Requests that each user of a level sends.
        requests_per_user: u32,
        /// Seconds from the end of an answer to the user's next request.
        think_time_s: Distribution,
    },
    /// The same, with twice the users at each level, from 1 until more of them bring nothing.
    Doubling {
        /// Most users that are tried.
        users_max: u32,
        /// Requests that each user of a level sends.
        requests_per_user: u32,
        /// Seconds from the end of an answer to the user's next request.
        think_time_s: Distribution,
    },
    /// Requests that are due by a schedule, whether or not earlier ones have been answered.
    Open {
        /// The schedules, one level after another.
        arrivals: Vec<Arrivals>,
        /// Where each level ends.
        extent: Extent,
        /// Most requests that may be on their way; what is due beyond is dropped and counted.
        max_connections: u32,
    },
}

/// Where a level of an open loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// After so many requests.
    Requests(u32),
    /// With the last request that is due within so many seconds.
    Seconds(f64),
}

/// Most users of a level and most connections: an address has about 28,000 ports to give.
pub const USERS_MAX: u32 = 16_384;

/// Most requests of a level: all of them are written before it begins.
const REQUESTS_MAX: u32 = 1_000_000;

/// Most requests per second: far beyond what one thread can send.
const RATE_MAX: f64 = 1e6;

impl Loads {
    /// Refuses what cannot be run; `seed` decides how many requests are due within a time.
    ///
    /// # Errors
    /// The option at fault, its value and its limits.
    pub fn check(&self, seed: u64) -> Result<(), BenchError> {
        match self {
            Loads::Closed { levels, requests_per_user, .. } => {
                check_users(levels, *requests_per_user)?;
            }
            Loads::Doubling { users_max, requests_per_user, .. } => {
                check_users(&[*users_max], *requests_per_user)?;
            }
            Loads::Open { arrivals, extent, max_connections } => {
                check_schedules(arrivals, *extent, *max_connections)?;
            }
        }
        (1..).zip(self.listed(seed)).try_for_each(|(number, load)| check_size(number, &load))
    }

    /// The level after `levels`, or why there is none: `None` at the end of those asked for.
    ///
    /// # Errors
    /// Why there is no level after them.
    pub fn next(&self, levels: &[LevelSummary], seed: u64) -> Result<Load, Option<Saturation>> {
        match self {
            Loads::Doubling { users_max, requests_per_user, think_time_s } => {
                let users = next_users(levels, *users_max).map_err(Some)?;
                Ok(closed(users, *requests_per_user, think_time_s))
            }
            Loads::Closed { .. } | Loads::Open { .. } => {
                self.listed(seed).into_iter().nth(levels.len()).ok_or(None)
            }
        }
    }

    /// Every level that is known before the run.
    pub fn listed(&self, seed: u64) -> Vec<Load> {
        match self {
            Loads::Doubling { .. } => Vec::new(),
            Loads::Closed { levels, requests_per_user, think_time_s } => {
                let load = |users: &u32| closed(*users, *requests_per_user, think_time_s);
                levels.iter().map(load).collect()
            }
            Loads::Open { arrivals, extent, .. } => {
                let load = |(number, arrivals): (u32, &Arrivals)| {
                    let arrivals = *arrivals;
                    let requests = match *extent {
                        Extent::Requests(requests) => requests,
                        Extent::Seconds(time_s) => {
                            arrivals.requests_within(time_s, seed, number).unwrap_or(0)
                        }
                    };
                    Load::Open { arrivals, requests }
                };
                (1..).zip(arrivals).map(load).collect()
            }
        }
    }
}

fn check_size(number: u32, load: &Load) -> Result<(), BenchError> {
    let requests = load.requests();
    if (1..=REQUESTS_MAX as usize).contains(&requests) {
        return Ok(());
    }
    let value = format!("{requests} requests for level {number}");
    let need = "a level has at least one request and at most 1000000";
    Err(setting("the load", value, need))
}

fn closed(users: u32, requests_per_user: u32, think_time_s: &Distribution) -> Load {
    Load::Closed { users, requests_per_user, think_time_s: think_time_s.clone() }
}

fn check_users(levels: &[u32], requests_per_user: u32) -> Result<(), BenchError> {
    if requests_per_user == 0 {
        return Err(setting("--requests-per-user", "0".to_owned(), "it must be at least 1"));
    }
    let possible = |users: &u32| (1..=USERS_MAX).contains(users);
    if levels.is_empty() || !levels.iter().all(possible) {
        let need = "name at least one number of users, each from 1 to 16384";
        return Err(setting("--levels", format!("{levels:?}"), need));
    }
    Ok(())
}

fn check_schedules(
    arrivals: &[Arrivals],
    extent: Extent,
    max_connections: u32,
) -> Result<(), BenchError> {
    for arrivals in arrivals {
        let (least, most) = match *arrivals {
            Arrivals::Constant { rate } | Arrivals::Poisson { rate } => (rate, rate),
            Arrivals::Ramp { from, to } if from + to == 0.0 => (-1.0, 0.0),
            Arrivals::Ramp { from, to } => (from.min(to), from.max(to)),
            Arrivals::Trace { speed, .. } => (speed, speed),
        };
        let is_ramp = matches!(arrivals, Arrivals::Ramp { .. });
        if !(0.0..=RATE_MAX).contains(&least) || RATE_MAX < most || (least == 0.0 && !is_ramp) {
            return Err(match arrivals {
                Arrivals::Trace { .. } => {
                    let need = "it must be more than 0 and at most 1000000";
                    setting("--trace-speed", format!("{least}"), need)
                }
                _ => {
                    let need = "requests per second are more than 0 and at most 1000000";
                    setting("--rate", format!("{least}"), need)
                }
            });
        }
    }
    if arrivals.is_empty() {
        return Err(setting("--rate", "empty".to_owned(), "name at least one rate"));
    }
    let possible = match extent {
        Extent::Requests(requests) => 0 < requests,
        Extent::Seconds(time_s) => time_s.is_finite() && 0.0 < time_s,
    };
    if !possible {
        let (name, value) = match extent {
            Extent::Requests(requests) => ("--requests", requests.to_string()),
            Extent::Seconds(time_s) => ("--duration", time_s.to_string()),
        };
        return Err(setting(name, value, "it must be more than 0"));
    }
    if !(1..=USERS_MAX).contains(&max_connections) {
        let need = "it must be from 1 to 16384";
        return Err(setting("--max-connections", max_connections.to_string(), need));
    }
    Ok(())
}

pub(crate) fn setting(setting: &'static str, value: String, need: &'static str) -> BenchError {
    BenchError::Setting { setting, value, need }
}
