//! Root-mean-square normalisation.

use crate::cpu::Cpu;
use crate::isa::Isa;
use crate::quantise::Activations;
use crate::sums::sum_of_squares;
#[cfg(target_arch = "x86_64")]
use crate::sums::{sum_of_squares_avx2, sum_of_squares_avx512};

/// Normalises each row of `x` and quantises it: `x / sqrt(mean(x²) + eps) * weight`.
///
/// Shapes: `x` [rows, cols], `weight` `[cols]`, `out` takes the rows. Squares are summed in 16 fixed
/// lanes, so a row's result depends on the row alone.
pub fn rms_norm(cpu: &mut Cpu, x: &[f32], (weight, eps): (&[f32], f32), out: &mut Activations) {
    let isa = cpu.isa();
    let cols = weight.len();
    assert_eq!(cols, out.cols(), "the norm's weight and the activations agree");
    assert!(x.len().is_multiple_of(cols), "rows are whole");
    out.fill(cpu, x.len() / cols, |row, values| {
        normalise(isa, &x[row * cols..(row + 1) * cols], (weight, eps), values);
    });
}

/// Normalises one row as [`rms_norm`] does, without quantising it.
///
/// Shapes: `x`, `weight` and `out` `[cols]`.
pub fn rms_norm_row(isa: Isa, x: &[f32], (weight, eps): (&[f32], f32), out: &mut [f32]) {
    assert_eq!(
        (x.len(), out.len()),
        (weight.len(), weight.len()),
        "the row is as long as the weight"
    );
    normalise(isa, x, (weight, eps), out);
}

fn normalise(isa: Isa, x: &[f32], norm: (&[f32], f32), out: &mut [f32]) {
    match isa {
        Isa::Scalar => normalise_body(x, sum_of_squares(x), norm, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the tier is only chosen where its instructions exist.
        Isa::Avx2 => unsafe { normalise_avx2(x, norm, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { normalise_avx512(x, norm, out) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 => unreachable!("the tier needs x86-64"),
    }
}

/// # Safety
/// The machine has the instructions named.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn normalise_avx2(x: &[f32], norm: (&[f32], f32), out: &mut [f32]) {
    normalise_body(x, sum_of_squares_avx2(x), norm, out);
}

/// # Safety
/// The machine has the instructions named.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn normalise_avx512(x: &[f32], norm: (&[f32], f32), out: &mut [f32]) {
    normalise_body(x, sum_of_squares_avx512(x), norm, out);
}

#[inline(always)]
fn normalise_body(x: &[f32], sum_of_squares: f32, (weight, eps): (&[f32], f32), out: &mut [f32]) {
    let scale = 1.0 / (sum_of_squares / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_scaled_to_unit_mean_square_times_weight() {
        let x: Vec<f32> = (0..3 * 64).map(|i| (i % 11) as f32 - 5.0).collect();
        let weight: Vec<f32> = (0..64).map(|i| 1.0 + i as f32 / 64.0).collect();
        let mut out = Activations::new(3, 64).with_floats(true);
        for isa in Isa::all_available() {
            rms_norm(&mut Cpu::new(2, isa), &x, (&weight, 1e-5), &mut out);
            for row in 0..3 {
                let x = &x[row * 64..(row + 1) * 64];
                let mut alone = [0.0; 64];
                rms_norm_row(isa, x, (&weight, 1e-5), &mut alone);
                assert_eq!(alone, out.floats().unwrap()[row * 64..(row + 1) * 64]);
                let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 64.0;
                for i in 0..64 {
                    let expected = f64::from(x[i]) / (mean + 1e-5).sqrt() * f64::from(weight[i]);
                    let got = f64::from(out.floats().unwrap()[row * 64 + i]);
                    assert!(
                        (got - expected).abs() < 1e-5,
                        "row {row} column {i}: {got} {expected}"
                    );
                }
            }
        }
    }
}
