//! The KV blocks of all sequences: the pool and the prefix cache, kept in step.

use crate::config::EngineConfig;
use crate::ids::{BlockId, TokenId};
use crate::pages::PagePool;
use crate::prefix::{Parent, PrefixCache, PrefixHash};
use crate::request::Origin;

/// The blocks of one sequence, in the order of its positions.
pub struct BlockTable {
    blocks: Vec<BlockId>,
    /// The hash of the beginning up to the end of each full block of known tokens, as far as they
    /// were needed. Tokens never change, so hashes outlive a preemption.
    hashes: Vec<PrefixHash>,
    /// How many of `blocks`, from the front, are full, computed and offered to the cache.
    published: usize,
    /// What comes before the first block that is not published.
    parent: Parent,
    origin: Origin,
}

impl BlockTable {
    /// The table of a sequence that holds nothing and shares only with those of the same origin.
    pub fn new(origin: Origin) -> Self {
        BlockTable {
            blocks: Vec::new(),
            hashes: Vec::new(),
            published: 0,
            parent: Parent::Nothing(origin),
            origin,
        }
    }

    /// The blocks, for the positions from 0 on.
    pub fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }
}

/// The longest beginning of a sequence that is in the cache.
pub struct CachedPrefix {
    blocks: Vec<BlockId>,
    /// What comes behind them has this before it.
    parent: Parent,
}

impl CachedPrefix {
    /// No beginning at all, of the sequence with this table.
    pub fn nothing(table: &BlockTable) -> Self {
        CachedPrefix { blocks: Vec::new(), parent: Parent::Nothing(table.origin) }
    }
}

/// What a block is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockState {
    /// So many sequences hold it.
    Held {
        /// At least 1.
        holders: u32,
    },
    /// Nobody holds it, but its content can be found by a later request.
    Cached,
    /// Nobody holds it and nobody will read what it contains.
    Free,
}

/// The pool and, if it is on, the prefix cache.
pub struct KvCache {
    block_size: usize,
    pool: PagePool,
    prefix: Option<PrefixCache>,
    evictions_total: u64,
}

impl KvCache {
    /// All blocks free. `hash_mask`: see [`PrefixCache::with_hash_mask`].
    pub fn new(config: &EngineConfig, hash_mask: u64) -> Self {
        let EngineConfig { block_count, block_size, .. } = *config;
        let cache = || PrefixCache::with_hash_mask(block_count, block_size, hash_mask);
        KvCache {
            block_size: block_size as usize,
            pool: PagePool::new(block_count),
            prefix: config.prefix_cache.then(cache),
            evictions_total: 0,
        }
    }

    /// Blocks that some sequence holds.
    pub fn used_count(&self) -> usize {
        self.pool.block_count() - self.pool.free_count()
    }

    /// Blocks in the pool.
    pub fn block_count(&self) -> usize {
        self.pool.block_count()
    }

    /// Cached blocks whose content was dropped to reuse them.
    pub fn evictions_total(&self) -> u64 {
        self.evictions_total
    }

    /// See [`PrefixCache::collisions_total`].
    pub fn collisions_total(&self) -> u64 {
        self.prefix.as_ref().map_or(0, PrefixCache::collisions_total)
    }

    /// What `block` is at the moment.
    pub fn block_state(&self, block: BlockId) -> BlockState {
        match self.pool.holders(block) {
            0 if self.is_cached(block) => BlockState::Cached,
            0 => BlockState::Free,
            holders => BlockState::Held { holders },
        }
    }

    /// Looks for the longest cached beginning of `tokens`, in whole blocks, that leaves at least
    /// one token to compute: the last one must be computed to choose the next.
    pub fn find_prefix(&self, table: &mut BlockTable, tokens: &[TokenId]) -> CachedPrefix {
        let mut found = CachedPrefix::nothing(table);
        let Some(prefix) = &self.prefix else { return found };
        extend_hashes(prefix, table, tokens, self.block_size);
        let findable = &tokens[..tokens.len() - 1];
        for (tokens, &hash) in findable.chunks_exact(self.block_size).zip(&table.hashes) {
            let Some((block, content)) = prefix.find(hash, found.parent, tokens) else { break };
            found.blocks.push(block);
            found.parent = Parent::Content(content);
        }
        found
    }

    /// Blocks that the table lacks for the positions `0..end`.
    pub fn missing(&self, table: &BlockTable, end: usize) -> usize {
        end.div_ceil(self.block_size).saturating_sub(table.blocks.len())
    }

    /// Whether `token_count` positions fit into the free blocks that are not `promised` to others,
    /// given what is found in the cache.
    pub fn fits(&self, cached: &CachedPrefix, token_count: usize, promised: usize) -> bool {
        let needed = token_count.div_ceil(self.block_size) - cached.blocks.len();
        let is_free = |block: &&BlockId| self.pool.holders(**block) == 0;
        let free_but_cached = cached.blocks.iter().filter(is_free).count();
        needed + free_but_cached + promised <= self.pool.free_count()
    }

