//! Who computes what in the next step: token budget, chunking, admission, preemption.
//!
//! The rules are those of vLLM V1. Running sequences come first, in order of rank; when blocks run
//! out, the last running one is preempted and later computed again. Then, if nothing was preempted,
//! waiting ones are admitted, in order of rank, as long as the head's known tokens all fit into free
//! blocks; nobody overtakes a head that does not fit. The rank is the arrival or, under
//! [`SchedulingPolicy::Priority`], the request's priority and then its arrival.
//!
//! The first running sequence is never preempted, since all blocks are free when it runs alone and
//! `Limits::check` let in only what fits then. So it advances in every step, and nobody starves
//! whom no better rank overtakes for ever.
//!
//! [`SchedulingPolicy::Fair`] has rules of its own: `fair`.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::clock::Nanos;
use crate::config::EngineConfig;
use crate::ids::RequestId;
use crate::kv::{CachedPrefix, KvCache};
use crate::places::Places;
use crate::policy::{Rank, SchedulingPolicy, Tenant};
use crate::request::SubmitError;
use crate::sequence::Sequence;
use crate::step::{Row, StepPlan};

mod drafts;
mod fair;

/// The sequences and their blocks.
pub struct Scheduler<P> {
    config: EngineConfig,
    kv: KvCache,
    /// In order of rank during a step: [`Scheduler::plan`] sorts it.
    running: Vec<Sequence<P>>,
    /// Always in order of rank.
    waiting: VecDeque<Sequence<P>>,
    /// The rank of the last arrival.
    newest: Option<Rank>,
    places: Places,
    /// What each tenant was served, in virtual time; kept under `Fair` alone.
    served: BTreeMap<u64, u64>,
    totals: SchedulerTotals,
}

/// What the scheduler counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedulerTotals {
    pub preemptions: u64,
    pub prefix_queries: u64,
    pub prefix_hits: u64,
}

impl SchedulerTotals {
    /// Lets a sequence begin with so many cached positions, and counts them the first time.
    fn count_beginning<P>(&mut self, sequence: &mut Sequence<P>, cached: usize, now: Nanos) {
        if sequence.begin(cached, now) && sequence.use_prefix_cache {
            self.prefix_queries += sequence.tokens.len() as u64;
            self.prefix_hits += cached as u64;
        }
    }
}

/// A row of the next step, before it borrows from its sequence.
#[derive(Debug)]
pub struct PlannedRow {
    /// Which running sequence.
    pub index: usize,
    /// Positions to compute.
    pub compute: Range<usize>,
    /// Most tokens of its draft.
    pub draft_max: usize,
}

impl PlannedRow {
    /// A row without a draft.
    fn new(index: usize, compute: Range<usize>) -> Self {
        PlannedRow { index, compute, draft_max: 0 }
    }
}

impl<P> Scheduler<P> {
    /// No sequences; all blocks free. `hash_mask`: see `PrefixCache::with_hash_mask`.
    pub fn new(config: EngineConfig, hash_mask: u64) -> Self {
        Scheduler {
            kv: KvCache::new(&config, hash_mask),
            newest: None,
            places: Places::new(&config),
            served: BTreeMap::new(),
            config,
            running: Vec::new(),
            waiting: VecDeque::new(),
            totals: SchedulerTotals::default(),
        }
    }

    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    pub fn kv(&self) -> &KvCache {
        &self.kv
    }

    pub fn totals(&self) -> SchedulerTotals {
        self.totals
    }

    pub fn running_count(&self) -> usize {
        self.running.len()
    }

    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a place for a request of `tenant`, which must be enqueued then, or says why not.
    pub fn reserve(&mut self, tenant: Tenant) -> Result<(), SubmitError> {
        self.places.reserve(tenant)
    }

    /// Forgets a sequence that has ended.
    fn leave(&mut self, tenant_id: u64) {
        if self.places.release(tenant_id) {
            self.served.remove(&tenant_id);
        }
    }

    /// Puts a sequence into the queue, behind those of better rank.
    pub fn enqueue(&mut self, sequence: Sequence<P>) {
        self.newest = self.newest.max(Some(sequence.rank));
        let place = self.waiting.binary_search_by_key(&sequence.rank, |waiting| waiting.rank);
        self.waiting.insert(place.expect_err("no two have one rank"), sequence);
    }

