//! What folders of the transformers library call a family, its numbers and its tensors.
//!
//! Source: the configuration and modelling files of each family in the transformers library.

use super::{Architecture, GEMMA3, GPT2, LLAMA, PHI3, QWEN2, QWEN3, QWEN3_MOE};

/// A family by its `model_type`. What its layers compute stands in [`HubFamily::architecture`], as it
/// does for GGUF files.
#[derive(Debug, PartialEq)]
pub struct HubFamily {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// What its layers are made of.
    pub architecture: &'static Architecture,
    /// What the names of all tensors but the head's begin with. Files of the bare model leave it out.
    pub prefix: &'static str,
    /// What stands before the number of a layer, behind the prefix.
    pub layers: &'static str,
    /// Names within a layer, ours (of GGUF) and theirs; of two for one the first counts. `{}` is the
    /// number of an expert.
    pub parts: &'static [&'static [(&'static str, &'static str)]],
    /// Names outside of layers, ours and theirs.
    pub outer: &'static [(&'static str, &'static str)],
    /// Matrices within layers have their columns first.
    pub columns_first: bool,
    /// Weights of norms are what 1 is added to.
    pub norms_from_one: bool,
    /// Whether the head is the embedding where the file does not say.
    pub tied_head: bool,
    /// Base of the rotary frequencies where the file does not say.
    pub rope_theta: f32,
    /// Keys that change what is computed, with what they are if the file does not say, and the values
    /// with which it is what we compute. As JSON.
    pub fixed: &'static [(&'static str, &'static str, &'static [&'static str])],
}

/// Names within a layer as most families have them.
const PARTS: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_inp", "mlp.gate"),
    ("ffn_gate_exps", "mlp.experts.{}.gate_proj"),
    ("ffn_up_exps", "mlp.experts.{}.up_proj"),
    ("ffn_down_exps", "mlp.experts.{}.down_proj"),
];

const MIXTRAL_PARTS: &[(&str, &str)] = &[
    ("ffn_gate_inp", "block_sparse_moe.gate"),
    ("ffn_gate_exps", "block_sparse_moe.experts.{}.w1"),
    ("ffn_up_exps", "block_sparse_moe.experts.{}.w3"),
    ("ffn_down_exps", "block_sparse_moe.experts.{}.w2"),
];

const GEMMA3_PARTS: &[(&str, &str)] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

const GPT2_PARTS: &[(&str, &str)] = &[
    ("attn_norm", "ln_1"),
    ("attn_qkv", "attn.c_attn"),
    ("attn_output", "attn.c_proj"),
    ("ffn_norm", "ln_2"),
    ("ffn_up", "mlp.c_fc"),
    ("ffn_down", "mlp.c_proj"),
];

