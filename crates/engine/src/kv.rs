//! The KV blocks of all sequences: the pool and the prefix cache, kept in step.

use crate::config::EngineConfig;
use crate::ids::{BlockId, TokenId};
use crate::layout::{KvGroups, KvLayout};
use crate::pages::PagePool;
use crate::prefix::{ContentId, Parent, PrefixCache, PrefixHash};
use crate::request::Origin;

/// The blocks of one sequence, in the order of its positions, for each group of layers.
pub struct BlockTable {
    /// All are equally long. Shape: [groups][blocks].
    groups: Vec<Vec<BlockId>>,
    /// How many blocks of the groups with a window, from the front, lie behind it: they are
    /// [`BlockId::RELEASED`].
    released: usize,
    /// The hash of the beginning up to the end of each full block of known tokens, as far as they
    /// were needed. Tokens never change, so hashes outlive a preemption.
    hashes: Vec<PrefixHash>,
    /// How many blocks, from the front, are full, computed and offered to the cache.
    published: usize,
    /// What comes before the first block that is not published.
    parent: Parent,
    origin: Origin,
}

impl BlockTable {
    /// The table of a sequence that holds nothing and shares only with those of the same origin.
    pub fn new(origin: Origin, groups: KvGroups) -> Self {
        BlockTable {
            groups: vec![Vec::new(); groups.count()],
            released: 0,
            hashes: Vec::new(),
            published: 0,
            parent: Parent::Nothing(origin),
            origin,
        }
    }

    /// The blocks of each group, for the positions from 0 on.
    pub fn groups(&self) -> &[Vec<BlockId>] {
        &self.groups
    }

    /// Blocks of each group, those behind the window included.
    pub fn len(&self) -> usize {
        self.groups[0].len()
    }

    /// Blocks that it holds, of all groups.
    pub fn held_count(&self) -> usize {
        self.groups.iter().map(|blocks| held(blocks).count()).sum()
    }
}

/// The blocks of a group that are held.
fn held(blocks: &[BlockId]) -> impl Iterator<Item = BlockId> {
    // What was released is at the front.
    let released = blocks.partition_point(|&block| block == BlockId::RELEASED);
    blocks[released..].iter().copied()
}

/// The longest beginning of a sequence that is in the cache.
pub struct CachedPrefix {
    /// As in a table: without the blocks that nobody reads any more behind it.
    groups: Vec<Vec<BlockId>>,
    released: usize,
    /// What comes behind them has this before it.
    parent: Parent,
}