    /// Chooses the rows of the next step and gives their sequences the blocks that they need.
    ///
    /// There is a sequence, and at least one row. Cost: the running sequences, and for each
    /// admission, or the head that does not fit, the blocks of its known tokens.
    pub fn plan(&mut self, now: Nanos) -> Vec<PlannedRow> {
        let mut rows = match self.config.scheduling_policy {
            SchedulingPolicy::Fair => self.plan_fairly(now),
            SchedulingPolicy::Fcfs | SchedulingPolicy::Priority => self.plan_in_order(now),
        };
        self.make_room_for_drafts(&mut rows);
        assert!(!rows.is_empty(), "there are sequences, but none of them can advance");
        rows
    }

    fn plan_in_order(&mut self, now: Nanos) -> Vec<PlannedRow> {
        let mut rows = Vec::with_capacity(self.running.len() + 1);
        let mut budget = self.config.max_num_batched_tokens as usize;
        let preemptions_before = self.totals.preemptions;
        // With priorities, whoever was admitted last need not be the last in rank.
        self.running.sort_by_key(|sequence| sequence.rank);
        self.plan_running(&mut rows, &mut budget);
        if self.totals.preemptions == preemptions_before {
            self.admit(&mut rows, &mut budget, now);
        }
        rows
    }

    /// Lets the running sequences advance, in order, while the budget lasts.
    fn plan_running(&mut self, rows: &mut Vec<PlannedRow>, budget: &mut usize) {
        let mut index = 0;
        while index < self.running.len() && 0 < *budget {
            let compute = self.running[index].next_compute(*budget);
            if !self.make_room(index, compute.end) {
                break;
            }
            *budget -= compute.len();
            rows.push(PlannedRow::new(index, compute));
            index += 1;
        }
    }

    /// Gives a running sequence blocks for the positions `0..end`, preempting from the back as
    /// long as there are too few. False if it had to preempt itself.
    fn make_room(&mut self, index: usize, end: usize) -> bool {
        while index < self.running.len() {
            if self.kv.grow(&mut self.running[index].table, end) {
                return true;
            }
            self.preempt(self.running.len() - 1);
        }
        false
    }

    fn preempt(&mut self, index: usize) {
        let mut sequence = self.running.remove(index);
        self.kv.release(&mut sequence.table);
        sequence.preempt();
        self.totals.preemptions += 1;
        self.enqueue(sequence);
    }

    /// Lets waiting sequences begin, in order of rank, while places, blocks and budget last.
    fn admit(&mut self, rows: &mut Vec<PlannedRow>, budget: &mut usize, now: Nanos) {
        while 0 < *budget && self.running.len() < self.config.max_num_seqs as usize {
            let Some(head) = self.waiting.front_mut() else { break };
            let cached = look_up(&self.kv, head);
            if !self.kv.fits(&cached, head.tokens.len(), 0) {
                break;
            }
            let cached = self.kv.attach(&mut head.table, cached);
            self.totals.count_beginning(head, cached, now);
            let compute = head.next_compute(*budget);
            let grown = self.kv.grow(&mut head.table, compute.end);
            assert!(grown, "a part does not fit although the whole does");
            *budget -= compute.len();
            rows.push(PlannedRow::new(self.running.len(), compute));
            self.running.extend(self.waiting.pop_front());
        }
    }

