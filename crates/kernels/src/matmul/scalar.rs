//! The reference: one output at a time, in the order that every tier keeps.

use super::{Job, Tile, blocks_of};
use crate::blocks::BLOCK;
use crate::pack::{PANEL_ROWS, code};

/// Computes the outputs of one tile.
pub(super) fn tile(job: &Job<'_>, tile: Tile) {
    for panel in tile.panel..tile.panel + tile.panels {
        for row in tile.row..tile.row + tile.rows {
            // SAFETY: the tile lies inside the shapes checked by `multiply`.
            let (start, lanes) = unsafe { job.output(row, panel) };
            for lane in 0..lanes {
                let sum = if job.weight.kind().is_quantised() {
                    quantised_dot(job, row, panel, lane)
                } else {
                    float_dot(job, row, panel, lane)
                };
                // SAFETY: `output` gave `lanes` floats that only this tile writes.
                unsafe {
                    let out = start.add(lane);
                    *out = if job.add { *out + sum } else { sum };
                }
            }
        }
    }
}

fn quantised_dot(job: &Job<'_>, row: usize, panel: usize, lane: usize) -> f32 {
    let (weight, kind) = (job.weight, job.weight.kind());
    let (codes, fine_codes) = job.x.codes();
    let x = job.x.blocks();
    let blocks = blocks_of(weight);
    let mut acc = 0.0_f32;
    for block in 0..blocks {
        let at = row * blocks + block;
        let lines = weight.block_codes(panel, block);
        let dot = |codes: &[i8]| {
            let codes = codes[at * BLOCK..(at + 1) * BLOCK].iter().enumerate();
            codes.fold(0, |dot, (k, &x)| {
                dot + (i32::from(code(kind, lines, lane, k)) - kind.zero_point()) * i32::from(x)
            })
        };
        let sum = if x.refined[at] == 1 { 256 * dot(codes) + dot(fine_codes) } else { dot(codes) };
        let (scale, minimum) = weight.scale(panel, block, lane);
        acc = (sum as f32).mul_add(scale * x.scales[at], acc);
        if kind.has_minimum() {
            acc = minimum.mul_add(x.value_sums[at], acc);
        }
    }
    acc
}

fn float_dot(job: &Job<'_>, row: usize, panel: usize, lane: usize) -> f32 {
    debug_assert!(lane < PANEL_ROWS);
    let cols = job.weight.cols();
    let x = &job.x.floats()[row * cols..(row + 1) * cols];
    x.iter()
        .enumerate()
        .fold(0.0, |acc, (col, &x)| job.weight.float(panel, col, lane).mul_add(x, acc))
}
