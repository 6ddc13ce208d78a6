//! What the cache has of a name, and what only the hub can say about it.

use std::fs;
use std::path::{Path, PathBuf};

use super::choice::{Choice, INDEX, OPTIONAL, choose, is_model_gguf, shards};
use super::layout::{Folder, files_in, repositories_in};
use super::name::{MAIN, Name};
use super::settings::{Limits, Settings};
use crate::error::Error;
use crate::split::Split;

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// What it is asked for by.
    pub name: Name,
    /// Its file, or the folder of its files.
    pub path: PathBuf,
    /// Length of what is loaded, in bytes.
    pub bytes: u64,
}

/// A model in the snapshot that the cache has of a revision.
pub(super) struct Found {
    pub commit: String,
    /// Its file, or the folder of its files.
    pub path: PathBuf,
    pub doubt: Option<Doubt>,
}

/// What the cache does not say, since other clients, or pulls of one file, fetch less than a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Whether it is this file that the repository gives if none is named.
    Choice(String),
    /// Whether these files, which may belong to the model, are in the repository.
    Optional(Vec<&'static str>),
}

impl Doubt {
    /// What it means to go on without asking.
    pub fn said(&self) -> String {
        match self {
            Self::Choice(file) => {
                format!("takes {file} of the cache, though the repository may give another file")
            }
            Self::Optional(files) => {
                format!("goes without {}, which the repository may have", files.join(", "))
            }
        }
    }
}

/// All models that the cache holds whole, sorted by name: folders, and GGUF files.
pub fn cached(settings: &Settings) -> Result<Vec<Cached>, Error> {
    let mut found = Vec::new();
    for repository in repositories_in(&settings.cache)? {
        let Ok(name) = Name::parse(&repository) else { continue };
        let folder = Folder::of(&settings.cache, &repository);
        let revisions = folder.revisions();
        let names = revisions.iter().filter_map(|revision| name.at_revision(revision));
        names.for_each(|name| add_cached(&name, &folder, settings.limits, &mut found));
    }
    Ok(found)
}

/// Adds what the cache holds whole of one revision.
fn add_cached(name: &Name, folder: &Folder, limits: Limits, found: &mut Vec<Cached>) {
    let Some(commit) = folder.commit(name.revision()) else { return };
    let snapshot = folder.snapshot(&commit);
    let (ggufs, others): (Vec<_>, Vec<_>) =
        files_in(&snapshot).into_iter().partition(|file| is_model_gguf(file));
    found.extend(look_among(name, &snapshot, &others, limits));
    let named = ggufs.iter().filter(|file| Split::is_first(file));
    let look = |file: &String| look_among(&name.with_file(file), &snapshot, &ggufs, limits).ok();
    found.extend(named.filter_map(look));
}

/// Looks in the snapshot that the cache has of a revision. Error: what is missing.
pub(super) fn look(name: &Name, settings: &Settings) -> Result<Found, String> {
    let folder = Folder::of(&settings.cache, name.repository());
    let commit = folder.commit(name.revision()).ok_or_else(|| match name.revision() {
        MAIN => "it has nothing of that repository's main branch".to_owned(),
        revision => format!("it has nothing of that repository's revision {revision}"),
    })?;
    let snapshot = folder.snapshot(&commit);
    let path = look_among(name, &snapshot, &files_in(&snapshot), settings.limits)?.path;
    let doubt = match path.strip_prefix(&snapshot) {
        Ok(file) if file.as_os_str().is_empty() => doubt_about_folder(&folder, &commit),
        Ok(file) if name.file().is_none() => {
            let given = folder.given(name.revision());
            let file = file.to_string_lossy().into_owned();
            (given.as_ref() != Some(&file)).then_some(Doubt::Choice(file))
        }
        _ => None,
    };
    Ok(Found { commit, path, doubt })
}

fn doubt_about_folder(folder: &Folder, commit: &str) -> Option<Doubt> {
    let snapshot = folder.snapshot(commit);
    let is_unknown =
        |file: &&str| !snapshot.join(file).is_file() && !folder.is_known_absent(commit, file);
    let unknown: Vec<&str> = OPTIONAL.into_iter().filter(is_unknown).collect();
    (!unknown.is_empty()).then_some(Doubt::Optional(unknown))
}

fn look_among(
    name: &Name,
    snapshot: &Path,
    files: &[String],
    limits: Limits,
) -> Result<Cached, String> {
    let choice = choose(name, files, limits.files).map_err(|unfit| unfit.to_string())?;
    let (path, mut chosen) = match choice {
        Choice::Gguf { files, .. } => (snapshot.join(&files[0]), files),
        Choice::Folder { files } => {
            (snapshot.to_owned(), files.into_iter().map(str::to_owned).collect())
        }
    };
    if chosen.iter().any(|file| file == INDEX) {
        let shards =
            read_shards(&snapshot.join(INDEX), limits).map_err(|error| error.to_string())?;
        if let Some(missing) = shards.iter().find(|shard| !files.contains(shard)) {
            return Err(format!("of it {missing} is missing"));
        }
        chosen.extend(shards);
    }
    let length = |file| fs::metadata(snapshot.join(file)).map_or(0, |found| found.len());
    let bytes = chosen.iter().map(length).sum();
    Ok(Cached { name: name.clone(), path, bytes })
}

/// The paths of the shards that the index names.
pub(super) fn read_shards(index: &Path, limits: Limits) -> Result<Vec<String>, Error> {
    let bad = |reason: String| Error::BadHubIndex { path: index.to_owned(), reason };
    let found = fs::metadata(index).map_err(Error::io("read", index))?;
    if limits.index_bytes < found.len() {
        let (bytes, most) = (found.len(), limits.index_bytes);
        return Err(bad(format!("{bytes} bytes are more than {most}")));
    }
    let text = fs::read(index).map_err(Error::io("read", index))?;
    shards(&text, limits.files).map_err(bad)
}
