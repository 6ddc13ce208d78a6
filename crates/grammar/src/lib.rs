//! What an answer must look like, as a set of allowed tokens for each position.
//!
//! How data passes through: a [`Spec`] says what is wanted (a JSON schema, a regular expression, a
//! list of choices, a grammar, a [`Frame`] of several); a [`Compiler`], made once for a [`Vocabulary`], turns it into a
//! [`Grammar`], which is shared and does not change; a [`Matcher`] follows one answer and gives the
//! [`TokenSet`] of each position. A [`Constraint`] is a matcher that a device and a thread which
//! works [`Ahead`] of it share.
//!
//! The work is done by the library llguidance, within limits that are set here ([`limits`]). The
//! allowed tokens are a function of the grammar and of the answer's tokens alone.
//!
//! This crate does not know models, engines or HTTP: a token is a number with bytes.

#![forbid(unsafe_code)]

pub mod limits;
mod error;
mod schema;
mod frame;
mod spec;
mod vocabulary;
mod token_set;
mod matcher;
mod compiler;
mod cache;
mod constraint;

pub use cache::Cache;
pub use compiler::Compiler;
pub use constraint::{Ahead, Constraint, Guided};
pub use error::{MatchError, SpecError};
pub use frame::Frame;
pub use matcher::{Grammar, Matcher};
pub use spec::Spec;
pub use token_set::TokenSet;
pub use vocabulary::Vocabulary;
