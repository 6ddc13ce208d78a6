//! What a device is asked to do in one step, and what it answers. Plain data.

use std::ops::Range;

use crate::event::Failure;
use crate::ids::{AdapterId, BlockId, RequestId, TokenId};

/// One step: the rows that the device computes together.
#[derive(Debug)]
pub struct StepPlan<'a, P> {
    /// One row for each sequence that takes part; at least one, each request at most once.
    pub rows: Vec<Row<'a, P>>,
}

impl<P> StepPlan<'_, P> {
    /// Positions computed in this step, over all rows.
    pub fn token_count(&self) -> usize {
        self.rows.iter().map(|row| row.compute.len()).sum()
    }
}

/// One sequence's part of a step.
#[derive(Debug)]
pub struct Row<'a, P> {
    /// The request that the sequence answers.
    pub id: RequestId,
    /// All known tokens: the prompt, then what was generated.
    pub tokens: &'a [TokenId],
    /// How many of `tokens` are the prompt.
    pub prompt_len: usize,
    /// Positions whose keys and values are computed in this step; never empty. Those before
    /// `start` are in the cache already.
    pub compute: Range<usize>,
    /// The block table of each group of layers: position `p` is kept in block `blocks[group][p / block_size]`,
    /// slot `p % block_size`. Covers the positions `0..compute.end + draft_max`; in groups with a window
    /// blocks that no position from `compute.start` on sees are [`BlockId::RELEASED`].
    ///
    /// A block that holds any position from `compute.start` on is in no other table; the others
    /// may be shared, each by tables of one group.
    pub blocks: &'a [Vec<BlockId>],
    /// Most tokens behind the last known one that the device may guess and compute as well; 0 unless
    /// the row is [`sampled`](Row::sampled).
    pub draft_max: usize,
    /// What is added to the model for the request.
    pub adapter: Option<AdapterId>,
    /// How to choose a token.
    pub params: &'a P,
}

impl<P> Row<'_, P> {
    /// Whether this row gives a token: it computes the last known position.
    pub fn sampled(&self) -> bool {
        self.compute.end == self.tokens.len()
    }
}

/// The device's answer: one output for each row of the plan, in the same order.
#[derive(Debug)]
pub struct StepOutput<E> {
    /// As many as the plan has rows.
    pub rows: Vec<RowOutput<E>>,
}

/// What became of a row.
#[derive(Debug)]
pub enum RowOutput<E> {
    /// Computed; the row was not [`sampled`](Row::sampled).
    Computed,
    /// The next tokens of a sampled row.
    Tokens {
        /// The accepted beginning of the draft, then one token more: at least one. All but the last
        /// have their keys and values in the cache; a later step computes the last.
        tokens: Vec<Sampled<E>>,
        /// How many tokens the draft had; at most [`draft_max`](Row::draft_max).
        drafted: usize,
    },
    /// Only this request ends: its logits were not finite, or what it asks for leaves no token.
    Failed(Failure),
}

impl<E> RowOutput<E> {
    /// One token, chosen without a draft.
    pub fn token(token: TokenId, extra: E) -> Self {
        RowOutput::Tokens { tokens: vec![Sampled { token, extra }], drafted: 0 }
    }
}

/// A token that the device chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled<E> {
    /// The token.
    pub token: TokenId,
    /// Passed on as it is, for example log-probabilities.
    pub extra: E,
}
