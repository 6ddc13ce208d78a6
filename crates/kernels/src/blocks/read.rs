//! Quantised blocks as codes.

use super::{BLOCK, BlockKind, SUPER_BLOCK};

/// Scales of a super-block at most.
const FACTORS: usize = SUPER_BLOCK / 16;

/// One quantised block as unsigned codes, in the order of the values.
///
/// `value = (scale * factor) * level(code) + minimum * minimum_factor`, with a factor for each
/// [`BlockKind::span`] values; those of blocks without factors are 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodedBlock {
    /// As many codes as the block has values; those behind are of no block.
    pub codes: [u8; SUPER_BLOCK],
    /// Bits of the scale, see [`BlockKind::scale_value`].
    pub scale: u16,
    /// Bits of the minimum; zero for kinds without one.
    pub minimum: u16,
    /// Whole numbers that multiply the scale.
    pub factors: [i8; FACTORS],
    /// Whole numbers that multiply the minimum.
    pub minimum_factors: [i8; FACTORS],
}

impl CodedBlock {
    /// Room for a block.
    pub(crate) fn empty() -> CodedBlock {
        CodedBlock {
            codes: [0; SUPER_BLOCK],
            scale: 0,
            minimum: 0,
            factors: [1; FACTORS],
            minimum_factors: [1; FACTORS],
        }
    }

    /// Reads one quantised block in place of the one before. `block` holds exactly
    /// `kind.block_bytes()` bytes.
    pub(crate) fn read(&mut self, kind: BlockKind, block: &[u8]) {
        assert_eq!(block.len(), kind.block_bytes(), "one whole block");
        let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let halves = kind.halves();
        self.scale = halves.first().map_or(0, |&at| half(at));
        self.minimum = halves.get(1).map_or(0, |&at| half(at));
        self.codes[..kind.block_len()].fill(0);
        if kind.has_factors() {
            // Super-blocks subtract their minimum.
            self.minimum ^= if kind.has_minimum() { 0x8000 } else { 0 };
            read_super_block(kind, block, self);
        } else {
            (self.factors, self.minimum_factors) = ([1; FACTORS], [1; FACTORS]);
            read_small_block(kind, block, self);
        }
    }
}

fn read_small_block(kind: BlockKind, block: &[u8], out: &mut CodedBlock) {
    let codes = &mut out.codes[..BLOCK];
    match kind {
        BlockKind::Q8_0 => {
            codes.iter_mut().zip(&block[2..]).for_each(|(code, byte)| *code = byte ^ 0x80);
        }
        BlockKind::Q4_0 | BlockKind::Iq4Nl => nibbles(&block[2..], codes),
        BlockKind::Q4_1 => nibbles(&block[4..], codes),
        BlockKind::Q5_0 | BlockKind::Q5_1 => {
            let (bits, low) = block[2 * kind.halves().len()..].split_at(4);
            nibbles(low, codes);
            for (i, code) in codes.iter_mut().enumerate() {
                *code |= (bits[i / 8] >> (i % 8) & 1) << 4;
            }
        }
        BlockKind::Mxfp4 => {
            out.scale = half_power(block[0]);
            nibbles(&block[1..], codes);
        }
        _ => panic!("{kind:?} has no blocks of {BLOCK} codes"),
    }
}

fn read_super_block(kind: BlockKind, block: &[u8], out: &mut CodedBlock) {
    match kind {
        BlockKind::Q2_K => {
            for (i, &both) in block[..16].iter().enumerate() {
                out.factors[i] = (both & 0x0f).cast_signed();
                out.minimum_factors[i] = (both >> 4).cast_signed();
            }
            planes(&block[16..80], (32, 2), (0, &mut out.codes));
        }
        BlockKind::Q3_K => {
            planes(&block[32..96], (32, 2), (0, &mut out.codes));
            planes(&block[..32], (32, 1), (2, &mut out.codes));
            out.factors = factors_of_q3_k(&block[96..108]);
        }
        BlockKind::Q4_K => {
            read_factors_k4(&block[4..16], out);
            planes(&block[16..], (32, 4), (0, &mut out.codes));
        }
        BlockKind::Q5_K => {
            read_factors_k4(&block[4..16], out);
            planes(&block[48..], (32, 4), (0, &mut out.codes));
            planes(&block[16..48], (32, 1), (4, &mut out.codes));
        }
        BlockKind::Q6_K => {
            planes(&block[..128], (64, 4), (0, &mut out.codes));
            planes(&block[128..192], (32, 2), (4, &mut out.codes));
            for (factor, byte) in out.factors.iter_mut().zip(&block[192..208]) {
                *factor = byte.cast_signed();
            }
        }
        BlockKind::Iq4Xs => {
            let high = u16::from_le_bytes([block[2], block[3]]);
            for i in 0..8 {
                let low = block[4 + i / 2] >> (4 * (i % 2)) & 0x0f;
                out.factors[i] = signed_factor(low, (high >> (2 * i)) as u8);
            }
            for (bytes, codes) in block[8..].chunks(BLOCK / 2).zip(out.codes.chunks_mut(BLOCK)) {
                nibbles(bytes, codes);
            }
        }
        _ => panic!("{kind:?} has no super-blocks"),
    }
}

/// 16 bytes: low nibbles, then high nibbles.
fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    planes(bytes, (BLOCK / 2, 4), (0, codes));
}

/// Adds to codes, from bit `shift` on, the parts of `bits` bits that stand in runs of `run` bytes: first
/// the lowest part of each byte of a run, then the next one of each.
fn planes(bytes: &[u8], (run, bits): (usize, usize), (shift, codes): (usize, &mut [u8])) {
    let mask = (1 << bits) - 1;
    for (bytes, codes) in bytes.chunks(run).zip(codes.chunks_mut(run * 8 / bits)) {
        for (part, codes) in codes.chunks_mut(run).enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code |= (byte >> (bits * part) & mask) << shift;
            }
        }
    }
}

/// Eight scales and eight minimums of 6 bits: the first four of each stand in the low bits of four
/// bytes, the others are nibbles whose upper two bits fill those bytes up.
fn read_factors_k4(bytes: &[u8], out: &mut CodedBlock) {
    let (scales, rest) = bytes.split_at(4);
    let (minimums, nibbles) = rest.split_at(4);
    for i in 0..4 {
        out.factors[i] = (scales[i] & 0x3f).cast_signed();
        out.minimum_factors[i] = (minimums[i] & 0x3f).cast_signed();
        out.factors[4 + i] = (nibbles[i] & 0x0f | scales[i] >> 6 << 4).cast_signed();
        out.minimum_factors[4 + i] = (nibbles[i] >> 4 | minimums[i] >> 6 << 4).cast_signed();
    }
}

/// 16 scales of 6 bits: nibbles in eight bytes, the upper two bits in the four behind.
fn factors_of_q3_k(bytes: &[u8]) -> [i8; FACTORS] {
    std::array::from_fn(|i| {
        let low = bytes[i % 8] >> (4 * (i / 8)) & 0x0f;
        signed_factor(low, bytes[8 + i % 4] >> (2 * (i / 4)))
    })
}

/// Four bits, and above them the low two of `high`, less 32.
fn signed_factor(low: u8, high: u8) -> i8 {
    (low | (high & 3) << 4).cast_signed() - 32
}

/// The bfloat16 bits of half the power of two that an E8M0 exponent says: levels are twice the
/// values.
fn half_power(exponent: u8) -> u16 {
    match exponent {
        0 | 1 => 0x20 << exponent,
        _ => u16::from(exponent - 1) << 7,
    }
}
