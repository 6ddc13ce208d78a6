//! int8: products of 16 bits, added in pairs. The sums are exact, and floats are computed by the portable
//! body's functions, so the results have its bits.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;

use crate::attention::portable::{scale_weights, softmax, to_codes};
use crate::attention::vectors::prefetch;
use crate::attention::{SPAN, Scratch, Span};
use crate::kv::{Code, Stored, TILE_TOKENS, scales};

/// Lanes of a register.
const LANES: usize = 8;
/// Codes that stand together.
const QUAD: usize = Code::GROUP;

/// 16-bit codes of one query or of its weights: of each four the first and third, the second and fourth.
#[repr(align(32))]
#[derive(Clone, Copy)]
struct Factors {
    pairs: [[i32; 2]; SPAN / QUAD],
    step: f32,
}

impl Factors {
    const NONE: Factors = Factors { pairs: [[0; 2]; SPAN / QUAD], step: 0.0 };

    #[inline(always)]
    fn set(&mut self, values: &[f32]) {
        let mut codes = [0; SPAN];
        self.step = to_codes(values, &mut codes);
        for (pairs, codes) in self.pairs.iter_mut().zip(codes.as_chunks::<QUAD>().0) {
            let [first, second, third, fourth] = codes;
            *pairs = [first & 0xffff | third << 16, second & 0xffff | fourth << 16];
        }
    }
}

/// Fills the span results of `N` queries.
///
/// # Safety
/// As for [`super::span`]; the tiles hold codes.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn queries<const N: usize>(span: &Span<'_>, scratch: &mut Scratch) {
    let mut factors = [Factors::NONE; N];
    for n in 0..N {
        factors[n].set(&scratch.queries[n].0[..span.dim]);
    }
    let tiles = span.count.div_ceil(TILE_TOKENS);
    for tile in span.first..tiles {
        // SAFETY: passed on from the contract.
        unsafe { tile_scores::<N>(span, tile, &factors, scratch) };
    }
    for n in 0..N {
        // Of a query that sees none of this span the results are not read by the merge.
        let visible = scratch.visible(n, span.start);
        let scores = &mut scratch.scores[n].0[..tiles * TILE_TOKENS];
        (scratch.span_max[n], scratch.span_sum[n]) = softmax(scores, visible.clone(), |x| x);
        // SAFETY: passed on from the contract.
        unsafe { scale_weights(span, scores, visible) };
        factors[n].set(scores);
    }
    for dim in (0..span.dim).step_by(2 * LANES) {
        // SAFETY: passed on from the contract.
        unsafe { weighted_values::<N>(span, dim, &factors, scratch) };
    }
}

/// Writes the scores of one tile's tokens for each query, 16 of them at once.
///
/// # Safety
/// As for [`queries`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn tile_scores<const N: usize>(
    span: &Span<'_>,
    tile: usize,
    queries: &[Factors; N],
    scratch: &mut Scratch,
) {
    let keys = Code::keys(span.tiles[tile]);
    let values = Code::values(span.tiles[tile], span.dim).cast();
    let [key_scales, _] = scales(span.tiles[tile]);
    for token in (0..TILE_TOKENS).step_by(2 * LANES) {
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        for quad in 0..span.dim / QUAD {
            if token == 0 {
                prefetch(values, (quad * QUAD * TILE_TOKENS, QUAD * TILE_TOKENS));
            }
            let line = keys.wrapping_add((quad * TILE_TOKENS + token) * QUAD);
            // SAFETY: by the contract each four dimensions have 32 tokens.
            unsafe { add(line, (queries, quad), &mut sums) };
        }
        for n in 0..N {
            for half in 0..2 {
                let first = token + half * LANES;
                let out = &mut scratch.scores[n].0[tile * TILE_TOKENS + first..][..LANES];
                // SAFETY: the tile has 32 scales of keys, and `out` 8 floats.
                unsafe {
                    let scales = _mm256_loadu_ps(key_scales.cast::<f32>().add(first));
                    let scores = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[n][half]), scales);
                    let scores = _mm256_mul_ps(scores, _mm256_set1_ps(queries[n].step));
                    _mm256_storeu_ps(out.as_mut_ptr(), scores);
                }
            }
        }
    }
}

/// Weighted sums of the values' dimensions `dim..dim + 16` over the span.
///
/// # Safety
/// As for [`queries`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn weighted_values<const N: usize>(
    span: &Span<'_>,
    dim: usize,
    weights: &[Factors; N],
    scratch: &mut Scratch,
) {
    let mut sums = [[_mm256_setzero_si256(); 2]; N];
    for quad in span.first * TILE_TOKENS / QUAD..span.count.div_ceil(QUAD) {
        // Codes past the last token are finite, and their weights zero.
        let (tile, quad_of_tile) = (quad / (TILE_TOKENS / QUAD), quad % (TILE_TOKENS / QUAD));
        let number = (quad_of_tile * span.dim + dim) * QUAD;
        let line = Code::values(span.tiles[tile], span.dim).wrapping_add(number);
        prefetch(span.ahead[tile], (Code::KEYS_AT + number, 2 * LANES * QUAD));
        // SAFETY: by the contract four tokens have `span.dim` dimensions.
        unsafe { add(line, (weights, quad), &mut sums) };
    }
    for n in 0..N {
        for half in 0..2 {
            let out = &mut scratch.span_outputs[n].0[dim + half * LANES..][..LANES];
            let step = _mm256_set1_ps(weights[n].step);
            let sums = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[n][half]), step);
            // SAFETY: `out` has 8 floats.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sums) };
        }
    }
}

/// Adds the products of 16 groups of four codes from `line` on with the factors of four.
///
/// # Safety
/// The groups can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add<const N: usize>(
    line: *const Code,
    (factors, quad): (&[Factors; N], usize),
    sums: &mut [[__m256i; 2]; N],
) {
    for half in 0..2 {
        // SAFETY: by the contract.
        let codes = unsafe { _mm256_loadu_si256(line.add(half * LANES * QUAD).cast()) };
        let signed = _mm256_xor_si256(codes, _mm256_set1_epi8(i8::MIN));
        let first_third = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(signed));
        let second_fourth = _mm256_srai_epi16::<8>(signed);
        for n in 0..N {
            let [first, second] = factors[n].pairs[quad];
            let products = _mm256_madd_epi16(first_third, _mm256_set1_epi32(first));
            sums[n][half] = _mm256_add_epi32(sums[n][half], products);
            let products = _mm256_madd_epi16(second_fourth, _mm256_set1_epi32(second));
            sums[n][half] = _mm256_add_epi32(sums[n][half], products);
        }
    }
}
