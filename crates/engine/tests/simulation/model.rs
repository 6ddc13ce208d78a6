//! The scheduler's rules once more, on lists of clients alone: who may take part in a step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::{
    EngineConfig, Event, Failure, FinishReason, KvGroups, Request, RequestId, SchedulingPolicy,
    Snapshot, TokenId,
};

use crate::device::{Script, SeenRow};
use crate::oracle;
use crate::sometimes::Sometimes;

/// A request as its client sees it, and what the engine did with it.
#[derive(Debug)]
pub struct Client {
    pub request: Request<Script>,
    /// The prompt and the tokens told so far.
    pub known: Vec<TokenId>,
    pub cancelled: bool,
    pub ended: bool,
    pub computed: usize,
    /// Whether it certainly did not lose what was computed since it last took part.
    pub computed_is_kept: bool,
    pub scheduled: bool,
    cached: usize,
    preemptions: u32,
    pub draft_tokens: u64,
    /// Tokens behind the first that one step gave.
    accepted_draft_tokens: u64,
    /// Tokens told of the last step.
    pub told_of_step: u64,
}

impl Client {
    fn answer(&self) -> &[TokenId] {
        &self.known[self.request.prompt.len()..]
    }
}

/// All clients, by id from 1, and the order in which they are served.
#[derive(Debug)]
pub struct Model {
    pub config: EngineConfig,
    pub clients: Vec<Client>,
    pub running: Vec<RequestId>,
    pub waiting: VecDeque<RequestId>,
    /// Who was accepted at the door and is not in the queue yet.
    arriving: Vec<RequestId>,
    pub computed_tokens: u64,
    /// Drafts, and their tokens.
    pub drafts: [u64; 2],
    /// Each tenant's weight, as its last accepted request gave it.
    pub weights: BTreeMap<u64, u64>,
}

impl Model {
    pub fn new(config: EngineConfig) -> Model {
        let (running, waiting) = (Vec::new(), VecDeque::new());
        Model {
            config,
            clients: Vec::new(),
            running,
            waiting,
            arriving: Vec::new(),
            computed_tokens: 0,
            drafts: [0; 2],
            weights: BTreeMap::new(),
        }
    }

    /// Who goes first: the least.
    fn rank(&self, id: RequestId) -> (i32, RequestId) {
        let priority = self.client(id).request.priority;
        match self.config.scheduling_policy {
            SchedulingPolicy::Fcfs | SchedulingPolicy::Fair => (0, id),
            SchedulingPolicy::Priority => (priority, id),
        }
    }

    /// Puts a client into the queue, before the first of worse rank.
    fn enqueue(&mut self, id: RequestId) {
        let is_worse = |&other: &RequestId| self.rank(id) < self.rank(other);
        let place = self.waiting.iter().position(is_worse).unwrap_or(self.waiting.len());
        self.waiting.insert(place, id);
    }

    pub fn in_flight(&self) -> usize {
        self.running.len() + self.waiting.len() + self.arriving.len()
    }

    pub fn client(&self, id: RequestId) -> &Client {
        &self.clients[id.0 as usize - 1]
    }

    pub fn client_mut(&mut self, id: RequestId) -> &mut Client {
        &mut self.clients[id.0 as usize - 1]
    }

    /// The first in the queue, if it lost its blocks.
    pub fn preempted(&self) -> Option<RequestId> {
        let head = self.waiting.front().copied()?;
        (0 < self.client(head).preemptions).then_some(head)
    }

    /// A request that was accepted at the door.
    pub fn accept(&mut self, id: RequestId, request: Request<Script>) {
        assert_eq!(id.0 as usize, self.clients.len() + 1, "ids count the accepted");
        self.weights.insert(request.tenant.id, u64::from(request.tenant.weight));
        self.clients.push(Client {
            known: request.prompt.clone(),
            request,
            cancelled: false,
            ended: false,
            computed: 0,
            computed_is_kept: false,
            scheduled: false,
            cached: 0,
            preemptions: 0,
            draft_tokens: 0,
            accepted_draft_tokens: 0,
            told_of_step: 0,
        });
        self.arriving.push(id);
    }

    /// The engine takes up who has arrived.
    pub fn take_up(&mut self) {
        for id in std::mem::take(&mut self.arriving) {
            self.enqueue(id);
        }
    }

    /// A client leaves, at any time.
    pub fn cancel(&mut self, id: RequestId, sometimes: &mut Sometimes) {
        let was_preempted = 0 < self.client(id).preemptions;
        sometimes.happened(if self.running.contains(&id) {
            "cancel of a running request"
        } else if self.waiting.contains(&id) && was_preempted {
            "cancel of a preempted request"
        } else if self.waiting.contains(&id) {
            "cancel of a waiting request"
        } else if self.arriving.contains(&id) {
            "cancel of an arriving request"
        } else {
            "cancel after finish"
        });
        let client = self.client_mut(id);
        client.cancelled |= !client.ended;
    }