    /// The rows as the device sees them.
    pub fn step_plan(&self, rows: &[PlannedRow]) -> StepPlan<'_, P> {
        let row = |row: &PlannedRow| {
            let sequence = &self.running[row.index];
            Row {
                id: sequence.id,
                tokens: &sequence.tokens,
                prompt_len: sequence.prompt_len,
                compute: row.compute.clone(),
                blocks: sequence.table.groups(),
                draft_max: row.draft_max,
                adapter: sequence.adapter,
                params: &sequence.params,
            }
        };
        StepPlan { rows: rows.iter().map(row).collect() }
    }

    /// The sequence of a planned row.
    pub fn sequence(&mut self, row: &PlannedRow) -> &mut Sequence<P> {
        &mut self.running[row.index]
    }

    /// Records that a row was computed, and so many tokens of its draft, which are known by now.
    /// Makes the blocks that were filled findable, and takes those back that only the rest of the
    /// draft needed, and those that lie behind the window. Gives how many prompt tokens were computed
    /// for the first time.
    pub fn advance(&mut self, row: &PlannedRow, accepted: usize) -> usize {
        let computed = row.compute.end + accepted;
        let sequence = &mut self.running[row.index];
        self.kv.publish(&mut sequence.table, &sequence.tokens, computed);
        self.kv.shrink(&mut sequence.table, computed);
        self.kv.release_behind_window(&mut sequence.table, computed);
        let prompt_tokens = sequence.advance(computed);
        let tenant_id = sequence.tenant_id;
        if self.config.scheduling_policy == SchedulingPolicy::Fair {
            self.charge(tenant_id, accepted);
        }
        prompt_tokens
    }

    /// Drops the running sequences at these places, given in rising order, and takes their blocks
    /// back.
    pub fn remove_running(&mut self, indices: &[usize]) {
        for &index in indices.iter().rev() {
            self.take_running(index);
        }
    }

    fn take_running(&mut self, index: usize) -> Sequence<P> {
        let mut sequence = self.running.remove(index);
        self.kv.release(&mut sequence.table);
        self.leave(sequence.tenant_id);
        sequence
    }

    /// Takes a request out, wherever it is, and its blocks back; none if it is not here.
    pub fn take(&mut self, id: RequestId) -> Option<Sequence<P>> {
        if let Some(index) = self.running.iter().position(|sequence| sequence.id == id) {
            return Some(self.take_running(index));
        }
        let index = self.waiting.iter().position(|sequence| sequence.id == id)?;
        let sequence = self.waiting.remove(index)?;
        self.leave(sequence.tenant_id);
        Some(sequence)
    }

    /// Takes all requests out, the running ones first, and their blocks back.
    pub fn take_all(&mut self) -> Vec<RequestId> {
        for sequence in self.running.iter_mut().rev() {
            self.kv.release(&mut sequence.table);
        }
        let all: Vec<_> = self.running.drain(..).chain(self.waiting.drain(..)).collect();
        all.iter().for_each(|sequence| self.leave(sequence.tenant_id));
        all.iter().map(|sequence| sequence.id).collect()
    }

    /// The requests that run, then those that wait, the next of each first. For tests.
    pub fn queues(&self) -> [Vec<RequestId>; 2] {
        let running = self.running.iter().map(|sequence| sequence.id).collect();
        [running, self.waiting.iter().map(|sequence| sequence.id).collect()]
    }

    /// Panics unless queues, sequences and blocks agree with one another.
    pub fn check_invariants(&self) {
        let EngineConfig { max_num_seqs, .. } = self.config;
        assert!(self.running.len() <= max_num_seqs as usize, "too many sequences run");
        let all = || self.running.iter().chain(&self.waiting);
        assert!(
            self.waiting.iter().is_sorted_by(|a, b| a.rank < b.rank),
            "the queue is not in order of rank"
        );
        for sequence in all() {
            assert!(sequence.computed < sequence.tokens.len(), "{:?} has no work", sequence.id);
        }
        for sequence in &self.waiting {
            assert_eq!(sequence.computed, 0, "{:?} waits with computed tokens", sequence.id);
        }
        assert_eq!(self.places.taken() as usize, all().count(), "a place is lost");
        for tenant_id in self.served.keys() {
            assert!(
                all().any(|s| s.tenant_id == *tenant_id),
                "tenant {tenant_id} is not forgotten"
            );
        }
        self.kv.check_invariants(all().map(|s| (&s.table, s.tokens.as_slice(), s.computed)));
    }
}

/// The longest beginning of a waiting sequence that is in the cache and may be attached.
fn look_up<P>(kv: &KvCache, sequence: &mut Sequence<P>) -> CachedPrefix {
    match sequence.use_prefix_cache {
        true => kv.find_prefix(&mut sequence.table, &sequence.tokens),
        false => CachedPrefix::nothing(&sequence.table),
    }
}

#[cfg(test)]
mod tests;
