use super::*;
use crate::ids::AdapterId;

fn tokens(ids: [u32; 2]) -> [TokenId; 2] {
    ids.map(TokenId)
}

struct Chain {
    cache: PrefixCache,
    hash: PrefixHash,
    parent: Parent,
}

const START: Parent = Parent::Nothing(Origin { salt: CacheSalt([0; 32]), adapter: None });

impl Chain {
    fn begin(hash_mask: u64) -> Chain {
        let cache = PrefixCache::with_hash_mask(4, 1, hash_mask);
        Chain { cache, hash: PrefixHash::EMPTY, parent: START }
    }

    fn add(&mut self, block: u32, ids: [u32; 2]) {
        self.hash = self.cache.hash(self.hash, &tokens(ids));
        let content =
            self.cache.insert([BlockId(block)].into_iter(), self.hash, self.parent, &tokens(ids));
        self.parent = Parent::Content(content);
        self.cache.check_invariants();
    }

    fn restart(&mut self) {
        (self.hash, self.parent) = (PrefixHash::EMPTY, START);
    }

    fn find(&self, blocks: &[[u32; 2]]) -> Option<BlockId> {
        let (mut hash, mut parent, mut last) = (PrefixHash::EMPTY, START, None);
        for &ids in blocks {
            hash = self.cache.hash(hash, &tokens(ids));
            let content = self.cache.find(hash, parent, &tokens(ids))?;
            (parent, last) = (Parent::Content(content), self.cache.blocks(content)[0]);
        }
        last
    }
}

#[test]
fn a_block_is_found_only_after_its_own_beginning() {
    for mask in [u64::MAX, 0] {
        let mut chain = Chain::begin(mask);
        chain.add(0, [1, 2]);
        chain.add(1, [3, 4]);
        assert_eq!(chain.find(&[[1, 2], [3, 4]]), Some(BlockId(1)));
        assert_eq!(chain.find(&[[3, 4]]), None);
        assert_eq!(chain.find(&[[1, 2], [3, 5]]), None);
    }
}

#[test]
fn equal_hashes_with_other_tokens_are_kept_apart() {
    let mut chain = Chain::begin(0);
    chain.add(0, [1, 2]);
    chain.restart();
    chain.add(1, [7, 8]);
    assert_eq!(chain.cache.collisions_total(), 1);
    assert_eq!(chain.find(&[[1, 2]]), Some(BlockId(0)));
    assert_eq!(chain.find(&[[7, 8]]), Some(BlockId(1)));
}

#[test]
fn first_blocks_of_other_origins_are_kept_apart_also_with_equal_hashes() {
    for mask in [u64::MAX, 0] {
        let mut cache = PrefixCache::with_hash_mask(5, 1, mask);
        let mut origins = [Origin::default(); 5];
        (origins[1].salt.0[31], origins[2].salt.0[0]) = (1, 1);
        (origins[3].adapter, origins[4].adapter) = (Some(AdapterId(0)), Some(AdapterId(1)));
        let tokens = tokens([1, 2]);
        let chain = |cache: &PrefixCache, origin| {
            (cache.hash(cache.start(origin), &tokens), Parent::Nothing(origin))
        };
        for (block, origin) in (0..).zip(origins) {
            let (hash, parent) = chain(&cache, origin);
            assert_eq!(cache.find(hash, parent, &tokens), None);
            cache.insert([BlockId(block)].into_iter(), hash, parent, &tokens);
        }
        for (block, origin) in (0..).zip(origins) {
            let (hash, parent) = chain(&cache, origin);
            let found =
                cache.find(hash, parent, &tokens).and_then(|content| cache.blocks(content)[0]);
            assert_eq!(found, Some(BlockId(block)));
        }
        assert_eq!(cache.collisions_total(), if mask == 0 { 4 } else { 0 });
        cache.check_invariants();
    }
}

