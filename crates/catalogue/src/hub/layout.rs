//! Where files of a repository are in the cache that all clients of the hub share.
//!
//! The layout is that of `huggingface_hub` (`models--ORG--NAME` with `blobs/HASH`, `snapshots/COMMIT/FILE`,
//! which are links to blobs, `refs/REVISION`, which holds a commit, and `.no_exist/COMMIT/FILE`, which is empty and
//! says that the commit has no such file), and so are the lock of a blob
//! (`.locks/models--ORG--NAME/HASH.lock`, by `flock`) and its name while it is incomplete.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::name::MAIN;
use crate::error::Error;
use crate::lock::Lock;
use crate::progress::Progress;

/// Begins the name of a repository's folder.
const FOLDER_PREFIX: &str = "models--";
/// Stands for the `/` of ORG/NAME; neither part has it.
const SEPARATOR: &str = "--";
/// Holds which commits revisions name.
const REFS: &str = "refs";
/// Holds which file the repository gave when none was named; other clients pass it over.
const GIVEN: &str = ".millrace-gguf";
/// Holds what is being made; other clients pass it over.
const AT_WORK: &str = ".millrace-new";
/// Deepest folder of a snapshot that is looked into.
const DEPTH_MAX: usize = 8;

/// The folder of one repository.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    locks: PathBuf,
}

impl Folder {
    /// That of `repository`, ORG/NAME, in `cache`; neither need exist.
    pub fn of(cache: &Path, repository: &str) -> Self {
        let folder = format!("{FOLDER_PREFIX}{}", repository.replace('/', SEPARATOR));
        Self { path: cache.join(&folder), locks: cache.join(".locks").join(&folder) }
    }

    /// Where the bytes with this hash are, once they are whole.
    pub fn blob(&self, hash: &str) -> PathBuf {
        self.path.join("blobs").join(hash)
    }

    /// Where the bytes with this hash are until they are whole.
    pub fn incomplete_blob(&self, hash: &str) -> PathBuf {
        self.path.join("blobs").join(format!("{hash}.incomplete"))
    }

