//! A block of 32 values in two registers.
//!
//! No closures over registers (`array::map`): they are compiled without the instructions.

use std::arch::x86_64::*;

use super::{QuantisedRow, refine_above, scale_of};
use crate::blocks::BLOCK;

/// Quantises one row, with the bits of the scalar tier.
///
/// # Safety
/// The machine has the instructions named.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn quantise_row(values: &[f32], mut out: QuantisedRow<'_>) {
    let refine_above = refine_above(values);
    let blocks = values.len() / BLOCK;
    assert!(out.codes.len() == values.len() && out.fine_codes.len() == values.len());
    assert!(out.scales.len() == blocks && out.refined.len() == blocks && out.sums.len() == blocks);
    assert!(out.fine_sums.len() == blocks && out.value_sums.len() == blocks);
    for block in 0..blocks {
        let at = block * BLOCK;
        // SAFETY: `at + 32` is at most `values.len()`.
        let x = unsafe { [load(&values[at..at + 16]), load(&values[at + 16..at + 32])] };
        let largest = largest_magnitude(x);
        let Some((scale, inverse)) = scale_of(largest) else {
            out.clear(block, largest);
            continue;
        };
        let inverse = _mm512_set1_ps(inverse);
        let scaled = [_mm512_mul_ps(x[0], inverse), _mm512_mul_ps(x[1], inverse)];
        // Rounds to nearest, ties to even, which is the mode programs run in.
        let codes = [_mm512_cvtps_epi32(scaled[0]), _mm512_cvtps_epi32(scaled[1])];
        // SAFETY: both halves have 16 codes.
        unsafe { store(codes, &mut out.codes[at..at + BLOCK]) };
        let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(codes[0], codes[1]));
        let mut fine_sum = None;
        if largest > refine_above {
            let fine = [fine_codes(scaled[0], codes[0]), fine_codes(scaled[1], codes[1])];
            // SAFETY: both halves have 16 codes.
            unsafe { store(fine, &mut out.fine_codes[at..at + BLOCK]) };
            fine_sum = Some(_mm512_reduce_add_epi32(_mm512_add_epi32(fine[0], fine[1])));
        }
        out.set(block, scale, sum, fine_sum);
    }
}

/// # Safety
/// `values` has 16 values.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(values: &[f32]) -> __m512 {
    // SAFETY: by the contract.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// max |x|, or a NaN if there is one: the bits of magnitudes order like the magnitudes.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest_magnitude(x: [__m512; 2]) -> f32 {
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    let first = _mm512_and_si512(_mm512_castps_si512(x[0]), magnitude);
    let second = _mm512_and_si512(_mm512_castps_si512(x[1]), magnitude);
    f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(first, second)))
}

/// What the codes left over, in 256ths of a code step, within -127..=127.
#[inline]
#[target_feature(enable = "avx512f")]
fn fine_codes(scaled: __m512, codes: __m512i) -> __m512i {
    let left = _mm512_sub_ps(scaled, _mm512_cvtepi32_ps(codes));
    let fine = _mm512_cvtps_epi32(_mm512_mul_ps(left, _mm512_set1_ps(256.0)));
    _mm512_min_epi32(_mm512_set1_epi32(127), _mm512_max_epi32(_mm512_set1_epi32(-127), fine))
}

/// # Safety
/// `out` has room for 32 codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn store(codes: [__m512i; 2], out: &mut [i8]) {
    // SAFETY: by the contract.
    unsafe {
        _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(codes[0]));
        _mm_storeu_si128(out.as_mut_ptr().add(16).cast(), _mm512_cvtepi32_epi8(codes[1]));
    }
}
