//! Activations as 8-bit integers: the right side of a quantised product.
//!
//! A block of 32 values is `scale * code` with codes in -127..=127 and `scale = max|x| / 127`,
//! rounded to nearest, ties to even. One large value makes the whole block coarse, and a few
//! blocks with large values hold most of a row's rounding error (in SmolLM2 one block of 18 holds
//! 59 % of it before the query, key and value products). So a block whose largest value exceeds
//! [`REFINE_ABOVE`] times the root mean square of its row (of its head, for attention's output, which
//! is quantised head by head) is refined: a second code says what the first left over, in steps of `scale / 256`. Products pay for it only in those blocks.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::blocks::BLOCK;
use crate::buffer::{Buffer, Plain};
use crate::cpu::Cpu;
use crate::isa::Isa;
use crate::pool::SendPtr;
use crate::sums::sum_of_squares;

/// Blocks with values above this many root mean squares of their row are refined.
///
/// Measured on the default model against a float32 forward (`cargo test -p model --test reference`),
/// mean difference of the five best log-probabilities: 0.095 with no block refined, 0.053 at 6,
/// 0.044 at 4.5, 0.036 at 3, 0.020 at 1.8, 0.011 with every block refined. At 4.5 a tenth of the
/// blocks (feed-forward input) to a fifth (feed-forward output) are refined; refining all of them
/// would cost products two fifths of their speed.
pub const REFINE_ABOVE: f32 = 4.5;

/// A fine code's step, in steps of the first code.
pub(crate) const FINE_STEP: f32 = 1.0 / 256.0;
/// Flags of a row are a multiple of this long, so that they are read 64 at a time.
pub(crate) const FLAG_GROUP: usize = 64;

/// Rows of activations, `[rows][cols]`, as codes and, for weights of float kinds, as floats.
pub struct Activations {
    cols: usize,
    rows: usize,
    rows_max: usize,
    /// Empty unless asked for.
    floats: Buffer<f32>,
    codes: Buffer<i8>,
    /// Second codes, of refined blocks only; what stands elsewhere is left from earlier steps.
    fine_codes: Buffer<i8>,
    /// `[rows][block_stride]`.
    blocks: Buffer<Block>,
    /// 1 where a block is refined, `[rows][flag_stride]`; 0 behind a row's last block.
    refined: Buffer<u8>,
    /// One row of values for each thread.
    scratch: Vec<f32>,
}

/// What is known of one block.
#[repr(C, align(16))]
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Block {
    /// Of one code step; a fine step is a 256th of it.
    pub scale: f32,
    /// Sum of the block's values as the codes give them, which minimums multiply.
    pub value_sum: f32,
    /// Sum of codes, which zero points multiply.
    pub sum: i32,
    /// Sum of fine codes; 0 where the block is not refined.
    pub fine_sum: i32,
}

// SAFETY: four numbers of four bytes, without padding.
unsafe impl Plain for Block {}

/// Blocks from one row to the next: whole cache lines, so that threads with neighbouring rows do
/// not write the same line.
const fn block_stride(cols: usize) -> usize {
    (cols / BLOCK).next_multiple_of(64 / size_of::<Block>())
}

/// Flags from one row to the next.
const fn flag_stride(cols: usize) -> usize {
    (cols / BLOCK).next_multiple_of(FLAG_GROUP)
}

impl Activations {
    /// Room for `rows_max` rows of `cols` values, as codes only. `cols` must be a multiple of 32.
    pub fn new(rows_max: usize, cols: usize) -> Activations {
        assert!(cols.is_multiple_of(BLOCK), "{cols} columns are whole blocks of {BLOCK}");
        let values = rows_max.checked_mul(cols).expect("rows times columns overflows");
        Activations {
            cols,
            rows: 0,
            rows_max,
            floats: Buffer::zeroed(0),
            codes: Buffer::zeroed(values),
            fine_codes: Buffer::zeroed(values),
            blocks: Buffer::zeroed(rows_max * block_stride(cols)),
            refined: Buffer::zeroed(rows_max * flag_stride(cols)),
            scratch: Vec::new(),
        }
    }

    /// Keeps the values as floats too if `wanted`: products with float kinds need them.
    pub fn with_floats(mut self, wanted: bool) -> Activations {
        self.floats = Buffer::zeroed(if wanted { self.rows_max * self.cols } else { 0 });
        self
    }

