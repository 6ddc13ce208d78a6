//! The portable bodies compiled with AVX2, without FMA: the bits of the scalar tier, in wider
//! registers.
//!
//! Everything below the two entries is inlined into them, since what is called would be compiled
//! without the instructions.

use super::{Scratch, Step, Unit, Visit};
use crate::pool::SendPtr;

/// As [`Step::store`].
///
/// # Safety
/// The machine has the instructions named.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store(step: &Step<'_>, unit: &Unit<'_>, head: usize, store: SendPtr<u8>) {
    step.store(unit, head, store);
}

/// As [`Step::attend`].
///
/// # Safety
/// The machine has the instructions named.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn attend(
    step: &Step<'_>,
    visit: Visit<'_>,
    next: Option<Visit<'_>>,
    store: SendPtr<u8>,
    scratch: &mut Scratch,
) {
    step.attend(visit, next, store, scratch);
}
