//! How a level is loaded: by users who wait for their answers, or by a schedule that does not.

use serde::{Deserialize, Serialize};

use crate::lengths::Lengths;

/// How the requests of a level come about.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub enum Load {
    /// Closed loop: each user sends its next request when the last one has been answered.
    Closed {
        /// Users who send at the same time, all beginning together.
        users: u32,
        /// Requests that each of them sends.
        requests_per_user: u32,
    },
    /// Open loop: requests are due by a schedule, whether or not earlier ones have been answered.
    Open {
        /// The schedule.
        arrivals: Arrivals,
        /// Requests in all.
        requests: u32,
    },
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
}

/// What a level was meant to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelPlan {
    /// How its requests come about.
    pub load: Load,
    /// Lengths of every request.
    pub lengths: Lengths,
}

impl LevelPlan {
    /// Requests of the whole level.
    pub fn requests(&self) -> usize {
        match self.load {
            Load::Closed { users, requests_per_user } => {
                users as usize * requests_per_user as usize
            }
            Load::Open { requests, .. } => requests as usize,
        }
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
