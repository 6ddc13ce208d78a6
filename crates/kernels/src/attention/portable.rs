//! One span in plain Rust, for every type of keys and values: the reference.
//!
//! Loops run over 16 lanes, tokens for scores and dimensions for values, without fused operations,
//! so their sums do not depend on how wide the machine's vectors are.

#![expect(clippy::needless_range_loop, reason = "indices name lanes")]

use std::ops::{AddAssign, Mul, Range};

use half::{bf16, f16};

use super::{SPAN, Scratch, Span};
use crate::activation::exp;
use crate::codes::{CODE16_MAX, Scale};
use crate::kv::{Code, KvType, Stored, TILE_TOKENS, round_bf16, scales};
use crate::sums::add_lanes;

/// Numbers that are added up side by side; divides [`TILE_TOKENS`] and any head.
const LANES: usize = 16;

/// Fills the span results of every query in `scratch`.
///
/// Inlined with all it calls, so that a caller's instructions are used.
///
/// # Safety
/// The tiles of `span` hold keys and values of `count` tokens, and nobody writes them now.
#[inline(always)]
pub(super) unsafe fn span_portable(span: &Span<'_>, scratch: &mut Scratch) {
    for query in 0..scratch.count {
        let Range { start, end } = scratch.visible(query, span.start);
        let end = end.min(span.count);
        if end <= start {
            continue;
        }
        // SAFETY: passed on; each type reads the tiles as they were written.
        unsafe {
            match span.kind {
                KvType::Bf16 => {
                    let round = |x| round_bf16(x).number();
                    of_floats::<bf16>(span, (query, start..end), round, scratch);
                }
                KvType::F16 => of_floats::<f16>(span, (query, start..end), |x| x, scratch),
                KvType::F32 => of_floats::<f32>(span, (query, start..end), |x| x, scratch),
                KvType::Int8 => of_codes(span, (query, start..end), scratch),
            }
        }
    }
}

/// One query over floats; `round` makes the query and the weights what they are multiplied as.
///
/// # Safety
/// As for [`span_portable`]; the tiles hold numbers of type `T`.
#[inline(always)]
unsafe fn of_floats<T: Stored<Number = f32>>(
    span: &Span<'_>,
    (query, visible): (usize, Range<usize>),
    round: impl Fn(f32) -> f32 + Copy,
    scratch: &mut Scratch,
) {
    let mut rounded = scratch.queries[query];
    rounded.0.iter_mut().for_each(|x| *x = round(*x));
    let scores = &mut scratch.scores[query].0[..visible.end.next_multiple_of(TILE_TOKENS)];
    let first = visible.start / TILE_TOKENS;
    let lines = scores.as_chunks_mut::<LANES>().0.iter_mut().enumerate();
    for (line, out) in lines.skip(first * TILE_TOKENS / LANES) {
        // SAFETY: by the contract.
        *out = unsafe { dots::<T>(span, line, &rounded.0[..span.dim]) };
    }
    let (maximum, sum) = softmax(scores, visible.clone(), round);
    scratch.span_max[query] = maximum;
    scratch.span_sum[query] = sum;
    let output = &mut scratch.span_outputs[query].0[..span.dim];
    for (line, out) in output.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        // SAFETY: by the contract.
        *out = unsafe { weighted::<T>(span, line, (first, &scores[..visible.end])) };
    }
}

/// One query over codes: its numbers and the weights become 16-bit codes, all sums are exact.
///
/// # Safety
/// As for [`span_portable`]; the tiles hold codes.
#[inline(always)]
unsafe fn of_codes(
    span: &Span<'_>,
    (query, visible): (usize, Range<usize>),
    scratch: &mut Scratch,
) {
    let mut codes = [0; SPAN];
    let step = to_codes(&scratch.queries[query].0[..span.dim], &mut codes);
    let scores = &mut scratch.scores[query].0[..visible.end.next_multiple_of(TILE_TOKENS)];
    let first = visible.start / TILE_TOKENS;
    let lines = scores.as_chunks_mut::<LANES>().0.iter_mut().enumerate();
    for (line, out) in lines.skip(first * TILE_TOKENS / LANES) {
        let first = line * LANES;
        let [key_scales, _] = scales(span.tiles[first / TILE_TOKENS]);
        // SAFETY: by the contract; the scales are those of the tile.
        let (dots, scales) =
            unsafe { (dots::<Code>(span, line, &codes[..span.dim]), &*key_scales) };
        for lane in 0..LANES {
            out[lane] = dots[lane] as f32 * scales[first % TILE_TOKENS + lane] * step;
        }
    }
    let (maximum, sum) = softmax(scores, visible.clone(), |x| x);
    scratch.span_max[query] = maximum;
    scratch.span_sum[query] = sum;
    // SAFETY: by the contract.
    unsafe { scale_weights(span, scores, visible.clone()) };
    let step = to_codes(scores, &mut codes);
    let output = &mut scratch.span_outputs[query].0[..span.dim];
    for (line, out) in output.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        // SAFETY: by the contract.
        let sums = unsafe { weighted::<Code>(span, line, (first, &codes[..visible.end])) };
        for lane in 0..LANES {
            out[lane] = sums[lane] as f32 * step;
        }
    }
}

