//! The engine: plan, run, apply.

use crate::clock::{Clock, Nanos};
use crate::config::{DRAFT_TOKENS_MAX, EngineConfig};
use crate::device::{Device, DeviceError};
use crate::event::{Cause, Event, Failure, FinishReason};
use crate::ids::{BlockId, RequestId};
use crate::kv::BlockState;
use crate::layout::KvGroups;
use crate::request::{Request, SubmitError};
use crate::schedule::{PlannedRow, Scheduler};
use crate::sequence::Sequence;
use crate::stats::Snapshot;
use crate::step::{RowOutput, Sampled, StepOutput};

/// Serves many requests on one device, one step at a time.
pub struct Engine<D: Device> {
    device: D,
    scheduler: Scheduler<D::Params>,
    events: Vec<Event<D::Extra>>,
    totals: EngineTotals,
    /// When something last changed.
    now: Nanos,
    last_step_rows: usize,
    last_step_tokens: usize,
    device_failed: bool,
}

/// What the engine counts itself.
#[derive(Debug, Clone, Copy, Default)]
struct EngineTotals {
    steps: u64,
    computed_tokens: u64,
    prompt_tokens: u64,
    generation_tokens: u64,
    accepted: u64,
    finished: u64,
    cancelled: u64,
    failed: u64,
    rows_faulty: u64,
    drafts: u64,
    draft_tokens: u64,
    accepted_draft_tokens: [u64; DRAFT_TOKENS_MAX],
}

impl<D: Device> Engine<D> {
    /// An idle engine whose blocks are all free.
    pub fn new(config: EngineConfig, device: D) -> Self {
        Engine::with_prefix_hash_mask(config, device, u64::MAX)
    }

    /// As `new`, but only these bits of a prefix hash count. For tests: with few bits, different
    /// prefixes collide all the time, and nothing but time may change.
    pub fn with_prefix_hash_mask(config: EngineConfig, device: D, hash_mask: u64) -> Self {
        let at_least_one = [
            ("block_size", config.block_size),
            ("block_count", config.block_count),
            ("max_num_seqs", config.max_num_seqs),
            ("max_num_batched_tokens", config.max_num_batched_tokens),
        ];
        for (name, value) in at_least_one {
            assert!(1 <= value, "{name} is {value}, but the engine needs at least 1");
        }
        let KvGroups { windowed, window, .. } = config.kv_groups;
        assert!(0 < config.kv_groups.count(), "there is no group of layers");
        assert!(windowed == 0 || 0 < window, "a layer sees at least the present position");
        let draft = config.speculation.draft_tokens_max;
        assert!(draft as usize <= DRAFT_TOKENS_MAX, "drafts of {draft} tokens cannot be counted");
        Engine {
            device,
            scheduler: Scheduler::new(config, hash_mask),
            events: Vec::new(),
            totals: EngineTotals::default(),
            now: Nanos::default(),
            last_step_rows: 0,
            last_step_tokens: 0,
            device_failed: false,
        }
    }

    /// The sizes it was made with.
    pub fn config(&self) -> &EngineConfig {
        self.scheduler.config()
    }

    /// Takes a request that arrived at `now`, or says why not. `id` must be new.
    pub fn submit(
        &mut self,
        id: RequestId,
        request: Request<D::Params>,
        now: Nanos,
    ) -> Result<(), SubmitError> {
        if self.device_failed {
            return Err(SubmitError::Stopped);
        }
        self.config().limits().check(&request)?;
        self.scheduler.reserve(request.tenant)?;
        let policy = self.config().scheduling_policy;
        let rank = policy.rank(request.priority, self.totals.accepted);
        let groups = self.config().kv_groups;
        self.scheduler.enqueue(Sequence::new((id, rank), groups, request, now));
        self.totals.accepted += 1;
        // It may have arrived while a step ran that has ended since.
        self.now = self.now.max(now);
        Ok(())
    }

