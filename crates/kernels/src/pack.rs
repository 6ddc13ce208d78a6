//! Weights packed for products: panels of 16 rows whose lanes are output columns.
//!
//! A panel holds 16 rows of the weight. Within a block of 32 columns, the four codes of one
//! column group (4 consecutive columns) of all 16 rows stand in one 64-byte line, `[16][4]`,
//! which is what VPDPBUSD multiplies by four broadcast activations. No sum crosses lanes.
//!
//! | kind | bytes of codes per panel and block | order |
//! |---|---|---|
//! | Q4_0, Q4_1, Q4_K, IQ4_NL, IQ4_XS, MXFP4 | 256 | line i: low nibbles = group 2i, high nibbles = group 2i+1 |
//! | Q5_0, Q5_1, Q5_K | 320 | as above, then one line whose bit g of byte j is the fifth bit of group g |
//! | Q6_K | 384 | as Q4_0, then two lines of two bits of four groups each |
//! | Q2_K | 128 | two lines of two bits of four groups each |
//! | Q3_K | 192 | as Q2_K, then one line of third bits |
//! | Q8_0 | 512 | line g = group g, codes + 128 |
//! | F32, F16 | – | `[cols][16]` values |
//! | BF16 | – | `[cols / 2][16][2]` values: what VDPBF16PS multiplies by two broadcast activations |
//!
//! Scales (and minimums) stand apart, `[panel][block][16]` of 16 bits, so that code lines stay aligned; a
//! block is the kind's, of 32 or 256 columns. The factors of super-blocks stand apart too, as bytes. So a
//! matrix takes as many bytes as in the file, with these exceptions: Q2_K 3.125 bits a weight for 2.625,
//! Q3_K 3.5625 for 3.4375, Q4_K 4.625 for 4.5, Q5_K 5.625 for 5.5, IQ4_XS 4.3125 for 4.25, MXFP4 4.5 for 4.25.

mod layout;

use std::ops::Range;

use half::{bf16, f16};

use crate::blocks::{BLOCK, BlockKind, CodedBlock, quantise};
use crate::buffer::{Buffer, Plain};
use crate::pool::{Pool, SendPtr};

pub(crate) use layout::{
    LINE, code, code_bytes, factors_per_block, high_bits, high_place, low_bits, low_place, parts,
    scales_per_block,
};

/// Rows of a panel: the f32 lanes of a 512-bit register.
pub const PANEL_ROWS: usize = 16;

/// A weight matrix `[rows, cols]` in panels.
pub struct PackedMatrix {
    kind: BlockKind,
    rows: usize,
    cols: usize,
    /// Quantised: code lines. Float kinds: the values' bytes.
    codes: Buffer<u8>,
    /// `[panel][block of the kind][16]`, for kinds with a minimum `[…][scale 16, minimum 16]`.
    scales: Buffer<u16>,
    /// `[panel][block of 32][part][16]`, and behind a block's those of its minimums.
    factors: Buffer<i8>,
    /// `[rows]`; added to every product.
    bias: Option<Vec<f32>>,
}

/// How much of each buffer a panel has.
#[derive(Clone, Copy)]
pub(crate) struct PanelSizes {
    /// Bytes of code lines or values.
    pub(crate) codes: usize,
    /// Numbers of 16 bits.
    pub(crate) scales: usize,
    pub(crate) factors: usize,
}

impl PanelSizes {
    /// Those of a panel of `cols` columns. Vector tiers know the kind when they are compiled.
    #[inline(always)]
    pub(crate) const fn of(kind: BlockKind, cols: usize) -> PanelSizes {
        if !kind.is_quantised() {
            let codes = cols * PANEL_ROWS * kind.block_bytes();
            return PanelSizes { codes, scales: 0, factors: 0 };
        }
        PanelSizes {
            codes: cols / BLOCK * code_bytes(kind),
            scales: cols / kind.block_len() * scales_per_block(kind),
            factors: cols / BLOCK * factors_per_block(kind),
        }
    }

    const fn bytes(self) -> usize {
        self.codes + self.scales * size_of::<u16>() + self.factors
    }
}

/// One panel while it is packed.
struct Panel<'a> {
    codes: &'a mut [u8],
    scales: &'a mut [u16],
    factors: &'a mut [i8],
}

