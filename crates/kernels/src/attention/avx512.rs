//! One span with AVX-512: lanes are tokens for the scores, dimensions for the values.
//!
//! A file for each way to multiply; each keeps the sums of 1 to 6 queries in registers.

mod bf16;
mod floats;
mod int8;

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use half::f16;

use super::{Scratch, Span, TILE_QUERIES};
use crate::kv::KvType;

/// Evaluates an expression in which `$n` is the number of queries, known to the compiler.
macro_rules! with_count {
    ($count:expr, $n:ident => $call:expr) => {
        match $count {
            1 => {
                const $n: usize = 1;
                $call
            }
            2 => {
                const $n: usize = 2;
                $call
            }
            3 => {
                const $n: usize = 3;
                $call
            }
            4 => {
                const $n: usize = 4;
                $call
            }
            5 => {
                const $n: usize = 5;
                $call
            }
            6 => {
                const $n: usize = 6;
                $call
            }
            count => unreachable!("a tile has 1 to {TILE_QUERIES} queries, not {count}"),
        }
    };
}

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

/// Asks for some bytes of a tile, or of nothing if it is null, before they are needed: tiles lie
/// apart, so the hardware does not foresee them.
///
/// They go into the L2 cache. Only 24 lines can be on their way to an L1 cache (Zen 4), which is
/// less than the memory can deliver: the same into L1 read 12 GB/s with one thread in place of 17.
#[inline(always)]
fn prefetch(tile: *const u8, (offset, bytes): (usize, usize)) {
    if tile.is_null() {
        return;
    }
    for line in (0..bytes).step_by(64) {
        let address = tile.wrapping_add(offset + line);
        // SAFETY: a prefetch has no effect on memory, whatever its address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
}
