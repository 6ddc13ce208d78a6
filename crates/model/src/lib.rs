//! A model: what a file gives, and what is computed with it.
//!
//! This crate does not know HTTP, schedules or text to show; tokenizer and template leave it as
//! plain data for the `text` crate.
//!
//! How data passes through: a file's bytes ([`gguf`]) become checked hyper-parameters
//! ([`config`]) of one of the families that are known ([`architecture`]) and, with tokenizer, chat template
//! and tensor bytes, a [`file::ModelFile`]. [`dummy`] makes the bytes of such a file from a seed, so there is
//! one way to load. Tensors are packed once ([`weights`]), beside them what adapters add ([`lora`]); a step's
//! tokens become logits ([`transformer`]), and tokens again, those that were guessed ([`draft`]) among them
//! ([`cpu::CpuDevice`], which is what the engine drives).

#![forbid(unsafe_code)]

pub mod limits;
pub mod error;
pub mod gguf;
pub mod safetensors;
pub mod architecture;
pub mod rope;
pub mod config;
pub mod quantization;
mod folder;
pub mod file;
pub mod dummy;
pub mod lora;
pub mod weights;
pub mod mixture;
pub mod transformer;
mod step;
pub mod draft;
pub mod cpu;
