//! Why a load test could not be done.

use std::io;
use std::path::PathBuf;

/// Why a load test could not be done. A request that fails is no such reason: it is counted.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The address cannot be understood.
    #[error("`{url}` is not the address of a server ({reason}): give one like `http://host:8000`")]
    BadUrl {
        /// The address given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of authorities to trust cannot be used.
    #[error("--ca-cert {}: {reason}; give a PEM file of certificates", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// This machine trusts nobody, so that no certificate could be checked.
    #[error(
        "this machine has no certificates of authorities to check {url} with ({reason}): install \
         them (ca-certificates), or give --ca-cert"
    )]
    NoAuthorities {
        /// The server.
        url: String,
        /// What was found instead.
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
    /// A file of recorded requests cannot be used.
    #[error("`{file}` cannot be used: {why}")]
    Dataset {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An assertion is about goodput, and nothing says what is good.
    #[error(
        "`--assert {assertion}` needs --slo, which says what is good, like ttft=500ms,tpot=50ms"
    )]
    AssertedGoodput {
        /// The assertion.
        assertion: String,
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
    #[error("{url}/v1/models names no model ({reason}{hint}); is it an OpenAI-compatible server?")]
    NoModel {
        /// The server.
        url: String,
        /// What it said instead.
        reason: String,
        /// What may help, if anything is known.
        hint: &'static str,
    },
    /// It was stopped before it had begun.
    #[error("stopped before the first request")]
    Stopped,
    /// Already the first request failed, so a test would measure nothing.
    #[error("the server refused the warm-up request: {reason}{hint}")]
    WarmUp {
        /// What it said.
        reason: String,
        /// What may help, if anything is known.
        hint: &'static str,
    },
    /// A run cannot be continued with other settings.
    #[error(
        "cannot continue the run in {}: its `{field}` is {recorded}, now it is {asked}; give the \
         same settings, or another --out",
        folder.display()
    )]
    OtherSetup {
        /// Where the run is.
        folder: PathBuf,
        /// What differs.
        field: String,
        /// What the run has, as JSON.
        recorded: String,
        /// What was asked for now.
        asked: String,
    },
    /// A file of a run could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Input {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of a run is not what it should be.
    #[error("{} is damaged in line {line}: {reason}", path.display())]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong there.
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
