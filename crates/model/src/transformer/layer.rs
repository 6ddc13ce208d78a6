//! The two halves of a layer.

use kernels::activation;
use kernels::attention::{HeadRules, attention};
use kernels::buffer::Buffer;
use kernels::cpu::Cpu;
use kernels::matmul::{matmul, matmul_activated, matmul_add, matmul_gated};
use kernels::norm::{Norm, normalise, normalise_add};
use kernels::pack::PackedMatrix;
use kernels::quantise::Activations;
use kernels::share::Share;

use super::adapted::{AdaptedLayer, AdaptedWork};
use super::{Model, Work};
use crate::lora::Site;
use crate::mixture;
use crate::weights::{FeedForward, Gated, LayerWeights};

impl Model {
    /// The first half of a layer: attention, added to the residual stream.
    pub(super) fn attend(
        &self,
        cpu: &mut Cpu,
        (layer, weights, adapted): (usize, &LayerWeights, AdaptedLayer<'_>),
        share: &mut Share<'_>,
        work: &mut Work,
    ) {
        let tokens = share.rows().len();
        let hidden = &mut work.hidden[..tokens * self.config.hidden_size];
        let qkv_width = self.config.query_size() + 2 * self.config.kv_size();
        let qkv = &mut work.qkv[..tokens * qkv_width];
        normalise(cpu, hidden, &weights.attention_norm, &mut work.normed);
        matmul(cpu, &work.normed, &weights.qkv.iter().collect::<Vec<_>>(), qkv);
        adapted.add(cpu, Site::Qkv, &work.normed, &mut work.adapted.sums, qkv);
        let rules = self.head_rules(layer, weights);
        attention(cpu, share, (qkv, rules), &mut work.attention_scratch, &mut work.attended);
        let branch = Branch {
            x: &work.attended,
            weight: &weights.attention_output,
            update: (adapted, Site::AttentionOutput),
            norm: weights.attention_post_norm.as_ref(),
        };
        branch.add(cpu, &mut work.adapted.sums, (&mut work.branch, hidden));
    }

    fn head_rules<'a>(&'a self, layer: usize, weights: &'a LayerWeights) -> HeadRules<'a> {
        let window = self.config.window_of(layer);
        let window_rope = self.window_rope.as_ref().filter(|_| window.is_some());
        HeadRules {
            norms: weights.head_norms.as_ref().map(|[query, key]| [query, key]),
            rope: window_rope.or(self.rope.as_ref()),
            scale: self.config.attention_scale,
            window,
        }
    }

    /// The second half of a layer, of so many rows.
    pub(super) fn feed_forward(
        &self,
        cpu: &mut Cpu,
        (weights, adapted): (&LayerWeights, AdaptedLayer<'_>),
        tokens: usize,
        work: &mut Work,
    ) {
        let activation = self.config.architecture.activation;
        let hidden = &mut work.hidden[..tokens * self.config.hidden_size];
        let gated = &mut work.gated[..tokens * self.config.intermediate_size];
        normalise(cpu, hidden, &weights.feed_forward_norm, &mut work.normed);
        let down = match &weights.feed_forward {
            FeedForward::Gated(Gated { gate, up, down }) if adapted.changes(Site::Up) => {
                let AdaptedWork { sums, gates_and_ups } = &mut work.adapted;
                let width = self.config.intermediate_size;
                let both = &mut gates_and_ups[..tokens * 2 * width];
                matmul(cpu, &work.normed, &[gate, up], both);
                adapted.add(cpu, Site::Up, &work.normed, sums, both);
                activation::gate(cpu, activation, both, (gated, width));
                down
            }
            FeedForward::Gated(Gated { gate, up, down }) => {
                matmul_gated(cpu, &work.normed, (gate, up, activation), gated);
                down
            }
            FeedForward::Plain { up, down } if adapted.changes(Site::Up) => {
                matmul(cpu, &work.normed, &[up], gated);
                adapted.add(cpu, Site::Up, &work.normed, &mut work.adapted.sums, gated);
                activation::activate(cpu, activation, gated, self.config.intermediate_size);
                down
            }
            FeedForward::Plain { up, down } => {
                matmul_activated(cpu, &work.normed, (up, activation), gated);
                down
            }
            FeedForward::Mixture { router, experts } => {
                let used = self.config.experts.map_or(1, |experts| experts.used);
                let norm = &weights.feed_forward_norm;
                let layer = mixture::Layer { norm, router, experts, used, activation };
                let mixture =
                    work.mixture.as_mut().expect("a model with experts has room for them");
                return mixture.add(cpu, layer, &work.normed, (gated, &mut work.inner), hidden);
            }
        };
        work.inner.quantise(cpu, gated);
        let branch = Branch {
            x: &work.inner,
            weight: down,
            update: (adapted, Site::Down),
            norm: weights.feed_forward_post_norm.as_ref(),
        };
        branch.add(cpu, &mut work.adapted.sums, (&mut work.branch, hidden));
    }
}

/// What is added to the residual stream: the product of `x` and `weight`, and what adapters add to that,
/// behind `norm` if there is one.
struct Branch<'a> {
    x: &'a Activations,
    weight: &'a PackedMatrix,
    update: (AdaptedLayer<'a>, Site),
    norm: Option<&'a Norm>,
}

impl Branch<'_> {
    fn add(
        self,
        cpu: &mut Cpu,
        sums: &mut [f32],
        (branch, hidden): (&mut Buffer<f32>, &mut [f32]),
    ) {
        let Branch { x, weight, update: (adapted, site), norm } = self;
        let Some(norm) = norm else {
            matmul_add(cpu, x, weight, hidden);
            return adapted.add(cpu, site, x, sums, hidden);
        };
        let branch = &mut branch[..hidden.len()];
        matmul(cpu, x, &[weight], branch);
        adapted.add(cpu, site, x, sums, branch);
        normalise_add(cpu, branch, norm, hidden);
    }
}
