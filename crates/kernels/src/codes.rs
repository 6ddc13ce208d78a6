//! Whole numbers in place of floats: `scale * code`, symmetric, the same in every tier.

/// The largest code of 16 bits whose high byte and rest both fit 8 signed bits. Sums of 256 products
/// of such codes with 8-bit numbers fit 32 bits: `256 * 32,639 * 255 < 2^31`.
pub(crate) const CODE16_MAX: f32 = 32_639.0;

/// The largest code of 8 bits.
pub(crate) const CODE8_MAX: f32 = 127.0;

/// The scale of some values, by which codes are made of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// The value of code 1; not a number, or infinite, where a value is.
    pub step: f32,
    inverse: f32,
}

impl Scale {
    /// Takes the largest of `values` to `code_max`.
    #[inline(always)]
    pub(crate) fn of(values: &[f32], code_max: f32) -> Scale {
        // As integers, magnitudes stand in the same order, and NaN above all.
        let mut largest = 0_u32;
        for value in values {
            largest = largest.max(value.to_bits() & 0x7fff_ffff);
        }
        let largest = f32::from_bits(largest);
        // Where the inverse would overflow everything is as good as zero.
        if largest < 1e-30 {
            return Scale { step: 0.0, inverse: 0.0 };
        }
        Scale { step: largest / code_max, inverse: code_max / largest }
    }

    /// The code of one of the values, rounded to nearest, ties to even; arbitrary 16 bits where the
    /// step is not finite.
    #[inline(always)]
    pub(crate) fn code(self, value: f32) -> i32 {
        // Adding 1.5 * 2^23 rounds, and leaves the code in the low bits.
        const ROUND: f32 = 12_582_912.0;
        let shifted = value * self.inverse + ROUND;
        i32::from(shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i16)
    }
}

/// Spreads what stands out over all values: a Walsh-Hadamard transform over blocks as long as the
/// largest power of two that divides the number of values.
///
/// It keeps lengths and scalar products, and is its own inverse.
#[inline(always)]
pub(crate) fn spread(values: &mut [f32]) {
    let block = 1 << values.len().trailing_zeros();
    let mut width = 1;
    while width < block {
        for pair in values.chunks_exact_mut(2 * width) {
            let (low, high) = pair.split_at_mut(width);
            for i in 0..width {
                (low[i], high[i]) = (low[i] + high[i], low[i] - high[i]);
            }
        }
        width *= 2;
    }
    let scale = 1.0 / (block as f32).sqrt();
    values.iter_mut().for_each(|value| *value *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_nearest_whole_numbers_of_steps() {
        let values = [-3.0_f32, 0.0, 1.5, 2.999, 0.011_811, -1e-9];
        for code_max in [CODE8_MAX, CODE16_MAX] {
            let scale = Scale::of(&values, code_max);
            assert_eq!(scale.step, 3.0 / code_max);
            for value in values {
                let exact = f64::from(value) / 3.0 * f64::from(code_max);
                assert!((f64::from(scale.code(value)) - exact).abs() < 0.501, "{value}");
            }
            assert_eq!(scale.code(-3.0), -(code_max as i32));
        }
    }

    #[test]
    fn spreading_keeps_products_and_is_undone_by_spreading() {
        for (len, block) in [(64, 64), (96, 32), (256, 256)] {
            let mut values = vec![0.0_f32; len];
            (values[3], values[5]) = (7.0, 0.25);
            let original = values.clone();
            spread(&mut values);
            // One large value becomes equal parts of its block.
            let part = 7.0 / (block as f32).sqrt();
            assert!(values[..block].iter().all(|x| (x.abs() - part).abs() < 0.05), "{values:?}");
            assert!(values[block..].iter().all(|&x| x == 0.0));
            let product: f32 = values.iter().map(|x| x * x).sum();
            assert!((product - 49.0625).abs() < 1e-4, "{product}");
            spread(&mut values);
            let worst =
                values.iter().zip(&original).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-6, "{worst}");
        }
    }

    #[test]
    fn tiny_values_are_zero_and_broken_ones_are_seen() {
        let zero = Scale::of(&[1e-40, -1e-38, 0.0], CODE16_MAX);
        assert_eq!((zero.step, zero.code(1e-38)), (0.0, 0));
        assert!(Scale::of(&[1.0, -f32::NAN, 2.0], CODE8_MAX).step.is_nan());
        assert_eq!(Scale::of(&[1.0, f32::NEG_INFINITY], CODE8_MAX).step, f32::INFINITY);
    }
}
