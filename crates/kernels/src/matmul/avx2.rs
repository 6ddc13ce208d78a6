//! AVX2 with FMA and F16C: the panels of the other tiers as two halves of eight lanes.
//!
//! Register tiles of 1-4 rows by one panel: of 16 registers, eight hold sums. Products of codes are
//! summed in pairs of 16 bits over as many column groups as fit, and only then in 32 bits.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;
use std::hint::black_box;

use super::kinds::*;
use super::{Job, Scratch, Sums, TILE_ROWS_AVX2, Tile, blocks_of, floats_of, halves_of};
use crate::blocks::{BLOCK, BlockKind};
use crate::pack::{PANEL_ROWS, PackedMatrix, code_bytes, scales_per_block};
use crate::quantise::Activations;

/// Registers of a panel's line.
const HALVES: usize = 2;
/// Columns of a half panel: the f32 lanes of a 256-bit register.
const HALF: usize = PANEL_ROWS / HALVES;
/// Bytes of a line of codes.
const LINE: usize = 4 * PANEL_ROWS;

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
            match weight.kind() {
                BlockKind::Q8_0 => by_rows::<Q8_0>(operands, tile.rows),
                BlockKind::Q4_0 => by_rows::<Q4_0>(operands, tile.rows),
                BlockKind::Q4_1 => by_rows::<Q4_1>(operands, tile.rows),
                BlockKind::Q5_0 => by_rows::<Q5_0>(operands, tile.rows),
                BlockKind::Q5_1 => by_rows::<Q5_1>(operands, tile.rows),
                BlockKind::F32 => by_rows::<F32>(operands, tile.rows),
                BlockKind::F16 => by_rows::<F16>(operands, tile.rows),
                BlockKind::Bf16 => by_rows::<BF16>(operands, tile.rows),
            }
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
    let kind = kind_of(KIND);
    let blocks = blocks_of(weight);
    let panel_codes = blocks * code_bytes(kind);
    let panel_scales = blocks * scales_per_block(kind);
    let (x_blocks, stride) = x.blocks();
    let x_codes = x.codes();
    // Not a constant to the compiler, which would unroll all steps, sum row by row and spill.
    let steps = black_box(steps(KIND));
    let mut acc = [[_mm256_setzero_ps(); HALVES]; ROWS];
    // SAFETY: by the contract rows and panel exist, so every pointer below stays inside the
    // buffers of the packed matrix and of the activations.
    unsafe {
        let mut codes = weight.codes().as_ptr().add(panel * panel_codes);
        let mut scales = weight.scales().as_ptr().add(panel * panel_scales);
        for block in 0..blocks {
            if row == 0 {
                // The first rows read the panel from memory: they ask for the next one.
                let codes = codes.wrapping_add(panel_codes);
                for line in 0..code_bytes(kind) / LINE {
                    _mm_prefetch::<_MM_HINT_T1>(codes.wrapping_add(LINE * line).cast());
                }
                _mm_prefetch::<_MM_HINT_T1>(scales.wrapping_add(panel_scales).cast());
            }
            let x = x_blocks.as_ptr().add(row * stride + block);
            let mut dot = [[_mm256_setzero_si256(); HALVES]; ROWS];
            for r in 0..ROWS {
                dot[r] = [zero_points::<KIND>((*x.add(r * stride)).sum); HALVES];
            }
            let codes_of_x = x_codes.as_ptr().add((row * blocks + block) * BLOCK);
            add_codes::<KIND, ROWS>(codes, codes_of_x, (blocks, steps), &mut dot);
            for h in 0..HALVES {
                let scales = scales.add(h * HALF);
                let scale = half_lanes(scales);
                for r in 0..ROWS {
                    let x_scale = _mm256_set1_ps((*x.add(r * stride)).scale);
                    let scale = _mm256_mul_ps(scale, x_scale);
                    acc[r][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r][h]), scale, acc[r][h]);
                }
                if kind.has_minimum() {
                    let minimum = half_lanes(scales.add(PANEL_ROWS));
                    for r in 0..ROWS {
                        let sum = _mm256_set1_ps((*x.add(r * stride)).value_sum);
                        acc[r][h] = _mm256_fmadd_ps(minimum, sum, acc[r][h]);
                    }
                }
            }
            codes = codes.add(code_bytes(kind));
            scales = scales.add(scales_per_block(kind));
        }
    }
    write::<ROWS>(&acc, out, column);
}

