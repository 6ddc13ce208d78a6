//! The hyper-parameters of a model, checked before anything is computed with them.

use std::{
    collections::BTreeSet,
    io::{Read, Seek},
    ops::RangeInclusive,
};

use crate::{
    error::{LoadError, Shape},
    gguf::{Gguf, Metadata, Value},
};

/// The one architecture that is implemented, by the name files give it.
pub const ARCHITECTURE: &str = "llama";

/// Bounds on hyper-parameters: generous for every model in use, small enough that no product of
/// two of them overflows.
const LAYERS: RangeInclusive<u32> = 1..=1024;
const WIDTH: RangeInclusive<u32> = 1..=1 << 20;
const HEADS: RangeInclusive<u32> = 1..=4096;
const HEAD_DIM: RangeInclusive<u32> = 2..=1024;
const CONTEXT: RangeInclusive<u32> = 1..=1 << 24;
/// A vocabulary's token ids must also fit the `i32` of most tools.
const VOCABULARY: RangeInclusive<u32> = 1..=1 << 24;

/// Base of the rotary frequencies in a file that does not say. Source: llama.cpp's default for
/// the architecture, with which such files were made.
const ROPE_THETA_DEFAULT: f32 = 10_000.0;

/// What the hyper-parameters of a `llama` model are. Made by [`ModelConfig::from_gguf`] alone, so
/// all numbers are positive and finite, `head_count` is a multiple of `kv_head_count`, and
/// `head_dim` is even.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// Number of token ids; rows of the embedding and of the output head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Number of transformer blocks.
    pub layer_count: usize,
    /// Query heads in a layer.
    pub head_count: usize,
    /// Key and value heads in a layer; each serves `head_count / kv_head_count` query heads.
    pub kv_head_count: usize,
    /// Elements of a head; all of them are rotated, as adjacent pairs.
    pub head_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// What is added to the mean square before the root.
    pub rms_norm_eps: f32,
    /// Longest sequence the model was trained for, in tokens.
    pub context_length: usize,
    /// True if the embedding serves as the output head too (the file has no `output.weight`).
    pub tied_head: bool,
}

/// A tensor that the architecture needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// Its name in the file.
    pub name: String,
    /// Its shape, outermost dimension first.
    pub shape: Shape,
}

impl ModelConfig {
    /// Reads the hyper-parameters of a file whose tokenizer has `token_count` tokens, and checks
    /// that its tensors are exactly the ones they ask for, in name and shape.
    pub fn from_gguf<R: Read + Seek>(
        gguf: &Gguf<R>,
        token_count: usize,
    ) -> Result<Self, LoadError> {
        let tied_head = gguf.tensor("output.weight").is_none();
        let config = Self::from_metadata(gguf.metadata(), token_count, tied_head)?;
        config.check_tensors(gguf)?;
        Ok(config)
    }

    fn from_metadata(
        metadata: &Metadata,
        token_count: usize,
        tied_head: bool,
    ) -> Result<Self, LoadError> {
        let architecture = require(metadata.text("general.architecture")?, "general.architecture")?;
        if architecture != ARCHITECTURE {
            let limit = format!("`{ARCHITECTURE}`");
            return Err(bad("general.architecture", format!("`{architecture}`"), limit));
        }
        check_keys(metadata)?;
        let number = |key, range| require(optional(metadata, key, range)?, key);
        let hidden_size = number("llama.embedding_length", WIDTH)?;
        let head_count = number("llama.attention.head_count", HEADS)?;
        let kv_key = "llama.attention.head_count_kv";
        let kv_head_count = optional(metadata, kv_key, HEADS)?.unwrap_or(head_count);
        if !head_count.is_multiple_of(kv_head_count) {
            let limit = format!("a divisor of llama.attention.head_count, {head_count}");
            return Err(bad(kv_key, kv_head_count, limit));
        }
        Ok(Self {
            vocab_size: vocab_size(metadata, token_count)?,
            hidden_size: hidden_size as usize,
            intermediate_size: number("llama.feed_forward_length", WIDTH)? as usize,
            layer_count: number("llama.block_count", LAYERS)? as usize,
            head_count: head_count as usize,
            kv_head_count: kv_head_count as usize,
            head_dim: head_dim(metadata, hidden_size, head_count)? as usize,
            rope_theta: rope_theta(metadata)?,
            rms_norm_eps: rms_norm_eps(metadata)?,
            context_length: number("llama.context_length", CONTEXT)? as usize,
            tied_head,
        })
    }

    /// Elements of the queries of one token: `head_count · head_dim`.
    pub fn query_size(&self) -> usize {
        self.head_count * self.head_dim
    }

    /// Elements of the keys, and of the values, of one token in one layer.
    pub fn kv_size(&self) -> usize {
        self.kv_head_count * self.head_dim
    }

