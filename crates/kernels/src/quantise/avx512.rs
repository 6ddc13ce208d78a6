//! A block of 32 values in two registers.
//!
//! No closures over registers (`array::map`): they are compiled without the instructions.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{LEAST_MAGNITUDE, QuantisedRow, outlier_above};
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn quantise_row(values: &[f32], mut out: QuantisedRow<'_>) {
    let outlier_above = outlier_above(sum_of_squares_avx512(values), values.len());
    let blocks = values.len() / BLOCK;
    assert_eq!(out.codes.len(), values.len());
    assert_eq!(out.blocks.len(), blocks);
    for first in (0..blocks).step_by(GROUP) {
        // SAFETY: the group's blocks exist in all slices.
        unsafe {
            quantise_group(values, first..blocks.min(first + GROUP), outlier_above, &mut out)
        };
    }
}

/// # Safety
/// `values` and `out` have the blocks of `group`, at most [`GROUP`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn quantise_group(
    values: &[f32],
    group: Range<usize>,
    outlier_above: f32,
    out: &mut QuantisedRow<'_>,
) {
    let mut magnitudes = _mm512_setzero_si512();
    for (lane, block) in group.clone().enumerate() {
        // SAFETY: by the contract the block exists.
        let largest = largest_magnitude(unsafe { load_block(values, block, u32::MAX) });
        magnitudes = _mm512_mask_set1_epi32(magnitudes, 1 << lane, largest);
    }
    let largest = of_floats(_mm512_castsi512_ps(magnitudes));
    let good = good_magnitudes(_mm512_castsi512_ps(magnitudes));
    let limit = _mm512_set1_ps(outlier_above);
    let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(_mm512_castsi512_ps(magnitudes), limit);
    let mut outliers = Lanes([0_u32; GROUP]);
    let mut rest = good & above;
    while rest != 0 {
        let lane = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        // SAFETY: by the contract the block exists.
        let x = unsafe { load_block(values, group.start + lane, u32::MAX) };
        outliers.0[lane] = above_limit(x, limit);
        // SAFETY: as above.
        let x = unsafe { load_block(values, group.start + lane, !outliers.0[lane]) };
        let least = LEAST_MAGNITUDE.to_bits().cast_signed();
        let largest = largest_magnitude(x).max(least);
        magnitudes = _mm512_mask_set1_epi32(magnitudes, 1 << lane, largest);
    }
    let magnitudes = _mm512_castsi512_ps(magnitudes);
    let steps = _mm512_set1_ps(127.0);
    let scales = of_floats(_mm512_div_ps(magnitudes, steps));
    let inverses = of_floats(_mm512_div_ps(steps, magnitudes));
    for (lane, block) in group.clone().enumerate() {
        // SAFETY: by the contract the block exists; its codes have their room.
        unsafe {
            let x = load_block(values, block, !outliers.0[lane]);
            let codes = codes_of(x, inverses.0[lane]);
            store(codes, &mut out.codes[block * BLOCK..(block + 1) * BLOCK]);
        }
    }
    let sums = sums_of_halves(&out.codes[group.start * BLOCK..group.end * BLOCK]);
    for (lane, block) in group.enumerate() {
        if good >> lane & 1 == 0 {
            out.clear(block, largest.0[lane]);
        } else {
            out.set(block, (scales.0[lane], sums[lane], outliers.0[lane]), values);
        }
    }
}

/// Sums of the halves of each block of `codes`, of at most [`GROUP`] blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sums_of_halves(codes: &[i8]) -> [[i32; 2]; GROUP] {
    let mut sums = [[0; 2]; GROUP];
    for (two, codes) in sums.chunks_exact_mut(2).zip(codes.chunks(2 * BLOCK)) {
        // SAFETY: only the bytes of `codes` are read.
        let codes =
            unsafe { _mm512_maskz_loadu_epi8(u64::MAX >> (64 - codes.len()), codes.as_ptr()) };
        // Four lanes hold the sums of four codes each of a half.
        let fours = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), codes);
        let eights = _mm512_add_epi32(fours, _mm512_shuffle_epi32::<0b01_00_11_10>(fours));
        let halves = _mm512_add_epi32(eights, _mm512_shuffle_epi32::<0b10_11_00_01>(eights));
        let first = _mm512_castsi512_si128(halves);
        let rest = [
            _mm512_extracti32x4_epi32::<1>(halves),
            _mm512_extracti32x4_epi32::<2>(halves),
            _mm512_extracti32x4_epi32::<3>(halves),
        ];
        two[0] = [_mm_cvtsi128_si32(first), _mm_cvtsi128_si32(rest[0])];
        two[1] = [_mm_cvtsi128_si32(rest[1]), _mm_cvtsi128_si32(rest[2])];
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn of_floats(lanes: __m512) -> Lanes<f32> {
    let mut out = Lanes([0.0; GROUP]);
    // SAFETY: 16 floats, aligned.
    unsafe { _mm512_store_ps(out.0.as_mut_ptr(), lanes) };
    out
}

/// The lanes whose blocks can be given codes.
#[inline]
#[target_feature(enable = "avx512f")]
fn good_magnitudes(magnitudes: __m512) -> u16 {
    let (most, least) = (_mm512_set1_ps(f32::MAX), _mm512_set1_ps(LEAST_MAGNITUDE));
    _mm512_cmp_ps_mask::<_CMP_LE_OQ>(magnitudes, most)
        & _mm512_cmp_ps_mask::<_CMP_GE_OQ>(magnitudes, least)
}

/// A bit for each value of a block whose magnitude is above the limit.
#[inline]
#[target_feature(enable = "avx512f")]
fn above_limit(x: [__m512; 2], limit: __m512) -> u32 {
    let first = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(_mm512_abs_ps(x[0]), limit);
    let second = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(_mm512_abs_ps(x[1]), limit);
    u32::from(first) | u32::from(second) << 16
}

/// The values of a block whose bits are set in `wanted`, and zeros.
///
/// # Safety
/// `values` has block `block`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_block(values: &[f32], block: usize, wanted: u32) -> [__m512; 2] {
    debug_assert!((block + 1) * BLOCK <= values.len());
    // SAFETY: by the contract.
    unsafe {
        let start = values.as_ptr().add(block * BLOCK);
        [
            _mm512_maskz_loadu_ps(wanted as u16, start),
            _mm512_maskz_loadu_ps((wanted >> 16) as u16, start.add(16)),
        ]
    }
}

/// Rounds to nearest, ties to even, which is the mode programs run in.
#[inline]
#[target_feature(enable = "avx512f")]
fn codes_of(x: [__m512; 2], inverse: f32) -> [__m512i; 2] {
    let inverse = _mm512_set1_ps(inverse);
    let scaled = [_mm512_mul_ps(x[0], inverse), _mm512_mul_ps(x[1], inverse)];
    [_mm512_cvtps_epi32(scaled[0]), _mm512_cvtps_epi32(scaled[1])]
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
