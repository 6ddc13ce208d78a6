//! Loops of one instruction on 256 bits, in enough independent chains that none waits for another.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::CHAINS;

/// `rounds` products of bytes in pairs of each chain.
#[target_feature(enable = "avx2")]
pub(super) fn int8(rounds: usize) {
    let ones = _mm256_set1_epi8(black_box(1));
    let mut chains = [_mm256_setzero_si256(); CHAINS];
    for (start, chain) in chains.iter_mut().enumerate() {
        // Chains that begin alike could be computed as one.
        *chain = _mm256_set1_epi32(black_box(start as i32));
    }
    for _ in 0..rounds {
        for chain in &mut chains {
            *chain = _mm256_maddubs_epi16(*chain, ones);
        }
    }
    black_box(chains);
}

/// `rounds` multiply-adds of each chain.
#[target_feature(enable = "avx2,fma")]
pub(super) fn f32(rounds: usize) {
    let (a, b) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(0.25)));
    let mut sums = [_mm256_setzero_ps(); CHAINS];
    for (start, sum) in sums.iter_mut().enumerate() {
        *sum = _mm256_set1_ps(black_box(start as f32));
    }
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(a, b, *sum);
        }
    }
    black_box(sums);
}
