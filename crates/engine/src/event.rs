//! What the engine tells about its requests.

use crate::clock::Nanos;
use crate::ids::{RequestId, TokenId};

/// Something that happened to a request.
///
/// Order for each request: any number of `Token`, then exactly one of `Finished` and `Failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<E> {
    /// One more token was generated.
    Token {
        /// The request.
        id: RequestId,
        /// The token; a stop token is told like any other, just before `Finished`.
        token: TokenId,
        /// What the device gave with it.
        extra: E,
    },
    /// The request ended as it should, or was cancelled.
    Finished {
        /// The request.
        id: RequestId,
        /// Why.
        reason: FinishReason,
        /// When, and how much.
        times: RequestTimes,
    },
    /// The request could not be answered: its row failed, or the engine stopped.
    Failed {
        /// The request.
        id: RequestId,
        /// Why.
        failure: Failure,
    },
}

impl<E> Event<E> {
    /// The request it is about.
    pub fn id(&self) -> RequestId {
        match self {
            Event::Token { id, .. } | Event::Finished { id, .. } | Event::Failed { id, .. } => *id,
        }
    }

    /// Whether nothing follows for this request.
    pub fn is_terminal(&self) -> bool {
        !matches!(self, Event::Token { .. })
    }
}

/// Why a request could not be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose doing it is.
    pub cause: Cause,
    /// What went wrong.
    pub message: String,
}

impl Failure {
    /// A [`Cause::NoToken`].
    pub fn no_token(message: impl Into<String>) -> Self {
        Failure { cause: Cause::NoToken, message: message.into() }
    }

    /// A [`Cause::Fault`].
    pub fn fault(message: impl Into<String>) -> Self {
        Failure { cause: Cause::Fault, message: message.into() }
    }
}

/// Whose doing it is that a request could not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The request's own: what it asks for leaves no token to choose.
    NoToken,
    /// The device's or the engine's: what was computed is not finite, or nothing is computed any more.
    Fault,
}

/// Why a request finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token was generated; it is counted and was told as the last `Token`.
    Stop {
        /// That token.
        token: TokenId,
    },
    /// `max_tokens` were generated.
    Length,
    /// [`cancel`](crate::Handle::cancel) came first.
    Cancelled,
}

/// The moments and sums of a finished request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTimes {
    /// When it was submitted.
    pub arrived: Nanos,
    /// When it was first part of a step; none if it was cancelled before.
    pub scheduled: Option<Nanos>,
    /// When its first token was there.
    pub first_token: Option<Nanos>,
    /// When it ended.
    pub finished: Nanos,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the prompt found in the prefix cache when it was first scheduled.
    pub cached_prompt_tokens: u32,
    /// Tokens generated, a stop token included; tokens computed again are not counted again.
    pub generated_tokens: u32,
    /// How often it lost its blocks to an earlier request.
    pub preemptions: u32,
    /// Tokens of its drafts.
    pub draft_tokens: u64,
    /// Tokens of these that were accepted, and so are among those generated.
    pub accepted_draft_tokens: u64,
}
