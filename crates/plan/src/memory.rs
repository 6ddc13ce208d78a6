//! The engine's budget before there is an engine: what is asked for, whether it fits, how many
//! fit, and what it would take.

use engine::KvGroups;
use engine::budget::{Budget, BudgetError, Demand, Memory, feasible_model_len};

use crate::dtype::KvDtype;
use crate::shape::Shape;

/// What an engine that is not ours holds beside tensors: handles and workspaces of libraries.
/// Source: start logs of vLLM on a single device, which say 0.02 to 0.25 GiB
/// (`non-torch forward increase memory`).
pub const OTHER_BYTES: u64 = 100 << 20;

/// 32-bit floats per logit while tokens are chosen: the logits, their probabilities and random
/// numbers, beside the logits as the head gives them.
const SAMPLING_FLOATS: u64 = 3;

/// The share of memory by which utilisations are rounded up.
const UTILIZATION_STEPS: f64 = 1e4;

/// What an engine is told about its steps and its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineSizes {
    /// Most tokens of one request; at least 1.
    pub max_model_len: u32,
    /// Most sequences that run at once; at least 1.
    pub max_num_seqs: u32,
    /// Most tokens of a step; at least 1.
    pub max_num_batched_tokens: u32,
    /// Positions in a block; at least 1.
    pub block_size: u32,
    /// How keys and values are stored.
    pub kv_dtype: KvDtype,
}

/// What an engine on PyTorch takes, term by term, as vLLM finds it in the profile run at its
/// start: one step of the most tokens, and the choice of a token for the most sequences. In bytes.
///
/// What lies in memory at the same time is added, what does not is not: `weights + hidden +
/// max(widest, sampling) + other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// The weights.
    pub weights_bytes: u64,
    /// The residual stream and what is added to it.
    pub hidden_bytes: u64,
    /// The widest moment of a layer: gate, up and their product, or queries, keys, values and what
    /// was attended.
    pub widest_bytes: u64,
    /// Logits of every sequence, once as computed and three times as 32-bit floats.
    pub sampling_bytes: u64,
    /// [`OTHER_BYTES`].
    pub other_bytes: u64,
    /// Keys and values of one token, all layers together.
    pub token_bytes: u64,
}

impl Estimate {
    /// What a model of this shape takes.
    pub fn new(shape: &Shape, sizes: &EngineSizes) -> Estimate {
        let tokens = u64::from(sizes.max_num_batched_tokens) * shape.activation_bytes();
        let logits = u64::from(sizes.max_num_seqs) * shape.sizes.vocabulary;
        Estimate {
            weights_bytes: shape.weight_bytes(),
            hidden_bytes: tokens * 2 * shape.sizes.width,
            widest_bytes: tokens * widest(shape),
            sampling_bytes: logits * (shape.activation_bytes() + 4 * SAMPLING_FLOATS),
            other_bytes: OTHER_BYTES,
            token_bytes: shape.kv_bytes(sizes.kv_dtype),
        }
    }

    /// The most that a step takes.
    pub fn activation_bytes(&self) -> u64 {
        self.hidden_bytes + self.widest_bytes.max(self.sampling_bytes)
    }

    /// What the engine's formula divides the memory by.
    pub fn demand(&self, sizes: &EngineSizes) -> Demand {
        Demand {
            weights_bytes: self.weights_bytes,
            adapter_bytes: 0,
            activation_bytes: self.activation_bytes(),
            buffer_bytes: self.other_bytes,
            block_bytes: self.token_bytes * u64::from(sizes.block_size),
            block_size: sizes.block_size,
            kv_groups: KvGroups::ONE,
            max_num_batched_tokens: sizes.max_num_batched_tokens,
            max_model_len: sizes.max_model_len,
        }
    }
}

/// Elements of a token at the widest moment of a layer.
pub fn widest(shape: &Shape) -> u64 {
    let attention = 2 * shape.sizes.query_width() + 2 * shape.sizes.kv_width();
    let parts = shape.experts.used * shape.sizes.ffn + shape.experts.shared_ffn;
    let feed_forward = (2 + u64::from(shape.style.gated)) * parts;
    attention.max(feed_forward)
}

/// The memory of a device on which nothing else runs.
pub fn free_device(total_bytes: u64, utilization: f64) -> Memory {
    Memory { total_bytes, available_bytes: total_bytes, utilization, kv_cache_bytes: None }
}

/// What people ask of a demand and a memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question {
    /// What the model takes.
    pub demand: Demand,
    /// What there is.
    pub memory: Memory,
    /// Tokens that a request really has, prompt and answer together; at least 1.
    pub length: u32,
    /// Users with one request each; at least 1.
    pub users: u32,
}

/// The answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// How the memory is divided, or why it cannot be.
    pub budget: Result<Budget, BudgetError>,
    /// The greatest length of a request that fits; none if no block does.
    pub model_len_max: Option<u32>,
    /// The least utilisation at which one request of the greatest length fits; more than 1 if the
    /// device is too small for it.
    pub utilization_for_one: f64,
    /// How many requests of the length asked for fit at once; not a whole number, 0 if the budget
    /// cannot be made.
    pub concurrency: f64,
    /// The least utilisation at which requests of that length of so many users fit at once; more
    /// than 1 if the device is too small.
    pub utilization_for_users: f64,
    /// What all of that takes, in bytes.
    pub bytes_for_users: u64,
}

impl Question {
    /// Divides the memory and answers.
    pub fn answers(&self) -> Answers {
        let Question { demand, memory, length, users } = *self;
        let budget = Budget::new(demand, memory);
        let block_count = budget.as_ref().map_or(0, |budget| budget.block_count);
        let blocks_each = demand.blocks_of(length);
        let one = demand.blocks_of(demand.max_model_len);
        let bytes_for_users = self.bytes_with(u64::from(users).saturating_mul(blocks_each));
        Answers {
            budget,
            model_len_max: feasible_model_len(&demand, &memory).ok(),
            utilization_for_one: self.utilization_of(self.bytes_with(one)),
            concurrency: f64::from(block_count) / blocks_each as f64,
            utilization_for_users: self.utilization_of(bytes_for_users),
            bytes_for_users,
        }
    }

    /// Bytes of everything with so many blocks, at most 2^64 - 1.
    fn bytes_with(&self, blocks: u64) -> u64 {
        let Demand { weights_bytes, adapter_bytes, .. } = self.demand;
        let Demand { activation_bytes, buffer_bytes, block_bytes, .. } = self.demand;
        weights_bytes
            .saturating_add(adapter_bytes)
            .saturating_add(activation_bytes)
            .saturating_add(buffer_bytes)
            .saturating_add(blocks.saturating_mul(block_bytes))
    }

    /// The share of memory that `bytes` are, rounded up so that it is enough.
    fn utilization_of(&self, bytes: u64) -> f64 {
        let share = bytes as f64 / self.memory.total_bytes as f64;
        (share * UTILIZATION_STEPS).ceil() / UTILIZATION_STEPS
    }
}

#[cfg(test)]
mod tests;
