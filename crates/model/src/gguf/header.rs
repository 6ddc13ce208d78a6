//! Reads the little-endian numbers and texts of a GGUF header, never beyond its end.

use std::io::{BufReader, Read};

use crate::error::LoadError;

/// The most bytes a header (metadata and tensor list) may take. The largest vocabularies in use
/// (262,144 tokens with their merges) take about 16 MiB.
pub const HEADER_BYTES_MAX: u64 = 64 << 20;

/// A cursor over the header that knows where it is, for messages, and how much is left, so that
/// every length is checked before memory is taken for it.
pub(crate) struct HeaderReader<R> {
    source: BufReader<R>,
    position: u64,
    /// End of the file or of the part a header may take, whichever comes first.
    end: u64,
    capped: bool,
    /// What is being read, for messages.
    pub place: String,
}

impl<R: Read> HeaderReader<R> {
    /// Starts at the first byte of a file of `file_bytes` bytes.
    pub fn new(source: R, file_bytes: u64) -> Self {
        let end = file_bytes.min(HEADER_BYTES_MAX);
        Self {
            source: BufReader::with_capacity(1 << 16, source),
            position: 0,
            end,
            capped: end < file_bytes,
            place: String::new(),
        }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Checks that `count` entries of at least `min_bytes` each can lie ahead.
    pub fn check_count(&self, count: u64, min_bytes: u64) -> Result<(), LoadError> {
        let left = self.end - self.position;
        if count <= left / min_bytes {
            return Ok(());
        }
        let cause = if self.capped {
            format!(" (a header may take {HEADER_BYTES_MAX} bytes)")
        } else {
            String::new()
        };
        let needed = count.saturating_mul(min_bytes);
        Err(LoadError::Truncated { place: self.place.clone(), needed, left, cause })
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: u64) -> Result<Vec<u8>, LoadError> {
        self.check_count(len, 1)?;
        let mut bytes = Vec::new();
        let read = (&mut self.source).take(len).read_to_end(&mut bytes);
        read.map_err(|source| LoadError::Read { place: self.place.clone(), source })?;
        if bytes.len() as u64 != len {
            let left = bytes.len() as u64;
            let cause = " (the file became shorter while it was read)".to_string();
            return Err(LoadError::Truncated {
                place: self.place.clone(),
                needed: len,
                left,
                cause,
            });
        }
        self.position += len;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        self.check_count(N as u64, 1)?;
        let mut bytes = [0; N];
        let read = self.source.read_exact(&mut bytes);
        read.map_err(|source| LoadError::Read { place: self.place.clone(), source })?;
        self.position += N as u64;
        Ok(bytes)
    }

    /// A 4-byte unsigned number.
    pub fn u32(&mut self) -> Result<u32, LoadError> {
        self.array().map(u32::from_le_bytes)
    }

    /// An 8-byte unsigned number.
    pub fn u64(&mut self) -> Result<u64, LoadError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length and that many bytes of UTF-8.
    pub fn text(&mut self) -> Result<String, LoadError> {
        let len = self.u64()?;
        let bytes = self.bytes(len)?;
        String::from_utf8(bytes).map_err(|_| LoadError::NotText { place: self.place.clone() })
    }
}
