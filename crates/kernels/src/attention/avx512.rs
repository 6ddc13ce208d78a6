//! One span with VDPBF16PS: lanes are tokens for the scores, dimensions for the values.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;

use super::{SPAN, SPAN_TILES, Scratch, Span, TILE_QUERIES, softmax};
use crate::kv::TILE_TOKENS;

/// Pairs of bf16 numbers of one query or of its weights.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Pairs([u32; SPAN / 2]);

/// Fills the span results of every query in `scratch`.
///
/// # Safety
/// The machine has the instructions; the tiles of `span` hold `count` tokens that nobody writes.
pub(super) unsafe fn span(span: &Span<'_, u16>, scratch: &mut Scratch) {
    // SAFETY: passed on from the contract.
    unsafe {
        match scratch.count {
            1 => queries::<1>(span, scratch),
            2 => queries::<2>(span, scratch),
            3 => queries::<3>(span, scratch),
            4 => queries::<4>(span, scratch),
            5 => queries::<5>(span, scratch),
            6 => queries::<6>(span, scratch),
            count => unreachable!("a tile has 1 to {TILE_QUERIES} queries, not {count}"),
        }
    }
}

/// # Safety
/// As for [`span`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")]
unsafe fn queries<const N: usize>(span: &Span<'_, u16>, scratch: &mut Scratch) {
    let mut pairs = [Pairs([0; SPAN / 2]); N];
    for (pairs, query) in pairs.iter_mut().zip(&scratch.queries) {
        to_pairs(&query.0[..span.dim], &mut pairs.0);
    }
    let tiles = span.count.div_ceil(TILE_TOKENS);
    for tile in 0..tiles {
        let keys = span.tiles[tile];
        if tile + 1 < tiles {
            // SAFETY: a prefetch has no effect on memory, whatever its address.
            unsafe { prefetch_head(span.tiles[tile + 1]) };
        }
        // SAFETY: by the contract the tile holds `TILE_TOKENS * dim` keys.
        let scores = unsafe { tile_scores::<N>(keys, span.dim, &pairs) };
        for (out, scores) in scratch.scores.iter_mut().zip(scores) {
            let out = &mut out.0[tile * TILE_TOKENS..(tile + 1) * TILE_TOKENS];
            // SAFETY: `out` has 32 floats.
            unsafe {
                _mm512_storeu_ps(out.as_mut_ptr(), scores[0]);
                _mm512_storeu_ps(out.as_mut_ptr().add(16), scores[1]);
            }
        }
    }
    for query in 0..N {
        // A query before this span sees none of it; its results are not read by the merge.
        let visible = (scratch.positions[query] + 1).saturating_sub(span.start);
        let scores = &mut scratch.scores[query].0[..tiles * TILE_TOKENS];
        let (maximum, sum) = softmax(scores, visible, round_bf16);
        scratch.span_max[query] = maximum;
        scratch.span_sum[query] = sum;
        to_pairs(scores, &mut pairs[query].0);
    }
    // SAFETY: by the contract the tiles hold values of `count` tokens.
    unsafe {
        let mut dim = 0;
        while dim + 64 <= span.dim {
            weighted_values::<N, 4>(span, dim, &pairs, scratch);
            dim += 64;
        }
        while dim < span.dim {
            weighted_values::<N, 1>(span, dim, &pairs, scratch);
            dim += 16;
        }
    }
}

/// Rounds to the nearest bf16, ties to even. For the weights of a softmax: 0, positive or NaN.
#[inline(always)]
fn round_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    if x.is_nan() { x } else { f32::from_bits(rounded) }
}

/// Rounds pairs of numbers to bf16, the even one in the low half.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16,avx512vl,avx512bw")]
fn to_pairs(values: &[f32], out: &mut [u32]) {
    for (values, out) in values.chunks_exact(16).zip(out.chunks_exact_mut(8)) {
        // SAFETY: both chunks have the sizes that the load and the store need.
        unsafe {
            let halves = _mm512_cvtneps_pbh(_mm512_loadu_ps(values.as_ptr()));
            let halves = std::mem::transmute::<__m256bh, __m256i>(halves);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), halves);
        }
    }
}

