//! The engine's sizes.

use crate::layout::{KvGroups, KvLayout};
use crate::policy::SchedulingPolicy;
use crate::request::Limits;

/// Most tokens of a draft that any configuration may ask for: each place has its counter.
pub const DRAFT_TOKENS_MAX: usize = 15;

/// How much the engine may hold and do at once. All values are checked where they are read in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Positions in a KV block; at least 1.
    pub block_size: u32,
    /// Blocks in the pool; at least 1.
    pub block_count: u32,
    /// The groups of the model's layers, each with blocks of its own; at least one.
    pub kv_groups: KvGroups,
    /// Most tokens of prompt and answer together.
    pub max_model_len: u32,
    /// Most sequences that run at once; at least 1.
    pub max_num_seqs: u32,
    /// Most positions computed in one step; at least 1. Sensible from `max_num_seqs` up, so that
    /// every running sequence can advance in every step.
    pub max_num_batched_tokens: u32,
    /// Most requests that wait for a place to run; preempted ones are never refused.
    pub max_num_queued_reqs: u32,
    /// Whether computed blocks are kept for later requests with the same beginning.
    pub prefix_cache: bool,
    /// Who goes first when not everybody can.
    pub scheduling_policy: SchedulingPolicy,
    /// How far steps compute tokens that are only guessed.
    pub speculation: Speculation,
}

/// How far steps compute drafts: tokens behind the last known one, which the device guesses. It keeps
/// those that it would have chosen, so a step gives several tokens and the answer is the same.
///
/// A step of few positions waits for memory more than for products; there a draft costs little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speculation {
    /// Most tokens of a row's draft, at most [`DRAFT_TOKENS_MAX`]; 0 for none at all.
    pub draft_tokens_max: u32,
    /// Most positions of a step that has drafts, with theirs. What a step has left of it is shared
    /// evenly among the rows that choose a token, so that a step that is as large has no drafts.
    pub step_positions_max: u32,
}

impl Speculation {
    /// No drafts.
    pub const OFF: Speculation = Speculation { draft_tokens_max: 0, step_positions_max: 0 };
}

impl EngineConfig {
    /// What a request must keep to.
    pub fn limits(&self) -> Limits {
        Limits {
            max_model_len: self.max_model_len,
            kv: self.kv_layout(),
            block_count: self.block_count,
            scheduling_policy: self.scheduling_policy,
        }
    }

    /// How sequences are kept in blocks.
    pub fn kv_layout(&self) -> KvLayout {
        KvLayout {
            block_size: self.block_size,
            groups: self.kv_groups,
            step_max: self.max_num_batched_tokens,
        }
    }

    /// Most requests in flight: running and waiting together.
    pub fn capacity(&self) -> u32 {
        self.max_num_seqs.saturating_add(self.max_num_queued_reqs)
    }
}
