//! Activations as 8-bit integers: the right side of a quantised product.
//!
//! A block of 32 values is `scale * code` with codes in -127..=127 and `scale = max|x| / 127`,
//! rounded to nearest, ties to even. One large value makes the whole block coarse, and a few
//! blocks with large values hold most of a row's rounding error (in SmolLM2 one block of 18 holds
//! 59 % of it before the query, key and value products). So a block whose largest value exceeds
//! [`REFINE_ABOVE`] times the root mean square of its row (of its head, for attention's output, which
//! is quantised head by head) is refined: a second code says what the first left over, in steps of `scale / 256`. Products pay for it only in those blocks.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::blocks::BLOCK;
use crate::buffer::Buffer;
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

/// Rows of activations, `[rows][cols]`, as floats and as codes.
pub struct Activations {
    cols: usize,
    rows: usize,
    floats: Buffer<f32>,
    codes: Buffer<i8>,
    /// Second codes, of refined blocks only; what stands elsewhere is left from earlier steps.
    fine_codes: Buffer<i8>,
    blocks: BlockBuffers,
}

/// What is known of each block, `[rows][cols / 32]`.
struct BlockBuffers {
    /// Of one code step; of one fine step where the block is refined.
    scales: Buffer<f32>,
    /// 1 where the block is refined.
    refined: Buffer<u8>,
    /// Sums of codes, which zero points multiply.
    sums: Buffer<i32>,
    /// Sums of fine codes; 0 where the block is not refined.
    fine_sums: Buffer<i32>,
    /// Sum of the block's values as the codes give them, which minimums multiply.
    value_sums: Buffer<f32>,
}

impl Activations {
    /// Room for `rows_max` rows of `cols` values. `cols` must be a multiple of 32.
    pub fn new(rows_max: usize, cols: usize) -> Activations {
        assert!(cols.is_multiple_of(BLOCK), "{cols} columns are whole blocks of {BLOCK}");
        let values = rows_max.checked_mul(cols).expect("rows times columns overflows");
        let blocks = values / BLOCK;
        Activations {
            cols,
            rows: 0,
            floats: Buffer::zeroed(values),
            codes: Buffer::zeroed(values),
            fine_codes: Buffer::zeroed(values),
            blocks: BlockBuffers {
                scales: Buffer::zeroed(blocks),
                refined: Buffer::zeroed(blocks),
                sums: Buffer::zeroed(blocks),
                fine_sums: Buffer::zeroed(blocks),
                value_sums: Buffer::zeroed(blocks),
            },
        }
    }

    /// Bytes that `rows_max` rows of `cols` values take.
    pub fn bytes(rows_max: usize, cols: usize) -> usize {
        rows_max * cols * 6 + rows_max * cols / BLOCK * 17
    }

    /// Values per row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Rows filled by the last call that filled any.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The rows as f32, as they were before quantisation.
    pub fn floats(&self) -> &[f32] {
        &self.floats[..self.rows * self.cols]
    }

    /// The codes and fine codes, `[rows][cols]`.
    pub(crate) fn codes(&self) -> (&[i8], &[i8]) {
        let count = self.rows * self.cols;
        (&self.codes[..count], &self.fine_codes[..count])
    }

    /// What is known of each block.
    pub(crate) fn blocks(&self) -> Blocks<'_> {
        let count = self.rows * self.cols / BLOCK;
        Blocks {
            scales: &self.blocks.scales[..count],
            refined: &self.blocks.refined[..count],
            sums: &self.blocks.sums[..count],
            fine_sums: &self.blocks.fine_sums[..count],
            value_sums: &self.blocks.value_sums[..count],
        }
    }

    /// Fills `rows` rows in parallel: `fill(row, floats)` writes a row's values, which are then
    /// quantised. `fill` must depend on the row alone.
    pub(crate) fn fill(
        &mut self,
        cpu: &mut Cpu,
        rows: usize,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (cols, isa) = (self.cols, cpu.isa());
        let parts = self.parts(rows);
        cpu.pool.for_each_chunk(rows, |_, row| {
            // SAFETY: each row is handed out once.
            unsafe { parts.fill(isa, (row, 0), cols, |floats| fill(row, floats)) };
        });
    }

    /// Makes room for `rows` rows, to be filled in parts by several threads.
    pub(crate) fn parts(&mut self, rows: usize) -> Parts {
        assert!(rows <= self.floats.len() / self.cols, "{rows} rows exceed what was reserved");
        self.rows = rows;
        Parts {
            cols: self.cols,
            rows,
            floats: SendPtr(self.floats.as_mut_ptr()),
            codes: SendPtr(self.codes.as_mut_ptr()),
            fine_codes: SendPtr(self.fine_codes.as_mut_ptr()),
            scales: SendPtr(self.blocks.scales.as_mut_ptr()),
            refined: SendPtr(self.blocks.refined.as_mut_ptr()),
            sums: SendPtr(self.blocks.sums.as_mut_ptr()),
            fine_sums: SendPtr(self.blocks.fine_sums.as_mut_ptr()),
            value_sums: SendPtr(self.blocks.value_sums.as_mut_ptr()),
        }
    }

    /// Quantises the rows of `values`, `[rows][cols]`.
    pub fn quantise(&mut self, cpu: &mut Cpu, values: &[f32]) {
        let cols = self.cols;
        assert!(values.len().is_multiple_of(cols), "rows are whole");
        self.fill(cpu, values.len() / cols, |row, floats| {
            floats.copy_from_slice(&values[row * cols..(row + 1) * cols]);
        });
    }
}

