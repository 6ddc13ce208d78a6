//! AVX-512 with VNNI: lanes are output columns, four activations are broadcast at a time.
//!
//! Register tiles of 1-6 rows by 1-4 panels. The k-groups of a block are the outer loop inside a
//! block, so codes are unpacked once for all rows of the tile.

#![expect(clippy::needless_range_loop, reason = "indices name registers of a tile")]

use std::arch::x86_64::*;

use super::kinds::*;
use super::{FEW_ROWS, Job, Scratch, Sums, TILE_ROWS, Tile, blocks_of, floats_of, halves_of};
use crate::blocks::{BLOCK, BlockKind};
use crate::pack::{PANEL_ROWS, PackedMatrix, code_bytes, scales_per_block};
use crate::quantise::{Activations, FLAG_GROUP};

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
        match operands.weight.kind() {
            BlockKind::Q8_0 => of_kind::<Q8_0>(operands),
            BlockKind::Q4_0 => of_kind::<Q4_0>(operands),
            BlockKind::Q4_1 => of_kind::<Q4_1>(operands),
            BlockKind::Q5_0 => of_kind::<Q5_0>(operands),
            BlockKind::Q5_1 => of_kind::<Q5_1>(operands),
            BlockKind::F32 => of_kind::<F32>(operands),
            BlockKind::F16 => of_kind::<F16>(operands),
            BlockKind::Bf16 => of_kind::<BF16>(operands),
        }
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
    let kind = kind_of(KIND);
    let blocks = blocks_of(weight);
    let panel_scales = blocks * scales_per_block(kind);
    let (x_blocks, stride) = x.blocks();
    let x_codes = x.codes();
    let mut acc = [[_mm512_setzero_ps(); PANELS]; ROWS];
    // SAFETY: by the contract rows and panels exist, so every pointer below stays inside the
    // buffers of the packed matrix and of the activations.
    unsafe {
        let mut codes = weight.codes().as_ptr().add(panel * blocks * code_bytes(kind));
        let mut scales = weight.scales().as_ptr().add(panel * panel_scales);
        // The first rows read the panels from memory, so they ask for the panels that follow.
        let ahead = if row == 0 { PANELS * blocks * code_bytes(kind) } else { 0 };
        let scales_ahead = PANELS * panel_scales;
        for block in 0..blocks {
            if ahead > 0 {
                for p in 0..PANELS {
                    let codes = codes.wrapping_add(ahead + p * blocks * code_bytes(kind));
                    let scales = scales.wrapping_add(scales_ahead + p * panel_scales);
                    for line in 0..code_bytes(kind) / 64 {
                        _mm_prefetch::<_MM_HINT_T1>(codes.wrapping_add(64 * line).cast());
                    }
                    _mm_prefetch::<_MM_HINT_T1>(scales.cast());
                }
            }
            let at = row * blocks + block;
            let mut dot = [[_mm512_setzero_si512(); PANELS]; ROWS];
            let x = x_blocks.as_ptr().add(row * stride + block);
            if kind.zero_point() != 0 {
                for r in 0..ROWS {
                    let offset = -kind.zero_point() * (*x.add(r * stride)).sum;
                    dot[r] = [_mm512_set1_epi32(offset); PANELS];
                }
            }
            let codes_of_x = x_codes.as_ptr().add(at * BLOCK);
            add_codes::<KIND, ROWS, PANELS>(codes, codes_of_x, blocks, &mut dot);
            for p in 0..PANELS {
                let scale = half_lanes(scales.add(p * panel_scales));
                for r in 0..ROWS {
                    let x_scale = _mm512_set1_ps((*x.add(r * stride)).scale);
                    let scale = _mm512_mul_ps(scale, x_scale);
                    acc[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][p]), scale, acc[r][p]);
                }
                if kind.has_minimum() {
                    let minimum = half_lanes(scales.add(p * panel_scales + PANEL_ROWS));
                    for r in 0..ROWS {
                        let sum = _mm512_set1_ps((*x.add(r * stride)).value_sum);
                        acc[r][p] = _mm512_fmadd_ps(minimum, sum, acc[r][p]);
                    }
                }
            }
            codes = codes.add(code_bytes(kind));
            scales = scales.add(scales_per_block(kind));
        }
        write::<ROWS, PANELS>(&acc, out, first);
    }
}

/// Adds the products of the outliers of a tile.
///
/// # Safety
/// As for [`one`]; `KIND` is a quantised kind.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
unsafe fn add_outliers<const KIND: u8, const PANELS: usize>(operands: &mut Operands<'_>) {
    let Operands { weight, x, tile: Tile { panel, row, rows, .. }, ref mut out } = *operands;
    let kind = kind_of(KIND);
    let blocks = blocks_of(weight);
    let panel_codes = blocks * code_bytes(kind);
    let panel_scales = blocks * scales_per_block(kind);
    let (x_blocks, stride) = x.blocks();
    let outliers = x.outliers();
    // SAFETY: as in `quantised`; `out` has `PANELS` panels, a group of flags 64.
    unsafe {
        let codes = weight.codes().as_ptr().add(panel * panel_codes);
        let scales = weight.scales().as_ptr().add(panel * panel_scales);
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
                    let codes = codes.add(block * code_bytes(kind));
                    let scales = scales.add(block * scales_per_block(kind));
                    let mut rest = x_blocks.get_unchecked(row * stride + block).outliers;
                    while rest != 0 {
                        let k = rest.trailing_zeros() as usize;
                        rest &= rest - 1;
                        let at = (row * blocks + block) * BLOCK + k;
                        let outlier = _mm512_set1_ps(*outliers.get_unchecked(at));
                        for p in 0..PANELS {
                            let codes = column::<KIND>(codes.add(p * panel_codes), k);
                            let scale = half_lanes(scales.add(p * panel_scales));
                            let scale = _mm512_mul_ps(scale, outlier);
                            acc[p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(codes), scale, acc[p]);
                        }
                    }
                }
            }
            for p in 0..PANELS {
                _mm512_storeu_ps(out.add(p * PANEL_ROWS), acc[p]);
            }
        }
    }
}

