//! What is known of the queries of a tile while their spans are visited.

use std::ops::Range;

use super::{HEAD_DIM_MAX, SPAN, TILE_QUERIES};
use crate::activation::exp;
use crate::pool::SendPtr;

/// One head's numbers, aligned for vector loads.
#[repr(align(64))]
#[derive(Clone, Copy)]
pub(super) struct Head(pub(super) [f32; HEAD_DIM_MAX]);

/// One query's scores or weights over a span.
#[repr(align(64))]
#[derive(Clone, Copy)]
pub(super) struct Scores(pub(super) [f32; SPAN]);

/// Working memory of [`super::attention`], kept between steps.
#[derive(Default)]
pub struct AttentionScratch(Vec<Scratch>);

impl AttentionScratch {
    /// Bytes for so many threads.
    pub const fn bytes(threads: usize) -> usize {
        threads * size_of::<Scratch>()
    }

    pub(super) fn of_threads(&mut self, threads: usize) -> SendPtr<Scratch> {
        self.0.resize_with(threads.max(self.0.len()), Scratch::new);
        SendPtr(self.0.as_mut_ptr())
    }
}

/// State of up to six queries while their spans are visited.
pub(super) struct Scratch {
    pub(super) count: usize,
    pub(super) positions: [usize; TILE_QUERIES],
    /// First positions that the queries see.
    pub(super) firsts: [usize; TILE_QUERIES],
    pub(super) queries: [Head; TILE_QUERIES],
    pub(super) scores: [Scores; TILE_QUERIES],
    /// Of the current span: largest score, sum of weights, weighted values.
    pub(super) span_max: [f32; TILE_QUERIES],
    pub(super) span_sum: [f32; TILE_QUERIES],
    pub(super) span_outputs: [Head; TILE_QUERIES],
    /// Of all spans so far.
    pub(super) maxima: [f32; TILE_QUERIES],
    pub(super) sums: [f32; TILE_QUERIES],
    pub(super) outputs: [Head; TILE_QUERIES],
}

impl Scratch {
    fn new() -> Scratch {
        let heads = [Head([0.0; HEAD_DIM_MAX]); TILE_QUERIES];
        Scratch {
            count: 0,
            positions: [0; TILE_QUERIES],
            firsts: [0; TILE_QUERIES],
            queries: heads,
            scores: [Scores([0.0; SPAN]); TILE_QUERIES],
            span_max: [0.0; TILE_QUERIES],
            span_sum: [0.0; TILE_QUERIES],
            span_outputs: heads,
            maxima: [0.0; TILE_QUERIES],
            sums: [0.0; TILE_QUERIES],
            outputs: heads,
        }
    }

    #[inline(always)]
    pub(super) fn begin(&mut self) {
        self.maxima = [f32::NEG_INFINITY; TILE_QUERIES];
        self.sums = [0.0; TILE_QUERIES];
    }

    /// First and last position that any query sees.
    #[inline(always)]
    pub(super) fn seen(&self) -> (usize, usize) {
        let first = self.firsts[..self.count].iter().min();
        let last = self.positions[..self.count].iter().max();
        (*first.expect("a tile has a query"), *last.expect("a tile has a query"))
    }

    /// What a query sees of the span that begins at `start`, counted from there; it may end behind
    /// the span, and is empty if the query sees none of it.
    #[inline(always)]
    pub(super) fn visible(&self, query: usize, start: usize) -> Range<usize> {
        let from = |position: usize| position.saturating_sub(start);
        from(self.firsts[query])..from(self.positions[query] + 1)
    }

    /// Whether the span's result is not finite for a query that sees less than another.
    #[inline(always)]
    pub(super) fn is_spoiled(&self, dim: usize) -> bool {
        let seen = self.seen();
        let sees_all = |query: usize| (self.firsts[query], self.positions[query]) == seen;
        // By magnitudes as integers, which wide registers compare in any order.
        let finite = |query: usize| {
            let magnitudes = self.span_outputs[query].0[..dim].iter().map(|x| x.abs().to_bits());
            magnitudes.fold(0, u32::max) < f32::INFINITY.to_bits()
        };
        (0..self.count).any(|query| !sees_all(query) && !finite(query))
    }

    /// Exchanges the places of two queries, as far as a span knows them.
    pub(super) fn swap(&mut self, one: usize, other: usize) {
        self.positions.swap(one, other);
        self.firsts.swap(one, other);
        self.queries.swap(one, other);
        self.span_max.swap(one, other);
        self.span_sum.swap(one, other);
        self.span_outputs.swap(one, other);
    }

    /// Joins the current span, which starts at `start`, to what came before it.
    #[inline(always)]
    pub(super) fn merge(&mut self, start: usize, dim: usize) {
        for query in 0..self.count {
            let Range { start: first, end } = self.visible(query, start);
            if end == 0 || SPAN <= first {
                continue;
            }
            let (span_max, span_sum) = (self.span_max[query], self.span_sum[query]);
            let span_output = &self.span_outputs[query].0[..dim];
            let output = &mut self.outputs[query].0[..dim];
            if start <= self.firsts[query] {
                output.copy_from_slice(span_output);
                (self.maxima[query], self.sums[query]) = (span_max, span_sum);
                continue;
            }
            let maximum = if span_max > self.maxima[query] { span_max } else { self.maxima[query] };
            let (old, new) = (exp(self.maxima[query] - maximum), exp(span_max - maximum));
            self.maxima[query] = maximum;
            self.sums[query] = self.sums[query] * old + span_sum * new;
            for (output, value) in output.iter_mut().zip(span_output) {
                *output = *output * old + value * new;
            }
        }
    }
}
