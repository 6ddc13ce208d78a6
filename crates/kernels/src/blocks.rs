//! Block formats of GGUF tensors, and their meaning as numbers.
//!
//! Source of the formats: ggml's `block_q4_0` … `block_mxfp4`. All are little-endian. In blocks of 32 values
//! the low nibbles are values 0..16, the high ones 16..32. Super-blocks of 256 values have small whole
//! factors for each 16 or 32 values, which multiply the scale (and the minimum) of the whole:
//!
//! `value = (scale * factor) * level(code) + minimum * minimum_factor`
//!
//! where blocks of 32 have factors of 1.

mod read;
mod write;

use half::{bf16, f16};

pub(crate) use read::CodedBlock;
pub use write::quantise;

/// Values per block of activations, and per block of the smaller quantised kinds.
pub const BLOCK: usize = 32;

/// Values per super-block.
pub const SUPER_BLOCK: usize = 256;

/// How the values of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(non_camel_case_types, reason = "these are the names of the formats")]
pub enum BlockKind {
    /// 32-bit floats.
    F32,
    /// IEEE half floats.
    F16,
    /// bfloat16.
    Bf16,
    /// f16 scale, 32 signed bytes: `d * q`.
    Q8_0,
    /// f16 scale, 32 nibbles: `d * (q - 8)`.
    Q4_0,
    /// f16 scale and minimum, 32 nibbles: `d * q + m`.
    Q4_1,
    /// f16 scale, 32 fifth bits, 32 nibbles: `d * (q - 16)`.
    Q5_0,
    /// f16 scale and minimum, 32 fifth bits, 32 nibbles: `d * q + m`.
    Q5_1,
    /// 256 codes of 2 bits, for each 16 a scale and a minimum of 4 bits: `d * s * q - dmin * m`.
    Q2_K,
    /// 256 codes of 3 bits, for each 16 a scale of 6 bits: `d * s * (q - 4)`.
    Q3_K,
    /// 256 codes of 4 bits, for each 32 a scale and a minimum of 6 bits: `d * s * q - dmin * m`.
    Q4_K,
    /// 256 codes of 5 bits, for each 32 a scale and a minimum of 6 bits: `d * s * q - dmin * m`.
    Q5_K,
    /// 256 codes of 6 bits, for each 16 a scale of 8 bits: `d * s * (q - 32)`.
    Q6_K,
    /// f16 scale, 32 nibbles that name one of 16 levels: `d * level[q]`.
    Iq4Nl,
    /// 256 nibbles that name the same levels, for each 32 a scale of 6 bits: `d * s * level[q]`.
    Iq4Xs,
    /// A power of two, 32 floats of 4 bits (OCP E2M1): `2^(e - 127) * q`.
    Mxfp4,
}

/// Levels of IQ4_NL and IQ4_XS, and 128.
const IQ4_LEVELS: [u8; 16] =
    [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];
/// Twice the values of E2M1, and 12.
const E2M1_LEVELS: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

impl BlockKind {
    /// Every kind, in the order of their declaration.
    pub const ALL: [BlockKind; 16] = [
        BlockKind::F32,
        BlockKind::F16,
        BlockKind::Bf16,
        BlockKind::Q8_0,
        BlockKind::Q4_0,
        BlockKind::Q4_1,
        BlockKind::Q5_0,
        BlockKind::Q5_1,
        BlockKind::Q2_K,
        BlockKind::Q3_K,
        BlockKind::Q4_K,
        BlockKind::Q5_K,
        BlockKind::Q6_K,
        BlockKind::Iq4Nl,
        BlockKind::Iq4Xs,
        BlockKind::Mxfp4,
    ];

    /// Values in one block.
    pub const fn block_len(self) -> usize {
        use BlockKind::*;
        match self {
            F32 | F16 | Bf16 => 1,
            Q8_0 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | Iq4Nl | Mxfp4 => BLOCK,
            Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | Iq4Xs => SUPER_BLOCK,
        }
    }