#[test]
fn a_child_is_not_found_through_another_content_of_its_parents_block() {
    let mut chain = Chain::begin(0);
    chain.add(0, [1, 2]);
    chain.add(1, [3, 4]);
    assert!(chain.cache.forget(BlockId(0)));
    chain.restart();
    chain.add(0, [5, 6]);
    assert_eq!(chain.find(&[[5, 6], [3, 4]]), None);
}

#[test]
fn the_first_of_two_equal_blocks_stays() {
    let mut chain = Chain::begin(u64::MAX);
    chain.add(2, [1, 2]);
    let first = chain.parent;
    chain.restart();
    chain.add(3, [1, 2]);
    assert_eq!(chain.parent, first);
    assert_eq!(chain.find(&[[1, 2]]), Some(BlockId(2)));
    assert!(!chain.cache.holds(BlockId(3)));
}

#[test]
fn a_forgotten_block_is_not_found() {
    let mut chain = Chain::begin(u64::MAX);
    chain.add(0, [1, 2]);
    assert!(chain.cache.forget(BlockId(0)));
    assert!(!chain.cache.forget(BlockId(0)));
    assert_eq!(chain.find(&[[1, 2]]), None);
    chain.cache.check_invariants();
}

#[test]
fn a_content_without_blocks_is_known_while_it_leads_to_others() {
    let mut chain = Chain::begin(u64::MAX);
    chain.add(0, [1, 2]);
    chain.add(1, [3, 4]);
    chain.add(2, [5, 6]);
    for block in [0, 1] {
        assert!(chain.cache.forget(BlockId(block)));
        chain.cache.check_invariants();
        assert_eq!(chain.find(&[[1, 2], [3, 4], [5, 6]]), Some(BlockId(2)));
    }
    assert!(chain.cache.forget(BlockId(2)));
    chain.cache.check_invariants();
    assert!(chain.cache.contents.is_empty());
}

#[test]
fn what_follows_a_forgotten_content_is_not_cached() {
    let mut chain = Chain::begin(u64::MAX);
    chain.add(0, [1, 2]);
    assert!(chain.cache.forget(BlockId(0)));
    chain.add(1, [3, 4]);
    chain.add(2, [5, 6]);
    assert!(!chain.cache.holds(BlockId(1)) && !chain.cache.holds(BlockId(2)));
}

#[test]
fn as_many_contents_without_blocks_are_known_as_there_is_room_for() {
    let mut chain = Chain::begin(u64::MAX);
    let mut blocks = Vec::new();
    let most = 4 * CONTENTS_PER_BLOCK as u32;
    for count in 0..3 * most {
        // Of the content before the last.
        chain.cache.forget(BlockId(count % 2));
        chain.add(count % 2, [count, count]);
        blocks.push([count, count]);
        assert_eq!(chain.find(&blocks).is_some(), count <= most, "after {count}");
    }
}

#[test]
fn hashes_are_the_same_in_every_process() {
    let Chain { cache, .. } = Chain::begin(u64::MAX);
    let hash = |ids| cache.hash(PrefixHash::EMPTY, &tokens(ids));
    // Computed by a program of a few lines with numbers of any size.
    assert_eq!(hash([1, 2]), PrefixHash(11_480_061_672_625_013_015));
    assert_eq!(hash([700_000, 3]), PrefixHash(6_432_411_254_153_574_045));
    let mut salt = [0x5a; 32];
    salt[8..16].fill(0xc3);
    salt[16..24].fill(0x0f);
    salt[24..].fill(0xf1);
    let start = |adapter| cache.start(Origin { salt: CacheSalt(salt), adapter });
    assert_eq!(start(None), PrefixHash(14_780_483_063_914_282_545));
    assert_eq!(start(Some(AdapterId(6))), PrefixHash(2_185_362_449_668_301_555));
}

#[test]
#[should_panic(expected = "not found under its hash")]
fn a_cached_block_that_cannot_be_found_is_a_panic() {
    let mut chain = Chain::begin(u64::MAX);
    chain.add(0, [1, 2]);
    chain.cache.by_hash.clear();
    chain.cache.check_invariants();
}
