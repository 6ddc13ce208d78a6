//! How codes and their scales stand in a panel.
//!
//! Codes of 3, 5 and 6 bits are cut in two: low parts of 2 or 4 bits, high parts of 1 or 2. A line of 64
//! bytes holds the low (or the high) parts of as many column groups as fit a byte, group after group
//! from its lowest bits up: byte `4 * lane + k % 4` is about column `k` of row `lane`. Lines of low
//! parts come first.

use super::PANEL_ROWS;
use crate::blocks::{BLOCK, BlockKind};

/// Bytes of a line of codes: four columns of all rows.
pub(crate) const LINE: usize = 4 * PANEL_ROWS;

/// Bits of the low part of a code.
pub(crate) const fn low_bits(kind: BlockKind) -> usize {
    match kind {
        BlockKind::F32 | BlockKind::F16 | BlockKind::Bf16 => 0,
        BlockKind::Q8_0 => 8,
        BlockKind::Q2_K | BlockKind::Q3_K => 2,
        _ => 4,
    }
}

/// Bits of the high part of a code.
pub(crate) const fn high_bits(kind: BlockKind) -> usize {
    match kind {
        BlockKind::Q3_K | BlockKind::Q5_0 | BlockKind::Q5_1 | BlockKind::Q5_K => 1,
        BlockKind::Q6_K => 2,
        _ => 0,
    }
}

/// The line of a group's low parts, and their lowest bit.
pub(crate) const fn low_place(kind: BlockKind, group: usize) -> (usize, usize) {
    let bit = group * low_bits(kind);
    (bit / 8, bit % 8)
}

/// The line of a group's high parts, and their lowest bit.
pub(crate) const fn high_place(kind: BlockKind, group: usize) -> (usize, usize) {
    let bit = group * high_bits(kind);
    (low_bits(kind) + bit / 8, bit % 8)
}

/// Bytes of codes per panel and block of 32 columns.
pub(crate) const fn code_bytes(kind: BlockKind) -> usize {
    (low_bits(kind) + high_bits(kind)) * LINE
}

/// Numbers of 16 bits per panel and block of the kind: 16 scales, and 16 minimums where the kind has
/// them.
pub(crate) const fn scales_per_block(kind: BlockKind) -> usize {
    if kind.has_minimum() { 2 * PANEL_ROWS } else { PANEL_ROWS }
}

/// Parts of 32 columns that have a scale of their own.
pub(crate) const fn parts(kind: BlockKind) -> usize {
    BLOCK / kind.span()
}

/// Factors per panel and block of 32 columns, `[part][16]`, and those of minimums behind.
pub(crate) const fn factors_per_block(kind: BlockKind) -> usize {
    if kind.has_factors() { parts(kind) * scales_per_block(kind) } else { 0 }
}

/// Puts the codes of lane `lane` in column group `group` (0..8) into the lines, which are zero there.
pub(super) fn set_codes(
    kind: BlockKind,
    lines: &mut [u8],
    (lane, group): (usize, usize),
    codes: [u8; 4],
) {
    let codes = u32::from_le_bytes(codes);
    let mut put = |(line, bit): (usize, usize), codes: u32| {
        let at = line * LINE + 4 * lane;
        for (place, code) in lines[at..at + 4].iter_mut().zip((codes << bit).to_le_bytes()) {
            *place |= code;
        }
    };
    put(low_place(kind, group), codes & each_byte(mask(low_bits(kind))));
    if 0 < high_bits(kind) {
        let high = codes >> low_bits(kind) & each_byte(mask(high_bits(kind)));
        put(high_place(kind, group), high);
    }
}

/// The code of lane `lane` and column `k` (0..32) in one panel and block.
pub(crate) fn code(kind: BlockKind, lines: &[u8], lane: usize, k: usize) -> u8 {
    let (group, byte) = (k / 4, lane * 4 + k % 4);
    let (line, bit) = low_place(kind, group);
    let low = lines[line * LINE + byte] >> bit & mask(low_bits(kind));
    if high_bits(kind) == 0 {
        return low;
    }
    let (line, bit) = high_place(kind, group);
    let high = lines[line * LINE + byte] >> bit & mask(high_bits(kind));
    low | high << low_bits(kind)
}

/// The lowest bits of a byte, 1 to 8 of them.
const fn mask(bits: usize) -> u8 {
    0xff >> (8 - bits)
}

const fn each_byte(byte: u8) -> u32 {
    u32::from_le_bytes([byte; 4])
}
