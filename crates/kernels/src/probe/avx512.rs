//! Loops of one instruction, in enough independent chains that none waits for another.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::{Arithmetic, CHAINS};

/// Cache lines that are loaded side by side.
const LINES: usize = 8;
const LINE_BYTES: usize = 64;

/// `rounds` multiply-add instructions of each chain.
#[target_feature(enable = "avx512f,avx512vnni,avx512bf16")]
pub(super) fn multiply_adds(kind: Arithmetic, rounds: usize) {
    match kind {
        Arithmetic::Int8 => int8(rounds),
        Arithmetic::Bf16 => bf16(rounds),
        Arithmetic::F32 => f32(rounds),
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn int8(rounds: usize) {
    let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(5)));
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for (start, sum) in sums.iter_mut().enumerate() {
        // Chains that begin alike could be computed as one.
        *sum = _mm512_set1_epi32(black_box(start as i32));
    }
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn bf16(rounds: usize) {
    let a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(black_box(1.0)), _mm512_set1_ps(black_box(0.5)));
    let b = _mm512_cvtne2ps_pbh(_mm512_set1_ps(black_box(0.25)), _mm512_set1_ps(black_box(2.0)));
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    for (start, sum) in sums.iter_mut().enumerate() {
        *sum = _mm512_set1_ps(black_box(start as f32));
    }
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, a, b);
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx512f")]
fn f32(rounds: usize) {
    let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    for (start, sum) in sums.iter_mut().enumerate() {
        *sum = _mm512_set1_ps(black_box(start as f32));
    }
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(a, b, *sum);
        }
    }
    black_box(sums);
}

/// Loads every whole 512 bytes.
#[target_feature(enable = "avx512f")]
pub(super) fn read(bytes: &[u8]) {
    let mut sums = [_mm512_setzero_si512(); LINES];
    let (blocks, _) = bytes.as_chunks::<{ LINES * LINE_BYTES }>();
    for block in blocks {
        let (lines, _) = block.as_chunks::<LINE_BYTES>();
        for (sum, line) in sums.iter_mut().zip(lines) {
            // SAFETY: `line` is 64 bytes, and the load asks for no alignment.
            let line = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
            *sum = _mm512_xor_si512(*sum, line);
        }
    }
    black_box(sums);
}