/// Views of what [`Activations`] knows of each block, `[rows][cols / 32]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Blocks<'a> {
    pub scales: &'a [f32],
    pub refined: &'a [u8],
    pub sums: &'a [i32],
    pub fine_sums: &'a [i32],
    pub value_sums: &'a [f32],
}

/// Write access to the rows of [`Activations`], shared by the threads of a region.
pub(crate) struct Parts {
    cols: usize,
    rows: usize,
    floats: SendPtr<f32>,
    codes: SendPtr<i8>,
    fine_codes: SendPtr<i8>,
    scales: SendPtr<f32>,
    refined: SendPtr<u8>,
    sums: SendPtr<i32>,
    fine_sums: SendPtr<i32>,
    value_sums: SendPtr<f32>,
}

impl Parts {
    /// Lets `fill` write `len` values of `row` from column `column` on, and quantises them.
    /// `column` and `len` are whole blocks.
    ///
    /// # Safety
    /// The activations live, and no other thread fills the same part.
    pub(crate) unsafe fn fill(
        &self,
        isa: Isa,
        (row, column): (usize, usize),
        len: usize,
        fill: impl FnOnce(&mut [f32]),
    ) {
        assert!(row < self.rows && column + len <= self.cols, "the part lies in the rows");
        assert!(column.is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK), "parts are blocks");
        let at = row * self.cols + column;
        let (block, blocks) = (at / BLOCK, len / BLOCK);
        // SAFETY: the part lies inside the buffers, and by the contract nobody else uses it.
        let (floats, out) = unsafe {
            (
                slice(self.floats, at, len),
                QuantisedRow {
                    codes: slice(self.codes, at, len),
                    fine_codes: slice(self.fine_codes, at, len),
                    scales: slice(self.scales, block, blocks),
                    refined: slice(self.refined, block, blocks),
                    sums: slice(self.sums, block, blocks),
                    fine_sums: slice(self.fine_sums, block, blocks),
                    value_sums: slice(self.value_sums, block, blocks),
                },
            )
        };
        fill(floats);
        quantise_row(isa, floats, out);
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
    scales: &'a mut [f32],
    refined: &'a mut [u8],
    sums: &'a mut [i32],
    fine_sums: &'a mut [i32],
    value_sums: &'a mut [f32],
}

