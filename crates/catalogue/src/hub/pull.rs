//! From a name to a path in the cache, with the hub's help or without.

use std::fs;
use std::path::{Path, PathBuf};

use super::api::{Hub, RemoteFile};
use super::blob::{self, Report, is_of_length};
use super::choice::{Choice, INDEX, Unfit, choose, is_model_gguf, shards};
use super::layout::{Folder, files_in, repositories_in};
use super::name::{Name, is_part_of_split};
use super::settings::Settings;
use crate::error::Error;
use crate::progress::Progress;

/// Largest index of shards that is read; that of a model of 671 billion weights has 9 MB.
const INDEX_BYTES_MAX: u64 = 64 << 20;

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

/// What says how a model in safetensors is built.
const CONFIG: &str = "config.json";

/// Gives the path of what `name` names: as the cache has it, without asking the hub, or else by [`pull`].
pub fn fetch(
    name: &Name,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    look(name, settings).map_or_else(|_| pull(name, settings, progress), |found| Ok(found.path))
}

/// Gives the path of something that says how the model is built: what [`fetch`] gives if the cache has it
/// whole, or else the `config.json` of one in safetensors, without its weights, or a GGUF file.
pub fn fetch_header(
    name: &Name,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    if settings.is_offline || look(name, settings).is_ok() {
        return fetch(name, settings, progress);
    }
    let hub = Hub::new(settings, name.repository())?;
    Pull { name, hub, cache: &settings.cache }.header(progress)
}

/// All models that the cache holds whole, sorted by name: folders, and GGUF files.
pub fn cached(settings: &Settings) -> Result<Vec<Cached>, Error> {
    let mut found = Vec::new();
    for repository in repositories_in(&settings.cache)? {
        let Ok(name) = Name::parse(&repository) else { continue };
        let Some(snapshot) = Folder::of(&settings.cache, &repository).main_snapshot() else {
            continue;
        };
        let (ggufs, others): (Vec<_>, Vec<_>) =
            files_in(&snapshot).into_iter().partition(|file| is_model_gguf(file));
        found.extend(look_among(&name, &snapshot, &others));
        let whole = ggufs.iter().filter(|file| !is_part_of_split(file));
        found.extend(
            whole.filter_map(|file| look_among(&name.with_file(file), &snapshot, &ggufs).ok()),
        );
    }
    Ok(found)
}

/// Gives the path of what `name` names, as `main` has it now, and gets what of it is missing.
///
/// Any number of threads and processes may ask at once: one gets a file, the others wait for it.
/// `progress` is called on the calling thread, and with [`Progress::Ready`] at the end. If it fails, what
/// came of a file stays for the next try, and the cache's `main` is what it was.
pub fn pull(
    name: &Name,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    if settings.is_offline {
        let found = look(name, settings).map_err(|missing| Error::HubOffline {
            name: name.to_string(),
            cache: settings.cache.clone(),
            missing,
        })?;
        progress(Progress::Ready);
        return Ok(found.path);
    }
    let hub = Hub::new(settings, name.repository())?;
    Pull { name, hub, cache: &settings.cache }.run(progress)
}

/// Looks in the snapshot that the cache's `main` names. Error: what is missing.
fn look(name: &Name, settings: &Settings) -> Result<Cached, String> {
    let snapshot = Folder::of(&settings.cache, name.repository()).main_snapshot();
    let snapshot = snapshot.ok_or("it has nothing of that repository's main branch")?;
    look_among(name, &snapshot, &files_in(&snapshot))
}

fn look_among(name: &Name, snapshot: &Path, files: &[String]) -> Result<Cached, String> {
    let (path, mut chosen) = match choose(name, files).map_err(|unfit| unfit.to_string())? {
        Choice::Gguf { file, .. } => (snapshot.join(&file), vec![file]),
        Choice::Folder { files } => {
            (snapshot.to_owned(), files.into_iter().map(str::to_owned).collect())
        }
    };
    if chosen.iter().any(|file| file == INDEX) {
        let shards = read_shards(&snapshot.join(INDEX)).map_err(|error| error.to_string())?;
        if let Some(missing) = shards.iter().find(|shard| !files.contains(shard)) {
            return Err(format!("of it {missing} is missing"));
        }
        chosen.extend(shards);
    }
    let length = |file| fs::metadata(snapshot.join(file)).map_or(0, |found| found.len());
    let bytes = chosen.iter().map(length).sum();
    Ok(Cached { name: name.clone(), path, bytes })
}

fn read_shards(index: &Path) -> Result<Vec<String>, Error> {
    let bad = |reason: String| Error::BadHubIndex { path: index.to_owned(), reason };
    let found = fs::metadata(index).map_err(Error::io("read", index))?;
    if INDEX_BYTES_MAX < found.len() {
        return Err(bad(format!("{} bytes are more than {INDEX_BYTES_MAX}", found.len())));
    }
    shards(&fs::read(index).map_err(Error::io("read", index))?).map_err(bad)
}

