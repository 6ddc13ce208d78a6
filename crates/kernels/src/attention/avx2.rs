//! AVX2: the sums of 1 to 6 queries in registers, which read keys and values once. Nothing is fused, so
//! results have the bits of the scalar tier.
//!
//! What the two entries share with the other tiers is inlined into them, since what is called would be
//! compiled without the instructions.

mod floats;
mod int8;

use half::{bf16, f16};

use super::vectors::with_count;
use super::{Scratch, Span, Step, Unit, Visit};
use crate::kv::KvType;
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

/// Fills the span results of every query in `scratch`.
///
/// # Safety
/// The machine has the tier's instructions; the tiles of `span` hold `count` tokens that nobody writes.
pub(super) unsafe fn span(span: &Span<'_>, scratch: &mut Scratch) {
    // SAFETY: passed on from the contract.
    unsafe {
        match span.kind {
            KvType::Bf16 => {
                with_count!(scratch.count, N => floats::queries::<bf16, N>(span, scratch))
            }
            KvType::F16 => {
                with_count!(scratch.count, N => floats::queries::<f16, N>(span, scratch))
            }
            KvType::F32 => {
                with_count!(scratch.count, N => floats::queries::<f32, N>(span, scratch))
            }
            KvType::Int8 => with_count!(scratch.count, N => int8::queries::<N>(span, scratch)),
        }
    }
}
