//! The hyper-parameters of a model, checked before anything is computed with them.

mod keys;
mod tensors;

use std::{
    io::{Read, Seek},
    ops::RangeInclusive,
};

use engine::KvGroups;
use kernels::rope::Pairing;

use crate::{
    architecture::{Architecture, Positions, Presence},
    error::LoadError,
    gguf::{Gguf, Metadata},
    rope::{MAGNITUDE, RopeScaling},
};

use keys::{Keys, in_words};

pub use tensors::ExpectedTensor;

/// Bounds on hyper-parameters: generous for every model in use, small enough that no product of
/// two of them overflows.
const LAYERS: RangeInclusive<u32> = 1..=1024;
const WIDTH: RangeInclusive<u32> = 1..=1 << 20;
const HEADS: RangeInclusive<u32> = 1..=4096;
const HEAD_DIM: RangeInclusive<u32> = 2..=1024;
const CONTEXT: RangeInclusive<u32> = 1..=1 << 24;
const EXPERTS: RangeInclusive<u32> = 1..=1024;
/// A vocabulary's token ids must also fit the `i32` of most tools.
const VOCABULARY: RangeInclusive<u32> = 1..=1 << 24;

/// Base of the rotary frequencies in a file that does not say. Source: llama.cpp's default, with
/// which such files were made.
const ROPE_THETA_DEFAULT: f32 = 10_000.0;

/// What the hyper-parameters of a model are. Made of a GGUF file or a folder alone, so all numbers are
/// positive and finite, `head_count` is a multiple of `kv_head_count`, and `head_dim` is even.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The family.
    pub architecture: &'static Architecture,
    /// Number of token ids; rows of the embedding and of the output head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part; inside each where there are several.
    pub intermediate_size: usize,
    /// Number of transformer blocks.
    pub layer_count: usize,
    /// Query heads in a layer.
    pub head_count: usize,
    /// Key and value heads in a layer; each serves `head_count / kv_head_count` query heads.
    pub kv_head_count: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// How heads are rotated; none where positions are learned.
    pub rope: Option<RopeConfig>,
    /// What is added before the root of a norm.
    pub norm_eps: f32,
    /// What the products of queries and keys are multiplied with.
    pub attention_scale: f32,
    /// Tokens that a layer with a window sees, the present one included.
    pub window: Option<usize>,
    /// The feed-forward parts of which each token takes some.
    pub experts: Option<Experts>,
    /// Longest sequence the model was trained for, in tokens.
    pub context_length: usize,
    /// What the file has beside what every file of the family has.
    pub optional: OptionalTensors,
}

/// How heads are rotated.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Numbers of a head that are rotated; even.
    pub dims: usize,
    /// Which of them are pairs.
    pub pairing: Pairing,
    /// Base of the frequencies.
    pub theta: f32,
    /// Base of the frequencies in layers with a window; those are not scaled.
    pub window_theta: Option<f32>,
    /// How a longer context than that of the training is reached.
    pub scaling: RopeScaling,
}

/// Feed-forward parts of which each token takes some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a token takes; at most `count`.
    pub used: usize,
}

/// Tensors that a file may have or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionalTensors {
    /// `output.weight`; without it the embedding serves as the output head too.
    pub head: bool,
    /// Biases of queries, keys and values.
    pub qkv_bias: bool,
    /// A bias of attention's output.
    pub output_bias: bool,
    /// `rope_freqs.weight`: divisors of the rotary frequencies, as Llama 3.1 has them.
    pub rope_divisors: bool,
    /// `rope_factors_short.weight` and `rope_factors_long.weight`: divisors for short and for long
    /// sequences, as Phi-3 with 128k has them.
    pub rope_factors: bool,
}

impl ModelConfig {
    /// Reads the hyper-parameters of a file whose tokenizer has `token_count` tokens, and checks
    /// that its tensors are exactly the ones they ask for, in name and shape.
    pub fn from_gguf<R: Read + Seek>(
        gguf: &Gguf<R>,
        token_count: usize,
    ) -> Result<Self, LoadError> {
        let architecture = architecture(gguf.metadata())?;
        let optional = OptionalTensors::of(architecture, |name| gguf.tensor(name).is_some());
        let config = Self::from_metadata(gguf.metadata(), (architecture, optional), token_count)?;
        tensors::check(&config, gguf)?;
        Ok(config)
    }

