//! Who goes first when not everybody can.

use std::fmt;
use std::str::FromStr;

/// The order in which requests are served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SchedulingPolicy {
    /// First come, first served. Nobody starves.
    #[default]
    Fcfs,
    /// Requests with a lower `priority` first, then first come, first served. Whoever has a higher
    /// number waits for as long as others with lower ones come.
    Priority,
}

/// A name that is not a policy's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a scheduling policy; give one of {names}", names = NAMES.map(|(name, _)| name).join(", "))]
pub struct UnknownPolicy(pub String);

/// The policies and what they are called.
const NAMES: [(&str, SchedulingPolicy); 2] =
    [("fcfs", SchedulingPolicy::Fcfs), ("priority", SchedulingPolicy::Priority)];

impl FromStr for SchedulingPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let named = NAMES.iter().find(|(name, _)| *name == text);
        named.map(|&(_, policy)| policy).ok_or_else(|| UnknownPolicy(text.to_owned()))
    }
}

impl fmt::Display for SchedulingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMES.iter().find(|(_, policy)| policy == self);
        f.write_str(named.expect("every policy is named").0)
    }
}

/// A request's place in the order in which requests are served: the least is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// That of the request under [`SchedulingPolicy::Priority`], else 0.
    priority: i32,
    /// Its place in the order of arrivals, from 0.
    arrival: u64,
}

impl SchedulingPolicy {
    /// The rank of a request with this `priority` that arrived as number `arrival`.
    pub fn rank(self, priority: i32, arrival: u64) -> Rank {
        match self {
            SchedulingPolicy::Fcfs => Rank { priority: 0, arrival },
            SchedulingPolicy::Priority => Rank { priority, arrival },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_found_under_its_name() {
        for (name, policy) in NAMES {
            assert_eq!((name.parse(), policy.to_string()), (Ok(policy), name.to_owned()));
        }
        let unknown = "lifo".parse::<SchedulingPolicy>().unwrap_err();
        assert!(unknown.to_string().starts_with("`lifo` is not a scheduling policy; give one of"));
    }
}
