//! Shares for tenants: whom a crowd of requests of one client must not keep waiting.
//!
//! Three things are shared, by weight, among the tenants that have requests in flight:
//! 1. *Positions of a step.* Each tenant has a virtual time, the positions computed for it over its
//!    weight. What a step has left beside decodes goes in small portions to whoever is behind. A
//!    tenant that wanted less than its share is owed at most [`CREDIT_STEPS`] steps for it, one that
//!    has more than its share of places or blocks nothing, and a newcomer one step: since it takes
//!    at least one step to come back, coming and going gains nothing.
//! 2. *Places to run, and blocks.* If they are taken, a tenant within its share of both gets some
//!    back from one beyond its share, whose last sequence gives way and is computed again later.
//! 3. *Places in flight*: see [`Places`].
//!
//! Nothing is held back for tenants that might come: what nobody else wants, anyone may have.
//!
//! Nobody starves. The oldest running sequence is the first in turn: it advances in every step and
//! does not lose its blocks when another grows. A sequence gives way to other tenants at most
//! [`YIELDS_MAX`] times. A tenant that waits falls behind the others in virtual time, so its turn
//! comes; and nobody overtakes the oldest in the queue once it has seen [`Scheduler::lead_max`]
//! arrivals, not even within its share.

use super::*;
use std::collections::BTreeSet;

/// How often a sequence gives way to other tenants.
const YIELDS_MAX: u32 = 3;
/// Most steps that a tenant may be behind those who are in want.
const CREDIT_STEPS: u64 = 8;
/// Positions that a tenant gets before it is asked again who is behind.
const PORTION: usize = 64;
/// Virtual time of one position at weight 1; large against weights, so that little is rounded off.
const TIME_PER_POSITION: u64 = 1 << 20;

/// What a tenant's running sequences hold and want.
#[derive(Default)]
struct Tally {
    running: usize,
    blocks: usize,
    pending: usize,
}

/// Of each tenant of which something runs.
type Tallies = BTreeMap<u64, Tally>;

impl<P> Scheduler<P> {
    /// As `plan_in_order`, for tenants with equal rights.
    pub(super) fn plan_fairly(&mut self, now: Nanos) -> Vec<PlannedRow> {
        self.settle();
        self.order_fairly();
        self.admit_fairly(now);
        let mut budget = self.budget();
        let mut chunks = self.plan_decodes(&mut budget);
        self.share_out(&mut chunks, budget);
        let rows = chunks.into_iter().enumerate().filter(|&(_, chunk)| 0 < chunk);
        rows.map(|(index, chunk)| {
            let start = self.running[index].computed;
            PlannedRow::new(index, start..start + chunk)
        })
        .collect()
    }

    /// Sets the virtual times of newcomers, and limits how far behind those are who have nothing
    /// to compute but decodes.
    fn settle(&mut self) {
        let in_want: BTreeSet<u64> =
            self.running.iter().filter(|s| s.in_prefill()).map(|s| s.tenant_id).collect();
        let known = self.served.iter().filter(|(id, _)| in_want.contains(id));
        let behind = known.map(|(_, &time)| time).min();
        let time_now = behind.or_else(|| self.served.values().copied().max()).unwrap_or(0);
        let tallies = self.tallies();
        for id in self.places.tenant_ids() {
            let step = self.budget() as u64 * TIME_PER_POSITION / self.places.weight(id);
            let is_beyond = self.runs_too_many(id, &tallies) || self.holds_too_many(id, &tallies);
            let owed = if is_beyond { 0 } else { CREDIT_STEPS * step };
            let time = self.served.entry(id).or_insert(time_now.saturating_sub(step));
            if !in_want.contains(&id) {
                *time = (*time).max(time_now.saturating_sub(owed));
            }
        }
    }

    /// Whether a tenant runs more sequences than its share.
    fn runs_too_many(&self, id: u64, tallies: &Tallies) -> bool {
        let share = self.places.share(id, self.config.max_num_seqs as usize);
        tallies.get(&id).is_some_and(|tally| share < tally.running)
    }

    /// Whether a tenant holds more blocks than its share.
    fn holds_too_many(&self, id: u64, tallies: &Tallies) -> bool {
        let share = self.places.share(id, self.kv.block_count());
        tallies.get(&id).is_some_and(|tally| share < tally.blocks)
    }

