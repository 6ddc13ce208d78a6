//! Rotary frequencies, and how a longer context than that of the training is reached with them.

use std::f64::consts::PI;
use std::ops::RangeInclusive;

use kernels::rope::{Pairing, Rotation};

/// How frequencies are changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// They are not.
    None,
    /// All are divided by `factor`.
    Linear {
        /// At least 1.
        factor: f32,
    },
    /// Those that turn slowly are divided by `factor`, those that turn fast are not, and those
    /// between go over smoothly. Source: YaRN, arXiv 2309.00071, section 3.2.
    Yarn {
        /// At least 1.
        factor: f32,
        /// Longest sequence of the training without scaling, in tokens.
        context: usize,
        /// What queries and keys are multiplied with, beside what YaRN itself does.
        magnitude: f32,
    },
    /// Each is divided by a number of the file's: of its two lists, that for long sequences where
    /// longer ones than those of the training are served, else that for short ones; so no sequence's numbers
    /// depend on how long it gets. Source: LongRoPE, arXiv 2402.13753; which list, as in llama.cpp and vLLM.
    Long {
        /// Longest sequence of the training without scaling, in tokens.
        context: usize,
        /// What queries and keys are multiplied with.
        magnitude: f32,
    },
}

impl RopeScaling {
    /// Whether a model that is asked for sequences of up to `asked_len` tokens takes the list for long ones.
    pub fn is_long(self, asked_len: usize) -> bool {
        matches!(self, RopeScaling::Long { context, .. } if context < asked_len)
    }
}

/// Range of a magnitude that a file may give.
pub const MAGNITUDE: RangeInclusive<f32> = 0.01..=100.0;

/// Turns within the context of the training, above which a frequency is fast, and below which it
/// is slow. Source: as above; llama.cpp's and the transformers library's defaults.
const FAST_TURNS: f64 = 32.0;
const SLOW_TURNS: f64 = 1.0;

/// The rotation of the first `dims` numbers of a head, with frequencies from base `theta`.
/// `divisors`, one for each pair, divide them too.
pub fn rotation(
    (dims, pairing): (usize, Pairing),
    theta: f32,
    scaling: RopeScaling,
    divisors: Option<&[f32]>,
) -> Rotation {
    let mut rotation = Rotation::new(dims, theta, pairing);
    match scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            rotation.frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
        }
        RopeScaling::Yarn { factor, context, magnitude } => {
            let slow = slow_shares(dims, theta, context);
            for (frequency, slow) in rotation.frequencies.iter_mut().zip(slow) {
                *frequency = *frequency / factor * slow + *frequency * (1.0 - slow);
            }
            rotation.magnitude = magnitude * (0.1 * factor.ln() + 1.0);
        }
        RopeScaling::Long { magnitude, .. } => rotation.magnitude = magnitude,
    }
    for (frequency, divisor) in rotation.frequencies.iter_mut().zip(divisors.unwrap_or_default()) {
        *frequency /= divisor;
    }
    rotation
}

/// For each pair how slow it turns: 0 if fast, 1 if slow.
fn slow_shares(dims: usize, theta: f32, context: usize) -> impl Iterator<Item = f32> {
    // The pair that turns so often within the context.
    let pair_of = |turns: f64| {
        let frequency = context as f64 / (turns * 2.0 * PI);
        dims as f64 * frequency.ln() / (2.0 * f64::from(theta).ln())
    };
    let first = pair_of(FAST_TURNS).floor().max(0.0);
    let last = pair_of(SLOW_TURNS).ceil().min(dims as f64 - 1.0);
    let width = if first == last { 0.001 } else { last - first };
    (0..dims / 2).map(move |pair| ((pair as f64 - first) / width).clamp(0.0, 1.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(scaling: RopeScaling, divisors: Option<&[f32]>) -> Rotation {
        rotation((8, Pairing::Halves), 10_000.0, scaling, divisors)
    }

    #[test]
    fn linear_scaling_and_divisors_divide() {
        let plain = frequencies(RopeScaling::None, None);
        for (got, expected) in plain.frequencies.iter().zip([1.0, 0.1, 0.01, 0.001]) {
            assert!((got / expected - 1.0_f32).abs() < 1e-6);
        }
        let linear = frequencies(RopeScaling::Linear { factor: 4.0 }, None);
        assert_eq!(linear.frequencies[0], 0.25);
        let divided = frequencies(RopeScaling::None, Some(&[1.0, 2.0, 8.0, 8.0]));
        let expected: Vec<f32> =
            plain.frequencies.iter().zip([1.0, 2.0, 8.0, 8.0]).map(|(f, d)| f / d).collect();
        assert_eq!((divided.frequencies, divided.magnitude), (expected, 1.0));
    }

    #[test]
    fn the_list_for_long_sequences_is_for_those_beyond_the_context() {
        let long = RopeScaling::Long { context: 8, magnitude: 1.5 };
        assert_eq!([8, 9].map(|positions| long.is_long(positions)), [false, true]);
        assert!(!RopeScaling::Linear { factor: 2.0 }.is_long(9));
        assert_eq!(frequencies(long, Some(&[1.0; 4])).magnitude, 1.5);
    }

    #[test]
    fn yarn_leaves_fast_frequencies_and_divides_slow_ones() {
        let plain = frequencies(RopeScaling::None, None).frequencies;
        let yarn = RopeScaling::Yarn { factor: 4.0, context: 1024, magnitude: 1.0 };
        let Rotation { frequencies, magnitude, .. } = frequencies(yarn, None);
        // 1024 positions are 163, 16, 1.6 and 0.16 turns.
        assert_eq!(frequencies[0], plain[0]);
        assert!(plain[1] / 4.0 < frequencies[1] && frequencies[1] < plain[1]);
        assert!((frequencies[3] - plain[3] / 4.0).abs() < 1e-9);
        assert!((magnitude - (0.1 * 4.0_f32.ln() + 1.0)).abs() < 1e-6);
    }
}
