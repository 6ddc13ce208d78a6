//! Matrix products of activations with packed weights.
//!
//! Each output is summed block by block along the columns of the weight, in one order that
//! neither the batch nor the threads change:
//!
//! `acc = fma(f32(Σ level·activation), d·da, acc)`, and for kinds with a minimum then
//! `acc = fma(m, Σ values, acc)`. The integer sum is exact. `d` and `m` are the scale and the minimum with
//! their factors, which f32 holds exactly. Kinds with a scale for each 16 values do so half block by half
//! block; `Σ values` is there without outliers. After the last block the row's outliers are added, column by
//! column: `acc = fma(f32(level), d·outlier, acc)`, and where sums are without them
//! `acc = fma(m, outlier, acc)`. Float kinds do
//! `acc = fma(weight, activation, acc)` column by column. A weight's bias, if it has one, is added last.
//! Every tier gives the same bits.
//!
//! For BF16 the activations are rounded to bfloat16 too, and of two columns the second is added first:
//! that is what VDPBF16PS computes, which multiplies twice as many as the fused f32 instruction. Bits
//! are those of the other tiers as long as no number is below 2^-126 (the instruction takes those for 0).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod kinds;
mod scalar;
mod top;
#[cfg(target_arch = "x86_64")]
mod weights;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::activation::Activation;
use crate::blocks::{BLOCK, BlockKind};
use crate::cpu::Cpu;
use crate::isa::Isa;
use crate::pack::{PANEL_ROWS, PackedMatrix, parts};
use crate::pool::SendPtr;
use crate::quantise::{Activations, Block};

pub use top::Top;

/// Rows of activations of a tile at most.
const TILE_ROWS: usize = 6;
/// The same in the AVX2 tier, which has half as many registers.
#[cfg(target_arch = "x86_64")]
const TILE_ROWS_AVX2: usize = 4;
/// Rows that are multiplied with all panels of a tile at once, so that enough sums are in flight.
const FEW_ROWS: usize = 2;
/// Panels of a tile at most.
const TILE_PANELS: usize = 4;

/// Writes `x · weightᵀ` for each weight side by side: `out[row] = [w0·x | w1·x | …]`.
///
/// Shapes: `x` [rows, cols], each weight [n_i, cols], `out` [rows, Σ n_i].
pub fn matmul(cpu: &mut Cpu, x: &Activations, weights: &[&PackedMatrix], out: &mut [f32]) {
    let products: Vec<_> = weights.iter().map(|&weight| (weight, Finish::Write)).collect();
    multiply(cpu, x, &products, out);
}

/// Adds `x · weightᵀ` to `out`: the product that ends at the residual stream.
///
/// Shapes: `x` [rows, cols], `weight` [n, cols], `out` [rows, n].
pub fn matmul_add(cpu: &mut Cpu, x: &Activations, weight: &PackedMatrix, out: &mut [f32]) {
    multiply(cpu, x, &[(weight, Finish::Add)], out);
}

/// Writes `activation(x · weightᵀ)`: the first half of a feed-forward block without gates.
///
/// Shapes: `x` [rows, cols], `weight` [n, cols], `out` [rows, n].
pub fn matmul_activated(
    cpu: &mut Cpu,
    x: &Activations,
    (weight, activation): (&PackedMatrix, Activation),
    out: &mut [f32],
) {
    multiply(cpu, x, &[(weight, Finish::Activated(activation))], out);
}

/// Writes `activation(x · gateᵀ) * (x · upᵀ)`: the first half of a gated feed-forward block.
///
/// Shapes: `x` [rows, cols], `gate` and `up` [n, cols], `out` [rows, n].
pub fn matmul_gated(
    cpu: &mut Cpu,
    x: &Activations,
    (gate, up, activation): (&PackedMatrix, &PackedMatrix, Activation),
    out: &mut [f32],
) {
    assert_eq!(gate.rows(), up.rows(), "each gate has its up");
    assert_eq!(up.cols(), x.cols(), "weights and activations agree");
    multiply(cpu, x, &[(gate, Finish::Gated { up, activation })], out);
}