    /// Bytes of one block in the file.
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockKind::F32 => 4,
            BlockKind::F16 | BlockKind::Bf16 => 2,
            BlockKind::Q8_0 => 34,
            BlockKind::Q4_0 | BlockKind::Iq4Nl => 18,
            BlockKind::Q4_1 => 20,
            BlockKind::Q5_0 => 22,
            BlockKind::Q5_1 => 24,
            BlockKind::Q2_K => 84,
            BlockKind::Q3_K => 110,
            BlockKind::Q4_K => 144,
            BlockKind::Q5_K => 176,
            BlockKind::Q6_K => 210,
            BlockKind::Iq4Xs => 136,
            BlockKind::Mxfp4 => 17,
        }
    }

    /// True if products with this kind use 8-bit integer activations.
    pub const fn is_quantised(self) -> bool {
        self.block_len() > 1
    }

    /// Where a quantised block's f16 numbers stand, in bytes from its start: the scale, then the
    /// minimum if there is one. MXFP4 has none, its scale is the byte at the start.
    pub const fn halves(self) -> &'static [usize] {
        match self {
            BlockKind::F32 | BlockKind::F16 | BlockKind::Bf16 | BlockKind::Mxfp4 => &[],
            BlockKind::Q4_1 | BlockKind::Q5_1 | BlockKind::Q4_K | BlockKind::Q5_K => &[0, 2],
            BlockKind::Q2_K => &[80, 82],
            BlockKind::Q3_K => &[108],
            BlockKind::Q6_K => &[208],
            _ => &[0],
        }
    }

    /// True if a minimum is added to every value.
    pub const fn has_minimum(self) -> bool {
        self.halves().len() == 2
    }

    /// True if scale and minimum have whole factors for each [`BlockKind::span`] values.
    pub(crate) const fn has_factors(self) -> bool {
        self.block_len() == SUPER_BLOCK
    }

    /// Values that share a scale, factors included.
    pub(crate) const fn span(self) -> usize {
        match self {
            BlockKind::Q2_K | BlockKind::Q3_K | BlockKind::Q6_K => BLOCK / 2,
            _ => BLOCK,
        }
    }

    /// What is subtracted from an unsigned level before it is scaled.
    pub(crate) const fn zero_point(self) -> i32 {
        match self {
            BlockKind::Q8_0 | BlockKind::Iq4Nl | BlockKind::Iq4Xs => 128,
            BlockKind::Q4_0 => 8,
            BlockKind::Q5_0 => 16,
            BlockKind::Q3_K => 4,
            BlockKind::Q6_K => 32,
            BlockKind::Mxfp4 => 12,
            _ => 0,
        }
    }

    /// The unsigned levels that codes name, where codes are not themselves the levels.
    pub(crate) const fn levels(self) -> Option<&'static [u8; 16]> {
        match self {
            BlockKind::Iq4Nl | BlockKind::Iq4Xs => Some(&IQ4_LEVELS),
            BlockKind::Mxfp4 => Some(&E2M1_LEVELS),
            _ => None,
        }
    }

    /// The level of a code, as it is scaled.
    pub(crate) fn level(self, code: u8) -> i32 {
        let unsigned = self.levels().map_or(code, |levels| levels[usize::from(code)]);
        i32::from(unsigned) - self.zero_point()
    }

    /// The value of a scale's or a minimum's 16 bits: f16, but bfloat16 for MXFP4, whose powers of
    /// two exceed f16.
    pub(crate) fn scale_value(self, bits: u16) -> f32 {
        match self {
            BlockKind::Mxfp4 => bf16::from_bits(bits).to_f32(),
            _ => f16::from_bits(bits).to_f32(),
        }
    }

    /// Bytes of `values` values, a whole number of blocks.
    pub const fn bytes_of(self, values: usize) -> usize {
        values / self.block_len() * self.block_bytes()
    }
}

/// Writes the values of `bytes`, whole blocks of `kind`, to `out` as f32.
pub fn dequantise(kind: BlockKind, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), kind.bytes_of(out.len()), "bytes and values agree");
    let blocks = bytes.chunks_exact(kind.block_bytes());
    let mut coded = CodedBlock::empty();
    for (block, values) in blocks.zip(out.chunks_exact_mut(kind.block_len())) {
        match kind {
            BlockKind::F32 => {
                values[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            }
            BlockKind::F16 => values[0] = f16::from_le_bytes([block[0], block[1]]).to_f32(),
            BlockKind::Bf16 => values[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
            _ => {
                coded.read(kind, block);
                dequantise_block(kind, &coded, values);
            }
        }
    }
}

fn dequantise_block(kind: BlockKind, block: &CodedBlock, values: &mut [f32]) {
    let (scale, minimum) = (kind.scale_value(block.scale), kind.scale_value(block.minimum));
    let spans = values.chunks_exact_mut(kind.span()).zip(block.codes.chunks_exact(kind.span()));
    for (i, (values, codes)) in spans.enumerate() {
        let scale = scale * f32::from(block.factors[i]);
        let minimum = minimum * f32::from(block.minimum_factors[i]);
        for (value, &code) in values.iter_mut().zip(codes) {
            *value = scale * kind.level(code) as f32 + minimum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block with scale 2, minimum -1 where there is one, and codes that differ by position.
    fn block(kind: BlockKind) -> Vec<u8> {
        let mut bytes = f16::from_f32(2.0).to_le_bytes().to_vec();
        if kind.has_minimum() {
            bytes.extend(f16::from_f32(-1.0).to_le_bytes());
        }
        if matches!(kind, BlockKind::Q5_0 | BlockKind::Q5_1) {
            bytes.extend(0x8000_0001_u32.to_le_bytes());
        }
        while bytes.len() < kind.block_bytes() {
            bytes.push(if kind == BlockKind::Q8_0 { 0xff } else { 0x52 });
        }
        bytes
    }

    #[test]
    fn blocks_have_the_values_their_format_says() {
        let check = |kind, first: f32, middle: f32, last: f32| {
            let mut out = [0.0; BLOCK];
            dequantise(kind, &block(kind), &mut out);
            assert_eq!((out[0], out[1], out[31]), (first, middle, last), "{kind:?}");
        };
        check(BlockKind::Q8_0, -2.0, -2.0, -2.0);
        check(BlockKind::Q4_0, -12.0, -12.0, -6.0);
        check(BlockKind::Q4_1, 3.0, 3.0, 9.0);
        check(BlockKind::Q5_0, 4.0, -28.0, 10.0);
        check(BlockKind::Q5_1, 35.0, 3.0, 41.0);
    }

    #[test]
    fn float_kinds_are_read_as_they_stand() {
        let mut out = [0.0; 1];
        dequantise(BlockKind::F32, &1.5_f32.to_le_bytes(), &mut out);
        assert_eq!(out, [1.5]);
        dequantise(BlockKind::F16, &f16::from_f32(-0.25).to_le_bytes(), &mut out);
        assert_eq!(out, [-0.25]);
        dequantise(BlockKind::Bf16, &bf16::from_f32(3.0).to_le_bytes(), &mut out);
        assert_eq!(out, [3.0]);
    }
}
