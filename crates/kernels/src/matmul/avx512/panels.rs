//! Codes and scales of packed panels, as registers of 16 lanes.

use std::arch::x86_64::*;

use super::{MXFP4, Weights, kind_of};
use crate::pack::{LINE, high_bits, high_place, low_bits, low_place, parts};

/// Column groups `2 pair` and `2 pair + 1` (pair in 0..4), `[16][4]` unsigned levels.
///
/// # Safety
/// `lines` points to the code lines of one panel and block of the kind.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,gfni")]
pub(super) unsafe fn unpack<const KIND: u8>(lines: *const u8, pair: usize) -> [__m512i; 2] {
    let kind = kind_of(KIND);
    // SAFETY: by the contract each line read exists.
    unsafe {
        let [first, second] = match low_bits(kind) {
            8 => [load(lines, 2 * pair), load(lines, 2 * pair + 1)],
            4 => {
                let nibble = _mm512_set1_epi8(0x0f);
                let both = load(lines, pair);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(both), nibble);
                [_mm512_and_si512(both, nibble), high]
            }
            width => {
                let (line, bit) = low_place(kind, 2 * pair);
                let four = load(lines, line);
                [moved_bits(four, (bit, 0), width), moved_bits(four, (bit + width, 0), width)]
            }
        };
        [levels::<KIND>(lines, 2 * pair, first), levels::<KIND>(lines, 2 * pair + 1, second)]
    }
}

/// The levels of a column group whose low parts are given.
///
/// # Safety
/// As for [`unpack`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,gfni")]
unsafe fn levels<const KIND: u8>(lines: *const u8, group: usize, low: __m512i) -> __m512i {
    let kind = kind_of(KIND);
    if let Some(levels) = kind.levels() {
        return _mm512_shuffle_epi8(table(levels), low);
    }
    if high_bits(kind) == 0 {
        return low;
    }
    let (line, bit) = high_place(kind, group);
    // SAFETY: by the contract the line exists.
    let line = unsafe { load(lines, line) };
    _mm512_or_si512(low, moved_bits(line, (bit, low_bits(kind)), high_bits(kind)))
}

/// The 16 bytes of `levels` in each lane of 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn table(levels: &[u8; 16]) -> __m512i {
    // SAFETY: 16 bytes can be read.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(levels.as_ptr().cast()) })
}

/// `count` bits of every byte from bit `from` on, moved to bit `to`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn moved_bits(bytes: __m512i, (from, to): (usize, usize), count: usize) -> __m512i {
    // Row 7 - i of the 8x8 bit matrix makes output bit i of its input bits.
    let row = |i: usize| 1_u64 << (8 * (7 - (to + i)) + from + i);
    let matrix = match count {
        1 => row(0),
        _ => row(0) | row(1),
    };
    _mm512_gf2p8affine_epi64_epi8::<0>(bytes, _mm512_set1_epi64(matrix.cast_signed()))
}

/// The bits of every 32 from bit `first` on that `mask` has.
#[inline]
#[target_feature(enable = "avx512f")]
fn bits(line: __m512i, first: usize, mask: i32) -> __m512i {
    let moved = _mm512_srlv_epi32(line, _mm512_set1_epi32(first as i32));
    _mm512_and_si512(moved, _mm512_set1_epi32(mask))
}

/// # Safety
/// Line `line` can be read.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(lines: *const u8, line: usize) -> __m512i {
    // SAFETY: by the contract.
    unsafe { _mm512_loadu_si512(lines.add(LINE * line).cast()) }
}

/// 16 f16 numbers as f32 lanes.
///
/// # Safety
/// 16 numbers can be read at `halves`.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c")]
pub(super) unsafe fn half_lanes(halves: *const u16) -> __m512 {
    // SAFETY: by the contract.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(halves.cast())) }
}

/// The levels of column `k` of a block.
///
/// # Safety
/// `lines` points to the code lines of one panel and block of the kind; k < [`BLOCK`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn column<const KIND: u8>(lines: *const u8, k: usize) -> __m512i {
    let kind = kind_of(KIND);
    let (group, byte) = (k / 4, k % 4);
    // SAFETY: by the contract each line read exists.
    unsafe {
        let (line, bit) = low_place(kind, group);
        let mut codes = bits(load(lines, line), 8 * byte + bit, (1 << low_bits(kind)) - 1);
        if high_bits(kind) > 0 {
            let (line, bit) = high_place(kind, group);
            let high = bits(load(lines, line), 8 * byte + bit, (1 << high_bits(kind)) - 1);
            let place = _mm_cvtsi32_si128(low_bits(kind) as i32);
            codes = _mm512_or_si512(codes, _mm512_sll_epi32(high, place));
        }
        if let Some(levels) = kind.levels() {
            // The three bytes above a code are zeros, which name a level too.
            let named = _mm512_shuffle_epi8(table(levels), codes);
            codes = _mm512_and_si512(named, _mm512_set1_epi32(0xff));
        }
        _mm512_sub_epi32(codes, _mm512_set1_epi32(kind.zero_point()))
    }
}

/// Scales of panel `p` in a part of a block, factors included.
///
/// # Safety
/// The block and the panel exist; the part is one of the kind's.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c")]
pub(super) unsafe fn scale<const KIND: u8>(weights: &Weights, p: usize, part: usize) -> __m512 {
    // SAFETY: by the contract.
    unsafe { scale_lanes::<KIND>(weights.scales(p, 0), weights.factors(p, part)) }
}

/// Minimums of panel `p` in a part of a block, factors included.
///
/// # Safety
/// As for [`scale`]; the kind has minimums.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c")]
pub(super) unsafe fn minimum<const KIND: u8>(weights: &Weights, p: usize, part: usize) -> __m512 {
    let part = parts(kind_of(KIND)) + part;
    // SAFETY: by the contract; what belongs to minimums stands behind what belongs to scales.
    unsafe { scale_lanes::<KIND>(weights.scales(p, 1), weights.factors(p, part)) }
}

/// # Safety
/// 16 numbers can be read at `scales`, and at `factors` if the kind has any.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c")]
unsafe fn scale_lanes<const KIND: u8>(scales: *const u16, factors: *const i8) -> __m512 {
    // SAFETY: by the contract.
    unsafe {
        if KIND == MXFP4 {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(scales.cast()));
            return _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits));
        }
        let scales = half_lanes(scales);
        if !kind_of(KIND).has_factors() {
            return scales;
        }
        let factors = _mm512_cvtepi8_epi32(_mm_loadu_si128(factors.cast()));
        _mm512_mul_ps(scales, _mm512_cvtepi32_ps(factors))
    }
}
