//! AVX-512 with VNNI: lanes are output columns, four activations are broadcast at a time.
//!
//! Register tiles of 1-6 rows by 1-4 panels. The k-groups of a block are the outer loop inside a
//! block, so codes are unpacked once for all rows of the tile.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

mod floats;
mod outliers;
mod panels;

use std::arch::x86_64::*;

use super::kinds::*;
use super::weights::Weights;
use super::{FEW_ROWS, Job, Scratch, Sums, TILE_ROWS, Tile, blocks_of, code_sum, value_sum};
use crate::blocks::{BLOCK, BlockKind};
use crate::pack::{PANEL_ROWS, PackedMatrix, parts};
use crate::quantise::{Activations, Block};

use floats::{float, pairs};
use outliers::add_outliers;
use panels::{minimum, scale, unpack};

/// Computes the tiles of all rows with some panels (the first and their number).
///
/// # Safety
/// The machine has the tier's instructions; the panels lie inside the shapes of `job`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
pub(super) unsafe fn finish_tiles(job: &Job<'_>, panels: (usize, usize), scratch: &mut Scratch) {
    // SAFETY: passed on from this function's contract.
    super::finish_tiles::<TILE_ROWS>(job, panels, scratch, |weight, x, tile, out| unsafe {
        sums(&mut Operands { weight, x, tile, out });
    });
}

/// What the kernels read, and where their sums go.
struct Operands<'a> {
    weight: &'a PackedMatrix,
    x: &'a Activations,
    tile: Tile,
    out: &'a mut Sums,
}

/// # Safety
/// As for [`finish_tiles`].
unsafe fn sums(operands: &mut Operands<'_>) {
    // SAFETY: passed on from this function's contract.
    unsafe {
        by_kind!(operands.weight.kind(), of_kind, operands);
    }
}

/// # Safety
/// As for [`finish_tiles`].
unsafe fn of_kind<const KIND: u8>(operands: &mut Operands<'_>) {
    let panels = operands.tile.panels;
    // SAFETY: passed on from this function's contract.
    unsafe {
        if operands.tile.rows <= FEW_ROWS {
            match panels {
                1 => by_few_rows::<KIND, 1>(operands),
                2 => by_few_rows::<KIND, 2>(operands),
                3 => by_few_rows::<KIND, 3>(operands),
                4 => by_few_rows::<KIND, 4>(operands),
                _ => unreachable!("a tile has 1 to 4 panels, not {panels}"),
            }
        } else {
            for p in (0..panels - 1).step_by(2) {
                by_rows::<KIND, 2>(operands, p);
            }
            if panels % 2 == 1 {
                by_rows::<KIND, 1>(operands, panels - 1);
            }
        }
        if kind_of(KIND).is_quantised() {
            match panels {
                1 => add_outliers::<KIND, 1>(operands),
                2 => add_outliers::<KIND, 2>(operands),
                3 => add_outliers::<KIND, 3>(operands),
                4 => add_outliers::<KIND, 4>(operands),
                _ => unreachable!("a tile has 1 to 4 panels, not {panels}"),
            }
        }
    }
}

/// # Safety
/// As for [`finish_tiles`].
unsafe fn by_rows<const KIND: u8, const PANELS: usize>(operands: &mut Operands<'_>, p: usize) {
    // SAFETY: passed on from this function's contract.
    unsafe {
        match operands.tile.rows {
            3 => one::<KIND, 3, PANELS>(operands, p),
            4 => one::<KIND, 4, PANELS>(operands, p),
            5 => one::<KIND, 5, PANELS>(operands, p),
            6 => one::<KIND, 6, PANELS>(operands, p),
            rows => unreachable!("a tile has 1 to 6 rows, not {rows}"),
        }
    }
}

/// # Safety
/// As for [`finish_tiles`].
unsafe fn by_few_rows<const KIND: u8, const PANELS: usize>(operands: &mut Operands<'_>) {
    // SAFETY: passed on from this function's contract.
    unsafe {
        match operands.tile.rows {
            1 => one::<KIND, 1, PANELS>(operands, 0),
            2 => one::<KIND, 2, PANELS>(operands, 0),
            rows => unreachable!("few rows are 1 or 2, not {rows}"),
        }
    }
}

/// Computes the sums of `PANELS` panels of a tile, from its panel `p` on.
///
/// # Safety
/// As for [`finish_tiles`]; the tile has `ROWS` rows and `p + PANELS` panels or more.
unsafe fn one<const KIND: u8, const ROWS: usize, const PANELS: usize>(
    operands: &mut Operands<'_>,
    p: usize,
) {
    // SAFETY: passed on from this function's contract.
    unsafe {
        if kind_of(KIND).is_quantised() {
            quantised::<KIND, ROWS, PANELS>(operands, p);
        } else {
            match KIND {
                BF16 => pairs::<ROWS, PANELS>(operands, p),
                _ => float::<KIND, ROWS, PANELS>(operands, p),
            }
        }
    }
}

