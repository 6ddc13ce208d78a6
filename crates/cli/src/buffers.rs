//! What buffers take at most.

use server::config::CONNECTIONS_MAX;
use server::limits;

/// Memory of the binary, the tokenizer's tables and the allocator, beside what is counted.
pub const PROCESS_BYTES: u64 = 96 << 20;

/// Connections that may be open at once.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// How many.
    pub most: u32,
    /// Whether they are behind TLS.
    pub has_tls: bool,
}

impl Connections {
    /// Where nobody connects.
    pub const NONE: Connections = Connections { most: 0, has_tls: false };
    /// As many as `serve` takes unless it is told otherwise.
    pub const USUAL: Connections = Connections { most: CONNECTIONS_MAX as u32, has_tls: false };

    /// What the buffers of one take at most.
    pub fn bytes_each(self) -> u64 {
        let tls = if self.has_tls { limits::TLS_BYTES } else { 0 };
        (2 * limits::CONNECTION_BUFFER_BYTES + tls) as u64
    }
}

/// The most that the process, request bodies, reading them and what is compiled of them, connections, and
/// requests of at most `max_model_len` tokens each with their undelivered text may take; and whole answers of so
/// many as may run at once.
pub fn buffer_bytes(
    requests: u32,
    running: u32,
    max_model_len: u32,
    connections: Connections,
) -> u64 {
    let bodies = limits::BODIES_BYTES_IN_FLIGHT
        + limits::LARGE_BODIES * limits::LARGE_BODY_BYTES
        + limits::GRAMMAR_CACHE_BYTES;
    let answer = u64::from(max_model_len) * limits::ANSWER_TOKEN_BYTES as u64;
    let request = limits::STREAM_BUFFER_BYTES as u64
        + u64::from(max_model_len) * size_of::<engine::TokenId>() as u64;
    PROCESS_BYTES
        + bodies as u64
        + u64::from(connections.most) * connections.bytes_each()
        + u64::from(requests) * request
        + u64::from(running) * answer
}
