//! The battery of hostile model files: `millrace check` must refuse each with exit code 2 and one
//! line that names the cause, in a process of its own whose address space is bounded.
//!
//! A panic has exit code 101, a signal (out of memory, a stack overflow, a hang that `timeout` ends)
//! has 128 and more; so whatever else happens to a file fails the test.

mod gguf;
mod format;
mod contents;
mod templates;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use gguf::Parts;

/// Files in the battery, at least.
const FILES_MIN: usize = 150;
/// Address space of a check in KiB: what a good file takes, and little more.
const ADDRESS_SPACE_KIB: u32 = 320 << 10;
/// Seconds until a check counts as hanging; it takes a hundredth of one.
const HANG_SECONDS: u32 = 60;
/// Checks under way at once.
const WORKERS: usize = 4;

/// A file and what must be said of it.
pub struct Case {
    name: String,
    bytes: Vec<u8>,
    /// A part of the line on stderr.
    cause: String,
}

impl Case {
    /// The good file, spoilt.
    pub fn new(
        name: impl Into<String>,
        cause: impl Into<String>,
        spoil: impl FnOnce(&mut Parts),
    ) -> Case {
        let mut parts = Parts::valid();
        spoil(&mut parts);
        Case { name: name.into(), bytes: parts.bytes(), cause: cause.into() }
    }

    /// What is wrong with the check of this file, if anything.
    fn complaint(&self, folder: &Path, number: usize) -> Option<String> {
        let path = folder.join(format!("{number}.gguf"));
        std::fs::write(&path, &self.bytes).expect("the folder is ours");
        let Output { status, stdout, stderr } = check(&path);
        std::fs::remove_file(&path).expect("it was written");
        let line = String::from_utf8_lossy(&stderr);
        let right = status.code() == Some(2)
            && stdout.is_empty()
            && line.starts_with("millrace: ")
            && line.lines().count() == 1
            && line.contains(&self.cause);
        let Case { name, cause, .. } = self;
        (!right).then(|| format!("{name} (expected {cause:?}): {status}, {line:.300}"))
    }
}

/// `millrace check` of the file at `path`.
fn check(path: &Path) -> Output {
    let script = format!(
        "ulimit -v {ADDRESS_SPACE_KIB}; exec timeout -s KILL {HANG_SECONDS} \"$0\" check \"$1\""
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_millrace")]).arg(path);
    command.output().expect("there is a shell")
}

#[test]
fn every_hostile_file_is_refused_with_one_line_within_little_memory() {
    let folder = tempfile::tempdir().expect("temporary files can be made");
    let cases: Vec<Case> =
        [format::cases(), contents::cases(), templates::cases()].into_iter().flatten().collect();
    assert!(FILES_MIN <= cases.len(), "{} files", cases.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut complaints = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(number) else { return complaints };
            complaints.extend(case.complaint(folder.path(), number));
        }
    };
    let complaints: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    println!("{} files, {} complaints", cases.len(), complaints.len());
    assert!(
        complaints.is_empty(),
        "{} of {}:\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
}

#[test]
fn the_good_file_is_accepted_within_the_same_bounds() {
    let folder = tempfile::tempdir().expect("temporary files can be made");
    let path = folder.path().join("good.gguf");
    let good = Parts::valid().bytes();
    assert_eq!(good, gguf::original(), "taken apart and put together it is the same");
    std::fs::write(&path, good).expect("the folder is ours");
    let checked = check(&path);
    assert!(checked.status.success(), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stdout).contains("template works"));
}
