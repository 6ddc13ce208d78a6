//! From a name to a path in the cache, with the hub's help or without.

use std::fs;
use std::path::{Path, PathBuf};

use super::api::{Hub, RemoteFile};
use super::blob::{self, Report, is_of_length};
use super::choice::{Choice, INDEX, OPTIONAL, Unfit, choose};
use super::layout::Folder;
use super::look::{Doubt, Found, look, read_shards};
use super::name::Name;
use super::settings::{Limits, Settings};
use crate::error::Error;
use crate::progress::Progress;

/// What says how a model in safetensors is built.
const CONFIG: &str = "config.json";

/// Gives the path of what `name` names: as the cache has it, or else by [`pull`].
///
/// The hub is asked only about what the cache does not say: which file of several the repository gives
/// if none is named, and whether it has files that may belong to a folder. Answers are kept in the cache.
/// If there is none, what is there is taken and [`Progress::Unasked`] says so.
pub fn fetch(
    name: &Name,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    take(name, settings, Pull::run, progress)
}

/// Gives the path of something that says how the model is built: what [`fetch`] gives if the cache has it
/// whole, or else the `config.json` of one in safetensors, without its weights, or a GGUF file.
pub fn fetch_header(
    name: &Name,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    take(name, settings, Pull::header, progress)
}

/// How something is got of the hub.
type Get<'a> = fn(&Pull<'a>, &mut dyn FnMut(Progress)) -> Result<PathBuf, Error>;

/// Gives what the cache has, or else what `get` gets.
fn take<'a>(
    name: &'a Name,
    settings: &'a Settings,
    get: Get<'a>,
    say: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    if settings.is_offline {
        return take_offline(name, settings, say);
    }
    let Ok(Found { commit, path, doubt }) = look(name, settings) else {
        return get(&Pull::new(name, settings)?, say);
    };
    let Some(doubt) = doubt else { return Ok(path) };
    let asked = Pull::new(name, settings).and_then(|pull| {
        // What is there will do, so nobody waits for a hub that does not answer.
        let pull = Pull { hub: pull.hub.asked_once(), ..pull };
        pull.ask(&commit, &doubt, say)
    });
    match asked {
        Ok(Answered::Settled) => Ok(path),
        Ok(Answered::Other) => get(&Pull::new(name, settings)?, say),
        Err(error) => {
            say(Progress::Unasked { doubt: doubt.said(), reason: error.to_string() });
            Ok(path)
        }
    }
}

/// Gives what the cache has, or says what it lacks.
fn take_offline(
    name: &Name,
    settings: &Settings,
    say: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    let found = look(name, settings).map_err(|missing| Error::HubOffline {
        name: name.to_string(),
        cache: settings.cache.clone(),
        missing,
    })?;
    if let Some(doubt) = found.doubt {
        let reason = "HF_HUB_OFFLINE is set".to_owned();
        say(Progress::Unasked { doubt: doubt.said(), reason });
    }
    say(Progress::Ready);
    Ok(found.path)
}

/// Gives the path of what `name` names, as its revision has it now, and gets what of it is missing.
///
/// Any number of threads and processes may ask at once: one gets a file, the others wait for it.
/// `progress` is called on the calling thread, and with [`Progress::Ready`] at the end. If it fails, what
/// came of a file stays for the next try, and the cache's revision is what it was.
pub fn pull(
    name: &Name,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    if settings.is_offline {
        return take_offline(name, settings, progress);
    }
    Pull::new(name, settings)?.run(progress)
}

/// What the hub says of a doubt about the cache.
enum Answered {
    /// What the cache has is the model.
    Settled,
    /// The repository gives something else.
    Other,
}

/// One model, and the cache that it belongs in.
pub(super) struct Pull<'a> {
    pub name: &'a Name,
    pub hub: Hub,
    pub cache: &'a Path,
    pub limits: Limits,
}

impl<'a> Pull<'a> {
    fn new(name: &'a Name, settings: &'a Settings) -> Result<Self, Error> {
        let Settings { cache, limits, .. } = settings;
        Ok(Self { name, hub: Hub::new(settings, name)?, cache, limits: *limits })
    }