impl PackedMatrix {
    /// Packs `bytes`, the tensor as GGUF stores it: `rows` rows of `cols` values in blocks.
    ///
    /// `cols` must be a multiple of the kind's block length, and even for BF16; rows past the last whole panel are
    /// padded with zeros.
    pub fn pack(pool: &mut Pool, kind: BlockKind, shape: (usize, usize), bytes: &[u8]) -> Self {
        let (rows, cols) = shape;
        assert!(rows > 0 && cols > 0, "a matrix has rows and columns, got {rows} x {cols}");
        assert!(cols.is_multiple_of(kind.block_len()), "{cols} columns are whole {kind:?} blocks");
        assert!(kind != BlockKind::Bf16 || cols.is_multiple_of(2), "{cols} columns are pairs");
        let size = rows.checked_mul(cols).and_then(|values| values.checked_mul(4));
        assert!(size.is_some(), "{rows} x {cols} overflows");
        assert_eq!(bytes.len(), rows * kind.bytes_of(cols), "bytes of a {rows} x {cols} {kind:?}");
        let row_bytes = kind.bytes_of(cols);
        Self::pack_rows(pool, kind, shape, |row, lane, panel| {
            pack_row(kind, &bytes[row * row_bytes..(row + 1) * row_bytes], lane, panel);
        })
    }

    /// Quantises and packs rows of floats: `read(row, values)` writes a row of `cols` values. Rows are read
    /// in parallel and in any order, and only one per thread is held as floats.
    ///
    /// `kind` is one that [`quantise`] writes, `cols` a multiple of its block length.
    pub fn pack_floats(
        pool: &mut Pool,
        kind: BlockKind,
        shape: (usize, usize),
        read: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let (rows, cols) = shape;
        assert!(rows > 0 && cols > 0, "a matrix has rows and columns, got {rows} x {cols}");
        assert!(cols.is_multiple_of(kind.block_len()), "{cols} columns are whole {kind:?} blocks");
        Self::pack_rows(pool, kind, shape, |row, lane, panel| {
            let (mut values, mut blocks) = (vec![0.0; cols], vec![0; kind.bytes_of(cols)]);
            read(row, &mut values);
            quantise(kind, &values, &mut blocks);
            pack_row(kind, &blocks, lane, panel);
        })
    }

    /// Makes the buffers and calls `pack(row, lane, panel)` for every row, in parallel.
    fn pack_rows(
        pool: &mut Pool,
        kind: BlockKind,
        (rows, cols): (usize, usize),
        pack: impl Fn(usize, usize, &mut Panel<'_>) + Sync,
    ) -> Self {
        let panels = rows.div_ceil(PANEL_ROWS);
        let sizes = PanelSizes::of(kind, cols);
        let mut codes = Buffer::<u8>::zeroed(panels * sizes.codes);
        let mut scales = Buffer::<u16>::zeroed(panels * sizes.scales);
        let mut factors = Buffer::<i8>::zeroed(panels * sizes.factors);
        let starts = (
            SendPtr(codes.as_mut_ptr()),
            SendPtr(scales.as_mut_ptr()),
            SendPtr(factors.as_mut_ptr()),
        );
        pool.for_each_chunk(panels, |_, panel| {
            // SAFETY: each panel is handed out once and owns its part of the buffers.
            let mut parts = unsafe {
                Panel {
                    codes: part(starts.0, panel, sizes.codes),
                    scales: part(starts.1, panel, sizes.scales),
                    factors: part(starts.2, panel, sizes.factors),
                }
            };
            let rows = panel * PANEL_ROWS..rows.min((panel + 1) * PANEL_ROWS);
            for (lane, row) in rows.enumerate() {
                pack(row, lane, &mut parts);
            }
        });
        PackedMatrix { kind, rows, cols, codes, scales, factors, bias: None }
    }

    /// The matrix with a number for each row that is added to its products.
    pub fn with_bias(self, bias: Vec<f32>) -> Self {
        assert_eq!(bias.len(), self.rows, "a bias for each row");
        PackedMatrix { bias: Some(bias), ..self }
    }

    /// What is added to the products, `[rows]`.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// Bytes in memory of a matrix of `rows` rows, whose `cols` columns are whole blocks.
    pub const fn bytes_of(kind: BlockKind, rows: usize, cols: usize) -> usize {
        rows.div_ceil(PANEL_ROWS) * PanelSizes::of(kind, cols).bytes()
    }

    /// How the values are stored.
    pub fn kind(&self) -> BlockKind {
        self.kind
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Panels of 16 rows, the last one padded.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL_ROWS)
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let bias = self.bias.as_ref().map_or(0, |bias| bias.len() * size_of::<f32>());
        self.codes.bytes() + self.scales.bytes() + self.factors.bytes() + bias
    }

