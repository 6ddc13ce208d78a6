//! Floats as quantised blocks.

use half::f16;

use super::{BLOCK, BlockKind, SUPER_BLOCK};

/// Writes `values` to `out` as whole blocks of `kind`, which is Q8_0, Q4_1 or Q4_K, codes rounded to
/// nearest.
///
/// A block with a value that is not finite, or beyond what f16 scales reach, becomes NaN.
pub fn quantise(kind: BlockKind, values: &[f32], out: &mut [u8]) {
    assert_eq!(out.len(), kind.bytes_of(values.len()), "bytes and values agree");
    let blocks = out.chunks_exact_mut(kind.block_bytes());
    for (values, block) in values.chunks_exact(kind.block_len()).zip(blocks) {
        let sum: f32 = values.iter().map(|value| value * 0.0).sum();
        match kind {
            BlockKind::Q8_0 => write_q8_0(values, block),
            BlockKind::Q4_1 => write_q4_1(values, block),
            BlockKind::Q4_K => write_q4_k(values, block),
            _ => panic!("{kind:?} is not a kind to quantise to"),
        }
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]);
        if sum.is_nan() || kind.halves().iter().any(|&at| !half(at).is_finite()) {
            block[..2].copy_from_slice(&f16::NAN.to_le_bytes());
        }
    }
}

