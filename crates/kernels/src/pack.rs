//! Weights packed for products: panels of 16 rows whose lanes are output columns.
//!
//! A panel holds 16 rows of the weight. Within a block of 32 columns, the four codes of one
//! column group (4 consecutive columns) of all 16 rows stand in one 64-byte line, `[16][4]`,
//! which is what VPDPBUSD multiplies by four broadcast activations. No sum crosses lanes.
//!
//! | kind | bytes of codes per panel and block | order |
//! |---|---|---|
//! | Q4_0, Q4_1 | 256 | line i: low nibbles = group 2i, high nibbles = group 2i+1 |
//! | Q5_0, Q5_1 | 320 | as above, then one line whose bit g of byte j is the fifth bit of group g |
//! | Q8_0 | 512 | line g = group g, codes + 128 |
//! | F32, F16 | – | `[cols][16]` values |
//! | BF16 | – | `[cols / 2][16][2]` values: what VDPBF16PS multiplies by two broadcast activations |
//!
//! Scales (and minimums) stand apart, `[panel][block][16]` f16, so that code lines stay aligned.

use half::{bf16, f16};

use crate::blocks::{BLOCK, BlockKind, read_codes};
use crate::buffer::Buffer;
use crate::pool::{Pool, SendPtr};

/// Rows of a panel: the f32 lanes of a 512-bit register.
pub const PANEL_ROWS: usize = 16;

/// A weight matrix `[rows, cols]` in panels.
pub struct PackedMatrix {
    kind: BlockKind,
    rows: usize,
    cols: usize,
    /// Quantised: code lines. Float kinds: the values' bytes.
    codes: Buffer<u8>,
    /// f16 bits `[panel][block][16]`, for kinds with a minimum `[panel][block][scale 16, min 16]`.
    scales: Buffer<u16>,
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
        let panels = rows.div_ceil(PANEL_ROWS);
        let (code_bytes, scale_count) = panel_sizes(kind, cols);
        let mut codes = Buffer::<u8>::zeroed(panels * code_bytes);
        let mut scales = Buffer::<u16>::zeroed(panels * scale_count);
        let (codes_start, scales_start) =
            (SendPtr(codes.as_mut_ptr()), SendPtr(scales.as_mut_ptr()));
        pool.for_each_chunk(panels, |_, panel| {
            // SAFETY: each panel is handed out once and owns its part of both buffers.
            let (codes, scales) = unsafe {
                (
                    std::slice::from_raw_parts_mut(
                        codes_start.get().add(panel * code_bytes),
                        code_bytes,
                    ),
                    std::slice::from_raw_parts_mut(
                        scales_start.get().add(panel * scale_count),
                        scale_count,
                    ),
                )
            };
            let first = panel * PANEL_ROWS;
            let row_bytes = kind.bytes_of(cols);
            let count = PANEL_ROWS.min(rows - first);
            for lane in 0..count {
                let row = &bytes[(first + lane) * row_bytes..(first + lane + 1) * row_bytes];
                pack_row(kind, row, lane, codes, scales);
            }
        });
        PackedMatrix { kind, rows, cols, codes, scales }
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
        self.codes.bytes() + self.scales.bytes()
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
        for (block, values) in out.chunks_exact_mut(BLOCK).enumerate() {
            let (scale, minimum) = self.scale(panel, block, lane);
            let codes = self.block_codes(panel, block);
            for (k, value) in values.iter_mut().enumerate() {
                let code = i32::from(code(self.kind, codes, lane, k)) - self.kind.zero_point();
                *value = scale * code as f32 + minimum;
            }
        }
    }

    /// The code lines of one panel and block.
    pub(crate) fn block_codes(&self, panel: usize, block: usize) -> &[u8] {
        let bytes = code_bytes(self.kind);
        let at = (panel * (self.cols / BLOCK) + block) * bytes;
        &self.codes[at..at + bytes]
    }

    /// Scale and minimum of one row's block.
    pub(crate) fn scale(&self, panel: usize, block: usize, lane: usize) -> (f32, f32) {
        let stride = scales_per_block(self.kind);
        let at = (panel * (self.cols / BLOCK) + block) * stride + lane;
        let scale = f16::from_bits(self.scales[at]).to_f32();
        if !self.kind.has_minimum() {
            return (scale, 0.0);
        }
        (scale, f16::from_bits(self.scales[at + PANEL_ROWS]).to_f32())
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
}

