//! One seed: random arrivals and cancels, a step after each round, every check after each step;
//! then faults and arrivals cease and everything must end within a computed number of steps.

use std::time::Duration;

use engine::{
    BlockId, BlockState, Clock, Engine, FakeClock, Request, RequestId, SchedulingPolicy, Snapshot,
    SubmitError,
};

use crate::device::{Faults, Script, ScriptedDevice};
use crate::model::Model;
use crate::rng::Rng;
use crate::sometimes::Sometimes;
use crate::workload::Workload;

/// Who is told, line by line, what a seed does.
pub struct Trace<'a>(pub Option<&'a mut dyn FnMut(String)>);

impl Trace<'_> {
    fn line(&mut self, line: impl FnOnce() -> String) {
        if let Some(tell) = &mut self.0 {
            tell(line());
        }
    }
}

/// Runs a seed. Panics, after saying how to replay it, if anything is wrong.
pub fn simulate<'a>(seed: u64, sometimes: &'a mut Sometimes, trace: Trace<'a>) {
    let _on_failure = SayHowToReplay { seed };
    let mut rng = Rng::new(seed);
    let workload = Workload::new(&mut rng);
    let mut simulation = Simulation::new(workload, rng, sometimes, trace);
    for _ in 0..simulation.workload.rounds {
        simulation.arrivals();
        simulation.cancels();
        simulation.step();
        if simulation.device_failed {
            simulation.check_refusal_after_failure();
            return;
        }
    }
    simulation.finish();
}

struct SayHowToReplay {
    seed: u64,
}

impl Drop for SayHowToReplay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.seed;
            eprintln!(
                "seed {seed} failed; replay: cargo run -p engine --example simulation -- {seed}"
            );
        }
    }
}

struct Simulation<'a> {
    workload: Workload,
    rng: Rng,
    sometimes: &'a mut Sometimes,
    engine: Engine<ScriptedDevice>,
    device: ScriptedDevice,
    clock: FakeClock,
    model: Model,
    before: Snapshot,
    device_failed: bool,
    trace: Trace<'a>,
}

impl<'a> Simulation<'a> {
    fn new(
        workload: Workload,
        mut rng: Rng,
        sometimes: &'a mut Sometimes,
        mut trace: Trace<'a>,
    ) -> Self {
        trace.line(|| format!("{workload:?}"));
        let config = workload.config;
        let device_rng = Rng::new(rng.number());
        let device = ScriptedDevice::new(config.block_count, config.block_size, device_rng);
        device.state().faults = workload.faults;
        device.state().right_guess_percent = workload.right_guess_percent;
        let engine = Engine::with_prefix_hash_mask(config, device.clone(), workload.hash_mask);
        Simulation {
            trace,
            before: engine.snapshot(),
            workload,
            rng,
            sometimes,
            engine,
            device,
            clock: FakeClock::new(),
            model: Model::new(config),
            device_failed: false,
        }
    }

    fn arrivals(&mut self) {
        if !self.rng.chance(self.workload.arrival_percent) {
            return;
        }
        for _ in 0..self.rng.between(1, self.workload.burst_max) {
            let earlier = self.any_client();
            let earlier = earlier.map(|id| self.model.clients[id.0 as usize].known.as_slice());
            let request = self.workload.request(&mut self.rng, earlier);
            self.submit(request);
        }
    }

    fn submit(&mut self, request: Request<Script>) {
        let id = RequestId(self.model.clients.len() as u64);
        let expected = self.expected_refusal(&request);
        let answer = self.engine.submit(id, request.clone(), self.clock.now());
        self.trace.line(|| format!("submit {id:?} {request:?}: {answer:?}"));
        assert_eq!(answer.clone().err(), expected);
        match answer {
            Ok(()) => self.model.accept(request),
            Err(SubmitError::PriorityUnused { .. }) => {
                self.sometimes.happened("refused: priority");
            }
            Err(SubmitError::QueueFull { .. }) => self.sometimes.happened("refused: queue full"),
            Err(SubmitError::ShareFull { .. }) => self.sometimes.happened("refused: share full"),
            Err(SubmitError::NeverFits { .. }) => self.sometimes.happened("refused: never fits"),
            Err(SubmitError::PromptTooLong { .. }) => self.sometimes.happened("refused: too long"),
            Err(_) => {}
        }
        self.observe();
    }

    fn expected_refusal(&self, request: &Request<Script>) -> Option<SubmitError> {
        let config = &self.workload.config;
        let (prompt_tokens, max_tokens) = (request.prompt.len() as u64, request.max_tokens);
        let positions = prompt_tokens + u64::from(max_tokens) - u64::from(0 < max_tokens);
        let blocks = positions.div_ceil(u64::from(config.block_size));
        let in_flight = self.model.in_flight() as u32;
        let capacity = config.max_num_seqs + config.max_num_queued_reqs;
        if prompt_tokens == 0 {
            Some(SubmitError::EmptyPrompt)
        } else if max_tokens == 0 {
            Some(SubmitError::MaxTokensZero)
        } else if request.priority != 0 && config.scheduling_policy != SchedulingPolicy::Priority {
            Some(SubmitError::PriorityUnused { priority: request.priority })
        } else if u64::from(config.max_model_len) <= positions {
            let limit = config.max_model_len;
            Some(SubmitError::PromptTooLong { prompt_tokens, max_tokens, limit })
        } else if u64::from(config.block_count) < blocks {
            Some(SubmitError::NeverFits { blocks, limit: config.block_count })
        } else if in_flight == capacity {
            Some(SubmitError::QueueFull { in_flight, limit: capacity })
        } else {
            self.model.share_refusal(request.tenant)
        }
    }

