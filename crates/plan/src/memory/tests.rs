//! The seed's own line, lines that vLLM logged elsewhere, and boundaries.

use super::*;
use crate::dtype::WeightsDtype;
use crate::hardware::Hardware;
use crate::shape::{ShapeSizes, Style, Weights};

const GIB: f64 = (1_u64 << 30) as f64;

const SEED: EngineSizes = EngineSizes {
    max_model_len: 1818,
    max_num_seqs: 50,
    max_num_batched_tokens: 2048,
    block_size: 16,
    kv_dtype: KvDtype::F16,
};

fn seed(utilization: f64) -> Question {
    let demand = Estimate::new(&Shape::seed(), &SEED).demand(&SEED);
    let card = Hardware::named("rtx-4090").unwrap();
    let memory = free_device(card.memory_bytes, utilization);
    Question { demand, memory, length: 1818, users: 64 }
}

#[test]
fn the_seeds_concurrency_is_found() {
    let answers = seed(0.5).answers();
    let budget = answers.budget.unwrap();
    let off = budget.max_concurrency() / 51.20 - 1.0;
    assert!(off.abs() < 0.01, "{} is off by {off}", budget.max_concurrency());
    assert_eq!(answers.concurrency, budget.max_concurrency());
}

/// Llama-3.2-1B on an L40S. vLLM 0.10 logged: 39.88 GiB requested with utilisation 0.9, weights
/// 2.32 GiB, torch peak 0.45 GiB, 75,972 blocks, `Maximum concurrency for 131,072 tokens per
/// request: 9.27x`.
#[test]
fn a_log_of_vllm_is_met_within_a_percent() {
    let sizes = ShapeSizes {
        layers: 16,
        width: 2048,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        ffn: 8192,
        vocabulary: 128_256,
        positions: 131_072,
    };
    let weights = Weights::Typed(WeightsDtype::F16);
    let shape = Shape { sizes, style: Style::LLAMA, weights, ..Shape::seed() };
    let engine = EngineSizes { max_model_len: 131_072, max_num_seqs: 256, ..SEED };
    let estimate = Estimate::new(&shape, &engine);
    assert!((estimate.weights_bytes as f64 / GIB / 2.32 - 1.0).abs() < 0.01);
    assert!((estimate.activation_bytes() as f64 / GIB / 0.45 - 1.0).abs() < 0.02);
    let card = Hardware::named("l40s").unwrap();
    let memory = free_device(card.memory_bytes, 0.9);
    let budget = Budget::new(estimate.demand(&engine), memory).unwrap();
    assert!((f64::from(budget.block_count) / 75_972.0 - 1.0).abs() < 0.01, "{budget}");
    assert!((budget.max_concurrency() / 9.27 - 1.0).abs() < 0.01);
}

#[test]
fn what_is_not_there_at_the_same_time_is_not_added() {
    let estimate = Estimate::new(&Shape::seed(), &SEED);
    // 2048 tokens of 16-bit floats: twice the width, then both sides of the feed-forward part.
    assert_eq!(estimate.hidden_bytes, 2048 * 2 * 2 * 1280);
    assert_eq!(estimate.widest_bytes, 2048 * 2 * 2 * 5120);
    assert_eq!(estimate.sampling_bytes, 50 * 8194 * 14);
    assert_eq!(estimate.activation_bytes(), estimate.hidden_bytes + estimate.widest_bytes);
    let few = EngineSizes { max_num_batched_tokens: 50, ..SEED };
    let few = Estimate::new(&Shape::seed(), &few);
    assert_eq!(few.activation_bytes(), few.hidden_bytes + few.sampling_bytes);
}

#[test]
fn the_utilisation_for_users_is_just_enough() {
    for users in [1, 3, 50, 64, 100] {
        let question = Question { users, ..seed(0.5) };
        let needed = question.answers().utilization_for_users;
        let concurrency = |utilization| {
            let memory = Memory { utilization, ..question.memory };
            Question { memory, ..question }.answers().concurrency
        };
        assert!(f64::from(users) <= concurrency(needed), "{users} at {needed}");
        assert!(concurrency(needed - 1e-4) < f64::from(users), "{users} below {needed}");
    }
}

#[test]
fn the_least_utilisation_is_the_least_that_fits() {
    let least = seed(0.5).answers().utilization_for_one;
    assert!(seed(least).answers().budget.is_ok());
    let less = seed(least - 1e-4).answers();
    assert!(matches!(less.budget, Err(BudgetError::ModelLenTooLong { .. })), "{less:?}");
    let shorter = less.model_len_max.unwrap();
    assert!(shorter < 1818, "{shorter}");
    let demand = Demand { max_model_len: shorter, ..seed(0.5).demand };
    assert!(Question { demand, ..seed(least - 1e-4) }.answers().budget.is_ok());
    let demand = Demand { max_model_len: shorter + 1, ..demand };
    assert!(Question { demand, ..seed(least - 1e-4) }.answers().budget.is_err());
}

#[test]
fn a_model_that_is_too_large_has_no_length_and_needs_more_than_there_is() {
    let question = seed(0.5);
    let memory = free_device(1 << 29, 0.5);
    let answers = Question { memory, ..question }.answers();
    assert!(matches!(answers.budget, Err(BudgetError::NoRoomForBlocks { .. })), "{answers:?}");
    assert_eq!((answers.model_len_max, answers.concurrency), (None, 0.0));
    assert!(1.0 < answers.utilization_for_one, "{answers:?}");
}

#[test]
fn shorter_requests_are_counted_in_whole_blocks() {
    let answers = |length| Question { length, ..seed(0.5) }.answers().concurrency;
    let blocks = f64::from(seed(0.5).answers().budget.unwrap().block_count);
    assert_eq!((answers(1), answers(16), answers(17)), (blocks, blocks, blocks / 2.0));
}

#[test]
fn the_widest_moment_is_where_the_shape_says() {
    assert_eq!(widest(&Shape::seed()), 2 * 5120);
    let narrow = ShapeSizes { ffn: 100, kv_heads: 4, ..Shape::seed().sizes };
    assert_eq!(widest(&Shape { sizes: narrow, ..Shape::seed() }), 2 * 1280 + 2 * 256);
}

#[test]
fn numbers_that_do_not_add_up_are_not_wrapped_around() {
    let demand = Demand { block_bytes: u64::MAX, ..seed(0.5).demand };
    let answers = Question { demand, ..seed(0.5) }.answers();
    assert_eq!(answers.bytes_for_users, u64::MAX);
    assert!(answers.budget.is_err());
}