    /// Writes row `row` to `out` (length `cols`) as f32: the lookup of an embedding.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "one value per column");
        let (panel, lane) = (row / PANEL_ROWS, row % PANEL_ROWS);
        if !self.kind.is_quantised() {
            return out
                .iter_mut()
                .enumerate()
                .for_each(|(col, value)| *value = self.float(panel, col, lane));
        }
        let span = self.kind.span();
        for (block, values) in out.chunks_exact_mut(BLOCK).enumerate() {
            let codes = self.block_codes(panel, block);
            for (part, values) in values.chunks_exact_mut(span).enumerate() {
                let (scale, minimum) = self.scale(panel, (block, part), lane);
                for (i, value) in values.iter_mut().enumerate() {
                    let code = code(self.kind, codes, lane, part * span + i);
                    *value = scale * self.kind.level(code) as f32 + minimum;
                }
            }
        }
    }

    /// The code lines of one panel and block of 32 columns.
    pub(crate) fn block_codes(&self, panel: usize, block: usize) -> &[u8] {
        let bytes = code_bytes(self.kind);
        let at = (panel * (self.cols / BLOCK) + block) * bytes;
        &self.codes[at..at + bytes]
    }

    /// Scale and minimum, factors included, of one row in a part of a block of 32 columns.
    pub(crate) fn scale(
        &self,
        panel: usize,
        (block, part): (usize, usize),
        lane: usize,
    ) -> (f32, f32) {
        let kind = self.kind;
        let sizes = PanelSizes::of(kind, self.cols);
        let of_kind = block * BLOCK / kind.block_len();
        let at = panel * sizes.scales + of_kind * scales_per_block(kind) + lane;
        let factor_at = panel * sizes.factors + block * factors_per_block(kind);
        let factor = |part: usize| match kind.has_factors() {
            true => f32::from(self.factors[factor_at + part * PANEL_ROWS + lane]),
            false => 1.0,
        };
        let scale = kind.scale_value(self.scales[at]) * factor(part);
        if !kind.has_minimum() {
            return (scale, 0.0);
        }
        let minimum = kind.scale_value(self.scales[at + PANEL_ROWS]);
        (scale, minimum * factor(parts(kind) + part))
    }

    /// One value of a float kind.
    pub(crate) fn float(&self, panel: usize, col: usize, lane: usize) -> f32 {
        let size = self.kind.block_bytes();
        let at = panel * self.cols * PANEL_ROWS * size + float_at(self.kind, col, lane);
        let byte = |i: usize| self.codes[at + i];
        match self.kind {
            BlockKind::F32 => f32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]),
            BlockKind::F16 => f16::from_le_bytes([byte(0), byte(1)]).to_f32(),
            BlockKind::Bf16 => bf16::from_le_bytes([byte(0), byte(1)]).to_f32(),
            kind => panic!("{kind:?} is not a float kind"),
        }
    }

    /// Start of the code lines or values, for the vector tiers.
    pub(crate) fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// Start of the scales, for the vector tiers.
    pub(crate) fn scales(&self) -> &[u16] {
        &self.scales
    }

    /// Start of the factors, for the vector tiers.
    pub(crate) fn factors(&self) -> &[i8] {
        &self.factors
    }
}

/// # Safety
/// The buffer behind `start` has part `index` of `len` elements, which nobody else uses.
unsafe fn part<'a, T: Plain>(start: SendPtr<T>, index: usize, len: usize) -> &'a mut [T] {
    // SAFETY: by this function's contract.
    unsafe { std::slice::from_raw_parts_mut(start.get().add(index * len), len) }
}

/// Puts one row into lane `lane` of its panel.
fn pack_row(kind: BlockKind, row: &[u8], lane: usize, panel: &mut Panel<'_>) {
    if !kind.is_quantised() {
        let size = kind.block_bytes();
        for (col, value) in row.chunks_exact(size).enumerate() {
            let at = float_at(kind, col, lane);
            panel.codes[at..at + size].copy_from_slice(value);
        }
        return;
    }
    let mut coded = CodedBlock::empty();
    for (at, block) in row.chunks_exact(kind.block_bytes()).enumerate() {
        coded.read(kind, block);
        pack_block(kind, &coded, (at, lane), panel);
    }
}

