//! One span in plain Rust, for every element type.

use super::{Scratch, Span};
use crate::activation::exp;
use crate::kv::{KvElement, TILE_TOKENS};
use crate::sums::add_lanes;

/// Fills the span results of every query in `scratch`.
///
/// # Safety
/// The tiles of `span` hold keys and values of `count` tokens, and nobody writes them now.
pub(super) unsafe fn span<T: KvElement>(span: &Span<'_, T>, scratch: &mut Scratch) {
    let round = |x: f32| T::from_f32(x).to_f32();
    for query in 0..scratch.count {
        if scratch.positions[query] < span.start {
            continue;
        }
        let visible = span.count.min(scratch.positions[query] + 1 - span.start);
        let q = &scratch.queries[query].0[..span.dim];
        let scores = &mut scratch.scores[query].0[..visible.next_multiple_of(TILE_TOKENS)];
        for (token, score) in scores[..visible].iter_mut().enumerate() {
            let keys = span.tiles[token / TILE_TOKENS];
            *score = q.iter().enumerate().fold(0.0, |sum, (dim, &q)| {
                // SAFETY: by the contract the tile holds `TILE_TOKENS * dim` keys.
                let key = unsafe { *keys.add(T::key_at(dim, token % TILE_TOKENS)) };
                sum + round(q) * key.to_f32()
            });
        }
        let (maximum, sum) = softmax(scores, visible, round);
        scratch.span_max[query] = maximum;
        scratch.span_sum[query] = sum;
        let output = &mut scratch.span_outputs[query].0[..span.dim];
        output.fill(0.0);
        for (token, &weight) in scores[..visible].iter().enumerate() {
            // SAFETY: the values follow the keys of a tile.
            let values = unsafe { span.tiles[token / TILE_TOKENS].add(TILE_TOKENS * span.dim) };
            for (dim, out) in output.iter_mut().enumerate() {
                // SAFETY: by the contract the tile holds `TILE_TOKENS * dim` values.
                let value = unsafe { *values.add(T::value_at(dim, token % TILE_TOKENS, span.dim)) };
                *out += weight * value.to_f32();
            }
        }
    }
}

/// Turns one query's scores into weights: `exp(score - max)`, zero past `visible` tokens.
///
/// Gives the maximum and the sum of the weights, which `round` has rounded as they are used.
/// `scores` is a whole number of tiles long; sums run in 16 lanes, so trailing zeros do not count.
fn softmax(scores: &mut [f32], visible: usize, round: impl Fn(f32) -> f32) -> (f32, f32) {
    let visible = visible.min(scores.len());
    scores[visible..].fill(f32::NEG_INFINITY);
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in scores.chunks_exact(16) {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            // Keeps a NaN, so that broken numbers are seen at the end and not hidden here.
            *lane = if score <= *lane { *lane } else { score };
        }
    }
    let maximum = lanes.iter().fold(lanes[0], |a, &b| if b <= a { a } else { b });
    let mut sums = [0.0_f32; 16];
    for chunk in scores.chunks_exact_mut(16) {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *score = round(exp(*score - maximum));
            *sum += *score;
        }
    }
    scores[visible..].fill(0.0);
    (maximum, add_lanes(sums))
}
