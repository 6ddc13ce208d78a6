//! The files of a folder, each read within bounds and from where it belongs.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::index::{INDEX, Index};
use crate::error::LoadError;
use crate::limits::INDEX_BYTES_MAX;
use crate::safetensors::Safetensors;

/// Most bytes of a file of settings; those in use have a few kilobytes, templates some more.
pub(super) const SETTINGS_BYTES_MAX: u64 = 4 << 20;
/// Most bytes of a vocabulary with its merges; the largest in use have 35 MB.
pub(super) const TOKENIZER_BYTES_MAX: u64 = 128 << 20;

const WEIGHTS: &str = "model.safetensors";

/// A folder that files are read from.
pub(super) struct Files {
    path: PathBuf,
    /// Where files may really lie: the folder, and in a cache of the hub, whose snapshots are links,
    /// the model's blobs.
    homes: Vec<PathBuf>,
    /// In such a cache, the model's folder, with `snapshots` and `blobs`.
    model: Option<PathBuf>,
    /// In such a cache, what blobs of all models may be links to: files in folders of this one.
    store: Option<PathBuf>,
}

impl Files {
    pub(super) fn new(path: &Path) -> Result<Files, LoadError> {
        let real = fs::canonicalize(path)
            .map_err(|source| LoadError::Open { path: path.to_path_buf(), source })?;
        let snapshots = real.parent().filter(|parent| parent.ends_with("snapshots"));
        let model = snapshots.and_then(Path::parent).map(Path::to_path_buf);
        let blobs = model.as_ref().map(|model| model.join("blobs"));
        let store = model.as_deref().and_then(Path::parent).map(|cache| cache.join("blobs"));
        let homes = [Some(real.clone()), blobs].into_iter().flatten().collect();
        Ok(Files { path: path.to_path_buf(), homes, model, store })
    }

    /// Whether there is something of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// The error for a folder without the file `name`.
    pub(super) fn missing(&self, name: &'static str, what: &'static str) -> LoadError {
        LoadError::MissingFile { path: self.path.clone(), name, what }
    }

    /// The folder's own name; of a snapshot in a cache of the hub, whose own is that of a commit, the
    /// repository's.
    pub(super) fn name(&self) -> Option<String> {
        let name = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
        let Some(model) = &self.model else { return name(&self.homes[0]) };
        Some(name(model)?.strip_prefix("models--")?.replacen("--", "/", 1))
    }

    /// Opens the file called `name`, if it is there. Only a regular file that lies in the folder is
    /// opened: what a link leads to elsewhere is nobody's business.
    fn open(&self, name: &str) -> Result<Option<File>, LoadError> {
        let path = self.path.join(name);
        let failed = |source| LoadError::Open { path: path.clone(), source };
        let real = match fs::canonicalize(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            real => real.map_err(failed)?,
        };
        let parent = real.parent();
        let is_home = self.homes.iter().any(|home| parent == Some(home));
        let is_stored =
            self.store.as_deref().is_some_and(|store| parent.and_then(Path::parent) == Some(store));
        if !(is_home || is_stored) || !real.is_file() {
            return Err(LoadError::FileElsewhere { name: name.to_string(), real });
        }
        File::open(&real).map(Some).map_err(failed)
    }

    /// The text of a file of at most `limit` bytes, if it is there.
    pub(super) fn text(&self, name: &str, limit: u64) -> Result<Option<String>, LoadError> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let mut text = String::new();
        let read = file.take(limit + 1).read_to_string(&mut text);
        let bytes = read.map_err(|source| LoadError::Read { place: name.to_string(), source })?;
        if limit < bytes as u64 {
            let place = format!("{name}: bytes of the file");
            return Err(LoadError::TooMany { place, found: bytes as u64, limit });
        }
        Ok(Some(text))
    }

    /// The object in a file of settings, if it is there.
    pub(super) fn object(&self, name: &str) -> Result<Option<Map<String, Value>>, LoadError> {
        let Some(text) = self.text(name, SETTINGS_BYTES_MAX)? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|cause| LoadError::Json { place: name.to_string(), cause })
    }

    /// Opens all files of weights, each with its name, and checks that they hold what the index says.
    pub(super) fn shards(&self) -> Result<Vec<(String, Safetensors<File>)>, LoadError> {
        if let Some(file) = self.open(WEIGHTS)? {
            return Ok(vec![(WEIGHTS.to_string(), parse(WEIGHTS, file)?)]);
        }
        let Some(text) = self.text(INDEX, INDEX_BYTES_MAX)? else { return Err(self.no_weights()) };
        let index = Index::parse(&text)?;
        drop(text);
        let mut shards = Vec::new();
        for (name, count) in index.files()? {
            let file = self
                .open(name)?
                .ok_or_else(|| LoadError::MissingShard { name: name.to_string(), index: INDEX })?;
            let shard = parse(name, file)?;
            // Before the next one is read, so that names of one file do not multiply what it takes.
            index.check((name, count), &shard)?;
            shards.push((name.to_string(), shard));
        }
        Ok(shards)
    }

    /// Says what there is in place of weights that can be read.
    fn no_weights(&self) -> LoadError {
        let found = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut names: Vec<String> = (found.take(10_000))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| {
                let name = name.to_ascii_lowercase();
                [".gguf", ".bin", ".pth", ".safetensors"].iter().any(|e| name.ends_with(e))
            })
            .collect();
        names.sort();
        names.truncate(5);
        LoadError::NoWeights { path: self.path.clone(), found: names }
    }
}

fn parse(name: &str, file: File) -> Result<Safetensors<File>, LoadError> {
    Safetensors::parse(file).map_err(|error| error.in_file(name))
}
