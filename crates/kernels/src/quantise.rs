//! Activations as 8-bit integers: the right side of a quantised product.
//!
//! A block of 32 values is `scale * code` with codes in -127..=127 and `scale = max|x| / 127`,
//! rounded to nearest, ties to even. One large value makes the whole block coarse, and a few
//! blocks with large values hold most of a row's rounding error (in SmolLM2 one block of 18 holds
//! 59 % of it before the query, key and value products). So values above [`OUTLIER_ABOVE`] times the
//! root mean square of their row (of their head, for attention's output, which is quantised head by
//! head) are outliers: they stay floats, have code 0, and do not count for their block's scale.
//! Products multiply them one by one.

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

/// Values above this many root mean squares of their row are outliers.
///
/// Measured on the default model against a float32 forward (`cargo test -p model --test reference`),
/// mean difference of the five best log-probabilities: 0.095 without outliers, 0.049 at 4.5, 0.044
/// at 4, 0.043 at 3.5 and at 3. Steps take a hundredth more time at 3.5 than at 4.5.
pub const OUTLIER_ABOVE: f32 = 3.5;

/// Flags of a row are a multiple of this long, so that they are read 64 at a time.
pub(crate) const FLAG_GROUP: usize = 64;

/// Rows of activations, `[rows][cols]`, as codes and, for weights of float kinds, as floats and as
/// bfloat16.
pub struct Activations {
    cols: usize,
    rows: usize,
    rows_max: usize,
    /// Empty unless asked for.
    floats: Buffer<f32>,
    /// The floats rounded to bfloat16; empty unless asked for.
    halves: Buffer<u16>,
    codes: Buffer<i8>,
    /// Outliers, where their codes would stand; what stands elsewhere is left from earlier steps.
    outliers: Buffer<f32>,
    /// `[rows][block_stride]`.
    blocks: Buffer<Block>,
    /// 1 where a block has outliers, `[rows][flag_stride]`; 0 behind a row's last block.
    flags: Buffer<u8>,
    /// One row of values for each thread.
    scratch: Vec<f32>,
}

/// What is known of one block.
#[repr(C, align(16))]
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Block {
    /// Of one code step.
    pub scale: f32,
    /// Sum of the block's values, as the codes give them and outliers as they are, which minimums
    /// multiply.
    pub value_sum: f32,
    /// Sum of codes, which zero points multiply.
    pub sum: i16,
    /// Sum of the first half of the codes, for weights with a scale for each 16 values.
    pub first_sum: i16,
    /// A bit for each value, set if it is an outlier.
    pub outliers: u32,
}

// SAFETY: numbers that fill 16 bytes without padding.
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
            halves: Buffer::zeroed(0),
            codes: Buffer::zeroed(values),
            outliers: Buffer::zeroed(values),
            blocks: Buffer::zeroed(rows_max * block_stride(cols)),
            flags: Buffer::zeroed(rows_max * flag_stride(cols)),
            scratch: Vec::new(),
        }
    }

    /// Keeps the values as floats too if `wanted`: products with float kinds need them.
    pub fn with_floats(mut self, wanted: bool) -> Activations {
        let values = if wanted { self.rows_max * self.cols } else { 0 };
        self.floats = Buffer::zeroed(values);
        self.halves = Buffer::zeroed(values);
        self
    }

    /// Bytes that `rows` rows of `cols` values take at most.
    pub fn bytes(rows: usize, cols: usize) -> usize {
        rows * cols * 11 + rows * (block_stride(cols) * size_of::<Block>() + flag_stride(cols))
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

    /// The bits of the rows as bfloat16; none unless floats are kept.
    pub(crate) fn halves(&self) -> Option<&[u16]> {
        self.halves.get(..self.rows * self.cols)
    }

    /// The codes, `[rows][cols]`.
    pub(crate) fn codes(&self) -> &[i8] {
        &self.codes[..self.rows * self.cols]
    }

    /// The outliers, `[rows][cols]`, of which only those that the blocks name count.
    pub(crate) fn outliers(&self) -> &[f32] {
        &self.outliers[..self.rows * self.cols]
    }

    /// What is known of each block, `[rows][block_stride]`, and the stride.
    pub(crate) fn blocks(&self) -> (&[Block], usize) {
        let stride = block_stride(self.cols);
        (&self.blocks[..self.rows * stride], stride)
    }

    /// For each block of a row whether it has outliers, in whole groups of [`FLAG_GROUP`].
    pub(crate) fn flags(&self, row: usize) -> &[u8] {
        let stride = flag_stride(self.cols);
        &self.flags[row * stride..(row + 1) * stride]
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
        let floats = (!self.floats.is_empty())
            .then(|| (SendPtr(self.floats.as_mut_ptr()), SendPtr(self.halves.as_mut_ptr())));
        Parts {
            cols: self.cols,
            rows,
            floats,
            codes: SendPtr(self.codes.as_mut_ptr()),
            outliers: SendPtr(self.outliers.as_mut_ptr()),
            blocks: SendPtr(self.blocks.as_mut_ptr()),
            flags: SendPtr(self.flags.as_mut_ptr()),
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
    /// Floats, and halves.
    floats: Option<(SendPtr<f32>, SendPtr<u16>)>,
    codes: SendPtr<i8>,
    outliers: SendPtr<f32>,
    blocks: SendPtr<Block>,
    flags: SendPtr<u8>,
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
            if let Some((floats, halves)) = self.floats {
                slice(floats, at, len).copy_from_slice(values);
                round_to_bf16(values, slice(halves, at, len));
            }
            QuantisedRow {
                codes: slice(self.codes, at, len),
                outliers: slice(self.outliers, at, len),
                blocks: slice(self.blocks, block, len / BLOCK),
                flags: slice(self.flags, flag, len / BLOCK),
            }
        };
        quantise_row(isa, values, out);
    }
}

