//! Activations that are kept apart as floats, multiplied column by column.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;

use super::panels::{column, minimum, scale};
use super::{Operands, Tile, Weights, kind_of};
use crate::blocks::BLOCK;
use crate::matmul::{blocks_of, outliers_have_minimum};
use crate::pack::PANEL_ROWS;
use crate::quantise::FLAG_GROUP;

/// Adds the products of the outliers of a tile.
///
/// # Safety
/// As for [`super::one`]; `KIND` is a quantised kind.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
pub(super) unsafe fn add_outliers<const KIND: u8, const PANELS: usize>(
    operands: &mut Operands<'_>,
) {
    let Operands { weight, x, tile: Tile { panel, row, rows, .. }, ref mut out } = *operands;
    let blocks = blocks_of(weight);
    let (x_blocks, stride) = x.blocks();
    let outliers = x.outliers();
    let weights = Weights::at::<KIND>(weight, panel);
    // SAFETY: as in `quantised`; `out` has `PANELS` panels, a group of flags 64.
    unsafe {
        for r in 0..rows {
            let out = out.0[r].as_mut_ptr();
            let row = row + r;
            let mut acc = [_mm512_setzero_ps(); PANELS];
            for p in 0..PANELS {
                acc[p] = _mm512_loadu_ps(out.add(p * PANEL_ROWS));
            }
            for (group, flags) in x.flags(row).chunks_exact(FLAG_GROUP).enumerate() {
                let flags = _mm512_loadu_si512(flags.as_ptr().cast());
                let mut flagged = _mm512_test_epi8_mask(flags, flags);
                while flagged != 0 {
                    let block = group * FLAG_GROUP + flagged.trailing_zeros() as usize;
                    flagged &= flagged - 1;
                    let weights = weights.block::<KIND>(block);
                    let mut rest = x_blocks.get_unchecked(row * stride + block).outliers;
                    while rest != 0 {
                        let k = rest.trailing_zeros() as usize;
                        rest &= rest - 1;
                        let at = (row * blocks + block) * BLOCK + k;
                        let outlier = _mm512_set1_ps(*outliers.get_unchecked(at));
                        add_column::<KIND, PANELS>(&weights, (k, outlier), &mut acc);
                    }
                }
            }
            for p in 0..PANELS {
                _mm512_storeu_ps(out.add(p * PANEL_ROWS), acc[p]);
            }
        }
    }
}

/// Adds the products of one outlier, that of column `k` of a block.
///
/// # Safety
/// The block exists in `PANELS` panels; k < [`BLOCK`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c,fma")]
unsafe fn add_column<const KIND: u8, const PANELS: usize>(
    weights: &Weights,
    (k, outlier): (usize, __m512),
    acc: &mut [__m512; PANELS],
) {
    let kind = kind_of(KIND);
    let part = k / kind.span();
    for p in 0..PANELS {
        // SAFETY: by the contract.
        unsafe {
            let levels = column::<KIND>(weights.codes.add(p * weights.panel.codes), k);
            let scale = _mm512_mul_ps(scale::<KIND>(weights, p, part), outlier);
            acc[p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(levels), scale, acc[p]);
            if outliers_have_minimum(kind) {
                acc[p] = _mm512_fmadd_ps(minimum::<KIND>(weights, p, part), outlier, acc[p]);
            }
        }
    }
}