    /// Once the commands before a step are carried out, nobody is left who was cancelled: at most the
    /// step that ran at the time was computed in vain.
    pub fn check_cancelled_are_gone(&self) {
        let left = self.clients.iter().find(|client| client.cancelled && !client.ended);
        assert!(left.is_none(), "{left:?} goes on although it was cancelled");
    }

    /// Checks the rows of a step against the rules and follows them.
    pub fn step(&mut self, rows: &[SeenRow], snapshots: [&Snapshot; 2], sometimes: &mut Sometimes) {
        let [before, after] = snapshots;
        self.count_beginnings(rows, sometimes);
        let running = std::mem::take(&mut self.running);
        self.running = self.in_order(running);
        let preempted = after.preemptions_total - before.preemptions_total;
        for _ in 0..preempted {
            self.preempt_last(sometimes);
        }
        let mut budget = self.config.max_num_batched_tokens as usize;
        for (index, row) in rows.iter().enumerate() {
            assert!(0 < budget, "{:?} takes part without budget", row.id);
            if index == self.running.len() {
                assert_eq!(preempted, 0, "{:?} is admitted although others lost blocks", row.id);
                self.admit(row, before, sometimes);
            }
            assert_eq!(self.running[index], row.id, "the order is broken");
            budget = self.advance(row, budget);
        }
        if rows.len() < self.running.len() {
            assert_eq!(budget, 0, "a running sequence stands still although there is budget");
        } else if preempted == 0 && 0 < budget {
            self.check_head(rows, sometimes);
        }
        self.check_drafts(rows, sometimes);
        count_mixtures(rows, &self.config, sometimes);
        self.count_windows(rows, sometimes);
    }

    fn in_order(&self, mut ids: Vec<RequestId>) -> Vec<RequestId> {
        ids.sort_by_key(|&id| self.rank(id));
        ids
    }

    fn preempt_last(&mut self, sometimes: &mut Sometimes) {
        let id = self.running.pop().expect("only running sequences are preempted");
        self.count_preempted_with_window(id, sometimes);
        self.enqueue(id);
        let client = self.client_mut(id);
        client.preemptions += 1;
        sometimes.happened("preempted");
        let in_prefill = client.computed < client.request.prompt.len();
        sometimes.happened(if in_prefill {
            "preempted in prefill"
        } else {
            "preempted while decoding"
        });
        if 0 < client.accepted_draft_tokens {
            sometimes.happened("preempted with tokens of a draft");
        }
        if client.preemptions == 2 {
            sometimes.happened("preempted twice");
        }
    }

    fn admit(&mut self, row: &SeenRow, before: &Snapshot, sometimes: &mut Sometimes) {
        assert!(self.running.len() < self.config.max_num_seqs as usize, "too many run");
        assert_eq!(self.waiting.pop_front(), Some(row.id), "somebody overtook the head");
        self.running.push(row.id);
        self.count_hit_with_window(row, sometimes);
        let config = self.config;
        let client = self.client_mut(row.id);
        let hit = row.compute.start;
        assert_eq!(hit % config.block_size as usize, 0, "a part of a block is shared");
        let may_hit = config.prefix_cache && client.request.use_prefix_cache;
        assert!(may_hit || hit == 0, "a hit although the cache is off or not to be used");
        client.computed = hit;
        if 0 < hit {
            sometimes.happened("hit in the prefix cache");
        }
        if 0 < hit && 0 < before.prefix_evictions_total {
            sometimes.happened("hit after an eviction");
        }
        if 0 < hit && client.scheduled {
            sometimes.happened("hit on the way back from a preemption");
        }
        if !client.scheduled {
            (client.scheduled, client.cached) = (true, hit);
        }
    }

    /// Follows one row; what is left of the budget.
    fn advance(&mut self, row: &SeenRow, budget: usize) -> usize {
        self.computed_tokens += row.compute.len() as u64;
        let client = self.client_mut(row.id);
        assert!(!client.cancelled, "{:?} is computed although it was cancelled", row.id);
        assert_eq!(row.tokens, client.known, "{:?} forgot or made up tokens", row.id);
        assert_eq!(row.prompt_len, client.request.prompt.len());
        let end = client.known.len().min(client.computed + budget);
        assert_eq!(row.compute, client.computed..end, "{:?} computes something else", row.id);
        client.computed = end;
        budget - row.compute.len()
    }

