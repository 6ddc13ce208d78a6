//! The fixed pool of KV blocks: who is free, how often the others are held.

use crate::ids::BlockId;

/// A fixed pool of blocks with reference counts and a free list.
///
/// The free list is ordered by worth: blocks without content come first, the most recently freed
/// foremost (its memory is still resident and warm), then blocks with cached content, the least
/// recently used foremost. All calls cost constant time.
pub struct PagePool {
    /// How many sequences hold each block; 0 = free. Shape: [block_count].
    holders: Vec<u32>,
    /// Neighbours of each free block in the free list, circular through the sentinel.
    /// Shape: [block_count + 1].
    links: Vec<Links>,
    free_count: usize,
}

#[derive(Clone, Copy)]
struct Links {
    previous: BlockId,
    next: BlockId,
}

impl PagePool {
    /// A pool of `block_count` free blocks, lowest first in the free list.
    pub fn new(block_count: u32) -> Self {
        let sentinel = BlockId(block_count);
        let alone = Links { previous: sentinel, next: sentinel };
        let mut pool = PagePool {
            holders: vec![0; block_count as usize],
            links: vec![alone; block_count as usize + 1],
            free_count: 0,
        };
        for block in (0..block_count).map(BlockId) {
            pool.link_before(sentinel, block);
        }
        pool
    }

    /// Blocks in the pool.
    pub fn block_count(&self) -> usize {
        self.holders.len()
    }

    /// Blocks that nobody holds.
    pub fn free_count(&self) -> usize {
        self.free_count
    }

    /// How many sequences hold `block`.
    pub fn holders(&self, block: BlockId) -> u32 {
        self.holders[block.index()]
    }

    /// Hands out the free block of least worth, held once; none if all are held.
    pub fn allocate(&mut self) -> Option<BlockId> {
        let block = self.links[self.sentinel().index()].next;
        if block == self.sentinel() {
            return None;
        }
        self.hold(block);
        Some(block)
    }

    /// Adds a holder to `block`, which may be free or held.
    pub fn hold(&mut self, block: BlockId) {
        if self.holders(block) == 0 {
            self.unlink(block);
        }
        self.holders[block.index()] += 1;
    }

    /// Takes a holder away; a block nobody holds any more is the next to be handed out.
    pub fn release_for_reuse(&mut self, block: BlockId) {
        if self.drop_holder(block) {
            let first = self.links[self.sentinel().index()].next;
            self.link_before(first, block);
        }
    }

    /// Takes a holder away; a block nobody holds any more is the last to be handed out.
    pub fn release_with_content(&mut self, block: BlockId) {
        if self.drop_holder(block) {
            self.link_before(self.sentinel(), block);
        }
    }

    /// Whether that was the last holder.
    fn drop_holder(&mut self, block: BlockId) -> bool {
        let holders = &mut self.holders[block.index()];
        assert!(0 < *holders, "{block:?} is released but nobody holds it");
        *holders -= 1;
        *holders == 0
    }

    fn sentinel(&self) -> BlockId {
        BlockId(self.holders.len() as u32)
    }

    fn link_before(&mut self, next: BlockId, block: BlockId) {
        let previous = self.links[next.index()].previous;
        self.links[block.index()] = Links { previous, next };
        self.links[previous.index()].next = block;
        self.links[next.index()].previous = block;
        self.free_count += 1;
    }

    fn unlink(&mut self, block: BlockId) {
        let Links { previous, next } = self.links[block.index()];
        self.links[previous.index()].next = next;
        self.links[next.index()].previous = previous;
        self.free_count -= 1;
    }

    /// Free blocks in the order in which they will be handed out.
    pub fn free_list(&self) -> impl Iterator<Item = BlockId> {
        let sentinel = self.sentinel();
        let following = move |block: BlockId| {
            let next = self.links[block.index()].next;
            (next != sentinel).then_some(next)
        };
        std::iter::successors(following(sentinel), move |&block| following(block))
    }

    /// Panics unless exactly the blocks that nobody holds are in the free list, each once.
    pub fn check_invariants(&self) {
        let mut listed = vec![false; self.block_count()];
        // A cycle would not end by itself: the list cannot be longer than the pool.
        let bound = self.block_count() + 1;
        for block in self.free_list().take(bound) {
            assert!(!listed[block.index()], "{block:?} is in the free list twice");
            assert_eq!(self.holders(block), 0, "{block:?} is free and held");
            listed[block.index()] = true;
        }
        let listed_count = listed.iter().filter(|&&listed| listed).count();
        assert_eq!(listed_count, self.free_count, "the free count is not the list's length");
        let held_count = self.holders.iter().filter(|&&holders| 0 < holders).count();
        assert_eq!(listed_count + held_count, self.block_count(), "a block is lost");
    }
}

#[cfg(test)]
mod tests;
