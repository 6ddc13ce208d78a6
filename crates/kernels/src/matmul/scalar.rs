//! The reference: one output at a time, in the order that every tier keeps.

use half::bf16;

use super::{Sums, Tile, blocks_of, floats_of, halves_of, outliers_have_minimum, value_sum};
use crate::blocks::{BLOCK, BlockKind};
use crate::pack::{PANEL_ROWS, PackedMatrix, code};
use crate::quantise::Activations;

/// Computes the sums of one tile.
pub(super) fn sums(weight: &PackedMatrix, x: &Activations, tile: Tile, out: &mut Sums) {
    for (row, out) in out.0[..tile.rows].iter_mut().enumerate() {
        for (i, out) in out[..tile.panels * PANEL_ROWS].iter_mut().enumerate() {
            let at = (tile.row + row, tile.panel + i / PANEL_ROWS, i % PANEL_ROWS);
            *out = match weight.kind() {
                BlockKind::F32 | BlockKind::F16 => float_dot(weight, x, at),
                BlockKind::Bf16 => bf16_dot(weight, x, at),
                _ => quantised_dot(weight, x, at),
            };
        }
    }
}

fn quantised_dot(
    weight: &PackedMatrix,
    x: &Activations,
    (row, panel, lane): (usize, usize, usize),
) -> f32 {
    let kind = weight.kind();
    let span = kind.span();
    let (x_blocks, stride) = x.blocks();
    let blocks = blocks_of(weight);
    let level =
        |block: usize, k: usize| kind.level(code(kind, weight.block_codes(panel, block), lane, k));
    let mut acc = 0.0_f32;
    for block in 0..blocks {
        let about = &x_blocks[row * stride + block];
        let codes = &x.codes()[(row * blocks + block) * BLOCK..][..BLOCK];
        for (part, codes) in codes.chunks_exact(span).enumerate() {
            let products = codes.iter().map(|&x| i32::from(x)).enumerate();
            let products = products.map(|(i, x)| level(block, part * span + i) * x);
            let (scale, minimum) = weight.scale(panel, (block, part), lane);
            acc = (products.sum::<i32>() as f32).mul_add(scale * about.scale, acc);
            if kind.has_minimum() {
                acc = minimum.mul_add(value_sum(kind, about, part), acc);
            }
        }
    }
    for block in (0..blocks).filter(|&block| x.flags(row)[block] == 1) {
        let outliers = x_blocks[row * stride + block].outliers;
        for k in (0..BLOCK).filter(|k| outliers >> k & 1 == 1) {
            let (scale, minimum) = weight.scale(panel, (block, k / span), lane);
            let outlier = x.outliers()[(row * blocks + block) * BLOCK + k];
            acc = (level(block, k) as f32).mul_add(scale * outlier, acc);
            if outliers_have_minimum(kind) {
                acc = minimum.mul_add(outlier, acc);
            }
        }
    }
    acc
}

fn float_dot(
    weight: &PackedMatrix,
    x: &Activations,
    (row, panel, lane): (usize, usize, usize),
) -> f32 {
    let cols = weight.cols();
    let x = &floats_of(x)[row * cols..(row + 1) * cols];
    x.iter().enumerate().fold(0.0, |acc, (col, &x)| weight.float(panel, col, lane).mul_add(x, acc))
}

fn bf16_dot(
    weight: &PackedMatrix,
    x: &Activations,
    (row, panel, lane): (usize, usize, usize),
) -> f32 {
    let cols = weight.cols();
    let x = &halves_of(x)[row * cols..(row + 1) * cols];
    let add = |acc: f32, col: usize| {
        weight.float(panel, col, lane).mul_add(bf16::from_bits(x[col]).to_f32(), acc)
    };
    (0..cols).step_by(2).fold(0.0, |acc, col| add(add(acc, col + 1), col))
}