    /// Adds positions computed for a tenant to its virtual time.
    pub(super) fn charge(&mut self, tenant_id: u64, positions: usize) {
        let time = positions as u64 * TIME_PER_POSITION / self.places.weight(tenant_id);
        *self.served.entry(tenant_id).or_default() += time;
    }

    /// Orders the running sequences by turns: the oldest of each tenant, then the second of each,
    /// and so on, with more turns for more weight. The last is of the tenant with most for its
    /// weight.
    fn order_fairly(&mut self) {
        self.running.sort_by_key(|sequence| sequence.rank);
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for sequence in &mut self.running {
            let count = counts.entry(sequence.tenant_id).or_default();
            let weight = self.places.weight(sequence.tenant_id);
            sequence.turn = *count * TIME_PER_POSITION / weight;
            *count += 1;
        }
        self.running.sort_by_key(|sequence| (sequence.turn, sequence.rank));
    }

    fn tallies(&self) -> Tallies {
        let mut tallies = Tallies::new();
        for sequence in &self.running {
            let tally = tallies.entry(sequence.tenant_id).or_default();
            tally.running += 1;
            tally.blocks += sequence.table.held_count();
            tally.pending += sequence.pending();
        }
        tallies
    }

    /// Lets waiting sequences begin: first the heads of tenants within their shares, then of
    /// whoever is behind, as long as places and blocks last. Once a head does not fit, only those
    /// within their shares may still overtake it.
    fn admit_fairly(&mut self, now: Nanos) {
        let mut closed = BTreeSet::new();
        while let Some((place, entitled)) = self.next_fair(&closed) {
            if !entitled && !closed.is_empty() {
                break;
            }
            let tenant_id = self.waiting[place].tenant_id;
            if !self.let_in(place, entitled, now) {
                closed.insert(tenant_id);
            }
        }
    }

    /// Whose turn it is to begin, of the tenants that are not `closed`, and whether it is within
    /// its shares. Tenants with a step's worth of positions under way need not begin more.
    fn next_fair(&self, closed: &BTreeSet<u64>) -> Option<(usize, bool)> {
        let tallies = self.tallies();
        if self
            .newest
            .zip(self.waiting.front())
            .is_some_and(|(newest, oldest)| self.lead_max() < newest.arrivals_after(oldest.rank))
        {
            return closed.is_empty().then_some((0, false));
        }
        let mut seen = closed.clone();
        let all = self.waiting.iter().enumerate();
        let heads = all.filter(|(_, sequence)| seen.insert(sequence.tenant_id));
        let candidates = heads.filter_map(|(place, sequence)| {
            let tally = tallies.get(&sequence.tenant_id);
            let is_busy = tally.is_some_and(|tally| self.budget() <= tally.pending);
            let beyond = !self.is_entitled(sequence, tally);
            let time = self.served[&sequence.tenant_id];
            (!is_busy).then_some((beyond, time, sequence.rank, place))
        });
        candidates.min().map(|(beyond, _, _, place)| (place, !beyond))
    }

    /// Whether a waiting sequence is within its tenant's shares of places to run and of blocks.
    fn is_entitled(&self, sequence: &Sequence<P>, tally: Option<&Tally>) -> bool {
        let (running, blocks) = tally.map_or((0, 0), |tally| (tally.running, tally.blocks));
        let needed = self.kv.blocks_of(sequence.tokens.len());
        running < self.places.share(sequence.tenant_id, self.config.max_num_seqs as usize)
            && blocks + needed <= self.places.share(sequence.tenant_id, self.kv.block_count())
    }

    /// Lets a waiting sequence begin, if need be in place of others if it is `entitled`. False if
    /// it has to wait.
    fn let_in(&mut self, place: usize, entitled: bool, now: Nanos) -> bool {
        let mut head = self.waiting.remove(place).expect("the place of a waiting sequence");
        loop {
            let lacks_place = self.config.max_num_seqs as usize <= self.running.len();
            let cached = look_up(&self.kv, &mut head);
            if !lacks_place && self.kv.fits(&cached, head.tokens.len(), self.promised()) {
                let cached = self.kv.attach(&mut head.table, cached);
                self.totals.count_beginning(&mut head, cached, now);
                self.running.push(head);
                self.order_fairly();
                return true;
            }
            let giver = self.who_gives_way(head.tenant_id, lacks_place).filter(|_| entitled);
            let Some(giver) = giver else {
                self.enqueue(head);
                return false;
            };
            self.running[giver].yields += 1;
            self.preempt(giver);
        }
    }

