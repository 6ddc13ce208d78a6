//! Why a load test could not be done.

use std::io;
use std::path::PathBuf;

/// Why a load test could not be done. A request that fails is no such reason: it is counted.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The address asks for TLS.
    #[error("`{url}` needs TLS, which the load test does not speak: give an `http://` address")]
    Https {
        /// The address given.
        url: String,
    },
    /// The address cannot be understood.
    #[error("`{url}` is not the address of a server ({reason}): give one like `http://host:8000`")]
    BadUrl {
        /// The address given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting cannot work.
    #[error("`{setting}` is {value}: {need}")]
    Setting {
        /// Name of the option.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        need: &'static str,
    },
    /// An assertion is about a level that is not to run.
    #[error("`--assert {assertion}` is about a level that does not run; there are {levels}")]
    AssertedLevel {
        /// The assertion.
        assertion: String,
        /// Names of those that run.
        levels: String,
    },
    /// The server does not answer.
    #[error("no server answers at {url}: {reason}; is it running and is the port right?")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The server does not tell which model it has.
    #[error("{url}/v1/models names no model ({reason}); is it an OpenAI-compatible server?")]
    NoModel {
        /// The server.
        url: String,
        /// What it said instead.
        reason: String,
    },
    /// It was stopped before it had begun.
    #[error("stopped before the first request")]
    Stopped,
    /// Already the first request failed, so a test would measure nothing.
    #[error("the server refused the warm-up request: {reason}")]
    WarmUp {
        /// What it said.
        reason: String,
    },
    /// A result could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Output {
        /// Where to.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The thread that sends the load could not be started.
    #[error("cannot start the thread that sends the load: {source}")]
    Thread {
        /// Why not.
        source: io::Error,
    },
}
