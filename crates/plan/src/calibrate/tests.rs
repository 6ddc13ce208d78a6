use engine::{KvGroups, SchedulingPolicy, Speculation};
use workload::lengths::Lengths;
use workload::load::{LevelPlan, Load};

use super::*;

/// A device whose host binds at one sequence and whose budget binds at the start of a level.
const COST: StepCost = StepCost {
    host_us: 4000.0,
    step_us: 2500.0,
    token_us: 400.0,
    row_us: 150.0,
    kv_token_us: 0.9,
    request_us: 1500.0,
};

const ENGINE: EngineConfig = EngineConfig {
    block_size: 32,
    block_count: 2000,
    kv_groups: KvGroups::ONE,
    max_model_len: 1024,
    max_num_seqs: 20,
    max_num_batched_tokens: 256,
    max_num_queued_reqs: 80,
    prefix_cache: true,
    scheduling_policy: SchedulingPolicy::Fcfs,
    speculation: Speculation::OFF,
};

const SEED: u64 = 3;

fn measured(users: &[u32], lengths: Lengths) -> Vec<Observation> {
    let server = ModelledServer { engine: ENGINE, cost: COST };
    let level = |(number, &users)| {
        let plan = LevelPlan { load: Load::closed(users, 4), lengths: lengths.into() };
        let run = server.level(&plan, SEED, number, &FakeClock::new()).expect("the requests fit");
        Observation { number, plan, figures: Figures::of(&run.records) }
    };
    (1..).zip(users).map(level).collect()
}

fn target(levels: &[Observation]) -> Target<'_> {
    Target { engine: ENGINE, seed: SEED, levels }
}

const SHORT: Lengths = Lengths { prompt_tokens: 100, output_tokens: 128 };

#[track_caller]
fn assert_near(found: StepCost, expected: StepCost, tolerance: f64) {
    let pairs = found.values().into_iter().zip(expected.values());
    let off = pairs.map(|(found, expected)| (found / expected - 1.0).abs());
    assert!(off.fold(0.0, f64::max) < tolerance, "{found:?} in place of {expected:?}");
}

#[test]
fn the_parameters_of_a_run_are_found_that_the_fit_was_not_told() {
    let levels = measured(&[1, 4, 8, 16], SHORT);
    let mut told = 0;
    let fit = fit(&[target(&levels)], &Held::default(), |n| told = n);
    let fit = fit.expect("there is a run");
    // Rows are few beside positions, so a little of one's cost may pass for the other's.
    assert_near(fit.cost, COST, 0.07);
    assert!(fit.misfit < 0.2, "{fit:?}");
    assert_eq!(told, fit.simulations);
}

#[test]
fn what_is_held_stays_and_the_rest_is_found() {
    let levels = measured(&[1, 4, 8, 16], SHORT);
    let held = [None, None, Some(COST.token_us), None, Some(COST.kv_token_us), None];
    let fit = fit(&[target(&levels)], &held, |_| ()).expect("a run");
    assert_eq!((fit.cost.token_us, fit.cost.kv_token_us), (COST.token_us, COST.kv_token_us));
    assert_near(fit.cost, COST, 0.05);
}

#[test]
fn levels_beyond_the_cap_and_other_lengths_are_predicted() {
    let levels = measured(&[1, 4, 8, 16], SHORT);
    let fit = fit(&[target(&levels)], &Held::default(), |_| ());
    let fit = fit.expect("there is a run");
    let mut unseen = measured(&[40], SHORT);
    unseen.extend(measured(&[10], Lengths { prompt_tokens: 400, output_tokens: 200 }));
    let predicted = predict(&target(&unseen), fit.cost).expect("the requests fit");
    for (level, predicted) in unseen.iter().zip(&predicted) {
        let throughput = |figures: &Figures| figures.tokens_per_second.expect("it ran");
        let ratio = throughput(predicted) / throughput(&level.figures);
        assert!((ratio - 1.0).abs() < 0.02, "{:?}: {ratio}", level.plan);
    }
}

#[test]
fn the_same_run_gives_the_same_parameters() {
    let levels = measured(&[1, 8], SHORT);
    let once = || fit(&[target(&levels)], &Held::default(), |_| ());
    assert_eq!(once(), once());
}

#[test]
fn without_a_level_nothing_is_fitted() {
    assert_eq!(fit(&[], &Held::default(), |_| ()), Err(CalibrateError::NoLevels));
    let mut levels = measured(&[2], SHORT);
    levels[0].figures.ttft_ms = None;
    let refusal = Err(CalibrateError::NoTimes { number: 1 });
    assert_eq!(fit(&[target(&levels)], &Held::default(), |_| ()), refusal);
}

#[test]
fn a_run_that_the_engine_would_refuse_is_refused() {
    let levels = measured(&[2], SHORT);
    let engine = EngineConfig { max_model_len: 200, ..ENGINE };
    let refused = fit(&[Target { engine, ..target(&levels) }], &Held::default(), |_| ());
    assert!(matches!(refused, Err(CalibrateError::Load(_))), "{refused:?}");
}
