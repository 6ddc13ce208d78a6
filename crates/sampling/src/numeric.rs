//! Loops over a whole row, written so that the compiler makes vector instructions of them.
//!
//! All are inlined into their callers, up to [`Sampler::sample`](crate::Sampler::sample), so that
//! who calls that decides for which instructions they are compiled. (So they are loops, not closures
//! in iterators of the library, which would stay functions of their own.) Nothing here is fused or
//! reordered by the compiler: the bits are the same with any.

use std::f32::consts::LN_2;

/// Numbers that are worked on side by side.
pub const LANES: usize = 16;
/// Numbers in a block: what shares one sum, and one entry of [`Lanes`] in the list of maxima.
pub const BLOCK: usize = 512;

/// One number for each lane of a block: lane `i` stands for `i`, `i + LANES`, `i + 2 LANES`, ….
#[repr(align(64))]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lanes(pub [f32; LANES]);

/// Overwrites `maxima` with those of each block's lanes; negative infinity for a lane without
/// values. False if a value is not finite; the maxima count only if none is NaN.
#[inline(always)]
pub fn lane_maxima(values: &[f32], maxima: &mut Vec<Lanes>) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    maxima.clear();
    let mut odd = [0_u32; LANES];
    for block in values.chunks(BLOCK) {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (vectors, rest) = block.as_chunks::<LANES>();
        for vector in vectors {
            for ((lane, odd), &value) in lanes.iter_mut().zip(&mut odd).zip(vector) {
                *lane = larger(*lane, value);
                *odd |= u32::from(value.to_bits() & EXPONENT == EXPONENT);
            }
        }
        for ((lane, odd), &value) in lanes.iter_mut().zip(&mut odd).zip(rest) {
            *lane = larger(*lane, value);
            *odd |= u32::from(value.to_bits() & EXPONENT == EXPONENT);
        }
        maxima.push(Lanes(lanes));
    }
    odd.iter().all(|&odd| odd == 0)
}

impl Lanes {
    /// True if a number is at least `bound`.
    #[inline(always)]
    pub fn reaches(&self, bound: f32) -> bool {
        reaches(&self.0, bound)
    }
}

/// The greatest of all lanes; negative infinity if there is none.
#[inline(always)]
pub fn max(maxima: &[Lanes]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for other in maxima {
        for (lane, &value) in lanes.iter_mut().zip(&other.0) {
            *lane = larger(*lane, value);
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a < b { b } else { a }
}

/// Calls `visit` with the index of each value that is at least `bound`, ascending; cheap where
/// few are.
#[inline(always)]
pub fn each_at_least(values: &[f32], bound: f32, mut visit: impl FnMut(usize)) {
    let (vectors, rest) = values.as_chunks::<LANES>();
    for (index, vector) in vectors.iter().enumerate() {
        if reaches(vector, bound) {
            for (lane, _) in vector.iter().enumerate().filter(|(_, value)| bound <= **value) {
                visit(index * LANES + lane);
            }
        }
    }
    let start = vectors.len() * LANES;
    for (offset, _) in rest.iter().enumerate().filter(|(_, value)| bound <= **value) {
        visit(start + offset);
    }
}

/// How many values come before that at `index` in the order of tokens: those that are greater, and
/// those that are equal and have a lower index.
#[inline(always)]
pub fn count_before(values: &[f32], index: usize) -> u32 {
    let value = values[index];
    let mut count = 0;
    for other in &values[..index] {
        count += u32::from(value <= *other);
    }
    for other in &values[index..] {
        count += u32::from(value < *other);
    }
    count
}

#[inline(always)]
fn reaches(values: &[f32; LANES], bound: f32) -> bool {
    // Without an early exit this becomes one comparison of vectors.
    values.iter().fold(false, |found, value| found | (bound <= *value))
}

/// Turns logits into weights: `2^((logit − max) · scale)`, and 0 below `floor`.
///
/// Not `f32::exp2`: that one is the platform's, and a draw must be the same everywhere.
#[derive(Debug, Clone, Copy)]
pub struct Weigher {
    /// The greatest logit, whose weight is 1.
    pub max: f32,
    /// The least logit whose weight is not 0.
    pub floor: f32,
    /// The base-2 logarithm of e, over the temperature.
    pub scale: f32,
}

impl Weigher {
    /// The weight of one logit.
    #[inline(always)]
    pub fn weight(&self, logit: f32) -> f32 {
        let weight = exp2((logit - self.max) * self.scale);
        if logit < self.floor { 0.0 } else { weight }
    }

    /// Overwrites `weights` with those of a block's logits, of the same number; gives their
    /// sum.
    #[inline(always)]
    pub fn weigh(&self, logits: &[f32], weights: &mut [f32]) -> f64 {
        for (weight, &logit) in weights.iter_mut().zip(logits) {
            *weight = self.weight(logit);
        }
        sum_block(weights, |weight| weight)
    }
}

/// The sum of the weights that are at least `bound`.
#[inline(always)]
pub fn sum_at_least(weights: &[f32], bound: f32) -> f64 {
    let kept = |weight: f32| if weight < bound { 0.0 } else { weight };
    let mut sum = 0.0;
    for block in weights.chunks(BLOCK) {
        sum += sum_block(block, kept);
    }
    sum
}

/// The sum of what `kept` leaves of a block's weights: the second half is added to the first, then
/// of that the second half to the first, and so on. Single precision: off by 9 roundings at most,
/// 6e-7.
#[inline(always)]
fn sum_block(weights: &[f32], kept: impl Fn(f32) -> f32) -> f64 {
    let mut half = BLOCK / 2;
    let mut sums = [0.0; BLOCK / 2];
    let (first, second) = weights.split_at(half.min(weights.len()));
    for (sum, &first) in sums.iter_mut().zip(first) {
        *sum = kept(first);
    }
    for (sum, &second) in sums.iter_mut().zip(second) {
        *sum += kept(second);
    }
    while 1 < half {
        half /= 2;
        let (first, second) = sums.split_at_mut(half);
        for (first, &second) in first.iter_mut().zip(&second[..half]) {
            *first += second;
        }
    }
    f64::from(sums[0])
}

/// 2^x for x ≤ 0, within 2e-7 of it down to −126; 0 from −127 on.
///
/// The nearest integer goes to the exponent; 2 to the rest (−1/2 to 1/2) is a polynomial, the
/// minimax one among those that begin with 1 + x ln 2, whose own error is 1.1e-7.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    // Adding 1.5 · 2^23 leaves the nearest integer in the low bits. (A cast to an integer would
    // saturate, and that is not compiled to vectors.)
    const ROUND: f32 = 12_582_912.0;
    // Here the exponent becomes that of 0, and the polynomial is exactly 1.
    const LEAST: f32 = -127.0;
    let x = if x < LEAST { LEAST } else { x };
    let rounded = x + ROUND;
    let rest = x - (rounded - ROUND);
    let mut value = 0.001_330_059_3;
    for factor in [0.009_669_691, 0.055_505_585, 0.240_222_83, LN_2, 1.0] {
        value = value * rest + factor;
    }
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()) << 23;
    f32::from_bits(value.to_bits().wrapping_add(exponent))
}

/// The exponent of a positive normal number: it is at least 2 to this, and less than twice that.
pub fn exponent(value: f32) -> i32 {
    (value.to_bits() >> 23) as i32 - 127
}

/// 2^exponent, for −126 to 127.
pub fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

#[cfg(test)]
mod tests;
