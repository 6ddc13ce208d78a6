//! OpenAI-compatible and Anthropic-compatible HTTP on one side, an [`engine::Handle`] on the other.
//!
//! This crate does not know weights, kernels or scheduling: it knows a tokenizer, what a request may
//! ask for, and that the engine takes token ids and reports token ids.
//!
//! # How data passes through
//!
//! ```text
//! connection ─ listen (tls) ─ routes (guard, keys) ─ app (body) ─ openai/types ─ validate ─▶ engine requests
//!   ─ dispatch: submit, all or none; full ⇒ 429                  ─▶ the engine's thread
//!   ◀─ dispatch: one report per step, handed out to the replies  ◀─ sink
//!   ─ choice: decoder, stop strings, answer: parts ─ stream ─ openai/reply: chunks or one reply ─▶ client
//! `anthropic`, `responses`: other bodies become a chat's before validate, and parts become their own events
//! client gone, stop string found, buffer full ⇒ cancel
//! ```
//!
//! All of it runs well on one thread of a `current_thread` runtime: a token costs a channel
//! message, a few copies and a write. Bounds are in [`limits`], fields that are refused in
//! [`openai::unsupported::UNSUPPORTED`].
#![forbid(unsafe_code)]

pub mod limits;
pub mod tls;
mod unix_time;
mod request_id;
pub mod keys;
pub mod guard;
pub mod config;
pub mod answer;
pub mod openai;
pub mod metrics;
mod panics;
mod traffic;
pub mod dispatch;
pub mod grammars;
pub mod validate;
mod choice;
pub mod stream;
mod chunks;
mod origins;
mod misplaced;
mod transcript;
pub mod shutdown;
mod app;
mod generate;
mod anthropic;
mod responses;
mod embeddings;
mod tokenize;
mod health;
mod load;
pub mod page;
mod openapi;
pub mod routes;
mod timer;
mod listen;
mod serve;

pub use config::{ServerConfig, ServerInfo};
pub use dispatch::{Extra, Reports, Sink, channel};
pub use serve::{Ending, Parts, serve};