    /// Every tensor a file of this model has, in the order of computation.
    pub fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        let (hidden, inner) = (self.hidden_size as u64, self.intermediate_size as u64);
        let (query, kv) = (self.query_size() as u64, self.kv_size() as u64);
        let vocab = self.vocab_size as u64;
        let mut tensors = Vec::new();
        let mut expect = |name: String, shape: &[u64]| {
            tensors.push(ExpectedTensor { name, shape: Shape(shape.to_vec()) });
        };
        expect("token_embd.weight".to_string(), &[vocab, hidden]);
        for layer in 0..self.layer_count {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            expect(name("attn_norm"), &[hidden]);
            expect(name("attn_q"), &[query, hidden]);
            expect(name("attn_k"), &[kv, hidden]);
            expect(name("attn_v"), &[kv, hidden]);
            expect(name("attn_output"), &[hidden, query]);
            expect(name("ffn_norm"), &[hidden]);
            expect(name("ffn_gate"), &[inner, hidden]);
            expect(name("ffn_up"), &[inner, hidden]);
            expect(name("ffn_down"), &[hidden, inner]);
        }
        expect("output_norm.weight".to_string(), &[hidden]);
        if !self.tied_head {
            expect("output.weight".to_string(), &[vocab, hidden]);
        }
        tensors
    }

    fn check_tensors<R: Read + Seek>(&self, gguf: &Gguf<R>) -> Result<(), LoadError> {
        let expected = self.expected_tensors();
        for ExpectedTensor { name, shape } in &expected {
            let Some(found) = gguf.tensor(name) else {
                return Err(LoadError::MissingTensor {
                    name: name.clone(),
                    expected: shape.clone(),
                });
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
                architecture: ARCHITECTURE,
            }),
        }
    }
}

/// The `llama.` keys that are read, or that change nothing.
const KNOWN_KEYS: &[&str] = &[
    "llama.vocab_size",
    "llama.context_length",
    "llama.embedding_length",
    "llama.block_count",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    // Says who wrote the original weights; llama.cpp reads it for display only.
    "llama.tensor_data_layout",
];

/// Refuses every `llama.` key that is not understood: it may change what has to be computed.
fn check_keys(metadata: &Metadata) -> Result<(), LoadError> {
    for (key, value) in metadata.iter() {
        let neutral = match (key, value) {
            ("llama.rope.scaling.type", Value::Text(kind)) => kind == "none",
            ("llama.expert_count" | "llama.expert_used_count", Value::Integer(_, 0)) => true,
            ("llama.attention.causal", Value::Bool(true)) => true,
            _ => KNOWN_KEYS.contains(&key),
        };
        if key.starts_with("llama.") && !neutral {
            let (key, value) = (key.to_string(), value.to_string());
            return Err(LoadError::UnsupportedKey { key, value });
        }
    }
    Ok(())
}

fn vocab_size(metadata: &Metadata, token_count: usize) -> Result<usize, LoadError> {
    let count = u32::try_from(token_count).ok().filter(|count| VOCABULARY.contains(count));
    let Some(count) = count else {
        return Err(bad("tokenizer.ggml.tokens", token_count, in_words(&VOCABULARY)));
    };
    match metadata.u32("llama.vocab_size")? {
        Some(found) if found != count => Err(bad(
            "llama.vocab_size",
            found,
            format!("{count}, the number of tokens in tokenizer.ggml.tokens"),
        )),
        _ => Ok(token_count),
    }
}

/// Elements of a head: given, or the width shared out evenly.
fn head_dim(metadata: &Metadata, hidden_size: u32, head_count: u32) -> Result<u32, LoadError> {
    let key = "llama.attention.key_length";
    let head_dim = match optional(metadata, key, HEAD_DIM)? {
        Some(given) => given,
        None if hidden_size.is_multiple_of(head_count) => hidden_size / head_count,
        None => {
            let limit = format!("a divisor of llama.embedding_length, {hidden_size}");
            return Err(bad("llama.attention.head_count", head_count, limit));
        }
    };
    if !head_dim.is_multiple_of(2) || !HEAD_DIM.contains(&head_dim) {
        let limit = format!("an even number, {}", in_words(&HEAD_DIM));
        return Err(bad("the size of a head", head_dim, limit));
    }
    for same in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        if let Some(found) = metadata.u32(same)?.filter(|&found| found != head_dim) {
            return Err(bad(same, found, format!("{head_dim}, the size of a head")));
        }
    }
    Ok(head_dim)
}

fn rope_theta(metadata: &Metadata) -> Result<f32, LoadError> {
    let key = "llama.rope.freq_base";
    let theta = metadata.f32(key)?.unwrap_or(ROPE_THETA_DEFAULT);
    if (1.0..=1e12).contains(&theta) {
        return Ok(theta);
    }
    Err(bad(key, theta, "1 to 1e12".to_string()))
}

fn rms_norm_eps(metadata: &Metadata) -> Result<f32, LoadError> {
    let key = "llama.attention.layer_norm_rms_epsilon";
    let eps = require(metadata.f32(key)?, key)?;
    if 0.0 < eps && eps <= 0.1 {
        return Ok(eps);
    }
    Err(bad(key, eps, "above 0, at most 0.1".to_string()))
}

fn optional(
    metadata: &Metadata,
    key: &str,
    range: RangeInclusive<u32>,
) -> Result<Option<u32>, LoadError> {
    match metadata.u32(key)? {
        Some(value) if !range.contains(&value) => Err(bad(key, value, in_words(&range))),
        value => Ok(value),
    }
}

pub(crate) fn require<T>(value: Option<T>, key: &str) -> Result<T, LoadError> {
    value.ok_or_else(|| LoadError::MissingKey { key: key.to_string() })
}

pub(crate) fn bad(key: &str, value: impl ToString, limit: String) -> LoadError {
    LoadError::BadValue { key: key.to_string(), value: value.to_string(), limit }
}

fn in_words(range: &RangeInclusive<u32>) -> String {
    format!("{} to {}", range.start(), range.end())
}
