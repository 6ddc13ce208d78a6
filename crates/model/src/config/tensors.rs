//! Which tensors a model has, from its hyper-parameters.

use std::{
    collections::BTreeSet,
    io::{Read, Seek},
};

use super::ModelConfig;
use crate::{
    architecture::{FeedForwardKind, NormKind, Positions},
    error::{LoadError, Shape},
    gguf::Gguf,
    rope::RopeScaling,
};

/// A tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// Its name in the file.
    pub name: String,
    /// Its shape, outermost dimension first.
    pub shape: Shape,
}

impl ModelConfig {
    /// Every tensor a file of this model has, in the order of computation.
    pub fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        let (hidden, vocab) = (self.hidden_size as u64, self.vocab_size as u64);
        let mut list = List { config: self, prefix: String::new(), tensors: Vec::new() };
        list.matrix("token_embd", &[vocab, hidden], false);
        if self.architecture.positions == Positions::Learned {
            list.matrix("position_embd", &[self.context_length as u64, hidden], false);
        }
        if let Some(rope) = self.rope.as_ref().filter(|_| self.optional.rope_divisors) {
            list.matrix("rope_freqs", &[rope.dims as u64 / 2], false);
        }
        if let Some(rope) = self.rope.as_ref()
            && let RopeScaling::Long { .. } = rope.scaling
        {
            for list_name in ["rope_factors_short", "rope_factors_long"] {
                list.matrix(list_name, &[rope.dims as u64 / 2], false);
            }
        }
        for layer in 0..self.layer_count {
            list.prefix = format!("blk.{layer}.");
            list.attention();
            list.feed_forward();
        }
        list.prefix.clear();
        list.norm("output_norm", hidden);
        if self.optional.head {
            list.matrix("output", &[vocab, hidden], false);
        }
        list.tensors
    }
}

struct List<'a> {
    config: &'a ModelConfig,
    prefix: String,
    tensors: Vec<ExpectedTensor>,
}

impl List<'_> {
    fn attention(&mut self) {
        let config = self.config;
        let hidden = config.hidden_size as u64;
        let (query, kv) = (config.query_size() as u64, config.kv_size() as u64);
        let bias = config.optional.qkv_bias;
        self.norm("attn_norm", hidden);
        if config.architecture.fused_qkv {
            self.matrix("attn_qkv", &[query + 2 * kv, hidden], bias);
        } else {
            for (name, rows) in [("attn_q", query), ("attn_k", kv), ("attn_v", kv)] {
                self.matrix(name, &[rows, hidden], bias);
            }
        }
        if config.architecture.head_norms {
            self.norm("attn_q_norm", config.head_dim as u64);
            self.norm("attn_k_norm", config.head_dim as u64);
        }
        self.matrix("attn_output", &[hidden, query], config.optional.output_bias);
        if config.architecture.post_norms {
            self.norm("post_attention_norm", hidden);
        }
    }

    fn feed_forward(&mut self) {
        let config = self.config;
        let (hidden, inner) = (config.hidden_size as u64, config.intermediate_size as u64);
        let bias = config.architecture.feed_forward_bias;
        self.norm("ffn_norm", hidden);
        if let Some(experts) = config.experts {
            let count = experts.count as u64;
            self.matrix("ffn_gate_inp", &[count, hidden], false);
            self.matrix("ffn_gate_exps", &[count, inner, hidden], false);
            self.matrix("ffn_up_exps", &[count, inner, hidden], false);
            self.matrix("ffn_down_exps", &[count, hidden, inner], false);
        } else {
            let (separate, fused) = match config.architecture.feed_forward {
                FeedForwardKind::Gated => (true, 1),
                FeedForwardKind::FusedGated => (false, 2),
                FeedForwardKind::Plain => (false, 1),
            };
            if separate {
                self.matrix("ffn_gate", &[inner, hidden], bias);
            }
            self.matrix("ffn_up", &[fused * inner, hidden], bias);
            self.matrix("ffn_down", &[hidden, inner], bias);
        }
        if config.architecture.post_norms {
            self.norm("post_ffw_norm", hidden);
        }
    }

    fn norm(&mut self, name: &str, cols: u64) {
        self.matrix(name, &[cols], self.config.architecture.norm == NormKind::Layer);
    }

    /// The weight of `name`, and its bias of one number a row if `bias` says so.
    fn matrix(&mut self, name: &str, shape: &[u64], bias: bool) {
        let prefix = &self.prefix;
        let mut expect = |part: &str, shape: &[u64]| {
            let name = format!("{prefix}{name}.{part}");
            self.tensors.push(ExpectedTensor { name, shape: Shape(shape.to_vec()) });
        };
        expect("weight", shape);
        if bias {
            expect("bias", &shape[..1]);
        }
    }
}

/// Refuses a file that has not exactly the tensors of `config`.
pub(super) fn check<R: Read + Seek>(config: &ModelConfig, gguf: &Gguf<R>) -> Result<(), LoadError> {
    let expected = config.expected_tensors();
    for ExpectedTensor { name, shape } in &expected {
        let Some(found) = gguf.tensor(name) else {
            return Err(LoadError::MissingTensor { name: name.clone(), expected: shape.clone() });
        };
        if found.shape != *shape {
            return Err(LoadError::TensorMismatch {
                name: name.clone(),
                shape: found.shape.clone(),
                expected: shape.clone(),
            });
        }
    }
    let known: BTreeSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
    match gguf.tensors().iter().find(|tensor| !known.contains(tensor.name.as_str())) {
        None => Ok(()),
        Some(extra) => Err(LoadError::UnknownTensor {
            name: extra.name.clone(),
            shape: extra.shape.clone(),
            architecture: config.architecture.name,
        }),
    }
}
