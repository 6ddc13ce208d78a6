//! One seed: random arrivals, cancels and perhaps a drain at the door, then a turn of the owner,
//! with every check after each half of it; then faults and arrivals cease, everything must end within
//! a computed number of steps, and the owner drains.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use engine::{
    BlockId, BlockState, Engine, FakeClock, Handle, Owner, Report, Request, RequestId,
    SchedulingPolicy, Snapshot, SubmitError, WorkerExit,
};

use crate::device::{Faults, Script, ScriptedDevice, SeenRow};
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
        simulation.drains();
        simulation.turn();
        if simulation.exit.is_some() {
            break;
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

type Sink = Box<dyn FnMut(Report<u64>)>;

struct Simulation<'a> {
    workload: Workload,
    rng: Rng,
    sometimes: &'a mut Sometimes,
    handle: Handle<Script>,
    owner: Owner<ScriptedDevice, Sink>,
    /// What the owner told and nobody looked at yet.
    reports: Rc<RefCell<Vec<Report<u64>>>>,
    device: ScriptedDevice,
    clock: FakeClock,
    model: Model,
    before: Snapshot,
    /// Who was refused for want of a place, and may come again.
    refused: Vec<Request<Script>>,
    draining: bool,
    exit: Option<WorkerExit>,
    trace: Trace<'a>,
}

/// What clients do while a step runs, in this order.
#[derive(Debug, Clone, Default)]
struct Meanwhile {
    /// How long the step takes.
    time: Duration,
    arrival: Option<Request<Script>>,
    cancels: Vec<RequestId>,
    drain: bool,
}

