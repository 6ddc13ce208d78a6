use engine::{KvGroups, SchedulingPolicy, Speculation};
use workload::analysis::{Evidence, Finding, analyse};
use workload::distribution::Distribution;
use workload::lengths::{LengthLaws, SharedPrefix};

use super::*;

const COST: StepCost = StepCost {
    host_us: 0.0,
    step_us: 1000.0,
    token_us: 10.0,
    row_us: 100.0,
    kv_token_us: 1.0,
    request_us: 500.0,
};

pub(crate) const ENGINE: EngineConfig = EngineConfig {
    block_size: 16,
    block_count: 1000,
    kv_groups: KvGroups::ONE,
    max_model_len: 256,
    max_num_seqs: 8,
    max_num_batched_tokens: 64,
    max_num_queued_reqs: 64,
    prefix_cache: true,
    scheduling_policy: SchedulingPolicy::Fcfs,
    speculation: Speculation::OFF,
};

pub(crate) const SERVER: ModelledServer = ModelledServer { engine: ENGINE, cost: COST };

fn plan(users: u32, requests_per_user: u32, lengths: (u32, u32)) -> LevelPlan {
    let (prompt_tokens, output_tokens) = lengths;
    let lengths = Lengths { prompt_tokens, output_tokens }.into();
    LevelPlan { load: Load::closed(users, requests_per_user), lengths }
}

const KEY: RequestKey = RequestKey { seed: 7, level: 1, user: 0, request: 0 };

fn run(server: &ModelledServer, plan: LevelPlan) -> LevelRun {
    server.level(&plan, KEY.seed, 1, &FakeClock::new()).expect("the requests fit")
}

fn sweep(levels: Vec<LevelPlan>) -> Vec<LevelRun> {
    SERVER.run(&Sweep { levels, seed: KEY.seed, recording: None }).expect("the requests fit")
}

#[test]
fn one_request_takes_its_way_and_its_steps() {
    let run = run(&SERVER, plan(1, 2, (50, 3)));
    let [first, second] = &run.records[..] else { panic!("two requests") };
    // The prompt: 1000 + 50 x 10 + 100 + 50; then two steps of 1000 + 10 + 100 + 51, + 52.
    let (prompt_ns, decode_ns) = (1_650_000, 1_161_000 + 1_162_000);
    assert_eq!(first.sent_ns, 0);
    assert_eq!(first.first_token_ns, Some(500_000 + prompt_ns));
    assert_eq!(first.last_token_ns, Some(500_000 + prompt_ns + decode_ns));
    assert_eq!((second.due_ns, second.sent_ns), (first.done_ns, first.done_ns));
    assert_eq!(second.latency_ms(), first.latency_ms());
    assert_eq!((first.prompt_tokens, first.completion_tokens), (Some(50), Some(3)));
    let timings = first.timings.expect("a server gives them");
    assert_eq!((timings.queue_ms, timings.prefill_ms), (Some(0.0), Some(1.65)));
    assert_eq!(timings.decode_ms, Some(decode_ns as f64 / 1e6));
}

#[test]
fn a_prompt_longer_than_the_budget_is_cut_into_steps() {
    let run = run(&SERVER, plan(1, 1, (100, 1)));
    // 64 positions, read back once; then 36, which give the token.
    let steps_ns = (1000 + 640 + 64) + (1000 + 360 + 100 + 100);
    assert_eq!(run.records[0].first_token_ns, Some((500 + steps_ns) * 1000));
}

#[test]
fn a_run_is_the_same_every_time() {
    let mut drawn = plan(12, 2, (20, 40));
    drawn.lengths.output = Some(Distribution::Uniform { min: 5.0, max: 60.0 });
    let text = || {
        let runs = sweep(vec![plan(3, 4, (50, 30)), drawn.clone()]);
        let level = |run: &LevelRun| {
            let records = serde_json::to_string(&run.records).expect("plain data");
            records + &serde_json::to_string(&run.samples).expect("plain data")
        };
        runs.iter().map(level).collect::<String>()
    };
    assert_eq!(text(), text());
}

#[test]
fn levels_follow_one_another_and_do_not_know_of_one_another() {
    let level = plan(3, 4, (50, 30));
    let runs = sweep(vec![plan(12, 2, (20, 40)), level.clone()]);
    let end_of_first = runs[0].records.iter().map(|record| record.done_ns).max();
    assert_eq!(runs[1].records.iter().map(|record| record.sent_ns).min(), end_of_first);
    let alone = run(&SERVER, level).summary();
    assert_eq!(runs[1].summary().latency_ms, alone.latency_ms);
}

#[test]
fn no_prompt_is_found_in_the_prefix_cache() {
    let level = plan(12, 5, (50, 30));
    let cached = run(&SERVER, level.clone());
    assert_eq!(cached.summary().cached_share, Some(0.0));
    let engine = EngineConfig { prefix_cache: false, ..ENGINE };
    assert_eq!(run(&ModelledServer { engine, ..SERVER }, level).records, cached.records);
}

#[test]
fn the_analysis_finds_the_cap() {
    let level = run(&SERVER, plan(12, 5, (50, 60))).summary();
    let findings = analyse(&Evidence {
        levels: &[level],
        levels_not_run: &[],
        max_num_seqs: Some(8),
        max_num_batched_tokens: None,
        has_gauges: true,
        exact_prompts: true,
        host: None,
    });
    let cap = findings.iter().find_map(|finding| match finding {
        Finding::SequenceCap { cap, queued, signs, .. } => Some((*cap, *queued, signs.count())),
        _ => None,
    });
    assert_eq!(cap, Some((8, 4, 3)), "{findings:?}");
}