/// Bytes of codes and number of scales of one panel.
fn panel_sizes(kind: BlockKind, cols: usize) -> (usize, usize) {
    if kind.is_quantised() {
        (cols / BLOCK * code_bytes(kind), cols / BLOCK * scales_per_block(kind))
    } else {
        (cols * PANEL_ROWS * kind.block_bytes(), 0)
    }
}

/// Bytes of codes per panel and block.
pub(crate) const fn code_bytes(kind: BlockKind) -> usize {
    match kind {
        BlockKind::Q4_0 | BlockKind::Q4_1 => 256,
        BlockKind::Q5_0 | BlockKind::Q5_1 => 320,
        BlockKind::Q8_0 => 512,
        _ => 0,
    }
}

/// f16 numbers per panel and block: 16 scales, and 16 minimums where the kind has them.
pub(crate) const fn scales_per_block(kind: BlockKind) -> usize {
    if kind.has_minimum() { 2 * PANEL_ROWS } else { PANEL_ROWS }
}

/// Puts one row into lane `lane` of its panel.
fn pack_row(kind: BlockKind, row: &[u8], lane: usize, codes: &mut [u8], scales: &mut [u16]) {
    if !kind.is_quantised() {
        let size = kind.block_bytes();
        for (col, value) in row.chunks_exact(size).enumerate() {
            let at = float_at(kind, col, lane);
            codes[at..at + size].copy_from_slice(value);
        }
        return;
    }
    let lines = codes.chunks_exact_mut(code_bytes(kind));
    let scales = scales.chunks_exact_mut(scales_per_block(kind));
    for ((block, lines), scales) in row.chunks_exact(kind.block_bytes()).zip(lines).zip(scales) {
        let block = read_codes(kind, block);
        scales[lane] = block.scale;
        if kind.has_minimum() {
            scales[PANEL_ROWS + lane] = block.minimum;
        }
        for (k, &code) in block.codes.iter().enumerate() {
            set_code(kind, lines, (lane, k), code);
        }
    }
}

/// Where a value of a float kind stands in its panel, in bytes.
const fn float_at(kind: BlockKind, col: usize, lane: usize) -> usize {
    let value = match kind {
        BlockKind::Bf16 => (col / 2 * PANEL_ROWS + lane) * 2 + col % 2,
        _ => col * PANEL_ROWS + lane,
    };
    value * kind.block_bytes()
}

fn set_code(kind: BlockKind, lines: &mut [u8], (lane, k): (usize, usize), code: u8) {
    let (group, byte) = (k / 4, lane * 4 + k % 4);
    match kind {
        BlockKind::Q8_0 => lines[group * 64 + byte] = code,
        _ => {
            lines[group / 2 * 64 + byte] |= (code & 0x0f) << (4 * (group % 2));
            if matches!(kind, BlockKind::Q5_0 | BlockKind::Q5_1) {
                lines[256 + byte] |= (code >> 4) << group;
            }
        }
    }
}

/// The code of lane `lane` and column `k` (0..32) in one panel and block.
pub(crate) fn code(kind: BlockKind, lines: &[u8], lane: usize, k: usize) -> u8 {
    let (group, byte) = (k / 4, lane * 4 + k % 4);
    match kind {
        BlockKind::Q8_0 => lines[group * 64 + byte],
        _ => {
            let low = (lines[group / 2 * 64 + byte] >> (4 * (group % 2))) & 0x0f;
            if matches!(kind, BlockKind::Q5_0 | BlockKind::Q5_1) {
                low | ((lines[256 + byte] >> group) & 1) << 4
            } else {
                low
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::dequantise;

    #[test]
    fn packed_rows_read_back_as_the_file_has_them() {
        let mut pool = Pool::new(2);
        for kind in BlockKind::ALL {
            for (rows, cols) in [(1, 32), (16, 64), (37, 96)] {
                let bytes = sample_bytes(kind, rows * cols);
                let packed = PackedMatrix::pack(&mut pool, kind, (rows, cols), &bytes);
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

    /// Bytes whose scales are sane floats and whose codes take every value.
    fn sample_bytes(kind: BlockKind, values: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..kind.bytes_of(values)).map(|i| (i * 37 + i / 7) as u8).collect();
        for block in bytes.chunks_exact_mut(kind.block_bytes()) {
            match kind {
                BlockKind::F32 => block[3] = 0x3f,
                BlockKind::F16 | BlockKind::Bf16 => block[1] = 0x3c,
                _ => {
                    block[1] = 0x2c;
                    if kind.has_minimum() {
                        block[3] = 0xac;
                    }
                }
            }
        }
        bytes
    }
}