    pub(crate) fn from_metadata(
        metadata: &Metadata,
        (architecture, optional): (&'static Architecture, OptionalTensors),
        token_count: usize,
    ) -> Result<Self, LoadError> {
        let keys = Keys { metadata, architecture };
        keys.check()?;
        let hidden_size = keys.need("embedding_length", WIDTH)?;
        let head_count = keys.need("attention.head_count", HEADS)?;
        let kv_key = "attention.head_count_kv";
        let kv_head_count = keys.number(kv_key, HEADS)?.unwrap_or(head_count);
        if !head_count.is_multiple_of(kv_head_count) {
            let limit = format!("a divisor of {}, {head_count}", keys.full("attention.head_count"));
            return Err(bad(&keys.full(kv_key), kv_head_count, limit));
        }
        let head_dim = head_dim(&keys, hidden_size, head_count)?;
        let layer_count = keys.need("block_count", LAYERS)? as usize;
        let experts = experts(&keys)?;
        let inner = match (experts, keys.number("expert_feed_forward_length", WIDTH)?) {
            (Some(_), Some(inner)) => inner,
            _ => keys.need("feed_forward_length", WIDTH)?,
        };
        let scaled_width = match architecture.layers_scaled_by_width == Some(layer_count) {
            true => hidden_size / head_count,
            false => head_dim,
        };
        Ok(Self {
            architecture,
            vocab_size: vocab_size(&keys, token_count)?,
            hidden_size: hidden_size as usize,
            intermediate_size: inner as usize,
            layer_count,
            head_count: head_count as usize,
            kv_head_count: kv_head_count as usize,
            head_dim: head_dim as usize,
            rope: rope(&keys, head_dim, optional)?,
            norm_eps: norm_eps(&keys)?,
            attention_scale: 1.0 / (scaled_width as f32).sqrt(),
            window: window(&keys)?,
            experts,
            context_length: keys.need("context_length", CONTEXT)? as usize,
            optional,
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

    /// True if the embedding serves as the output head too.
    pub fn tied_head(&self) -> bool {
        !self.optional.head
    }

    /// Tokens that `layer` sees, if it does not see all.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        self.window.filter(|_| self.architecture.has_window(layer))
    }

    /// The groups of layers whose keys and values are kept apart, so that those with a window may lose what
    /// lies behind it: as large as can be, with equally many layers each. One if no sequence, of `len_max`
    /// tokens at most, is longer than the window.
    pub fn kv_groups(&self, len_max: usize) -> KvGroups {
        let Some(window) = self.window.filter(|&window| window < len_max) else {
            return KvGroups::ONE;
        };
        let layers = 0..self.layer_count;
        let windowed = layers.filter(|&layer| self.window_of(layer).is_some()).count();
        let full = self.layer_count - windowed;
        let size = greatest_common_divisor(full, windowed);
        let count = |layers: usize| u32::try_from(layers / size).expect("layers are few");
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        KvGroups { full: count(full), windowed: count(windowed), window }
    }

    /// The group of each layer. `groups` are [`ModelConfig::kv_groups`] or [`KvGroups::ONE`].
    pub fn group_of_layers(&self, groups: KvGroups) -> Vec<usize> {
        let size = self.layer_count / groups.count();
        let (mut full, mut windowed) = (0, groups.full as usize * size);
        let group = |layer| {
            let is_windowed = groups.windowed != 0 && self.window_of(layer).is_some();
            let place = if is_windowed { &mut windowed } else { &mut full };
            *place += 1;
            (*place - 1) / size
        };
        (0..self.layer_count).map(group).collect()
    }
}

/// The greatest number that divides both; at least one of them is not 0.
fn greatest_common_divisor(one: usize, other: usize) -> usize {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

impl OptionalTensors {
    /// Of a file of which `has` tells whether it has a tensor.
    pub(crate) fn of(architecture: &Architecture, has: impl Fn(&str) -> bool) -> Self {
        let decide = |presence, name| match presence {
            Presence::Never => false,
            Presence::Always => true,
            Presence::Optional => has(name),
        };
        let rotary = matches!(architecture.positions, Positions::Rotary(_));
        OptionalTensors {
            head: has("output.weight"),
            qkv_bias: decide(architecture.qkv_bias, "blk.0.attn_q.bias"),
            output_bias: decide(architecture.output_bias, "blk.0.attn_output.bias"),
            rope_divisors: rotary && has("rope_freqs.weight"),
            rope_factors: rotary && has("rope_factors_long.weight"),
        }
    }
}

fn architecture(metadata: &Metadata) -> Result<&'static Architecture, LoadError> {
    let key = "general.architecture";
    let name = require(metadata.text(key)?, key)?;
    Architecture::named(name)
        .ok_or_else(|| bad(key, format!("`{name}`"), format!("one of {}", Architecture::names())))
}

/// Refuses a number of tokens that no list of them should be made for.
pub(crate) fn vocabulary(key: &str, count: u64) -> Result<u32, LoadError> {
    let accepted = u32::try_from(count).ok().filter(|count| VOCABULARY.contains(count));
    accepted.ok_or_else(|| bad(key, count, in_words(&VOCABULARY)))
}

fn vocab_size(keys: &Keys<'_>, token_count: usize) -> Result<usize, LoadError> {
    let count = vocabulary("tokenizer.ggml.tokens", token_count as u64)?;
    match keys.u32("vocab_size")? {
        Some(found) if found != count => Err(bad(
            &keys.full("vocab_size"),
            found,
            format!("{count}, the number of tokens in tokenizer.ggml.tokens"),
        )),
        _ => Ok(token_count),
    }
}

/// Elements of a head: given, or the width shared out evenly.
fn head_dim(keys: &Keys<'_>, hidden_size: u32, head_count: u32) -> Result<u32, LoadError> {
    let head_dim = match keys.number("attention.key_length", HEAD_DIM)? {
        Some(given) => given,
        None if hidden_size.is_multiple_of(head_count) => hidden_size / head_count,
        None => {
            let limit = format!("a divisor of {}, {hidden_size}", keys.full("embedding_length"));
            return Err(bad(&keys.full("attention.head_count"), head_count, limit));
        }
    };
    if !head_dim.is_multiple_of(2) || !HEAD_DIM.contains(&head_dim) {
        let limit = format!("an even number, {}", in_words(&HEAD_DIM));
        return Err(bad("the size of a head", head_dim, limit));
    }
    let value_key = "attention.value_length";
    if let Some(found) = keys.u32(value_key)?.filter(|&found| found != head_dim) {
        return Err(bad(&keys.full(value_key), found, format!("{head_dim}, the size of a head")));
    }
    Ok(head_dim)
}

fn rope(
    keys: &Keys<'_>,
    head_dim: u32,
    optional: OptionalTensors,
) -> Result<Option<RopeConfig>, LoadError> {
    let Positions::Rotary(pairing) = keys.architecture.positions else { return Ok(None) };
    let dims_key = "rope.dimension_count";
    let dims = keys.number(dims_key, 2..=head_dim)?.unwrap_or(head_dim);
    if !dims.is_multiple_of(2) {
        return Err(bad(&keys.full(dims_key), dims, "an even number".to_string()));
    }
    if optional.rope_factors && optional.rope_divisors {
        let limit = "one or the other".to_string();
        return Err(bad("rope_freqs.weight", "beside rope_factors_long.weight", limit));
    }
    let theta_key = "rope.freq_base";
    let theta = keys.float(theta_key, 1.0..=1e12)?.unwrap_or(ROPE_THETA_DEFAULT);
    Ok(Some(RopeConfig {
        dims: dims as usize,
        pairing,
        theta,
        window_theta: keys.architecture.window_rope_theta,
        scaling: rope_scaling(keys, optional.rope_factors)?,
    }))
}

/// A file that gives a factor and no type means the linear one, and one with lists of divisors and no
/// type the one with lists, as llama.cpp has it.
fn rope_scaling(keys: &Keys<'_>, has_lists: bool) -> Result<RopeScaling, LoadError> {
    let (type_key, factor_key) = ("rope.scaling.type", "rope.scaling.factor");
    let factor = keys.float(factor_key, 1.0..=1e4)?;
    let need_factor = || factor.ok_or_else(|| LoadError::MissingKey { key: keys.full(factor_key) });
    let context = || keys.need("rope.scaling.original_context_length", CONTEXT);
    let magnitude = || keys.float("rope.scaling.attn_factor", MAGNITUDE);
    let kind = keys.text(type_key)?;
    match kind.or(has_lists.then_some("longrope")) {
        None => Ok(factor.map_or(RopeScaling::None, |factor| RopeScaling::Linear { factor })),
        Some("none") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: need_factor()? }),
        Some("yarn") => Ok(RopeScaling::Yarn {
            factor: need_factor()?,
            context: context()? as usize,
            magnitude: magnitude()?.unwrap_or(1.0),
        }),
        Some("longrope") => Ok(RopeScaling::Long {
            context: context()? as usize,
            magnitude: magnitude()?.unwrap_or(1.0),
        }),
        Some(other) => {
            let limit = "`none`, `linear`, `yarn` or `longrope`".to_string();
            Err(bad(&keys.full(type_key), format!("`{other}`"), limit))
        }
    }
}

/// A window of 0 tokens means none.
fn window(keys: &Keys<'_>) -> Result<Option<usize>, LoadError> {
    let window = keys.number("attention.sliding_window", 0..=*CONTEXT.end())?;
    Ok(window.filter(|&window| 0 < window).map(|window| window as usize))
}

fn experts(keys: &Keys<'_>) -> Result<Option<Experts>, LoadError> {
    let (count_key, used_key) = ("expert_count", "expert_used_count");
    let count = match keys.architecture.experts {
        Presence::Never => return Ok(None),
        Presence::Optional if keys.u32(count_key)?.unwrap_or(0) == 0 => return Ok(None),
        _ => keys.need(count_key, EXPERTS)?,
    };
    let used = keys.need(used_key, 1..=count)?;
    Ok(Some(Experts { count: count as usize, used: used as usize }))
}

fn norm_eps(keys: &Keys<'_>) -> Result<f32, LoadError> {
    let part = keys.architecture.norm_eps_key();
    let (key, limit) = (keys.full(part), "above 0, at most 0.1".to_string());
    let eps = require(keys.metadata.f32(&keys.key(part))?, &key)?;
    if 0.0 < eps && eps <= 0.1 { Ok(eps) } else { Err(bad(&key, eps, limit)) }
}

pub(crate) fn require<T>(value: Option<T>, key: &str) -> Result<T, LoadError> {
    value.ok_or_else(|| LoadError::MissingKey { key: key.to_string() })
}

pub(crate) fn bad(key: &str, value: impl ToString, limit: String) -> LoadError {
    LoadError::BadValue { key: key.to_string(), value: value.to_string(), limit }
}
