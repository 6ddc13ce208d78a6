//! That the checks notice what they are for, and what is kept where layers have a window.

use super::*;
use crate::config::Speculation;
use crate::layout::KvGroups;
use crate::policy::SchedulingPolicy;

const TOKENS: [TokenId; 5] = [TokenId(1), TokenId(2), TokenId(3), TokenId(4), TokenId(5)];

/// Blocks of two positions.
fn config() -> EngineConfig {
    EngineConfig {
        block_size: 2,
        block_count: 4,
        kv_groups: KvGroups::ONE,
        max_model_len: 8,
        max_num_seqs: 2,
        max_num_batched_tokens: 8,
        max_num_queued_reqs: 0,
        prefix_cache: true,
        scheduling_policy: SchedulingPolicy::Fcfs,
        speculation: Speculation::OFF,
    }
}

/// A table whose first two blocks are findable as the first of [`TOKENS`].
fn published() -> (KvCache, BlockTable) {
    let mut kv = KvCache::new(&config(), u64::MAX);
    let mut table = BlockTable::new(Origin::default(), KvGroups::ONE);
    assert!(kv.grow(&mut table, 5));
    kv.publish(&mut table, &TOKENS, 5);
    (kv, table)
}

#[test]
fn what_agrees_passes_and_is_counted() {
    let (mut kv, mut table) = published();
    kv.check_invariants([(&table, &TOKENS[..], 5)].into_iter());
    assert_eq!((kv.used_count(), kv.block_count()), (3, 4));
    kv.release(&mut table);
    kv.check_invariants([(&table, &TOKENS[..], 0)].into_iter());
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
    kv.check_invariants([(&table, &others[..], 5)].into_iter());
}

#[test]
#[should_panic(expected = "is twice in a table")]
fn a_block_that_is_twice_in_a_table_is_a_panic() {
    let (kv, mut table) = published();
    table.groups[0][2] = table.groups[0][0];
    kv.check_invariants([(&table, &TOKENS[..], 5)].into_iter());
}

#[test]
#[should_panic(expected = "a block is published but not held")]
fn a_block_that_is_published_but_not_held_is_a_panic() {
    let (kv, mut table) = published();
    table.published = 4;
    kv.check_invariants([(&table, &TOKENS[..], 5)].into_iter());
}

/// Blocks of two positions, for a group that sees everything and one that sees the last `window`.
fn windowed(block_count: u32, window: u32) -> (KvCache, BlockTable) {
    let kv_groups = KvGroups { full: 1, windowed: 1, window };
    let config = EngineConfig { block_count, kv_groups, ..config() };
    (KvCache::new(&config, u64::MAX), BlockTable::new(Origin::default(), kv_groups))
}

/// Computes the positions before `end`, in one step.
fn compute(kv: &mut KvCache, table: &mut BlockTable, tokens: &[TokenId], end: usize) {
    assert!(kv.grow(table, end));
    kv.publish(table, tokens, end);
    kv.shrink(table, end);
    kv.release_behind_window(table, end);
    kv.check_invariants([(&*table, tokens, end)].into_iter());
}

fn ids<const N: usize>() -> [TokenId; N] {
    std::array::from_fn(|index| TokenId(index as u32))
}

/// How many blocks of the group with a window were given back.
fn released(table: &BlockTable) -> usize {
    table.groups()[1].iter().filter(|block| **block == BlockId::RELEASED).count()
}

#[test]
fn a_block_goes_when_the_next_position_sees_none_of_it() {
    // Of one position, of a block, with a position more, and of two blocks.
    let windows = [
        (1, [0, 1, 1, 2, 2, 3, 3]),
        (2, [0, 0, 1, 1, 2, 2, 3]),
        (3, [0, 0, 0, 1, 1, 2, 2]),
        (4, [0, 0, 0, 0, 1, 1, 2]),
    ];
    for (window, expected) in windows {
        let (mut kv, mut table) = windowed(16, window);
        let tokens = ids::<8>();
        let counts = std::array::from_fn(|index| {
            compute(&mut kv, &mut table, &tokens, index + 1);
            released(&table)
        });
        assert_eq!(counts, expected, "window of {window}");
        assert_eq!(table.held_count(), 4 + 4 - expected[6]);
        kv.release(&mut table);
        assert_eq!(kv.used_count(), 0);
    }
}

#[test]
fn a_chunk_that_is_longer_than_the_window_is_held_whole_until_it_is_computed() {
    let (mut kv, mut table) = windowed(16, 3);
    assert!(kv.grow(&mut table, 8));
    assert_eq!((kv.used_count(), released(&table)), (8, 0));
    compute(&mut kv, &mut table, &ids::<8>(), 8);
    assert_eq!((kv.used_count(), released(&table)), (4 + 1, 3));
}

