//! The reference: one output at a time, in the order that every tier keeps.

use super::{Sums, Tile, blocks_of, floats_of};
use crate::blocks::BLOCK;
use crate::pack::{PANEL_ROWS, PackedMatrix, code};
use crate::quantise::{Activations, FINE_STEP};

/// Computes the sums of one tile.
pub(super) fn sums(weight: &PackedMatrix, x: &Activations, tile: Tile, out: &mut Sums) {
    for (row, out) in out.0[..tile.rows].iter_mut().enumerate() {
        for (i, out) in out[..tile.panels * PANEL_ROWS].iter_mut().enumerate() {
            let at = (tile.row + row, tile.panel + i / PANEL_ROWS, i % PANEL_ROWS);
            *out = if weight.kind().is_quantised() {
                quantised_dot(weight, x, at)
            } else {
                float_dot(weight, x, at)
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
    let (codes, fine_codes) = x.codes();
    let (x_blocks, stride) = x.blocks();
    let blocks = blocks_of(weight);
    let dot = |codes: &[i8], block: usize| {
        let at = row * blocks + block;
        let lines = weight.block_codes(panel, block);
        let codes = codes[at * BLOCK..(at + 1) * BLOCK].iter().enumerate();
        codes.fold(0, |dot, (k, &x)| {
            dot + (i32::from(code(kind, lines, lane, k)) - kind.zero_point()) * i32::from(x)
        })
    };
    let mut acc = 0.0_f32;
    for block in 0..blocks {
        let x = &x_blocks[row * stride + block];
        let (scale, minimum) = weight.scale(panel, block, lane);
        acc = (dot(codes, block) as f32).mul_add(scale * x.scale, acc);
        if kind.has_minimum() {
            acc = minimum.mul_add(x.value_sum, acc);
        }
    }
    for block in (0..blocks).filter(|&block| x.refined(row)[block] == 1) {
        let step = x_blocks[row * stride + block].scale * FINE_STEP;
        let (scale, _) = weight.scale(panel, block, lane);
        acc = (dot(fine_codes, block) as f32).mul_add(scale * step, acc);
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