    /// Bytes that `rows` rows of `cols` values take at most.
    pub fn bytes(rows: usize, cols: usize) -> usize {
        rows * cols * 6 + rows * (block_stride(cols) * size_of::<Block>() + flag_stride(cols))
    }

    /// Values per row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Rows filled by the last call that filled any.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The rows as f32, as they were before quantisation; none unless they are kept.
    pub fn floats(&self) -> Option<&[f32]> {
        self.floats.get(..self.rows * self.cols)
    }

    /// The codes and fine codes, `[rows][cols]`.
    pub(crate) fn codes(&self) -> (&[i8], &[i8]) {
        let count = self.rows * self.cols;
        (&self.codes[..count], &self.fine_codes[..count])
    }

    /// What is known of each block, `[rows][block_stride]`, and the stride.
    pub(crate) fn blocks(&self) -> (&[Block], usize) {
        let stride = block_stride(self.cols);
        (&self.blocks[..self.rows * stride], stride)
    }

    /// For each block of a row whether it is refined, in whole groups of [`FLAG_GROUP`].
    pub(crate) fn refined(&self, row: usize) -> &[u8] {
        let stride = flag_stride(self.cols);
        &self.refined[row * stride..(row + 1) * stride]
    }

    /// Fills `rows` rows in parallel: `fill(row, values)` writes a row's values, which are then
    /// quantised. `fill` must depend on the row alone.
    pub(crate) fn fill(
        &mut self,
        cpu: &mut Cpu,
        rows: usize,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (cols, isa) = (self.cols, cpu.isa());
        self.scratch.resize(self.scratch.len().max(cpu.pool.threads() * cols), 0.0);
        let scratch = SendPtr(self.scratch.as_mut_ptr());
        let parts = self.parts(rows);
        cpu.pool.for_each_range(rows, |thread, rows| {
            for row in rows {
                // SAFETY: each thread has its part of the scratch; each row is handed out once.
                unsafe {
                    let values = slice(scratch, thread * cols, cols);
                    fill(row, values);
                    parts.quantise(isa, (row, 0), values);
                }
            }
        });
    }

    /// Makes room for `rows` rows, to be filled in parts by several threads.
    pub(crate) fn parts(&mut self, rows: usize) -> Parts {
        assert!(rows <= self.rows_max, "{rows} rows exceed the {} reserved", self.rows_max);
        self.rows = rows;
        let floats = (!self.floats.is_empty()).then(|| SendPtr(self.floats.as_mut_ptr()));
        Parts {
            cols: self.cols,
            rows,
            floats,
            codes: SendPtr(self.codes.as_mut_ptr()),
            fine_codes: SendPtr(self.fine_codes.as_mut_ptr()),
            blocks: SendPtr(self.blocks.as_mut_ptr()),
            refined: SendPtr(self.refined.as_mut_ptr()),
        }
    }

    /// Quantises the rows of `values`, `[rows][cols]`.
    pub fn quantise(&mut self, cpu: &mut Cpu, values: &[f32]) {
        let (cols, isa) = (self.cols, cpu.isa());
        assert!(values.len().is_multiple_of(cols), "rows are whole");
        let parts = self.parts(values.len() / cols);
        cpu.pool.for_each_range(values.len() / cols, |_, rows| {
            for row in rows {
                // SAFETY: each row is handed out once.
                unsafe { parts.quantise(isa, (row, 0), &values[row * cols..(row + 1) * cols]) };
            }
        });
    }
}

/// Write access to the rows of [`Activations`], shared by the threads of a region.
pub(crate) struct Parts {
    cols: usize,
    rows: usize,
    floats: Option<SendPtr<f32>>,
    codes: SendPtr<i8>,
    fine_codes: SendPtr<i8>,
    blocks: SendPtr<Block>,
    refined: SendPtr<u8>,
}

