//! The engine's sizes.

use crate::policy::SchedulingPolicy;
use crate::request::Limits;

/// How much the engine may hold and do at once. All values are checked where they are read in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Positions in a KV block; at least 1.
    pub block_size: u32,
    /// Blocks in the pool; at least 1.
    pub block_count: u32,
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
}

impl EngineConfig {
    /// What a request must keep to.
    pub fn limits(&self) -> Limits {
        Limits {
            max_model_len: self.max_model_len,
            block_size: self.block_size,
            block_count: self.block_count,
            scheduling_policy: self.scheduling_policy,
        }
    }

    /// Most requests in flight: running and waiting together.
    pub fn capacity(&self) -> u32 {
        self.max_num_seqs.saturating_add(self.max_num_queued_reqs)
    }
}