/// As most others differ from in a few fields.
const PLAIN: HubFamily = HubFamily {
    model_type: "llama",
    architecture: &LLAMA,
    prefix: "model.",
    layers: "layers.",
    parts: &[PARTS],
    outer: &[("token_embd", "embed_tokens"), ("output_norm", "norm")],
    columns_first: false,
    norms_from_one: false,
    tied_head: false,
    rope_theta: 10_000.0,
    fixed: &[("hidden_act", r#""silu""#, &[r#""silu""#, r#""swish""#])],
};

const QWEN3_MOE_HUB: HubFamily = HubFamily {
    model_type: "qwen3_moe",
    architecture: &QWEN3_MOE,
    fixed: &[
        ("hidden_act", r#""silu""#, &[r#""silu""#, r#""swish""#]),
        ("norm_topk_prob", "false", &["true"]),
        ("decoder_sparse_step", "1", &["1"]),
        ("mlp_only_layers", "[]", &["[]"]),
    ],
    ..PLAIN
};

const GEMMA3_HUB: HubFamily = HubFamily {
    model_type: "gemma3_text",
    architecture: &GEMMA3,
    parts: &[GEMMA3_PARTS, PARTS],
    norms_from_one: true,
    tied_head: true,
    rope_theta: 1_000_000.0,
    fixed: &[
        ("hidden_activation", r#""gelu_pytorch_tanh""#, &[r#""gelu_pytorch_tanh""#]),
        ("attn_logit_softcapping", "null", &["null"]),
        ("final_logit_softcapping", "null", &["null"]),
        ("use_bidirectional_attention", "false", &["false"]),
        ("sliding_window_pattern", "6", &["6"]),
        ("_sliding_window_pattern", "6", &["6"]),
    ],
    ..PLAIN
};

const GPT2_HUB: HubFamily = HubFamily {
    model_type: "gpt2",
    architecture: &GPT2,
    prefix: "transformer.",
    layers: "h.",
    parts: &[GPT2_PARTS],
    outer: &[("token_embd", "wte"), ("position_embd", "wpe"), ("output_norm", "ln_f")],
    columns_first: true,
    tied_head: true,
    fixed: &[
        ("activation_function", r#""gelu_new""#, &[r#""gelu_new""#, r#""gelu_pytorch_tanh""#]),
        ("scale_attn_weights", "true", &["true"]),
        ("scale_attn_by_inverse_layer_idx", "false", &["false"]),
        ("add_cross_attention", "false", &["false"]),
    ],
    ..PLAIN
};

/// The families whose folders are read.
pub static HUB_FAMILIES: &[HubFamily] = &[
    PLAIN,
    HubFamily { model_type: "mistral", ..PLAIN },
    HubFamily {
        model_type: "mixtral",
        parts: &[MIXTRAL_PARTS, PARTS],
        rope_theta: 1_000_000.0,
        ..PLAIN
    },
    HubFamily { model_type: "qwen2", architecture: &QWEN2, ..PLAIN },
    HubFamily { model_type: "qwen3", architecture: &QWEN3, ..PLAIN },
    QWEN3_MOE_HUB,
    GEMMA3_HUB,
    HubFamily {
        model_type: "phi3",
        architecture: &PHI3,
        parts: &[&[("ffn_up", "mlp.gate_up_proj")], PARTS],
        ..PLAIN
    },
    GPT2_HUB,
];

/// Whole numbers of `config.json` by our keys (those of GGUF, without the family's name) and the
/// names that they go by there.
pub const NUMBERS: &[(&str, &[&str])] = &[
    ("vocab_size", &["vocab_size"]),
    ("context_length", &["max_position_embeddings", "n_positions", "n_ctx"]),
    ("embedding_length", &["hidden_size", "n_embd"]),
    ("block_count", &["num_hidden_layers", "n_layer"]),
    ("feed_forward_length", &["intermediate_size", "n_inner"]),
    ("attention.head_count", &["num_attention_heads", "n_head"]),
    ("attention.head_count_kv", &["num_key_value_heads"]),
    ("attention.key_length", &["head_dim"]),
    ("expert_count", &["num_local_experts", "num_experts"]),
    ("expert_used_count", &["num_experts_per_tok"]),
    ("expert_feed_forward_length", &["moe_intermediate_size"]),
];

impl HubFamily {
    /// The family of that `model_type`.
    pub fn of_type(model_type: &str) -> Option<&'static HubFamily> {
        HUB_FAMILIES.iter().find(|family| family.model_type == model_type)
    }

    /// All types, for messages.
    pub fn types() -> String {
        let types: Vec<_> =
            HUB_FAMILIES.iter().map(|known| format!("`{}`", known.model_type)).collect();
        types.join(", ")
    }

    /// What the family calls our tensor `name` (`blk.0.attn_q.weight`): one tensor, or one for each of
    /// `experts`. None if it has no such tensor.
    pub fn stored_names(&self, name: &str, experts: usize) -> Option<Vec<String>> {
        let (stem, ending) = name.rsplit_once('.')?;
        if stem == "output" {
            return Some(vec![format!("lm_head.{ending}")]);
        }
        let find = |table: &[(&'static str, &'static str)], ours: &str| {
            table.iter().find(|(known, _)| *known == ours).map(|&(_, theirs)| theirs)
        };
        let prefix = self.prefix;
        let Some(inner) = stem.strip_prefix("blk.") else {
            return find(self.outer, stem).map(|theirs| vec![format!("{prefix}{theirs}.{ending}")]);
        };
        let (layer, part) = inner.split_once('.')?;
        let theirs = self.parts.iter().find_map(|table| find(table, part))?;
        let full = |theirs: &str| format!("{prefix}{}{layer}.{theirs}.{ending}", self.layers);
        Some(match theirs.contains("{}") {
            false => vec![full(theirs)],
            true => (0..experts).map(|i| full(&theirs.replace("{}", &i.to_string()))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::KNOWN;

    #[test]
    fn every_architecture_has_a_folder() {
        for known in KNOWN {
            let named = HUB_FAMILIES.iter().any(|family| family.architecture == known);
            assert!(named, "{} has no model_type", known.name);
        }
    }

    #[test]
    fn names_of_tensors_are_those_of_the_family() {
        let names = |model_type: &str, name: &str| {
            HubFamily::of_type(model_type).unwrap().stored_names(name, 2).map(|all| all.join(" "))
        };
        let cases = [
            ("llama", "token_embd.weight", "model.embed_tokens.weight"),
            ("llama", "output.weight", "lm_head.weight"),
            ("qwen2", "blk.11.attn_q.bias", "model.layers.11.self_attn.q_proj.bias"),
            (
                "gemma3_text",
                "blk.0.ffn_norm.weight",
                "model.layers.0.pre_feedforward_layernorm.weight",
            ),
            ("gpt2", "blk.3.attn_norm.bias", "transformer.h.3.ln_1.bias"),
            (
                "mixtral",
                "blk.1.ffn_up_exps.weight",
                "model.layers.1.block_sparse_moe.experts.0.w3.weight \
                 model.layers.1.block_sparse_moe.experts.1.w3.weight",
            ),
        ];
        for (model_type, ours, theirs) in cases {
            assert_eq!(names(model_type, ours).as_deref(), Some(theirs));
        }
        assert_eq!(names("llama", "rope_freqs.weight"), None);
        assert_eq!(names("gpt2", "blk.0.ffn_gate.weight"), None);
    }
}
