//! Where a model comes from: the catalogue, the hub, this machine's files, or a seed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use catalogue::hub::{self, Limits, Name, Settings};
use catalogue::{Error, Progress, Split, is_gguf};
use engine::budget::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::file::ModelFile;
use model::limits::{FILES_MAX, INDEX_BYTES_MAX};

/// Begins the name of a model with random weights.
const DUMMY: &str = "dummy:";
/// Begins the name of a model of the hub; it may be left out.
const HUB: &str = "hf:";
/// Seed of the weights of dummy models: they are the same in every run.
const DUMMY_SEED: u64 = 0;

/// What `--model` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An entry of the catalogue, fetched when needed.
    Catalogue(String),
    /// A repository of the Hugging Face hub or a file of one, fetched when needed.
    Hub {
        name: Name,
        /// Whether it began with `hf:`, and could be nothing else.
        is_marked: bool,
    },
    /// A `.gguf` file, or a folder.
    File(PathBuf),
    /// Random weights of the shape named, made in memory.
    Dummy(String),
}

impl Source {
    /// Tells the kinds of names apart: `dummy:SHAPE`; `hf:ORG/NAME`; what has a `/` or ends in `.gguf` is
    /// a path, but a name of the hub if there is no such path and it could be one; and otherwise a name of
    /// the catalogue. Error: after `hf:` comes no name.
    pub fn parse(name: &str) -> Result<Source> {
        if let Some(shape) = name.strip_prefix(DUMMY) {
            return Ok(Source::Dummy(shape.to_string()));
        }
        if Name::is_marked(name) {
            return Ok(Source::Hub { name: Name::parse(name)?, is_marked: true });
        }
        if !name.contains('/') && !is_gguf(name) {
            return Ok(Source::Catalogue(name.to_string()));
        }
        let path = PathBuf::from(name);
        // A path to a file that is missing is no repository; `plan` takes a config.json too.
        let is_named_as_file = is_gguf(name) || name.ends_with(".json");
        let is_file = path.exists() || (is_named_as_file && !name.contains(':'));
        Ok(match Name::parse(name) {
            Ok(name) if !is_file => Source::Hub { name, is_marked: false },
            _ => Source::File(path),
        })
    }

    /// The name that clients use unless another is given: without folder and ending, and for a
    /// repository of the hub ORG/NAME.
    pub fn served_name(&self) -> String {
        // A folder's name may have dots, as in Qwen2.5-0.5B.
        let stem = |path: &Path| {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            match Split::of(&name) {
                Some(split) => split.stem.to_owned(),
                None if is_gguf(&name) => name[..name.len() - ".gguf".len()].to_owned(),
                None => name.into_owned(),
            }
        };
        match self {
            Source::Catalogue(name) => name.clone(),
            Source::Dummy(shape) => format!("{DUMMY}{shape}"),
            Source::File(path) => stem(path),
            Source::Hub { name, .. } => {
                name.file().map_or_else(|| name.repository().to_owned(), |file| stem(file.as_ref()))
            }
        }
    }

    /// Opens the model, fetching it first if it is not there yet.
    pub fn open(&self) -> Result<ModelFile> {
        match (self.fetch()?, self) {
            (Some(path), _) => {
                ModelFile::open(&path).with_context(|| format!("cannot load {}", path.display()))
            }
            (None, Source::Dummy(shape)) => Ok(model::dummy::open(shape, DUMMY_SEED)?),
            (None, _) => unreachable!("only dummy models have no path"),
        }
    }

    /// Gives the path of the model, fetching it first if it is not there yet; a dummy model has none.
    pub fn fetch(&self) -> Result<Option<PathBuf>> {
        match self {
            Source::Catalogue(name) => of_catalogue(name).map(Some),
            Source::Hub { name, is_marked } => of_hub(name, *is_marked, hub::fetch).map(Some),
            Source::File(path) => Ok(Some(path.clone())),
            Source::Dummy(_) => Ok(None),
        }
    }

    /// Gives the path of a file that says how a model of the hub is built, without its weights if they are
    /// others, and of a model elsewhere nothing.
    pub fn fetch_header(&self) -> Result<Option<PathBuf>> {
        let Source::Hub { name, is_marked } = self else { return Ok(None) };
        of_hub(name, *is_marked, hub::fetch_header).map(Some)
    }

    /// Fetches the model, of the hub also if there is a newer one. Error: it is on this machine.
    pub fn pull(&self) -> Result<PathBuf> {
        match self {
            Source::Catalogue(name) => of_catalogue(name),
            Source::Hub { name, is_marked } => of_hub(name, *is_marked, hub::pull),
            Source::File(path) => bail!(
                "{} is a path on this machine; give a name of the catalogue, or hf:ORG/NAME",
                path.display()
            ),
            Source::Dummy(shape) => bail!("{DUMMY}{shape} is made in memory and never fetched"),
        }
    }
}

fn of_catalogue(name: &str) -> Result<PathBuf> {
    with_progress(name, |show| catalogue::fetch(name, show))
}

/// How something is got of the hub.
type Get = fn(&Name, &Settings, &mut dyn FnMut(Progress)) -> Result<PathBuf, Error>;

