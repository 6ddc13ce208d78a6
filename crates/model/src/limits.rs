//! How much a model is read in at most; what fetches models holds itself to the same.

/// Most files that the weights are in; the largest models in use have 191. All are open while a model is
/// loaded, and a process may usually have 1,024 open.
pub const FILES_MAX: usize = 512;
/// Most bytes of `model.safetensors.index.json`; that of a model of 671 billion weights has 9 MB.
pub const INDEX_BYTES_MAX: u64 = 64 << 20;
