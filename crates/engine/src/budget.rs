//! Bytes in, blocks and maximum concurrency out: the one formula, for serving and for planning.
//!
//! `weights + adapters + activations + buffers + KV blocks` stay under the promised share of memory. The
//! words and the rounding are vLLM's (`v1/core/kv_cache_utils.py`), except that no block is set
//! aside as a null block.

use std::fmt;

use crate::layout::{KvGroups, KvLayout};

/// What a model needs. All sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// The packed weights.
    pub weights_bytes: u64,
    /// What adapters add, their share of a step included; 0 without any.
    pub adapter_bytes: u64,
    /// The most that one step of `max_num_batched_tokens` needs.
    pub activation_bytes: u64,
    /// Everything else that is bounded: queues, streams, tokenizer.
    pub buffer_bytes: u64,
    /// Keys and values of one block, the layers of a group together; at least 1.
    pub block_bytes: u64,
    /// Positions in a block; at least 1.
    pub block_size: u32,
    /// The groups of layers, each with blocks of its own; at least one.
    pub kv_groups: KvGroups,
    /// Most tokens of a step; at least 1.
    pub max_num_batched_tokens: u32,
    /// Most tokens of one request; at least 1.
    pub max_model_len: u32,
}

impl Demand {
    /// How sequences are kept in blocks.
    pub fn kv_layout(&self) -> KvLayout {
        KvLayout {
            block_size: self.block_size,
            groups: self.kv_groups,
            step_max: self.max_num_batched_tokens,
        }
    }

    /// Most blocks that a request of so many tokens holds at once.
    pub fn blocks_of(&self, tokens: u32) -> u64 {
        self.kv_layout().blocks_of(u64::from(tokens))
    }

    /// Their bytes, at most 2^64 - 1.
    pub fn kv_bytes_of(&self, tokens: u32) -> u64 {
        self.blocks_of(tokens).saturating_mul(self.block_bytes)
    }

    /// Keys and values of one token, all layers together.
    pub fn token_bytes(&self) -> u64 {
        let groups = self.kv_groups.count() as u64;
        groups.saturating_mul(self.block_bytes) / u64::from(self.block_size)
    }
}

/// What the machine has and what of it may be used. All sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// The least of every cgroup limit and the physical memory.
    pub total_bytes: u64,
    /// What is available before any of the demand is taken.
    pub available_bytes: u64,
    /// The share of `total_bytes` that may be used: above 0, at most 1.
    pub utilization: f64,
    /// The bytes for KV blocks, if given; `utilization` then does not count.
    pub kv_cache_bytes: Option<u64>,
}

/// How memory is divided. All sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// What was asked for.
    pub demand: Demand,
    /// What there is.
    pub memory: Memory,
    /// The KV blocks: `block_count * block_bytes`.
    pub kv_bytes: u64,
    /// Blocks in the pool.
    pub block_count: u32,
}

/// Why the model cannot be served in this memory.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BudgetError {
    /// The share is no share.
    #[error("--memory-utilization is {value}; give a number above 0 and at most 1")]
    UtilizationOutOfRange {
        /// The share given.
        value: f64,
    },
    /// The demand cannot be added up.
    #[error("weights, adapters, activations and buffers add up to more than 2^64 bytes")]
    DemandOverflow,
    /// Nothing is left for KV blocks.
    #[error(
        "weights, activations and buffers need {} and the budget is {}, which leaves no room for \
         the KV blocks of one token, {}; raise --memory-utilization or set --kv-cache-memory-bytes",
        Bytes(*.fixed_bytes), Bytes(*.limit_bytes), Bytes(*.least_bytes)
    )]
    NoRoomForBlocks {
        /// Weights, activations and buffers.
        fixed_bytes: u64,
        /// What all may use together.
        limit_bytes: u64,
        /// A block of each group of layers.
        least_bytes: u64,
    },
    /// `--kv-cache-memory-bytes` is less than one token needs.
    #[error(
        "--kv-cache-memory-bytes is {kv_bytes}, less than the KV blocks of one token, {least_bytes} bytes"
    )]
    KvBelowOneToken {
        /// The bytes given.
        kv_bytes: u64,
        /// A block of each group of layers.
        least_bytes: u64,
    },
    /// The promise cannot be kept now.
    #[error(
        "the budget is {} and only {} of memory is available; end other programs or lower \
         --memory-utilization or --kv-cache-memory-bytes",
        Bytes(*.needed_bytes), Bytes(*.available_bytes)
    )]
    NotAvailable {
        /// The whole budget.
        needed_bytes: u64,
        /// What is available.
        available_bytes: u64,
    },
    /// One request of the greatest length would not fit.
    #[error(
        "one request of max_model_len {max_model_len} needs {needed} KV blocks and {block_count} \
         fit; set --max-model-len to at most {feasible} or give more memory"
    )]
    ModelLenTooLong {
        /// The length asked for.
        max_model_len: u32,
        /// Blocks for one such request.
        needed: u64,
        /// Blocks that fit.
        block_count: u32,
        /// The greatest length that fits.
        feasible: u32,
    },
}

impl Budget {
    /// Divides the memory, or says what is too much.
    pub fn new(demand: Demand, memory: Memory) -> Result<Budget, BudgetError> {
        let block_count = fitting_blocks(&demand, &memory)?;
        let needed = demand.blocks_of(demand.max_model_len);
        if u64::from(block_count) < needed {
            return Err(BudgetError::ModelLenTooLong {
                max_model_len: demand.max_model_len,
                needed,
                block_count,
                feasible: demand.kv_layout().longest(block_count),
            });
        }
        let kv_bytes = u64::from(block_count) * demand.block_bytes;
        Ok(Budget { demand, memory, kv_bytes, block_count })
    }

