//! A load test that takes no time: the real engine under a fake clock, asked by modelled users.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use engine::{
    CacheSalt, Clock, Engine, EngineConfig, Event, FakeClock, FinishReason, Nanos, Request,
    RequestId, RequestTimes, Snapshot, SubmitError, Tenant, TokenId,
};
use workload::gauges::GaugeSample;
use workload::lengths::{LengthLaws, Lengths};
use workload::load::{Arrivals, LevelPlan, Load};
use workload::random::RequestKey;
use workload::record::{RequestRecord, ServerTimings, Status, TokenChunk, milliseconds};
use workload::summary::LevelSummary;

use crate::cost::StepCost;
use crate::device::{ModelledDevice, TOKEN};
use crate::recording::{Line, Recording, RecordingError, Says, TEXTS};

/// A server that exists in numbers only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelledServer {
    /// The engine's sizes, as a real server would have them.
    pub engine: EngineConfig,
    /// What its device and its host take.
    pub cost: StepCost,
}

/// What a level left behind: the same that a load test of a real server leaves.
#[derive(Clone, Debug)]
pub struct LevelRun {
    /// What was asked.
    pub plan: LevelPlan,
    /// One for each request, in the order in which they were sent.
    pub records: Vec<RequestRecord>,
    /// The server's gauges, at regular times.
    pub samples: Vec<GaugeSample>,
}

impl LevelRun {
    /// The level in numbers.
    pub fn summary(&self) -> LevelSummary {
        LevelSummary::of(self.plan.clone(), self.records.len(), &self.records, &self.samples)
    }
}

/// Ids from here on are those of shared prefixes.
const PREFIXES: u32 = 1 << 31;

/// Time between two readings of the gauges, as the load test has it.
const GAUGES_PERIOD_NS: u64 = 75_000_000;

/// What is asked, level after level.
pub struct Sweep<'a> {
    /// The levels, in the order in which they run.
    pub levels: Vec<LevelPlan>,
    /// Decides what is left to chance, as in a load test with the same seed.
    pub seed: u64,
    /// The requests, if they were recorded.
    pub recording: Option<&'a Recording<'a>>,
}

