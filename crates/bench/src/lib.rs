//! The load test: asks any OpenAI-compatible server over real HTTP and reports how it answered.
//!
//! Closed loop: at each level so many users send their requests one after another, all beginning
//! together. Open loop: requests are sent when a schedule says, whatever has become of those before.
//! What is asked and how the answers are summed up comes from `workload`; this crate sends, stamps,
//! reads and prints.
//!
//! This crate does not know our engine, server or models. It learns about a server what the server
//! says over HTTP, and what it does not say stays unknown.
//!
//! How data passes through: `run` asks the server who it is (`probe`), cuts the prompts to length
//! (`prompts`) and hands the bytes of a whole level to a thread of its own (`drive`), which writes
//! each at its time (`alarm`, `pool`) and stamps what comes back (`client`) without looking into it;
//! the stamps are those of the kernel (`arrival`), so that a busy client does not count as a slow
//! server, and the thread watches itself (`vitals`), so that it is told when it was busy. The
//! calling side
//! meanwhile samples the server's gauges (`gauges`), reads finished answers (`sse`, `answer`) into
//! records, writes them down (`journal`), draws the page of them (`html`) and shows the progress.
//! What was written down by two runs can be compared afterwards (`compare`), and be summed up as other
//! load tests do it (`compat`).
#![forbid(unsafe_code)]

mod error;
mod metric;
mod table;
mod assertion;
mod cancel;
mod dataset;
mod loads;
mod config;
mod clock;
mod endpoint;
pub mod arrival;
mod stamped;
mod tls;
mod client;
mod alarm;
mod pool;
mod sse;
mod answer;
mod completion;
mod conversation;
mod gauges;
mod probe;
mod prompts;
mod vitals;
mod drive;
mod script;
mod progress;
mod setup;
mod journal;
mod resume;
mod output;
mod html;
mod run;
pub mod compare;
pub mod compat;

pub use assertion::{Assertion, AssertionError, AssertionResult, Checked};
pub use cancel::Cancel;
pub use config::{Api, BenchConfig, RequestForm, Trust};
pub use dataset::{DatasetFile, DatasetName};
pub use error::BenchError;
pub use loads::{Extent, Loads, USERS_MAX};
pub use output::{Definitions, RunSummary};
pub use probe::{ServerFacts, ServerInfo};
pub use resume::recorded_seed;
pub use run::{Outcome, run};
pub use setup::{Difference, Setup};
pub use workload::distribution::Distribution;
pub use workload::language::Language;
pub use workload::lengths::{LengthLaws, Lengths, Preset, Sampling, SharedPrefix};
pub use workload::load::Arrivals;
pub use workload::slo::Slo;
pub use workload::summary::Counts;
