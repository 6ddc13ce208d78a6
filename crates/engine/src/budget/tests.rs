use super::*;

const MIB: u64 = 1 << 20;

fn demand(max_model_len: u32) -> Demand {
    Demand {
        weights_bytes: 100 * MIB,
        adapter_bytes: 0,
        activation_bytes: 20 * MIB,
        buffer_bytes: 8 * MIB,
        block_bytes: MIB,
        block_size: 32,
        kv_groups: KvGroups::ONE,
        max_num_batched_tokens: 256,
        max_model_len,
    }
}

fn memory(utilization: f64, kv_cache_bytes: Option<u64>) -> Memory {
    let (total_bytes, available_bytes) = (2048 * MIB, 1500 * MIB);
    Memory { total_bytes, available_bytes, utilization, kv_cache_bytes }
}

fn check_line(block_count: u32, max_model_len: u32, line: &str) {
    let demand = Demand { block_size: 16, ..demand(max_model_len) };
    let memory =
        Memory { available_bytes: u64::MAX, ..memory(0.5, Some(u64::from(block_count) * MIB)) };
    let budget = Budget::new(demand, memory).expect("fits");
    assert_eq!(budget.log_line("CPU"), line);
}

#[test]
fn the_line_is_that_of_vllm() {
    check_line(
        1000,
        4100,
        "CPU KV cache size: 15,953 tokens, Maximum concurrency for 4,100 tokens per request: 3.89x",
    );
    check_line(
        5837,
        1818,
        "CPU KV cache size: 93,084 tokens, Maximum concurrency for 1,818 tokens per request: 51.20x",
    );
}

#[test]
fn blocks_take_what_the_share_leaves() {
    let budget = Budget::new(demand(2048), memory(0.5, None)).expect("fits");
    assert_eq!((budget.block_count, budget.kv_bytes), (896, 896 * MIB));
    assert_eq!(budget.total_bytes(), 1024 * MIB);
    assert_eq!(
        budget.to_string(),
        "Memory: weights 100.00 MiB + activations 20.00 MiB + buffers 8.00 MiB + KV 896.00 MiB \
         (896 blocks of 1.00 MiB) = 1.00 GiB of 2.00 GiB"
    );
}

#[test]
fn adapters_take_the_place_of_blocks() {
    let with = Demand { adapter_bytes: 6 * MIB, ..demand(1024) };
    let budget = Budget::new(with, memory(0.5, None)).unwrap();
    assert_eq!((budget.block_count, budget.total_bytes()), (890, 1024 * MIB));
    let text = budget.to_string();
    assert!(text.contains("weights 100.00 MiB + adapters 6.00 MiB + activations"), "{text}");
}

#[test]
fn given_kv_bytes_replace_the_share() {
    let budget = Budget::new(demand(64), memory(0.0, Some(10 * MIB + 5))).expect("fits");
    assert_eq!((budget.block_count, budget.kv_bytes), (10, 10 * MIB));
}

#[test]
fn the_share_must_be_one() {
    for value in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
        let error = Budget::new(demand(64), memory(value, None)).expect_err("no share");
        assert!(matches!(error, BudgetError::UtilizationOutOfRange { .. }), "{error}");
    }
}

#[test]
fn a_budget_above_what_is_available_is_refused() {
    for memory in [memory(0.9, None), memory(0.5, Some(1400 * MIB))] {
        let error = Budget::new(demand(64), memory).expect_err("too much");
        assert!(matches!(error, BudgetError::NotAvailable { .. }), "{error}");
    }
}

#[test]
fn no_room_for_one_block_is_refused() {
    let error = Budget::new(demand(64), memory(0.05, None)).expect_err("weights fill it");
    assert!(matches!(error, BudgetError::NoRoomForBlocks { .. }), "{error}");
    let error = Budget::new(demand(64), memory(0.5, Some(9))).expect_err("less than a block");
    assert_eq!(error, BudgetError::KvBelowOneToken { kv_bytes: 9, least_bytes: MIB });
    let endless = Demand { weights_bytes: u64::MAX, ..demand(64) };
    assert_eq!(Budget::new(endless, memory(0.5, None)), Err(BudgetError::DemandOverflow));
}

#[test]
fn the_refusal_of_a_length_names_the_one_that_fits() {
    let memory = memory(0.5, Some(10 * MIB));
    let error = Budget::new(demand(321), memory).expect_err("11 blocks are needed");
    assert!(error.to_string().contains("at most 320"), "{error}");
    assert_eq!(feasible_model_len(&demand(321), &memory), Ok(320));
    assert!(Budget::new(demand(320), memory).is_ok());
}

/// The sizes of Gemma 3 270M: 18 layers with one head of 256, of which 3 see everything.
fn gemma3_270m(max_model_len: u32) -> Demand {
    let kv_groups = KvGroups { full: 1, windowed: 5, window: 512 };
    // 3 layers, keys and values of 32 tokens, as bfloat16.
    let block_bytes = 3 * 2 * 32 * 256 * 2;
    Demand { block_bytes, kv_groups, ..demand(max_model_len) }
}

#[test]
fn blocks_behind_a_window_are_not_needed() {
    let kv_bytes = |tokens| {
        let with = gemma3_270m(tokens);
        let one = KvGroups::ONE;
        let without = Demand { block_bytes: 6 * with.block_bytes, kv_groups: one, ..with };
        assert_eq!(with.token_bytes(), without.token_bytes());
        [without, with].map(|demand| demand.kv_bytes_of(tokens))
    };
    assert_eq!(kv_bytes(2_048), [36 * MIB, 18_579_456]);
    assert_eq!(kv_bytes(32_768), [576 * MIB, 112_951_296]);
    assert_eq!(kv_bytes(512), [9 * MIB, 9 * MIB]);
}

#[test]
fn each_group_of_layers_needs_a_block() {
    let demand = gemma3_270m(8_192);
    let least_bytes = 6 * demand.block_bytes;
    let kv_bytes = least_bytes - 1;
    let error = feasible_model_len(&demand, &memory(0.5, Some(kv_bytes)));
    assert_eq!(error, Err(BudgetError::KvBelowOneToken { kv_bytes, least_bytes }));
    assert_eq!(feasible_model_len(&demand, &memory(0.5, Some(least_bytes))), Ok(32));
}

#[test]
fn windows_leave_room_for_more_and_longer_requests() {
    let memory = memory(0.5, Some(100 * MIB));
    let budget = Budget::new(gemma3_270m(8_192), memory).expect("fits");
    assert_eq!(budget.block_count, 1_066);
    assert_eq!(budget.demand.blocks_of(8_192), 256 + 5 * 25);
    assert_eq!(budget.kv_tokens(), 1_066 * 8_192 / 381);
    let line = budget.window_line().expect("it saves something");
    assert!(line.ends_with("takes 35.72 MiB of keys and values, not 144.00 MiB"), "{line}");
    assert_eq!(feasible_model_len(&gemma3_270m(1), &memory), Ok((1_066 - 5 * 25) * 32));
    let short = Budget::new(gemma3_270m(512), memory).expect("fits");
    assert_eq!(short.window_line(), None);
}

#[test]
fn thousands_are_set_apart() {
    let texts = [0, 999, 1_000, 93_084, 1_000_000].map(thousands);
    assert_eq!(texts, ["0", "999", "1,000", "93,084", "1,000,000"]);
}
