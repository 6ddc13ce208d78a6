//! What a model needs of a machine, and how fast it would be there: before anything is bought,
//! rented or started.
//!
//! Memory is the engine's own budget formula over a shape; time is the engine itself, with its
//! scheduler, on a modelled device under a fake clock.
//!
//! How data passes through: a `config.json` or a file's header becomes a [`shape::Shape`], a
//! name or a file a [`hardware::Hardware`]. [`memory`] makes the engine's demand of both, divides
//! the memory and answers what people ask; [`balance`] says what a step waits for.
//!
//! For time, a [`cost::StepCost`] says what a step takes: [`calibrate`] fits it to a load test that
//! [`observed`] reads, or [`ideal`] carries one over from another device. [`device`] spends it on a
//! fake clock, [`simulate`] lets modelled users ask the engine, perhaps what a [`recording`] says, and [`prediction`] reports what they
//! saw as a load test does. [`search`] asks again and again.
//!
//! This crate does not know HTTP, weights or kernels: of a model it reads the configuration or the
//! file's header, and of a machine a few figures.
#![forbid(unsafe_code)]

pub mod error;
pub mod dtype;
pub mod shape;
pub mod config_json;
pub mod gguf;
pub mod hardware;
pub mod memory;
pub mod balance;
pub mod cost;
pub mod ideal;
pub mod device_model;
pub mod device;
pub mod recording;
pub mod simulate;
pub mod figures;
pub mod observed;
mod least_squares;
pub mod calibrate;
pub mod preset;
pub mod prediction;
pub mod search;