/// Adds the products of the outliers of row `r` of the tile.
///
/// # Safety
/// As for [`one`]; `KIND` is a quantised kind.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_outliers<const KIND: u8>(operands: &mut Operands<'_>, r: usize) {
    let Operands { weight, x, panel, row, ref mut out, column } = *operands;
    let kind = kind_of(KIND);
    let blocks = blocks_of(weight);
    let (x_blocks, stride) = x.blocks();
    let outliers = x.outliers();
    let out = &mut out.0[r][column..column + PANEL_ROWS];
    let row = row + r;
    let mut acc = [_mm256_setzero_ps(); HALVES];
    // SAFETY: as in `quantised`; `out` has one panel, a group of flags whole registers.
    unsafe {
        for h in 0..HALVES {
            acc[h] = _mm256_loadu_ps(out.as_ptr().add(h * HALF));
        }
        let codes = weight.codes().as_ptr().add(panel * blocks * code_bytes(kind));
        let scales = weight.scales().as_ptr().add(panel * blocks * scales_per_block(kind));
        for (group, flags) in x.flags(row).chunks_exact(size_of::<__m256i>()).enumerate() {
            let flags = _mm256_loadu_si256(flags.as_ptr().cast());
            let zeros = _mm256_cmpeq_epi8(flags, _mm256_setzero_si256());
            let mut flagged = !_mm256_movemask_epi8(zeros).cast_unsigned();
            while flagged != 0 {
                let block = group * size_of::<__m256i>() + flagged.trailing_zeros() as usize;
                flagged &= flagged - 1;
                let codes = codes.add(block * code_bytes(kind));
                let scales = scales.add(block * scales_per_block(kind));
                let mut rest = x_blocks[row * stride + block].outliers;
                while rest != 0 {
                    let k = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    let outlier = _mm256_set1_ps(outliers[(row * blocks + block) * BLOCK + k]);
                    for h in 0..HALVES {
                        let codes = column_codes::<KIND>(codes.add(h * LINE / HALVES), k);
                        let scale = _mm256_mul_ps(half_lanes(scales.add(h * HALF)), outlier);
                        acc[h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(codes), scale, acc[h]);
                    }
                }
            }
        }
        for h in 0..HALVES {
            _mm256_storeu_ps(out.as_mut_ptr().add(h * HALF), acc[h]);
        }
    }
}

/// The codes of column `k` of a block, less their zero point.
///
/// # Safety
/// `lines` points to a half of the first of the code lines of one panel and block; k < [`BLOCK`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn column_codes<const KIND: u8>(lines: *const u8, k: usize) -> __m256i {
    let (group, byte) = (k / 4, k % 4);
    // SAFETY: by the contract each line read exists.
    unsafe {
        let mut codes = match KIND {
            Q8_0 => bits(lines.add(LINE * group), 8 * byte, 0xff),
            _ => bits(lines.add(LINE * (group / 2)), 8 * byte + 4 * (group % 2), 0x0f),
        };
        if KIND == Q5_0 || KIND == Q5_1 {
            let fifth = bits(lines.add(LINE * 4), 8 * byte + group, 1);
            codes = _mm256_or_si256(codes, _mm256_slli_epi32::<4>(fifth));
        }
        _mm256_sub_epi32(codes, _mm256_set1_epi32(kind_of(KIND).zero_point()))
    }
}

/// The bits of every 32 from bit `first` on that `mask` has.
///
/// # Safety
/// 32 bytes can be read at `half`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn bits(half: *const u8, first: usize, mask: i32) -> __m256i {
    // SAFETY: by the contract.
    let half = unsafe { _mm256_loadu_si256(half.cast()) };
    let moved = _mm256_srlv_epi32(half, _mm256_set1_epi32(first as i32));
    _mm256_and_si256(moved, _mm256_set1_epi32(mask))
}

/// What a block's sums start from: `-zero_point` times the sum of its activations.
#[inline]
#[target_feature(enable = "avx2")]
fn zero_points<const KIND: u8>(sum: i32) -> __m256i {
    _mm256_set1_epi32(-kind_of(KIND).zero_point() * sum)
}

