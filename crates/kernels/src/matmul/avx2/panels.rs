//! Codes and scales of packed panels, as two registers of eight lanes.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a line")]

use std::arch::x86_64::*;

use super::{HALF, HALVES, MXFP4, Weights, kind_of};
use crate::pack::{LINE, high_bits, high_place, low_bits, low_place, parts};

/// A place in a run of column groups.
pub(super) struct Run {
    /// The line of the step's first group, where low parts of codes have 4 or 8 bits.
    line: *const u8,
    /// Low parts of 2 bits: of the step's first group the lowest bits of every byte.
    low: [__m256i; HALVES],
    /// High parts: of the step's first group the bits that stand above its low part.
    high: [__m256i; HALVES],
}

impl Run {
    /// The first step of the run that begins with group `first`.
    ///
    /// # Safety
    /// `lines` points to the code lines of one panel and block of the kind.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn start<const KIND: u8>(lines: *const u8, first: usize) -> Run {
        let kind = kind_of(KIND);
        let mut low = [_mm256_setzero_si256(); HALVES];
        let mut high = [_mm256_setzero_si256(); HALVES];
        let (line, _) = low_place(kind, first);
        // SAFETY: by the contract.
        unsafe {
            for h in 0..HALVES {
                if low_bits(kind) == 2 {
                    // Runs of these kinds are the four groups of a line.
                    low[h] = load(lines, line, h);
                }
                if high_bits(kind) > 0 {
                    let (line, bit) = high_place(kind, first);
                    high[h] = moved(load(lines, line, h), low_bits(kind) as i32 - bit as i32);
                }
            }
            Run { line: lines.add(LINE * line), low, high }
        }
    }

    /// Goes on by two groups.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn step<const KIND: u8>(&mut self) {
        let kind = kind_of(KIND);
        self.line = self.line.wrapping_add(LINE * (2 * low_bits(kind) / 8));
        for h in 0..HALVES {
            if low_bits(kind) == 2 {
                self.low[h] = _mm256_srli_epi16::<4>(self.low[h]);
            }
            self.high[h] = moved(self.high[h], -2 * high_bits(kind) as i32);
        }
    }

    /// The first or second group of the step, `[16][4]` levels.
    ///
    /// # Safety
    /// The step is one of the run's.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn unpack<const KIND: u8>(&self, group: usize) -> [__m256i; HALVES] {
        let kind = kind_of(KIND);
        let width = low_bits(kind);
        let mut out = [_mm256_setzero_si256(); HALVES];
        for h in 0..HALVES {
            // SAFETY: by the contract the lines exist.
            let (bits, from) = unsafe {
                match width {
                    8 => (load(self.line, group, h), 0),
                    4 => (load(self.line, 0, h), 4 * group),
                    _ => (self.low[h], width * group),
                }
            };
            out[h] = moved(bits, -(from as i32));
            if width < 8 {
                out[h] = _mm256_and_si256(out[h], _mm256_set1_epi8((1 << width) - 1));
            }
            if let Some(levels) = kind.levels() {
                out[h] = _mm256_shuffle_epi8(table(levels), out[h]);
            }
            if high_bits(kind) > 0 {
                let high = moved(self.high[h], -((high_bits(kind) * group) as i32));
                let mask = _mm256_set1_epi8(((1 << high_bits(kind)) - 1) << width);
                out[h] = _mm256_or_si256(out[h], _mm256_and_si256(high, mask));
            }
        }
        out
    }
}

/// The bits of every 16 moved up by so many, down if less than 0.
#[inline]
#[target_feature(enable = "avx2")]
fn moved(bits: __m256i, up: i32) -> __m256i {
    let count = _mm_cvtsi32_si128(up.abs());
    match up {
        0 => bits,
        1.. => _mm256_sll_epi16(bits, count),
        _ => _mm256_srl_epi16(bits, count),
    }
}

