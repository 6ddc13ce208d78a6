//! Keys and values of all sequences, in pages.
//!
//! Layers form groups of equal size. A block holds `block_size` tokens of every KV head of the layers of one
//! group; a sequence has a table of blocks for each group. Inside, tokens stand in tiles of 32, whose
//! layout `kv/tile.rs` describes.

mod tile;

use std::fmt;
use std::str::FromStr;

use crate::buffer::Buffer;

pub(crate) use tile::{Code, Stored, round_bf16, scales, store, turn_query};

/// Tokens per tile; block sizes are multiples of it.
pub const TILE_TOKENS: usize = 32;

/// In a table, the place of a block that no query sees any more.
pub const RELEASED: u32 = u32::MAX;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvType {
    /// bfloat16, rounded to nearest even; queries and weights of the softmax are rounded too.
    Bf16,
    /// IEEE half precision, rounded to nearest even, finite numbers to at most 65,504.
    F16,
    /// 8-bit codes with a scale per token and head, for keys and for values.
    Int8,
    /// 32-bit floats: for comparison with a reference, not offered to users.
    F32,
}

impl KvType {
    /// The types that are offered to users.
    pub const OFFERED: [KvType; 3] = [KvType::Bf16, KvType::F16, KvType::Int8];

    /// Bytes of one head's keys and values in one tile.
    pub const fn tile_bytes(self, head_dim: usize) -> usize {
        let numbers = 2 * TILE_TOKENS * head_dim;
        match self {
            KvType::Bf16 | KvType::F16 => 2 * numbers,
            KvType::Int8 => tile::SCALES_BYTES + numbers,
            KvType::F32 => 4 * numbers,
        }
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KvType::Bf16 => "bf16",
            KvType::F16 => "f16",
            KvType::Int8 => "int8",
            KvType::F32 => "f32",
        })
    }
}

impl FromStr for KvType {
    type Err = String;

    /// One of [`KvType::OFFERED`].
    fn from_str(text: &str) -> Result<KvType, String> {
        KvType::OFFERED.into_iter().find(|kind| kind.to_string() == text).ok_or_else(|| {
            let known = KvType::OFFERED.map(|kind| kind.to_string()).join(", ");
            format!("unknown type of keys and values \"{text}\"; known: {known}")
        })
    }
}

/// The shape of a cache.
#[derive(Debug, Clone, Copy)]
pub struct KvShape {
    /// Transformer layers that a block is for: all, or those of a group.
    pub layers: usize,
    /// Heads that keys and values have.
    pub kv_heads: usize,
    /// Elements of a head; a multiple of 32.
    pub head_dim: usize,
    /// Tokens per block; a multiple of 32.
    pub block_size: usize,
    /// Blocks in the pool.
    pub block_count: usize,
    /// How keys and values are stored.
    pub kind: KvType,
}

impl KvShape {
    /// Bytes of one block over its layers, scales included.
    pub const fn block_bytes(&self) -> usize {
        self.layers * self.kv_heads * self.tiles_per_block() * self.kind.tile_bytes(self.head_dim)
    }

    /// Bytes of the whole cache; none if their number overflows.
    fn bytes(&self) -> Option<usize> {
        let tile_bytes = self.kind.tile_bytes(self.head_dim);
        [self.layers, self.kv_heads, self.tiles_per_block(), self.block_count]
            .into_iter()
            .try_fold(tile_bytes, usize::checked_mul)
    }

    const fn tiles_per_block(&self) -> usize {
        self.block_size / TILE_TOKENS
    }

    /// First byte of a tile of one layer of its block, and head.
    pub(crate) fn tile_start(&self, layer: usize, tile: usize, head: usize) -> usize {
        let tiles = self.block_count * self.tiles_per_block();
        let tile_bytes = self.kind.tile_bytes(self.head_dim);
        ((layer * tiles + tile) * self.kv_heads + head) * tile_bytes
    }

    /// The tile that holds `position` of a sequence with this table of blocks, which are not released there.
    pub(crate) fn tile_of(&self, blocks: &[u32], position: usize) -> usize {
        let block = blocks[position / self.block_size] as usize;
        assert!(block < self.block_count, "block {block} of {}", self.block_count);
        block * self.tiles_per_block() + position % self.block_size / TILE_TOKENS
    }
}

/// The pool of pages.
pub struct KvCache {
    shape: KvShape,
    /// Of each layer of the model. No two layers have the same.
    places: Vec<Place>,
    group_count: usize,
    pub(crate) store: Buffer<u8>,
}

/// Where the keys and values of a layer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// In the blocks of which table.
    pub(crate) group: usize,
    /// Which of their layers.
    pub(crate) layer: usize,
}

impl KvCache {
    /// A cache whose blocks are for all layers of the model, `shape.layers`.
    pub fn new(shape: KvShape) -> KvCache {
        KvCache::with_groups(shape, &vec![0; shape.layers])
    }

    /// Reserves the address space of all blocks; memory is committed when a block is first used.
    /// `groups` has the group of each layer of the model, counted from 0; each has `shape.layers`.
    pub fn with_groups(shape: KvShape, groups: &[usize]) -> KvCache {
        let group_count = groups.iter().max().map_or(0, |last| last + 1);
        let mut sizes = vec![0; group_count];
        let place = |&group: &usize| {
            sizes[group] += 1;
            Place { group, layer: sizes[group] - 1 }
        };
        let places = groups.iter().map(place).collect();
        let of_groups = shape.layers;
        assert!(0 < group_count, "a model has a layer");
        assert!(
            sizes.iter().all(|&size| size == of_groups),
            "groups of {of_groups} layers: {sizes:?}"
        );
        assert!(
            shape.block_size > 0 && shape.block_size.is_multiple_of(TILE_TOKENS),
            "a block holds a multiple of {TILE_TOKENS} tokens, not {}",
            shape.block_size
        );
        assert!(shape.head_dim.is_multiple_of(32), "head_dim {} is not 32 n", shape.head_dim);
        let bytes = shape.bytes().expect("the cache's size fits an address");
        KvCache { shape, places, group_count, store: Buffer::zeroed(bytes) }
    }

    /// Its shape.
    pub fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// The place of each layer, and the number of groups.
    pub(crate) fn places(&self) -> (&[Place], usize) {
        (&self.places, self.group_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_offered_types_are_read_back() {
        for kind in KvType::OFFERED {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "fp8".parse::<KvType>().unwrap_err();
        assert_eq!(error, "unknown type of keys and values \"fp8\"; known: bf16, f16, int8");
    }

    #[test]
    fn a_block_counts_numbers_and_scales() {
        let bytes = |kind| {
            KvShape { layers: 2, kv_heads: 3, head_dim: 64, block_size: 96, block_count: 5, kind }
                .block_bytes()
        };
        let numbers = 2 * 2 * 3 * 64 * 96;
        assert_eq!(bytes(KvType::Bf16), 2 * numbers);
        assert_eq!(bytes(KvType::F16), 2 * numbers);
        assert_eq!(bytes(KvType::F32), 4 * numbers);
        assert_eq!(bytes(KvType::Int8), numbers + 2 * 2 * 3 * 96 * size_of::<f32>());
    }
}