/// The products of a query with the keys of 16 tokens from token `16 * line` on.
///
/// # Safety
/// As for [`span_portable`]; the tiles hold numbers of type `T`, of `query.len()` dimensions.
#[inline(always)]
unsafe fn dots<T>(span: &Span<'_>, line: usize, query: &[T::Number]) -> [T::Number; LANES]
where
    T: Stored<Number: Copy + Default + AddAssign + Mul<Output = T::Number>>,
{
    let token = line * LANES;
    let keys = T::keys(span.tiles[token / TILE_TOKENS]);
    let start = keys.wrapping_add(token % TILE_TOKENS * T::GROUP);
    // SAFETY: by the contract each group of dimensions holds `TILE_TOKENS` tokens.
    unsafe { add_groups([T::Number::default(); LANES], (start, TILE_TOKENS), query) }
}

/// The weighted sums of 16 dimensions of the values from dimension `16 * line` on, over as many
/// tokens as there are weights, from tile `first` on.
///
/// # Safety
/// As for [`span_portable`]; the tiles hold numbers of type `T` for each weight.
#[inline(always)]
unsafe fn weighted<T>(
    span: &Span<'_>,
    line: usize,
    (first, weights): (usize, &[T::Number]),
) -> [T::Number; LANES]
where
    T: Stored<Number: Copy + Default + AddAssign + Mul<Output = T::Number>>,
{
    let mut sums = [T::Number::default(); LANES];
    for (tile, weights) in weights.chunks(TILE_TOKENS).enumerate().skip(first) {
        let values = T::values(span.tiles[tile], span.dim);
        let start = values.wrapping_add(line * LANES * T::GROUP);
        // SAFETY: by the contract each group of tokens holds `span.dim` dimensions.
        sums = unsafe { add_groups(sums, (start, span.dim), weights) };
    }
    sums
}

/// Adds factors times numbers, in the order of the factors: of each group of numbers, of which the
/// next is `lanes` lanes on, the first 16 lanes. Reads no number that has no factor.
///
/// # Safety
/// The numbers can be read.
#[inline(always)]
unsafe fn add_groups<T>(
    mut sums: [T::Number; LANES],
    (start, lanes): (*const T, usize),
    factors: &[T::Number],
) -> [T::Number; LANES]
where
    T: Stored<Number: Copy + AddAssign + Mul<Output = T::Number>>,
{
    let groups = factors.chunks_exact(T::GROUP);
    let rest = groups.remainder();
    let mut group = start;
    for factors in groups {
        for lane in 0..LANES {
            for i in 0..T::GROUP {
                // SAFETY: by the contract.
                sums[lane] += factors[i] * unsafe { *group.add(lane * T::GROUP + i) }.number();
            }
        }
        group = group.wrapping_add(lanes * T::GROUP);
    }
    for lane in 0..LANES {
        for (i, &factor) in rest.iter().enumerate() {
            // SAFETY: by the contract.
            sums[lane] += factor * unsafe { *group.add(lane * T::GROUP + i) }.number();
        }
    }
    sums
}

/// 16-bit codes of `values`; gives their step.
#[inline(always)]
pub(super) fn to_codes(values: &[f32], codes: &mut [i32; SPAN]) -> f32 {
    let scale = Scale::of(values, CODE16_MAX);
    for i in 0..values.len() {
        codes[i] = scale.code(values[i]);
    }
    scale.step
}

/// Multiplies the weights of visible tokens with the scales of their values; the others stay zero,
/// whatever stands in their slots. `weights` is a whole number of tiles long.
///
/// # Safety
/// The tiles of `span` hold codes, and nobody writes the visible tokens now.
#[inline(always)]
pub(super) unsafe fn scale_weights(
    span: &Span<'_>,
    weights: &mut [f32],
    Range { start, end }: Range<usize>,
) {
    let tiles = weights.as_chunks_mut::<TILE_TOKENS>().0.iter_mut().enumerate();
    for (tile, weights) in tiles.skip(start / TILE_TOKENS) {
        let visible = end.saturating_sub(tile * TILE_TOKENS).min(TILE_TOKENS);
        let [_, value_scales] = scales(span.tiles[tile]);
        for slot in 0..visible {
            // SAFETY: by the contract.
            weights[slot] *= unsafe { (*value_scales)[slot] };
        }
    }
}

/// Turns one query's scores into weights: `exp(score - max)`, zero but for the visible tokens.
///
/// Gives the maximum and the sum of the weights, which `round` has rounded as they are used.
/// `scores` is a whole number of tiles long; sums run in 16 lanes, so zeros do not count.
/// A NaN among the visible scores makes the sum NaN.
#[inline(always)]
pub(super) fn softmax(
    scores: &mut [f32],
    visible: Range<usize>,
    round: impl Fn(f32) -> f32,
) -> (f32, f32) {
    hide(scores, visible.clone(), f32::NEG_INFINITY);
    let (lines, _) = scores.as_chunks_mut::<LANES>();
    let mut maxima = [f32::NEG_INFINITY; LANES];
    for line in &*lines {
        for lane in 0..LANES {
            maxima[lane] = if line[lane] <= maxima[lane] { maxima[lane] } else { line[lane] };
        }
    }
    let maximum = maxima.iter().fold(maxima[0], |a, &b| if b <= a { a } else { b });
    let mut sums = [0.0_f32; LANES];
    for line in lines {
        for lane in 0..LANES {
            line[lane] = round(exp(line[lane] - maximum));
            sums[lane] += line[lane];
        }
    }
    hide(scores, visible, 0.0);
    (maximum, add_lanes(sums))
}

/// Fills all but the visible numbers with `value`.
#[inline(always)]
pub(super) fn hide(numbers: &mut [f32], Range { start, end }: Range<usize>, value: f32) {
    let (start, end) = (start.min(numbers.len()), end.min(numbers.len()));
    numbers[..start].fill(value);
    numbers[end..].fill(value);
}
