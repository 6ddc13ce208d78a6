//! Updates of low rank, as LoRA adapters have them: `y += x·aᵀ·bᵀ` in some rows of a product.
//!
//! The first half goes along the columns in 16 sums, each of every 16th column, which are then added
//! in halves; the second adds the ranks up in order, and their sum to `y`. Nothing is fused. So a row has
//! the same bits whatever rows are beside it, whichever threads compute, and in every tier.

use crate::buffer::Buffer;
use crate::cpu::Cpu;
use crate::isa::{Isa, Work};
use crate::pool::SendPtr;
use crate::quantise::Activations;

/// Columns that are multiplied at once, each in a sum of its own.
const LANES: usize = 16;
/// Rows of `a` that are multiplied at once, so that enough sums are in flight.
const RANKS: usize = 4;
/// Outputs that are summed at once.
const OUTPUTS: usize = 32;

/// The updates of all products that share their activations.
pub struct LowRank {
    cols: usize,
    /// The `a` of all updates below each other, each filled up with zeros to whole `RANKS`.
    a: Buffer<f32>,
    updates: Vec<Update>,
}

/// An update, of some columns of the product.
struct Update {
    /// First row of `a`.
    first_rank: usize,
    /// First column of the product.
    column: usize,
    outputs: usize,
    /// By columns, so that outputs are neighbours: `[rank, outputs]`.
    b: Buffer<f32>,
}

/// What an update is made of.
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a> {
    /// `[rank, cols]`.
    pub a: &'a [f32],
    /// `[outputs, rank]`, the update's scale in it.
    pub b: &'a [f32],
    /// Rows of `a`, at least 1.
    pub rank: usize,
    /// Column of the product at which the update's outputs begin.
    pub column: usize,
}

impl LowRank {
    /// Packs updates of products with `cols` columns of activations. Columns and outputs are multiples
    /// of 32.
    pub fn new(cols: usize, factors: &[Factors<'_>]) -> LowRank {
        assert!(cols.is_multiple_of(OUTPUTS), "{cols} columns are whole blocks of {OUTPUTS}");
        let ranks: usize = factors.iter().map(|factors| padded(factors.rank)).sum();
        let mut low_rank = LowRank { cols, a: Buffer::zeroed(ranks * cols), updates: Vec::new() };
        let mut first_rank = 0;
        for &Factors { a, b, rank, column } in factors {
            assert_eq!(a.len(), rank * cols, "a has {rank} rows of {cols}");
            assert!(b.len().is_multiple_of(rank * OUTPUTS), "outputs are whole blocks");
            let outputs = b.len() / rank;
            low_rank.a[first_rank * cols..][..a.len()].copy_from_slice(a);
            let mut by_columns = Buffer::zeroed(b.len());
            for (output, row) in b.chunks_exact(rank).enumerate() {
                for (rank, &value) in row.iter().enumerate() {
                    by_columns[rank * outputs + output] = value;
                }
            }
            low_rank.updates.push(Update { first_rank, column, outputs, b: by_columns });
            first_rank += padded(rank);
        }
        low_rank
    }

    /// Bytes that one takes with updates of these ranks and outputs.
    pub fn bytes_of(cols: usize, updates: impl Iterator<Item = (usize, usize)>) -> usize {
        let floats = updates.map(|(rank, outputs)| padded(rank) * cols + rank * outputs);
        floats.sum::<usize>() * size_of::<f32>()
    }

    /// Numbers of scratch that [`add_low_rank`] needs for each row, where updates have these ranks.
    pub fn scratch_of(ranks: impl Iterator<Item = usize>) -> usize {
        ranks.map(padded).sum()
    }

    fn ranks(&self) -> usize {
        self.a.len() / self.cols
    }
}

/// Rows that so many take in `a`.
const fn padded(rank: usize) -> usize {
    rank.next_multiple_of(RANKS)
}

/// Adds the updates to some `rows` of the product that `x`, which keeps its floats, was multiplied for.
///
/// Shapes: `x` [n, cols], `rows` ascending and below n, `out` [n, width]; `scratch` is at least as long
/// as there are rows times what [`LowRank::scratch_of`] says.
pub fn add_low_rank(
    cpu: &mut Cpu,
    x: &Activations,
    (low_rank, rows): (&LowRank, &[usize]),
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let Some(&last) = rows.last() else { return };
    let (cols, isa) = (low_rank.cols, cpu.isa());
    let floats = x.floats().expect("activations for adapters keep their floats");
    assert_eq!(cols, x.cols(), "the adapter and the activations agree");
    assert!(rows.is_sorted_by(|one, next| one < next) && last < x.rows(), "each row exists, once");
    assert!(out.len().is_multiple_of(x.rows()), "the output holds all rows");
    let width = out.len() / x.rows();
    let sums = &mut scratch[..low_rank.ranks() * rows.len()];
    let mut threads = vec![(); cpu.pool.threads()];
    cpu.pool.for_each_row(&mut threads, sums, RANKS * rows.len(), |(), block, sums| {
        let a = &low_rank.a[block * RANKS * cols..][..RANKS * cols];
        isa.run(Shrink { a, x: floats, cols, rows, sums });
    });
    let sums = &*sums;
    let out = SendPtr(out.as_mut_ptr());
    for update in &low_rank.updates {
        assert!(update.column + update.outputs <= width, "the update lies within the product");
        let units = update.outputs / OUTPUTS;
        cpu.pool.for_each_range(units, |_, units| {
            for unit in units {
                for (index, &row) in rows.iter().enumerate() {
                    let at = row * width + update.column + unit * OUTPUTS;
                    // SAFETY: `at` and what follows lies in a row of `out`, as was checked, and no two
                    // units or rows share an output.
                    let out = unsafe {
                        let first = out.get().add(at).cast::<[f32; OUTPUTS]>();
                        &mut *first
                    };
                    expand(isa, update, unit, (sums, rows.len(), index), out);
                }
            }
        });
    }
}

/// The first half for some rows of `a`.
struct Shrink<'a> {
    /// `[RANKS, cols]`.
    a: &'a [f32],
    /// `[n, cols]`.
    x: &'a [f32],
    cols: usize,
    rows: &'a [usize],
    /// `[RANKS, rows]`.
    sums: &'a mut [f32],
}