/// The `counts[row]` greatest outputs of each row of `x · weightᵀ`, without writing the others: column
/// and value, the greatest first, of equals the lowest column first; all if there are fewer. None if
/// an output of the row is not a finite number.
///
/// Shapes: `x` [rows, cols], `weight` [n, cols], counts at least 1; `scratch` is kept between calls.
pub fn matmul_top(
    cpu: &mut Cpu,
    x: &Activations,
    (weight, counts): (&PackedMatrix, &[usize]),
    scratch: &mut Vec<Top>,
) -> Vec<Option<Vec<(u32, f32)>>> {
    let (rows, threads) = (x.rows(), cpu.pool.threads());
    assert_eq!(counts.len(), rows, "a count for each row");
    assert!(counts.iter().all(|&count| 0 < count), "at least one output of each row is wanted");
    scratch.resize_with(scratch.len().max(threads * rows), Top::new);
    for tops in scratch[..threads * rows].chunks_mut(rows.max(1)) {
        tops.iter_mut().zip(counts).for_each(|(top, &count)| top.start(count));
    }
    multiply(cpu, x, &[(weight, Finish::Top(SendPtr(scratch.as_mut_ptr())))], &mut []);
    let of_threads = |row| (0..threads).map(move |thread| thread * rows + row);
    (0..rows).map(|row| Top::best(counts[row], of_threads(row).map(|at| &scratch[at]))).collect()
}

/// What becomes of a product's sums.
#[derive(Clone, Copy)]
enum Finish<'a> {
    /// Only the greatest of each row are kept, `[threads][rows]`.
    Top(SendPtr<Top>),
    Write,
    Add,
    Activated(Activation),
    /// The sums are gates; `up` multiplies the same activations.
    Gated {
        up: &'a PackedMatrix,
        activation: Activation,
    },
}

/// One weight's part of a product.
struct Job<'a> {
    x: &'a Activations,
    weight: &'a PackedMatrix,
    finish: Finish<'a>,
    out: SendPtr<f32>,
    /// Floats between the starts of two output rows.
    out_stride: usize,
    /// Column of `out` where this weight's outputs begin.
    out_column: usize,
}

/// The part of a product that one register tile computes.
#[derive(Clone, Copy)]
struct Tile {
    panel: usize,
    panels: usize,
    row: usize,
    rows: usize,
}

/// The sums of a tile, `[rows][panels * 16]`.
#[repr(align(64))]
struct Sums([[f32; TILE_PANELS * PANEL_ROWS]; TILE_ROWS]);

impl Sums {
    const ZERO: Sums = Sums([[0.0; TILE_PANELS * PANEL_ROWS]; TILE_ROWS]);
}

/// Sums of one thread's current tile; of gated products also those of the ups.
struct Scratch {
    thread: usize,
    sums: Sums,
    ups: Sums,
}