/// Rounds to bfloat16, to nearest, ties to even; NaN stays NaN. (A loop that becomes vector
/// instructions, which that of `half` does not.)
fn round_to_bf16(values: &[f32], halves: &mut [u16]) {
    for (half, value) in halves.iter_mut().zip(values) {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        let quiet = bits | 0x0040_0000;
        *half = ((if value.is_nan() { quiet } else { rounded }) >> 16) as u16;
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
    outliers: &'a mut [f32],
    blocks: &'a mut [Block],
    flags: &'a mut [u8],
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

/// The largest magnitude that is no outlier, from the row's Σ x².
fn outlier_above(sum_of_squares: f32, len: usize) -> f32 {
    OUTLIER_ABOVE * (sum_of_squares / len as f32).sqrt()
}

/// Magnitudes below this are taken for zero: the inverse of their step would not be finite.
const LEAST_MAGNITUDE: f32 = 1e-30;

/// True if a block with this largest magnitude can be given codes.
#[inline(always)]
fn has_codes(largest: f32) -> bool {
    (LEAST_MAGNITUDE..=f32::MAX).contains(&largest)
}

impl QuantisedRow<'_> {
    /// Notes what is known of a block of `values`, the row's, whose codes are written.
    #[inline(always)]
    fn set(&mut self, block: usize, (scale, sums, outliers): (f32, [i32; 2], u32), values: &[f32]) {
        let sum = sums[0] + sums[1];
        let mut value_sum = scale * sum as f32;
        let mut rest = outliers;
        while rest != 0 {
            let at = block * BLOCK + rest.trailing_zeros() as usize;
            rest &= rest - 1;
            self.outliers[at] = values[at];
            value_sum += values[at];
        }
        self.flags[block] = u8::from(outliers != 0);
        // 32 codes of 127 at most.
        let [sum, first_sum] = [sum, sums[0]].map(|sum| sum as i16);
        self.blocks[block] = Block { scale, value_sum, sum, first_sum, outliers };
    }

    /// Makes a block zero, or NaN if its largest magnitude is not finite, so that every product
    /// with it shows that.
    fn clear(&mut self, block: usize, largest: f32) {
        let value = if largest < LEAST_MAGNITUDE { 0.0 } else { f32::NAN };
        self.codes[block * BLOCK..(block + 1) * BLOCK].fill(0);
        self.flags[block] = 0;
        self.blocks[block] =
            Block { scale: value, value_sum: value, sum: 0, first_sum: 0, outliers: 0 };
    }
}

/// The reference. The vector tiers do the same operations in the same order.
fn quantise_row_scalar(values: &[f32], mut out: QuantisedRow<'_>) {
    let outlier_above = outlier_above(sum_of_squares(values), values.len());
    for (block, x) in values.chunks_exact(BLOCK).enumerate() {
        let largest = largest_magnitude(x.iter());
        if !has_codes(largest) {
            out.clear(block, largest);
            continue;
        }
        let is_outlier = |value: &f32| value.abs() > outlier_above;
        let bit = |(i, value)| u32::from(is_outlier(value)) << i;
        let outliers = x.iter().enumerate().map(bit).fold(0, |bits, bit| bits | bit);
        let inliers = x.iter().filter(|value| !is_outlier(value));
        let largest = largest_magnitude(inliers).max(LEAST_MAGNITUDE);
        let (scale, inverse) = (largest / 127.0, 127.0 / largest);
        let mut sums = [0; 2];
        let codes = &mut out.codes[block * BLOCK..(block + 1) * BLOCK];
        for (i, (code, value)) in codes.iter_mut().zip(x).enumerate() {
            let kept = if is_outlier(value) { 0.0 } else { *value };
            let rounded = (kept * inverse).round_ties_even() as i32;
            *code = rounded as i8;
            sums[i * 2 / BLOCK] += rounded;
        }
        out.set(block, (scale, sums, outliers), values);
    }
}

/// max |x|, or a NaN if there is one: the bits of |x| order like |x|, and NaN lies above every number.
fn largest_magnitude<'a>(values: impl Iterator<Item = &'a f32>) -> f32 {
    f32::from_bits(values.fold(0, |most, value| most.max(value.abs().to_bits())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantised(isa: Isa, values: &[f32]) -> Activations {
        let mut out = Activations::new(1, values.len());
        out.quantise(&mut Cpu::new(1, isa), values);
        out
    }

    fn flags(out: &Activations) -> &[u8] {
        &out.flags(0)[..out.cols / BLOCK]
    }

    #[test]
    fn codes_are_nearest_and_scaled_by_the_largest() {
        let values: Vec<f32> = (0..32).map(|i| (i as f32 - 10.0) * 0.5).collect();
        let out = quantised(Isa::Scalar, &values);
        let scale = 10.5 / 127.0;
        assert_eq!(out.blocks().0[0].scale, scale);
        assert_eq!(flags(&out), [0]);
        for (code, value) in out.codes().iter().zip(&values) {
            assert!((f32::from(*code) * scale - value).abs() <= scale / 2.0 + 1e-6);
        }
        let sum = |codes: &[i8]| codes.iter().map(|&code| i16::from(code)).sum::<i16>();
        let Block { sum: both, first_sum: first, .. } = out.blocks().0[0];
        assert_eq!((both, first), (sum(out.codes()), sum(&out.codes()[..16])));
    }

    #[test]
    fn an_outlier_is_kept_apart_and_leaves_its_block_fine() {
        let mut values: Vec<f32> = (0..64).map(|i| (i % 13) as f32 / 13.0 - 0.4).collect();
        values[40] = -25.0;
        for isa in Isa::all_available() {
            let out = quantised(isa, &values);
            assert_eq!(flags(&out), [0, 1]);
            let Block { scale, value_sum, outliers, .. } = out.blocks().0[1];
            assert_eq!(outliers, 1 << (40 - 32));
            assert_eq!((out.outliers()[40], out.codes()[40]), (-25.0, 0));
            assert!((scale - (12.0 / 13.0 - 0.4) / 127.0).abs() < 1e-6, "{scale}");
            for i in (32..64).filter(|&i| i != 40) {
                let value = scale * f32::from(out.codes()[i]);
                assert!((value - values[i]).abs() <= scale / 2.0 + 1e-6);
            }
            let exact: f32 = values[32..].iter().sum();
            assert!((value_sum - exact).abs() < 32.0 * scale);
        }
    }

    #[test]
    fn a_block_of_nothing_but_outliers_has_codes_of_zero() {
        let mut values = [0.0; 32 * 64];
        values[3] = 7.0;
        for isa in Isa::all_available() {
            let out = quantised(isa, &values);
            assert!(out.codes().iter().all(|&code| code == 0));
            assert_eq!((out.blocks().0[0].outliers, out.blocks().0[0].value_sum), (1 << 3, 7.0));
        }
    }

    #[test]
    fn zeros_give_a_zero_scale_and_not_a_number() {
        let out = quantised(Isa::Scalar, &[0.0; 64]);
        assert!(out.blocks().0.iter().all(|block| block.scale == 0.0));
        assert!(out.codes().iter().all(|&c| c == 0));
    }

    #[test]
    fn numbers_that_are_not_finite_are_passed_on_through_the_scale() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; 64];
            values[7] = bad;
            for isa in Isa::all_available() {
                let out = quantised(isa, &values);
                assert!(out.blocks().0[0].scale.is_nan() && out.blocks().0[0].value_sum.is_nan());
                assert_eq!((out.codes()[7], out.blocks().0[0].sum), (0, 0));
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
        assert!(flags(&scalar).contains(&1) && flags(&scalar).contains(&0));
        for isa in Isa::all_available() {
            let vector = quantised(isa, &values);
            assert_eq!(scalar.codes(), vector.codes(), "{isa}");
            assert_eq!(scalar.blocks(), vector.blocks(), "{isa}");
        }
    }
}
