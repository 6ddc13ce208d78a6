//! Feed-forward parts of which each token takes some: a mixture of experts.
//!
//! A router gives each expert a score; a token takes the experts with the greatest scores, weighs
//! them by the softmax among these, and adds them up in the order of the experts. So a token's
//! result does not depend on which experts the tokens beside it take.

use kernels::activation::Activation;
use kernels::buffer::Buffer;
use kernels::cpu::Cpu;
use kernels::matmul::{matmul, matmul_gated};
use kernels::norm::{Norm, normalise};
use kernels::pack::PackedMatrix;
use kernels::quantise::Activations;

use crate::config::{Experts, ModelConfig};
use crate::weights::Gated;

/// The experts of one layer.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// Before router and experts.
    pub norm: &'a Norm,
    /// `[experts, hidden_size]`.
    pub router: &'a PackedMatrix,
    /// Each `[intermediate_size, hidden_size]` and back.
    pub experts: &'a [Gated],
    /// How many a token takes.
    pub used: usize,
    /// Between their halves.
    pub activation: Activation,
}

/// Working memory of one step.
pub struct Mixture {
    /// `[tokens, experts]`.
    scores: Buffer<f32>,
    /// Rows that go to one expert `[tokens, hidden_size]`, and what comes of them.
    input: Buffer<f32>,
    normed: Activations,
    output: Buffer<f32>,
    /// Weighted sums of the experts so far `[tokens, hidden_size]`.
    sums: Buffer<f32>,
    visits: Vec<Visit>,
}

/// A token that takes an expert.
#[derive(Clone, Copy)]
struct Visit {
    expert: usize,
    row: usize,
    weight: f32,
}

impl Mixture {
    /// Room for steps of so many tokens; none if the model has no experts.
    pub fn new(config: &ModelConfig, tokens: usize, floats: bool) -> Option<Mixture> {
        let Experts { count, used } = config.experts?;
        let width = config.hidden_size;
        Some(Mixture {
            scores: Buffer::zeroed(tokens * count),
            input: Buffer::zeroed(tokens * width),
            normed: Activations::new(tokens, width).with_floats(floats),
            output: Buffer::zeroed(tokens * width),
            sums: Buffer::zeroed(tokens * width),
            visits: Vec::with_capacity(tokens * used),
        })
    }

    /// Bytes that [`Mixture::new`] reserves.
    pub fn bytes(config: &ModelConfig, tokens: usize) -> usize {
        let Some(Experts { count, used }) = config.experts else { return 0 };
        tokens * (count + 3 * config.hidden_size) * size_of::<f32>()
            + Activations::bytes(tokens, config.hidden_size)
            + tokens * used * size_of::<Visit>()
    }

    /// Adds what the experts of `layer` compute to `hidden`, whose rows `x` are normalised.
    ///
    /// Shapes: `x` and `hidden` [rows, hidden_size]; `gated` and `inner` have room for [rows,
    /// intermediate_size].
    pub fn add(
        &mut self,
        cpu: &mut Cpu,
        layer: Layer<'_>,
        x: &Activations,
        (gated, inner): (&mut [f32], &mut Activations),
        hidden: &mut [f32],
    ) {
        let width = x.cols();
        let scores = &mut self.scores[..x.rows() * layer.experts.len()];
        matmul(cpu, x, &[layer.router], scores);
        choose(scores, (layer.experts.len(), layer.used), &mut self.visits);
        self.sums[..hidden.len()].fill(0.0);
        for visits in self.visits.chunk_by(|one, other| one.expert == other.expert) {
            let Gated { gate, up, down } = &layer.experts[visits[0].expert];
            let input = &mut self.input[..visits.len() * width];
            for (out, visit) in input.chunks_exact_mut(width).zip(visits) {
                out.copy_from_slice(&hidden[visit.row * width..(visit.row + 1) * width]);
            }
            normalise(cpu, input, layer.norm, &mut self.normed);
            let gated = &mut gated[..visits.len() * gate.rows()];
            matmul_gated(cpu, &self.normed, (gate, up, layer.activation), gated);
            inner.quantise(cpu, gated);
            let output = &mut self.output[..visits.len() * width];
            matmul(cpu, inner, &[down], output);
            for (output, visit) in output.chunks_exact(width).zip(visits) {
                let sums = &mut self.sums[visit.row * width..(visit.row + 1) * width];
                sums.iter_mut().zip(output).for_each(|(sum, value)| *sum += visit.weight * value);
            }
        }
        hidden.iter_mut().zip(&self.sums[..]).for_each(|(hidden, sum)| *hidden += sum);
    }
}

/// Lists which experts the rows of `scores`, `[rows][experts]`, take, in the order of experts and
/// then of rows. Of equal scores the lowest expert wins.
fn choose(scores: &[f32], (experts, used): (usize, usize), visits: &mut Vec<Visit>) {
    visits.clear();
    let mut order: Vec<usize> = Vec::with_capacity(experts);
    for (row, scores) in scores.chunks_exact(experts).enumerate() {
        order.clear();
        order.extend(0..experts);
        order.sort_by(|&one, &other| scores[other].total_cmp(&scores[one]).then(one.cmp(&other)));
        let weights = order[..used].iter().map(|&expert| (scores[expert] - scores[order[0]]).exp());
        let sum: f32 = weights.clone().sum();
        let weights = order.iter().zip(weights);
        visits.extend(weights.map(|(&expert, weight)| Visit { expert, row, weight: weight / sum }));
    }
    visits.sort_by_key(|visit| (visit.expert, visit.row));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_takes_the_experts_with_the_greatest_scores_and_weighs_them_among_each_other() {
        let scores = [0.0, 2.0, 1.0, -5.0, 3.0, 3.0, 3.0, 3.0];
        let mut visits = Vec::new();
        choose(&scores, (4, 2), &mut visits);
        let found: Vec<_> = visits.iter().map(|visit| (visit.expert, visit.row)).collect();
        assert_eq!(found, [(0, 1), (1, 0), (1, 1), (2, 0)]);
        let share = 1.0 / (1.0 + (-1.0_f32).exp());
        for (visit, expected) in visits.iter().zip([0.5, share, 0.5, 1.0 - share]) {
            assert!((visit.weight - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn scores_that_are_no_numbers_are_seen_in_the_weights() {
        let mut visits = Vec::new();
        choose(&[f32::NAN, 1.0, 2.0], (3, 2), &mut visits);
        assert!(visits.iter().all(|visit| visit.weight.is_nan()));
    }
}
