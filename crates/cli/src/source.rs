//! Where a model comes from: the catalogue, a file, or a seed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use catalogue::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::file::ModelFile;

/// Begins the name of a model with random weights.
const DUMMY: &str = "dummy:";
/// Seed of the weights of dummy models: they are the same in every run.
const DUMMY_SEED: u64 = 0;

/// What `--model` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An entry of the catalogue, fetched when needed.
    Catalogue(String),
    /// A `.gguf` file.
    File(PathBuf),
    /// Random weights of the shape named, made in memory.
    Dummy(String),
}

impl Source {
    /// Tells the three kinds of names apart: `dummy:SHAPE`, a path (with a `/` or ending in
    /// `.gguf`), and otherwise a name of the catalogue.
    pub fn parse(name: &str) -> Source {
        if let Some(shape) = name.strip_prefix(DUMMY) {
            Source::Dummy(shape.to_string())
        } else if name.contains('/') || name.ends_with(".gguf") {
            Source::File(PathBuf::from(name))
        } else {
            Source::Catalogue(name.to_string())
        }
    }

    /// The name that clients use unless another is given: without folder and ending.
    pub fn served_name(&self) -> String {
        match self {
            Source::Catalogue(name) => name.clone(),
            Source::Dummy(shape) => format!("{DUMMY}{shape}"),
            Source::File(path) => {
                path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
            }
        }
    }

    /// Opens the model's file, fetching it first if it is of the catalogue and not there yet.
    pub fn open(&self) -> Result<ModelFile> {
        let open = |path: &Path| {
            ModelFile::open(path).with_context(|| format!("cannot load {}", path.display()))
        };
        match self {
            Source::Catalogue(name) => open(&fetch(name)?),
            Source::File(path) => open(path),
            Source::Dummy(shape) => Ok(model::dummy::open(shape, DUMMY_SEED)?),
        }
    }
}

/// Fetches an entry of the catalogue, with progress on stderr.
pub fn fetch(name: &str) -> Result<PathBuf> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let mut tenths = 0;
    let path = catalogue::fetch(name, &mut |progress| show(&bar, name, progress, &mut tenths))?;
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
        Progress::Chosen { file, among } => say(format!("{name}: {file}, of {among} files")),
        Progress::Retrying { reason } => say(format!("{name}: {reason}; trying again")),
        Progress::Downloading { bytes, total } if bar.is_hidden() => {
            // Without a terminal a line for each tenth is enough.
            if bytes * 10 / total.max(1) > *tenths {
                *tenths = bytes * 10 / total.max(1);
                say(format!("{name}: {} of {} MB", bytes / 1_000_000, total / 1_000_000));
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
        assert_eq!(Source::parse("smollm2-135m"), Source::Catalogue("smollm2-135m".into()));
        assert_eq!(Source::parse("a.gguf"), Source::File("a.gguf".into()));
        assert_eq!(Source::parse("./a"), Source::File("./a".into()));
        assert_eq!(Source::parse("dummy:tiny"), Source::Dummy("tiny".into()));
        assert_eq!(Source::parse("models/b.Q4_1.gguf").served_name(), "b.Q4_1");
        assert_eq!(Source::parse("dummy:tiny").served_name(), "dummy:tiny");
    }
}
