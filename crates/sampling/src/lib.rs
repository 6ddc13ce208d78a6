//! Chooses the next token from a row of logits.
//!
//! This crate does not know models, requests, text or threads: a row is a slice of numbers, a
//! token is its index in that slice, and the history is a slice of such indices.
//!
//! How data passes through: what a client asks for ([`SamplingRequest`]) is checked once and
//! becomes [`SamplingParams`]; a [`Sampler`] applies them to one row after another. The steps and
//! their order are those of vLLM's V1 sampler: masks, biases, penalties, argmax if the temperature is 0,
//! temperature, min_p, top_k, top_p, draw.
//!
//! A request may want no token but a vector: then its parameters carry a [`Pool`], which takes the
//! states of its positions. It may want the log-probabilities of its prompt: then they carry
//! [`PromptScores`], which takes those of each position.
//!
//! A token depends on the row, the parameters and the history alone: the random number is a
//! function of the seed and the position, and no state is kept from one call to the next. A vector
//! depends on the states that were added to its pool alone.

#![forbid(unsafe_code)]

mod error;
mod rules;
mod pooling;
mod log_probs;
mod prompt_scores;
mod params;
mod random;
mod numeric;
mod history;
mod sampler;

pub use error::SamplingError;
pub use log_probs::{LogProbs, Scored};
pub use params::{LOG_PROBS_MAX, SamplingParams, SamplingRequest, TOP_MAX};
pub use pooling::{Pool, Pooling};
pub use prompt_scores::PromptScores;
pub use sampler::{Context, SampleError, Sampler};