impl CachedPrefix {
    /// No beginning at all, of the sequence with this table.
    pub fn nothing(table: &BlockTable) -> Self {
        CachedPrefix {
            groups: vec![Vec::new(); table.groups.len()],
            released: 0,
            parent: Parent::Nothing(table.origin),
        }
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
    layout: KvLayout,
    block_size: usize,
    pool: PagePool,
    prefix: Option<PrefixCache>,
    evictions_total: u64,
}

impl KvCache {
    /// All blocks free. `hash_mask`: see [`PrefixCache::with_hash_mask`].
    pub fn new(config: &EngineConfig, hash_mask: u64) -> Self {
        let EngineConfig { block_count, block_size, kv_groups, .. } = *config;
        let cache = || PrefixCache::with_hash_mask(block_count, kv_groups.count(), hash_mask);
        KvCache {
            layout: config.kv_layout(),
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
        let mut chain = self.cached_chain(prefix, table, &tokens[..tokens.len() - 1]);
        chain.truncate(self.usable(prefix, &chain));
        found.released = self.layout.blocks_behind(chain.len() * self.block_size);
        for (index, &content) in chain.iter().enumerate() {
            let places = prefix.blocks(content).iter().enumerate();
            for (blocks, (group, block)) in found.groups.iter_mut().zip(places) {
                let is_behind = index < self.released_of(group, found.released);
                let block = if is_behind { Some(BlockId::RELEASED) } else { *block };
                blocks.push(block.expect("it was found usable"));
            }
        }
        found.parent = chain.last().map_or(found.parent, |&content| Parent::Content(content));
        found
    }

    /// The contents of the full blocks of `tokens`, as far as all groups that see everything have them.
    fn cached_chain(
        &self,
        prefix: &PrefixCache,
        table: &BlockTable,
        tokens: &[TokenId],
    ) -> Vec<ContentId> {
        let full = self.layout.groups.full as usize;
        let mut parent = Parent::Nothing(table.origin);
        let chain =
            tokens.chunks_exact(self.block_size).zip(&table.hashes).map_while(|(tokens, &hash)| {
                let content = prefix.find(hash, parent, tokens)?;
                parent = Parent::Content(content);
                prefix.blocks(content)[..full].iter().all(Option::is_some).then_some(content)
            });
        chain.collect()
    }

    /// How many contents of a chain can be used: behind them no layer with a window may read a block that
    /// is not there.
    fn usable(&self, prefix: &PrefixCache, chain: &[ContentId]) -> usize {
        let full = self.layout.groups.full as usize;
        let (mut usable, mut present) = (0, 0);
        for (end, &content) in (1..).zip(chain) {
            let is_present = prefix.blocks(content)[full..].iter().all(Option::is_some);
            present = if is_present { present + 1 } else { 0 };
            if end - self.layout.blocks_behind(end * self.block_size) <= present {
                usable = end;
            }
        }
        usable
    }

    /// Blocks that a group has behind its window if so many lie behind the window of those that have one.
    fn released_of(&self, group: usize, released: usize) -> usize {
        if self.layout.groups.is_windowed(group) { released } else { 0 }
    }

    /// Blocks that the table lacks for the positions `0..end`.
    fn missing(&self, table: &BlockTable, end: usize) -> usize {
        end.div_ceil(self.block_size).saturating_sub(table.len()) * table.groups.len()
    }

    /// Most blocks that the table will hold beside those that it has, until the positions `0..end` are
    /// computed.
    pub fn lacking(&self, table: &BlockTable, end: usize) -> usize {
        let missing = end.div_ceil(self.block_size).saturating_sub(table.len());
        let lacking = |(group, blocks): (usize, &Vec<BlockId>)| {
            let most = self.layout.blocks_of_group(group, end);
            // What others hold, too, is not free when it falls behind the window.
            let is_own = |block: &BlockId| {
                !self.layout.groups.is_windowed(group) || self.pool.holders(*block) == 1
            };
            missing.min(most.saturating_sub(held(blocks).filter(is_own).count()))
        };
        table.groups.iter().enumerate().map(lacking).sum()
    }

    /// Most blocks that a sequence of so many positions holds.
    pub fn blocks_of(&self, token_count: usize) -> usize {
        self.layout.blocks_of(token_count as u64) as usize
    }

    /// Whether `token_count` positions fit into the free blocks that are not `promised` to others,
    /// given what is found in the cache.
    pub fn fits(&self, cached: &CachedPrefix, token_count: usize, promised: usize) -> bool {
        let needed = |(group, blocks): (usize, &Vec<BlockId>)| {
            let new = token_count.div_ceil(self.block_size) - blocks.len();
            let is_free = |&block: &BlockId| self.pool.holders(block) == 0;
            let free_but_cached = held(blocks).filter(is_free).count();
            (new + free_but_cached).min(self.layout.blocks_of_group(group, token_count))
        };
        let needed: usize = cached.groups.iter().enumerate().map(needed).sum();
        needed + promised <= self.pool.free_count()
    }

    /// Gives an empty table the blocks found in the cache; how many positions that covers.
    pub fn attach(&mut self, table: &mut BlockTable, cached: CachedPrefix) -> usize {
        assert!(table.len() == 0, "a cached prefix is attached to a table with blocks");
        for block in cached.groups.iter().flat_map(|blocks| held(blocks)) {
            self.pool.hold(block);
        }
        (table.groups, table.released) = (cached.groups, cached.released);
        table.parent = cached.parent;
        table.published = table.len();
        table.published * self.block_size
    }

    /// Gives the table blocks for the positions `0..end`. False, and nothing given, if there are
    /// not enough.
    pub fn grow(&mut self, table: &mut BlockTable, end: usize) -> bool {
        if self.pool.free_count() < self.missing(table, end) {
            return false;
        }
        for _ in table.len()..end.div_ceil(self.block_size) {
            for blocks in &mut table.groups {
                let block = self.pool.allocate().expect("enough blocks are free");
                if let Some(prefix) = &mut self.prefix {
                    self.evictions_total += u64::from(prefix.forget(block));
                }
                blocks.push(block);
            }
        }
        true
    }

    /// Gives the table blocks for up to `more` positions behind the `0..end` that it covers, as far as
    /// blocks are free; for how many.
    pub fn grow_as_far(&mut self, table: &mut BlockTable, end: usize, more: usize) -> usize {
        let blocks = table.len() + self.pool.free_count() / table.groups.len();
        let more = more.min(blocks * self.block_size - end);
        let grown = self.grow(table, end + more);
        assert!(grown, "there are fewer free blocks than were counted");
        more
    }

    /// Takes the table's blocks behind those of the positions `0..end` back, none of which is full.
    pub fn shrink(&mut self, table: &mut BlockTable, end: usize) {
        let kept = end.div_ceil(self.block_size);
        assert!(table.published <= kept, "a block is published, but not computed");
        while kept < table.len() {
            for block in table.groups.iter_mut().filter_map(Vec::pop) {
                self.pool.release_for_reuse(block);
            }
        }
    }

    /// Takes the blocks back that layers with a window read no more, now that the positions `0..computed`
    /// are computed: what comes next begins there, also where a draft was rejected.
    pub fn release_behind_window(&mut self, table: &mut BlockTable, computed: usize) {
        let behind = self.layout.blocks_behind(computed);
        for index in table.released..behind {
            for group in self.layout.groups.full as usize..table.groups.len() {
                let block = &mut table.groups[group][index];
                let block = std::mem::replace(block, BlockId::RELEASED);
                self.give_back(block);
            }
        }
        table.released = table.released.max(behind);
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
            let blocks = table.groups.iter().map(|blocks| blocks[index]);
            let tokens = &tokens[index * self.block_size..][..self.block_size];
            let content = prefix.insert(blocks, table.hashes[index], table.parent, tokens);
            table.parent = Parent::Content(content);
        }
        table.published = full;
    }

