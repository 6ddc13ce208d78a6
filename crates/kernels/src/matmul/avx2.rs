//! AVX2 with FMA and F16C: the panels of the other tiers as two halves of eight lanes.
//!
//! Register tiles of 1-4 rows by one panel: of 16 registers, eight hold sums. Products of codes are
//! summed in pairs of 16 bits over as many column groups as fit, and only then in 32 bits; levels of 8
//! bits are multiplied as numbers of 16 bits and summed in 32 at once.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

mod floats;
mod outliers;
mod panels;

use std::arch::x86_64::*;
use std::hint::black_box;

use super::kinds::*;
use super::weights::Weights;
use super::{Job, Scratch, Sums, TILE_ROWS_AVX2, Tile, blocks_of, code_sum, value_sum};
use crate::blocks::{BLOCK, BlockKind};
use crate::pack::{PANEL_ROWS, PackedMatrix, parts};
use crate::quantise::{Activations, Block};

use floats::{float, pairs};
use outliers::add_outliers;
use panels::{Run, minimum, scale};

/// Registers of a panel's line.
const HALVES: usize = 2;
/// Columns of a half panel: the f32 lanes of a 256-bit register.
const HALF: usize = PANEL_ROWS / HALVES;

/// Computes the tiles of all rows with some panels (the first and their number).
///
/// # Safety
/// The machine has the tier's instructions; the panels lie inside the shapes of `job`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn finish_tiles(job: &Job<'_>, panels: (usize, usize), scratch: &mut Scratch) {
    // SAFETY: passed on from this function's contract.
    super::finish_tiles::<TILE_ROWS_AVX2>(job, panels, scratch, |weight, x, tile, out| unsafe {
        sums(weight, x, tile, out);
    });
}

/// What the register tiles read, and where their sums go.
struct Operands<'a> {
    weight: &'a PackedMatrix,
    x: &'a Activations,
    panel: usize,
    row: usize,
    out: &'a mut Sums,
    /// First column of `out`.
    column: usize,
}

/// # Safety
/// As for [`finish_tiles`].
unsafe fn sums(weight: &PackedMatrix, x: &Activations, tile: Tile, out: &mut Sums) {
    for p in 0..tile.panels {
        let (panel, column) = (tile.panel + p, p * PANEL_ROWS);
        let operands = Operands { weight, x, panel, row: tile.row, out, column };
        // SAFETY: passed on from this function's contract.
        unsafe {
            by_kind!(weight.kind(), by_rows, operands, tile.rows);
        }
    }
}

/// # Safety
/// As for [`finish_tiles`].
unsafe fn by_rows<const KIND: u8>(operands: Operands<'_>, rows: usize) {
    // SAFETY: passed on from this function's contract.
    unsafe {
        match rows {
            1 => one::<KIND, 1>(operands),
            2 => one::<KIND, 2>(operands),
            3 => one::<KIND, 3>(operands),
            4 => one::<KIND, 4>(operands),
            _ => unreachable!("a tile has 1 to 4 rows, not {rows}"),
        }
    }
}

/// # Safety
/// As for [`finish_tiles`], for one panel and the rows from that of `operands` on.
unsafe fn one<const KIND: u8, const ROWS: usize>(mut operands: Operands<'_>) {
    // SAFETY: passed on from this function's contract.
    unsafe {
        if kind_of(KIND).is_quantised() {
            quantised::<KIND, ROWS>(&mut operands);
            (0..ROWS).for_each(|r| add_outliers::<KIND>(&mut operands, r));
        } else {
            match KIND {
                BF16 => pairs::<ROWS>(operands),
                _ => float::<KIND, ROWS>(operands),
            }
        }
    }
}

