//! Products against sums in double precision of what weights and activations stand for.

use half::f16;

use super::*;
use crate::blocks::dequantise;

const ROWS: usize = 3;
const COLS: usize = 512;
const OUTPUTS: usize = 20;

/// Numbers that look random in 0..1.
fn unit(i: usize) -> f32 {
    ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32
}

fn tensor(kind: BlockKind) -> Vec<u8> {
    let bytes = 0..kind.bytes_of(OUTPUTS * COLS);
    let mut bytes: Vec<u8> = bytes.map(|i| (unit(i) * 256.0) as u8).collect();
    for (i, block) in bytes.chunks_exact_mut(kind.block_bytes()).enumerate() {
        for &at in kind.halves() {
            let scale = f16::from_f32(unit(i + at) - 0.4);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
        if kind == BlockKind::Mxfp4 {
            block[0] = 120 + (i % 8) as u8;
        }
    }
    bytes
}

/// What the codes and outliers of `x` stand for.
fn values_of(x: &Activations) -> Vec<f64> {
    let (blocks, stride) = x.blocks();
    let value = |at: usize| {
        let (row, col) = (at / COLS, at % COLS);
        let about = blocks[row * stride + col / BLOCK];
        let code = f64::from(about.scale) * f64::from(x.codes()[at]);
        let is_outlier = about.outliers >> (col % BLOCK) & 1 == 1;
        code + if is_outlier { f64::from(x.outliers()[at]) } else { 0.0 }
    };
    (0..ROWS * COLS).map(value).collect()
}

#[test]
fn products_are_those_of_the_quantised_activations() {
    let mut values: Vec<f32> = (0..ROWS * COLS).map(|i| unit(i) - 0.5).collect();
    values.iter_mut().step_by(101).for_each(|value| *value *= 40.0);
    for isa in Isa::all_available() {
        let mut cpu = Cpu::new(1, isa);
        let mut x = Activations::new(ROWS, COLS);
        x.quantise(&mut cpu, &values);
        let exact_x = values_of(&x);
        for kind in BlockKind::ALL.into_iter().filter(|kind| kind.is_quantised()) {
            let bytes = tensor(kind);
            let mut weight = vec![0.0; OUTPUTS * COLS];
            dequantise(kind, &bytes, &mut weight);
            let packed = PackedMatrix::pack(&mut cpu.pool, kind, (OUTPUTS, COLS), &bytes);
            let mut out = vec![0.0; ROWS * OUTPUTS];
            matmul(&mut cpu, &x, &[&packed], &mut out);
            for (at, out) in out.iter().enumerate() {
                let x = &exact_x[at / OUTPUTS * COLS..][..COLS];
                let weight = &weight[at % OUTPUTS * COLS..][..COLS];
                let terms = || x.iter().zip(weight).map(|(x, w)| x * f64::from(*w));
                let (sum, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                let error = (f64::from(*out) - sum).abs();
                assert!(error < 3e-7 * size, "{kind:?} {isa}: {out} for {sum}, of {size}");
            }
        }
    }
}
