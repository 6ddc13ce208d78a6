//! The exponential, and the activations of the feed-forward block, number by number; and of rows, where
//! something was added to a product before they are bent.

use crate::cpu::Cpu;
use crate::isa::Work;

/// What bends the numbers inside a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`
    Silu,
    /// GELU by the hyperbolic tangent: `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`
    GeluTanh,
}

impl Activation {
    /// The activation of one number; the same bits in every tier.
    #[inline(always)]
    pub(crate) fn of(self, x: f32) -> f32 {
        match self {
            Activation::Silu => x * sigmoid(x),
            Activation::GeluTanh => {
                // (1 + tanh(y)) / 2 = sigmoid(2y)
                const TWICE_ROOT: f32 = 1.595_769;
                x * sigmoid(TWICE_ROOT * (x + 0.044715 * x * x * x))
            }
        }
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// e^x to about 2 units in the last place, the same bits in every tier: no fused operations.
///
/// `x = n ln 2 + r` with |r| ≤ ln 2 / 2; e^r by its Taylor polynomial of degree 7, whose error
/// there is below 1e-8. Clamped at 88, so that the result stays finite; below -104 it is 0.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, so that n * LN2_HIGH is exact for the n that occur.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits. (A cast
    // to an integer would saturate, and that is not compiled to vectors.)
    const ROUND: f32 = 12_582_912.0;
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let exponent = shifted.to_bits().cast_signed().wrapping_sub(ROUND.to_bits().cast_signed());
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    // 2^n in two factors, since n may lie below the smallest normal exponent.
    let half = exponent >> 1;
    let rest = exponent.wrapping_sub(half);
    p * power_of_two(half) * power_of_two(rest)
}

/// 2^n for n from -126 to 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23).cast_unsigned())
}

/// Bends every number of `rows`, in rows of `width`: what [`crate::matmul::matmul_activated`] does to its
/// product, bit for bit.
pub fn activate(cpu: &mut Cpu, activation: Activation, rows: &mut [f32], width: usize) {
    let isa = cpu.isa();
    let mut threads = vec![(); cpu.pool.threads()];
    cpu.pool.for_each_row(&mut threads, rows, width, |(), _, values| {
        isa.run(Activate { activation, values });
    });
}

/// Writes `activation(gate) * up` of rows with gates and ups side by side: what
/// [`crate::matmul::matmul_gated`] makes of its products, bit for bit.
///
/// Shapes: `gates_and_ups` [rows, 2 width], `out` [rows, width].
pub fn gate(
    cpu: &mut Cpu,
    activation: Activation,
    gates_and_ups: &[f32],
    (out, width): (&mut [f32], usize),
) {
    assert_eq!(gates_and_ups.len(), 2 * out.len(), "each number has its gate and its up");
    let isa = cpu.isa();
    let mut threads = vec![(); cpu.pool.threads()];
    cpu.pool.for_each_row(&mut threads, out, width, |(), row, out| {
        let (gates, ups) = gates_and_ups[2 * row * width..2 * (row + 1) * width].split_at(width);
        isa.run(Gate { activation, gates, ups, out });
    });
}

struct Activate<'a> {
    activation: Activation,
    values: &'a mut [f32],
}

impl Work for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.values.iter_mut().for_each(|value| *value = self.activation.of(*value));
    }
}

struct Gate<'a> {
    activation: Activation,
    gates: &'a [f32],
    ups: &'a [f32],
    out: &'a mut [f32],
}

impl Work for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((out, &gate), up) in self.out.iter_mut().zip(self.gates).zip(self.ups) {
            *out = self.activation.of(gate) * up;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_three_units_of_the_last_place() {
        for i in -8_700..8_700 {
            let x = i as f32 / 100.0;
            let (got, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / expected - 1.0).abs() < 3.6e-7, "exp({x}) = {got}, not {expected}");
        }
    }

    #[test]
    fn exp_ends_at_zero_and_passes_nan_on() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(1000.0).is_finite());
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn activations_are_as_their_formulas_say() {
        for x in [-80.0_f32, -6.0, -0.3, 0.0, 0.7, 30.0, 200.0] {
            let exact = f64::from(x);
            let silu = exact / (1.0 + (-exact).exp());
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (exact + 0.044715 * exact.powi(3));
            let gelu = 0.5 * exact * (1.0 + inner.tanh());
            for (kind, expected) in [(Activation::Silu, silu), (Activation::GeluTanh, gelu)] {
                let got = f64::from(kind.of(x));
                assert!((got - expected).abs() < 1e-5, "{kind:?} of {x}: {got}, not {expected}");
            }
        }
    }
}