    fn cancels(&mut self) {
        if let Some(id) = self.model.preempted()
            && self.rng.chance(self.workload.cancel_preempted_percent)
        {
            self.cancel(id);
            self.observe();
        }
        while self.rng.chance(self.workload.cancel_percent) {
            let Some(id) = self.any_client() else { return };
            self.cancel(id);
            self.observe();
        }
    }

    fn cancel(&mut self, id: RequestId) {
        self.trace.line(|| format!("cancel {id:?}"));
        self.model.cancel(id, self.sometimes);
        self.engine.cancel(id, self.clock.now());
    }

    /// A client of any kind, mostly a late one.
    fn any_client(&mut self) -> Option<RequestId> {
        let count = self.model.clients.len();
        let oldest = count.saturating_sub(self.rng.pick(&[3, 10, 1000]));
        (0 < count).then(|| RequestId(self.rng.between(oldest, count - 1) as u64))
    }

    fn step(&mut self) {
        self.device.state().seen.clear();
        self.clock.advance(Duration::from_nanos(1));
        let idle = self.engine.is_idle();
        self.device_failed = self.engine.step(&self.clock).is_err();
        let seen = std::mem::take(&mut self.device.state().seen);
        self.trace.line(|| format!("step {seen:?}"));
        assert_eq!(idle, seen.is_empty(), "the device runs exactly when there is work");
        let after = self.engine.snapshot();
        let snapshots = [&self.before, &after];
        if self.workload.config.scheduling_policy == SchedulingPolicy::Fair {
            self.model.step_fairly(&seen, &self.engine.queues(), snapshots, self.sometimes);
        } else {
            self.model.step(&seen, snapshots, self.sometimes);
        }
        for row in &seen {
            self.model.follow_draft(row, self.sometimes);
        }
        let known_before = self.model.clients.iter().map(|client| client.known.len());
        let known_before: Vec<usize> = known_before.collect();
        if self.rng.chance(self.workload.cancel_percent) {
            self.cancel_a_participant(&seen);
        }
        self.observe();
        for row in seen {
            let told = self.model.client(row.id).known.len() - known_before[row.id.0 as usize];
            assert!(told <= row.given, "{:?} is told tokens that nobody chose", row.id);
            if told < row.given && !self.device_failed {
                assert!(self.model.client(row.id).ended, "{:?} lost tokens", row.id);
                self.sometimes.happened("tokens dropped behind the end");
            }
        }
    }

    /// Cancels a request of the last step before anybody heard what became of it.
    fn cancel_a_participant(&mut self, seen: &[crate::device::SeenRow]) {
        if seen.is_empty() {
            return;
        }
        let row = &seen[self.rng.between(0, seen.len() - 1)];
        let ended_before = self.engine.snapshot();
        self.cancel(row.id);
        if self.engine.snapshot() == ended_before {
            self.sometimes.happened("cancel of a finish not yet told");
        }
    }

    /// Takes the events, follows them, and checks everything that must hold between two steps.
    fn observe(&mut self) {
        for event in self.engine.drain_events() {
            self.trace.line(|| format!("{event:?}"));
            self.model.event(&event, self.device_failed, self.sometimes);
        }
        self.engine.check_invariants();
        let snapshot = self.engine.snapshot();
        self.model.check_snapshot(&snapshot);
        for block in (0..self.workload.config.block_count).map(BlockId) {
            if self.engine.block_state(block) == BlockState::Free {
                self.device.state().poison(block);
            }
        }
        if self.before.prefix_evictions_total < snapshot.prefix_evictions_total {
            self.sometimes.happened("cached block evicted");
        }
        if self.before.prefix_collisions_total < snapshot.prefix_collisions_total {
            self.sometimes.happened("hash collision");
        }
        self.before = snapshot;
    }

    fn finish(&mut self) {
        self.device.state().faults = Faults::default();
        self.workload.cancel_percent = 0;
        let steps_max = self.model.steps_max();
        for _ in 0..steps_max {
            if self.engine.is_idle() {
                break;
            }
            self.step();
        }
        assert!(self.engine.is_idle(), "requests are left after {steps_max} steps");
        assert!(self.model.clients.iter().all(|client| client.ended), "a request got no end");
    }

    fn check_refusal_after_failure(&mut self) {
        assert!(self.engine.is_idle() && self.model.in_flight() == 0, "a request outlived it");
        let request = self.workload.request(&mut self.rng, None);
        let answer = self.engine.submit(RequestId(u64::MAX), request, self.clock.now());
        assert_eq!(answer, Err(SubmitError::Stopped));
    }
}
