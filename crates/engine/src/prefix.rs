//! The prefix cache: which block holds the keys and values of which beginning.

use std::collections::HashMap;

use crate::ids::{BlockId, TokenId};
use crate::request::{CacheSalt, Origin};

/// The hash of a whole beginning that ends with a full block: the chain over its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrefixHash(u64);

impl PrefixHash {
    /// The hash of nothing, without salt and adapter.
    const EMPTY: PrefixHash = PrefixHash(0x2545_f491_4f6c_dd1d);
}

/// Names one content of one block for ever: never given twice, also when the block is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentId(u64);

/// What comes before a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// Nothing: it is the first block of requests of this origin.
    Nothing(Origin),
    /// A block with this content.
    Content(ContentId),
}

/// Finds blocks by their content: the tokens of the block and everything before them.
///
/// The hash only narrows the search. A block is found when its tokens are equal and its parent is
/// the very content found for the block before (of the first block the very origin), so, by induction,
/// origin and whole beginning are equal. A collision can cost time, never serve another beginning's KV.
pub struct PrefixCache {
    block_size: usize,
    /// Which bits of a hash count: all, except in tests that force collisions.
    hash_mask: u64,
    by_hash: HashMap<PrefixHash, Vec<BlockId>>,
    /// What each block is cached as. Shape: [block_count].
    contents: Vec<Option<Content>>,
    /// The tokens of each cached block. Shape: [block_count, block_size].
    tokens: Vec<TokenId>,
    last_content: ContentId,
    collisions_total: u64,
}

#[derive(Clone, Copy)]
struct Content {
    id: ContentId,
    parent: Parent,
    hash: PrefixHash,
}

impl PrefixCache {
    /// An empty cache over `block_count` blocks of `block_size` positions.
    ///
    /// `hash_mask` says which bits of a hash count: `u64::MAX`, or fewer to force collisions.
    pub fn with_hash_mask(block_count: u32, block_size: u32, hash_mask: u64) -> Self {
        let (blocks, size) = (block_count as usize, block_size as usize);
        PrefixCache {
            block_size: size,
            hash_mask,
            by_hash: HashMap::new(),
            contents: vec![None; blocks],
            tokens: vec![TokenId(0); blocks * size],
            last_content: ContentId(0),
            collisions_total: 0,
        }
    }

    /// Blocks added although another content had the same hash.
    pub fn collisions_total(&self) -> u64 {
        self.collisions_total
    }

    /// The hash of nothing: the start of every chain of this origin.
    pub fn start(&self, Origin { salt, adapter }: Origin) -> PrefixHash {
        let mut state = PrefixHash::EMPTY.0;
        if salt != CacheSalt::default() {
            let (words, _) = salt.0.as_chunks::<8>();
            state = words.iter().fold(state, |state, word| mix(state ^ u64::from_le_bytes(*word)));
        }
        if let Some(adapter) = adapter {
            state = mix(state ^ (u64::from(adapter.0) + 1));
        }
        PrefixHash(state)
    }

    /// The hash of a beginning: that of the beginning one block shorter, then `tokens`.
    ///
    /// The same in every process and on every machine.
    pub fn hash(&self, parent: PrefixHash, tokens: &[TokenId]) -> PrefixHash {
        let fold = |state, token: &TokenId| mix(state ^ (u64::from(token.0) + 1));
        PrefixHash(tokens.iter().fold(parent.0, fold) & self.hash_mask)
    }

    /// The cached block with these `tokens` after `parent`. `hash` is that of the whole beginning.
    pub fn find(
        &self,
        hash: PrefixHash,
        parent: Parent,
        tokens: &[TokenId],
    ) -> Option<(BlockId, ContentId)> {
        let candidates = self.by_hash.get(&hash)?;
        candidates.iter().find_map(|&block| {
            let content = self.contents[block.index()].expect("a block found by hash has content");
            let equal = content.parent == parent && self.tokens(block) == tokens;
            equal.then_some((block, content.id))
        })
    }

    /// Makes `block` findable and names its content.
    ///
    /// If an equal content is cached already, that one stays, `block` is not added, and the name
    /// is that of the cached content.
    pub fn insert(
        &mut self,
        block: BlockId,
        hash: PrefixHash,
        parent: Parent,
        tokens: &[TokenId],
    ) -> ContentId {
        if let Some((_, id)) = self.find(hash, parent, tokens) {
            return id;
        }
        assert!(!self.holds(block), "{block:?} is cached twice");
        let same_hash = self.by_hash.entry(hash).or_default();
        self.collisions_total += u64::from(!same_hash.is_empty());
        same_hash.push(block);
        self.last_content = ContentId(self.last_content.0 + 1);
        let id = self.last_content;
        self.contents[block.index()] = Some(Content { id, parent, hash });
        let start = block.index() * self.block_size;
        self.tokens[start..start + self.block_size].copy_from_slice(tokens);
        id
    }

    /// Whether `block` has findable content.
    pub fn holds(&self, block: BlockId) -> bool {
        self.contents[block.index()].is_some()
    }

    /// Drops what `block` is cached as, before it is written anew. Says whether it was cached.
    pub fn forget(&mut self, block: BlockId) -> bool {
        let Some(content) = self.contents[block.index()].take() else { return false };
        let same_hash = self.by_hash.get_mut(&content.hash).expect("cached content is hashed");
        same_hash.retain(|&other| other != block);
        if same_hash.is_empty() {
            self.by_hash.remove(&content.hash);
        }
        true
    }

    /// The tokens of a cached block.
    pub fn tokens(&self, block: BlockId) -> &[TokenId] {
        let start = block.index() * self.block_size;
        &self.tokens[start..start + self.block_size]
    }

    /// Panics unless every cached block is found under its hash, once, and nothing else is.
    pub fn check_invariants(&self) {
        let mut cached = 0;
        for (index, content) in self.contents.iter().enumerate() {
            let Some(content) = content else { continue };
            let same_hash = self.by_hash.get(&content.hash).map_or(&[][..], Vec::as_slice);
            let found = same_hash.iter().filter(|block| block.index() == index).count();
            assert_eq!(found, 1, "block {index} is not found under its hash exactly once");
            for &block in same_hash {
                let other = self.contents[block.index()].expect("a block found by hash is cached");
                assert_eq!(other.hash, content.hash, "{block:?} is found under a foreign hash");
            }
            cached += 1;
        }
        assert!(self.by_hash.len() <= cached, "a hash without blocks is kept");
    }
}

/// Spreads every bit of `state` over all bits: the two halves of a product, folded.
fn mix(state: u64) -> u64 {
    // An odd constant with mixed bits: the golden ratio's fraction, 2^64 / phi.
    let product = u128::from(state) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests;
