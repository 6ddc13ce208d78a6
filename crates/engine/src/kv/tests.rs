//! That the checks notice what they are for.

use super::*;
use crate::config::Speculation;
use crate::policy::SchedulingPolicy;

const TOKENS: [TokenId; 5] = [TokenId(1), TokenId(2), TokenId(3), TokenId(4), TokenId(5)];

/// Blocks of two positions, and a table whose first two blocks are findable as the first of [`TOKENS`].
fn published() -> (KvCache, BlockTable) {
    let config = EngineConfig {
        block_size: 2,
        block_count: 4,
        max_model_len: 8,
        max_num_seqs: 2,
        max_num_batched_tokens: 8,
        max_num_queued_reqs: 0,
        prefix_cache: true,
        scheduling_policy: SchedulingPolicy::Fcfs,
        speculation: Speculation::OFF,
    };
    let mut kv = KvCache::new(&config, u64::MAX);
    let mut table = BlockTable::new(Origin::default());
    assert!(kv.grow(&mut table, 5));
    kv.publish(&mut table, &TOKENS, 5);
    (kv, table)
}

#[test]
fn what_agrees_passes_and_is_counted() {
    let (mut kv, mut table) = published();
    kv.check_invariants([(&table, &TOKENS[..])].into_iter());
    assert_eq!((kv.used_count(), kv.block_count()), (3, 4));
    kv.release(&mut table);
    kv.check_invariants([(&table, &TOKENS[..])].into_iter());
    assert_eq!(kv.used_count(), 0);
}

#[test]
#[should_panic(expected = "has a wrong count of holders")]
fn a_block_whose_holder_is_gone_is_a_panic() {
    let (kv, _) = published();
    kv.check_invariants(std::iter::empty());
}

#[test]
#[should_panic(expected = "is cached as other tokens than it holds")]
fn a_block_that_is_cached_as_other_tokens_is_a_panic() {
    let (kv, table) = published();
    let others = [TokenId(1), TokenId(2), TokenId(3), TokenId(9), TokenId(5)];
    kv.check_invariants([(&table, &others[..])].into_iter());
}

#[test]
#[should_panic(expected = "is twice in a table")]
fn a_block_that_is_twice_in_a_table_is_a_panic() {
    let (kv, mut table) = published();
    table.blocks[2] = table.blocks[0];
    kv.check_invariants([(&table, &TOKENS[..])].into_iter());
}

#[test]
#[should_panic(expected = "a block is published but not held")]
fn a_block_that_is_published_but_not_held_is_a_panic() {
    let (kv, mut table) = published();
    table.published = 4;
    kv.check_invariants([(&table, &TOKENS[..])].into_iter());
}