    /// Weights, adapters, activations, buffers and KV blocks together.
    pub fn total_bytes(&self) -> u64 {
        let fixed = fixed_bytes(&self.demand).expect("a budget's demand adds up");
        fixed + self.kv_bytes
    }

    /// How many requests of `max_model_len` fit at once, each with the blocks that it holds at most; not
    /// a whole number.
    pub fn max_concurrency(&self) -> f64 {
        f64::from(self.block_count) / self.demand.blocks_of(self.demand.max_model_len) as f64
    }

    /// `max_concurrency` times `max_model_len`, rounded down: vLLM's size of the KV cache.
    pub fn kv_tokens(&self) -> u64 {
        let Demand { max_model_len, .. } = self.demand;
        let tokens = u128::from(self.block_count) * u128::from(max_model_len);
        (tokens / u128::from(self.demand.blocks_of(max_model_len))) as u64
    }

    /// What layers with a window save of a request of `max_model_len`; none if nothing.
    pub fn window_line(&self) -> Option<String> {
        let demand = self.demand;
        let kept = demand.kv_bytes_of(demand.max_model_len);
        let all = Demand { kv_groups: KvGroups { window: u32::MAX, ..demand.kv_groups }, ..demand };
        let all = all.kv_bytes_of(demand.max_model_len);
        (kept < all).then(|| {
            format!(
                "Layers with a window keep only the blocks in it, of {} tokens: a request of {} tokens takes \
                 {} of keys and values, not {}",
                thousands(u64::from(demand.kv_groups.window)),
                thousands(u64::from(demand.max_model_len)),
                Bytes(kept),
                Bytes(all)
            )
        })
    }

    /// The line that vLLM's users look for. `device` is the word for it: `CPU`.
    pub fn log_line(&self, device: &str) -> String {
        format!(
            "{device} KV cache size: {} tokens, Maximum concurrency for {} tokens per request: {:.2}x",
            thousands(self.kv_tokens()),
            thousands(u64::from(self.demand.max_model_len)),
            self.max_concurrency()
        )
    }
}

/// The whole sum, in one line.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Demand { weights_bytes, activation_bytes, buffer_bytes, block_bytes, .. } = self.demand;
        write!(f, "Memory: weights {}", Bytes(weights_bytes))?;
        if 0 < self.demand.adapter_bytes {
            write!(f, " + adapters {}", Bytes(self.demand.adapter_bytes))?;
        }
        write!(
            f,
            " + activations {} + buffers {} + KV {} ({} blocks of {}) = {} of {}",
            Bytes(activation_bytes),
            Bytes(buffer_bytes),
            Bytes(self.kv_bytes),
            thousands(u64::from(self.block_count)),
            Bytes(block_bytes),
            Bytes(self.total_bytes()),
            Bytes(self.memory.total_bytes)
        )
    }
}

/// The greatest `max_model_len` that fits; the demand's own does not count.
pub fn feasible_model_len(demand: &Demand, memory: &Memory) -> Result<u32, BudgetError> {
    Ok(demand.kv_layout().longest(fitting_blocks(demand, memory)?))
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if 0 < index && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn fixed_bytes(demand: &Demand) -> Option<u64> {
    demand
        .weights_bytes
        .checked_add(demand.adapter_bytes)
        .and_then(|sum| sum.checked_add(demand.activation_bytes))
        .and_then(|sum| sum.checked_add(demand.buffer_bytes))
}

/// Blocks that the memory holds beside the rest of the demand; at least those of one token.
fn fitting_blocks(demand: &Demand, memory: &Memory) -> Result<u32, BudgetError> {
    let fixed_bytes = fixed_bytes(demand).ok_or(BudgetError::DemandOverflow)?;
    let (kv_bytes, needed_bytes) = match memory.kv_cache_bytes {
        Some(kv_bytes) => (kv_bytes, fixed_bytes.checked_add(kv_bytes)),
        None => {
            let limit_bytes = limit_bytes(memory)?;
            (limit_bytes.saturating_sub(fixed_bytes), Some(limit_bytes))
        }
    };
    let needed_bytes = needed_bytes.ok_or(BudgetError::DemandOverflow)?;
    let available_bytes = memory.available_bytes;
    let least_bytes = demand.kv_bytes_of(1);
    if kv_bytes < least_bytes && memory.kv_cache_bytes.is_some() {
        return Err(BudgetError::KvBelowOneToken { kv_bytes, least_bytes });
    }
    if kv_bytes < least_bytes {
        let limit_bytes = needed_bytes;
        return Err(BudgetError::NoRoomForBlocks { fixed_bytes, limit_bytes, least_bytes });
    }
    if available_bytes < needed_bytes {
        return Err(BudgetError::NotAvailable { needed_bytes, available_bytes });
    }
    Ok(u32::try_from(kv_bytes / demand.block_bytes).unwrap_or(u32::MAX))
}

/// The promised share of memory, rounded up as vLLM does.
fn limit_bytes(memory: &Memory) -> Result<u64, BudgetError> {
    let value = memory.utilization;
    if !(0.0 < value && value <= 1.0) {
        return Err(BudgetError::UtilizationOutOfRange { value });
    }
    Ok((memory.total_bytes as f64 * value).ceil() as u64)
}

/// A size in bytes, for people: `1.50 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while 1024.0 <= value && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.2} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests;