/// # Safety
/// As for [`one`]; `KIND` is a quantised kind.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quantised<const KIND: u8, const ROWS: usize>(operands: &mut Operands<'_>) {
    let Operands { weight, x, panel, row, ref mut out, column } = *operands;
    let blocks = blocks_of(weight);
    let (x_blocks, stride) = x.blocks();
    // Not a constant to the compiler, which would unroll all steps, sum row by row and spill.
    let steps = black_box(run_groups(KIND) / 2);
    let mut acc = [[_mm256_setzero_ps(); HALVES]; ROWS];
    // SAFETY: by the contract rows and panel exist, so every pointer below stays inside the
    // buffers of the packed matrix and of the activations.
    unsafe {
        let weights = Weights::at::<KIND>(weight, panel);
        for block in 0..blocks {
            let weights = weights.block::<KIND>(block);
            if row == 0 {
                // The first rows read the panel from memory: they ask for the next one.
                weights.prefetch::<KIND>(1);
            }
            let x = Inputs {
                blocks: x_blocks.as_ptr().add(row * stride + block),
                stride,
                codes: x.codes().as_ptr().add((row * blocks + block) * BLOCK),
                cols: blocks * BLOCK,
            };
            add_part::<KIND, 0, ROWS>(&weights, (&x, steps), &mut acc);
            if parts(kind_of(KIND)) > 1 {
                add_part::<KIND, 1, ROWS>(&weights, (&x, steps), &mut acc);
            }
        }
    }
    write::<ROWS>(&acc, out, column);
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
/// `steps` are those of a run.
///
/// # Safety
/// The block exists in the panel and in `ROWS` rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_part<const KIND: u8, const PART: usize, const ROWS: usize>(
    weights: &Weights,
    (x, steps): (&Inputs, usize),
    acc: &mut [[__m256; HALVES]; ROWS],
) {
    let kind = kind_of(KIND);
    // SAFETY: by the contract.
    unsafe {
        let about = |r: usize| &*x.blocks.add(r * x.stride);
        let mut dot = [[_mm256_setzero_si256(); HALVES]; ROWS];
        if kind.zero_point() != 0 {
            for r in 0..ROWS {
                let offset = -kind.zero_point() * code_sum(kind, about(r), PART);
                dot[r] = [_mm256_set1_epi32(offset); HALVES];
            }
        }
        let groups = 8 / parts(kind);
        for first in (PART * groups..(PART + 1) * groups).step_by(run_groups(KIND)) {
            if is_wide(KIND) {
                add_wide::<KIND, ROWS>(weights.codes, (x, steps), first, &mut dot);
            } else {
                add_run::<KIND, ROWS>(weights.codes, (x, steps), first, &mut dot);
            }
        }
        for h in 0..HALVES {
            let scale = scale::<KIND>(weights, h, PART);
            for r in 0..ROWS {
                let scale = _mm256_mul_ps(scale, _mm256_set1_ps(about(r).scale));
                acc[r][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r][h]), scale, acc[r][h]);
            }
            if kind.has_minimum() {
                let minimum = minimum::<KIND>(weights, h, PART);
                for r in 0..ROWS {
                    let sum = _mm256_set1_ps(value_sum(kind, about(r), PART));
                    acc[r][h] = _mm256_fmadd_ps(minimum, sum, acc[r][h]);
                }
            }
        }
    }
}