    /// If a place and budget are left, the head must be one that does not fit.
    fn check_head(&self, rows: &[SeenRow], sometimes: &mut Sometimes) {
        let config = &self.config;
        let Some(head) = self.waiting.front() else { return };
        if config.max_num_seqs as usize <= self.running.len() {
            return;
        }
        let held: BTreeSet<_> = rows.iter().flat_map(SeenRow::held).collect();
        let free = config.block_count as usize - held.len();
        let needed = |id: RequestId| self.blocks_of(self.client(id).known.len());
        let by_head = needed(*head);
        assert!(free < by_head, "{head:?} needs {by_head} blocks, {free} are free, and it waits");
        sometimes.happened("head does not fit");
        if self.waiting.iter().any(|&id| needed(id) <= free) {
            sometimes.happened("convoy: one that fits waits behind a head that does not");
        }
    }

    /// Counts what those have in common that take part for the first time since they waited.
    pub fn count_beginnings(&self, rows: &[SeenRow], sometimes: &mut Sometimes) {
        let begin: Vec<_> = rows.iter().filter(|row| !self.running.contains(&row.id)).collect();
        if begin.len() == self.config.max_num_seqs as usize && 1 < begin.len() {
            sometimes.happened("convoy: all places are filled in one step");
        }
        let prompt = |row: &SeenRow| &self.client(row.id).request.prompt;
        let twice =
            |row: &&SeenRow| begin.iter().any(|b| b.id != row.id && prompt(b) == prompt(row));
        if begin.iter().any(twice) {
            sometimes.happened("convoy: equal prompts begin in one step");
        }
    }

    /// Follows what is told. Once the engine has `stopped`, requests may fail as a whole.
    pub fn event(&mut self, event: &Event<u64>, stopped: bool, sometimes: &mut Sometimes) {
        let id = event.id();
        let groups = self.config.kv_groups;
        let client = &mut self.clients[id.0 as usize - 1];
        assert!(!client.ended, "{id:?} has ended and then {event:?} follows");
        match event {
            Event::Token { token, .. } => {
                client.known.push(*token);
                if 0 < client.told_of_step {
                    client.computed += 1;
                    client.accepted_draft_tokens += 1;
                }
                client.told_of_step += 1;
            }
            Event::Failed { failure: Failure { message, .. }, .. } => {
                assert!(stopped || message.contains("row of"), "{message}");
                check_beginning(client, groups);
                sometimes.happened(if stopped { "device failure" } else { "row failure" });
            }
            Event::Finished { reason, times, .. } => {
                assert_eq!(times.prompt_tokens as usize, client.request.prompt.len());
                assert_eq!(times.generated_tokens as usize, client.answer().len());
                if self.config.scheduling_policy == SchedulingPolicy::Fair {
                    (client.preemptions, client.cached) =
                        (times.preemptions, times.cached_prompt_tokens as usize);
                    client.scheduled |= times.scheduled.is_some();
                }
                assert_eq!(times.preemptions, client.preemptions);
                assert_eq!(times.cached_prompt_tokens as usize, client.cached);
                assert_eq!(times.scheduled.is_some(), client.scheduled);
                assert_eq!(times.first_token.is_some(), !client.answer().is_empty());
                assert_eq!(times.draft_tokens, client.draft_tokens);
                assert_eq!(times.accepted_draft_tokens, client.accepted_draft_tokens);
                let moments = [times.scheduled, times.first_token, Some(times.finished)];
                assert!(moments.iter().flatten().is_sorted() && times.arrived <= times.finished);
                check_answer((client, groups), *reason, sometimes);
            }
        }
        if event.is_terminal() {
            client.ended = true;
            if stopped && self.waiting.contains(&id) {
                sometimes.happened("device failure with requests waiting");
            }
            if stopped && self.arriving.contains(&id) {
                sometimes.happened("device failure with requests arriving");
            }
            self.running.retain(|&running| running != id);
            self.waiting.retain(|&waiting| waiting != id);
            self.arriving.retain(|&arriving| arriving != id);
        }
    }

