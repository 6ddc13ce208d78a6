//! bf16, f16 and f32: numbers become f32 lanes, products are added in the order of their columns.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;

use half::{bf16, f16};

use crate::attention::portable::softmax;
use crate::attention::scratch::Head;
use crate::attention::vectors::prefetch;
use crate::attention::{Scratch, Span};
use crate::kv::{Stored, TILE_TOKENS, round_bf16};

/// Lanes of a register.
const LANES: usize = 8;

/// A type whose numbers are read as f32.
pub(super) trait Lanes: Stored {
    /// The numbers of 8 lanes from `line` on: the first of each group, and the second.
    ///
    /// # Safety
    /// The machine has the instructions, and 8 groups can be read.
    unsafe fn load(line: *const Self) -> [__m256; 2];

    /// A query's number or a weight as it is multiplied.
    fn round(factor: f32) -> f32;
}

impl Lanes for bf16 {
    /// # Safety
    /// As the trait says.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(line: *const bf16) -> [__m256; 2] {
        // SAFETY: by the contract.
        let pairs = unsafe { _mm256_loadu_si256(line.cast()) };
        let second = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
        [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(second)]
    }

    #[inline(always)]
    fn round(factor: f32) -> f32 {
        round_bf16(factor).number()
    }
}

impl Lanes for f16 {
    /// # Safety
    /// As the trait says.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn load(line: *const f16) -> [__m256; 2] {
        // SAFETY: by the contract.
        [_mm256_cvtph_ps(unsafe { _mm_loadu_si128(line.cast()) }), _mm256_setzero_ps()]
    }

    #[inline(always)]
    fn round(factor: f32) -> f32 {
        factor
    }
}

impl Lanes for f32 {
    /// # Safety
    /// As the trait says.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(line: *const f32) -> [__m256; 2] {
        // SAFETY: by the contract.
        [unsafe { _mm256_loadu_ps(line) }, _mm256_setzero_ps()]
    }

    #[inline(always)]
    fn round(factor: f32) -> f32 {
        factor
    }
}

/// Fills the span results of `N` queries.
///
/// # Safety
/// As for [`super::span`]; the tiles hold numbers of type `T`.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn queries<T: Lanes, const N: usize>(span: &Span<'_>, scratch: &mut Scratch) {
    let mut queries = [scratch.queries[0]; N];
    for n in 0..N {
        for dim in 0..span.dim {
            queries[n].0[dim] = T::round(scratch.queries[n].0[dim]);
        }
    }
    let tiles = span.count.div_ceil(TILE_TOKENS);
    for tile in span.first..tiles {
        // SAFETY: passed on from the contract.
        unsafe {
            // With more queries the sums of a whole tile have no room in registers.
            if N <= 2 {
                tile_scores::<T, N, 4>(span, tile, &queries, scratch);
            } else {
                tile_scores::<T, N, 2>(span, tile, &queries, scratch);
            }
        }
    }
    for n in 0..N {
        // Of a query that sees none of this span the results are not read by the merge.
        let visible = scratch.visible(n, span.start);
        let scores = &mut scratch.scores[n].0[..tiles * TILE_TOKENS];
        (scratch.span_max[n], scratch.span_sum[n]) = softmax(scores, visible, T::round);
    }
    // SAFETY: passed on from the contract.
    unsafe {
        let mut dim = 0;
        while N <= 2 && dim + 4 * LANES <= span.dim {
            weighted_values::<T, N, 4>(span, dim, scratch);
            dim += 4 * LANES;
        }
        while dim < span.dim {
            weighted_values::<T, N, 2>(span, dim, scratch);
            dim += 2 * LANES;
        }
    }
}

/// Writes the scores of one tile's tokens for each query, `8 * V` of them at once.
///
/// # Safety
/// As for [`queries`].
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn tile_scores<T: Lanes, const N: usize, const V: usize>(
    span: &Span<'_>,
    tile: usize,
    queries: &[Head; N],
    scratch: &mut Scratch,
) {
    let keys = T::keys(span.tiles[tile]);
    let values = T::values(span.tiles[tile], span.dim).cast();
    let line_bytes = TILE_TOKENS * T::GROUP * size_of::<T>();
    for token in (0..TILE_TOKENS).step_by(V * LANES) {
        let mut sums = [[_mm256_setzero_ps(); V]; N];
        for group in 0..span.dim / T::GROUP {
            if token == 0 {
                prefetch(values, (group * line_bytes, line_bytes));
            }
            let line = keys.wrapping_add((group * TILE_TOKENS + token) * T::GROUP);
            // SAFETY: by the contract each group of dimensions has 32 tokens; a head has room for them.
            unsafe {
                let factor = |n: usize, i| *queries[n].0.get_unchecked(group * T::GROUP + i);
                add(line, factor, T::GROUP, &mut sums);
            }
        }
        for n in 0..N {
            store(&sums[n], &mut scratch.scores[n].0[tile * TILE_TOKENS + token..]);
        }
    }
}

/// Weighted sums of the values' dimensions `dim..dim + 8 * V` over the span.
///
/// # Safety
/// As for [`queries`].
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn weighted_values<T: Lanes, const N: usize, const V: usize>(
    span: &Span<'_>,
    dim: usize,
    scratch: &mut Scratch,
) {
    let mut sums = [[_mm256_setzero_ps(); V]; N];
    for token in (span.first * TILE_TOKENS..span.count).step_by(T::GROUP) {
        let (tile, token_of_tile) = (token / TILE_TOKENS, token % TILE_TOKENS);
        let number = token_of_tile * span.dim + dim * T::GROUP;
        let line = T::values(span.tiles[tile], span.dim).wrapping_add(number);
        let line_bytes = LANES * V * T::GROUP * size_of::<T>();
        prefetch(span.ahead[tile], (number * size_of::<T>(), line_bytes));
        // Behind the last token anything may stand.
        let tokens = T::GROUP.min(span.count - token);
        // SAFETY: by the contract the tokens' values have `span.dim` dimensions; there is a score of each.
        unsafe {
            let factor = |n: usize, i| *scratch.scores[n].0.get_unchecked(token + i);
            add(line, factor, tokens, &mut sums);
        }
    }
    for n in 0..N {
        store(&sums[n], &mut scratch.span_outputs[n].0[dim..]);
    }
}

/// Adds factors times the numbers of `8 * V` groups from `line` on: of each group the first `count`, in
/// order, with the factors of query `n` and place `i`.
///
/// # Safety
/// The machine has the instructions, and the groups can be read.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn add<T: Lanes, const N: usize, const V: usize>(
    line: *const T,
    factor: impl Fn(usize, usize) -> f32,
    count: usize,
    sums: &mut [[__m256; V]; N],
) {
    let mut numbers = [[_mm256_setzero_ps(); 2]; V];
    for v in 0..V {
        // SAFETY: by the contract.
        numbers[v] = unsafe { T::load(line.add(v * LANES * T::GROUP)) };
    }
    for i in 0..count {
        for n in 0..N {
            let factor = _mm256_set1_ps(factor(n, i));
            for v in 0..V {
                sums[n][v] = _mm256_add_ps(sums[n][v], _mm256_mul_ps(numbers[v][i], factor));
            }
        }
    }
}

/// Writes the lanes of some registers to the beginning of `out`.
#[inline]
#[target_feature(enable = "avx2")]
fn store<const V: usize>(sums: &[__m256; V], out: &mut [f32]) {
    for (v, out) in out.as_chunks_mut::<LANES>().0[..V].iter_mut().enumerate() {
        // SAFETY: `out` has 8 floats.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sums[v]) };
    }
}
