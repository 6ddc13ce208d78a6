//! Servers that are known by name.

use engine::{EngineConfig, KvGroups, SchedulingPolicy, Speculation};

use crate::cost::StepCost;
use crate::simulate::ModelledServer;

/// The server of the report this project starts from: a decoder of 24 layers of width 1280 in
/// float16, served by vLLM V1 on one RTX 4090 of which half the memory may be used.
///
/// `kv_token_us` is 122,880 bytes of keys and values (24 layers, 2, 1280, 2 bytes) at the card's
/// 1,008 GB/s. The other five are what [`crate::calibrate::fit`] finds from the report's levels 1
/// to 32; a test does so again, and predicts level 64 from them. Of the engine's sizes the report
/// tells `max_num_seqs`, the longest request and that 51.20 of them fit; block size and step
/// budget are vLLM's defaults.
pub const SEED: ModelledServer = ModelledServer {
    engine: EngineConfig {
        block_size: 16,
        block_count: 5_837,
        kv_groups: KvGroups::ONE,
        max_model_len: 1_818,
        max_num_seqs: 50,
        max_num_batched_tokens: 2_048,
        max_num_queued_reqs: 1_000,
        prefix_cache: true,
        scheduling_policy: SchedulingPolicy::Fcfs,
        speculation: Speculation::OFF,
    },
    cost: StepCost {
        host_us: 3_665.0,
        step_us: 3_225.0,
        token_us: 4.06,
        row_us: 38.9,
        kv_token_us: 0.1219,
        request_us: 8_510.0,
    },
};
