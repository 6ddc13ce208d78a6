//! Who holds the places for running and waiting requests, and what each tenant's share of them is.

use std::collections::BTreeMap;

use crate::config::EngineConfig;
use crate::policy::{SchedulingPolicy, Tenant};
use crate::request::SubmitError;

/// The places that requests in flight hold. A tenant is known as long as it holds one.
#[derive(Debug)]
pub struct Places {
    capacity: u32,
    policy: SchedulingPolicy,
    taken: u32,
    holders: BTreeMap<u64, Holder>,
    /// The sum over all holders.
    weights: u64,
}

#[derive(Debug)]
struct Holder {
    weight: u32,
    places: u32,
}

impl Places {
    /// No place is taken.
    pub fn new(config: &EngineConfig) -> Self {
        Places {
            capacity: config.capacity(),
            policy: config.scheduling_policy,
            taken: 0,
            holders: BTreeMap::new(),
            weights: 0,
        }
    }

    /// Takes a place for a request of `tenant`, if there is one for it.
    ///
    /// Fewer places taken, by whomever, never make this refuse what it would have given.
    pub fn reserve(&mut self, tenant: Tenant) -> Result<(), SubmitError> {
        assert!(1 <= tenant.weight, "tenant {} has no weight", tenant.id);
        let limit = self.capacity;
        if limit <= self.taken {
            return Err(SubmitError::QueueFull { in_flight: self.taken, limit });
        }
        let (in_flight, limit) = (self.places(tenant.id), self.limit(tenant));
        if limit <= in_flight {
            return Err(SubmitError::ShareFull { in_flight, limit });
        }
        self.taken += 1;
        let holder = self.holders.entry(tenant.id).or_insert(Holder { weight: 0, places: 0 });
        holder.places += 1;
        self.weights = self.weights + u64::from(tenant.weight) - u64::from(holder.weight);
        holder.weight = tenant.weight;
        Ok(())
    }

    /// Gives back a place of the tenant with this id. Whether it holds none any more.
    pub fn release(&mut self, tenant_id: u64) -> bool {
        let holder = self.holders.get_mut(&tenant_id).expect("who gives a place back holds it");
        self.taken -= 1;
        holder.places -= 1;
        let is_last = holder.places == 0;
        if is_last {
            self.weights -= u64::from(holder.weight);
            self.holders.remove(&tenant_id);
        }
        is_last
    }

    /// Places taken.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// The tenants that hold places.
    pub fn tenant_ids(&self) -> impl Iterator<Item = u64> {
        self.holders.keys().copied()
    }

    /// The weight of a tenant that holds a place.
    pub fn weight(&self, tenant_id: u64) -> u64 {
        u64::from(self.holders[&tenant_id].weight)
    }

    /// A holder's share of `total`, rounded down. The shares of all holders are at most `total`.
    pub fn share(&self, tenant_id: u64, total: usize) -> usize {
        (total as u64 * self.weight(tenant_id) / self.weights) as usize
    }

    fn places(&self, tenant_id: u64) -> u32 {
        self.holders.get(&tenant_id).map_or(0, |holder| holder.places)
    }

    /// Most places that `tenant` may hold now. Under `Fair` it leaves what would be the share of one
    /// more tenant of weight 1, so that whoever comes finds a place.
    fn limit(&self, tenant: Tenant) -> u32 {
        if self.policy != SchedulingPolicy::Fair {
            return self.capacity;
        }
        let weight = u64::from(tenant.weight);
        let others = self.weights - self.holders.get(&tenant.id).map_or(0, |h| u64::from(h.weight));
        let share = u64::from(self.capacity) * weight / (others + weight + 1);
        u32::try_from(share).expect("a part of a u32").max(1)
    }
}

#[cfg(test)]
mod tests;