/// One model, and the cache that it belongs in.
pub(super) struct Pull<'a> {
    pub name: &'a Name,
    pub hub: Hub,
    pub cache: &'a Path,
}

impl Pull<'_> {
    /// All of the model.
    pub fn run(&self, say: &mut dyn FnMut(Progress)) -> Result<PathBuf, Error> {
        let folder = self.folder();
        let (commit, choice) = self.choose(say)?;
        let (path, files) = match choice {
            Choice::Gguf { file, .. } => (folder.snapshot(&commit).join(&file), vec![file]),
            Choice::Folder { files } => {
                let mut files: Vec<String> = files.into_iter().map(str::to_owned).collect();
                if files.iter().any(|file| file == INDEX) {
                    files.extend(self.shards(&folder, &commit, say)?);
                }
                (folder.snapshot(&commit), files)
            }
        };
        self.get(&folder, &commit, &files, say)?;
        // Last, so that `main` never names a snapshot that lacks something because of us.
        folder.set_main(&commit)?;
        say(Progress::Ready);
        Ok(path)
    }

    /// What says how the model is built. `main` stays what it was, since the snapshot may lack weights.
    pub fn header(&self, say: &mut dyn FnMut(Progress)) -> Result<PathBuf, Error> {
        let folder = self.folder();
        let (commit, choice) = self.choose(say)?;
        let file = match choice {
            Choice::Gguf { file, .. } => file,
            Choice::Folder { .. } => CONFIG.to_owned(),
        };
        self.get(&folder, &commit, std::slice::from_ref(&file), say)?;
        say(Progress::Ready);
        Ok(folder.snapshot(&commit).join(file))
    }

    fn folder(&self) -> Folder {
        Folder::of(self.cache, self.name.repository())
    }

    /// What is to be taken, and of which commit.
    fn choose(&self, say: &mut dyn FnMut(Progress)) -> Result<(String, Choice), Error> {
        let listing = self.hub.listing(say)?;
        let choice = choose(self.name, &listing.files).map_err(|unfit| self.unfit(unfit))?;
        if let Choice::Gguf { file, among: Some(among) } = &choice {
            say(Progress::Chosen { file: file.clone(), among: *among });
        }
        Ok((listing.commit, choice))
    }

    /// Gets the index, which is small, and reads it.
    fn shards(
        &self,
        folder: &Folder,
        commit: &str,
        say: &mut dyn FnMut(Progress),
    ) -> Result<Vec<String>, Error> {
        let mut quiet = |progress| match progress {
            Progress::Downloading { .. } | Progress::Verifying => {}
            progress => say(progress),
        };
        self.get(folder, commit, &[INDEX.to_owned()], &mut quiet)?;
        read_shards(&folder.snapshot(commit).join(INDEX))
    }

    /// Gets those of the files that the snapshot of `commit` lacks.
    fn get(
        &self,
        folder: &Folder,
        commit: &str,
        files: &[String],
        say: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let snapshot = folder.snapshot(commit);
        let missing = files.iter().filter(|file| !snapshot.join(file).is_file());
        let missing = missing.map(|file| self.hub.file(commit, file, say));
        let missing = missing.collect::<Result<Vec<RemoteFile>, Error>>()?;
        self.check_space(folder, &missing)?;
        let total = missing.iter().map(|file| file.bytes).sum();
        let mut report = Report::new(total, say);
        for file in &missing {
            blob::fetch(&self.hub, folder, file, &mut report)?;
            folder.link(commit, &file.path, file.hash.name())?;
        }
        Ok(())
    }

    /// Refuses at once what would fill the disk after minutes.
    fn check_space(&self, folder: &Folder, files: &[RemoteFile]) -> Result<(), Error> {
        let missing = |file: &RemoteFile| {
            if is_of_length(&folder.blob(file.hash.name()), file.bytes) {
                return 0;
            }
            let incomplete = fs::metadata(folder.incomplete_blob(file.hash.name()));
            file.bytes.saturating_sub(incomplete.map_or(0, |found| found.len()))
        };
        let needed = files.iter().map(missing).fold(0, u64::saturating_add);
        fs::create_dir_all(self.cache).map_err(Error::io("create", self.cache))?;
        let available =
            fs4::available_space(self.cache).map_err(Error::io("look at", self.cache))?;
        if needed <= available {
            return Ok(());
        }
        let (path, variable) = (self.cache.to_owned(), "HF_HOME");
        Err(Error::NoSpace { model: self.name.to_string(), path, available, needed, variable })
    }

    fn unfit(&self, unfit: Unfit) -> Error {
        let (repository, reason) = (self.name.repository().to_owned(), unfit.to_string());
        match unfit {
            Unfit::NoFile { .. } => Error::NoHubFile { repository, reason },
            Unfit::Several { .. } | Unfit::Nothing(_) => Error::NoHubModel { repository, reason },
        }
    }
}
