//! Gets the bytes of one file: from where an earlier try ended, hashed as they come, in place once right.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::api::{Hash, Hub, RemoteFile};
use super::layout::Folder;
use super::web::{Failure, bad_reply};
use crate::error::Error;
use crate::progress::Progress;

/// Bytes that are read, hashed and written at a time.
const CHUNK_BYTES: usize = 1 << 18;
/// How often progress is told.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// Tells how far a download of several files has come.
pub(super) struct Report<'a> {
    say: &'a mut dyn FnMut(Progress),
    /// Bytes of files that are whole.
    before: u64,
    total: u64,
    /// What was told last, and when.
    told: Option<(u64, Instant)>,
}

impl<'a> Report<'a> {
    /// Nothing has come yet of `total` bytes.
    pub fn new(total: u64, say: &'a mut dyn FnMut(Progress)) -> Self {
        Self { say, before: 0, total, told: None }
    }

    /// Tells that so many bytes of the current file are there, if it is time to.
    fn bytes(&mut self, bytes: u64) {
        let bytes = self.before + bytes;
        let is_due = self.told.is_none_or(|(told, at)| {
            told < bytes && (bytes == self.total || PROGRESS_PAUSE <= at.elapsed())
        });
        if is_due {
            self.told = Some((bytes, Instant::now()));
            (self.say)(Progress::Downloading { bytes, total: self.total });
        }
    }

    /// The current file, of that length, is whole.
    fn file(&mut self, bytes: u64) {
        self.bytes(bytes);
        self.before += bytes;
    }
}

/// Puts the bytes of `file` in place, unless they are there.
///
/// One process at a time works at a blob. If the connection fails, what came stays for the next try;
/// what does not hash to what it should does not.
pub(super) fn fetch(
    hub: &Hub,
    folder: &Folder,
    file: &RemoteFile,
    report: &mut Report<'_>,
) -> Result<(), Error> {
    let blob = folder.blob(file.hash.name());
    let _lock = folder.lock_blob(file.hash.name(), report.say)?;
    // Its name says what it hashes to, and whoever gave it that name had to rename it there.
    if !is_of_length(&blob, file.bytes) {
        let mut partial = Partial::open(folder.incomplete_blob(file.hash.name()), file, report)?;
        let is_resumed = 0 < partial.bytes;
        partial.fill(hub, report)?;
        if is_resumed && !partial.is_right()? {
            // What was there before may have been wrong.
            partial.restart();
            partial.fill(hub, report)?;
        }
        partial.finish(&blob)?;
    }
    report.file(file.bytes);
    Ok(())
}

/// Whether there is a file of this length.
pub(super) fn is_of_length(path: &Path, bytes: u64) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == bytes)
}

/// The beginning of a file.
struct Partial<'a> {
    path: PathBuf,
    /// Written by position: where locks do not hold, a second writer writes the same bytes there.
    written: File,
    file: &'a RemoteFile,
    bytes: u64,
    hash: Running,
}

impl<'a> Partial<'a> {
    /// Goes on with what is there, which is read and hashed.
    fn open(path: PathBuf, file: &'a RemoteFile, report: &mut Report<'_>) -> Result<Self, Error> {
        let written =
            File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let written = written.map_err(Error::io("create", &path))?;
        let metadata = written.metadata().map_err(Error::io("look at", &path))?;
        let mut partial = Self { path, written, file, bytes: 0, hash: Running::of(file) };
        if 0 < metadata.len() && metadata.len() <= file.bytes {
            (report.say)(Progress::Verifying);
            partial.rehash(metadata.len())?;
        }
        Ok(partial)
    }

    fn rehash(&mut self, bytes: u64) -> Result<(), Error> {
        let mut chunk = vec![0; CHUNK_BYTES];
        while self.bytes < bytes {
            let wanted =
                chunk.len().min(usize::try_from(bytes - self.bytes).unwrap_or(chunk.len()));
            let read = self.written.read_exact_at(&mut chunk[..wanted], self.bytes);
            read.map_err(Error::io("read", &self.path))?;
            self.hash.add(&chunk[..wanted]);
            self.bytes += wanted as u64;
        }
        Ok(())
    }

    fn restart(&mut self) {
        (self.bytes, self.hash) = (0, Running::of(self.file));
    }

    /// Gets what is missing, over as many connections as it takes.
    fn fill(&mut self, hub: &Hub, report: &mut Report<'_>) -> Result<(), Error> {
        let mut patience = hub.patience();
        let mut best = self.bytes;
        report.bytes(self.bytes);
        while self.bytes < self.file.bytes {
            if let Err(failure) = self.fill_from_one(hub, report) {
                if best < self.bytes {
                    best = self.bytes;
                    patience.renew();
                }
                patience.wait(failure, report.say)?;
            }
        }
        Ok(())
    }

    fn fill_from_one(&mut self, hub: &Hub, report: &mut Report<'_>) -> Result<(), Failure> {
        let mut content = hub.content(self.file, self.bytes)?;
        if content.first != self.bytes {
            self.restart();
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = match content.read(&mut chunk) {
                Ok(0) if self.bytes == self.file.bytes => return Ok(()),
                Ok(0) => return Err(self.broken_off("the connection was closed")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if self.bytes == self.file.bytes => return Ok(()),
                Err(error) => return Err(self.broken_off(error)),
            };
            if self.file.bytes - self.bytes < count as u64 {
                let reason = format!("it sends more than {} bytes", self.file.bytes);
                return Err(bad_reply(&content.url, reason));
            }
            let written = self.written.write_all_at(&chunk[..count], self.bytes);
            written.map_err(Error::io("write", &self.path)).map_err(Failure::Lasting)?;
            self.hash.add(&chunk[..count]);
            self.bytes += count as u64;
            report.bytes(self.bytes);
        }
    }

    fn broken_off(&self, reason: impl std::fmt::Display) -> Failure {
        let Self { file, bytes, .. } = self;
        Failure::passing(format!("{} of {} bytes of {}: {reason}", bytes, file.bytes, file.path))
    }

    fn is_right(&self) -> Result<bool, Error> {
        let found = self.written.metadata().map_err(Error::io("look at", &self.path))?;
        Ok(found.len() == self.file.bytes && self.hash.clone().finish() == self.file.hash)
    }

    /// Puts the file in place if it is right, and removes it if not.
    fn finish(self, target: &Path) -> Result<(), Error> {
        // Another writer, or a longer file of old.
        self.written.set_len(self.bytes).map_err(Error::io("write", &self.path))?;
        if !self.is_right()? {
            fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))?;
            return Err(Error::WrongHubFile {
                file: self.file.path.clone(),
                got: self.hash.finish().name().to_owned(),
                expected: self.file.hash.name().to_owned(),
                bytes: self.bytes,
            });
        }
        self.written.sync_all().map_err(Error::io("write", &self.path))?;
        fs::rename(&self.path, target).map_err(Error::io("put in place", target))
    }
}

/// A hash of the bytes so far.
#[derive(Clone)]
enum Running {
    Git(Sha1),
    Sha256(Sha256),
}

impl Running {
    /// Of no bytes of a file, by the hash that the hub names it by.
    fn of(file: &RemoteFile) -> Self {
        match file.hash {
            Hash::Git(_) => Self::Git(Sha1::new().chain_update(format!("blob {}\0", file.bytes))),
            Hash::Sha256(_) => Self::Sha256(Sha256::new()),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Git(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> Hash {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Git(hash) => Hash::Git(hex(&hash.finalize())),
            Self::Sha256(hash) => Hash::Sha256(hex(&hash.finalize())),
        }
    }
}