/// Writes a scale or minimum as f16; gives what it has become.
fn write_half(out: &mut [u8], value: f32) -> f32 {
    let half = f16::from_f32(value);
    out[..2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// One by the step, or zero where all values are.
fn inverse(step: f32) -> f32 {
    if step == 0.0 { 0.0 } else { 1.0 / step }
}

fn write_q8_0(values: &[f32], block: &mut [u8]) {
    let most = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let inverse = inverse(write_half(block, most / 127.0));
    for (byte, value) in block[2..].iter_mut().zip(values) {
        // A scale that f16 rounded down would give 127.1: the conversion saturates.
        *byte = ((value * inverse).round_ties_even().clamp(-127.0, 127.0) as i8).cast_unsigned();
    }
}

fn write_q4_1(values: &[f32], block: &mut [u8]) {
    let (least, most) = range(values);
    let inverse = inverse(write_half(block, (most - least) / 15.0));
    let minimum = write_half(&mut block[2..], least);
    write_nibbles(values, |value| code4((value - minimum) * inverse), &mut block[4..]);
}

/// A scale and a minimum for each 32 values, both as 6-bit parts of the largest.
fn write_q4_k(values: &[f32], block: &mut [u8]) {
    let fits: [Fit; SUPER_BLOCK / BLOCK] =
        std::array::from_fn(|i| Fit::of(&values[i * BLOCK..(i + 1) * BLOCK]));
    let largest = |of: fn(&Fit) -> f32| fits.iter().map(of).fold(0.0, f32::max);
    let scale = write_half(block, largest(|fit| fit.scale) / 63.0);
    let minimum = write_half(&mut block[2..], largest(|fit| fit.below) / 63.0);
    let part = |of: f32, whole: f32| (of * inverse(whole)).round_ties_even().min(63.0) as u8;
    for (i, values) in values.chunks_exact(2 * BLOCK).enumerate() {
        let mut codes = [[0; BLOCK]; 2];
        for half in 0..2 {
            let fit = &fits[2 * i + half];
            let factors = (part(fit.scale, scale), part(fit.below, minimum));
            set_factors(&mut block[4..16], 2 * i + half, factors);
            let inverse = inverse(scale * f32::from(factors.0));
            let below = minimum * f32::from(factors.1);
            for (code, value) in codes[half].iter_mut().zip(&values[half * BLOCK..]) {
                *code = code4((value + below) * inverse);
            }
        }
        for (k, byte) in block[16 + i * BLOCK..][..BLOCK].iter_mut().enumerate() {
            *byte = codes[0][k] | codes[1][k] << 4;
        }
    }
}

/// Puts the 6-bit factors of scale and minimum `i` where [`super::read`] finds them.
fn set_factors(bytes: &mut [u8], i: usize, (scale, minimum): (u8, u8)) {
    if i < 4 {
        bytes[i] |= scale;
        bytes[4 + i] |= minimum;
    } else {
        bytes[4 + i] = scale & 0x0f | minimum << 4;
        bytes[i - 4] |= scale >> 4 << 6;
        bytes[i] |= minimum >> 4 << 6;
    }
}

/// How values are best spread over codes of 4 bits: `scale * code - below`.
struct Fit {
    scale: f32,
    /// At least 0.
    below: f32,
}

impl Fit {
    /// The best of some steps around the one that reaches from the least to the largest value, each
    /// with the scale and minimum of least squares for its codes.
    fn of(values: &[f32]) -> Fit {
        let (least, most) = range(values);
        let least = least.min(0.0);
        let reach = most - least;
        if reach <= 0.0 {
            return Fit { scale: 0.0, below: -least };
        }
        let mut best = Fit { scale: reach / 15.0, below: -least };
        let mut least_error = best.error(values, 15.0 / reach, least);
        for tenths in -8..=8_i8 {
            let inverse = (15.0 + 0.1 * f32::from(tenths)) / reach;
            let fit = Fit::of_codes(values, inverse, least);
            let error = fit.error(values, inverse, least);
            if error < least_error {
                (best, least_error) = (fit, error);
            }
        }
        best
    }

    /// Least squares for the codes of one step.
    fn of_codes(values: &[f32], inverse: f32, least: f32) -> Fit {
        let (mut codes, mut squares, mut sum, mut products) = (0.0, 0.0, 0.0, 0.0);
        for value in values {
            let code = f32::from(code4((value - least) * inverse));
            codes += code;
            squares += code * code;
            sum += value;
            products += code * value;
        }
        let count = values.len() as f32;
        let scale = (count * products - codes * sum) / (count * squares - codes * codes);
        let below = (scale * codes - sum) / count;
        if below < 0.0 {
            return Fit { scale: products / squares, below: 0.0 };
        }
        Fit { scale, below }
    }

    /// The sum of squared errors for the codes of one step; infinite for a scale below zero.
    fn error(&self, values: &[f32], inverse: f32, least: f32) -> f32 {
        let error = |value: &f32| {
            let code = f32::from(code4((value - least) * inverse));
            (self.scale * code - self.below - value).powi(2)
        };
        if self.scale > 0.0 { values.iter().map(error).sum() } else { f32::INFINITY }
    }
}

fn range(values: &[f32]) -> (f32, f32) {
    let limits = (f32::INFINITY, f32::NEG_INFINITY);
    values.iter().fold(limits, |(least, most), &value| (least.min(value), most.max(value)))
}

fn code4(code: f32) -> u8 {
    code.round_ties_even().clamp(0.0, 15.0) as u8
}

/// 16 bytes: codes of the first half low, of the second high.
fn write_nibbles(values: &[f32], code: impl Fn(f32) -> u8, out: &mut [u8]) {
    let (low, high) = values.split_at(BLOCK / 2);
    for (byte, (&low, &high)) in out.iter_mut().zip(low.iter().zip(high)) {
        *byte = code(low) | code(high) << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::dequantise;

    const KINDS: [BlockKind; 3] = [BlockKind::Q8_0, BlockKind::Q4_1, BlockKind::Q4_K];

    fn quantised(kind: BlockKind, values: &[f32]) -> Vec<f32> {
        let mut bytes = vec![0; kind.bytes_of(values.len())];
        quantise(kind, values, &mut bytes);
        let mut out = vec![0.0; values.len()];
        dequantise(kind, &bytes, &mut out);
        out
    }

    /// Sums of 12 numbers that look random, so about normal.
    fn normal(count: usize) -> Vec<f32> {
        let mut state = 1_u32;
        let mut unit = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        (0..count).map(|_| (0..12).map(|_| unit()).sum::<f32>() - 6.0).collect()
    }

    #[test]
    fn errors_are_those_of_so_many_bits() {
        let values = normal(256 * 64);
        let size: f32 = values.iter().map(|x| x * x).sum();
        for (kind, limit) in KINDS.into_iter().zip([0.006, 0.09, 0.08]) {
            let out = quantised(kind, &values);
            let error: f32 = values.iter().zip(&out).map(|(a, b)| (a - b).powi(2)).sum();
            let relative = (error / size).sqrt();
            assert!((limit / 2.0..limit).contains(&relative), "{kind:?}: {relative}");
        }
    }

    #[test]
    fn what_a_format_holds_exactly_is_kept() {
        for kind in KINDS {
            for values in [[0.0; 256], [-2.0; 256]] {
                let out = quantised(kind, &values);
                let near = values.iter().zip(&out).all(|(a, b)| (a - b).abs() < 2e-3);
                assert!(near, "{kind:?}: {out:?}");
            }
            let steps: Vec<f32> = (0..256).map(|i| (i % 16) as f32 - 8.0).collect();
            let out = quantised(kind, &steps);
            let near = steps.iter().zip(&out).all(|(a, b)| (a - b).abs() < 0.05);
            assert!(near, "{kind:?}: {out:?}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_large_is_seen_and_tiny_numbers_are_zero() {
        for kind in KINDS {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
                let mut values = normal(256);
                values[200] = bad;
                assert!(quantised(kind, &values)[200].is_nan(), "{kind:?} {bad}");
            }
            assert_eq!(quantised(kind, &[1e-40; 256]), [0.0; 256], "{kind:?}");
        }
    }
}
