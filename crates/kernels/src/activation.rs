//! The exponential, and the gated activation of the feed-forward block.

use crate::cpu::Cpu;
use crate::isa::Isa;
use crate::quantise::Activations;

/// `silu(gate) * up` for each row, quantised for the product that follows.
///
/// Shapes: `gate_up` [rows, 2 * cols], the gates of a row before its ups; `out` takes [rows, cols].
pub fn swiglu(cpu: &mut Cpu, gate_up: &[f32], out: &mut Activations) {
    let (cols, isa) = (out.cols(), cpu.isa());
    assert!(gate_up.len().is_multiple_of(2 * cols), "rows are whole");
    out.fill(cpu, gate_up.len() / (2 * cols), |row, values| {
        let row = &gate_up[row * 2 * cols..(row + 1) * 2 * cols];
        let (gate, up) = row.split_at(cols);
        swiglu_row(isa, gate, up, values);
    });
}

fn swiglu_row(isa: Isa, gate: &[f32], up: &[f32], out: &mut [f32]) {
    match isa {
        Isa::Scalar => swiglu_body(gate, up, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the tier is only chosen where its instructions exist.
        Isa::Avx512 => unsafe { swiglu_avx512(gate, up, out) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx512 => unreachable!("the tier needs x86-64"),
    }
}

/// # Safety
/// The machine has the instructions named.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn swiglu_avx512(gate: &[f32], up: &[f32], out: &mut [f32]) {
    swiglu_body(gate, up, out);
}

#[inline(always)]
fn swiglu_body(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + exp(-gate)) * up;
    }
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
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let n = (x * LOG2_E).round_ties_even();
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    // 2^n in two factors, since n may lie below the smallest normal exponent.
    let half = (n as i32) >> 1;
    let rest = (n as i32) - half;
    p * f32::from_bits(((half + 127) << 23) as u32) * f32::from_bits(((rest + 127) << 23) as u32)
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
    fn swiglu_has_the_same_bits_in_every_tier() {
        let gate_up: Vec<f32> = (0..2 * 2 * 96).map(|i| (i % 37) as f32 / 3.0 - 6.0).collect();
        let mut scalar = Activations::new(2, 96);
        let mut best = Activations::new(2, 96);
        swiglu(&mut Cpu::new(2, Isa::Scalar), &gate_up, &mut scalar);
        swiglu(&mut Cpu::new(2, Isa::detect()), &gate_up, &mut best);
        assert_eq!(scalar.floats(), best.floats());
        let (gate, up) = (f64::from(gate_up[5]), f64::from(gate_up[96 + 5]));
        let expected = gate / (1.0 + (-gate).exp()) * up;
        assert!((f64::from(scalar.floats()[5]) - expected).abs() < 1e-5);
    }
}
