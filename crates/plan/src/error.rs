//! Why nothing can be planned.

use engine::budget::BudgetError;
use model::error::LoadError;
use thiserror::Error;

/// Why nothing can be planned.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The text is not the JSON that it should be.
    #[error("{what} cannot be read: {cause}")]
    Json {
        /// What the text should have been.
        what: &'static str,
        /// What the reader says.
        cause: serde_json::Error,
    },
    /// A key that is needed is not there.
    #[error("{what} has no {keys}, which says {meaning}")]
    MissingKey {
        /// Where it was looked for.
        what: &'static str,
        /// The names that it may have.
        keys: String,
        /// What it would say.
        meaning: &'static str,
    },
    /// A value that cannot be meant.
    #[error("{key} is {value}; give {limit}")]
    BadValue {
        /// Its name.
        key: String,
        /// What it is.
        value: String,
        /// What it may be.
        limit: String,
    },
    /// Something that changes the sums and is not modelled.
    #[error("{key} is {value}: {what} not planned for; {instead}")]
    NotModelled {
        /// Its name.
        key: String,
        /// What it is.
        value: String,
        /// What it stands for, with its verb.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// No device of the table has this name.
    #[error(
        "no device is called `{name}`; known are {known}; or give a file that `millrace roofline \
         --json FILE` wrote"
    )]
    UnknownDevice {
        /// The name given.
        name: String,
        /// All names.
        known: String,
    },
    /// A header cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The memory cannot be divided.
    #[error(transparent)]
    Budget(#[from] BudgetError),
}

pub(crate) fn bad(key: &str, value: impl ToString, limit: impl ToString) -> PlanError {
    PlanError::BadValue { key: key.to_string(), value: value.to_string(), limit: limit.to_string() }
}
