//! Matrix products of activations with packed weights.
//!
//! Each output is summed block by block along the columns of the weight, in one order that
//! neither the batch nor the threads change:
//!
//! `acc = fma(f32(Σ (code − zero_point)·activation), d·da, acc)`, and for kinds with a minimum then
//! `acc = fma(m, da·Σ activation, acc)`. The integer sum is exact; in a refined block it is 256
//! times the sum over the codes plus the sum over the fine codes. Float kinds do
//! `acc = fma(weight, activation, acc)` column by column. Every tier gives the same bits.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

use crate::blocks::BLOCK;
use crate::cpu::Cpu;
use crate::isa::Isa;
use crate::pack::{PANEL_ROWS, PackedMatrix};
use crate::pool::SendPtr;
use crate::quantise::Activations;

/// Panels that one unit of work multiplies.
const UNIT_PANELS: usize = 4;
/// Units are handed to threads in about this many chunks per thread.
const CHUNKS_PER_THREAD: usize = 6;
/// Rows of activations that one register tile holds at most.
const TILE_ROWS: usize = 6;

/// Writes `x · weightᵀ` for each weight side by side: `out[row] = [w0·x | w1·x | …]`.
///
/// Shapes: `x` [rows, cols], each weight [n_i, cols], `out` [rows, Σ n_i].
pub fn matmul(cpu: &mut Cpu, x: &Activations, weights: &[&PackedMatrix], out: &mut [f32]) {
    multiply(cpu, x, weights, Output { values: out, add: false });
}

/// Adds `x · weightᵀ` to `out`: the product that ends at the residual stream.
///
/// Shapes: `x` [rows, cols], `weight` [n, cols], `out` [rows, n].
pub fn matmul_add(cpu: &mut Cpu, x: &Activations, weight: &PackedMatrix, out: &mut [f32]) {
    multiply(cpu, x, &[weight], Output { values: out, add: true });
}

struct Output<'a> {
    values: &'a mut [f32],
    add: bool,
}

/// What a tile reads and writes; the tile's position comes apart from it.
#[derive(Clone, Copy)]
struct Job<'a> {
    weight: &'a PackedMatrix,
    x: &'a Activations,
    out: SendPtr<f32>,
    /// Floats between the starts of two output rows.
    out_stride: usize,
    /// Column of `out` where this weight's outputs begin.
    out_column: usize,
    add: bool,
}

/// The part of a product that one register tile computes.
#[derive(Clone, Copy)]
struct Tile {
    panel: usize,
    panels: usize,
    row: usize,
    rows: usize,
}

impl Job<'_> {
    /// Start of the outputs of `panel` in row `row`, and how many of its 16 lanes exist.
    ///
    /// # Safety
    /// `row` is a row of `x` and `panel` a panel of `weight`.
    unsafe fn output(&self, row: usize, panel: usize) -> (*mut f32, usize) {
        let lanes = PANEL_ROWS.min(self.weight.rows() - panel * PANEL_ROWS);
        let at = row * self.out_stride + self.out_column + panel * PANEL_ROWS;
        // SAFETY: `multiply` checked that `out` holds every row and column.
        (unsafe { self.out.get().add(at) }, lanes)
    }
}

fn multiply(cpu: &mut Cpu, x: &Activations, weights: &[&PackedMatrix], out: Output<'_>) {
    let rows = x.rows();
    let stride: usize = weights.iter().map(|w| w.rows()).sum();
    assert!(weights.iter().all(|w| w.cols() == x.cols()), "weights and activations agree");
    assert_eq!(out.values.len(), rows * stride, "the output holds {rows} rows of {stride}");
    let start = SendPtr(out.values.as_mut_ptr());
    let mut jobs = Vec::with_capacity(weights.len());
    let mut column = 0;
    for &weight in weights {
        jobs.push(Job {
            weight,
            x,
            out: start,
            out_stride: stride,
            out_column: column,
            add: out.add,
        });
        column += weight.rows();
    }
    let units: usize = jobs.iter().map(|job| units_of(job.weight)).sum();
    let chunks = units.min(cpu.pool.threads() * CHUNKS_PER_THREAD);
    let isa = cpu.isa();
    cpu.pool.for_each_chunk(chunks, |_, chunk| {
        for unit in chunk * units / chunks..(chunk + 1) * units / chunks {
            run_unit(isa, &jobs, unit);
        }
    });
}

fn units_of(weight: &PackedMatrix) -> usize {
    weight.panels().div_ceil(UNIT_PANELS)
}

/// Multiplies all rows with the panels of one unit. Units count through the jobs in order.
fn run_unit(isa: Isa, jobs: &[Job<'_>], mut unit: usize) {
    for job in jobs {
        let units = units_of(job.weight);
        if unit >= units {
            unit -= units;
            continue;
        }
        let panel = unit * UNIT_PANELS;
        let panels = UNIT_PANELS.min(job.weight.panels() - panel);
        let rows = job.x.rows();
        let tiles = rows.div_ceil(TILE_ROWS);
        for tile in 0..tiles {
            let (row, end) = (tile * rows / tiles, (tile + 1) * rows / tiles);
            run_tile(isa, job, Tile { panel, panels, row, rows: end - row });
        }
        return;
    }
}

fn run_tile(isa: Isa, job: &Job<'_>, tile: Tile) {
    match isa {
        Isa::Scalar => scalar::tile(job, tile),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the tier is only chosen where its instructions exist; the tile lies inside the
        // shapes that `multiply` checked, and each unit's outputs are written by one thread.
        Isa::Avx512 => unsafe { avx512::tile(job, tile) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx512 => unreachable!("the tier needs x86-64"),
    }
}

/// Blocks of 32 columns.
fn blocks_of(weight: &PackedMatrix) -> usize {
    weight.cols() / BLOCK
}