/// Asks for the first lines of the next tile, which the hardware cannot foresee.
///
/// # Safety
/// None needed: prefetching any address is harmless.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn prefetch_head(tile: *const u16) {
    for line in 0..8 {
        _mm_prefetch::<_MM_HINT_T0>(tile.wrapping_add(line * 32).cast());
    }
}

/// Scores of 32 tokens for each query.
///
/// # Safety
/// The tile holds `TILE_TOKENS * dim` keys.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile_scores<const N: usize>(
    keys: *const u16,
    dim: usize,
    queries: &[Pairs; N],
) -> [[__m512; 2]; N] {
    let mut scores = [[_mm512_setzero_ps(); 2]; N];
    for pair in 0..dim / 2 {
        // SAFETY: pair < dim / 2, and each pair has 32 tokens of two numbers.
        let (low, high) = unsafe {
            let line = keys.add(pair * 2 * TILE_TOKENS);
            (load_pairs(line), load_pairs(line.add(TILE_TOKENS)))
        };
        for (scores, query) in scores.iter_mut().zip(queries) {
            let query = broadcast(query.0[pair]);
            scores[0] = _mm512_dpbf16_ps(scores[0], low, query);
            scores[1] = _mm512_dpbf16_ps(scores[1], high, query);
        }
    }
    scores
}

/// Weighted sums of the values' dimensions `dim..dim + 16 * V` over the span.
///
/// # Safety
/// The tiles of `span` hold values of `count` tokens.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn weighted_values<const N: usize, const V: usize>(
    span: &Span<'_, u16>,
    dim: usize,
    weights: &[Pairs; N],
    scratch: &mut Scratch,
) {
    let mut sums = [[_mm512_setzero_ps(); V]; N];
    let tiles = span.count.div_ceil(TILE_TOKENS);
    for (tile, &start) in span.tiles[..tiles.min(SPAN_TILES)].iter().enumerate() {
        let tokens = TILE_TOKENS.min(span.count - tile * TILE_TOKENS);
        for pair in 0..tokens.div_ceil(2) {
            // SAFETY: the values follow the keys; `pair` lies in the tile.
            let line = unsafe { start.add(TILE_TOKENS * span.dim + (pair * span.dim + dim) * 2) };
            // The second token of an odd last pair was never written: zero times it may be NaN.
            let odd = 2 * pair + 1 == tokens;
            let mut values = [_mm512_setzero_si512(); V];
            for (v, value) in values.iter_mut().enumerate() {
                // SAFETY: 32 numbers from dimension `dim + 16 v` of the pair.
                let pairs = unsafe { _mm512_loadu_si512(line.add(v * 32).cast()) };
                *value =
                    if odd { _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff)) } else { pairs };
            }
            for (sums, weights) in sums.iter_mut().zip(weights) {
                let weight = broadcast(weights.0[tile * TILE_TOKENS / 2 + pair]);
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = _mm512_dpbf16_ps(*sum, as_bf16(value), weight);
                }
            }
        }
    }
    for (out, sums) in scratch.span_outputs.iter_mut().zip(sums) {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: `dim + 16 v + 16` is at most `HEAD_DIM_MAX`.
            unsafe { _mm512_storeu_ps(out.0.as_mut_ptr().add(dim + 16 * v), sum) };
        }
    }
}

/// # Safety
/// 32 numbers can be read at `pairs`.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn load_pairs(pairs: *const u16) -> __m512bh {
    // SAFETY: by the contract.
    as_bf16(unsafe { _mm512_loadu_si512(pairs.cast()) })
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn broadcast(pair: u32) -> __m512bh {
    as_bf16(_mm512_set1_epi32(pair.cast_signed()))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn as_bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both types are 64 plain bytes.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) }
}
