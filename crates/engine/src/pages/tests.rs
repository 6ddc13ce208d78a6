use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[test]
fn blocks_without_content_are_reused_first_and_the_most_recently_freed_foremost() {
    let mut pool = PagePool::new(4);
    let blocks: Vec<BlockId> = (0..3).map(|_| pool.allocate().expect("4 are free")).collect();
    assert_eq!(blocks, [BlockId(0), BlockId(1), BlockId(2)]);
    pool.release_for_reuse(BlockId(1));
    pool.release_with_content(BlockId(0));
    pool.release_for_reuse(BlockId(2));
    let order: Vec<BlockId> = pool.free_list().collect();
    assert_eq!(order, [BlockId(2), BlockId(1), BlockId(3), BlockId(0)]);
}

#[test]
fn of_blocks_with_content_the_least_recently_used_goes_first() {
    let mut pool = PagePool::new(2);
    for block in [BlockId(0), BlockId(1)] {
        pool.hold(block);
        pool.release_with_content(block);
    }
    pool.hold(BlockId(0));
    pool.release_with_content(BlockId(0));
    assert_eq!(pool.allocate(), Some(BlockId(1)));
}

#[test]
fn an_exhausted_pool_gives_nothing() {
    let mut pool = PagePool::new(1);
    assert_eq!(pool.allocate(), Some(BlockId(0)));
    assert_eq!(pool.allocate(), None);
}

#[test]
fn a_block_is_free_only_when_its_last_holder_is_gone() {
    let mut pool = PagePool::new(1);
    pool.hold(BlockId(0));
    pool.hold(BlockId(0));
    pool.release_with_content(BlockId(0));
    assert_eq!((pool.holders(BlockId(0)), pool.free_count()), (1, 0));
    pool.release_with_content(BlockId(0));
    assert_eq!((pool.holders(BlockId(0)), pool.free_count()), (0, 1));
}

#[test]
#[should_panic(expected = "nobody holds it")]
fn a_double_free_is_a_panic() {
    let mut pool = PagePool::new(1);
    pool.release_for_reuse(BlockId(0));
}

#[test]
#[should_panic(expected = "is in the free list twice")]
fn a_free_list_that_never_ends_is_a_panic() {
    let mut pool = PagePool::new(2);
    pool.links[1].next = BlockId(0);
    pool.check_invariants();
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Allocate,
    Hold(u32),
    ReleaseForReuse(u32),
    ReleaseWithContent(u32),
}

fn operation(block_count: u32) -> impl Strategy<Value = Operation> {
    prop_oneof![
        Just(Operation::Allocate),
        (0..block_count).prop_map(Operation::Hold),
        (0..block_count).prop_map(Operation::ReleaseForReuse),
        (0..block_count).prop_map(Operation::ReleaseWithContent),
    ]
}

/// The pool as a plain queue.
struct Naive {
    holders: Vec<u32>,
    free: VecDeque<BlockId>,
}

impl Naive {
    fn hold(&mut self, block: BlockId) {
        self.free.retain(|&free| free != block);
        self.holders[block.index()] += 1;
    }

    /// Whether the block is free now.
    fn release(&mut self, block: BlockId) -> bool {
        self.holders[block.index()] -= 1;
        self.holders[block.index()] == 0
    }
}

const BLOCKS: u32 = 5;

proptest! {
    #[test]
    fn the_linked_list_behaves_like_a_plain_queue(
        operations in proptest::collection::vec(operation(BLOCKS), 0..60)
    ) {
        let mut pool = PagePool::new(BLOCKS);
        let free = (0..BLOCKS).map(BlockId).collect();
        let mut naive = Naive { holders: vec![0; BLOCKS as usize], free };
        for operation in operations {
            match operation {
                Operation::Allocate => {
                    let expected = naive.free.front().copied();
                    prop_assert_eq!(pool.allocate(), expected);
                    if let Some(block) = expected {
                        naive.hold(block);
                    }
                }
                Operation::Hold(block) => {
                    pool.hold(BlockId(block));
                    naive.hold(BlockId(block));
                }
                // Freeing what is free is a panic, tested above.
                Operation::ReleaseForReuse(block) | Operation::ReleaseWithContent(block)
                    if naive.holders[block as usize] == 0 => {}
                Operation::ReleaseForReuse(block) => {
                    pool.release_for_reuse(BlockId(block));
                    if naive.release(BlockId(block)) {
                        naive.free.push_front(BlockId(block));
                    }
                }
                Operation::ReleaseWithContent(block) => {
                    pool.release_with_content(BlockId(block));
                    if naive.release(BlockId(block)) {
                        naive.free.push_back(BlockId(block));
                    }
                }
            }
            pool.check_invariants();
            prop_assert!(pool.free_list().eq(naive.free.iter().copied()));
            prop_assert_eq!(pool.free_count(), naive.free.len());
        }
    }
}
