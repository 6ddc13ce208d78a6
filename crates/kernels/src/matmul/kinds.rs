//! Kinds of blocks as constant parameters, by which the vector tiers are compiled.

use crate::blocks::BlockKind;

pub(super) const Q8_0: u8 = BlockKind::Q8_0 as u8;
pub(super) const Q4_0: u8 = BlockKind::Q4_0 as u8;
pub(super) const Q4_1: u8 = BlockKind::Q4_1 as u8;
pub(super) const Q5_0: u8 = BlockKind::Q5_0 as u8;
pub(super) const Q5_1: u8 = BlockKind::Q5_1 as u8;
pub(super) const F32: u8 = BlockKind::F32 as u8;
pub(super) const F16: u8 = BlockKind::F16 as u8;
pub(super) const BF16: u8 = BlockKind::Bf16 as u8;

/// The kind that a constant parameter stands for.
pub(super) const fn kind_of(kind: u8) -> BlockKind {
    match kind {
        Q8_0 => BlockKind::Q8_0,
        Q4_0 => BlockKind::Q4_0,
        Q4_1 => BlockKind::Q4_1,
        Q5_0 => BlockKind::Q5_0,
        Q5_1 => BlockKind::Q5_1,
        F16 => BlockKind::F16,
        BF16 => BlockKind::Bf16,
        _ => BlockKind::F32,
    }
}