    /// Gives an empty table the blocks found in the cache; how many positions that covers.
    pub fn attach(&mut self, table: &mut BlockTable, cached: CachedPrefix) -> usize {
        assert!(table.blocks.is_empty(), "a cached prefix is attached to a table with blocks");
        for &block in &cached.blocks {
            self.pool.hold(block);
        }
        table.published = cached.blocks.len();
        table.parent = cached.parent;
        table.blocks = cached.blocks;
        table.published * self.block_size
    }

    /// Gives the table blocks for the positions `0..end`. False, and nothing given, if there are
    /// not enough.
    pub fn grow(&mut self, table: &mut BlockTable, end: usize) -> bool {
        let missing = self.missing(table, end);
        if self.pool.free_count() < missing {
            return false;
        }
        for _ in 0..missing {
            let block = self.pool.allocate().expect("enough blocks are free");
            if let Some(prefix) = &mut self.prefix {
                self.evictions_total += u64::from(prefix.forget(block));
            }
            table.blocks.push(block);
        }
        true
    }

    /// Gives the table blocks for up to `more` positions behind the `0..end` that it covers, as far as
    /// blocks are free; for how many.
    pub fn grow_as_far(&mut self, table: &mut BlockTable, end: usize, more: usize) -> usize {
        let blocks = table.blocks.len() + self.pool.free_count();
        let more = more.min(blocks * self.block_size - end);
        let grown = self.grow(table, end + more);
        assert!(grown, "there are fewer free blocks than were counted");
        more
    }

    /// Takes the table's blocks behind those of the positions `0..end` back, none of which is full.
    pub fn shrink(&mut self, table: &mut BlockTable, end: usize) {
        let kept = end.div_ceil(self.block_size);
        assert!(table.published <= kept, "a block is published, but not computed");
        for block in table.blocks.drain(kept..).rev() {
            self.pool.release_for_reuse(block);
        }
    }

    /// Makes the table's blocks findable that have become full, now that the positions
    /// `0..computed` of `tokens` are computed.
    pub fn publish(&mut self, table: &mut BlockTable, tokens: &[TokenId], computed: usize) {
        let full = computed / self.block_size;
        let Some(prefix) = &mut self.prefix else { return };
        if full <= table.published {
            return;
        }
        extend_hashes(prefix, table, &tokens[..computed], self.block_size);
        for index in table.published..full {
            let (block, hash) = (table.blocks[index], table.hashes[index]);
            let tokens = &tokens[index * self.block_size..][..self.block_size];
            table.parent = Parent::Content(prefix.insert(block, hash, table.parent, tokens));
        }
        table.published = full;
    }

    /// Takes all blocks back, the last first, so that of a beginning the tail is reused first.
    pub fn release(&mut self, table: &mut BlockTable) {
        while let Some(block) = table.blocks.pop() {
            if self.is_cached(block) {
                self.pool.release_with_content(block);
            } else {
                self.pool.release_for_reuse(block);
            }
        }
        table.published = 0;
        table.parent = Parent::Nothing(table.origin);
    }

    fn is_cached(&self, block: BlockId) -> bool {
        self.prefix.as_ref().is_some_and(|prefix| prefix.holds(block))
    }

    /// Panics unless pool, cache and the tables of all sequences agree. `tables` come with the
    /// tokens of their sequences.
    pub fn check_invariants<'a>(
        &self,
        tables: impl Iterator<Item = (&'a BlockTable, &'a [TokenId])>,
    ) {
        self.pool.check_invariants();
        let mut holders = vec![0; self.pool.block_count()];
        for (table, tokens) in tables {
            assert!(table.published <= table.blocks.len(), "a block is published but not held");
            for (index, block) in table.blocks.iter().enumerate() {
                holders[block.index()] += 1;
                assert!(!table.blocks[..index].contains(block), "{block:?} is twice in a table");
                self.check_content(*block, &tokens[index * self.block_size..]);
            }
        }
        for (index, &count) in holders.iter().enumerate() {
            let block = BlockId(index as u32);
            assert_eq!(self.pool.holders(block), count, "{block:?} has a wrong count of holders");
        }
        if let Some(prefix) = &self.prefix {
            prefix.check_invariants();
        }
    }

    /// Panics if `block` is cached as other tokens than those its holder keeps in it.
    fn check_content(&self, block: BlockId, tokens: &[TokenId]) {
        let Some(prefix) = self.prefix.as_ref().filter(|prefix| prefix.holds(block)) else {
            return;
        };
        let held = &tokens[..tokens.len().min(self.block_size)];
        assert_eq!(prefix.tokens(block), held, "{block:?} is cached as other tokens than it holds");
    }
}

/// Adds to `table` the hashes of the full blocks of `tokens` that are not there yet.
fn extend_hashes(
    prefix: &PrefixCache,
    table: &mut BlockTable,
    tokens: &[TokenId],
    block_size: usize,
) {
    let BlockTable { hashes, origin, .. } = table;
    for block in tokens.chunks_exact(block_size).skip(hashes.len()) {
        let parent = hashes.last().copied().unwrap_or_else(|| prefix.start(*origin));
        hashes.push(prefix.hash(parent, block));
    }
}

#[cfg(test)]
mod tests;
