//! Whether a file is the one that the catalogue names.
//!
//! Hashing 98 MB takes a tenth of a second or more, so a verified file gets a record beside it,
//! `FILE.sha256`: its hash, length and time of change in nanoseconds. While the file still has that
//! length and time, the record stands for the hash.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::entry::Entry;
use crate::error::Error;

/// Bytes that are read, hashed and written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Length and hash of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub bytes: u64,
    /// 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl Content {
    /// Whether this is what has that length and hash.
    pub fn is(&self, bytes: u64, sha256: &str) -> bool {
        self.bytes == bytes && self.sha256 == sha256
    }

    /// Reads and hashes a whole file.
    pub fn of_file(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut meter = Meter::default();
        for_each_chunk(file, Error::io("read", path), |chunk| {
            meter.add(chunk);
            Ok(())
        })?;
        Ok(meter.finish())
    }
}

/// Hands all that `from` gives to `take`, piece by piece; `failed` makes an error of one in reading.
pub(crate) fn for_each_chunk(
    mut from: impl Read,
    failed: impl FnOnce(io::Error) -> Error,
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&chunk[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Counts and hashes bytes as they pass.
#[derive(Clone, Default)]
pub(crate) struct Meter {
    bytes: u64,
    hash: Sha256,
}

impl Meter {
    pub fn add(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.hash.update(chunk);
    }

    pub fn finish(self) -> Content {
        let digest = self.hash.finalize();
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Content { bytes: self.bytes, sha256 }
    }
}

/// Whether `file` has not changed since it was verified to be `entry`; reads no contents of it.
pub(crate) fn is_recorded(file: &Path, entry: &Entry) -> bool {
    let Ok(metadata) = fs::metadata(file) else { return false };
    let Ok(found) = fs::read_to_string(record_path(file)) else { return false };
    metadata.len() == entry.bytes && record(&metadata, entry).is_some_and(|text| text == found)
}

/// Notes beside `file` that it has just been verified to be `entry`.
pub(crate) fn record_verified(file: &Path, entry: &Entry) -> Result<(), Error> {
    let metadata = fs::metadata(file).map_err(Error::io("look at", file))?;
    let path = record_path(file);
    match record(&metadata, entry) {
        Some(text) => fs::write(&path, text).map_err(Error::io("write", &path)),
        // A disk without times of change: the file is hashed again at each use.
        None => Ok(()),
    }
}

fn record(metadata: &Metadata, entry: &Entry) -> Option<String> {
    let changed_ns = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    Some(format!("{} {} {changed_ns}\n", entry.sha256, metadata.len()))
}

fn record_path(file: &Path) -> PathBuf {
    file.with_added_extension("sha256")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "abc": FIPS 180-4, the first example.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn entry() -> Entry {
        let like = crate::entry::ENTRIES[0].clone();
        Entry { sha256: ABC, bytes: 3, ..like }
    }

    #[test]
    fn content_is_the_length_and_the_published_hash() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("abc");
        fs::write(&file, "abc").unwrap();
        let content = Content::of_file(&file).unwrap();
        assert_eq!(content, Content { bytes: 3, sha256: ABC.into() });
        assert!(content.is(3, ABC));
        assert!(!content.is(4, ABC) && !content.is(3, "00"));
    }

    #[test]
    fn a_record_holds_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("abc.bin");
        fs::write(&file, "abc").unwrap();
        assert!(!is_recorded(&file, &entry()));
        record_verified(&file, &entry()).unwrap();
        assert!(is_recorded(&file, &entry()));
        assert!(!is_recorded(&file, &Entry { sha256: "00", ..entry() }), "another catalogue");

        let changed = fs::metadata(&file).unwrap().modified().unwrap();
        let handle = File::options().write(true).open(&file).unwrap();
        handle.set_modified(changed + std::time::Duration::from_nanos(1000)).unwrap();
        assert!(!is_recorded(&file, &entry()), "another time of change");
        record_verified(&file, &entry()).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(!is_recorded(&file, &entry()), "no file");
    }
}
