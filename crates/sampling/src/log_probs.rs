//! Log-probabilities at one position.

/// Natural logarithms of probabilities at one position: the softmax of the model's logits as they
/// are, before temperature, penalties, masks and filters (vLLM V1's `raw_logprobs`).
#[derive(Debug, Clone, PartialEq)]
pub struct LogProbs {
    /// That of the position's token; at most 0.
    pub token: f32,
    /// The token's place in the order of likelihood, from 1; of equals the lower id comes first.
    pub rank: u32,
    /// The likeliest tokens and theirs, the greatest first, of equals the lower id first; as many as
    /// [`SamplingRequest::log_probs`](crate::SamplingRequest::log_probs) says, or the whole vocabulary.
    pub top: Vec<(u32, f32)>,
}

impl LogProbs {
    /// Bytes of one with `count` likeliest tokens.
    pub const fn bytes(count: usize) -> usize {
        size_of::<LogProbs>() + count * size_of::<(u32, f32)>()
    }
}

/// A token and, if they were asked for, its log-probabilities.
pub type Scored = (u32, Option<Box<LogProbs>>);