/// The codes of column `k` of a block, less their zero point.
///
/// # Safety
/// `lines` points to the code lines of one panel and block of the kind; k < [`BLOCK`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn column<const KIND: u8>(lines: *const u8, k: usize) -> __m512i {
    let (group, byte) = (k / 4, k % 4);
    // SAFETY: by the contract each line read exists.
    unsafe {
        let mut codes = match KIND {
            Q8_0 => bits(load(lines, group), 8 * byte, 0xff),
            _ => bits(load(lines, group / 2), 8 * byte + 4 * (group % 2), 0x0f),
        };
        if KIND == Q5_0 || KIND == Q5_1 {
            let fifth = bits(load(lines, 4), 8 * byte + group, 1);
            codes = _mm512_or_si512(codes, _mm512_slli_epi32::<4>(fifth));
        }
        _mm512_sub_epi32(codes, _mm512_set1_epi32(kind_of(KIND).zero_point()))
    }
}

/// Adds the products of one block's codes.
///
/// # Safety
/// `codes` points to the block's lines in `PANELS` panels of `blocks` blocks, `x` to the block's
/// activations in rows that stand `blocks` blocks apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,gfni")]
unsafe fn add_codes<const KIND: u8, const ROWS: usize, const PANELS: usize>(
    codes: *const u8,
    x: *const i8,
    blocks: usize,
    dot: &mut [[__m512i; PANELS]; ROWS],
) {
    let panel_codes = blocks * code_bytes(kind_of(KIND));
    for line in 0..4 {
        let mut weight = [[_mm512_setzero_si512(); 2]; PANELS];
        for p in 0..PANELS {
            // SAFETY: by the contract.
            weight[p] = unsafe { unpack::<KIND>(codes.add(p * panel_codes), line) };
        }
        for r in 0..ROWS {
            // SAFETY: by the contract; a line is eight activations of the row.
            let (first, second) = unsafe {
                let x = x.add(r * blocks * BLOCK + line * 8).cast::<i32>();
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

/// The two column groups of line `line` (0..4): groups `2 line` and `2 line + 1`, `[16][4]` codes.
///
/// # Safety
/// `lines` points to the code lines of one panel and block of the kind.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,gfni")]
unsafe fn unpack<const KIND: u8>(lines: *const u8, line: usize) -> [__m512i; 2] {
    // SAFETY: by the contract each line read exists.
    unsafe {
        if KIND == Q8_0 {
            return [load(lines, 2 * line), load(lines, 2 * line + 1)];
        }
        let nibble = _mm512_set1_epi8(0x0f);
        let both = load(lines, line);
        let low = _mm512_and_si512(both, nibble);
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(both), nibble);
        if KIND == Q4_0 || KIND == Q4_1 {
            return [low, high];
        }
        let plane = load(lines, 4);
        [
            _mm512_or_si512(low, fifth_bits(plane, 2 * line)),
            _mm512_or_si512(high, fifth_bits(plane, 2 * line + 1)),
        ]
    }
}

/// Bit `group` of every byte, moved to bit 4.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn fifth_bits(plane: __m512i, group: usize) -> __m512i {
    // Row 3 of the 8x8 bit matrix makes output bit 4 (rows count from the top bit down).
    let matrix = _mm512_set1_epi64(1_i64 << (24 + group));
    _mm512_gf2p8affine_epi64_epi8::<0>(plane, matrix)
}

/// The bits of every 32 from bit `first` on that `mask` has.
#[inline]
#[target_feature(enable = "avx512f")]
fn bits(line: __m512i, first: usize, mask: i32) -> __m512i {
    let moved = _mm512_srlv_epi32(line, _mm512_set1_epi32(first as i32));
    _mm512_and_si512(moved, _mm512_set1_epi32(mask))
}

/// # Safety
/// 64 bytes can be read at `lines + 64 * line`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(lines: *const u8, line: usize) -> __m512i {
    // SAFETY: by the contract.
    unsafe { _mm512_loadu_si512(lines.add(64 * line).cast()) }
}

/// 16 f16 numbers as f32 lanes.
///
/// # Safety
/// 16 numbers can be read at `halves`.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c")]
unsafe fn half_lanes(halves: *const u16) -> __m512 {
    // SAFETY: by the contract.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(halves.cast())) }
}

/// # Safety
/// As for [`one`]; `KIND` is F32 or F16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")]
unsafe fn float<const KIND: u8, const ROWS: usize, const PANELS: usize>(
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
/// As for [`one`]; the weight is of that kind.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn pairs<const ROWS: usize, const PANELS: usize>(operands: &mut Operands<'_>, first: usize) {
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
