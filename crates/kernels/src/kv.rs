//! Keys and values of all sequences, in pages.
//!
//! A block holds `block_size` tokens of every layer and KV head. Inside, tokens stand in tiles of
//! 32, laid out for attention: as lanes for keys, as pairs for values. Elements per tile and head:
//!
//! | type | keys | values |
//! |---|---|---|
//! | bf16 | `[head_dim / 2][32 tokens][2]` | `[16 token pairs][head_dim][2]` |
//! | f32 | `[head_dim][32 tokens]` | `[32 tokens][head_dim]` |

use crate::buffer::{Buffer, Plain};

/// Tokens per tile; block sizes are multiples of it.
pub const TILE_TOKENS: usize = 32;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvType {
    /// bfloat16, rounded to nearest even.
    Bf16,
    /// 32-bit floats, computed in plain Rust: for comparison with a reference.
    F32,
}

impl KvType {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            KvType::Bf16 => 2,
            KvType::F32 => 4,
        }
    }
}

/// The shape of a cache.
#[derive(Debug, Clone, Copy)]
pub struct KvShape {
    /// Transformer layers.
    pub layers: usize,
    /// Heads that keys and values have.
    pub kv_heads: usize,
    /// Elements of a head; even, a multiple of 16.
    pub head_dim: usize,
    /// Tokens per block; a multiple of 32.
    pub block_size: usize,
    /// Blocks in the pool.
    pub block_count: usize,
    /// Element type.
    pub kind: KvType,
}

impl KvShape {
    /// Bytes of one block over all layers.
    pub const fn block_bytes(&self) -> usize {
        2 * self.layers * self.kv_heads * self.head_dim * self.block_size * self.kind.bytes()
    }
}

/// The pool of pages.
pub struct KvCache {
    shape: KvShape,
    pub(crate) store: Store,
}

pub(crate) enum Store {
    Bf16(Buffer<u16>),
    F32(Buffer<f32>),
}

impl KvCache {
    /// Reserves the address space of all blocks; memory is committed when a block is first used.
    pub fn new(shape: KvShape) -> KvCache {
        assert!(
            shape.block_size > 0 && shape.block_size.is_multiple_of(TILE_TOKENS),
            "a block holds a multiple of {TILE_TOKENS} tokens, not {}",
            shape.block_size
        );
        assert!(shape.head_dim.is_multiple_of(16), "head_dim {} is not 16 n", shape.head_dim);
        let elements = shape.elements().expect("the cache's size fits an address");
        let store = match shape.kind {
            KvType::Bf16 => Store::Bf16(Buffer::zeroed(elements)),
            KvType::F32 => Store::F32(Buffer::zeroed(elements)),
        };
        KvCache { shape, store }
    }

    /// Its shape.
    pub fn shape(&self) -> &KvShape {
        &self.shape
    }
}

impl KvShape {
    /// Elements of the whole cache; none if their number overflows.
    fn elements(&self) -> Option<usize> {
        [self.layers, self.kv_heads, self.head_dim, self.block_size, self.block_count]
            .into_iter()
            .try_fold(2_usize, usize::checked_mul)
    }

    /// First element of the keys of one tile and head; the values follow the keys.
    pub(crate) fn tile_start(&self, layer: usize, tile: usize, head: usize) -> usize {
        let tiles = self.block_count * self.tiles_per_block();
        ((layer * tiles + tile) * self.kv_heads + head) * self.tile_len()
    }

    /// Elements of keys and values of one tile and head.
    pub(crate) fn tile_len(&self) -> usize {
        2 * TILE_TOKENS * self.head_dim
    }

    pub(crate) fn tiles_per_block(&self) -> usize {
        self.block_size / TILE_TOKENS
    }

    /// The tile that holds `position` of a sequence with this block table.
    pub(crate) fn tile_of(&self, blocks: &[u32], position: usize) -> usize {
        let block = blocks[position / self.block_size] as usize;
        assert!(block < self.block_count, "block {block} of {}", self.block_count);
        block * self.tiles_per_block() + position % self.block_size / TILE_TOKENS
    }
}

/// An element type of the cache, and its place in a tile.
pub(crate) trait KvElement: Plain {
    fn from_f32(value: f32) -> Self;
    fn to_f32(self) -> f32;
    /// Index of dimension `dim` of token `slot` among the keys of a tile.
    fn key_at(dim: usize, slot: usize) -> usize;
    /// Index of dimension `dim` of token `slot` among the values of a tile.
    fn value_at(dim: usize, slot: usize, head_dim: usize) -> usize;

    /// Writes one token's key into a tile.
    ///
    /// # Safety
    /// `keys` points to a tile's keys of `key.len()` dimensions, `slot` is below [`TILE_TOKENS`],
    /// and no other thread uses this slot.
    unsafe fn store_key(keys: *mut Self, slot: usize, key: &[f32]) {
        for (dim, &number) in key.iter().enumerate() {
            // SAFETY: by the contract.
            unsafe { *keys.add(Self::key_at(dim, slot)) = Self::from_f32(number) };
        }
    }

    /// Writes one token's value into a tile.
    ///
    /// # Safety
    /// As for [`KvElement::store_key`], with the tile's values.
    unsafe fn store_value(values: *mut Self, slot: usize, value: &[f32]) {
        for (dim, &number) in value.iter().enumerate() {
            // SAFETY: by the contract.
            unsafe { *values.add(Self::value_at(dim, slot, value.len())) = Self::from_f32(number) };
        }
    }
}

impl KvElement for u16 {
    #[inline(always)]
    fn from_f32(value: f32) -> u16 {
        // As `half::bf16` rounds, but without a branch, so that it is compiled to vectors.
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        (if value.is_nan() { bits >> 16 | 0x40 } else { rounded }) as u16
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }
    #[inline(always)]
    fn key_at(dim: usize, slot: usize) -> usize {
        (dim / 2 * TILE_TOKENS + slot) * 2 + dim % 2
    }
    #[inline(always)]
    fn value_at(dim: usize, slot: usize, head_dim: usize) -> usize {
        (slot / 2 * head_dim + dim) * 2 + slot % 2
    }
}

impl KvElement for f32 {
    #[inline(always)]
    fn from_f32(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn key_at(dim: usize, slot: usize) -> usize {
        dim * TILE_TOKENS + slot
    }
    #[inline(always)]
    fn value_at(dim: usize, slot: usize, head_dim: usize) -> usize {
        slot * head_dim + dim
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_elements_are_rounded_as_half_rounds() {
        let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 1e-45];
        let many = (0..200_000_u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b1)));
        for value in special.into_iter().chain(many) {
            assert_eq!(u16::from_f32(value), half::bf16::from_f32(value).to_bits(), "{value}");
        }
    }
}