/// Adds the products of one block's codes. They are summed in pairs of 16 bits as far as these
/// reach, run by run.
///
/// `steps` is [`steps`] of the kind.
///
/// # Safety
/// `codes` points to the block's lines in the panel, `x` to the block's activations in rows that
/// stand `blocks` blocks apart.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_codes<const KIND: u8, const ROWS: usize>(
    codes: *const u8,
    x: *const i8,
    (blocks, steps): (usize, usize),
    dot: &mut [[__m256i; HALVES]; ROWS],
) {
    for run in 0..runs(KIND) {
        let mut pairs = [[_mm256_setzero_si256(); HALVES]; ROWS];
        // SAFETY: by the contract; a run begins at a line and takes two column groups a step.
        unsafe {
            let (mut codes, mut x) = start_of_run::<KIND>(codes, x, run);
            let mut bits = fifth_bits_of_run::<KIND>(codes, run);
            for _ in 0..steps {
                for group in 0..2 {
                    let weight = unpack::<KIND>(codes, &bits, (group, run));
                    for r in 0..ROWS {
                        let x = x.add(r * blocks * BLOCK + 4 * group).cast::<i32>();
                        let x = _mm256_set1_epi32(x.read_unaligned());
                        for h in 0..HALVES {
                            let products = _mm256_maddubs_epi16(weight[h], x);
                            pairs[r][h] = _mm256_add_epi16(pairs[r][h], products);
                        }
                    }
                }
                for h in 0..HALVES {
                    bits[h] = _mm256_srli_epi16::<2>(bits[h]);
                }
                codes = codes.add(LINE * lines_of_step(KIND));
                x = x.add(8);
            }
        }
        // The second run over 8-bit codes takes their high halves.
        let factor = _mm256_set1_epi16(if KIND == Q8_0 && run == 1 { 16 } else { 1 });
        for r in 0..ROWS {
            for h in 0..HALVES {
                dot[r][h] = _mm256_add_epi32(dot[r][h], _mm256_madd_epi16(pairs[r][h], factor));
            }
        }
    }
}

/// Runs of a block. All eight column groups of 4-bit codes fit 16 bits (8 * 15 * 127 * 2 < 2^15),
/// four of 5-bit codes (4 * 31 * 127 * 2 < 2^15); an 8-bit code is taken for two of 4 bits.
const fn runs(kind: u8) -> usize {
    if matches!(kind, Q4_0 | Q4_1) { 1 } else { 2 }
}

/// Steps of a run, of two column groups each.
const fn steps(kind: u8) -> usize {
    if has_fifth_bits(kind) { 2 } else { 4 }
}

/// Code lines of a step.
const fn lines_of_step(kind: u8) -> usize {
    if kind == Q8_0 { 2 } else { 1 }
}

/// True if the codes' fifth bits stand in a line of their own.
const fn has_fifth_bits(kind: u8) -> bool {
    matches!(kind, Q5_0 | Q5_1)
}

/// The block's codes and activations where a run begins.
///
/// # Safety
/// As for [`add_codes`].
#[inline]
unsafe fn start_of_run<const KIND: u8>(
    codes: *const u8,
    x: *const i8,
    run: usize,
) -> (*const u8, *const i8) {
    let groups = if has_fifth_bits(KIND) { 2 * steps(KIND) * run } else { 0 };
    // SAFETY: by the contract; two groups share a line.
    unsafe { (codes.add(groups / 2 * LINE), x.add(4 * groups)) }
}

/// The fifth bits of a run's codes: of its group `i` bit `4 + i` of every byte. Zeros for kinds
/// without.
///
/// # Safety
/// `codes` points to the run's first line.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn fifth_bits_of_run<const KIND: u8>(codes: *const u8, run: usize) -> [__m256i; HALVES] {
    let mut bits = [_mm256_setzero_si256(); HALVES];
    if has_fifth_bits(KIND) {
        for h in 0..HALVES {
            // SAFETY: by the contract; the fifth bits stand behind all four lines.
            let plane = unsafe { load(codes, 4 - steps(KIND) * run, h) };
            bits[h] = if run == 0 { _mm256_slli_epi16::<4>(plane) } else { plane };
        }
    }
    bits
}

/// The first or second column group of a step in one run, `[16][4]` codes.
///
/// # Safety
/// `codes` points to the step's first line.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn unpack<const KIND: u8>(
    codes: *const u8,
    fifth_bits: &[__m256i; HALVES],
    (group, run): (usize, usize),
) -> [__m256i; HALVES] {
    let (line, high) = if KIND == Q8_0 { (group, run == 1) } else { (0, group == 1) };
    let mut out = [_mm256_setzero_si256(); HALVES];
    for h in 0..HALVES {
        // SAFETY: by the contract the line exists.
        let both = unsafe { load(codes, line, h) };
        let both = if high { _mm256_srli_epi16::<4>(both) } else { both };
        out[h] = _mm256_and_si256(both, _mm256_set1_epi8(0x0f));
        if has_fifth_bits(KIND) {
            let bits = fifth_bits[h];
            let bits = if group == 1 { _mm256_srli_epi16::<1>(bits) } else { bits };
            out[h] = _mm256_or_si256(out[h], _mm256_and_si256(bits, _mm256_set1_epi8(0x10)));
        }
    }
    out
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
unsafe fn half_lanes(halves: *const u16) -> __m256 {
    // SAFETY: by the contract.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(halves.cast())) }
}

/// # Safety
/// As for [`one`]; `KIND` is F32 or F16.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn float<const KIND: u8, const ROWS: usize>(operands: Operands<'_>) {
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
/// As for [`one`]; the weight is of that kind.
#[target_feature(enable = "avx2,fma")]
unsafe fn pairs<const ROWS: usize>(operands: Operands<'_>) {
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