    /// Most blocks that running sequences will hold for what they know beside those that they have.
    fn promised(&self) -> usize {
        let missing = |s: &Sequence<P>| self.kv.lacking(&s.table, s.tokens.len());
        self.running.iter().map(missing).sum()
    }

    /// The last in turn, of the tenants beyond their share of what is lacking.
    fn who_gives_way(&self, to: u64, lacks_place: bool) -> Option<usize> {
        let tallies = self.tallies();
        let is_beyond = |id| match lacks_place {
            true => self.runs_too_many(id, &tallies),
            false => self.holds_too_many(id, &tallies),
        };
        self.running.iter().rposition(|sequence| {
            sequence.tenant_id != to
                && sequence.yields < YIELDS_MAX
                && is_beyond(sequence.tenant_id)
        })
    }

    /// Lets decodes advance, in turn, and the first by at least one position. Positions of each
    /// running sequence.
    fn plan_decodes(&mut self, budget: &mut usize) -> Vec<usize> {
        let mut chunks = Vec::with_capacity(self.running.len());
        while chunks.len() < self.running.len() {
            let index = chunks.len();
            let sequence = &self.running[index];
            let most = if sequence.in_prefill() { usize::from(index == 0) } else { *budget };
            let compute = sequence.next_compute(most.min(*budget));
            if !self.make_room(index, compute.end) {
                break;
            }
            *budget -= compute.len();
            self.charge(self.running[index].tenant_id, compute.len());
            chunks.push(compute.len());
        }
        chunks
    }

    /// Gives what is left of the budget, in portions, to whoever is behind. If blocks run out, one
    /// within its share of them gets those of the last in turn, if that one is beyond its own.
    fn share_out(&mut self, chunks: &mut Vec<usize>, mut budget: usize) {
        let mut stuck = vec![false; chunks.len()];
        while 0 < budget {
            let wants =
                |&index: &usize| !stuck[index] && chunks[index] < self.running[index].pending();
            let next = (0..chunks.len()).filter(wants).min_by_key(|&index| {
                let sequence = &self.running[index];
                (self.served[&sequence.tenant_id], sequence.rank)
            });
            let Some(index) = next else { break };
            let sequence = &mut self.running[index];
            let portion = PORTION.min(budget).min(sequence.pending() - chunks[index]);
            let end = sequence.computed + chunks[index] + portion;
            let tenant_id = sequence.tenant_id;
            if !self.kv.grow(&mut sequence.table, end) {
                if self.is_last_beyond_its_share_for(tenant_id) {
                    self.preempt(self.running.len() - 1);
                    budget += chunks.pop().expect("there is one for each that runs");
                } else {
                    self.hold_up(tenant_id, index, &mut stuck);
                }
                continue;
            }
            self.charge(tenant_id, portion);
            chunks[index] += portion;
            budget -= portion;
        }
    }

    /// Gives a sequence that lacks blocks nothing more in this step, nor later ones of its tenant, which
    /// would take the blocks that it waits for.
    fn hold_up(&self, tenant_id: u64, index: usize, stuck: &mut [bool]) {
        let rank = self.running[index].rank;
        for (stuck, sequence) in stuck.iter_mut().zip(&self.running) {
            *stuck |= sequence.tenant_id == tenant_id && rank <= sequence.rank;
        }
    }

    /// Whether the last in turn holds more than its share of blocks, and this tenant does not.
    fn is_last_beyond_its_share_for(&self, tenant_id: u64) -> bool {
        let tallies = self.tallies();
        let last = self.running.last().expect("somebody asked for blocks").tenant_id;
        self.holds_too_many(last, &tallies) && !self.holds_too_many(tenant_id, &tallies)
    }

    /// Positions of a step.
    fn budget(&self) -> usize {
        self.config.max_num_batched_tokens as usize
    }

    /// How many arrivals a waiting sequence sees until nobody overtakes it any more.
    fn lead_max(&self) -> u64 {
        8 * u64::from(self.config.capacity())
    }
}
