//! Products with float kinds.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;

use super::panels::half_lanes;
use super::{F16, Operands, kind_of, write};
use crate::matmul::{floats_of, halves_of};
use crate::pack::PANEL_ROWS;

/// # Safety
/// As for [`super::one`]; `KIND` is F32 or F16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(super) unsafe fn float<const KIND: u8, const ROWS: usize, const PANELS: usize>(
    operands: &mut Operands<'_>,
    first: usize,
) {
    let Operands { weight, x, tile, ref mut out } = *operands;
    let (row, panel) = (tile.row, tile.panel + first);
    let cols = weight.cols();
    let line_bytes = PANEL_ROWS * kind_of(KIND).block_bytes();
    let mut acc = [[_mm512_setzero_ps(); PANELS]; ROWS];
    // SAFETY: by the contract rows and panels exist, so every pointer stays inside its buffer.
    unsafe {
        let values = weight.codes().as_ptr().add(panel * cols * line_bytes);
        let x = floats_of(x).as_ptr().add(row * cols);
        for col in 0..cols {
            for p in 0..PANELS {
                let weight = lanes::<KIND>(values.add((p * cols + col) * line_bytes));
                for r in 0..ROWS {
                    let x = _mm512_set1_ps(*x.add(r * cols + col));
                    acc[r][p] = _mm512_fmadd_ps(weight, x, acc[r][p]);
                }
            }
        }
        write::<ROWS, PANELS>(&acc, out, first);
    }
}

/// Products of BF16.
///
/// # Safety
/// As for [`super::one`]; the weight is of that kind.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn pairs<const ROWS: usize, const PANELS: usize>(
    operands: &mut Operands<'_>,
    first: usize,
) {
    let Operands { weight, x, tile, ref mut out } = *operands;
    let (row, panel) = (tile.row, tile.panel + first);
    let cols = weight.cols();
    let panel_pairs = cols / 2 * PANEL_ROWS;
    let mut acc = [[_mm512_setzero_ps(); PANELS]; ROWS];
    // SAFETY: by the contract rows and panels exist, so every pointer stays inside its buffer.
    unsafe {
        let pairs = weight.codes().as_ptr().cast::<u32>().add(panel * panel_pairs);
        let x = halves_of(x).as_ptr().add(row * cols);
        // The first rows read the panels from memory, so they ask for the panels that follow.
        let ahead = if row == 0 { PANELS * panel_pairs } else { 0 };
        for pair in 0..cols / 2 {
            let pairs = pairs.add(pair * PANEL_ROWS);
            let mut weight = [_mm512_setzero_si512(); PANELS];
            for p in 0..PANELS {
                let pairs = pairs.add(p * panel_pairs);
                weight[p] = _mm512_loadu_si512(pairs.cast());
                if ahead > 0 {
                    _mm_prefetch::<_MM_HINT_T1>(pairs.wrapping_add(ahead).cast());
                }
            }
            for r in 0..ROWS {
                let x = x.add(r * cols + 2 * pair).cast::<i32>().read_unaligned();
                let x = as_bf16(_mm512_set1_epi32(x));
                for p in 0..PANELS {
                    acc[r][p] = _mm512_dpbf16_ps(acc[r][p], as_bf16(weight[p]), x);
                }
            }
        }
        write::<ROWS, PANELS>(&acc, out, first);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn as_bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits of which any are valid.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) }
}

/// 16 values of F32 or F16 as f32 lanes.
///
/// # Safety
/// 16 values of the kind can be read at `values`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
unsafe fn lanes<const KIND: u8>(values: *const u8) -> __m512 {
    // SAFETY: by the contract.
    unsafe {
        match KIND {
            F16 => half_lanes(values.cast()),
            _ => _mm512_loadu_ps(values.cast()),
        }
    }
}