    /// The files of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.path.join("snapshots").join(commit)
    }

    /// The commit that a branch or tag names, or which it is, if its snapshot is there.
    pub fn commit(&self, revision: &str) -> Option<String> {
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => fs::read_to_string(self.reference(revision)).ok()?,
        };
        let commit = commit.trim();
        (is_commit(commit) && self.snapshot(commit).is_dir()).then(|| commit.to_owned())
    }

    /// What is where the note of a branch or tag belongs: the note of another that begins this one's name, or a
    /// folder of those whose names this one begins.
    pub fn in_the_way(&self, revision: &str) -> Option<PathBuf> {
        let (refs, path) = (self.path.join(REFS), self.reference(revision));
        let mut outer = path.ancestors().skip(1).take_while(|outer| *outer != refs);
        match path.is_dir() {
            true => Some(path),
            false => outer.find(|outer| outer.is_file()).map(Path::to_path_buf),
        }
    }

    /// Has a branch or tag name this commit from now on; a commit names itself.
    pub fn set_commit(&self, revision: &str, commit: &str) -> Result<(), Error> {
        let path = self.reference(revision);
        if is_commit(revision) || fs::read_to_string(&path).is_ok_and(|found| found == commit) {
            return Ok(());
        }
        self.replace(&path, |new| fs::write(new, commit))
    }

    /// Branches and tags of which something was fetched, sorted, `main` first, and behind them commits that none
    /// of them names.
    pub fn revisions(&self) -> Vec<String> {
        let mut revisions = files_in(&self.path.join(REFS));
        // What another client was making there when it was killed.
        revisions.retain(|revision| !revision.ends_with(".tmp"));
        revisions.sort_by_key(|revision| revision != MAIN);
        let named: Vec<_> = revisions.iter().filter_map(|revision| self.commit(revision)).collect();
        let commits = names_in(&self.path.join("snapshots"));
        revisions.extend(commits.into_iter().filter(|c| is_commit(c) && !named.contains(c)));
        revisions
    }

    /// Whether the hub has said that a commit has no such file.
    pub fn is_known_absent(&self, commit: &str, file: &str) -> bool {
        self.absent(commit, file).is_file()
    }

    /// Notes that the hub has said so.
    pub fn set_absent(&self, commit: &str, file: &str) -> Result<(), Error> {
        if self.is_known_absent(commit, file) {
            return Ok(());
        }
        self.replace(&self.absent(commit, file), |new| fs::write(new, ""))
    }

    fn absent(&self, commit: &str, file: &str) -> PathBuf {
        self.path.join(".no_exist").join(commit).join(file)
    }

    /// The file that the repository gave when none was named, if the hub has been asked.
    pub fn given(&self, revision: &str) -> Option<String> {
        fs::read_to_string(self.given_note(revision)).ok()
    }

    /// Notes that it is this one.
    pub fn set_given(&self, revision: &str, file: &str) -> Result<(), Error> {
        if self.given(revision).as_deref() == Some(file) {
            return Ok(());
        }
        self.replace(&self.given_note(revision), |new| fs::write(new, file))
    }

    fn given_note(&self, revision: &str) -> PathBuf {
        match revision {
            MAIN => self.path.join(GIVEN),
            // No revision has a `%`.
            other => self.path.join(format!("{GIVEN}s")).join(other.replace('/', "%")),
        }
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.path.join(REFS).join(revision)
    }

    /// Makes the folders, and waits until no other process is getting this blob.
    pub fn lock_blob(&self, hash: &str, say: &mut dyn FnMut(Progress)) -> Result<Lock, Error> {
        for folder in [&self.locks, &self.path.join("blobs")] {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        Lock::take(&self.locks.join(format!("{hash}.lock")), say)
    }

    /// Has `file` of `commit` lead to the blob with this hash.
    pub fn link(&self, commit: &str, file: &str, hash: &str) -> Result<(), Error> {
        let link = self.snapshot(commit).join(file);
        let up = "../".repeat(2 + file.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{hash}"));
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            return Ok(());
        }
        self.replace(&link, |new| symlink(&target, new))
    }

    /// Makes something in a folder that nobody reads, and puts it at `path` in one step, whatever was there: a
    /// process that is killed leaves nothing that looks like a revision or a file of the model.
    fn replace(
        &self,
        path: &Path,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), Error> {
        let at_work = self.path.join(AT_WORK);
        for folder in [&at_work, path.parent().expect("it is in a repository's folder")] {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        // Each thread of each process has a name of its own.
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let new = at_work.join(format!("{}-{number}", process::id()));
        // A process of this number may have been killed here.
        let _ = fs::remove_file(&new);
        make(&new).map_err(Error::io("write", &new))?;
        fs::rename(&new, path).map_err(Error::io("put in place", path))
    }
}

/// Whether a commit is written as the hub writes them; it is then a plain folder name.
pub(super) fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

/// Whether a text is so many lower-case hexadecimal digits.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Names of all in a folder, sorted.
fn names_in(folder: &Path) -> Vec<String> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        found.filter_map(|found| found.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The paths of all files below `snapshot`, sorted; of links only those that lead to a file.
pub(super) fn files_in(snapshot: &Path) -> Vec<String> {
    let mut files = Vec::new();
    add_files(snapshot, "", DEPTH_MAX, &mut files);
    files.sort();
    files
}

fn add_files(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) {
    for found in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = found.file_name().into_string() else { continue };
        let path = found.path();
        if path.is_file() {
            files.push(format!("{prefix}{name}"));
        } else if 0 < depth && found.file_type().is_ok_and(|kind| kind.is_dir()) {
            add_files(&path, &format!("{prefix}{name}/"), depth - 1, files);
        }
    }
}

/// ORG/NAME of each repository of models in `cache`, sorted.
pub(super) fn repositories_in(cache: &Path) -> Result<Vec<String>, Error> {
    let found = match fs::read_dir(cache) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", cache)(error)),
    };
    let names = found.flatten().filter_map(|found| found.file_name().into_string().ok());
    let mut repositories: Vec<String> = names
        .filter_map(|name| Some(name.strip_prefix(FOLDER_PREFIX)?.replacen(SEPARATOR, "/", 1)))
        .collect();
    repositories.sort();
    Ok(repositories)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn what_a_killed_process_was_making_is_no_revision() {
        let cache = tempfile::tempdir().unwrap();
        let folder = Folder::of(cache.path(), "org/tiny");
        let half = |new: &Path| {
            fs::write(new, "half").unwrap();
            panic!("killed");
        };
        let made = || folder.replace(&folder.reference("main"), half);
        catch_unwind(AssertUnwindSafe(made)).unwrap_err();
        assert_eq!(folder.revisions(), [""; 0]);
        // As huggingface_hub 1.33.0 names what it makes.
        fs::write(folder.reference("main.0a1b2c3d.tmp"), "half").unwrap();
        assert_eq!(folder.revisions(), [""; 0]);
        folder.set_commit("main", &"0".repeat(40)).unwrap();
        assert_eq!(folder.revisions(), ["main"]);
    }
}
