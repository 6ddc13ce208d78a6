//! The files of the workspace, and what a rule says of them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::source::Source;

/// A place where a rule does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path from the root of the workspace, with `/` between its parts.
    pub file: String,
    /// Counted from 1; 0 stands for the file as a whole.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl Violation {
    /// Something wrong at a line of a file.
    pub fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// One file.
#[derive(Debug, Clone)]
pub struct File {
    /// Path from the root of the workspace, with `/` between its parts.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its text; empty if it is none.
    pub text: String,
    /// Its text as Rust, if its name ends in `.rs`.
    pub rust: Option<Source>,
    /// Whether all of it is compiled for tests or benchmarks only.
    pub is_test: bool,
}

/// All files that belong to the repository: tracked, or new and not ignored.
#[derive(Debug, Default)]
pub struct Tree {
    /// The files, in order of their paths.
    pub files: Vec<File>,
}

impl Tree {
    /// Reads the workspace that this crate was built in.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let paths = listed_by_git(&root).unwrap_or_else(|| walked(&root));
        let files = paths.iter().filter_map(|path| {
            let bytes = fs::read(root.join(path)).ok()?;
            let text = String::from_utf8(bytes.clone()).unwrap_or_default();
            Some(File { bytes: bytes.len() as u64, ..file(path, &text) })
        });
        Self::of_files(files.collect())
    }

    /// Makes a tree of paths and texts.
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self::of_files(files.iter().map(|(path, text)| file(path, text)).collect())
    }

    fn of_files(mut files: Vec<File>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        // A file is test code if the module that declares it says so.
        let mut test_files = Vec::new();
        for file in &files {
            for module in file.rust.iter().flat_map(|source| &source.test_modules) {
                let folder = module_folder(&file.path);
                test_files.push(format!("{folder}/{module}.rs"));
                test_files.push(format!("{folder}/{module}/mod.rs"));
            }
        }
        for file in &mut files {
            file.is_test |= test_files.contains(&file.path);
        }
        Self { files }
    }

    /// The file at exactly this path.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All Rust files.
    pub fn rust(&self) -> impl Iterator<Item = (&File, &Source)> {
        self.files.iter().filter_map(|file| Some((file, file.rust.as_ref()?)))
    }

    /// All Rust files but those for tests and benchmarks only.
    pub fn shipped_rust(&self) -> impl Iterator<Item = (&File, &Source)> {
        self.rust().filter(|(file, _)| !file.is_test)
    }

    /// The folders of `crates/`, in order.
    pub fn crate_folders(&self) -> Vec<&str> {
        let name = |file: &'_ File| -> Option<usize> {
            let (folder, _) = file.path.strip_prefix("crates/")?.split_once("/Cargo.toml")?;
            (!folder.contains('/')).then_some(folder.len())
        };
        let folder = |file| name(file).map(|length| &file.path["crates/".len()..][..length]);
        self.files.iter().filter_map(folder).collect()
    }

    /// The files in which the crates' module trees begin.
    pub fn crate_roots(&self) -> impl Iterator<Item = (&File, &Source)> {
        let is_root = |path: &str| path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
        self.rust().filter(move |(file, _)| is_root(&file.path))
    }
}

fn file(path: &str, text: &str) -> File {
    let in_folder = |name: &str| path.split('/').rev().skip(1).any(|part| part == name);
    File {
        path: path.to_owned(),
        bytes: text.len() as u64,
        text: text.to_owned(),
        rust: path.ends_with(".rs").then(|| Source::new(text)),
        is_test: in_folder("tests") || in_folder("benches"),
    }
}

/// Where the modules that the file at `path` declares are looked for.
fn module_folder(path: &str) -> &str {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    match path.rsplit('/').next() {
        Some("lib.rs" | "main.rs" | "mod.rs") => folder,
        _ => path.trim_end_matches(".rs"),
    }
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> =
        text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (!paths.is_empty()).then_some(paths)
}

/// All files under `root` but those of git, builds and reports.
fn walked(root: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(root.join(&folder)).expect("a folder just listed can be read");
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            let name = path.to_string_lossy().replace('\\', "/");
            if matches!(name.as_str(), ".git" | "target" | "report") {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => paths.push(name),
                _ => {}
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_and_a_walk_see_the_same_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let walked = walked(&root);
        assert!(walked.contains(&"crates/tidy/src/tree.rs".to_owned()), "{walked:?}");
        if let Some(listed) = listed_by_git(&root) {
            let missed: Vec<_> = listed
                .iter()
                .filter(|path| root.join(path).exists() && !walked.contains(path))
                .collect();
            assert!(missed.is_empty(), "{missed:?}");
        }
    }

    #[test]
    fn files_for_tests_are_told_by_folder_and_by_their_declaration() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "mod b;\n#[cfg(test)]\nmod checks;\n"),
            ("crates/a/src/b.rs", "#[cfg(test)]\nmod tests;\n"),
            ("crates/a/src/b/tests.rs", ""),
            ("crates/a/src/checks.rs", ""),
            ("crates/a/tests/black_box.rs", ""),
            ("crates/a/benches/speed.rs", ""),
        ]);
        let shipped: Vec<&str> = tree.shipped_rust().map(|(file, _)| file.path.as_str()).collect();
        assert_eq!(shipped, ["crates/a/src/b.rs", "crates/a/src/lib.rs"]);
    }

    #[test]
    fn crate_folders_are_those_with_a_manifest() {
        let tree = Tree::of(&[
            ("Cargo.toml", ""),
            ("crates/a/Cargo.toml", ""),
            ("crates/b/Cargo.toml", ""),
            ("crates/b/fuzz/Cargo.toml", ""),
            ("crates/c/src/lib.rs", ""),
        ]);
        assert_eq!(tree.crate_folders(), ["a", "b"]);
    }
}