    /// Takes all blocks back, the last first, so that of a beginning the tail is reused first.
    pub fn release(&mut self, table: &mut BlockTable) {
        while 0 < table.len() {
            for block in table.groups.iter_mut().filter_map(Vec::pop) {
                if block != BlockId::RELEASED {
                    self.give_back(block);
                }
            }
        }
        table.released = 0;
        table.published = 0;
        table.parent = Parent::Nothing(table.origin);
    }

    fn give_back(&mut self, block: BlockId) {
        if self.is_cached(block) {
            self.pool.release_with_content(block);
        } else {
            self.pool.release_for_reuse(block);
        }
    }

    fn is_cached(&self, block: BlockId) -> bool {
        self.prefix.as_ref().is_some_and(|prefix| prefix.holds(block))
    }

    /// Panics unless pool, cache and the tables of all sequences agree. `tables` come with the
    /// tokens of their sequences, and how many of them are computed.
    pub fn check_invariants<'a>(
        &self,
        tables: impl Iterator<Item = (&'a BlockTable, &'a [TokenId], usize)>,
    ) {
        self.pool.check_invariants();
        let mut holders = vec![0; self.pool.block_count()];
        for (table, tokens, computed) in tables {
            assert!(table.published <= table.len(), "a block is published but not held");
            for (group, blocks) in table.groups.iter().enumerate() {
                self.check_group(group, blocks, computed);
                let released = blocks.len() - held(blocks).count();
                for (index, block) in (released..).zip(held(blocks)) {
                    holders[block.index()] += 1;
                    let tables = table.groups.iter();
                    let places: usize =
                        tables.map(|blocks| blocks.iter().filter(|b| **b == block).count()).sum();
                    assert_eq!(places, 1, "{block:?} is twice in a table");
                    self.check_content((group, block), &tokens[index * self.block_size..]);
                }
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

    /// Panics unless a group has the blocks that are computed and not behind its window, and no others.
    fn check_group(&self, group: usize, blocks: &[BlockId], computed: usize) {
        let released = self.released_of(group, self.layout.blocks_behind(computed));
        let expected = computed.div_ceil(self.block_size);
        assert_eq!(blocks.len(), expected, "group {group} has idle blocks or lacks some");
        let held: Vec<_> = held(blocks).collect();
        assert_eq!(blocks.len() - held.len(), released, "group {group} has another window");
        assert!(!held.contains(&BlockId::RELEASED), "a block of group {group} was given back");
    }

    /// Panics if `block` is cached as other tokens than those its holder keeps in it, or as another group's.
    fn check_content(&self, (group, block): (usize, BlockId), tokens: &[TokenId]) {
        let cached = self.prefix.as_ref().and_then(|prefix| prefix.cached_as(block));
        let Some((cached_group, cached_tokens)) = cached else { return };
        let held = &tokens[..tokens.len().min(self.block_size)];
        assert_eq!(cached_tokens, held, "{block:?} is cached as other tokens than it holds");
        assert_eq!(cached_group, group, "{block:?} is cached as another group's");
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
