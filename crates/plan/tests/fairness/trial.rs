//! Clients that ask the real scheduler for answers of the modelled device, for some time.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{
    CacheSalt, Clock, Engine, EngineConfig, Event, FakeClock, KvGroups, Request, RequestId,
    SchedulingPolicy, Speculation, Tenant, TokenId,
};
use plan::cost::StepCost;
use plan::device::ModelledDevice;

/// Milliseconds for a step, for a position and for a row, as a processor of a few cores has them.
pub const COST: StepCost = StepCost {
    host_us: 0.0,
    step_us: 15_000.0,
    token_us: 500.0,
    row_us: 300.0,
    kv_token_us: 0.5,
    request_us: 0.0,
};

pub const ENGINE: EngineConfig = EngineConfig {
    block_size: 32,
    block_count: 1000,
    kv_groups: KvGroups::ONE,
    max_model_len: 4096,
    max_num_seqs: 50,
    max_num_batched_tokens: 256,
    max_num_queued_reqs: 200,
    prefix_cache: true,
    scheduling_policy: SchedulingPolicy::Fair,
    speculation: Speculation::OFF,
};

/// Requests sent before are not counted: all begin at once, which nobody does for long.
const WARM_UP: Duration = Duration::from_secs(20);

/// A client that keeps `users` requests in flight as far as it is let in.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    pub tenant: Tenant,
    pub users: usize,
    pub prompt_tokens: usize,
    pub output_tokens: u32,
    /// When it begins to ask.
    pub begin: Duration,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Times to first token of each crowd, in nanoseconds, sorted.
    pub ttft_ns: Vec<Vec<u64>>,
    /// The longest time between two tokens of one answer, for each crowd.
    pub gap_ns_max: Vec<u64>,
    /// Positions computed for each crowd, the tokens of answers and the prompts of those answered.
    pub tokens: Vec<u64>,
    pub step_ns_max: u64,
}

impl Outcome {
    pub fn percentile(&self, crowd: usize, percent: usize) -> u64 {
        let sorted = &self.ttft_ns[crowd];
        sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
    }
}

/// A run under way.
pub struct Trial {
    engine: Engine<ModelledDevice>,
    clock: FakeClock,
    crowds: Vec<Crowd>,
    in_flight: Vec<usize>,
    /// Whose a request is, and when its last token came.
    requests: BTreeMap<RequestId, (usize, Option<u64>)>,
    next_id: u64,
    outcome: Outcome,
}

impl Trial {
    /// Lets the crowds ask for `time`; each asks again as soon as it is answered.
    pub fn run(engine: EngineConfig, crowds: &[Crowd], time: Duration) -> Outcome {
        let clock = FakeClock::new();
        let mut trial = Trial {
            engine: Engine::new(engine, ModelledDevice::new(COST, clock.clone())),
            clock,
            crowds: crowds.to_vec(),
            in_flight: vec![0; crowds.len()],
            requests: BTreeMap::new(),
            next_id: 0,
            outcome: Outcome {
                ttft_ns: vec![Vec::new(); crowds.len()],
                gap_ns_max: vec![0; crowds.len()],
                tokens: vec![0; crowds.len()],
                ..Outcome::default()
            },
        };
        while trial.clock.now().0 < time.as_nanos() as u64 {
            trial.arrivals();
            trial.step();
        }
        let mut outcome = trial.outcome;
        outcome.ttft_ns.iter_mut().for_each(|times| times.sort());
        outcome
    }

    fn arrivals(&mut self) {
        for index in 0..self.crowds.len() {
            let crowd = self.crowds[index];
            if self.clock.now().0 < crowd.begin.as_nanos() as u64 {
                continue;
            }
            while self.in_flight[index] < crowd.users {
                let id = RequestId(self.next_id);
                // No two requests share a block.
                let token = TokenId(self.next_id as u32 + 1);
                let request = Request {
                    prompt: vec![token; crowd.prompt_tokens],
                    max_tokens: crowd.output_tokens,
                    min_tokens: 0,
                    stop_tokens: Vec::new(),
                    priority: 0,
                    use_prefix_cache: true,
                    cache_salt: CacheSalt::default(),
                    adapter: None,
                    tenant: crowd.tenant,
                    params: (),
                };
                if self.engine.submit(id, request, self.clock.now()).is_err() {
                    break;
                }
                self.requests.insert(id, (index, None));
                self.in_flight[index] += 1;
                self.next_id += 1;
            }
        }
    }

    fn step(&mut self) {
        let before = self.clock.now().0;
        self.engine.step(&self.clock).expect("the modelled device does not fail");
        let took = self.clock.now().0 - before;
        self.outcome.step_ns_max = self.outcome.step_ns_max.max(took);
        for event in self.engine.drain_events() {
            let (crowd, last) = self.requests.get_mut(&event.id()).expect("who asked is known");
            let crowd = *crowd;
            match event {
                Event::Finished { id, times, .. } => {
                    let first = times.first_token.expect("it has tokens");
                    let waited = first.since(times.arrived).as_nanos() as u64;
                    if WARM_UP.as_nanos() as u64 <= times.arrived.0 {
                        self.outcome.ttft_ns[crowd].push(waited);
                    }
                    self.outcome.tokens[crowd] += u64::from(times.prompt_tokens);
                    self.in_flight[crowd] -= 1;
                    self.requests.remove(&id);
                }
                Event::Token { .. } => {
                    let now = self.clock.now().0;
                    let gap = last.replace(now).map_or(0, |last| now - last);
                    let gap_max = &mut self.outcome.gap_ns_max[crowd];
                    *gap_max = gap.max(*gap_max);
                    self.outcome.tokens[crowd] += 1;
                }
                Event::Failed { failure, .. } => panic!("{}", failure.message),
            }
        }
    }
}

/// A crowd that asks from the start, of a tenant of weight 1.
pub fn crowd(id: u64, users: usize, prompt_tokens: usize, output_tokens: u32) -> Crowd {
    let tenant = Tenant { id, weight: 1 };
    Crowd { tenant, users, prompt_tokens, output_tokens, begin: Duration::ZERO }
}

/// More requests than are ever let in.
pub fn floods() -> [Crowd; 3] {
    // Much to compute; many places held for long; as many blocks as there are.
    [crowd(2, 10_000, 400, 100), crowd(2, 10_000, 32, 400), crowd(2, 10_000, 900, 600)]
}
