//! What a client that floods the server does to the waits of another, with the real scheduler on
//! the modelled device.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{
    CacheSalt, Clock, Engine, EngineConfig, Event, FakeClock, Request, RequestId, SchedulingPolicy,
    Speculation, Tenant, TokenId,
};
use plan::cost::StepCost;
use plan::device::ModelledDevice;

/// Milliseconds for a step, for a position and for a row, as a processor of a few cores has them.
const COST: StepCost = StepCost {
    host_us: 0.0,
    step_us: 15_000.0,
    token_us: 500.0,
    row_us: 300.0,
    kv_token_us: 0.5,
    request_us: 0.0,
};

const ENGINE: EngineConfig = EngineConfig {
    block_size: 32,
    block_count: 1000,
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
struct Crowd {
    tenant: Tenant,
    users: usize,
    prompt_tokens: usize,
    output_tokens: u32,
}

/// What came of a run.
#[derive(Debug, Default)]
struct Outcome {
    /// Times to first token of each crowd, in nanoseconds, sorted.
    ttft_ns: Vec<Vec<u64>>,
    /// Positions computed for each crowd, the tokens of answers and the prompts of those answered.
    tokens: Vec<u64>,
    step_ns_max: u64,
}

impl Outcome {
    fn percentile(&self, crowd: usize, percent: usize) -> u64 {
        let sorted = &self.ttft_ns[crowd];
        sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
    }
}

struct Trial {
    engine: Engine<ModelledDevice>,
    clock: FakeClock,
    crowds: Vec<Crowd>,
    in_flight: Vec<usize>,
    /// Whose a request is, and when it was sent.
    requests: BTreeMap<RequestId, (usize, u64)>,
    next_id: u64,
    outcome: Outcome,
}

impl Trial {
    /// Lets the crowds ask for `time`; each asks again as soon as it is answered.
    fn run(engine: EngineConfig, crowds: &[Crowd], time: Duration) -> Outcome {
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
                    tenant: crowd.tenant,
                    params: (),
                };
                if self.engine.submit(id, request, self.clock.now()).is_err() {
                    break;
                }
                self.requests.insert(id, (index, self.clock.now().0));
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
            let (crowd, _) = self.requests[&event.id()];
            match event {
                Event::Finished { times, .. } => {
                    let first = times.first_token.expect("it has tokens");
                    let waited = first.since(times.arrived).as_nanos() as u64;
                    if WARM_UP.as_nanos() as u64 <= times.arrived.0 {
                        self.outcome.ttft_ns[crowd].push(waited);
                    }
                    self.outcome.tokens[crowd] += u64::from(times.prompt_tokens);
                    self.in_flight[crowd] -= 1;
                }
                Event::Token { .. } => self.outcome.tokens[crowd] += 1,
                Event::Failed { failure, .. } => panic!("{}", failure.message),
            }
        }
    }
}

fn crowd(id: u64, users: usize, prompt_tokens: usize, output_tokens: u32) -> Crowd {
    Crowd { tenant: Tenant { id, weight: 1 }, users, prompt_tokens, output_tokens }
}

/// More requests than are ever let in.
fn floods() -> [Crowd; 3] {
    // Much to compute; many places held for long; as many blocks as there are.
    [crowd(2, 10_000, 400, 100), crowd(2, 10_000, 32, 400), crowd(2, 10_000, 900, 600)]
}

const TIME: Duration = Duration::from_secs(120);

/// For clients that want no more than their share.
#[test]
fn a_flood_makes_nobody_wait_more_than_twice_as_long_and_a_step() {
    let quiet = [(32, 1), (128, 4), (512, 1), (512, 4), (1000, 1), (64, 10)];
    for budget in [256, 2048] {
        let engine = EngineConfig { max_num_batched_tokens: budget, ..ENGINE };
        for (prompt_tokens, users) in quiet {
            let quiet = crowd(1, users, prompt_tokens, 40);
            let alone = Trial::run(engine, &[quiet], TIME).percentile(0, 99);
            for flood in floods() {
                let flooded = Trial::run(engine, &[quiet, flood], TIME);
                let p99 = flooded.percentile(0, 99);
                let limit = 2 * alone + flooded.step_ns_max;
                let case = format!("budget {budget}, {users} x {prompt_tokens}, {flood:?}");
                assert!(p99 <= limit, "{case}: p99 of {p99} ns, alone {alone}, limit {limit}");
            }
        }
    }
}

#[test]
fn sharing_costs_no_throughput() {
    for flood in floods() {
        let crowds = [crowd(1, 4, 512, 40), flood];
        let tokens = |scheduling_policy| {
            let engine = EngineConfig { scheduling_policy, ..ENGINE };
            Trial::run(engine, &crowds, TIME).tokens.iter().sum::<u64>()
        };
        let (fair, fcfs) = (tokens(SchedulingPolicy::Fair), tokens(SchedulingPolicy::Fcfs));
        assert!(fcfs * 95 <= fair * 100, "{fair} tokens fairly, {fcfs} first come, first served");
    }
}

#[test]
fn two_floods_share_by_weight() {
    for weight in [1, 3] {
        let second = Tenant { id: 2, weight };
        let crowds =
            [crowd(1, 10_000, 400, 50), Crowd { tenant: second, ..crowd(2, 10_000, 400, 50) }];
        let tokens = Trial::run(ENGINE, &crowds, TIME).tokens;
        let percent = tokens[1] * 100 / (tokens[0] * u64::from(weight));
        assert!((90..=110).contains(&percent), "{tokens:?} at 1 to {weight}");
    }
}