impl Parts {
    /// Quantises `values` as those of `row` from column `column` on. Both are whole blocks.
    ///
    /// # Safety
    /// The activations live, and no other thread writes the same part.
    pub(crate) unsafe fn quantise(&self, isa: Isa, (row, column): (usize, usize), values: &[f32]) {
        let len = values.len();
        assert!(row < self.rows && column + len <= self.cols, "the part lies in the rows");
        assert!(column.is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK), "parts are blocks");
        let at = row * self.cols + column;
        let block = row * block_stride(self.cols) + column / BLOCK;
        let flag = row * flag_stride(self.cols) + column / BLOCK;
        // SAFETY: the part lies inside the buffers, and by the contract nobody else uses it.
        let out = unsafe {
            if let Some(floats) = self.floats {
                slice(floats, at, len).copy_from_slice(values);
            }
            QuantisedRow {
                codes: slice(self.codes, at, len),
                fine_codes: slice(self.fine_codes, at, len),
                blocks: slice(self.blocks, block, len / BLOCK),
                refined: slice(self.refined, flag, len / BLOCK),
            }
        };
        quantise_row(isa, values, out);
    }
}

/// # Safety
/// `at..at + len` lies in the buffer behind `start`, and nobody else uses that part.
unsafe fn slice<'a, T>(start: SendPtr<T>, at: usize, len: usize) -> &'a mut [T] {
    // SAFETY: by this function's contract.
    unsafe { std::slice::from_raw_parts_mut(start.get().add(at), len) }
}

struct QuantisedRow<'a> {
    codes: &'a mut [i8],
    fine_codes: &'a mut [i8],
    blocks: &'a mut [Block],
    refined: &'a mut [u8],
}

