//! The `millrace` binary from outside: its options, its output, its HTTP, its end.
//!
//! Each test starts what it needs with a small KV cache, so that several fit beside each other.
//! Most use `dummy:tiny`, which is there at once; what a model must be good for uses the default.

mod http;
mod process;

mod options;
mod refusals;
mod models;
mod hub;
mod answers;
mod adapters;
mod embeddings;
mod endings;
mod doors;
mod faults;
mod folders;
mod logging;
mod speculation;
mod load_test;
mod roofline;
mod plan;
