//! A block of 32 values in four registers.
//!
//! No closures over registers (`array::map`): they are compiled without the instructions.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a block")]

use std::arch::x86_64::*;

use super::{LEAST_MAGNITUDE, QuantisedRow, has_codes, outlier_above};
use crate::blocks::BLOCK;
use crate::sums::sum_of_squares_avx2;

/// Quantises one row, with the bits of the scalar tier.
///
/// # Safety
/// The machine has the instructions named.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn quantise_row(values: &[f32], mut out: QuantisedRow<'_>) {
    let outlier_above = outlier_above(sum_of_squares_avx2(values), values.len());
    for (block, x) in values.chunks_exact(BLOCK).enumerate() {
        let mut x = load(x.try_into().expect("a block has its length"));
        let mut largest = largest_magnitude(x);
        if !has_codes(largest) {
            out.clear(block, largest);
            continue;
        }
        let mut outliers = 0;
        if largest > outlier_above {
            outliers = take_outliers(&mut x, outlier_above);
            largest = largest_magnitude(x).max(LEAST_MAGNITUDE);
        }
        let codes = round(scale(x, 127.0 / largest));
        let sums = store(codes, &mut out.codes[block * BLOCK..(block + 1) * BLOCK]);
        out.set(block, (largest / 127.0, sums, outliers), values);
    }
}

/// Makes the values whose magnitudes are above `limit` zero; gives a bit for each.
#[inline]
#[target_feature(enable = "avx2")]
fn take_outliers(x: &mut [__m256; 4], limit: f32) -> u32 {
    let sign = _mm256_set1_ps(-0.0);
    let mut bits = 0;
    for i in 0..4 {
        let magnitude = _mm256_andnot_ps(sign, x[i]);
        let above = _mm256_cmp_ps::<_CMP_GT_OQ>(magnitude, _mm256_set1_ps(limit));
        bits |= _mm256_movemask_ps(above).cast_unsigned() << (8 * i);
        x[i] = _mm256_andnot_ps(above, x[i]);
    }
    bits
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(x: &[f32; BLOCK]) -> [__m256; 4] {
    let mut out = [_mm256_setzero_ps(); 4];
    for i in 0..4 {
        // SAFETY: a block is four times eight floats.
        out[i] = unsafe { _mm256_loadu_ps(x.as_ptr().add(8 * i)) };
    }
    out
}

/// max |x|, or a NaN if there is one: the bits of magnitudes order like the magnitudes.
#[inline]
#[target_feature(enable = "avx2")]
fn largest_magnitude(x: [__m256; 4]) -> f32 {
    let magnitude = _mm256_set1_epi32(0x7fff_ffff);
    let mut most = _mm256_setzero_si256();
    for i in 0..4 {
        most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
    }
    let most = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256::<1>(most));
    let most = _mm_max_epu32(most, _mm_unpackhi_epi64(most, most));
    let most = _mm_max_epu32(most, _mm_shuffle_epi32::<1>(most));
    f32::from_bits(_mm_cvtsi128_si32(most).cast_unsigned())
}

#[inline]
#[target_feature(enable = "avx2")]
fn scale(mut x: [__m256; 4], inverse: f32) -> [__m256; 4] {
    for i in 0..4 {
        x[i] = _mm256_mul_ps(x[i], _mm256_set1_ps(inverse));
    }
    x
}

/// Rounds to nearest, ties to even, which is the mode programs run in.
#[inline]
#[target_feature(enable = "avx2")]
fn round(x: [__m256; 4]) -> [__m256i; 4] {
    let mut out = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        out[i] = _mm256_cvtps_epi32(x[i]);
    }
    out
}

/// Writes 32 codes and gives the sums of their halves.
#[inline]
#[target_feature(enable = "avx2")]
fn store(codes: [__m256i; 4], out: &mut [i8]) -> [i32; 2] {
    assert_eq!(out.len(), BLOCK, "a block of codes");
    // Packing works within the 128-bit lanes; the permutation puts the groups of four in order.
    let first = _mm256_packs_epi32(codes[0], codes[1]);
    let second = _mm256_packs_epi32(codes[2], codes[3]);
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(first, second), order);
    // SAFETY: `out` has 32 bytes.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), bytes) };
    [sum(first), sum(second)]
}

/// The sum of 16 numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn sum(numbers: __m256i) -> i32 {
    let sums = _mm256_madd_epi16(numbers, _mm256_set1_epi16(1));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let sums = _mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums));
    _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32::<1>(sums)))
}
