//! What a request is told that asks for too much.

use thiserror::Error;

/// A parameter outside its range.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{param}` = {value} is out of range: expected {limit}")]
pub struct SamplingError {
    /// The parameter's name as clients write it.
    pub param: &'static str,
    /// The value found.
    pub value: String,
    /// What is accepted.
    pub limit: String,
}

impl SamplingError {
    /// Checks that all `ids` are below `vocabulary_len`.
    pub(crate) fn check_ids(
        param: &'static str,
        mut ids: impl Iterator<Item = u32>,
        vocabulary_len: usize,
    ) -> Result<(), Self> {
        let Some(id) = ids.find(|id| vocabulary_len <= *id as usize) else { return Ok(()) };
        let limit = format!("ids below {vocabulary_len}, the size of the vocabulary");
        Err(SamplingError { param, value: id.to_string(), limit })
    }
}