/// Why a level cannot be simulated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SimulateError {
    /// The engine would never take requests of this length.
    #[error("the server would refuse every request: {0}")]
    Refused(#[from] SubmitError),
    /// The times of a trace are not known here.
    #[error("when requests were sent is not known here; give a rate or a number of users")]
    Trace,
    /// The lengths of a data set are not known here.
    #[error("the requests of a data set are not known here; give their lengths")]
    Dataset,
    /// What was recorded cannot be asked.
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

/// All that users say and when, beyond what the level's plan says.
#[derive(Default)]
struct Script {
    /// When the requests of an open loop are due, nanoseconds after its beginning.
    schedule_ns: Vec<u64>,
    /// What each user says in its requests; none where it is drawn by the plan.
    lines: Option<Vec<VecDeque<Line>>>,
}

impl ModelledServer {
    /// Runs the levels one after another, each on an engine that has just started.
    ///
    /// # Errors
    /// A load that cannot be simulated.
    pub fn run(&self, sweep: &Sweep<'_>) -> Result<Vec<LevelRun>, SimulateError> {
        let mut levels = sweep.levels.iter();
        self.run_each(sweep.seed, sweep.recording, |_| levels.next().cloned())
    }

    /// Runs levels as long as `next`, which sees those before, names one.
    ///
    /// # Errors
    /// A load that cannot be simulated.
    pub fn run_each(
        &self,
        seed: u64,
        recording: Option<&Recording<'_>>,
        mut next: impl FnMut(&[LevelRun]) -> Option<LevelPlan>,
    ) -> Result<Vec<LevelRun>, SimulateError> {
        let clock = FakeClock::new();
        let (mut runs, mut sent) = (Vec::new(), 0);
        while let Some(plan) = next(&runs) {
            let key = RequestKey { seed, level: runs.len() as u32 + 1, user: 0, request: 0 };
            let script = match recording {
                Some(recording) => self.recorded(&plan, key, sent, recording)?,
                None => self.invented(&plan, key)?,
            };
            sent += plan.requests();
            runs.push(self.simulate(&plan, key, script, &clock));
        }
        Ok(runs)
    }

    /// Runs one level whose requests are drawn, the `level`th of its run from 1, from the present
    /// moment of `clock` on.
    ///
    /// # Errors
    /// A load that cannot be simulated.
    pub fn level(
        &self,
        plan: &LevelPlan,
        seed: u64,
        level: u32,
        clock: &FakeClock,
    ) -> Result<LevelRun, SimulateError> {
        let key = RequestKey { seed, level, user: 0, request: 0 };
        let script = self.invented(plan, key)?;
        Ok(self.simulate(plan, key, script, clock))
    }

    fn invented(&self, plan: &LevelPlan, key: RequestKey) -> Result<Script, SimulateError> {
        check(&self.engine, plan)?;
        Ok(Script { schedule_ns: schedule_ns(plan, key, None)?, lines: None })
    }

    fn recorded(
        &self,
        plan: &LevelPlan,
        key: RequestKey,
        sent: usize,
        recording: &Recording<'_>,
    ) -> Result<Script, SimulateError> {
        let lines = recording.lines(plan, key, sent, self.engine.max_model_len)?;
        Ok(Script { schedule_ns: schedule_ns(plan, key, Some(recording))?, lines: Some(lines) })
    }

    fn simulate(
        &self,
        plan: &LevelPlan,
        key: RequestKey,
        script: Script,
        clock: &FakeClock,
    ) -> LevelRun {
        let mut simulation = Simulation::new(self, plan, key, script, clock);
        simulation.begin();
        while simulation.advance() {}
        let Simulation { records, samples, .. } = simulation;
        LevelRun { plan: plan.clone(), records, samples }
    }
}

/// When the requests of an open loop are due; nothing in a closed one.
fn schedule_ns(
    plan: &LevelPlan,
    key: RequestKey,
    recording: Option<&Recording<'_>>,
) -> Result<Vec<u64>, SimulateError> {
    let Load::Open { arrivals, requests } = plan.load else { return Ok(Vec::new()) };
    let schedule = match arrivals {
        Arrivals::Trace { speed, .. } => recording.and_then(|r| r.schedule_ns(requests, speed)),
        _ => arrivals.schedule_ns(requests, key.seed, key.level),
    };
    schedule.ok_or(SimulateError::Trace)
}

/// What the request `key` of a level like `laws` says.
fn drawn(laws: &LengthLaws, key: RequestKey) -> Line {
    let lengths = laws.draw(key).expect("a data set was refused");
    let opens = laws.opens(key.request);
    let says = Says::Own(lengths.prompt_tokens);
    Line { opens, has_prefix: opens, says, output_tokens: lengths.output_tokens }
}

/// Refuses what cannot be simulated of requests that are drawn.
///
/// # Errors
/// Requests of one length, which `engine` would never take; a trace.
pub fn check(engine: &EngineConfig, plan: &LevelPlan) -> Result<(), SimulateError> {
    if let Some(lengths) = plan.lengths.constant() {
        let prompt = vec![TokenId(1); lengths.prompt_tokens as usize];
        engine.limits().check(&request(prompt, lengths.output_tokens))?;
    }
    if plan.lengths.prompt.is_none() || plan.lengths.output.is_none() {
        return Err(SimulateError::Dataset);
    }
    match plan.load {
        Load::Open { arrivals: Arrivals::Trace { .. }, .. } => Err(SimulateError::Trace),
        Load::Open { .. } | Load::Closed { .. } => Ok(()),
    }
}

fn request(prompt: Vec<TokenId>, max_tokens: u32) -> Request<()> {
    Request {
        prompt,
        max_tokens,
        min_tokens: 0,
        stop_tokens: Vec::new(),
        priority: 0,
        use_prefix_cache: true,
        cache_salt: CacheSalt::default(),
        adapter: None,
        tenant: Tenant::default(),
        params: (),
    }
}

/// One level under way.
struct Simulation<'a> {
    plan: &'a LevelPlan,
    /// The key of the level's first request.
    key: RequestKey,
    script: Script,
    request_ns: u64,
    clock: FakeClock,
    engine: Engine<ModelledDevice>,
    /// Requests on their way to the engine: when they arrive, and their place in `records`.
    arrivals: BinaryHeap<Reverse<(u64, usize)>>,
    records: Vec<RequestRecord>,
    /// The conversation of each user: shared prefix, what was said and answered.
    conversations: Vec<Vec<TokenId>>,
    samples: Vec<GaugeSample>,
    next_sample_ns: u64,
}

