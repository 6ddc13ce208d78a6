//! f16 and f32: numbers become f32 lanes, and fused multiply-adds take queries and weights as they
//! are.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;

use half::f16;

use crate::attention::portable::softmax;
use crate::attention::vectors::prefetch;
use crate::attention::{Scratch, Span};
use crate::kv::{Stored, TILE_TOKENS};

/// A type whose numbers are read as f32.
pub(super) trait Lanes: Stored {
    /// The 16 numbers from `line` on.
    ///
    /// # Safety
    /// The machine has the instructions, and the numbers can be read.
    unsafe fn load(line: *const Self) -> __m512;
}

impl Lanes for f16 {
    /// # Safety
    /// As the trait says.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(line: *const f16) -> __m512 {
        // SAFETY: by the contract.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(line.cast()) })
    }
}

impl Lanes for f32 {
    /// # Safety
    /// As the trait says.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(line: *const f32) -> __m512 {
        // SAFETY: by the contract.
        unsafe { _mm512_loadu_ps(line) }
    }
}

/// Fills the span results of `N` queries.
///
/// # Safety
/// As for [`super::span`]; the tiles hold numbers of type `T`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
pub(super) unsafe fn queries<T: Lanes, const N: usize>(span: &Span<'_>, scratch: &mut Scratch) {
    let tiles = span.count.div_ceil(TILE_TOKENS);
    for tile in span.first..tiles {
        // SAFETY: passed on from the contract.
        unsafe { tile_scores::<T, N>(span, tile, scratch) };
    }
    for n in 0..N {
        // Of a query that sees none of this span the results are not read by the merge.
        let visible = scratch.visible(n, span.start);
        let scores = &mut scratch.scores[n].0[..tiles * TILE_TOKENS];
        (scratch.span_max[n], scratch.span_sum[n]) = softmax(scores, visible, |x| x);
    }
    // SAFETY: passed on from the contract.
    unsafe {
        let mut dim = 0;
        while dim + 64 <= span.dim {
            weighted_values::<T, N, 4>(span, dim, scratch);
            dim += 64;
        }
        while dim < span.dim {
            weighted_values::<T, N, 1>(span, dim, scratch);
            dim += 16;
        }
    }
}

/// Writes the scores of one tile's tokens for each query.
///
/// # Safety
/// As for [`queries`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn tile_scores<T: Lanes, const N: usize>(
    span: &Span<'_>,
    tile: usize,
    scratch: &mut Scratch,
) {
    let keys = T::keys(span.tiles[tile]);
    let mut scores = [[_mm512_setzero_ps(); 2]; N];
    let values = T::values(span.tiles[tile], span.dim).cast();
    let line_bytes = TILE_TOKENS * size_of::<T>();
    for dim in 0..span.dim {
        prefetch(values, (dim * line_bytes, line_bytes));
        // SAFETY: by the contract each dimension has 32 tokens.
        let (low, high) = unsafe {
            let line = keys.add(dim * TILE_TOKENS);
            (T::load(line), T::load(line.add(16)))
        };
        for n in 0..N {
            let query = _mm512_set1_ps(scratch.queries[n].0[dim]);
            scores[n][0] = _mm512_fmadd_ps(low, query, scores[n][0]);
            scores[n][1] = _mm512_fmadd_ps(high, query, scores[n][1]);
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
/// As for [`queries`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn weighted_values<T: Lanes, const N: usize, const V: usize>(
    span: &Span<'_>,
    dim: usize,
    scratch: &mut Scratch,
) {
    let mut sums = [[_mm512_setzero_ps(); V]; N];
    for token in span.first * TILE_TOKENS..span.count {
        let (tile, token_of_tile) = (token / TILE_TOKENS, token % TILE_TOKENS);
        let number = token_of_tile * span.dim + dim;
        let line = T::values(span.tiles[tile], span.dim).wrapping_add(number);
        prefetch(span.ahead[tile], (number * size_of::<T>(), 16 * V * size_of::<T>()));
        let mut values = [_mm512_setzero_ps(); V];
        for v in 0..V {
            // SAFETY: by the contract the token's values have `span.dim` dimensions.
            values[v] = unsafe { T::load(line.add(16 * v)) };
        }
        for n in 0..N {
            let weight = _mm512_set1_ps(scratch.scores[n].0[token]);
            for v in 0..V {
                sums[n][v] = _mm512_fmadd_ps(values[v], weight, sums[n][v]);
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