    /// Ends a request, wherever it is; nothing happens if it has ended already.
    pub fn cancel(&mut self, id: RequestId, now: Nanos) {
        if let Some(sequence) = self.scheduler.take(id) {
            self.now = self.now.max(now);
            self.totals.cancelled += 1;
            let (reason, times) = (FinishReason::Cancelled, sequence.times(now));
            self.events.push(Event::Finished { id, reason, times });
        }
    }

    /// Whether there is nothing to compute.
    pub fn is_idle(&self) -> bool {
        self.in_flight() == 0
    }

    /// Advances by one step: plan, run, apply. Nothing happens when idle.
    ///
    /// If the device fails as a whole, every request fails, and so does every later submit.
    pub fn step(&mut self, clock: &dyn Clock) -> Result<(), DeviceError> {
        if self.is_idle() {
            return Ok(());
        }
        let rows = self.scheduler.plan(clock.now());
        let outcome = self.device.run(&self.scheduler.step_plan(&rows));
        self.now = clock.now();
        self.count_step(&rows);
        match outcome {
            Ok(output) => self.apply(&rows, output),
            Err(error) => return Err(self.fail_all(error)),
        }
        Ok(())
    }

    fn count_step(&mut self, rows: &[PlannedRow]) {
        self.last_step_rows = rows.len();
        self.last_step_tokens = rows.iter().map(|row| row.compute.len()).sum();
        self.totals.steps += 1;
        self.totals.computed_tokens += self.last_step_tokens as u64;
    }

    fn apply(&mut self, rows: &[PlannedRow], output: StepOutput<D::Extra>) {
        let answers = output.rows.len();
        assert_eq!(answers, rows.len(), "the device answered another number of rows than asked");
        let mut ended = Vec::new();
        for (row, output) in rows.iter().zip(output.rows) {
            if self.apply_row(row, output) {
                ended.push(row.index);
            }
        }
        self.scheduler.remove_running(&ended);
    }

    /// Applies one row's output; whether its request has ended.
    fn apply_row(&mut self, row: &PlannedRow, output: RowOutput<D::Extra>) -> bool {
        let sequence = self.scheduler.sequence(row);
        let (id, known) = (sequence.id, sequence.tokens.len());
        let sampled = row.compute.end == known;
        match output {
            RowOutput::Computed => {
                assert!(!sampled, "the device gave no token for {id:?}, whose row was sampled");
                self.advance(row, 0);
                false
            }
            RowOutput::Tokens { tokens, drafted } => {
                assert!(sampled, "the device gave tokens for {id:?}, whose row was not sampled");
                let (given, most) = (tokens.len(), row.draft_max);
                assert!(
                    (1..=drafted + 1).contains(&given) && drafted <= most,
                    "the device gave {given} tokens for {id:?} of a draft of {drafted}, at most {most}"
                );
                let (appended, end) = self.append(row, tokens);
                self.count_draft(row, drafted, appended - 1);
                self.advance(row, appended - 1);
                end.map(|reason| self.finish(row, reason)).is_some()
            }
            RowOutput::Failed(failure) => {
                self.totals.failed += 1;
                self.totals.rows_faulty += u64::from(failure.cause == Cause::Fault);
                self.events.push(Event::Failed { id, failure });
                true
            }
        }
    }

    fn advance(&mut self, row: &PlannedRow, accepted: usize) {
        self.totals.prompt_tokens += self.scheduler.advance(row, accepted) as u64;
    }

    /// Counts what a row computed beside its plan, and what was made of it.
    fn count_draft(&mut self, row: &PlannedRow, drafted: usize, accepted: usize) {
        self.last_step_tokens += drafted;
        self.totals.computed_tokens += drafted as u64;
        self.totals.drafts += u64::from(0 < drafted);
        self.totals.draft_tokens += drafted as u64;
        for count in &mut self.totals.accepted_draft_tokens[..accepted] {
            *count += 1;
        }
        self.scheduler.sequence(row).count_draft(drafted, accepted);
    }

