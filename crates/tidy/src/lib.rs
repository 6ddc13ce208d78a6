//! The rules of this repository that can be checked by reading its text.
//!
//! Each rule is a function from the tree of files to its violations. `tests/rules.rs` runs one test
//! a rule on this workspace, with the reason why the rule exists; the unit tests here show that each
//! rule finds a planted violation.
//!
//! This crate does not know what any other crate does: it sees names, words and lines, no types, and
//! nothing at run time. What a compiler or clippy can check is left to them.
//!
//! `tree` reads the files, `source` splits Rust text into code, comments and tests, `manifest` reads
//! dependencies; each module after them holds the rules of one subject.
#![forbid(unsafe_code)]

pub mod source;
pub mod tree;
pub mod manifest;
pub mod crates;
pub mod modules;
pub mod unsafety;
pub mod engine;
pub mod sizes;
pub mod leftovers;
pub mod documents;
pub mod licences;
