//! What a model needs of a machine, and how fast it would be there: before anything is bought,
//! rented or started.
//!
//! Memory is the engine's own budget formula over a shape; time is the engine itself, with its
//! scheduler, on a modelled device under a fake clock.
//!
//! This crate does not know HTTP, weights or kernels: of a model it reads the configuration or the
//! file's header, and of a machine a few figures.
#![forbid(unsafe_code)]
