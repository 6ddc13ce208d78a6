//! Loops over a whole row, written so that the compiler makes vector instructions of them.

/// Logits in a chunk that shares one entry in the list of maxima.
pub const CHUNK: usize = 32;

/// The first index whose value is not finite.
pub fn first_non_finite(values: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7f80_0000;
    // Without an early exit inside a block the test becomes a few vector instructions.
    let block_len = 1024;
    let bad = values.chunks(block_len).position(|block| {
        block.iter().fold(false, |bad, value| bad | (value.to_bits() & EXPONENT == EXPONENT))
    })?;
    let start = bad * block_len;
    values[start..].iter().position(|value| !value.is_finite()).map(|index| start + index)
}

/// The greatest of `values`; negative infinity if there is none. No value may be NaN.
pub fn max(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a < b { b } else { a };
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, value);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}

/// Overwrites `maxima` with the maximum of each chunk of [`CHUNK`] values.
pub fn chunk_maxima(values: &[f32], maxima: &mut Vec<f32>) {
    maxima.clear();
    maxima.extend(values.chunks(CHUNK).map(max));
}

/// e^x for x ≤ 0, within 2 units in the last place; 0 below −87.
///
/// Not `f32::exp`: that one is the platform's, and a draw must be the same everywhere. Powers of
/// two come off by the exponent, the rest (at most ln 2 / 2) by its Taylor series.
#[inline]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it leaves the nearest integer in the low bits
    const LN2_HIGH: f32 = 0.693_359_4; // 355/512: products with small integers are exact
    const LN2_LOW: f32 = -2.121_944_4e-4; // ln 2 − LN2_HIGH
    let clamped = if x < -87.0 { -87.0 } else { x };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let value = (series * r) * r + r + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    let scaled = value * f32::from_bits(exponent);
    if x < -87.0 { 0.0 } else { scaled }
}

/// The sum, in 8 lanes of doubles: one order, fixed by the length.
pub fn sum(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0_f64; 8];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&value| f64::from(value)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_library_to_the_last_digits() {
        let mut worst = 0.0_f64;
        for step in 0..870_000 {
            let x = -(step as f32) * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / exact - 1.0).abs());
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst}");
        assert_eq!((exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn reductions_agree_with_simple_loops_at_every_length() {
        for len in 0_usize..100 {
            let values: Vec<f32> = (0..len).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            let plain = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&values), plain);
            assert_eq!(sum(&values), values.iter().map(|&v| f64::from(v)).sum::<f64>());
            let mut maxima = vec![9.0];
            chunk_maxima(&values, &mut maxima);
            assert_eq!(maxima.len(), len.div_ceil(CHUNK));
            assert_eq!(max(&maxima), plain);
        }
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_found() {
        let mut values = vec![1.0; 3000];
        assert_eq!(first_non_finite(&values), None);
        values[2999] = f32::NAN;
        assert_eq!(first_non_finite(&values), Some(2999));
        values[1024] = f32::NEG_INFINITY;
        assert_eq!(first_non_finite(&values), Some(1024));
    }
}