#[test]
fn the_engine_keeps_its_invariants_when_blocks_run_out() {
    let engine = EngineConfig { block_count: 20, ..ENGINE };
    let server = ModelledServer { engine, ..SERVER };
    let plan = plan(12, 5, (50, 60));
    let clock = FakeClock::new();
    let mut simulation = Simulation::new(&server, &plan, KEY, Script::default(), &clock);
    simulation.begin();
    while simulation.advance() {
        simulation.engine.check_invariants();
    }
    let Simulation { records, samples, .. } = simulation;
    let summary = LevelRun { plan, records, samples }.summary();
    assert!(summary.is_complete() && summary.counts.failed == 0, "{:?}", summary.counts);
    let preempted = summary.gauges.and_then(|gauges| gauges.preemptions);
    assert!(preempted.is_some_and(|count| 0 < count), "{preempted:?}");
}

#[test]
fn a_full_queue_refuses_and_the_user_goes_on() {
    let engine = EngineConfig { max_num_queued_reqs: 2, ..ENGINE };
    let summary = run(&ModelledServer { engine, ..SERVER }, plan(12, 3, (50, 60))).summary();
    assert!(summary.counts.balance() && 0 < summary.counts.failed, "{:?}", summary.counts);
    let message = summary.first_failure.expect("the first failure says why");
    assert!(message.contains("the limit is 10"), "{message}");
}

#[test]
fn a_request_that_can_never_be_served_is_refused_before_anything_runs() {
    let refusal = check(&ENGINE, &plan(1, 1, (250, 7))).expect_err("257 tokens in 256");
    assert!(refusal.to_string().contains("256 tokens"), "{refusal}");
}

#[test]
fn a_request_drawn_too_long_fails_alone() {
    let mut plan = plan(2, 20, (200, 7));
    plan.lengths.output = Some(Distribution::Uniform { min: 1.0, max: 100.0 });
    let counts = run(&SERVER, plan).summary().counts;
    assert!(counts.balance() && 0 < counts.failed && 0 < counts.ok, "{counts:?}");
}

#[test]
fn users_think_before_they_send_again() {
    let think_time_s = Distribution::fixed(2.0);
    let load = Load::Closed { users: 1, requests_per_user: 2, think_time_s };
    let run = run(&SERVER, LevelPlan { load, ..plan(1, 1, (50, 3)) });
    assert_eq!(run.records[1].due_ns, run.records[0].done_ns + 2_000_000_000);
    assert_eq!(run.records[1].latency_ms(), run.records[0].latency_ms());
}

fn open(arrivals: Arrivals, requests: u32) -> LevelPlan {
    LevelPlan { load: Load::Open { arrivals, requests }, ..plan(1, 1, (50, 3)) }
}

#[test]
fn an_open_loop_does_not_wait_for_answers() {
    // Each takes 3.973 ms alone, so at one a second they do not meet, and at 1,000 they queue.
    let slow = run(&SERVER, open(Arrivals::Constant { rate: 1.0 }, 5));
    let due: Vec<u64> = slow.records.iter().map(|record| record.due_ns / 1_000_000).collect();
    assert_eq!(due, [0, 1000, 2000, 3000, 4000]);
    let latency = slow.summary().latency_ms.expect("all succeed");
    assert_eq!(latency.min, latency.max);
    let fast = run(&SERVER, open(Arrivals::Poisson { rate: 1000.0 }, 60));
    let queued = fast.summary().latency_ms.expect("all succeed");
    assert!(3.0 * latency.max < queued.max, "{queued:?}");
    assert_eq!(fast.records.iter().map(|record| record.user).max(), Some(59));
}

#[test]
fn a_shared_beginning_is_computed_once() {
    let prefix = SharedPrefix { tokens: 48, count: 1 };
    let lengths = LengthLaws { prefix, ..plan(1, 3, (20, 3)).lengths };
    let run = run(&SERVER, LevelPlan { lengths, ..plan(1, 3, (20, 3)) });
    let cached = run.records.iter().map(|record| {
        (record.prompt_tokens, record.timings.expect("a server gives them").cached_prompt_tokens)
    });
    let cached: Vec<_> = cached.collect();
    assert_eq!(cached, [(Some(68), Some(0)), (Some(68), Some(48)), (Some(68), Some(48))]);
}

#[test]
fn a_turn_finds_the_turns_before_it_in_the_cache() {
    let lengths = LengthLaws { turns: 2, ..plan(1, 4, (30, 10)).lengths };
    let run = run(&SERVER, LevelPlan { lengths, ..plan(1, 4, (30, 10)) });
    let cached = run.records.iter().map(|record| {
        (record.prompt_tokens, record.timings.expect("a server gives them").cached_prompt_tokens)
    });
    // 30 + 10 tokens were said, of which the last was never computed: two whole blocks of 16.
    let turn = [(Some(30), Some(0)), (Some(70), Some(32))];
    assert_eq!(cached.collect::<Vec<_>>(), [turn, turn].concat());
}

#[test]
fn a_data_set_is_refused() {
    let mut plan = plan(1, 1, (5, 5));
    plan.lengths.prompt = None;
    assert_eq!(check(&ENGINE, &plan), Err(SimulateError::Dataset));
}

#[test]
fn a_trace_is_refused() {
    let trace = Arrivals::Trace { span_s: 1.0, speed: 1.0 };
    assert_eq!(check(&ENGINE, &open(trace, 2)), Err(SimulateError::Trace));
}
