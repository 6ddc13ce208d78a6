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
    /// Each tenant gets its share of places, blocks and positions; within a tenant first come, first
    /// served. Nobody starves.
    Fair,
}

/// Whom a request is for. Only [`SchedulingPolicy::Fair`] looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenant {
    /// Requests with the same id share.
    pub id: u64,
    /// The share relative to that of others; at least 1. Of requests with the same id the last counts.
    pub weight: u32,
}

impl Tenant {
    /// The tenant with this name at weight 1; no name is the default one. Names are no secrets: that
    /// two can be found which are one tenant is no worse than that anyone may give either.
    pub fn named(name: &[u8]) -> Self {
        if name.is_empty() {
            return Tenant::default();
        }
        // FNV-1a, 64 bits.
        let fold =
            |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Tenant { id: name.iter().fold(0xcbf2_9ce4_8422_2325, fold), weight: 1 }
    }
}

impl Default for Tenant {
    /// The one tenant where there is no other.
    fn default() -> Self {
        Tenant { id: 0, weight: 1 }
    }
}

/// A name that is not a policy's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a scheduling policy; give one of {names}", names = NAMES.map(|(name, _)| name).join(", "))]
pub struct UnknownPolicy(pub String);

/// The policies and what they are called.
const NAMES: [(&str, SchedulingPolicy); 3] = [
    ("fcfs", SchedulingPolicy::Fcfs),
    ("priority", SchedulingPolicy::Priority),
    ("fair", SchedulingPolicy::Fair),
];

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

impl Rank {
    /// How many requests arrived since `earlier` did.
    pub fn arrivals_after(self, earlier: Rank) -> u64 {
        self.arrival - earlier.arrival
    }
}

impl SchedulingPolicy {
    /// The rank of a request with this `priority` that arrived as number `arrival`.
    pub fn rank(self, priority: i32, arrival: u64) -> Rank {
        match self {
            SchedulingPolicy::Fcfs | SchedulingPolicy::Fair => Rank { priority: 0, arrival },
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

    #[test]
    fn tenants_are_told_apart_by_the_hash_of_their_names() {
        assert_eq!(Tenant::named(b""), Tenant::default());
        // From the list of test vectors of the hash's authors.
        assert_eq!(Tenant::named(b"a"), Tenant { id: 0xaf63_dc4c_8601_ec8c, weight: 1 });
        assert_eq!(Tenant::named(b"foobar"), Tenant { id: 0x8594_4171_f739_67e8, weight: 1 });
    }
}