    /// Asks about what the cache has of `commit`, and keeps the answer there; where nothing can be written,
    /// it is asked for again the next time.
    fn ask(
        &self,
        commit: &str,
        doubt: &Doubt,
        say: &mut dyn FnMut(Progress),
    ) -> Result<Answered, Error> {
        let folder = self.folder();
        match doubt {
            Doubt::Choice(cached) => {
                let listing = self.hub.listing(say)?;
                match choose(self.name, &listing.files, self.limits.files) {
                    Ok(Choice::Gguf { files, .. }) if files[0] == *cached => {
                        let _ = folder.set_given(self.name.revision(), cached);
                        Ok(Answered::Settled)
                    }
                    _ => Ok(Answered::Other),
                }
            }
            Doubt::Optional(files) => {
                for file in files {
                    match self.get(&folder, commit, &[(*file).to_owned()], say) {
                        Err(Error::NoHubFile { .. }) => {
                            let _ = folder.set_absent(commit, file);
                        }
                        result => result?,
                    }
                }
                Ok(Answered::Settled)
            }
        }
    }

    /// All of the model.
    pub fn run(&self, say: &mut dyn FnMut(Progress)) -> Result<PathBuf, Error> {
        let folder = self.folder();
        let (commit, choice) = self.choose(say)?;
        self.check_place(&folder, &commit)?;
        self.note(&folder, &commit, &choice)?;
        let (path, files) = match choice {
            Choice::Gguf { files, .. } => (folder.snapshot(&commit).join(&files[0]), files),
            Choice::Folder { files } => {
                let mut files: Vec<String> = files.into_iter().map(str::to_owned).collect();
                if files.iter().any(|file| file == INDEX) {
                    files.extend(self.shards(&folder, &commit, say)?);
                }
                (folder.snapshot(&commit), files)
            }
        };
        self.get(&folder, &commit, &files, say)?;
        // Last, so that no revision names a snapshot that lacks something because of us.
        folder.set_commit(self.name.revision(), &commit)?;
        say(Progress::Ready);
        Ok(path)
    }

    /// What says how the model is built. The revision stays what it was, since the snapshot may lack weights.
    pub fn header(&self, say: &mut dyn FnMut(Progress)) -> Result<PathBuf, Error> {
        let folder = self.folder();
        let (commit, choice) = self.choose(say)?;
        let files = match choice {
            Choice::Gguf { files, .. } => files,
            Choice::Folder { .. } => vec![CONFIG.to_owned()],
        };
        self.get(&folder, &commit, &files, say)?;
        say(Progress::Ready);
        Ok(folder.snapshot(&commit).join(&files[0]))
    }

    fn folder(&self) -> Folder {
        Folder::of(self.cache, self.name.repository())
    }

    /// What is to be taken, and of which commit.
    fn choose(&self, say: &mut dyn FnMut(Progress)) -> Result<(String, Choice), Error> {
        let listing = self.hub.listing(say)?;
        let choice = choose(self.name, &listing.files, self.limits.files);
        let choice = choice.map_err(|unfit| self.unfit(unfit))?;
        if let Choice::Gguf { files, among: Some(among) } = &choice {
            say(Progress::Chosen { file: files[0].clone(), among: *among });
        }
        Ok((listing.commit, choice))
    }

    /// Refuses a revision that cannot be noted before anything is fetched.
    fn check_place(&self, folder: &Folder, commit: &str) -> Result<(), Error> {
        let revision = self.name.revision();
        let Some(in_the_way) = folder.in_the_way(revision) else { return Ok(()) };
        let repository = self.name.repository();
        Err(Error::HubRevisionBlocked {
            revision: revision.to_owned(),
            in_the_way,
            by_commit: format!("hf:{repository}@{commit}"),
        })
    }

    /// Notes what the hub said beyond the files that are fetched, so that it is not asked again.
    fn note(&self, folder: &Folder, commit: &str, choice: &Choice) -> Result<(), Error> {
        match choice {
            Choice::Gguf { files, .. } if self.name.file().is_none() => {
                folder.set_given(self.name.revision(), &files[0])
            }
            Choice::Gguf { .. } => Ok(()),
            Choice::Folder { files } => {
                let mut absent = OPTIONAL.into_iter().filter(|file| !files.contains(file));
                absent.try_for_each(|file| folder.set_absent(commit, file))
            }
        }
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
        read_shards(&folder.snapshot(commit).join(INDEX), self.limits)
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
