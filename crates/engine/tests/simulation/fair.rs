//! What must hold of each step where tenants share.

use std::collections::{BTreeMap, BTreeSet};

use engine::{RequestId, SchedulingPolicy, Snapshot, SubmitError, Tenant};

use crate::device::SeenRow;
use crate::model::{Model, count_mixtures};
use crate::sometimes::Sometimes;

/// As often a sequence gives way to other tenants.
const YIELDS_MAX: u64 = 3;
/// Most positions for which a sequence asks for blocks at once, beside a decode's.
const PORTION: usize = 64;

impl Model {
    /// Checks the rows of a step against what is promised and follows them. `queues` are those of
    /// the engine after the step; `waited` waited before it.
    pub fn step_fairly(
        &mut self,
        rows: &[SeenRow],
        queues: &[Vec<RequestId>; 2],
        snapshots: [&Snapshot; 2],
        sometimes: &mut Sometimes,
    ) {
        self.count_beginnings(rows, sometimes);
        let [before, after] = snapshots;
        let has_preempted = before.preemptions_total < after.preemptions_total;
        self.forget_who_lost_blocks(rows, queues, has_preempted);
        self.check_decodes_go_on(rows, &queues[0]);
        let waited: Vec<RequestId> = self.waiting.iter().copied().collect();
        for row in rows {
            self.follow(row, sometimes);
        }
        self.check_order_within_tenants(sometimes);
        self.check_budget(rows);
        for (row, most) in rows.iter().zip(self.draft_rooms(rows, usize::MAX >> 1)) {
            assert!(row.draft_max <= most, "{:?} may draft {} of {most}", row.id, row.draft_max);
        }
        count_mixtures(rows, &self.config, sometimes);
        self.count_windows(rows, sometimes);
        self.count_tenants(rows, sometimes);
        if has_preempted {
            sometimes.happened("fair: preempted");
        }
        let ended = |id: &&RequestId| !queues.iter().any(|queue| queue.contains(id));
        let all: BTreeSet<_> = self.running.iter().chain(&self.waiting).collect();
        let gone: BTreeSet<_> = all.iter().copied().filter(ended).copied().collect();
        let held: BTreeSet<_> = rows.iter().flat_map(SeenRow::held).collect();
        let settled = after.preemptions_total < YIELDS_MAX
            && self.clients.len() as u32 <= 8 * self.config.capacity();
        if settled && held.len() * 4 < self.config.block_count as usize {
            self.check_nobody_within_its_share_waits(&waited, queues, sometimes);
        }
        // Those that have ended are told of later; until then they count as running.
        self.running = queues[0].iter().copied().chain(gone).collect();
        self.waiting = queues[1].iter().copied().collect();
    }

    fn follow(&mut self, row: &SeenRow, sometimes: &mut Sometimes) {
        self.computed_tokens += row.compute.len() as u64;
        let block_size = self.config.block_size as usize;
        let was_running = self.running.contains(&row.id);
        let client = self.client_mut(row.id);
        assert!(!client.cancelled, "{:?} is computed although it was cancelled", row.id);
        assert_eq!(row.tokens, client.known, "{:?} forgot or made up tokens", row.id);
        let goes_on = was_running && row.compute.start == client.computed;
        let begins = row.compute.start.is_multiple_of(block_size);
        assert!(goes_on || begins, "{:?} computes something else", row.id);
        if !goes_on && 0 < row.compute.start && client.scheduled {
            sometimes.happened("fair: hit on the way back");
        }
        client.computed = row.compute.end;
        client.computed_is_kept = true;
        client.scheduled = true;
    }

    /// Nobody is first scheduled after a later request of its tenant.
    fn check_order_within_tenants(&self, sometimes: &mut Sometimes) {
        let mut unscheduled = BTreeSet::new();
        let mut passed = false;
        for client in self.clients.iter().filter(|client| !client.ended) {
            let id = client.request.tenant.id;
            if client.scheduled {
                assert!(!unscheduled.contains(&id), "a later request of tenant {id} overtook");
                passed |= !unscheduled.is_empty();
            } else {
                unscheduled.insert(id);
            }
        }
        if passed {
            sometimes.happened("fair: a tenant's request goes before an earlier one of another");
        }
    }

    fn count_tenants(&self, rows: &[SeenRow], sometimes: &mut Sometimes) {
        let mut rows_of: BTreeMap<u64, u64> = BTreeMap::new();
        for row in rows {
            *rows_of.entry(self.client(row.id).request.tenant.id).or_default() += 1;
        }
        if rows_of.len() == 3 {
            sometimes.happened("fair: rows of three tenants");
        }
        let waits = |id| self.waiting.iter().any(|&w| self.client(w).request.tenant.id == id);
        let (mut heavy, mut light) = (0, u64::MAX);
        for (id, rows) in rows_of {
            if waits(id) && self.weights[&id] == 1 {
                light = light.min(rows);
            } else if waits(id) {
                heavy = heavy.max(rows);
            }
        }
        if light < heavy {
            sometimes.happened("fair: of two that want more, the one of more weight runs more");
        }
    }