/// Adds the products of the run of column groups from `first` on. They are summed in pairs of 16 bits.
///
/// # Safety
/// `lines` points to the block's lines in the panel; the run is one of the block's.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_run<const KIND: u8, const ROWS: usize>(
    lines: *const u8,
    (x, steps): (&Inputs, usize),
    first: usize,
    dot: &mut [[__m256i; HALVES]; ROWS],
) {
    let mut pairs = [[_mm256_setzero_si256(); HALVES]; ROWS];
    // SAFETY: by the contract; a step takes two column groups.
    unsafe {
        let mut x_codes = x.codes.add(4 * first);
        let mut run = Run::start::<KIND>(lines, first);
        for _ in 0..steps {
            for group in 0..2 {
                let weight = run.unpack::<KIND>(group);
                for r in 0..ROWS {
                    let x = x_codes.add(r * x.cols + 4 * group).cast::<i32>();
                    let x = _mm256_set1_epi32(x.read_unaligned());
                    for h in 0..HALVES {
                        let products = _mm256_maddubs_epi16(weight[h], x);
                        pairs[r][h] = _mm256_add_epi16(pairs[r][h], products);
                    }
                }
            }
            run.step::<KIND>();
            x_codes = x_codes.add(8);
        }
    }
    let ones = _mm256_set1_epi16(1);
    for r in 0..ROWS {
        for h in 0..HALVES {
            dot[r][h] = _mm256_add_epi32(dot[r][h], _mm256_madd_epi16(pairs[r][h], ones));
        }
    }
}

/// As [`add_run`] for levels of 8 bits, of which no two products fit 16 bits: of a column group those of
/// the even columns are multiplied as numbers of 16 bits, then those of the odd ones.
///
/// # Safety
/// As for [`add_run`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_wide<const KIND: u8, const ROWS: usize>(
    lines: *const u8,
    (x, steps): (&Inputs, usize),
    first: usize,
    dot: &mut [[__m256i; HALVES]; ROWS],
) {
    // SAFETY: by the contract; a step takes two column groups.
    unsafe {
        // Pairs of the even columns of each group, and of the odd ones.
        let mut wide = [[_mm256_setzero_si256(); 2]; ROWS];
        for r in 0..ROWS {
            let codes = _mm256_loadu_si256(x.codes.add(r * x.cols).cast());
            wide[r][0] = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(codes));
            wide[r][1] = _mm256_srai_epi16::<8>(codes);
        }
        // Hidden from the compiler, which would take the pairs from the registers at some cost.
        let mut pairs = black_box(&wide).as_ptr().cast::<i32>().add(first);
        let mut run = Run::start::<KIND>(lines, first);
        for _ in 0..steps {
            for group in 0..2 {
                let weight = run.unpack::<KIND>(group);
                for odd in 0..2 {
                    let mut levels = weight;
                    for h in 0..HALVES {
                        levels[h] = match odd {
                            0 => _mm256_and_si256(weight[h], _mm256_set1_epi16(0xff)),
                            _ => _mm256_srli_epi16::<8>(weight[h]),
                        };
                    }
                    for r in 0..ROWS {
                        let x = _mm256_set1_epi32(*pairs.add(16 * r + 8 * odd + group));
                        for h in 0..HALVES {
                            let products = _mm256_madd_epi16(levels[h], x);
                            dot[r][h] = _mm256_add_epi32(dot[r][h], products);
                        }
                    }
                }
            }
            run.step::<KIND>();
            pairs = pairs.add(2);
        }
    }
}

/// Whether levels have 8 bits.
const fn is_wide(kind: u8) -> bool {
    matches!(kind, Q8_0 | IQ4NL | IQ4XS)
}

/// Column groups of a run: as many as fit 16 bits, `groups * level * 127 * 2 < 2^15`, and one part; all of
/// the part where sums have 32 bits ([`is_wide`]).
const fn run_groups(kind: u8) -> usize {
    match kind {
        Q5_0 | Q5_1 | Q5_K | MXFP4 => 4,
        Q6_K => 2,
        _ => 8 / parts(kind_of(kind)),
    }
}

/// Writes the sums of a tile to `out` from column `column` on.
#[inline]
#[target_feature(enable = "avx2")]
fn write<const ROWS: usize>(acc: &[[__m256; HALVES]; ROWS], out: &mut Sums, column: usize) {
    for r in 0..ROWS {
        for h in 0..HALVES {
            let out = &mut out.0[r][column + h * HALF..column + (h + 1) * HALF];
            // SAFETY: `out` has 8 floats.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), acc[r][h]) };
        }
    }
}
