//! How far a fetch has come.

/// One stage of a fetch, in the order in which they first can occur.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Another process or thread is getting the file; said once, before waiting for it.
    Waiting,
    /// On what terms the model may be used, in one line; said once, before the download.
    Licence {
        /// The words of `Licence::notice`.
        notice: &'static str,
    },
    /// Which of several files is taken of a repository that was named without one.
    Chosen {
        /// Its path in the repository.
        file: String,
        /// How many files could have been taken.
        among: usize,
    },
    /// What the cache has is taken, though only the hub could say whether that is all.
    Unasked {
        /// What is taken, or gone without.
        doubt: String,
        /// Why the hub did not say.
        reason: String,
    },
    /// Something is downloading.
    Downloading {
        /// Bytes downloaded so far, also by earlier pulls; never falls, never above `total`.
        bytes: u64,
        /// Length of the whole download, all parts together, in bytes.
        total: u64,
    },
    /// A connection failed; it is tried again in a moment, from where it ended.
    Retrying {
        /// What happened.
        reason: String,
    },
    /// The file, or a part of it, is being unpacked or read, and hashed; the download of the next
    /// part may follow.
    Verifying,
    /// The file is in place and verified; always the last.
    Ready,
}
