//! Norms of rows: by the root mean square, or by mean and deviation.

use crate::cpu::Cpu;
use crate::isa::Isa;
use crate::pool::SendPtr;
use crate::quantise::Activations;
use crate::sums::{sum, sum_of_squares};
#[cfg(target_arch = "x86_64")]
use crate::sums::{sum_of_squares_avx2, sum_of_squares_avx512};

/// A norm with its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// `[cols]`
    weight: Vec<f32>,
    /// `[cols]`, of a layer norm; none of a norm by the root mean square.
    bias: Option<Vec<f32>>,
    eps: f32,
}

impl Norm {
    /// `x / sqrt(mean(x²) + eps) * weight`.
    pub fn rms(weight: Vec<f32>, eps: f32) -> Norm {
        Norm { weight, bias: None, eps }
    }

    /// `(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`.
    pub fn layer(weight: Vec<f32>, bias: Vec<f32>, eps: f32) -> Norm {
        assert_eq!(weight.len(), bias.len(), "a bias for each weight");
        Norm { weight, bias: Some(bias), eps }
    }

    /// Numbers of a row.
    pub fn cols(&self) -> usize {
        self.weight.len()
    }

    /// Normalises one row of [`Norm::cols`] numbers. Sums run in 16 fixed lanes, so the result has
    /// the same bits in every tier.
    pub fn apply(&self, isa: Isa, row: &mut [f32]) {
        assert_eq!(row.len(), self.cols(), "the row is as long as the weight");
        match isa {
            Isa::Scalar => self.apply_with(row, sum_of_squares),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the tier is only chosen where its instructions exist.
            Isa::Avx2 => unsafe { apply_avx2(self, row) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { apply_avx512(self, row) },
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => unreachable!("the tier needs x86-64"),
        }
    }

    #[inline(always)]
    fn apply_with(&self, row: &mut [f32], squares: impl Fn(&[f32]) -> f32) {
        let count = row.len() as f32;
        if self.bias.is_some() {
            let mean = sum(row) / count;
            row.iter_mut().for_each(|x| *x -= mean);
        }
        let scale = 1.0 / (squares(row) / count + self.eps).sqrt();
        for (x, weight) in row.iter_mut().zip(&self.weight) {
            *x = *x * scale * weight;
        }
        for (x, bias) in row.iter_mut().zip(self.bias.iter().flatten()) {
            *x += bias;
        }
    }
}

/// # Safety
/// The machine has the instructions named.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn apply_avx2(norm: &Norm, row: &mut [f32]) {
    norm.apply_with(row, |row| sum_of_squares_avx2(row));
}

/// # Safety
/// The machine has the instructions named.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn apply_avx512(norm: &Norm, row: &mut [f32]) {
    norm.apply_with(row, |row| sum_of_squares_avx512(row));
}

/// Normalises each row of `x` and quantises it.
///
/// Shapes: `x` [rows, cols], `out` takes the rows.
pub fn normalise(cpu: &mut Cpu, x: &[f32], norm: &Norm, out: &mut Activations) {
    let (isa, cols) = (cpu.isa(), norm.cols());
    assert_eq!(cols, out.cols(), "the norm's weight and the activations agree");
    assert!(x.len().is_multiple_of(cols), "rows are whole");
    out.fill(cpu, x.len() / cols, |row, values| {
        values.copy_from_slice(&x[row * cols..(row + 1) * cols]);
        norm.apply(isa, values);
    });
}

/// Normalises each row of `x` in place, and adds it to `out`.
///
/// Shapes: `x` and `out` [rows, cols].
pub fn normalise_add(cpu: &mut Cpu, x: &mut [f32], norm: &Norm, out: &mut [f32]) {
    let (isa, cols) = (cpu.isa(), norm.cols());
    assert!(x.len().is_multiple_of(cols), "rows are whole");
    assert_eq!(x.len(), out.len(), "as many rows are added as there are");
    let out = SendPtr(out.as_mut_ptr());
    let mut threads = vec![(); cpu.pool.threads()];
    cpu.pool.for_each_row(&mut threads, x, cols, |(), row, values| {
        norm.apply(isa, values);
        // SAFETY: `out` has as many rows as `x`, and each is handed out once.
        let out = unsafe { std::slice::from_raw_parts_mut(out.get().add(row * cols), cols) };
        out.iter_mut().zip(values).for_each(|(out, value)| *out += *value);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<f32> {
        (0..3 * 64).map(|i| (i % 11) as f32 - 5.0 + (i / 64) as f32).collect()
    }

    /// Rows normalised in f64.
    fn exact(norm: &Norm, x: &[f32]) -> Vec<f64> {
        let mut out = Vec::new();
        for row in x.chunks(64) {
            let mean =
                |of: &dyn Fn(f64) -> f64| row.iter().map(|v| of(f64::from(*v))).sum::<f64>() / 64.0;
            let middle = if norm.bias.is_some() { mean(&|v| v) } else { 0.0 };
            let spread = (mean(&|v| (v - middle).powi(2)) + f64::from(norm.eps)).sqrt();
            for (i, x) in row.iter().enumerate() {
                let bias = norm.bias.as_ref().map_or(0.0, |bias| f64::from(bias[i]));
                out.push((f64::from(*x) - middle) / spread * f64::from(norm.weight[i]) + bias);
            }
        }
        out
    }

    #[test]
    fn rows_are_normalised_as_the_formulas_say_wherever_they_go() {
        let weight: Vec<f32> = (0..64).map(|i| 1.0 + i as f32 / 64.0).collect();
        let bias: Vec<f32> = (0..64).map(|i| 0.5 - i as f32 / 50.0).collect();
        let norms = [Norm::rms(weight.clone(), 1e-5), Norm::layer(weight, bias, 1e-5)];
        let x = rows();
        let mut activations = Activations::new(3, 64).with_floats(true);
        for (isa, norm) in Isa::all_available().flat_map(|isa| norms.iter().map(move |n| (isa, n)))
        {
            let cpu = &mut Cpu::new(2, isa);
            normalise(cpu, &x, norm, &mut activations);
            let floats = activations.floats().unwrap();
            for (got, expected) in floats.iter().zip(exact(norm, &x)) {
                assert!((f64::from(*got) - expected).abs() < 1e-5, "{got} {expected}");
            }
            let mut added = vec![0.0; x.len()];
            normalise_add(cpu, &mut x.clone(), norm, &mut added);
            assert_eq!(added, floats);
        }
    }
}
