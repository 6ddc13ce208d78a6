//! What is asked of a server, and how its answers are summed up.
//!
//! The load test (`bench`) measures, a simulator can predict; both describe the load, the records,
//! the summary and the report with the types of this crate, so that their reports can be compared
//! line by line.
//!
//! This crate does not know engines, servers, HTTP, files or clocks: every time in it is a number
//! of nanoseconds that somebody else took.
//!
//! Data passes through in the order of the modules: a [`load::LevelPlan`] says how requests come
//! about and how long they are, [`prompts`] writes their text, whoever runs them fills one [`record::RequestRecord`] per
//! request and (if the server tells) [`gauges::GaugeSample`]s on the side, [`summary`] makes one
//! [`summary::LevelSummary`] per level of it, [`analysis`] draws the findings that the evidence
//! supports, [`wording`] says them in English or Chinese, and [`report`] prints everything.
#![forbid(unsafe_code)]

pub mod percentile;
pub mod random;
pub mod distribution;
pub mod lengths;
pub mod load;
pub mod words;
pub mod prompts;
pub mod dataset;
pub mod record;
pub mod level;
pub mod slo;
pub mod gaps;
pub mod stages;
pub mod streams;
pub mod steady;
pub mod trend;
pub mod waits;
pub mod interference;
pub mod gauges;
pub mod little;
pub mod validity;
pub mod summary;
pub mod saturation;
pub mod analysis;
pub mod language;
pub mod wording;
pub mod report;
