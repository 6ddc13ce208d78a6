//! What a level is called.

use serde::{Deserialize, Serialize};

use crate::load::{Arrivals, LevelPlan, Load};

/// What tells a level from the others of its run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelName {
    /// The number of users of a closed loop.
    Users(u32),
    /// The schedule of an open one.
    Schedule(Arrivals),
}

impl LevelName {
    /// The name of a level.
    pub fn of(plan: &LevelPlan) -> LevelName {
        match plan.load {
            Load::Closed { users, .. } => LevelName::Users(users),
            Load::Open { arrivals, .. } => LevelName::Schedule(arrivals),
        }
    }
}