/// What the door answered to an arrival while a step ran.
type Answer = Rc<Cell<Option<Result<RequestId, SubmitError>>>>;

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
        let device = ScriptedDevice::new(&config, device_rng);
        device.state().faults = workload.faults;
        device.state().right_guess_percent = workload.right_guess_percent;
        let engine = Engine::with_prefix_hash_mask(config, device.clone(), workload.hash_mask);
        let before = engine.snapshot();
        let clock = FakeClock::new();
        let reports = Rc::new(RefCell::new(Vec::new()));
        let told = Rc::clone(&reports);
        let sink: Sink = Box::new(move |report| told.borrow_mut().push(report));
        let (handle, owner) = engine::open(engine, clock.clone(), sink);
        Simulation {
            trace,
            before,
            workload,
            rng,
            sometimes,
            handle,
            owner,
            reports,
            device,
            clock,
            model: Model::new(config),
            refused: Vec::new(),
            draining: false,
            exit: None,
        }
    }

    fn arrivals(&mut self) {
        if !self.refused.is_empty() && self.rng.chance(30) {
            let index = self.rng.between(0, self.refused.len() - 1);
            let request = self.refused.swap_remove(index);
            if self.submit(request) {
                self.sometimes.happened("accepted after a refusal");
            }
        }
        if !self.rng.chance(self.workload.arrival_percent) {
            return;
        }
        for _ in 0..self.rng.between(1, self.workload.burst_max) {
            let request = self.any_request();
            // As with several choices for one prompt.
            let choices = if self.rng.chance(self.workload.choices_percent) { 3 } else { 1 };
            for _ in 0..choices {
                let seed = self.rng.number();
                let params = Script { seed, ..request.params };
                self.submit(request.clone().with_params(params));
            }
        }
    }

    fn any_request(&mut self) -> Request<Script> {
        let earlier = self.any_client().map(|id| self.model.client(id).known.as_slice());
        self.workload.request(&mut self.rng, earlier)
    }

    /// Whether the request was accepted.
    fn submit(&mut self, request: Request<Script>) -> bool {
        let expected = self.expected_refusal(&request);
        let answer = self.handle.submit(request.clone());
        self.answered(request, answer, expected)
    }

    /// Follows what the door answered; whether the request was accepted.
    fn answered(
        &mut self,
        request: Request<Script>,
        answer: Result<RequestId, SubmitError>,
        expected: Option<SubmitError>,
    ) -> bool {
        self.trace.line(|| format!("submit {request:?}: {answer:?}"));
        assert_eq!(answer.clone().err(), expected);
        let refusal = match answer {
            Ok(id) => {
                self.model.accept(id, request);
                return true;
            }
            Err(refusal) => refusal,
        };
        self.sometimes.happened(match refusal {
            SubmitError::EmptyPrompt => "refused: nothing to continue",
            SubmitError::MaxTokensZero => "refused: nothing asked for",
            SubmitError::PriorityUnused { .. } => "refused: priority",
            SubmitError::PromptTooLong { .. } => "refused: too long",
            SubmitError::NeverFits { .. } => "refused: never fits",
            SubmitError::QueueFull { .. } => "refused: queue full",
            SubmitError::ShareFull { .. } => "refused: share full",
            SubmitError::Draining => "refused: draining",
            SubmitError::Stopped => "refused: stopped",
        });
        if matches!(refusal, SubmitError::QueueFull { .. } | SubmitError::ShareFull { .. }) {
            self.refused.push(request);
        }
        false
    }

    fn expected_refusal(&self, request: &Request<Script>) -> Option<SubmitError> {
        let config = &self.workload.config;
        let (prompt_tokens, max_tokens) = (request.prompt.len() as u64, request.max_tokens);
        let positions = prompt_tokens + u64::from(max_tokens) - u64::from(0 < max_tokens);
        let blocks = self.model.blocks_of(positions as usize) as u64;
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
        } else if self.exit.is_some() {
            Some(SubmitError::Stopped)
        } else if self.draining {
            Some(SubmitError::Draining)
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
        }
        while self.rng.chance(self.workload.cancel_percent) {
            let Some(id) = self.any_client() else { return };
            self.cancel(id);
        }
    }

    fn cancel(&mut self, id: RequestId) {
        self.trace.line(|| format!("cancel {id:?}"));
        if self.draining && !self.model.client(id).ended {
            self.sometimes.happened("cancel in a drain");
        }
        self.model.cancel(id, self.sometimes);
        self.handle.cancel(id);
    }

    /// A client of any kind, mostly a late one.
    fn any_client(&mut self) -> Option<RequestId> {
        let count = self.model.clients.len();
        let oldest = count.saturating_sub(self.rng.pick(&[3, 10, 1000])).max(1);
        (0 < count).then(|| RequestId(self.rng.between(oldest, count) as u64))
    }

    fn drains(&mut self) {
        if self.rng.chance(self.workload.drain_percent) {
            self.handle.drain();
            self.drained();
        }
    }

    /// Follows a drain.
    fn drained(&mut self) {
        self.trace.line(|| "drain".to_owned());
        if !self.draining && self.model.running.len() < self.model.in_flight() {
            self.sometimes.happened("drain with requests waiting");
        }
        self.draining = true;
    }

    /// A turn of the owner: commands, then a step.
    fn turn(&mut self) {
        if self.handle.in_flight() == 0 && !self.draining {
            // The owner would wait for a command.
            return;
        }
        self.clock.advance(self.workload.pause(&mut self.rng));
        let flow = self.owner.obey();
        self.model.take_up();
        self.observe();
        self.model.check_cancelled_are_gone();
        match flow {
            ControlFlow::Continue(()) => self.step(),
            ControlFlow::Break(exit) => {
                assert_eq!(exit, WorkerExit::Drained);
                assert!(self.draining && self.model.in_flight() == 0, "it drains too early");
                self.exit = Some(exit);
            }
        }
    }

    fn step(&mut self) {
        let idle = self.owner.engine().is_idle();
        let meanwhile = if idle { Meanwhile::default() } else { self.meanwhile() };
        let expected =
            meanwhile.arrival.as_ref().and_then(|request| self.expected_refusal(request));
        let answer = self.tell_the_device(&meanwhile);
        let flow = self.owner.step();
        let seen = std::mem::take(&mut self.device.state().seen);
        self.trace.line(|| format!("step {seen:?}"));
        assert_eq!(idle, seen.is_empty(), "the device runs exactly when there is work");
        self.follow(&seen);
        self.exit = flow.break_value();
        self.follow_meanwhile(meanwhile, answer, expected, &seen);
        self.observe();
        for row in seen {
            let told = self.model.client(row.id).known.len() - row.tokens.len();
            assert!(told <= row.given, "{:?} is told tokens that nobody chose", row.id);
            if told < row.given && self.exit.is_none() {
                assert!(self.model.client(row.id).ended, "{:?} lost tokens", row.id);
                self.sometimes.happened("tokens dropped behind the end");
            }
        }
    }

    fn follow(&mut self, seen: &[SeenRow]) {
        let engine = self.owner.engine();
        let after = engine.snapshot();
        let snapshots = [&self.before, &after];
        if self.workload.config.scheduling_policy == SchedulingPolicy::Fair {
            self.model.step_fairly(seen, &engine.queues(), snapshots, self.sometimes);
        } else {
            self.model.step(seen, snapshots, self.sometimes);
        }
        for row in seen {
            self.model.follow_draft(row, self.sometimes);
        }
    }

    fn meanwhile(&mut self) -> Meanwhile {
        let time = self.workload.pause(&mut self.rng);
        let percent = self.workload.meanwhile_percent;
        let mut meanwhile = Meanwhile { time, ..Meanwhile::default() };
        if self.rng.chance(percent) {
            meanwhile.arrival = Some(self.any_request());
        }
        if self.rng.chance(percent) && !self.model.running.is_empty() {
            let running = &self.model.running;
            meanwhile.cancels.push(running[self.rng.between(0, running.len() - 1)]);
            meanwhile.cancels.extend(self.any_client());
        }
        meanwhile.drain = self.rng.chance(self.workload.drain_percent);
        meanwhile
    }

    /// Lets the clients do this while the device computes; where the answer to the arrival will be.
    fn tell_the_device(&mut self, meanwhile: &Meanwhile) -> Answer {
        let answer = Answer::default();
        let Meanwhile { time, arrival, cancels, drain } = meanwhile.clone();
        let (handle, clock, told) = (self.handle.clone(), self.clock.clone(), Rc::clone(&answer));
        self.device.state().meanwhile = Some(Box::new(move || {
            clock.advance(time);
            told.set(arrival.map(|request| handle.submit(request)));
            cancels.into_iter().for_each(|id| handle.cancel(id));
            if drain {
                handle.drain();
            }
        }));
        answer
    }

    fn follow_meanwhile(
        &mut self,
        meanwhile: Meanwhile,
        answer: Answer,
        expected: Option<SubmitError>,
        seen: &[SeenRow],
    ) {
        if let Some(request) = meanwhile.arrival {
            let answer = answer.take().expect("the arrival was answered");
            self.answered(request, answer, expected);
            self.sometimes.happened("arrival while a step runs");
        }
        for id in meanwhile.cancels {
            self.trace.line(|| format!("cancel {id:?}"));
            if seen.iter().any(|row| row.id == id) {
                self.sometimes.happened("cancel while its step runs");
            }
            self.model.cancel(id, self.sometimes);
        }
        if meanwhile.drain {
            self.drained();
            self.sometimes.happened("drain while a step runs");
        }
    }

    /// Takes the reports, follows them, and checks everything that must hold between two steps.
    fn observe(&mut self) {
        let reports = self.reports.take();
        let last = reports.last().map(|report| report.snapshot);
        let stopped = self.exit.is_some();
        for event in reports.into_iter().flat_map(|report| report.events) {
            self.trace.line(|| format!("{event:?}"));
            self.model.event(&event, stopped, self.sometimes);
        }
        assert_eq!(self.handle.in_flight(), self.model.in_flight(), "places at the door");
        if self.exit == Some(WorkerExit::Panicked) {
            assert!(self.device.state().has_panicked, "a panic of the engine");
            self.sometimes.happened("device panic");
            return;
        }
        let engine = self.owner.engine();
        engine.check_invariants();
        let snapshot = engine.snapshot();
        assert!(last.is_none_or(|last| last == snapshot), "what is told is not what is");
        self.model.check_snapshot(&snapshot);
        let mut held = 0;
        for block in (0..self.workload.config.block_count).map(BlockId) {
            match engine.block_state(block) {
                BlockState::Held { .. } => held += 1,
                BlockState::Cached => {}
                BlockState::Free => self.device.state().poison(block),
            }
        }
        assert_eq!(snapshot.blocks_used, held, "blocks in use");
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
        self.workload.meanwhile_percent = 0;
        self.workload.drain_percent = 0;
        let steps_max = self.model.steps_max();
        for _ in 0..steps_max {
            if self.model.in_flight() == 0 {
                break;
            }
            self.turn();
        }
        assert_eq!(self.model.in_flight(), 0, "requests are left after {steps_max} steps");
        assert!(self.model.clients.iter().all(|client| client.ended), "a request got no end");
        if self.exit.is_none() {
            self.handle.drain();
            self.draining = true;
            self.turn();
        }
        assert!(self.exit.is_some(), "nothing is left to do, and the owner waits");
        let request = self.any_request();
        self.submit(request);
    }
}
