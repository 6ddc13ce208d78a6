//! Families of models as data: what their layers are made of, and what GGUF files call it.
//!
//! There is one transformer; a family is an [`Architecture`] in [`KNOWN`], and what a file says of
//! one model is a [`crate::config::ModelConfig`]. How to add a family: `docs/adding-a-model.md`.

pub mod hub;

use kernels::activation::Activation;
use kernels::rope::Pairing;

/// What the layers of a family are made of.
#[derive(Debug, PartialEq)]
pub struct Architecture {
    /// The name in `general.architecture`, and what the family's keys begin with.
    pub name: &'static str,
    /// What is done to the residual stream before attention, feed-forward part and head.
    pub norm: NormKind,
    /// Norms behind attention and feed-forward part too, before they are added.
    pub post_norms: bool,
    /// Norms of each query and key, before they are rotated.
    pub head_norms: bool,
    /// Queries, keys and values in one tensor.
    pub fused_qkv: bool,
    /// Biases of queries, keys and values.
    pub qkv_bias: Presence,
    /// A bias of attention's output.
    pub output_bias: Presence,
    /// The feed-forward part.
    pub feed_forward: FeedForwardKind,
    /// Biases of the feed-forward part.
    pub feed_forward_bias: bool,
    /// Bends the numbers inside the feed-forward part.
    pub activation: Activation,
    /// Several feed-forward parts, of which each token takes some.
    pub experts: Presence,
    /// How a token's position is told.
    pub positions: Positions,
    /// Which layers see the last tokens only, if the file gives a window.
    pub window: WindowLayers,
    /// Base of the rotary frequencies in the layers with a window, if another one than elsewhere.
    pub window_rope_theta: Option<f32>,
    /// Embeddings are multiplied with the root of the width.
    pub scaled_embedding: bool,
    /// Scores are divided by the root of the width of the residual stream per head, and not of the
    /// head, in the model of so many layers. Files do not say it.
    pub layers_scaled_by_width: Option<usize>,
}

/// What a norm divides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// The root mean square.
    Rms,
    /// The deviation from the mean, with a bias.
    Layer,
}

/// Whether files of a family have something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// None has.
    Never,
    /// Some have.
    Optional,
    /// All have.
    Always,
}

/// How a feed-forward part is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForwardKind {
    /// Gate, up and down.
    Gated,
    /// The same, with gate and up in one tensor.
    FusedGated,
    /// Up and down.
    Plain,
}

/// How a token's position is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// A vector for each position, added to the embedding.
    Learned,
    /// Queries and keys are rotated.
    Rotary(Pairing),
}

/// Layers that see the last tokens only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowLayers {
    /// None; files have no window.
    None,
    /// All of them.
    All,
    /// All but every so many-th.
    AllButEvery(usize),
}

/// Llama 2 and 3, SmolLM, TinyLlama, Mistral and, with experts, Mixtral. What most others differ
/// from in a few fields.
const LLAMA: Architecture = Architecture {
    name: "llama",
    norm: NormKind::Rms,
    post_norms: false,
    head_norms: false,
    fused_qkv: false,
    qkv_bias: Presence::Optional,
    output_bias: Presence::Optional,
    feed_forward: FeedForwardKind::Gated,
    feed_forward_bias: false,
    activation: Activation::Silu,
    experts: Presence::Optional,
    // The converter puts the rows of queries and keys in such an order.
    positions: Positions::Rotary(Pairing::Adjacent),
    window: WindowLayers::All,
    window_rope_theta: None,
    scaled_embedding: false,
    layers_scaled_by_width: None,
};

/// As [`LLAMA`], without what only files of that name have.
const PLAIN: Architecture = Architecture {
    qkv_bias: Presence::Never,
    output_bias: Presence::Never,
    experts: Presence::Never,
    positions: Positions::Rotary(Pairing::Halves),
    window: WindowLayers::None,
    ..LLAMA
};

const QWEN2: Architecture = Architecture { name: "qwen2", qkv_bias: Presence::Always, ..PLAIN };

const QWEN3: Architecture = Architecture { name: "qwen3", head_norms: true, ..PLAIN };