/// Gets something of the hub. That a name without `hf:` was meant as a path is said before the hub is asked.
fn of_hub(name: &Name, is_marked: bool, get: Get) -> Result<PathBuf> {
    let no_path = (!is_marked).then(|| no_path(name));
    if let Some(no_path) = &no_path {
        eprintln!("{no_path}: taking it for {name} of the hub");
    }
    let settings = hub_settings()?;
    let got = with_progress(&name.to_string(), |show| get(name, &settings, show));
    got.with_context(|| match no_path {
        Some(no_path) => format!("{no_path}, and cannot get {name} of the hub"),
        None => format!("cannot get {name} of the hub"),
    })
}

/// What the environment says of the hub. Of a model no more is fetched than is loaded.
pub fn hub_settings() -> Result<Settings> {
    let limits = Limits { files: FILES_MAX, index_bytes: INDEX_BYTES_MAX };
    Ok(Settings::from_environment(limits)?)
}

/// What is said of a name without `hf:` that may have been meant as a path.
fn no_path(name: &Name) -> String {
    let shown = name.to_string();
    format!("there is no file or folder `{}` here", shown.trim_start_matches(HUB))
}

/// Fetches with progress on stderr.
fn with_progress(
    name: &str,
    fetch: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<PathBuf, Error>,
) -> Result<PathBuf> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let mut tenths = 0;
    let path = fetch(&mut |progress| show(&bar, name, progress, &mut tenths))?;
    bar.finish_and_clear();
    Ok(path)
}

fn show(bar: &ProgressBar, name: &str, progress: Progress, tenths: &mut u64) {
    let say = |text: String| {
        if bar.is_hidden() { eprintln!("{text}") } else { bar.println(text) }
    };
    match progress {
        Progress::Waiting => say(format!("{name}: another process is fetching it; waiting")),
        Progress::Licence { notice } => say(format!("{name}: {notice}")),
        Progress::Chosen { file, among } => {
            say(format!("{name}: takes {file} of {among} GGUF files; {name}:FILE takes another"))
        }
        Progress::Unasked { doubt, reason } => say(format!("{name}: {doubt}: {reason}")),
        Progress::Retrying { reason } => say(format!("{name}: {reason}; trying again")),
        Progress::Downloading { bytes, total } if bar.is_hidden() => {
            // Without a terminal a line for each tenth is enough.
            if bytes * 10 / total.max(1) > *tenths {
                *tenths = bytes * 10 / total.max(1);
                say(format!("{name}: {} of {}", Bytes(bytes), Bytes(total)));
            }
        }
        Progress::Downloading { bytes, total } => {
            let style = "{msg} [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            bar.set_style(ProgressStyle::with_template(style).expect("the template is constant"));
            bar.set_message(format!("fetching {name}"));
            bar.set_length(total);
            bar.set_position(bytes);
        }
        Progress::Verifying => {
            bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is constant"));
            bar.set_message(format!("verifying {name}"));
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Progress::Ready => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_shapes_are_told_apart() {
        let parse = |name: &str| Source::parse(name).unwrap();
        let hub = |name: &str| {
            let is_marked = name.starts_with("hf:");
            Source::Hub { name: Name::parse(name).unwrap(), is_marked }
        };
        assert_eq!(parse("smollm2-135m"), Source::Catalogue("smollm2-135m".into()));
        assert_eq!(parse("dummy:tiny"), Source::Dummy("tiny".into()));
        for path in [
            "a.gguf",
            "A.GGUF",
            "./a",
            "/a/b",
            "a/b/c",
            "../a",
            "a/b.Gguf",
            "a/b.json",
            "src/main.rs",
        ] {
            assert_eq!(parse(path), Source::File(path.into()));
        }
        for name in ["hf:org/name", "org/name", "hf:org/name:a.gguf", "org/name:a.gguf"] {
            assert_eq!(parse(name), hub(name));
        }
        assert_eq!(parse("hf:src/main.rs"), hub("hf:src/main.rs"), "a mark goes before a path");
        assert!(Source::parse("hf:name").is_err() && Source::parse("hf:../name").is_err());
    }

    #[test]
    fn what_is_served_is_named_without_folder_and_ending() {
        for (name, served) in [
            ("models/b.Q4_1.gguf", "b.Q4_1"),
            ("models/B.Q4_1.GGUF", "B.Q4_1"),
            ("./models/b-0.5B/", "b-0.5B"),
            ("dummy:tiny", "dummy:tiny"),
            ("hf:org/name", "org/name"),
            ("hf:org/name:Q4/b.Q4_1.gguf", "b.Q4_1"),
            ("hf:org/name@v1.0", "org/name"),
            ("hf:org/name:Q4/b-00001-of-00003.gguf", "b"),
        ] {
            assert_eq!(Source::parse(name).unwrap().served_name(), served);
        }
    }

    #[test]
    fn only_what_is_elsewhere_can_be_pulled() {
        let refused = |name: &str| Source::parse(name).unwrap().pull().unwrap_err().to_string();
        assert!(refused("./a.gguf").contains("hf:ORG/NAME"));
        assert!(refused("dummy:tiny").contains("in memory"));
    }
}