fn quantise_row(isa: Isa, values: &[f32], out: QuantisedRow<'_>) {
    match isa {
        Isa::Scalar => quantise_row_scalar(values, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the tier is only chosen where its instructions exist.
        Isa::Avx2 => unsafe { avx2::quantise_row(values, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { avx512::quantise_row(values, out) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 => unreachable!("the tier needs x86-64"),
    }
}

/// The largest magnitude that a block may have without being refined, from the row's Σ x².
fn refine_above(sum_of_squares: f32, len: usize) -> f32 {
    REFINE_ABOVE * (sum_of_squares / len as f32).sqrt()
}

/// Magnitudes below this are taken for zero: the inverse of their step would not be finite.
const LEAST_MAGNITUDE: f32 = 1e-30;

/// True if a block with this largest magnitude can be given codes.
#[inline(always)]
fn has_codes(largest: f32) -> bool {
    (LEAST_MAGNITUDE..=f32::MAX).contains(&largest)
}

impl QuantisedRow<'_> {
    /// Notes what is known of a block whose codes are written; refined where it has fine codes.
    #[inline(always)]
    fn set(&mut self, block: usize, scale: f32, sum: i32, fine_sum: Option<i32>) {
        let fine = fine_sum.unwrap_or(0);
        let total = (256 * sum + fine) as f32;
        self.refined[block] = u8::from(fine_sum.is_some());
        self.blocks[block] =
            Block { scale, value_sum: scale * FINE_STEP * total, sum, fine_sum: fine };
    }

    /// Makes a block zero, or NaN if its largest magnitude is not finite, so that every product
    /// with it shows that.
    fn clear(&mut self, block: usize, largest: f32) {
        let value = if largest < LEAST_MAGNITUDE { 0.0 } else { f32::NAN };
        self.codes[block * BLOCK..(block + 1) * BLOCK].fill(0);
        self.refined[block] = 0;
        self.blocks[block] = Block { scale: value, value_sum: value, sum: 0, fine_sum: 0 };
    }
}

/// The reference. The vector tiers do the same operations in the same order.
fn quantise_row_scalar(values: &[f32], mut out: QuantisedRow<'_>) {
    let refine_above = refine_above(sum_of_squares(values), values.len());
    for (block, x) in values.chunks_exact(BLOCK).enumerate() {
        let part = block * BLOCK..(block + 1) * BLOCK;
        // The bits of |x| order like |x|, and NaN lies above every number.
        let largest = x.iter().fold(0_u32, |most, v| most.max(v.to_bits() & 0x7fff_ffff));
        let largest = f32::from_bits(largest);
        if !has_codes(largest) {
            out.clear(block, largest);
            continue;
        }
        let (scale, inverse) = (largest / 127.0, 127.0 / largest);
        let mut sum = 0_i32;
        for (code, value) in out.codes[part.clone()].iter_mut().zip(x) {
            let rounded = (value * inverse).round_ties_even() as i32;
            *code = rounded as i8;
            sum += rounded;
        }
        let mut fine_sum = None;
        if largest > refine_above {
            let codes = out.codes[part.clone()].iter().zip(x);
            for (fine, (code, value)) in out.fine_codes[part].iter_mut().zip(codes) {
                let left = value * inverse - f32::from(*code);
                // At most half a step: 128 fine steps, of which a code holds 127.
                let rounded = ((left * 256.0).round_ties_even() as i32).clamp(-127, 127);
                *fine = rounded as i8;
                *fine_sum.get_or_insert(0) += rounded;
            }
        }
        out.set(block, scale, sum, fine_sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantised(isa: Isa, values: &[f32]) -> Activations {
        let mut out = Activations::new(1, values.len());
        out.quantise(&mut Cpu::new(1, isa), values);
        out
    }

    fn refined(out: &Activations) -> Vec<bool> {
        out.refined(0)[..out.cols / BLOCK].iter().map(|&flag| flag == 1).collect()
    }

    #[test]
    fn codes_are_nearest_and_scaled_by_the_largest() {
        let values: Vec<f32> = (0..32).map(|i| (i as f32 - 10.0) * 0.5).collect();
        let out = quantised(Isa::Scalar, &values);
        let scale = 10.5 / 127.0;
        assert_eq!(out.blocks().0[0].scale, scale);
        assert_eq!(refined(&out), [false]);
        for (code, value) in out.codes().0.iter().zip(&values) {
            assert!((f32::from(*code) * scale - value).abs() <= scale / 2.0 + 1e-6);
        }
        let sum: i32 = out.codes().0.iter().map(|&c| i32::from(c)).sum();
        assert_eq!(out.blocks().0[0].sum, sum);
    }

    #[test]
    fn a_block_with_an_outlier_is_refined() {
        let mut values: Vec<f32> = (0..64).map(|i| (i % 13) as f32 / 13.0 - 0.4).collect();
        values[40] = 25.0;
        let out = quantised(Isa::Scalar, &values);
        assert_eq!(refined(&out), [false, true]);
        let step = out.blocks().0[1].scale * FINE_STEP;
        assert!((step - 25.0 / 127.0 / 256.0).abs() < 1e-9);
        let (codes, fine) = out.codes();
        for i in 32..64 {
            let value = step * (256 * i32::from(codes[i]) + i32::from(fine[i])) as f32;
            assert!((value - values[i]).abs() < 1.1 * step, "{value} is not {}", values[i]);
        }
        let exact: f32 = values[32..].iter().sum();
        assert!((out.blocks().0[1].value_sum - exact).abs() < 32.0 * step);
    }

    #[test]
    fn zeros_give_a_zero_scale_and_not_a_number() {
        let out = quantised(Isa::Scalar, &[0.0; 64]);
        assert!(out.blocks().0.iter().all(|block| block.scale == 0.0));
        assert!(out.codes().0.iter().all(|&c| c == 0));
    }

    #[test]
    fn numbers_that_are_not_finite_are_passed_on_through_the_scale() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; 64];
            values[7] = bad;
            for isa in Isa::all_available() {
                let out = quantised(isa, &values);
                assert!(out.blocks().0[0].scale.is_nan() && out.blocks().0[0].value_sum.is_nan());
                assert_eq!((out.codes().0[7], out.blocks().0[0].sum), (0, 0));
                assert_eq!(out.blocks().0[1].sum, 32 * 127);
            }
        }
    }

    #[test]
    fn numbers_too_small_for_a_step_are_zero() {
        for tiny in [f32::MIN_POSITIVE, 1e-37, 1e-45] {
            for isa in Isa::all_available() {
                let out = quantised(isa, &[tiny; 32]);
                assert_eq!((out.blocks().0[0].scale, out.blocks().0[0].sum), (0.0, 0));
            }
        }
    }

    #[test]
    fn every_tier_gives_the_same_bits() {
        let value = |i: usize| ((i * 7919) % 1000) as f32 / 77.0 - 6.5 + (i / 316 * 90) as f32;
        let values: Vec<f32> = (0..320).map(value).collect();
        let scalar = quantised(Isa::Scalar, &values);
        assert!(refined(&scalar).contains(&true) && refined(&scalar).contains(&false));
        for isa in Isa::all_available() {
            let vector = quantised(isa, &values);
            assert_eq!(scalar.codes(), vector.codes(), "{isa}");
            assert_eq!(scalar.blocks(), vector.blocks(), "{isa}");
        }
    }
}
