//! What the tiers of vectors have in common.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

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
            count => unreachable!("a tile has 1 to 6 queries, not {count}"),
        }
    };
}
pub(super) use with_count;

/// Asks for some bytes of a tile, or of nothing if it is null, before they are needed: tiles lie
/// apart, so the hardware does not foresee them.
///
/// They go into the L2 cache. Only 24 lines can be on their way to an L1 cache (Zen 4), which is
/// less than the memory can deliver: the same into L1 read 12 GB/s with one thread in place of 17.
#[inline(always)]
pub(super) fn prefetch(tile: *const u8, (offset, bytes): (usize, usize)) {
    if tile.is_null() {
        return;
    }
    for line in (0..bytes).step_by(64) {
        let address = tile.wrapping_add(offset + line);
        // SAFETY: a prefetch has no effect on memory, whatever its address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
}