impl Work for Shrink<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Shrink { a, x, cols, rows, sums } = self;
        for (index, &row) in rows.iter().enumerate() {
            let (x, _) = x[row * cols..(row + 1) * cols].as_chunks::<LANES>();
            let mut lanes = [[0.0_f32; LANES]; RANKS];
            for (block, x) in x.iter().enumerate() {
                for (rank, lanes) in lanes.iter_mut().enumerate() {
                    let a = &a[rank * cols + block * LANES..][..LANES];
                    for ((sum, a), x) in lanes.iter_mut().zip(a).zip(x) {
                        *sum += a * x;
                    }
                }
            }
            for (rank, lanes) in lanes.iter().enumerate() {
                sums[rank * rows.len() + index] = in_halves(*lanes);
            }
        }
    }
}

/// The sum of the lanes: of each half with the other, until one is left.
#[inline(always)]
fn in_halves(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while 0 < half {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Adds the second half's block of outputs `unit` to `out`, from the sums of the `index`-th of so many rows.
fn expand(
    isa: Isa,
    update: &Update,
    unit: usize,
    (sums, rows, index): (&[f32], usize, usize),
    out: &mut [f32; OUTPUTS],
) {
    let sums = &sums[update.first_rank * rows + index..];
    isa.run(Expand { b: &update.b[unit * OUTPUTS..], outputs: update.outputs, sums, rows, out });
}

struct Expand<'a> {
    /// From the block's first output of the first rank on.
    b: &'a [f32],
    /// From one rank to the next.
    outputs: usize,
    /// From the row's sum of the first rank on.
    sums: &'a [f32],
    /// From one rank to the next.
    rows: usize,
    out: &'a mut [f32; OUTPUTS],
}

impl Work for Expand<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let mut total = [0.0_f32; OUTPUTS];
        for (b, sum) in self.b.chunks(self.outputs).zip(self.sums.iter().step_by(self.rows)) {
            for (total, b) in total.iter_mut().zip(&b[..OUTPUTS]) {
                *total += b * sum;
            }
        }
        for (out, total) in self.out.iter_mut().zip(total) {
            *out += total;
        }
    }
}
