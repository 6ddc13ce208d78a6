//! One span with AVX-512: lanes are tokens for the scores, dimensions for the values.
//!
//! A file for each way to multiply; each keeps the sums of 1 to 6 queries in registers.

mod bf16;
mod floats;
mod int8;

use half::f16;

use super::vectors::with_count;
use super::{Scratch, Span};
use crate::kv::KvType;

/// Fills the span results of every query in `scratch`.
///
/// # Safety
/// The machine has the instructions; the tiles of `span` hold `count` tokens that nobody writes.
pub(super) unsafe fn span(span: &Span<'_>, scratch: &mut Scratch) {
    // SAFETY: passed on from the contract.
    unsafe {
        match span.kind {
            KvType::Bf16 => with_count!(scratch.count, N => bf16::queries::<N>(span, scratch)),
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