const QWEN3_MOE: Architecture =
    Architecture { name: "qwen3moe", experts: Presence::Always, ..QWEN3 };

/// Its norms' weights have 1 added in the file.
const GEMMA3: Architecture = Architecture {
    name: "gemma3",
    post_norms: true,
    head_norms: true,
    activation: Activation::GeluTanh,
    window: WindowLayers::AllButEvery(6),
    window_rope_theta: Some(10_000.0),
    scaled_embedding: true,
    layers_scaled_by_width: Some(62),
    ..PLAIN
};

const PHI3: Architecture = Architecture {
    name: "phi3",
    fused_qkv: true,
    feed_forward: FeedForwardKind::FusedGated,
    window: WindowLayers::All,
    ..PLAIN
};

const GPT2: Architecture = Architecture {
    name: "gpt2",
    norm: NormKind::Layer,
    fused_qkv: true,
    qkv_bias: Presence::Always,
    output_bias: Presence::Always,
    feed_forward: FeedForwardKind::Plain,
    feed_forward_bias: true,
    activation: Activation::GeluTanh,
    positions: Positions::Learned,
    ..PLAIN
};

/// The families that are computed. Source of names and defaults: llama.cpp, `src/llama-arch.cpp`
/// and `src/llama-model.cpp`; of the layers, the modelling files of the transformers library.
pub static KNOWN: &[Architecture] = &[LLAMA, QWEN2, QWEN3, QWEN3_MOE, GEMMA3, PHI3, GPT2];

impl Architecture {
    /// The family of that name.
    pub fn named(name: &str) -> Option<&'static Architecture> {
        KNOWN.iter().find(|architecture| architecture.name == name)
    }

    /// The names of all families, for messages.
    pub fn names() -> String {
        let names: Vec<_> = KNOWN.iter().map(|known| format!("`{}`", known.name)).collect();
        names.join(", ")
    }

    /// The full name of one of the family's keys.
    pub fn key(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    /// The key, without the family's name, of what is added before the root of a norm.
    pub const fn norm_eps_key(&self) -> &'static str {
        match self.norm {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        }
    }

    /// Whether layer `layer` sees the last tokens only, where there is a window.
    pub const fn has_window(&self, layer: usize) -> bool {
        match self.window {
            WindowLayers::None => false,
            WindowLayers::All => true,
            WindowLayers::AllButEvery(count) => !(layer + 1).is_multiple_of(count),
        }
    }

    /// Whether a key of the family, without its name, is read or changes nothing.
    pub fn knows_key(&self, part: &str) -> bool {
        let rotary = matches!(self.positions, Positions::Rotary(_));
        match part {
            "vocab_size" | "context_length" | "embedding_length" | "block_count" => true,
            "feed_forward_length" | "attention.head_count" | "attention.head_count_kv" => true,
            "attention.key_length" | "attention.value_length" => true,
            "rope.dimension_count" | "rope.freq_base" => rotary,
            "rope.scaling.type" | "rope.scaling.factor" | "rope.scaling.attn_factor" => rotary,
            // The latter says whether the model was trained with the scaling, for display only.
            "rope.scaling.original_context_length" | "rope.scaling.finetuned" => rotary,
            "attention.sliding_window" => self.window != WindowLayers::None,
            "expert_count" | "expert_used_count" => self.experts != Presence::Never,
            "expert_feed_forward_length" => self.experts != Presence::Never,
            // Says who wrote the original weights; llama.cpp reads it for display only.
            "tensor_data_layout" => true,
            _ => part == self.norm_eps_key(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sixth_layer_of_gemma3_sees_everything() {
        let whole: Vec<usize> = (0..18).filter(|&layer| !GEMMA3.has_window(layer)).collect();
        assert_eq!(whole, [5, 11, 17]);
        assert!(PHI3.has_window(5) && !QWEN3.has_window(0));
    }

    #[test]
    fn families_have_names_of_their_own() {
        for known in KNOWN {
            assert!(std::ptr::eq(Architecture::named(known.name).unwrap(), known));
        }
        assert_eq!(Architecture::named("mamba"), None);
    }
}