    /// Appends the tokens up to the first that ends the request: how many, and why it ends.
    fn append(
        &mut self,
        row: &PlannedRow,
        tokens: Vec<Sampled<D::Extra>>,
    ) -> (usize, Option<FinishReason>) {
        let sequence = self.scheduler.sequence(row);
        let (id, known) = (sequence.id, sequence.tokens.len());
        let mut end = None;
        for Sampled { token, extra } in tokens {
            end = sequence.append(token, self.now);
            self.events.push(Event::Token { id, token, extra });
            if end.is_some() {
                break;
            }
        }
        let appended = sequence.tokens.len() - known;
        self.totals.generation_tokens += appended as u64;
        (appended, end)
    }

    fn finish(&mut self, row: &PlannedRow, reason: FinishReason) {
        self.totals.finished += 1;
        let sequence = self.scheduler.sequence(row);
        let (id, times) = (sequence.id, sequence.times(self.now));
        self.events.push(Event::Finished { id, reason, times });
    }

    fn fail_all(&mut self, error: DeviceError) -> DeviceError {
        self.device_failed = true;
        for id in self.scheduler.take_all() {
            self.totals.failed += 1;
            let failure = Failure::fault(error.to_string());
            self.events.push(Event::Failed { id, failure });
        }
        error
    }

    /// The events since the last call, in order.
    pub fn drain_events(&mut self) -> Vec<Event<D::Extra>> {
        std::mem::take(&mut self.events)
    }

    /// The state in numbers.
    pub fn snapshot(&self) -> Snapshot {
        let (scheduler, kv, totals) = (self.scheduler.totals(), self.scheduler.kv(), self.totals);
        let gauge = |count: usize| u32::try_from(count).expect("gauges are bounded by u32 sizes");
        Snapshot {
            now: self.now,
            running: gauge(self.scheduler.running_count()),
            waiting: gauge(self.scheduler.waiting_count()),
            blocks_used: gauge(kv.used_count()),
            blocks_total: gauge(kv.block_count()),
            last_step_rows: gauge(self.last_step_rows),
            last_step_tokens: gauge(self.last_step_tokens),
            steps_total: totals.steps,
            computed_tokens_total: totals.computed_tokens,
            prompt_tokens_total: totals.prompt_tokens,
            generation_tokens_total: totals.generation_tokens,
            drafts_total: totals.drafts,
            draft_tokens_total: totals.draft_tokens,
            accepted_draft_tokens_total: totals.accepted_draft_tokens,
            preemptions_total: scheduler.preemptions,
            prefix_queries_total: scheduler.prefix_queries,
            prefix_hits_total: scheduler.prefix_hits,
            prefix_evictions_total: kv.evictions_total(),
            prefix_collisions_total: kv.collisions_total(),
            requests_accepted_total: totals.accepted,
            requests_finished_total: totals.finished,
            requests_cancelled_total: totals.cancelled,
            requests_failed_total: totals.failed,
            rows_faulty_total: totals.rows_faulty,
        }
    }

    /// What a block is at the moment. For tests that watch the pool.
    pub fn block_state(&self, block: BlockId) -> BlockState {
        self.scheduler.kv().block_state(block)
    }

    /// The requests that run and those that wait, each in their order. For tests that watch the
    /// queue.
    pub fn queues(&self) -> [Vec<RequestId>; 2] {
        self.scheduler.queues()
    }

    /// Panics unless the whole state agrees with itself: every block is free or counted for each
    /// of its holders, cached blocks are what their holders keep in them, sequences are in order
    /// and have work, and every accepted request is somewhere.
    ///
    /// For tests, after any step: it costs far more than a step.
    pub fn check_invariants(&self) {
        self.scheduler.check_invariants();
        let EngineTotals { accepted, finished, cancelled, failed, .. } = self.totals;
        let ended = finished + cancelled + failed;
        assert_eq!(accepted, ended + u64::from(self.in_flight()), "a request is lost");
        let budget = self.config().max_num_batched_tokens as usize;
        assert!(self.last_step_tokens <= budget, "the last step exceeded the token budget");
    }

    fn in_flight(&self) -> u32 {
        let count = self.scheduler.running_count() + self.scheduler.waiting_count();
        u32::try_from(count).expect("the capacity is a u32")
    }
}

#[cfg(test)]
mod tests;