/// Puts block `at` of a row into lane `lane` of its panel.
fn pack_block(
    kind: BlockKind,
    block: &CodedBlock,
    (at, lane): (usize, usize),
    panel: &mut Panel<'_>,
) {
    let scales = &mut panel.scales[of(at, scales_per_block(kind))];
    scales[lane] = block.scale;
    if kind.has_minimum() {
        scales[PANEL_ROWS + lane] = block.minimum;
    }
    let parts = parts(kind);
    for (i, codes) in block.codes[..kind.block_len()].chunks_exact(BLOCK).enumerate() {
        let small = at * (kind.block_len() / BLOCK) + i;
        let lines = &mut panel.codes[of(small, code_bytes(kind))];
        for (group, &codes) in codes.as_chunks().0.iter().enumerate() {
            layout::set_codes(kind, lines, (lane, group), codes);
        }
        let numbers = [block.factors, block.minimum_factors];
        let numbers = numbers.iter().flat_map(|numbers| &numbers[of(i, parts)]);
        let factors = &mut panel.factors[of(small, factors_per_block(kind))];
        for (factors, &number) in factors.chunks_exact_mut(PANEL_ROWS).zip(numbers) {
            factors[lane] = number;
        }
    }
}

/// Elements of the part `index` of `len` elements.
const fn of(index: usize, len: usize) -> Range<usize> {
    index * len..(index + 1) * len
}

/// Where a value of a float kind stands in its panel, in bytes.
const fn float_at(kind: BlockKind, col: usize, lane: usize) -> usize {
    let value = match kind {
        BlockKind::Bf16 => (col / 2 * PANEL_ROWS + lane) * 2 + col % 2,
        _ => col * PANEL_ROWS + lane,
    };
    value * kind.block_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::dequantise;

    #[test]
    fn packed_rows_read_back_as_the_file_has_them() {
        let mut pool = Pool::new(2);
        for kind in BlockKind::ALL {
            let block = kind.block_len().max(BLOCK);
            for (rows, cols) in [(1, block), (16, 2 * block), (37, 3 * block)] {
                let bytes = sample_bytes(kind, rows * cols);
                let packed = PackedMatrix::pack(&mut pool, kind, (rows, cols), &bytes);
                assert_eq!(packed.bytes(), PackedMatrix::bytes_of(kind, rows, cols), "{kind:?}");
                let mut expected = vec![0.0; rows * cols];
                dequantise(kind, &bytes, &mut expected);
                for row in 0..rows {
                    let mut out = vec![0.0; cols];
                    packed.read_row(row, &mut out);
                    assert_eq!(out, expected[row * cols..(row + 1) * cols], "{kind:?} row {row}");
                }
            }
        }
    }

    #[test]
    fn rows_of_floats_are_packed_as_their_blocks_are() {
        let mut pool = Pool::new(2);
        let (rows, cols) = (19, 512);
        let values: Vec<f32> = (0..rows * cols).map(|i| ((i * 97) % 1009) as f32 - 500.0).collect();
        for kind in [BlockKind::Q8_0, BlockKind::Q4_1, BlockKind::Q4_K] {
            let mut bytes = vec![0; kind.bytes_of(rows * cols)];
            quantise(kind, &values, &mut bytes);
            let expected = PackedMatrix::pack(&mut pool, kind, (rows, cols), &bytes);
            let packed = PackedMatrix::pack_floats(&mut pool, kind, (rows, cols), |row, out| {
                out.copy_from_slice(&values[row * cols..(row + 1) * cols]);
            });
            assert_eq!(packed.codes(), expected.codes(), "{kind:?}");
            assert_eq!(packed.scales(), expected.scales(), "{kind:?}");
            assert_eq!(packed.factors(), expected.factors(), "{kind:?}");
        }
    }

    #[test]
    fn packed_weights_take_little_more_than_the_file() {
        for kind in BlockKind::ALL {
            let (packed, stored) = (PackedMatrix::bytes_of(kind, 32, 512), kind.bytes_of(32 * 512));
            let more = if kind == BlockKind::Q2_K { 1.2 } else { 1.06 };
            assert!(stored <= packed && packed as f64 <= more * stored as f64, "{kind:?} {packed}");
        }
    }

    /// Bytes whose scales are sane floats and whose codes take every value.
    fn sample_bytes(kind: BlockKind, values: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..kind.bytes_of(values)).map(|i| (i * 37 + i / 7) as u8).collect();
        for block in bytes.chunks_exact_mut(kind.block_bytes()) {
            match kind {
                BlockKind::F32 => block[3] = 0x3f,
                BlockKind::F16 | BlockKind::Bf16 => block[1] = 0x3c,
                _ => kind.halves().iter().for_each(|at| block[at + 1] = 0x2c),
            }
        }
        bytes
    }
}
