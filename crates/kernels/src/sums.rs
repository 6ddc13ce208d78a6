//! Sums of floats in an order that no tier changes.

/// Σ x in 16 lanes that are added pairwise at the end.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for chunk in x.chunks(16) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    add_lanes(lanes)
}

/// Σ x² in 16 lanes that are added pairwise at the end.
#[inline(always)]
pub(crate) fn sum_of_squares(x: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let chunks = x.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value * value;
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value * value;
    }
    add_lanes(lanes)
}

/// As [`sum_of_squares`], bit for bit, with the lanes in two registers.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn sum_of_squares_avx2(x: &[f32]) -> f32 {
    use std::arch::x86_64::*;
    let (mut low, mut high) = (_mm256_setzero_ps(), _mm256_setzero_ps());
    let (lines, rest) = x.as_chunks::<16>();
    for line in lines {
        // SAFETY: the line has 16 floats.
        let halves =
            unsafe { (_mm256_loadu_ps(line.as_ptr()), _mm256_loadu_ps(line.as_ptr().add(8))) };
        low = _mm256_add_ps(low, _mm256_mul_ps(halves.0, halves.0));
        high = _mm256_add_ps(high, _mm256_mul_ps(halves.1, halves.1));
    }
    let mut lanes = [0.0; 16];
    // SAFETY: `lanes` has 16 floats.
    unsafe {
        _mm256_storeu_ps(lanes.as_mut_ptr(), low);
        _mm256_storeu_ps(lanes.as_mut_ptr().add(8), high);
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value * value;
    }
    add_lanes(lanes)
}

/// As [`sum_of_squares`], bit for bit, with the lanes in a register.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn sum_of_squares_avx512(x: &[f32]) -> f32 {
    use std::arch::x86_64::*;
    let mut sums = _mm512_setzero_ps();
    let (lines, rest) = x.as_chunks::<16>();
    for line in lines {
        // SAFETY: the line has 16 floats.
        let line = unsafe { _mm512_loadu_ps(line.as_ptr()) };
        sums = _mm512_add_ps(sums, _mm512_mul_ps(line, line));
    }
    let mut lanes = [0.0; 16];
    // SAFETY: `lanes` has 16 floats.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sums) };
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value * value;
    }
    add_lanes(lanes)
}

/// The sum of 16 lanes, pairwise.
#[inline(always)]
pub(crate) fn add_lanes(mut lanes: [f32; 16]) -> f32 {
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}
