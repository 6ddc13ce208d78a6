//! The prefix cache: which blocks hold the keys and values of which beginning.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ids::{BlockId, TokenId};
use crate::request::{CacheSalt, Origin};

/// The hash of a whole beginning that ends with a full block: the chain over its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrefixHash(u64);

impl PrefixHash {
    /// The hash of nothing, without salt and adapter.
    const EMPTY: PrefixHash = PrefixHash(0x2545_f491_4f6c_dd1d);
}

/// Names one content for ever: never given twice, also when its blocks are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(u64);

/// What comes before a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// Nothing: it is the first block of requests of this origin.
    Nothing(Origin),
    /// A block with this content.
    Content(ContentId),
}

/// Finds blocks by their content: the tokens of the block and everything before them. A content may be in
/// one block of each group of layers; it is known as long as it is in any.
///
/// Where all layers have a window, a beginning is of use without the blocks behind it, but it is found from
/// its first content on. So a content that is in no block any more stays known while it leads to others and
/// there are at most [`CONTENTS_PER_BLOCK`] contents for each block.
///
/// The hash only narrows the search. A content is found when its tokens are equal and its parent is
/// the very content found for the block before (of the first block the very origin), so, by induction,
/// origin and whole beginning are equal. A collision can cost time, never serve another beginning's KV.
pub struct PrefixCache {
    group_count: usize,
    /// Which bits of a hash count: all, except in tests that force collisions.
    hash_mask: u64,
    by_hash: HashMap<PrefixHash, Vec<ContentId>>,
    contents: HashMap<ContentId, Content>,
    /// What each block is cached as, and of which group. Shape: [block_count].
    cached: Vec<Option<(ContentId, usize)>>,
    last_content: ContentId,
    collisions_total: u64,
}

/// How many contents may be known for each block of the pool before those are forgotten that are in none.
/// Each takes some 300 bytes, a block of keys and values a hundred thousand or more.
const CONTENTS_PER_BLOCK: usize = 8;

struct Content {
    parent: Parent,
    hash: PrefixHash,
    /// Those of the block. Shape: [block_size].
    tokens: Box<[TokenId]>,
    /// Where it is. Shape: [group_count].
    blocks: Box<[Option<BlockId>]>,
    /// How many contents it comes before.
    children: usize,
}

impl PrefixCache {
    /// An empty cache over `block_count` blocks of `group_count` groups.
    ///
    /// `hash_mask` says which bits of a hash count: `u64::MAX`, or fewer to force collisions.
    pub fn with_hash_mask(block_count: u32, group_count: usize, hash_mask: u64) -> Self {
        PrefixCache {
            group_count,
            hash_mask,
            by_hash: HashMap::new(),
            contents: HashMap::new(),
            cached: vec![None; block_count as usize],
            last_content: ContentId(0),
            collisions_total: 0,
        }
    }

    /// Contents added although another one had the same hash.
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

    /// The content of these `tokens` after `parent`. `hash` is that of the whole beginning.
    pub fn find(&self, hash: PrefixHash, parent: Parent, tokens: &[TokenId]) -> Option<ContentId> {
        let candidates = self.by_hash.get(&hash)?;
        candidates.iter().copied().find(|&id| {
            let content = self.content(id);
            content.parent == parent && *content.tokens == *tokens
        })
    }

    /// The block of each group that holds a content that was found.
    pub fn blocks(&self, id: ContentId) -> &[Option<BlockId>] {
        &self.content(id).blocks
    }

    /// Makes `blocks`, one of each group, findable and names their content.
    ///
    /// Where a block of the group is cached with an equal content already, that one stays and the new one is
    /// not added. Nor is what nobody could find, since its parent is forgotten.
    pub fn insert(
        &mut self,
        blocks: impl Iterator<Item = BlockId>,
        hash: PrefixHash,
        parent: Parent,
        tokens: &[TokenId],
    ) -> ContentId {
        if let Parent::Content(parent) = parent
            && !self.contents.contains_key(&parent)
        {
            return parent;
        }
        let known = self.find(hash, parent, tokens);
        let id = known.unwrap_or_else(|| self.add(hash, parent, tokens));
        let content = self.contents.get_mut(&id).expect("it was found or added");
        for (group, block) in blocks.enumerate() {
            if content.blocks[group].is_none() {
                let cached = &mut self.cached[block.index()];
                assert!(cached.is_none(), "{block:?} is cached twice");
                *cached = Some((id, group));
                content.blocks[group] = Some(block);
            }
        }
        id
    }

