//! A block of 32 values in two registers.
//!
//! No closures over registers (`array::map`): they are compiled without the instructions.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{LEAST_MAGNITUDE, QuantisedRow, refine_above};
use crate::blocks::BLOCK;
use crate::sums::sum_of_squares_avx512;

/// Blocks whose scales are computed together.
const GROUP: usize = 16;

/// One number of each block of a group.
#[repr(align(64))]
struct Lanes<T>([T; GROUP]);

/// Quantises one row, with the bits of the scalar tier.
///
/// # Safety
/// The machine has the instructions named.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn quantise_row(values: &[f32], mut out: QuantisedRow<'_>) {
    let refine_above = refine_above(sum_of_squares_avx512(values), values.len());
    let blocks = values.len() / BLOCK;
    assert!(out.codes.len() == values.len() && out.fine_codes.len() == values.len());
    assert_eq!(out.blocks.len(), blocks);
    for first in (0..blocks).step_by(GROUP) {
        // SAFETY: the group's blocks exist in all slices.
        unsafe { quantise_group(values, first..blocks.min(first + GROUP), refine_above, &mut out) };
    }
}

/// # Safety
/// `values` and `out` have the blocks of `group`, at most [`GROUP`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn quantise_group(
    values: &[f32],
    group: Range<usize>,
    refine_above: f32,
    out: &mut QuantisedRow<'_>,
) {
    let mut magnitudes = _mm512_setzero_si512();
    for (lane, block) in group.clone().enumerate() {
        // SAFETY: by the contract the block exists.
        let largest = largest_magnitude(unsafe { load_block(values, block) });
        magnitudes = _mm512_mask_set1_epi32(magnitudes, 1 << lane, largest);
    }
    let magnitudes = _mm512_castsi512_ps(magnitudes);
    let (most, least) = (_mm512_set1_ps(f32::MAX), _mm512_set1_ps(LEAST_MAGNITUDE));
    let good = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(magnitudes, most)
        & _mm512_cmp_ps_mask::<_CMP_GE_OQ>(magnitudes, least);
    let limit = _mm512_set1_ps(refine_above);
    let refined = good & _mm512_cmp_ps_mask::<_CMP_GT_OQ>(magnitudes, limit);
    let steps = _mm512_set1_ps(127.0);
    let mut largest = Lanes([0.0; GROUP]);
    let (mut scales, mut inverses) = (Lanes([0.0; GROUP]), Lanes([0.0; GROUP]));
    // SAFETY: 16 floats each.
    unsafe {
        _mm512_store_ps(largest.0.as_mut_ptr(), magnitudes);
        _mm512_store_ps(scales.0.as_mut_ptr(), _mm512_div_ps(magnitudes, steps));
        _mm512_store_ps(inverses.0.as_mut_ptr(), _mm512_div_ps(steps, magnitudes));
    }
    let mut sums = Lanes([0; GROUP]);
    for (lane, block) in group.clone().enumerate() {
        // SAFETY: by the contract the block exists; its codes have their room.
        unsafe {
            let codes = codes_of(scale(load_block(values, block), inverses.0[lane]));
            store(codes, &mut out.codes[block * BLOCK..(block + 1) * BLOCK]);
            sums.0[lane] = _mm512_reduce_add_epi32(_mm512_add_epi32(codes[0], codes[1]));
        }
    }
    for (lane, block) in group.enumerate() {
        if good >> lane & 1 == 0 {
            out.clear(block, largest.0[lane]);
        } else if refined >> lane & 1 == 1 {
            // SAFETY: by the contract the block exists; its fine codes have their room.
            let fine_sum = unsafe {
                let fine = fine_codes_of(scale(load_block(values, block), inverses.0[lane]));
                store(fine, &mut out.fine_codes[block * BLOCK..(block + 1) * BLOCK]);
                _mm512_reduce_add_epi32(_mm512_add_epi32(fine[0], fine[1]))
            };
            out.set(block, scales.0[lane], sums.0[lane], Some(fine_sum));
        } else {
            out.set(block, scales.0[lane], sums.0[lane], None);
        }
    }
}

/// # Safety
/// `values` has block `block`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_block(values: &[f32], block: usize) -> [__m512; 2] {
    debug_assert!((block + 1) * BLOCK <= values.len());
    // SAFETY: by the contract.
    unsafe {
        let start = values.as_ptr().add(block * BLOCK);
        [_mm512_loadu_ps(start), _mm512_loadu_ps(start.add(16))]
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn scale(x: [__m512; 2], inverse: f32) -> [__m512; 2] {
    let inverse = _mm512_set1_ps(inverse);
    [_mm512_mul_ps(x[0], inverse), _mm512_mul_ps(x[1], inverse)]
}

/// Rounds to nearest, ties to even, which is the mode programs run in.
#[inline]
#[target_feature(enable = "avx512f")]
fn codes_of(scaled: [__m512; 2]) -> [__m512i; 2] {
    [_mm512_cvtps_epi32(scaled[0]), _mm512_cvtps_epi32(scaled[1])]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn fine_codes_of(scaled: [__m512; 2]) -> [__m512i; 2] {
    let codes = codes_of(scaled);
    [fine_codes(scaled[0], codes[0]), fine_codes(scaled[1], codes[1])]
}

/// Bits of max |x|, or of a NaN if there is one: the bits of magnitudes order like the magnitudes.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest_magnitude(x: [__m512; 2]) -> i32 {
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    let first = _mm512_and_si512(_mm512_castps_si512(x[0]), magnitude);
    let second = _mm512_and_si512(_mm512_castps_si512(x[1]), magnitude);
    _mm512_reduce_max_epu32(_mm512_max_epu32(first, second)).cast_signed()
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