    /// Checks the gauges and totals, at any time between two steps.
    pub fn check_snapshot(&self, snapshot: &Snapshot) {
        assert_eq!(snapshot.running as usize, self.running.len(), "running");
        assert_eq!(snapshot.waiting as usize, self.waiting.len(), "waiting");
        let answers = self.clients.iter().map(|client| client.answer().len() as u64);
        assert_eq!(snapshot.generation_tokens_total, answers.sum::<u64>(), "generation tokens");
        assert_eq!(snapshot.computed_tokens_total, self.computed_tokens, "computed tokens");
        let drafts = [snapshot.drafts_total, snapshot.draft_tokens_total];
        assert_eq!(drafts, self.drafts, "drafts");
        let accepted = self.clients.iter().map(|client| client.accepted_draft_tokens).sum::<u64>();
        let by_place = snapshot.accepted_draft_tokens_total;
        assert_eq!(by_place.iter().sum::<u64>(), accepted, "accepted tokens of drafts");
        assert!(by_place.is_sorted_by(|a, b| b <= a), "a token is accepted, the one before is not");
        let cached = self.clients.iter().map(|client| client.cached as u64).sum::<u64>();
        let preemptions = self.clients.iter().map(|c| u64::from(c.preemptions)).sum::<u64>();
        if self.config.scheduling_policy == SchedulingPolicy::Fair {
            // Of those in flight and the failed nobody tells.
            assert!(cached <= snapshot.prefix_hits_total, "prefix hits");
            assert!(preemptions <= snapshot.preemptions_total, "preemptions");
        } else {
            assert_eq!(snapshot.prefix_hits_total, cached, "prefix hits");
            let lookups = self.clients.iter().filter(|c| c.scheduled && c.request.use_prefix_cache);
            let looked_up = lookups.map(|client| client.request.prompt.len() as u64);
            assert_eq!(snapshot.prefix_queries_total, looked_up.sum::<u64>(), "prefix queries");
            assert_eq!(snapshot.preemptions_total, preemptions, "preemptions");
        }
        let prompts = self.clients.iter().map(|client| client.request.prompt.len() as u64);
        let counted = snapshot.prompt_tokens_total + snapshot.prefix_hits_total;
        assert!(counted <= prompts.sum::<u64>(), "prompt tokens are counted twice");
        if self.in_flight() == 0 {
            assert_eq!(snapshot.blocks_used, 0, "blocks leak");
        }
    }

    /// Most steps until everything in flight has ended: in every step the first in order of
    /// arrival computes at least one token, or the last one that it lacks.
    pub fn steps_max(&self) -> usize {
        let live = self.clients.iter().filter(|client| !client.ended);
        let work =
            live.map(|client| client.request.prompt.len() + client.request.max_tokens as usize);
        match self.config.scheduling_policy {
            SchedulingPolicy::Fcfs | SchedulingPolicy::Priority => work.sum(),
            // The oldest that runs advances, but an older one may be admitted later and take its
            // blocks: as often as there are older ones; and it gives way to others 3 times.
            SchedulingPolicy::Fair => work.sum::<usize>() * (self.in_flight() + 4),
        }
    }
}

fn check_answer(
    (client, groups): (&Client, KvGroups),
    reason: FinishReason,
    sometimes: &mut Sometimes,
) {
    match reason {
        FinishReason::Cancelled => {
            assert!(client.cancelled, "nobody cancelled this");
            return check_beginning(client, groups);
        }
        FinishReason::Stop { .. } => sometimes.happened("finish by stop token"),
        FinishReason::Length => sometimes.happened("finish by length"),
    }
    if client.cancelled {
        sometimes.happened("cancel in the step of the finish");
    }
    let (answer, expected) = oracle::answer(&client.request, groups);
    assert_eq!((client.answer(), reason), (answer.as_slice(), expected), "another answer");
    let stops = &client.request.stop_tokens;
    if answer.iter().rev().skip(1).any(|token| stops.contains(token)) {
        sometimes.happened("stop token before min_tokens");
    }
}

fn check_beginning(client: &Client, groups: KvGroups) {
    let (answer, _) = oracle::answer(&client.request, groups);
    assert!(answer.starts_with(client.answer()), "another beginning of an answer");
}

pub fn count_mixtures(rows: &[SeenRow], config: &EngineConfig, sometimes: &mut Sometimes) {
    let chunk = |row: &SeenRow| row.compute.end < row.prompt_len;
    let decode = |row: &SeenRow| row.prompt_len <= row.compute.start;
    if rows.iter().any(chunk) {
        sometimes.happened("prefill in several chunks");
    }
    if rows.iter().any(chunk) && rows.iter().any(decode) {
        sometimes.happened("chunk beside a decode");
    }
    let held = || rows.iter().flat_map(SeenRow::held);
    let distinct: BTreeSet<_> = held().collect();
    if !rows.is_empty() && config.block_count == 1 {
        sometimes.happened("one block in the pool");
    }
    if distinct.len() == config.block_count as usize {
        sometimes.happened("all blocks held");
    }
    if rows.len() == config.max_num_seqs as usize && 1 < rows.len() {
        sometimes.happened("places all taken");
    }
    let block_size = config.block_size as usize;
    if rows.iter().any(|row| chunk(row) && row.compute.end.is_multiple_of(block_size)) {
        sometimes.happened("a chunk ends at the end of a block");
    }
    if rows.iter().any(|row| decode(row) && 1 < row.compute.len()) {
        sometimes.happened("decode of several tokens");
    }
    if distinct.len() < held().count() {
        sometimes.happened("block shared by two rows");
    }
}