    /// Those who wait have nothing computed. Nor, perhaps, has who lost its blocks in this step and came
    /// back in it, but does not take part.
    fn forget_who_lost_blocks(
        &mut self,
        rows: &[SeenRow],
        [running, waiting]: &[Vec<RequestId>; 2],
        has_preempted: bool,
    ) {
        let takes_part = |id: RequestId| rows.iter().any(|row| row.id == id);
        let back = running.iter().filter(|&&id| has_preempted && !takes_part(id));
        for &id in waiting.iter().chain(back) {
            self.client_mut(id).computed_is_kept = false;
        }
    }

    /// Whoever has its prompt computed and keeps its blocks advances by all that it lacks, whatever else
    /// is there to do.
    fn check_decodes_go_on(&self, rows: &[SeenRow], running: &[RequestId]) {
        let lacks = |id: RequestId| {
            let client = self.client(id);
            let decodes = client.computed_is_kept && client.request.prompt.len() <= client.computed;
            if decodes { client.known.len() - client.computed } else { 0 }
        };
        let begins = |row: &&SeenRow| {
            let client = self.client(row.id);
            !client.computed_is_kept || row.compute.start != client.computed
        };
        let beginnings: usize = rows.iter().filter(begins).map(|row| row.compute.len()).sum();
        let decodes: usize = self.running.iter().map(|&id| lacks(id)).sum();
        if self.config.max_num_batched_tokens as usize <= decodes + beginnings {
            return;
        }
        for &id in self.running.iter().filter(|&&id| 0 < lacks(id)) {
            let row = rows.iter().find(|row| row.id == id);
            let is_back = row.is_some_and(|row| begins(&row));
            // If the device failed, nobody runs.
            let is_gone = row.is_none() && !running.contains(&id);
            if is_back || is_gone {
                continue;
            }
            let advance = row.map_or(0, |row| row.compute.len());
            assert_eq!(advance, lacks(id), "{id:?} stands still in the middle of its answer");
        }
    }

    /// The budget is kept to, and used up unless there is no work or no block.
    fn check_budget(&self, rows: &[SeenRow]) {
        let budget = self.config.max_num_batched_tokens as usize;
        let positions: usize = rows.iter().map(|row| row.compute.len()).sum();
        assert!(positions <= budget, "{positions} positions exceed the budget of {budget}");
        let held: BTreeSet<_> = rows.iter().flat_map(SeenRow::held).collect();
        let free = self.config.block_count as usize - held.len();
        let portion = PORTION.div_ceil(self.config.block_size as usize);
        if positions < budget && portion * self.config.kv_groups.count() < free {
            for row in rows {
                let whole = row.compute.end == row.tokens.len();
                assert!(whole, "{:?} stands still although there are budget and blocks", row.id);
            }
        }
    }

    /// A tenant of which nothing runs does not wait for a place within its share while another has
    /// all, where blocks are plenty.
    fn check_nobody_within_its_share_waits(
        &self,
        waited: &[RequestId],
        [running, waiting]: &[Vec<RequestId>; 2],
        sometimes: &mut Sometimes,
    ) {
        let tenant = |id: RequestId| self.client(id).request.tenant.id;
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        running.iter().for_each(|&id| *counts.entry(tenant(id)).or_default() += 1);
        let [only] = counts.keys().copied().collect::<Vec<_>>()[..] else { return };
        let places = self.config.max_num_seqs as usize;
        if counts[&only] < places {
            return;
        }
        let weights = self.weights();
        let all: u64 = weights.values().sum();
        for &id in waiting.iter().filter(|&&id| waited.contains(&id) && tenant(id) != only) {
            let known = self.client(id).known.len();
            if self.blocks_of(known) * 8 < self.config.block_count as usize {
                let share = places as u64 * weights[&tenant(id)] / all;
                assert!(share == 0, "{id:?} waits although all {places} places are another's");
                sometimes.happened("fair: a share of less than one place");
            }
        }
    }

    /// Why a request of `tenant` is refused although there is a place.
    pub fn share_refusal(&self, tenant: Tenant) -> Option<SubmitError> {
        if self.config.scheduling_policy != SchedulingPolicy::Fair {
            return None;
        }
        let live = self.clients.iter().filter(|client| !client.ended);
        let in_flight = live.filter(|client| client.request.tenant.id == tenant.id).count() as u32;
        let others = self.weights().into_iter().filter(|&(id, _)| id != tenant.id);
        let others: u64 = others.map(|(_, weight)| weight).sum();
        let weight = u64::from(tenant.weight);
        let limit = u64::from(self.config.capacity()) * weight / (others + weight + 1);
        let limit = (limit as u32).max(1);
        (limit <= in_flight).then_some(SubmitError::ShareFull { in_flight, limit })
    }

    /// The weight of each tenant in flight: that of its last request, ended or not.
    fn weights(&self) -> BTreeMap<u64, u64> {
        let live = self.clients.iter().filter(|client| !client.ended);
        let ids = live.map(|client| client.request.tenant.id);
        ids.map(|id| (id, self.weights[&id])).collect()
    }
}