/// The 16 bytes of `levels` in both lanes of 128 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn table(levels: &[u8; 16]) -> __m256i {
    // SAFETY: 16 bytes can be read.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(levels.as_ptr().cast()) })
}

/// The levels of column `k` of a block, in a half of its lanes.
///
/// # Safety
/// `lines` points to the code lines of one panel and block of the kind; k < 32.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn column<const KIND: u8>(lines: *const u8, half: usize, k: usize) -> __m256i {
    let kind = kind_of(KIND);
    let (group, byte) = (k / 4, k % 4);
    // SAFETY: by the contract each line read exists.
    unsafe {
        let (line, bit) = low_place(kind, group);
        let mask = (1 << low_bits(kind)) - 1;
        let mut codes = bits(load(lines, line, half), 8 * byte + bit, mask);
        if high_bits(kind) > 0 {
            let (line, bit) = high_place(kind, group);
            let mask = (1 << high_bits(kind)) - 1;
            let high = bits(load(lines, line, half), 8 * byte + bit, mask);
            let place = _mm_cvtsi32_si128(low_bits(kind) as i32);
            codes = _mm256_or_si256(codes, _mm256_sll_epi32(high, place));
        }
        if let Some(levels) = kind.levels() {
            // The three bytes above a code are zeros, which name a level too.
            let named = _mm256_shuffle_epi8(table(levels), codes);
            codes = _mm256_and_si256(named, _mm256_set1_epi32(0xff));
        }
        _mm256_sub_epi32(codes, _mm256_set1_epi32(kind.zero_point()))
    }
}

/// The bits of every 32 from bit `first` on that `mask` has.
#[inline]
#[target_feature(enable = "avx2")]
fn bits(half: __m256i, first: usize, mask: i32) -> __m256i {
    let moved = _mm256_srlv_epi32(half, _mm256_set1_epi32(first as i32));
    _mm256_and_si256(moved, _mm256_set1_epi32(mask))
}

/// Scales of a half of the panel in a part of a block, factors included.
///
/// # Safety
/// The block exists; the part is one of the kind's.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn scale<const KIND: u8>(weights: &Weights, half: usize, part: usize) -> __m256 {
    // SAFETY: by the contract.
    unsafe { scale_lanes::<KIND>((weights.scales(0, 0), weights.factors(0, part)), half) }
}

/// Minimums of a half of the panel in a part of a block, factors included.
///
/// # Safety
/// As for [`scale`]; the kind has minimums.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn minimum<const KIND: u8>(
    weights: &Weights,
    half: usize,
    part: usize,
) -> __m256 {
    let part = parts(kind_of(KIND)) + part;
    // SAFETY: by the contract; what belongs to minimums stands behind what belongs to scales.
    unsafe { scale_lanes::<KIND>((weights.scales(0, 1), weights.factors(0, part)), half) }
}

/// # Safety
/// 16 numbers can be read at `scales`, and at `factors` if the kind has any.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scale_lanes<const KIND: u8>(
    (scales, factors): (*const u16, *const i8),
    half: usize,
) -> __m256 {
    // SAFETY: by the contract.
    unsafe {
        let scales = scales.add(half * HALF);
        if KIND == MXFP4 {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(scales.cast()));
            return _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits));
        }
        let scales = half_lanes(scales);
        if !kind_of(KIND).has_factors() {
            return scales;
        }
        let factors = _mm_loadl_epi64(factors.add(half * HALF).cast());
        _mm256_mul_ps(scales, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(factors)))
    }
}

/// Half `half` of line `line`.
///
/// # Safety
/// The line can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(lines: *const u8, line: usize, half: usize) -> __m256i {
    // SAFETY: by the contract.
    unsafe { _mm256_loadu_si256(lines.add(LINE * line + LINE / HALVES * half).cast()) }
}

/// 8 f16 numbers as f32 lanes.
///
/// # Safety
/// 8 numbers can be read at `halves`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn half_lanes(halves: *const u16) -> __m256 {
    // SAFETY: by the contract.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(halves.cast())) }
}