#[test]
fn a_rejected_draft_needs_nothing_that_was_given_back() {
    let (mut kv, mut table) = windowed(16, 3);
    let tokens = ids::<8>();
    compute(&mut kv, &mut table, &tokens, 5);
    assert_eq!(kv.grow_as_far(&mut table, 6, 2), 2);
    // Only the known position counts: the next step begins behind it, and sees 4 and 5.
    compute(&mut kv, &mut table, &tokens, 6);
    assert_eq!((table.len(), released(&table)), (3, 2));
}

#[test]
fn a_beginning_is_found_with_the_blocks_that_its_window_reaches() {
    // Position 8 sees itself, and of the group with a window 0, 1, 2, 3 or 4 before it.
    for (window, behind) in [(1, 4), (2, 3), (3, 3), (4, 2), (5, 2)] {
        let (mut kv, mut table) = windowed(16, window);
        let tokens = ids::<9>();
        compute(&mut kv, &mut table, &tokens[..8], 8);
        kv.release(&mut table);
        let (_, mut other) = windowed(16, window);
        let found = kv.find_prefix(&mut other, &tokens);
        assert_eq!(kv.attach(&mut other, found), 8);
        assert_eq!((kv.used_count(), released(&other)), (8 - behind, behind), "window of {window}");
        kv.check_invariants([(&other, &tokens[..], 8)].into_iter());
    }
}

#[test]
fn a_beginning_is_as_long_as_groups_with_a_window_have_its_end() {
    let (mut kv, mut table) = windowed(16, 4);
    let tokens = ids::<9>();
    compute(&mut kv, &mut table, &tokens[..8], 8);
    let last_of_window = table.groups()[1][3];
    kv.release(&mut table);
    let mut other =
        BlockTable::new(Origin::default(), KvGroups { full: 1, windowed: 1, window: 4 });
    let found =
        |kv: &KvCache, table: &mut BlockTable| kv.find_prefix(table, &tokens).groups[0].len();
    assert_eq!(found(&kv, &mut other), 4);
    // As if it was reused.
    assert!(kv.prefix.as_mut().is_some_and(|prefix| prefix.forget(last_of_window)));
    assert_eq!(found(&kv, &mut other), 3);
}

#[test]
fn where_all_layers_have_a_window_a_beginning_is_found_without_the_blocks_behind_it() {
    let kv_groups = KvGroups { full: 0, windowed: 1, window: 3 };
    let config = EngineConfig { block_count: 6, kv_groups, ..config() };
    let mut kv = KvCache::new(&config, u64::MAX);
    let table = || BlockTable::new(Origin::default(), kv_groups);
    let (mut first, mut other, tokens) = (table(), table(), ids::<9>());
    compute(&mut kv, &mut first, &tokens[..8], 8);
    kv.release(&mut first);
    // Two that were never used, and those of the positions before 6.
    assert!(kv.grow(&mut other, 10));
    assert_eq!(kv.evictions_total(), 3);
    let found = kv.find_prefix(&mut first, &tokens);
    assert_eq!(kv.attach(&mut first, found), 8);
    assert_eq!(first.held_count(), 1);
}

#[test]
fn what_fits_counts_the_window_once() {
    // 8 positions in one step: 4 blocks of each group.
    let (kv, table) = windowed(8, 3);
    assert!(kv.fits(&CachedPrefix::nothing(&table), 8, 0));
    assert!(!kv.fits(&CachedPrefix::nothing(&table), 8, 1));
    // 20 in steps of 8: 10 blocks, and in the window 10 positions that begin anywhere.
    for (block_count, fits) in [(16, true), (15, false)] {
        let (kv, table) = windowed(block_count, 3);
        assert_eq!(kv.fits(&CachedPrefix::nothing(&table), 20, 0), fits);
    }
}

#[test]
#[should_panic(expected = "is cached as another group's")]
fn a_block_of_another_group_is_a_panic() {
    let (mut kv, mut table) = windowed(16, 8);
    let tokens = ids::<4>();
    compute(&mut kv, &mut table, &tokens, 4);
    table.groups.swap(0, 1);
    kv.check_invariants([(&table, &tokens[..], 4)].into_iter());
}

#[test]
#[should_panic(expected = "has another window")]
fn a_block_that_stays_behind_the_window_is_a_panic() {
    let (mut kv, mut table) = windowed(16, 3);
    let tokens = ids::<8>();
    compute(&mut kv, &mut table, &tokens, 5);
    assert!(kv.grow(&mut table, 8));
    kv.check_invariants([(&table, &tokens[..], 8)].into_iter());
}