fn multiply(
    cpu: &mut Cpu,
    x: &Activations,
    products: &[(&PackedMatrix, Finish<'_>)],
    out: &mut [f32],
) {
    let rows = x.rows();
    let written = |finish: &Finish<'_>| !matches!(finish, Finish::Top(_));
    let widths = products.iter().filter(|(_, finish)| written(finish)).map(|(w, _)| w.rows());
    let out_stride: usize = widths.sum();
    assert!(products.iter().all(|(w, _)| w.cols() == x.cols()), "weights and activations agree");
    assert_eq!(out.len(), rows * out_stride, "the output holds {rows} rows of {out_stride}");
    let out = SendPtr(out.as_mut_ptr());
    let mut jobs = Vec::with_capacity(products.len());
    let mut out_column = 0;
    for &(weight, finish) in products {
        jobs.push(Job { x, weight, finish, out, out_stride, out_column });
        out_column += weight.rows();
    }
    // Of few rows the weights are most of the work, and are shared out to the panel.
    let unit = if rows <= FEW_ROWS { 1 } else { TILE_PANELS };
    let units: usize = jobs.iter().map(|job| job.weight.panels().div_ceil(unit)).sum();
    let isa = cpu.isa();
    cpu.pool.for_each_range(units, |thread, units| {
        let mut scratch = Scratch { thread, sums: Sums::ZERO, ups: Sums::ZERO };
        run_units(isa, &jobs, (units, unit), &mut scratch);
    });
}

/// Multiplies all rows with a range of units of so many panels, which count through the jobs.
fn run_units(
    isa: Isa,
    jobs: &[Job<'_>],
    (units, unit): (Range<usize>, usize),
    scratch: &mut Scratch,
) {
    let mut first = 0;
    for job in jobs {
        let panels = job.weight.panels();
        let end = first + panels.div_ceil(unit);
        let (start, stop) = (units.start.max(first), units.end.min(end));
        if start < stop {
            let panels = (start - first) * unit..panels.min((stop - first) * unit);
            for panel in panels.clone().step_by(TILE_PANELS) {
                let count = TILE_PANELS.min(panels.end - panel);
                run_tiles(isa, job, (panel, count), scratch);
            }
        }
        first = end;
    }
}

/// Multiplies all rows with some panels.
fn run_tiles(isa: Isa, job: &Job<'_>, panels: (usize, usize), scratch: &mut Scratch) {
    match isa {
        Isa::Scalar => finish_tiles::<TILE_ROWS>(job, panels, scratch, scalar::sums),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the tier is only chosen where its instructions exist; the panels lie inside the
        // shapes that `multiply` checked.
        Isa::Avx2 => unsafe { avx2::finish_tiles(job, panels, scratch) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { avx512::finish_tiles(job, panels, scratch) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 => unreachable!("the tier needs x86-64"),
    }
}

/// Computes tile after tile of up to `ROWS` rows with `sums(weight, x, tile, out)`, and writes their
/// outputs.
#[inline(always)]
fn finish_tiles<const ROWS: usize>(
    job: &Job<'_>,
    (panel, panels): (usize, usize),
    scratch: &mut Scratch,
    sums: impl Fn(&PackedMatrix, &Activations, Tile, &mut Sums),
) {
    let rows = job.x.rows();
    let tiles = rows.div_ceil(ROWS);
    for tile in 0..tiles {
        let (row, end) = (tile * rows / tiles, (tile + 1) * rows / tiles);
        finish_tile(job, Tile { panel, panels, row, rows: end - row }, scratch, &sums);
    }
}

#[inline(always)]
fn finish_tile(
    job: &Job<'_>,
    tile: Tile,
    Scratch { thread, sums: values, ups }: &mut Scratch,
    sums: impl Fn(&PackedMatrix, &Activations, Tile, &mut Sums),
) {
    sums(job.weight, job.x, tile, values);
    add_bias(job.weight, tile, values);
    match job.finish {
        Finish::Write => job.each_row(tile, values, |out, values| out.copy_from_slice(values)),
        Finish::Add => job.each_row(tile, values, |out, values| {
            out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
        }),
        Finish::Activated(activation) => {
            let columns = tile.panels * PANEL_ROWS;
            for values in &mut values.0[..tile.rows] {
                values[..columns].iter_mut().for_each(|value| *value = activation.of(*value));
            }
            job.each_row(tile, values, |out, values| out.copy_from_slice(values));
        }
        Finish::Gated { up, activation } => {
            sums(up, job.x, tile, ups);
            add_bias(up, tile, ups);
            gate(tile, values, ups, activation);
            job.each_row(tile, values, |out, values| out.copy_from_slice(values));
        }
        Finish::Top(tops) => {
            // SAFETY: `matmul_top` made as many for each thread as there are rows, and a thread
            // runs one tile at a time.
            let tops = unsafe {
                let first = tops.get().add(*thread * job.x.rows() + tile.row);
                std::slice::from_raw_parts_mut(first, tile.rows)
            };
            job.take_top(tile, values, tops);
        }
    }
}

/// Adds the weight's bias to the sums of a tile, if it has one.
#[inline(always)]
fn add_bias(weight: &PackedMatrix, tile: Tile, sums: &mut Sums) {
    let Some(bias) = weight.bias() else { return };
    let bias = &bias[tile.panel * PANEL_ROWS..];
    for sums in &mut sums.0[..tile.rows] {
        let sums = &mut sums[..tile.panels * PANEL_ROWS];
        sums.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
    }
}

/// Turns sums of gates into ups times their activated gates.
#[inline(always)]
fn gate(tile: Tile, gates: &mut Sums, ups: &Sums, activation: Activation) {
    for (gates, ups) in gates.0[..tile.rows].iter_mut().zip(&ups.0) {
        for (gate, up) in gates[..tile.panels * PANEL_ROWS].iter_mut().zip(ups) {
            *gate = activation.of(*gate) * up;
        }
    }
}

impl Job<'_> {
    /// First output column of a tile, and how many it has: the last panel may be part empty.
    fn columns(&self, tile: Tile) -> (usize, usize) {
        let column = tile.panel * PANEL_ROWS;
        (column, (tile.panels * PANEL_ROWS).min(self.weight.rows() - column))
    }

    /// Calls `write(out, values)` for each row of a tile.
    #[inline(always)]
    fn each_row(&self, tile: Tile, values: &Sums, write: impl Fn(&mut [f32], &[f32])) {
        let (column, count) = self.columns(tile);
        for (row, values) in values.0[..tile.rows].iter().enumerate() {
            let at = (tile.row + row) * self.out_stride + self.out_column + column;
            // SAFETY: `multiply` checked that `out` holds every row and column, and each unit's
            // outputs are written by one thread.
            let out = unsafe { std::slice::from_raw_parts_mut(self.out.get().add(at), count) };
            write(out, &values[..count]);
        }
    }

    #[inline(always)]
    fn take_top(&self, tile: Tile, values: &Sums, tops: &mut [Top]) {
        let (column, count) = self.columns(tile);
        for (values, top) in values.0.iter().zip(tops) {
            for (panel, outputs) in values[..count].chunks(PANEL_ROWS).enumerate() {
                top.take(column + panel * PANEL_ROWS, outputs);
            }
        }
    }
}

/// Blocks of 32 columns.
fn blocks_of(weight: &PackedMatrix) -> usize {
    weight.cols() / BLOCK
}

/// The sum of codes that a part's zero point multiplies.
#[inline(always)]
fn code_sum(kind: BlockKind, x: &Block, part: usize) -> i32 {
    match (parts(kind), part) {
        (1, _) => i32::from(x.sum),
        (_, 0) => i32::from(x.first_sum),
        _ => i32::from(x.sum) - i32::from(x.first_sum),
    }
}

/// The sum of values that a part's minimum multiplies.
#[inline(always)]
fn value_sum(kind: BlockKind, x: &Block, part: usize) -> f32 {
    match parts(kind) {
        1 => x.value_sum,
        _ => x.scale * code_sum(kind, x, part) as f32,
    }
}

/// True if outliers are multiplied by the minimum one by one, because they are not in the sums.
const fn outliers_have_minimum(kind: BlockKind) -> bool {
    kind.has_minimum() && parts(kind) > 1
}

/// The activations as floats, which products with float kinds need.
fn floats_of(x: &Activations) -> &[f32] {
    x.floats().expect("activations for float weights keep their floats")
}

/// The bits of the activations as bfloat16, which products with BF16 need.
fn halves_of(x: &Activations) -> &[u16] {
    x.halves().expect("activations for float weights keep their halves")
}
