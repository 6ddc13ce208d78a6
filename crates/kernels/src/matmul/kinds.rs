//! Kinds of blocks as constant parameters, by which the vector tiers are compiled.

use crate::blocks::BlockKind;

pub(super) const F32: u8 = BlockKind::F32 as u8;
pub(super) const F16: u8 = BlockKind::F16 as u8;
pub(super) const BF16: u8 = BlockKind::Bf16 as u8;
pub(super) const Q8_0: u8 = BlockKind::Q8_0 as u8;
pub(super) const Q4_0: u8 = BlockKind::Q4_0 as u8;
pub(super) const Q4_1: u8 = BlockKind::Q4_1 as u8;
pub(super) const Q5_0: u8 = BlockKind::Q5_0 as u8;
pub(super) const Q5_1: u8 = BlockKind::Q5_1 as u8;
pub(super) const Q2_K: u8 = BlockKind::Q2_K as u8;
pub(super) const Q3_K: u8 = BlockKind::Q3_K as u8;
pub(super) const Q4_K: u8 = BlockKind::Q4_K as u8;
pub(super) const Q5_K: u8 = BlockKind::Q5_K as u8;
pub(super) const Q6_K: u8 = BlockKind::Q6_K as u8;
pub(super) const IQ4NL: u8 = BlockKind::Iq4Nl as u8;
pub(super) const IQ4XS: u8 = BlockKind::Iq4Xs as u8;
pub(super) const MXFP4: u8 = BlockKind::Mxfp4 as u8;

/// The kind that a constant parameter stands for.
pub(super) const fn kind_of(kind: u8) -> BlockKind {
    BlockKind::ALL[kind as usize]
}

/// Calls `$function::<KIND>(…)` with the constant of the kind `$kind`.
macro_rules! by_kind {
    ($kind:expr, $function:ident, $($argument:expr),+) => {
        match $kind {
            BlockKind::F32 => $function::<F32>($($argument),+),
            BlockKind::F16 => $function::<F16>($($argument),+),
            BlockKind::Bf16 => $function::<BF16>($($argument),+),
            BlockKind::Q8_0 => $function::<Q8_0>($($argument),+),
            BlockKind::Q4_0 => $function::<Q4_0>($($argument),+),
            BlockKind::Q4_1 => $function::<Q4_1>($($argument),+),
            BlockKind::Q5_0 => $function::<Q5_0>($($argument),+),
            BlockKind::Q5_1 => $function::<Q5_1>($($argument),+),
            BlockKind::Q2_K => $function::<Q2_K>($($argument),+),
            BlockKind::Q3_K => $function::<Q3_K>($($argument),+),
            BlockKind::Q4_K => $function::<Q4_K>($($argument),+),
            BlockKind::Q5_K => $function::<Q5_K>($($argument),+),
            BlockKind::Q6_K => $function::<Q6_K>($($argument),+),
            BlockKind::Iq4Nl => $function::<IQ4NL>($($argument),+),
            BlockKind::Iq4Xs => $function::<IQ4XS>($($argument),+),
            BlockKind::Mxfp4 => $function::<MXFP4>($($argument),+),
        }
    };
}
pub(super) use by_kind;
