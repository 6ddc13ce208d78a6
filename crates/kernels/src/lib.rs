//! Arithmetic of a transformer on packed weights: matrix products, paged attention, norms, rope,
//! activations, and the threads that share the work.
//!
//! This crate does not know models, files, requests or schedules. It is the only crate with
//! `unsafe` code: every public function is safe, checks its shapes with `assert!`, and then calls
//! one unsafe body.
//!
//! How data passes through: GGUF blocks ([`blocks`]) are packed once into 16-row panels
//! ([`pack::PackedMatrix`]); a step's rows are shared out to threads ([`share`]), normalised and
//! quantised ([`quantise::Activations`]), and multiplied ([`matmul`]), with what adapters add to some of
//! them ([`low_rank`]); their queries and keys are rotated ([`rope`]), keys and values written into pages
//! ([`kv::KvCache`]) and attended over ([`attention`]).
//! Beside that way stands [`probe`], which measures what the machine could do at most.
//!
//! **A row's result never depends on the batch, on how a prompt is cut into chunks, or on the
//! number of threads.** Integer dot products are exact, and every float sum has one order that
//! is fixed by the row alone: products go block by block along the columns of the weight,
//! attention in spans that start at absolute positions and are merged in order. (Of finite numbers:
//! where a model computes NaN or infinity, all that may be said is that the row shows it.)

#![deny(unsafe_op_in_unsafe_fn)]

pub mod isa;
pub mod buffer;
pub mod pool;
pub mod cpu;
pub mod blocks;
pub mod pack;
mod sums;
pub mod quantise;
pub mod norm;
pub mod activation;
mod codes;
pub mod rope;
pub mod kv;
pub mod share;
pub mod matmul;
pub mod low_rank;
pub mod attention;
pub mod probe;
