//! What the command line decides about the server, and what it says about the model.

use std::time::Duration;

use engine::AdapterId;
use sampling::{Pooling, SamplingRequest};
use serde::Serialize;

use crate::guard::Guard;
use crate::keys::Keys;
use crate::tls::Tls;

/// Default of [`ServerConfig::connections_max`].
pub const CONNECTIONS_MAX: usize = 2048;
/// Default of [`ServerConfig::samples_max`].
pub const SAMPLES_MAX: u32 = 16;
/// Default of [`ServerConfig::stall_limit`].
pub const STALL_LIMIT: Duration = Duration::from_secs(30);
/// Default of [`ServerConfig::iteration_timeout`].
pub const ITERATION_TIMEOUT: Duration = Duration::from_secs(600);
/// Default of [`ServerConfig::shutdown_timeout`].
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Keys of which every request but those of `routes::OPEN_PATHS` and the page must carry one; without
    /// any, nobody is asked.
    pub keys: Keys,
    /// Which hosts requests may go to and which origins they may come from.
    pub guard: Guard,
    /// What shakes hands with clients; none: the server speaks plain HTTP.
    pub tls: Option<Tls>,
    /// Whether `/` has the page for people.
    pub web_page: bool,
    /// What makes the vectors of `/v1/embeddings`.
    pub pooling: Pooling,
    /// What counts where a request says nothing of how tokens are chosen; checked.
    pub sampling: SamplingRequest,
    /// Largest `n`, from 1 to [`SAMPLES`](crate::limits::SAMPLES).
    pub samples_max: u32,
    /// Connections open at once, at least 1; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// `/health` answers 503 when requests are open and the engine has reported nothing for so long.
    pub stall_limit: Duration,
    /// The server gives up, with [`crate::Ending::Hung`], when requests are open and the engine has
    /// reported nothing for so long.
    pub iteration_timeout: Duration,
    /// How long running requests may go on after the first shutdown signal. What is cut off then
    /// has one more second to reach its client.
    pub shutdown_timeout: Duration,
}

/// What is served: the body of `GET /server_info`, and the source of `/v1/models` and `/version`.
#[derive(Debug, Clone, Serialize)]
pub struct ServerInfo {
    /// Version of Millrace.
    pub version: String,
    /// Name that clients put into `model`.
    pub model: String,
    /// What the model was loaded from: `root` in `/v1/models`.
    pub root: String,
    /// Adapters of the model, which have names of their own; a place is an [`AdapterId`].
    pub adapters: Vec<AdapterInfo>,
    /// Processor, cores and memory, for people.
    pub device: String,
    /// Fraction of memory that was asked for; none where the KV size was given in bytes.
    pub memory_utilization: Option<f64>,
    /// Bytes of the KV cache.
    pub kv_cache_memory_bytes: u64,
    /// Sequences that may run at once.
    pub max_num_seqs: u32,
    /// Longest prompt + answer, in tokens.
    pub max_model_len: u32,
    /// Numbers of an embedding: the model's width.
    pub embedding_len: u32,
    /// Tokens computed in one step.
    pub max_num_batched_tokens: u32,
    /// Most tokens that are guessed for a request in a step; 0 where nothing is guessed.
    pub num_speculative_tokens: u32,
    /// Tokens per KV block.
    pub block_size: u32,
    /// KV blocks.
    pub block_count: u32,
    /// How keys and values are stored: vLLM's option of this name.
    pub kv_cache_dtype: String,
    /// Tokens the KV cache holds, as vLLM counts them.
    pub kv_cache_tokens: u64,
    /// Requests of full length that fit at once.
    pub max_concurrency: f64,
    /// vLLM's start-up line about the KV cache.
    pub concurrency_line: String,
    /// Whether the prefix cache is on.
    pub prefix_caching: bool,
    /// Threads that compute.
    pub threads: usize,
}

/// An adapter that requests may choose.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterInfo {
    /// Name that clients put into `model`.
    pub name: String,
    /// What it was loaded from: `root` in `/v1/models`.
    pub root: String,
}

impl ServerInfo {
    /// What a request takes that asks for the model `name`: nothing beside the model itself, or an
    /// adapter; none if nothing has this name.
    pub fn served(&self, name: &str) -> Option<Option<AdapterId>> {
        if name == self.model {
            return Some(None);
        }
        let place = self.adapters.iter().position(|adapter| adapter.name == name)?;
        Some(Some(AdapterId(place as u32)))
    }

    /// The name under which that is served.
    pub fn name_of(&self, adapter: Option<AdapterId>) -> &str {
        adapter.map_or(&self.model, |adapter| &self.adapters[adapter.0 as usize].name)
    }

    /// All names, for messages.
    pub fn names(&self) -> String {
        let adapters = self.adapters.iter().map(|adapter| &adapter.name);
        let names: Vec<_> = [&self.model].into_iter().chain(adapters).map(String::as_str).collect();
        names.join("`, `")
    }
}

/// A number of 32 bits as it was written, not as a wider one has it.
pub(crate) fn as_written(value: f32) -> f64 {
    value.to_string().parse().expect("a number")
}
