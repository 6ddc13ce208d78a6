//! How far a fetch has come.

/// One stage of `catalogue::fetch`, in the order in which they can occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Another process or thread is getting the file; said once, before waiting for it.
    Waiting,
    /// pip is downloading.
    Downloading {
        /// Bytes on disk so far; never falls, never above `total`.
        bytes: u64,
        /// Length of the whole download in bytes.
        total: u64,
    },
    /// The file is being unpacked or read, and hashed.
    Verifying,
    /// The file is in place and verified; always the last.
    Ready,
}
