//! The engine: token ids in, token ids out, many requests at once over one pool of KV blocks.
//!
//! The life of a request:
//! 1. [`Handle::submit`] checks it against the [`Limits`], reserves a place and gives it an id.
//! 2. The owner thread (`worker`) hands it to the [`Engine`]; it waits, first come first served.
//! 3. *Plan* (`schedule`): running sequences first, then admissions, within a token budget.
//! 4. At admission the longest prefix that is cached (`prefix`) is attached, not computed.
//! 5. Blocks come from a fixed pool (`pages`); when it is empty the last running sequence is
//!    preempted: it gives back its blocks, goes to the front of the queue and is computed again.
//! 6. *Run*: a [`Device`] computes the rows of the [`StepPlan`] and samples where a row is due. In a
//!    small step it may guess tokens, compute them too and keep the right ones ([`Speculation`]).
//! 7. *Apply* (`engine`): tokens are appended, full blocks become shareable, ends are found.
//! 8. [`Event`]s leave in a [`Report`]: tokens, then exactly one terminal event per request.
//! 9. Its blocks go back to the pool; those with computed content stay findable until reused.
//!
//! There is no prefill phase and no decode phase: a sequence has tokens *known* and tokens
//! *computed*, and every step moves "computed" towards "known".
//!
//! This crate does not know text, weights, files, the network or how a token is chosen (the
//! request's `params` are for the device alone). It does integer work only: floating-point numbers
//! occur in the ratios of [`budget`] and `stats`, time enters as a [`Clock`], and only `worker`
//! knows threads. The same calls in the same order give the same events.

#![forbid(unsafe_code)]

mod ids;
mod clock;
mod layout;
mod policy;
mod request;
mod config;
mod event;
mod pages;
mod prefix;
mod kv;
mod sequence;
mod step;
mod device;
mod stats;
mod places;
mod schedule;
pub mod budget;
mod engine;
mod worker;

pub use clock::{Clock, FakeClock, Nanos, SystemClock};
pub use config::{DRAFT_TOKENS_MAX, EngineConfig, Speculation};
pub use device::{Device, DeviceError};
pub use engine::Engine;
pub use event::{Cause, Event, Failure, FinishReason, RequestTimes};
pub use ids::{AdapterId, BlockId, RequestId, TokenId};
pub use kv::BlockState;
pub use layout::{KvGroups, KvLayout};
pub use policy::{SchedulingPolicy, Tenant, UnknownPolicy};
pub use request::{CacheSalt, Limits, Request, SubmitError};
pub use stats::Snapshot;
pub use step::{Row, RowOutput, Sampled, StepOutput, StepPlan};
pub use worker::{Handle, Owner, Report, Worker, WorkerExit, open, spawn};
