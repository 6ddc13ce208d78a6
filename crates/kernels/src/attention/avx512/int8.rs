//! int8: VPDPBUSD with keys and values as they are stored, and queries and weights as 16-bit codes
//! in two planes of 8 bits. The sums are exact, and floats are computed by the portable body's
//! functions, so the results have its bits.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;

use crate::attention::portable::{scale_weights, softmax, to_codes};
use crate::attention::vectors::prefetch;
use crate::attention::{SPAN, Scratch, Span};
use crate::kv::{Code, Stored, TILE_TOKENS, scales};

/// Codes of one query or of its weights, `256 * high + low`.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Factors {
    high: [i8; SPAN],
    low: [i8; SPAN],
    /// Minus 128 times the sum of the codes: what the 128 in each stored code adds too much.
    zero: i32,
    step: f32,
}

impl Factors {
    const NONE: Factors = Factors { high: [0; SPAN], low: [0; SPAN], zero: 0, step: 0.0 };

    #[inline(always)]
    fn set(&mut self, values: &[f32]) {
        let mut codes = [0; SPAN];
        self.step = to_codes(values, &mut codes);
        let mut sum = 0;
        for i in 0..SPAN {
            let low = codes[i] as i8;
            self.low[i] = low;
            self.high[i] = ((codes[i] - i32::from(low)) >> 8) as i8;
            sum += codes[i];
        }
        self.zero = -128 * sum;
    }
}

/// Fills the span results of `N` queries.
///
/// # Safety
/// As for [`super::span`]; the tiles hold codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
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
    // SAFETY: passed on from the contract.
    unsafe {
        let mut dim = 0;
        // With more queries the sums of more dimensions have no room in registers.
        while N <= 3 && dim + 64 <= span.dim {
            weighted_values::<N, 4>(span, dim, &factors, scratch);
            dim += 64;
        }
        while dim < span.dim {
            weighted_values::<N, 2>(span, dim, &factors, scratch);
            dim += 32;
        }
    }
}

/// Writes the scores of one tile's tokens for each query.
///
/// # Safety
/// As for [`queries`].
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn tile_scores<const N: usize>(
    span: &Span<'_>,
    tile: usize,
    queries: &[Factors; N],
    scratch: &mut Scratch,
) {
    let keys = Code::keys(span.tiles[tile]);
    let mut high = [[_mm512_setzero_si512(); 2]; N];
    let mut low = [[_mm512_setzero_si512(); 2]; N];
    for n in 0..N {
        low[n] = [_mm512_set1_epi32(queries[n].zero); 2];
    }
    let values = Code::values(span.tiles[tile], span.dim).cast();
    for quad in 0..span.dim / 4 {
        prefetch(values, (quad * 4 * TILE_TOKENS, 4 * TILE_TOKENS));
        // SAFETY: by the contract each four dimensions have 32 tokens.
        let line = unsafe {
            let line = keys.add(quad * 4 * TILE_TOKENS);
            [_mm512_loadu_si512(line.cast()), _mm512_loadu_si512(line.add(64).cast())]
        };
        for n in 0..N {
            let query_high = four(&queries[n].high, quad);
            let query_low = four(&queries[n].low, quad);
            for half in 0..2 {
                high[n][half] = _mm512_dpbusd_epi32(high[n][half], line[half], query_high);
                low[n][half] = _mm512_dpbusd_epi32(low[n][half], line[half], query_low);
            }
        }
    }
    let [key_scales, _] = scales(span.tiles[tile]);
    for n in 0..N {
        let out = &mut scratch.scores[n].0[tile * TILE_TOKENS..(tile + 1) * TILE_TOKENS];
        for half in 0..2 {
            // SAFETY: the tile has 32 scales of keys, and `out` 32 floats.
            unsafe {
                let scales = _mm512_loadu_ps(key_scales.cast::<f32>().add(16 * half));
                let scores = _mm512_mul_ps(joined(high[n][half], low[n][half]), scales);
                let scores = _mm512_mul_ps(scores, _mm512_set1_ps(queries[n].step));
                _mm512_storeu_ps(out.as_mut_ptr().add(16 * half), scores);
            }
        }
    }
}

/// Weighted sums of the values' dimensions `dim..dim + 16 * V` over the span.
///
/// # Safety
/// As for [`queries`].
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn weighted_values<const N: usize, const V: usize>(
    span: &Span<'_>,
    dim: usize,
    weights: &[Factors; N],
    scratch: &mut Scratch,
) {
    let mut high = [[_mm512_setzero_si512(); V]; N];
    let mut low = [[_mm512_setzero_si512(); V]; N];
    for n in 0..N {
        low[n] = [_mm512_set1_epi32(weights[n].zero); V];
    }
    for quad in span.first * TILE_TOKENS / 4..span.count.div_ceil(4) {
        // Codes past the last token are finite, and their weights zero.
        let (tile, quad_of_tile) = (quad / (TILE_TOKENS / 4), quad % (TILE_TOKENS / 4));
        let number = (quad_of_tile * span.dim + dim) * 4;
        let line = Code::values(span.tiles[tile], span.dim).wrapping_add(number);
        prefetch(span.ahead[tile], (Code::KEYS_AT + number, 64 * V));
        let mut values = [_mm512_setzero_si512(); V];
        for v in 0..V {
            // SAFETY: by the contract four tokens have `span.dim` dimensions.
            values[v] = unsafe { _mm512_loadu_si512(line.add(64 * v).cast()) };
        }
        for n in 0..N {
            let weight_high = four(&weights[n].high, quad);
            let weight_low = four(&weights[n].low, quad);
            for v in 0..V {
                high[n][v] = _mm512_dpbusd_epi32(high[n][v], values[v], weight_high);
                low[n][v] = _mm512_dpbusd_epi32(low[n][v], values[v], weight_low);
            }
        }
    }
    for n in 0..N {
        for v in 0..V {
            let out = &mut scratch.span_outputs[n].0[dim + 16 * v..dim + 16 * (v + 1)];
            let sums =
                _mm512_mul_ps(joined(high[n][v], low[n][v]), _mm512_set1_ps(weights[n].step));
            // SAFETY: `out` has 16 floats.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) };
        }
    }
}

/// Four codes, the same in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn four(codes: &[i8; SPAN], quad: usize) -> __m512i {
    let codes = &codes[4 * quad..4 * quad + 4];
    // SAFETY: the slice has four bytes.
    _mm512_set1_epi32(unsafe { codes.as_ptr().cast::<i32>().read_unaligned() })
}

/// The sums of both planes as floats. They fit 32 bits, as the type of the codes says.
#[inline]
#[target_feature(enable = "avx512f")]
fn joined(high: __m512i, low: __m512i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low))
}
