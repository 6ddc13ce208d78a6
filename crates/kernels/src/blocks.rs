//! Block formats of GGUF tensors, and their meaning as numbers.
//!
//! Source of the formats: ggml's `block_q4_0` … `block_q8_0`. All are little-endian runs of 32
//! values with f16 scales; the low nibbles of a 4-bit block are values 0..16, the high ones 16..32.

use half::{bf16, f16};

/// Values per quantised block.
pub const BLOCK: usize = 32;

/// How the values of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
}

impl BlockKind {
    /// Every kind.
    pub const ALL: [BlockKind; 8] = [
        BlockKind::F32,
        BlockKind::F16,
        BlockKind::Bf16,
        BlockKind::Q8_0,
        BlockKind::Q4_0,
        BlockKind::Q4_1,
        BlockKind::Q5_0,
        BlockKind::Q5_1,
    ];

    /// Values in one block.
    pub const fn block_len(self) -> usize {
        match self {
            BlockKind::F32 | BlockKind::F16 | BlockKind::Bf16 => 1,
            _ => BLOCK,
        }
    }

    /// Bytes of one block in the file.
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockKind::F32 => 4,
            BlockKind::F16 | BlockKind::Bf16 => 2,
            BlockKind::Q8_0 => 34,
            BlockKind::Q4_0 => 18,
            BlockKind::Q4_1 => 20,
            BlockKind::Q5_0 => 22,
            BlockKind::Q5_1 => 24,
        }
    }

    /// True if products with this kind use 8-bit integer activations.
    pub const fn is_quantised(self) -> bool {
        self.block_len() > 1
    }

    /// True if a block carries a minimum that is added to every value.
    pub const fn has_minimum(self) -> bool {
        matches!(self, BlockKind::Q4_1 | BlockKind::Q5_1)
    }

    /// What is subtracted from an unsigned code before it is scaled.
    pub const fn zero_point(self) -> i32 {
        match self {
            BlockKind::Q8_0 => 128,
            BlockKind::Q4_0 => 8,
            BlockKind::Q5_0 => 16,
            _ => 0,
        }
    }

    /// Bytes of `values` values, a whole number of blocks.
    pub const fn bytes_of(self, values: usize) -> usize {
        values / self.block_len() * self.block_bytes()
    }
}

/// One quantised block as unsigned codes: value = `scale * (code - zero_point) + minimum`.
#[derive(Debug, Clone, Copy)]
pub struct Codes {
    /// 32 unsigned codes.
    pub codes: [u8; BLOCK],
    /// f16 bits of the scale.
    pub scale: u16,
    /// f16 bits of the minimum; zero for kinds without one.
    pub minimum: u16,
}

/// Reads one quantised block. `block` holds exactly `kind.block_bytes()` bytes.
pub fn read_codes(kind: BlockKind, block: &[u8]) -> Codes {
    assert_eq!(block.len(), kind.block_bytes(), "one whole block");
    let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
    let (minimum, body) =
        if kind.has_minimum() { (half(2), &block[4..]) } else { (0, &block[2..]) };
    let mut codes = [0; BLOCK];
    match kind {
        BlockKind::Q8_0 => (0..BLOCK).for_each(|i| codes[i] = body[i] ^ 0x80),
        BlockKind::Q4_0 | BlockKind::Q4_1 => read_nibbles(body, &mut codes),
        BlockKind::Q5_0 | BlockKind::Q5_1 => {
            read_nibbles(&body[4..], &mut codes);
            let high = u32::from_le_bytes([body[0], body[1], body[2], body[3]]);
            (0..BLOCK).for_each(|i| codes[i] |= (((high >> i) & 1) << 4) as u8);
        }
        _ => panic!("{kind:?} has no integer codes"),
    }
    Codes { codes, scale: half(0), minimum }
}

fn read_nibbles(bytes: &[u8], codes: &mut [u8; BLOCK]) {
    for i in 0..BLOCK / 2 {
        codes[i] = bytes[i] & 0x0f;
        codes[i + BLOCK / 2] = bytes[i] >> 4;
    }
}

/// Writes the values of `bytes`, whole blocks of `kind`, to `out` as f32.
pub fn dequantise(kind: BlockKind, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), kind.bytes_of(out.len()), "bytes and values agree");
    let blocks = bytes.chunks_exact(kind.block_bytes());
    for (block, values) in blocks.zip(out.chunks_exact_mut(kind.block_len())) {
        match kind {
            BlockKind::F32 => {
                values[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            }
            BlockKind::F16 => values[0] = f16::from_le_bytes([block[0], block[1]]).to_f32(),
            BlockKind::Bf16 => values[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
            _ => {
                let Codes { codes, scale, minimum } = read_codes(kind, block);
                let (d, m) = (f16::from_bits(scale).to_f32(), f16::from_bits(minimum).to_f32());
                for (value, code) in values.iter_mut().zip(codes) {
                    *value = d * (i32::from(code) - kind.zero_point()) as f32 + m;
                }
            }
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
