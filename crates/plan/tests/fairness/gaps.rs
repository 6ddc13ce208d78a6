//! The time between two tokens of a stream that runs, whatever else comes. Every step lets it go on, so
//! that this is at most the time of the longest step that the configuration allows.

use std::time::Duration;

use engine::{EngineConfig, SchedulingPolicy};
use plan::cost::StepWork;

use crate::trial::{COST, Crowd, ENGINE, Trial, crowd, floods};

const POLICIES: [SchedulingPolicy; 3] =
    [SchedulingPolicy::Fcfs, SchedulingPolicy::Priority, SchedulingPolicy::Fair];
/// Most positions of a step.
const BUDGETS: [u32; 3] = [64, 256, 2048];
const STREAMS: usize = 20;
/// When the others come: the streams run by then.
const BEGIN: Duration = Duration::from_secs(20);

/// Streams that run all the time.
fn streams(output_tokens: u32) -> Crowd {
    crowd(1, STREAMS, 32, output_tokens)
}

/// The longest step: all positions of the budget, a token for every row, every block read.
fn step_ns_max(engine: &EngineConfig) -> u64 {
    let work = StepWork {
        positions: engine.max_num_batched_tokens as usize,
        rows: engine.max_num_seqs as usize,
        kv_tokens: (engine.block_count * engine.block_size) as usize,
    };
    COST.step(work).as_nanos() as u64
}

/// A step of so many positions that reads nothing, as no step of the streams alone is.
fn step_ns_of(positions: usize) -> u64 {
    let work = StepWork { positions, rows: STREAMS, kv_tokens: 0 };
    COST.step(work).as_nanos() as u64
}

#[test]
fn a_long_prompt_holds_no_stream_up_for_longer_than_a_step_and_is_answered_in_time() {
    let prompt_tokens = 100_000;
    for policy in POLICIES {
        for budget in BUDGETS {
            let engine = EngineConfig {
                block_count: 16_384,
                max_model_len: 131_072,
                max_num_batched_tokens: budget,
                scheduling_policy: policy,
                ..ENGINE
            };
            let long = Crowd { begin: BEGIN, ..crowd(2, 1, prompt_tokens, 1) };
            // What the streams leave of each step's budget; one step is under way when it arrives.
            let steps = prompt_tokens.div_ceil(budget as usize - STREAMS) as u64 + 1;
            let limit = step_ns_max(&engine);
            let time = BEGIN + Duration::from_nanos(limit * steps);
            let outcome = Trial::run(engine, &[streams(20_000), long], time);
            let case = format!("{policy}, budget {budget}");
            let gap = outcome.gap_ns_max[0];
            assert!(gap <= limit, "{case}: {gap} ns between two tokens, limit {limit}");
            assert!(step_ns_of(budget as usize) <= gap, "{case}: no step was full");
            let first = outcome.ttft_ns[1].first().unwrap_or_else(|| panic!("{case}: no answer"));
            assert!(*first <= limit * steps, "{case}: the long prompt waits {first} ns");
        }
    }
}

#[test]
fn a_flood_holds_no_stream_up_for_longer_than_a_step() {
    for policy in POLICIES {
        for budget in BUDGETS {
            let engine = EngineConfig {
                block_count: 2000,
                max_num_batched_tokens: budget,
                scheduling_policy: policy,
                ..ENGINE
            };
            for flood in floods() {
                let crowds = [streams(1000), Crowd { begin: BEGIN, ..flood }];
                let outcome = Trial::run(engine, &crowds, 2 * BEGIN);
                let (gap, limit) = (outcome.gap_ns_max[0], step_ns_max(&engine));
                let case = format!("{policy}, budget {budget}, {flood:?}");
                assert!(gap <= limit, "{case}: {gap} ns between two tokens, limit {limit}");
                let places = engine.max_num_seqs as usize - STREAMS;
                let come = (STREAMS + places * flood.prompt_tokens).min(budget as usize);
                assert!(step_ns_of(come) <= gap, "{case}: no step was as full as it could be");
            }
        }
    }
}
