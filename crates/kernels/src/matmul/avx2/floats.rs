//! Products with float kinds.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;

use super::panels::half_lanes;
use super::{F16, HALF, HALVES, Operands, kind_of, write};
use crate::matmul::{floats_of, halves_of};
use crate::pack::PANEL_ROWS;

/// # Safety
/// As for [`super::one`]; `KIND` is F32 or F16.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn float<const KIND: u8, const ROWS: usize>(operands: Operands<'_>) {
    let Operands { weight, x, panel, row, out, column } = operands;
    let cols = weight.cols();
    let value_bytes = kind_of(KIND).block_bytes();
    let mut acc = [[_mm256_setzero_ps(); HALVES]; ROWS];
    // SAFETY: by the contract rows and panels exist, so every pointer stays inside its buffer.
    unsafe {
        let values = weight.codes().as_ptr().add(panel * cols * PANEL_ROWS * value_bytes);
        let x = floats_of(x).as_ptr().add(row * cols);
        for col in 0..cols {
            let mut weight = [_mm256_setzero_ps(); HALVES];
            for h in 0..HALVES {
                weight[h] = lanes::<KIND>(values.add((col * PANEL_ROWS + h * HALF) * value_bytes));
            }
            for r in 0..ROWS {
                let x = _mm256_set1_ps(*x.add(r * cols + col));
                for h in 0..HALVES {
                    acc[r][h] = _mm256_fmadd_ps(weight[h], x, acc[r][h]);
                }
            }
        }
        write::<ROWS>(&acc, out, column);
    }
}

/// Products of BF16.
///
/// # Safety
/// As for [`super::one`]; the weight is of that kind.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn pairs<const ROWS: usize>(operands: Operands<'_>) {
    let Operands { weight, x, panel, row, out, column } = operands;
    let cols = weight.cols();
    let mut acc = [[_mm256_setzero_ps(); HALVES]; ROWS];
    // SAFETY: by the contract rows and panels exist, so every pointer stays inside its buffer.
    unsafe {
        let pairs = weight.codes().as_ptr().cast::<u32>().add(panel * cols / 2 * PANEL_ROWS);
        let x = halves_of(x).as_ptr().add(row * cols);
        for pair in 0..cols / 2 {
            let mut weight = [_mm256_setzero_si256(); HALVES];
            for h in 0..HALVES {
                weight[h] = _mm256_loadu_si256(pairs.add(pair * PANEL_ROWS + h * HALF).cast());
            }
            for r in 0..ROWS {
                let x = x.add(r * cols + 2 * pair).cast::<u32>().read_unaligned();
                let (first, second) = both(_mm256_set1_epi32(x.cast_signed()));
                for h in 0..HALVES {
                    let (low, high) = both(weight[h]);
                    acc[r][h] = _mm256_fmadd_ps(high, second, acc[r][h]);
                    acc[r][h] = _mm256_fmadd_ps(low, first, acc[r][h]);
                }
            }
        }
        write::<ROWS>(&acc, out, column);
    }
}

/// The first and the second of each pair of bfloat16.
#[inline]
#[target_feature(enable = "avx2")]
fn both(pairs: __m256i) -> (__m256, __m256) {
    let second = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
    (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(second))
}

/// 8 values of F32 or F16 as f32 lanes.
///
/// # Safety
/// 8 values of the kind can be read at `values`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn lanes<const KIND: u8>(values: *const u8) -> __m256 {
    // SAFETY: by the contract.
    unsafe {
        match KIND {
            F16 => half_lanes(values.cast()),
            _ => _mm256_loadu_ps(values.cast()),
        }
    }
}