/// # Safety
/// As for [`one`]; `KIND` is a quantised kind.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,gfni,f16c,fma")]
unsafe fn quantised<const KIND: u8, const ROWS: usize, const PANELS: usize>(
    operands: &mut Operands<'_>,
    first: usize,
) {
    let Operands { weight, x, tile, ref mut out } = *operands;
    let (row, panel) = (tile.row, tile.panel + first);
    let blocks = blocks_of(weight);
    let (x_blocks, stride) = x.blocks();
    let mut acc = [[_mm512_setzero_ps(); PANELS]; ROWS];
    // SAFETY: by the contract rows and panels exist, so every pointer below stays inside the
    // buffers of the packed matrix and of the activations.
    unsafe {
        // The first rows read the panels from memory, so they ask for the panels that follow.
        let ahead = row == 0;
        let weights = Weights::at::<KIND>(weight, panel);
        for block in 0..blocks {
            let weights = weights.block::<KIND>(block);
            if ahead {
                (PANELS..2 * PANELS).for_each(|p| weights.prefetch::<KIND>(p));
            }
            let x = Inputs {
                blocks: x_blocks.as_ptr().add(row * stride + block),
                stride,
                codes: x.codes().as_ptr().add((row * blocks + block) * BLOCK),
                cols: blocks * BLOCK,
            };
            add_part::<KIND, 0, ROWS, PANELS>(&weights, &x, &mut acc);
            if parts(kind_of(KIND)) > 1 {
                add_part::<KIND, 1, ROWS, PANELS>(&weights, &x, &mut acc);
            }
        }
        write::<ROWS, PANELS>(&acc, out, first);
    }
}

/// A block of the activations of some rows.
struct Inputs {
    blocks: *const Block,
    /// Blocks from one row to the next.
    stride: usize,
    codes: *const i8,
    /// Codes from one row to the next.
    cols: usize,
}

/// Adds the products of the part `PART` of a block: all of it, or a half.
///
/// # Safety
/// The block exists in `PANELS` panels and in `ROWS` rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,gfni,f16c,fma")]
unsafe fn add_part<const KIND: u8, const PART: usize, const ROWS: usize, const PANELS: usize>(
    weights: &Weights,
    x: &Inputs,
    acc: &mut [[__m512; PANELS]; ROWS],
) {
    let kind = kind_of(KIND);
    // SAFETY: by the contract.
    unsafe {
        let about = |r: usize| &*x.blocks.add(r * x.stride);
        let mut dot = [[_mm512_setzero_si512(); PANELS]; ROWS];
        if kind.zero_point() != 0 {
            for r in 0..ROWS {
                let offset = -kind.zero_point() * code_sum(kind, about(r), PART);
                dot[r] = [_mm512_set1_epi32(offset); PANELS];
            }
        }
        add_codes::<KIND, PART, ROWS, PANELS>(weights, x, &mut dot);
        for p in 0..PANELS {
            let scale = scale::<KIND>(weights, p, PART);
            for r in 0..ROWS {
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(about(r).scale));
                acc[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][p]), scale, acc[r][p]);
            }
            if kind.has_minimum() {
                let minimum = minimum::<KIND>(weights, p, PART);
                for r in 0..ROWS {
                    let sum = _mm512_set1_ps(value_sum(kind, about(r), PART));
                    acc[r][p] = _mm512_fmadd_ps(minimum, sum, acc[r][p]);
                }
            }
        }
    }
}

/// Adds the products of the codes of the part `PART` of a block.
///
/// # Safety
/// As for [`add_part`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,gfni")]
unsafe fn add_codes<const KIND: u8, const PART: usize, const ROWS: usize, const PANELS: usize>(
    weights: &Weights,
    x: &Inputs,
    dot: &mut [[__m512i; PANELS]; ROWS],
) {
    let pairs = 4 / parts(kind_of(KIND));
    for pair in PART * pairs..(PART + 1) * pairs {
        let mut weight = [[_mm512_setzero_si512(); 2]; PANELS];
        for p in 0..PANELS {
            // SAFETY: by the contract.
            weight[p] = unsafe { unpack::<KIND>(weights.codes.add(p * weights.panel.codes), pair) };
        }
        for r in 0..ROWS {
            // SAFETY: by the contract; a pair of groups is eight activations of the row.
            let (first, second) = unsafe {
                let x = x.codes.add(r * x.cols + pair * 8).cast::<i32>();
                (x.read_unaligned(), x.add(1).read_unaligned())
            };
            let (first, second) = (_mm512_set1_epi32(first), _mm512_set1_epi32(second));
            for p in 0..PANELS {
                dot[r][p] = _mm512_dpbusd_epi32(dot[r][p], weight[p][0], first);
                dot[r][p] = _mm512_dpbusd_epi32(dot[r][p], weight[p][1], second);
            }
        }
    }
}

/// Writes the sums of a tile's panels from panel `first` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn write<const ROWS: usize, const PANELS: usize>(
    acc: &[[__m512; PANELS]; ROWS],
    out: &mut Sums,
    first: usize,
) {
    for r in 0..ROWS {
        for p in 0..PANELS {
            let column = (first + p) * PANEL_ROWS;
            let out = &mut out.0[r][column..column + PANEL_ROWS];
            // SAFETY: `out` has 16 floats.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc[r][p]) };
        }
    }
}