fn quantise_row(isa: Isa, values: &[f32], out: QuantisedRow<'_>) {
    match isa {
        Isa::Scalar => quantise_row_scalar(values, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the tier is only chosen where its instructions exist.
        Isa::Avx512 => unsafe { avx512::quantise_row(values, out) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx512 => unreachable!("the tier needs x86-64"),
    }
}

/// The largest magnitude that a block of this row may have without being refined.
#[inline(always)]
fn refine_above(values: &[f32]) -> f32 {
    REFINE_ABOVE * (sum_of_squares(values) / values.len() as f32).sqrt()
}

/// Magnitudes below this are taken for zero: the inverse of their step would not be finite.
const LEAST_MAGNITUDE: f32 = 1e-30;

/// Scale of a block and its inverse; none for a block without usable numbers.
#[inline(always)]
fn scale_of(largest: f32) -> Option<(f32, f32)> {
    (LEAST_MAGNITUDE..=f32::MAX).contains(&largest).then(|| (largest / 127.0, 127.0 / largest))
}

impl QuantisedRow<'_> {
    /// Notes what is known of a block whose codes are written; refined where it has fine codes.
    #[inline(always)]
    fn set(&mut self, block: usize, scale: f32, sum: i32, fine_sum: Option<i32>) {
        let (step, total) = match fine_sum {
            None => (scale, sum),
            Some(fine_sum) => (scale / 256.0, 256 * sum + fine_sum),
        };
        self.scales[block] = step;
        self.refined[block] = u8::from(fine_sum.is_some());
        self.sums[block] = sum;
        self.fine_sums[block] = fine_sum.unwrap_or(0);
        self.value_sums[block] = step * total as f32;
    }

    /// Makes a block zero, or NaN if its largest magnitude is not finite, so that every product
    /// with it shows that.
    fn clear(&mut self, block: usize, largest: f32) {
        let value = if largest < LEAST_MAGNITUDE { 0.0 } else { f32::NAN };
        self.codes[block * BLOCK..(block + 1) * BLOCK].fill(0);
        self.refined[block] = 0;
        self.sums[block] = 0;
        self.fine_sums[block] = 0;
        self.scales[block] = value;
        self.value_sums[block] = value;
    }
}

/// The reference. The vector tier does the same operations in the same order.
fn quantise_row_scalar(values: &[f32], mut out: QuantisedRow<'_>) {
    let refine_above = refine_above(values);
    for (block, x) in values.chunks_exact(BLOCK).enumerate() {
        let part = block * BLOCK..(block + 1) * BLOCK;
        // The bits of |x| order like |x|, and NaN lies above every number.
        let largest = x.iter().fold(0_u32, |most, v| most.max(v.to_bits() & 0x7fff_ffff));
        let largest = f32::from_bits(largest);
        let Some((scale, inverse)) = scale_of(largest) else {
            out.clear(block, largest);
            continue;
        };
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

    #[test]
    fn codes_are_nearest_and_scaled_by_the_largest() {
        let values: Vec<f32> = (0..32).map(|i| (i as f32 - 10.0) * 0.5).collect();
        let out = quantised(Isa::Scalar, &values);
        let scale = 10.5 / 127.0;
        assert_eq!(out.blocks().scales[0], scale);
        assert_eq!(out.blocks().refined[0], 0);
        for (code, value) in out.codes().0.iter().zip(&values) {
            assert!((f32::from(*code) * scale - value).abs() <= scale / 2.0 + 1e-6);
        }
        let sum: i32 = out.codes().0.iter().map(|&c| i32::from(c)).sum();
        assert_eq!(out.blocks().sums[0], sum);
    }

    #[test]
    fn a_block_with_an_outlier_is_refined() {
        let mut values: Vec<f32> = (0..64).map(|i| (i % 13) as f32 / 13.0 - 0.4).collect();
        values[40] = 25.0;
        let out = quantised(Isa::Scalar, &values);
        assert_eq!(out.blocks().refined, [0, 1]);
        let step = out.blocks().scales[1];
        assert!((step - 25.0 / 127.0 / 256.0).abs() < 1e-9);
        let (codes, fine) = out.codes();
        for i in 32..64 {
            let value = step * (256 * i32::from(codes[i]) + i32::from(fine[i])) as f32;
            assert!((value - values[i]).abs() < 1.1 * step, "{value} is not {}", values[i]);
        }
        let exact: f32 = values[32..].iter().sum();
        assert!((out.blocks().value_sums[1] - exact).abs() < 32.0 * step);
    }

    #[test]
    fn zeros_give_a_zero_scale_and_not_a_number() {
        let out = quantised(Isa::Scalar, &[0.0; 64]);
        assert_eq!(out.blocks().scales, [0.0, 0.0]);
        assert!(out.codes().0.iter().all(|&c| c == 0));
    }

    #[test]
    fn numbers_that_are_not_finite_are_passed_on_through_the_scale() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; 64];
            values[7] = bad;
            for isa in [Isa::Scalar, Isa::detect()] {
                let out = quantised(isa, &values);
                assert!(out.blocks().scales[0].is_nan() && out.blocks().value_sums[0].is_nan());
                assert_eq!((out.codes().0[7], out.blocks().sums[0]), (0, 0));
                assert_eq!(out.blocks().sums[1], 32 * 127);
            }
        }
    }

    #[test]
    fn numbers_too_small_for_a_step_are_zero() {
        for tiny in [f32::MIN_POSITIVE, 1e-37, 1e-45] {
            for isa in [Isa::Scalar, Isa::detect()] {
                let out = quantised(isa, &[tiny; 32]);
                assert_eq!((out.blocks().scales[0], out.blocks().sums[0]), (0.0, 0));
            }
        }
    }

    #[test]
    fn every_tier_gives_the_same_bits() {
        if !Isa::Avx512.available() {
            assert_eq!(Isa::detect(), Isa::Scalar);
            return;
        }
        let value = |i: usize| ((i * 7919) % 1000) as f32 / 77.0 - 6.5 + (i / 316 * 90) as f32;
        let values: Vec<f32> = (0..320).map(value).collect();
        let (scalar, vector) = (quantised(Isa::Scalar, &values), quantised(Isa::Avx512, &values));
        assert!(scalar.blocks().refined.contains(&1) && scalar.blocks().refined.contains(&0));
        assert_eq!(scalar.codes(), vector.codes());
        assert_eq!(scalar.blocks(), vector.blocks());
    }
}