impl<'a> Simulation<'a> {
    fn new(
        server: &ModelledServer,
        plan: &'a LevelPlan,
        key: RequestKey,
        script: Script,
        clock: &FakeClock,
    ) -> Simulation<'a> {
        let device = ModelledDevice::new(server.cost, clock.clone());
        Simulation {
            plan,
            key,
            script,
            request_ns: server.cost.request().as_nanos() as u64,
            clock: clock.clone(),
            engine: Engine::new(server.engine, device),
            arrivals: BinaryHeap::new(),
            records: Vec::with_capacity(plan.requests()),
            conversations: vec![Vec::new(); plan.users().map_or(plan.requests(), |n| n as usize)],
            samples: Vec::new(),
            next_sample_ns: clock.now().0,
        }
    }

    /// Sends what does not wait for an answer: the first request of each user, or the schedule.
    fn begin(&mut self) {
        let now = self.clock.now().0;
        match self.plan.load {
            Load::Closed { users, .. } => (0..users).for_each(|user| self.send(user, 0, now)),
            Load::Open { .. } => {
                let schedule = std::mem::take(&mut self.script.schedule_ns);
                (0..).zip(schedule).for_each(|(user, due)| self.send(user, 0, now + due));
            }
        }
    }

    /// A user sends its request number `index` as soon as it is due.
    fn send(&mut self, user: u32, index: u32, due_ns: u64) {
        let lengths = self.say(user, index);
        self.arrivals.push(Reverse((due_ns + self.request_ns, self.records.len())));
        self.records.push(RequestRecord {
            level: self.key.level,
            user,
            index,
            due_ns,
            sent_ns: due_ns,
            first_token_ns: None,
            last_token_ns: None,
            done_ns: due_ns,
            prompt_tokens: None,
            completion_tokens: None,
            asked_tokens: lengths.output_tokens,
            asked_prompt_tokens: Some(lengths.prompt_tokens),
            chunks: Vec::with_capacity(lengths.output_tokens as usize),
            finish_reason: None,
            status: Status::Cancelled,
            timings: None,
            client_delay_ns: 0,
        });
    }

    /// Goes on by a step, or to the next arrival if there is nothing to compute. False when nobody
    /// sends any more and everything is answered.
    fn advance(&mut self) -> bool {
        self.deliver();
        if self.engine.is_idle() {
            let Some(&Reverse((at_ns, _))) = self.arrivals.peek() else { return false };
            self.clock.advance(Nanos(at_ns).since(self.clock.now()));
            return true;
        }
        let before = self.engine.snapshot();
        self.engine.step(&self.clock).expect("the modelled device does not fail");
        self.sample(&before);
        for event in self.engine.drain_events() {
            self.take(event);
        }
        true
    }

    /// Adds to the user's conversation what it says in its request `index`: a text, or one token
    /// over and over, which no other request has. Gives the lengths of the whole prompt and of the
    /// answer.
    fn say(&mut self, user: u32, index: u32) -> Lengths {
        let laws = &self.plan.lengths;
        let key = RequestKey { user, request: index, ..self.key };
        let line = match &mut self.script.lines {
            Some(lines) => lines[user as usize].pop_front().expect("one for each request"),
            None => drawn(laws, key),
        };
        let conversation = &mut self.conversations[user as usize];
        if line.opens {
            conversation.clear();
        }
        if line.has_prefix
            && let Some(prefix) = laws.prefix.pick(key)
        {
            conversation.resize(laws.prefix.tokens as usize, TokenId(PREFIXES + prefix));
        }
        let own = TokenId(u32::try_from(self.records.len() + 1).expect("fewer requests than ids"));
        assert!(own != TOKEN && own.0 < TEXTS, "what is generated, said or shared is nobody's own");
        match line.says {
            Says::Own(tokens) => conversation.resize(conversation.len() + tokens as usize, own),
            Says::Text(ids) => conversation.extend(ids),
        }
        let prompt_tokens = conversation.len() as u32;
        Lengths { prompt_tokens, output_tokens: line.output_tokens }
    }

    /// Submits what has arrived by now.
    fn deliver(&mut self) {
        let now = self.clock.now();
        while let Some(&Reverse((at_ns, place))) = self.arrivals.peek()
            && at_ns <= now.0
        {
            self.arrivals.pop();
            let RequestRecord { user, asked_tokens, .. } = self.records[place];
            let request = request(self.conversations[user as usize].clone(), asked_tokens);
            // It came while a step ran, and has been in the queue since, as behind a real handle.
            let arrived = Nanos(at_ns);
            if let Err(refusal) = self.engine.submit(RequestId(place as u64), request, arrived) {
                self.end(place, now.0, Status::Failed(refusal.to_string()));
            }
        }
    }

    /// Reads the gauges at the times that have passed in a step; they stood as before it.
    fn sample(&mut self, state: &Snapshot) {
        let now = self.clock.now().0;
        while self.next_sample_ns < now {
            self.samples.push(GaugeSample {
                at_ns: self.next_sample_ns,
                running: state.running,
                waiting: state.waiting,
                kv_usage: Some(state.kv_usage()),
                preemptions: Some(state.preemptions_total),
            });
            self.next_sample_ns += GAUGES_PERIOD_NS;
        }
    }

    fn take(&mut self, event: Event<()>) {
        let place = event.id().0 as usize;
        let now = self.clock.now().0;
        let record = &mut self.records[place];
        match event {
            Event::Token { .. } => {
                record.first_token_ns.get_or_insert(now);
                record.last_token_ns = Some(now);
                record.chunks.push(TokenChunk { at_ns: now, tokens: Some(1) });
            }
            Event::Finished { reason, times, .. } => {
                assert_eq!(reason, FinishReason::Length, "only the length ends a request");
                record.prompt_tokens = Some(times.prompt_tokens);
                record.completion_tokens = Some(times.generated_tokens);
                record.finish_reason = Some("length".to_owned());
                record.timings = Some(timings(&times));
                let conversation = &mut self.conversations[record.user as usize];
                let answered = conversation.len() + times.generated_tokens as usize;
                conversation.resize(answered, TOKEN);
                self.end(place, now, Status::Ok);
            }
            Event::Failed { failure, .. } => self.end(place, now, Status::Failed(failure.message)),
        }
    }

    /// Ends a request; its user sends the next one, if any is left.
    fn end(&mut self, place: usize, now: u64, status: Status) {
        let record = &mut self.records[place];
        record.done_ns = now;
        record.status = status;
        let (user, next) = (record.user, record.index + 1);
        if let Load::Closed { requests_per_user, .. } = self.plan.load
            && next < requests_per_user
        {
            let key = RequestKey { user, request: next, ..self.key };
            self.send(user, next, now + self.plan.load.think_time_ns(key));
        }
    }
}

/// The times as a server tells them.
fn timings(times: &RequestTimes) -> ServerTimings {
    let stage = |from: Option<Nanos>, to: Option<Nanos>| Some(milliseconds(from?.0, to?.0));
    ServerTimings {
        queue_ms: stage(Some(times.arrived), times.scheduled),
        prefill_ms: stage(times.scheduled, times.first_token),
        decode_ms: stage(times.first_token, Some(times.finished)),
        cached_prompt_tokens: Some(times.cached_prompt_tokens),
    }
}

#[cfg(test)]
pub(crate) mod tests;
