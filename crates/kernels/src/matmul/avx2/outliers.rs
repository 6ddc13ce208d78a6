//! Activations that are kept apart as floats, multiplied column by column.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;

use super::panels::{column, minimum, scale};
use super::{HALF, HALVES, Operands, Weights, kind_of};
use crate::blocks::BLOCK;
use crate::matmul::{blocks_of, outliers_have_minimum};

/// Adds the products of the outliers of row `r` of the tile.
///
/// # Safety
/// As for [`super::one`]; `KIND` is a quantised kind.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn add_outliers<const KIND: u8>(operands: &mut Operands<'_>, r: usize) {
    let Operands { weight, x, panel, row, ref mut out, column } = *operands;
    let blocks = blocks_of(weight);
    let (x_blocks, stride) = x.blocks();
    let outliers = x.outliers();
    let out = &mut out.0[r][column..column + HALVES * HALF];
    let row = row + r;
    let mut acc = [_mm256_setzero_ps(); HALVES];
    let weights = Weights::at::<KIND>(weight, panel);
    // SAFETY: as in `quantised`; `out` has one panel, a group of flags whole registers.
    unsafe {
        for h in 0..HALVES {
            acc[h] = _mm256_loadu_ps(out.as_ptr().add(h * HALF));
        }
        for (group, flags) in x.flags(row).chunks_exact(size_of::<__m256i>()).enumerate() {
            let flags = _mm256_loadu_si256(flags.as_ptr().cast());
            let zeros = _mm256_cmpeq_epi8(flags, _mm256_setzero_si256());
            let mut flagged = !_mm256_movemask_epi8(zeros).cast_unsigned();
            while flagged != 0 {
                let block = group * size_of::<__m256i>() + flagged.trailing_zeros() as usize;
                flagged &= flagged - 1;
                let weights = weights.block::<KIND>(block);
                let mut rest = x_blocks[row * stride + block].outliers;
                while rest != 0 {
                    let k = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    let outlier = _mm256_set1_ps(outliers[(row * blocks + block) * BLOCK + k]);
                    add_column::<KIND>(&weights, (k, outlier), &mut acc);
                }
            }
        }
        for h in 0..HALVES {
            _mm256_storeu_ps(out.as_mut_ptr().add(h * HALF), acc[h]);
        }
    }
}

/// Adds the products of one outlier, that of column `k` of a block.
///
/// # Safety
/// The block exists in the panel; k < [`BLOCK`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_column<const KIND: u8>(
    weights: &Weights,
    (k, outlier): (usize, __m256),
    acc: &mut [__m256; HALVES],
) {
    let kind = kind_of(KIND);
    let part = k / kind.span();
    for h in 0..HALVES {
        // SAFETY: by the contract.
        unsafe {
            let levels = column::<KIND>(weights.codes, h, k);
            let scale = _mm256_mul_ps(scale::<KIND>(weights, h, part), outlier);
            acc[h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(levels), scale, acc[h]);
            if outliers_have_minimum(kind) {
                acc[h] = _mm256_fmadd_ps(minimum::<KIND>(weights, h, part), outlier, acc[h]);
            }
        }
    }
}
