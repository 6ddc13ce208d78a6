//! What can be wrong with a grammar, and with an answer that follows one.

/// Why a [`Spec`](crate::Spec) is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// More of something than is allowed.
    #[error("{what} is {found}, the limit is {limit}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How much there is, at least.
        found: usize,
        /// How much there may be.
        limit: usize,
    },
    /// A list of choices without any.
    #[error("there are no choices; give at least one")]
    NoChoices,
    /// A choice without text.
    #[error("choice {index} is empty")]
    EmptyChoice {
        /// Its place, from 0.
        index: usize,
    },
    /// Malformed, not supported, contradictory, or too much work.
    #[error("it cannot be followed: {0}")]
    Refused(String),
    /// An answer under a grammar ends with an end token, and the model has none.
    #[error("this model has no end token, so that no grammar could end its answer")]
    NoEndToken,
    /// The vocabulary is beyond what the library can hold.
    #[error("this model's vocabulary has {tokens} tokens, the limit for grammars is {limit}")]
    VocabularyTooLarge {
        /// Tokens of the vocabulary.
        tokens: usize,
        /// Most tokens.
        limit: usize,
    },
}

/// Checks that no more than `limit` of `what` was `found`.
pub(crate) fn within(what: &'static str, found: usize, limit: usize) -> Result<(), SpecError> {
    if found <= limit { Ok(()) } else { Err(SpecError::TooLarge { what, found, limit }) }
}

/// Why an answer cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer's grammar has no next token: {0}")]
pub struct MatchError(pub String);

/// The first line of an error of the library, at most 300 bytes: further lines hold its state. What it
/// panicked with is not for those who wrote the grammar.
pub(crate) fn first_line(error: &anyhow::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    if line.starts_with("panic:") {
        return "something in it is not supported".to_owned();
    }
    let end = line.char_indices().map(|(at, _)| at).find(|at| 300 <= *at).unwrap_or(line.len());
    line[..end].to_owned()
}