    fn add(&mut self, hash: PrefixHash, parent: Parent, tokens: &[TokenId]) -> ContentId {
        self.last_content = ContentId(self.last_content.0 + 1);
        let id = self.last_content;
        let same_hash = self.by_hash.entry(hash).or_default();
        self.collisions_total += u64::from(!same_hash.is_empty());
        same_hash.push(id);
        if let Some(parent) = self.parent_of(parent) {
            parent.children += 1;
        }
        let blocks = vec![None; self.group_count].into();
        let content = Content { parent, hash, tokens: tokens.into(), blocks, children: 0 };
        self.contents.insert(id, content);
        id
    }

    /// The content that comes before others, if it is known.
    fn parent_of(&mut self, parent: Parent) -> Option<&mut Content> {
        match parent {
            Parent::Nothing(_) => None,
            Parent::Content(id) => self.contents.get_mut(&id),
        }
    }

    /// Whether `block` has findable content.
    pub fn holds(&self, block: BlockId) -> bool {
        self.cached[block.index()].is_some()
    }

    /// Drops what `block` is cached as, before it is written anew. Says whether it was cached.
    pub fn forget(&mut self, block: BlockId) -> bool {
        let Some((id, group)) = self.cached[block.index()].take() else { return false };
        let content = self.contents.get_mut(&id).expect("cached content is known");
        content.blocks[group] = None;
        self.forget_idle(Parent::Content(id));
        true
    }

    /// Forgets a content that is in no block and leads to no other, and all before it that then are so, too.
    fn forget_idle(&mut self, mut last: Parent) {
        while let Parent::Content(id) = last {
            let is_crowded = CONTENTS_PER_BLOCK * self.cached.len() < self.contents.len();
            let Some(content) = self.contents.get(&id) else { break };
            let leads = 0 < content.children && !is_crowded;
            if leads || content.blocks.iter().any(Option::is_some) {
                break;
            }
            last = content.parent;
            self.forget_content(id);
            if let Some(parent) = self.parent_of(last) {
                parent.children -= 1;
            }
        }
    }

    fn forget_content(&mut self, id: ContentId) {
        let content = self.contents.remove(&id).expect("it is known");
        let same_hash = self.by_hash.get_mut(&content.hash).expect("cached content is hashed");
        same_hash.retain(|&other| other != id);
        if same_hash.is_empty() {
            self.by_hash.remove(&content.hash);
        }
    }

    /// The group and the tokens that a block is cached as.
    pub fn cached_as(&self, block: BlockId) -> Option<(usize, &[TokenId])> {
        let (id, group) = self.cached[block.index()]?;
        Some((group, &self.content(id).tokens))
    }

    fn content(&self, id: ContentId) -> &Content {
        self.contents.get(&id).expect("a name is used while its content is known")
    }

    /// Panics unless every cached block is found under its hash, once, and nothing else is known but what
    /// leads to one.
    pub fn check_invariants(&self) {
        let mut leading = BTreeSet::new();
        let mut children: BTreeMap<ContentId, usize> = BTreeMap::new();
        for (index, cached) in self.cached.iter().enumerate() {
            let Some((id, group)) = *cached else { continue };
            let block = BlockId(index as u32);
            let place = self.content(id).blocks[group];
            assert_eq!(place, Some(block), "{block:?} is not where it is cached");
            let mut last = Parent::Content(id);
            while let Parent::Content(id) = last
                && let Some(content) = self.contents.get(&id)
                && leading.insert(id)
            {
                self.check_hashed(id);
                last = content.parent;
                if let Parent::Content(parent) = last {
                    *children.entry(parent).or_default() += 1;
                }
            }
        }
        for id in &leading {
            let count = children.get(id).copied().unwrap_or(0);
            assert_eq!(self.content(*id).children, count, "{id:?} has a wrong count of children");
        }
        assert_eq!(self.contents.len(), leading.len(), "a content that leads to no block is kept");
        assert!(self.by_hash.len() <= leading.len(), "a hash without contents is kept");
        // Those in blocks come on top.
        let most = (CONTENTS_PER_BLOCK + 1) * self.cached.len();
        assert!(leading.len() <= most, "more than {most} contents are kept");
    }

    /// Panics unless a content is found under its hash, once, and only others of this hash are.
    fn check_hashed(&self, id: ContentId) {
        let hash = self.content(id).hash;
        let same_hash = self.by_hash.get(&hash).map_or(&[][..], Vec::as_slice);
        let found = same_hash.iter().filter(|&&other| other == id).count();
        assert_eq!(found, 1, "{id:?} is not found under its hash exactly once");
        for &other in same_hash {
            let other_hash = self.content(other).hash;
            assert_eq!(other_hash, hash, "{other:?} is found under a foreign hash");
        }
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
