//! bf16: VDPBF16PS, with queries and weights rounded to bf16 too.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

use half::bf16;

use crate::attention::portable::hide;
use crate::attention::vectors::prefetch;
use crate::attention::{SPAN, Scratch, Span};
use crate::kv::{Stored, TILE_TOKENS};
use crate::sums::add_lanes;

/// Pairs of bf16 numbers of one query or of its weights.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Pairs([u32; SPAN / 2]);

/// Fills the span results of `N` queries.
///
/// # Safety
/// As for [`super::span`]; the tiles hold bf16 numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")]
pub(super) unsafe fn queries<const N: usize>(span: &Span<'_>, scratch: &mut Scratch) {
    let mut pairs = [Pairs([0; SPAN / 2]); N];
    for n in 0..N {
        to_pairs(&scratch.queries[n].0[..span.dim], &mut pairs[n].0);
    }
    let tiles = span.count.div_ceil(TILE_TOKENS);
    for tile in span.first..tiles {
        // SAFETY: by the contract the tile holds `TILE_TOKENS * dim` keys.
        unsafe { tile_scores::<N>(span, tile, &pairs, scratch) };
    }
    for n in 0..N {
        // Of a query that sees none of this span the results are not read by the merge.
        let visible = scratch.visible(n, span.start);
        let scores = &mut scratch.scores[n].0[..tiles * TILE_TOKENS];
        let (maximum, sum) = softmax(scores, visible, &mut pairs[n].0);
        scratch.span_max[n] = maximum;
        scratch.span_sum[n] = sum;
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

/// Turns one query's scores into weights `exp(score - max)` as bf16, zero but for the visible tokens.
///
/// Gives the maximum and the sum of the weights as they are used, rounded. `scores` is a whole
/// number of tiles long; sums run in 16 lanes, so zeros do not count. A NaN among the
/// scores makes the sum NaN.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn softmax(scores: &mut [f32], visible: Range<usize>, pairs: &mut [u32]) -> (f32, f32) {
    hide(scores, visible, f32::NEG_INFINITY);
    let lines = scores.as_chunks::<16>().0;
    let mut maxima = _mm512_set1_ps(f32::NEG_INFINITY);
    for line in lines {
        maxima = _mm512_max_ps(maxima, load(line));
    }
    let maximum = _mm512_reduce_max_ps(maxima);
    let subtracted = _mm512_set1_ps(maximum);
    let mut sums = _mm512_setzero_ps();
    for (line, out) in lines.iter().zip(pairs.as_chunks_mut::<8>().0) {
        let weights = _mm512_cvtneps_pbh(exp(_mm512_sub_ps(load(line), subtracted)));
        // SAFETY: all three types are plain bits of one size; `out` has 32 bytes.
        let weights = unsafe {
            let weights = std::mem::transmute::<__m256bh, __m256i>(weights);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), weights);
            weights
        };
        let rounded = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(weights));
        sums = _mm512_add_ps(sums, _mm512_castsi512_ps(rounded));
    }
    let mut lanes = [0.0; 16];
    // SAFETY: `lanes` has 16 floats.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sums) };
    (maximum, add_lanes(lanes))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &[f32; 16]) -> __m512 {
    // SAFETY: the line has 16 floats.
    unsafe { _mm512_loadu_ps(line.as_ptr()) }
}

/// e^x for 16 numbers that are at most 0, or NaN.
///
/// `x = n ln 2 + r` with |r| ≤ ln 2 / 2, and e^r by its Taylor polynomial of degree 6: its error of
/// 1e-7 vanishes in the rounding to bf16. Results below the smallest normal number are 0.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    let n = _mm512_roundscale_ps::<NEAREST>(_mm512_mul_ps(x, _mm512_set1_ps(LOG2_E)));
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN_2), x);
    let mut p = _mm512_set1_ps(1.0 / 720.0);
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    }
    // `-inf - n ln 2` is not a number; its place is known.
    let gone = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_set1_ps(-87.0));
    _mm512_mask_blend_ps(gone, _mm512_scalef_ps(p, n), _mm512_setzero_ps())
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

/// Writes the scores of one tile's tokens for each query.
///
/// # Safety
/// The tile holds `TILE_TOKENS * dim` keys.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile_scores<const N: usize>(
    span: &Span<'_>,
    tile: usize,
    queries: &[Pairs; N],
    scratch: &mut Scratch,
) {
    let keys = bf16::keys(span.tiles[tile]);
    let mut scores = [[_mm512_setzero_ps(); 2]; N];
    let values = bf16::values(span.tiles[tile], span.dim).cast();
    for pair in 0..span.dim / 2 {
        prefetch(values, (pair * 4 * TILE_TOKENS, 4 * TILE_TOKENS));
        // SAFETY: pair < span.dim / 2, and each pair has 32 tokens of two numbers.
        let (low, high) = unsafe {
            let line = keys.add(pair * 2 * TILE_TOKENS);
            (load_pairs(line), load_pairs(line.add(TILE_TOKENS)))
        };
        for n in 0..N {
            let query = broadcast(queries[n].0[pair]);
            scores[n][0] = _mm512_dpbf16_ps(scores[n][0], low, query);
            scores[n][1] = _mm512_dpbf16_ps(scores[n][1], high, query);
        }
    }
    for n in 0..N {
        let out = &mut scratch.scores[n].0[tile * TILE_TOKENS..(tile + 1) * TILE_TOKENS];
        // SAFETY: `out` has 32 floats.
        unsafe {
            _mm512_storeu_ps(out.as_mut_ptr(), scores[n][0]);
            _mm512_storeu_ps(out.as_mut_ptr().add(16), scores[n][1]);
        }
    }
}

/// Weighted sums of the values' dimensions `dim..dim + 16 * V` over the span.
///
/// # Safety
/// The tiles of `span` hold values of `count` tokens.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn weighted_values<const N: usize, const V: usize>(
    span: &Span<'_>,
    dim: usize,
    weights: &[Pairs; N],
    scratch: &mut Scratch,
) {
    let mut sums = [[_mm512_setzero_ps(); V]; N];
    for pair in span.first * TILE_TOKENS / 2..span.count.div_ceil(2) {
        let (tile, pair_of_tile) = (pair / (TILE_TOKENS / 2), pair % (TILE_TOKENS / 2));
        // The second token of an odd last pair was never written: zero times it may be NaN.
        let written = if 2 * pair + 1 == span.count { 0x5555_5555 } else { u32::MAX };
        prefetch(span.ahead[tile], ((pair_of_tile * span.dim + dim) * 4, 64 * V));
        let mut values = [_mm512_setzero_si512(); V];
        for v in 0..V {
            // SAFETY: the values follow the keys of a tile; 32 numbers from dimension
            // `dim + 16 v` of the pair.
            values[v] = unsafe {
                let start = bf16::values(span.tiles[tile], span.dim);
                let line = start.add((pair_of_tile * span.dim + dim + 16 * v) * 2);
                _mm512_maskz_loadu_epi16(written, line.cast())
            };
        }
        for n in 0..N {
            let weight = broadcast(weights[n].0[pair]);
            for v in 0..V {
                sums[n][v] = _mm512_dpbf16_ps(sums[n][v], as_bf16(values[v]), weight);
            }
        }
    }
    for n in 0..N {
        for v in 0..V {
            let out = &mut scratch.span_outputs[n].0[dim + 16 * v..dim + 16 * (v + 1)];
            // SAFETY: `out` has 16 floats.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums[n][v]) };
        }
    }
}

/// # Safety
/// 32 numbers can be read at `pairs`.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn load_pairs(pairs: *const bf16) -> __m512bh {
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
