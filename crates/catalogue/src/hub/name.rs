//! Names of models on the hub.

use std::fmt;

use crate::error::Error;
use crate::split::{Split, is_gguf};

/// Begins a name that can be nothing else.
const PREFIX: &str = "hf:";
/// Longest ORG or NAME, as the hub has it.
const PART_BYTES_MAX: usize = 96;
/// Longest path within a repository; file systems take no more.
const PATH_BYTES_MAX: usize = 1024;
/// The branch that is meant where none is named.
pub(super) const MAIN: &str = "main";
/// Longest name of a file or folder on usual file systems.
const SEGMENT_BYTES_MAX: usize = 255;

/// A model on the hub: a repository, or one file of it, at some revision. Shown as
/// `hf:ORG/NAME[@REVISION][:FILE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    repository: String,
    /// None is [`MAIN`].
    revision: Option<String>,
    file: Option<String>,
}

impl Name {
    /// Reads `ORG/NAME[@REVISION][:FILE]`, with `hf:` before it or without. REVISION is a branch, a tag or a commit.
    ///
    /// Error: a part is not of the form that the hub gives it, or FILE is no `.gguf` file, or another part of a
    /// split one than the first.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |reason: String| Error::BadHubName { name: text.to_owned(), reason };
        let bare = text.strip_prefix(PREFIX).unwrap_or(text);
        let (repository, file) = match bare.split_once(':') {
            Some((repository, file)) => (repository, Some(file.to_owned())),
            None => (bare, None),
        };
        let (repository, revision) = match repository.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (repository, None),
        };
        let Some((org, name)) = repository.split_once('/') else {
            return Err(refused("there is no `/`".to_owned()));
        };
        check_part(org).and_then(|()| check_part(name)).map_err(refused)?;
        if let Some(revision) = revision {
            check_revision(revision).map_err(refused)?;
        }
        if let Some(file) = &file {
            check_path(file).and_then(|()| check_gguf(file)).map_err(refused)?;
        }
        let revision = revision.filter(|&revision| revision != MAIN).map(str::to_owned);
        Ok(Self { repository: repository.to_owned(), revision, file })
    }

    /// Whether the text begins as only a name of the hub does.
    pub fn is_marked(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// ORG/NAME.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }

    /// The path of the file within the repository, if one is named.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The name of one file of the same repository, whose path has been checked.
    pub(super) fn with_file(&self, file: &str) -> Self {
        Self { file: Some(file.to_owned()), ..self.clone() }
    }

    /// The same repository at another revision, if it is one.
    pub(super) fn at_revision(&self, revision: &str) -> Option<Self> {
        check_revision(revision).ok()?;
        let revision = Some(revision).filter(|&revision| revision != MAIN).map(str::to_owned);
        Some(Self { revision, ..self.clone() })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.repository)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))?;
        self.file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

/// Holds ORG or NAME to the hub's rules, by which it is a plain folder name and needs no escape.
fn check_part(part: &str) -> Result<(), String> {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_outer = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let rule = if part.is_empty() || PART_BYTES_MAX < part.len() {
        "has not between 1 and 96 characters"
    } else if !part.chars().all(is_inner) {
        "has other characters than letters, digits, `-`, `_` and `.`"
    } else if !part.starts_with(is_outer) || !part.ends_with(is_outer) {
        "begins or ends with `-` or `.`"
    } else if part.contains("--") || part.contains("..") {
        "has `--` or `..`"
    } else if part.ends_with(".git") {
        "ends with `.git`"
    } else {
        return Ok(());
    };
    Err(format!("`{}` {rule}", part.escape_debug()))
}

/// Holds a branch, a tag or a commit to what git allows and what is a plain path below `refs`.
fn check_revision(revision: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let is_segment = |segment: &str| {
        let bytes = 1..=SEGMENT_BYTES_MAX;
        let is_free = !segment.starts_with('.') && !segment.ends_with('.');
        bytes.contains(&segment.len()) && is_free && !segment.ends_with(".lock")
    };
    let is_whole = revision.split('/').all(is_segment) && !revision.contains("..");
    if revision.len() <= SEGMENT_BYTES_MAX && revision.chars().all(is_plain) && is_whole {
        return Ok(());
    }
    let shown: String = revision.chars().take(100).collect();
    Err(format!("`{}` is no revision", shown.escape_debug()))
}

/// Holds a path within a repository to what names one file below the repository's folder.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.len() <= SEGMENT_BYTES_MAX
            && !segment.contains(|c: char| c.is_control() || c == '\\')
    };
    if path.len() <= PATH_BYTES_MAX && path.split('/').all(is_segment) {
        return Ok(());
    }
    let shown: String = path.chars().take(100).collect();
    Err(format!("`{}` is no path of a file in a repository", shown.escape_debug()))
}

fn check_gguf(file: &str) -> Result<(), String> {
    if !is_gguf(file) {
        return Err(format!(
            "`{file}` does not end in .gguf; for a model in safetensors name no file"
        ));
    }
    if let Some(split) = Split::of(file).filter(|split| split.number != 1) {
        let (number, count) = (split.number, split.count);
        let first = split.path(1);
        return Err(format!("`{file}` is part {number} of {count}; name the first, {first}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_repository_and_perhaps_a_file() {
        for text in ["org/name", "hf:org/name", "hf:Org-1/na.me_2:file.gguf", "a/b:Q4/x y.GGUF"] {
            let name = Name::parse(text).unwrap();
            let shown = format!("hf:{}", text.trim_start_matches("hf:"));
            assert_eq!(name.to_string(), shown);
            assert_eq!(Name::parse(&shown).unwrap(), name);
        }
        let name = Name::parse("hf:org/name:Q4/file.gguf").unwrap();
        assert_eq!((name.repository(), name.file()), ("org/name", Some("Q4/file.gguf")));
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        let long = "x".repeat(97);
        for part in [
            "", ".", "..", "-a", "a-", ".a", "a.", "a--b", "a..b", "a.git", "a b", "a%2fb", "a?b",
            "a#b", "a\\b", "a\nb", "ä", &long,
        ] {
            for text in [format!("hf:{part}/name"), format!("hf:org/{part}")] {
                let error = Name::parse(&text).unwrap_err().to_string();
                assert!(error.contains("hf:ORG/NAME"), "{text}: {error}");
            }
        }
        for text in ["hf:org", "hf:a/b/c", "hf:", "hf:hf:a/b", "a/b:"] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
        let long = format!("{}.gguf", "x".repeat(1024));
        for file in [
            "",
            "/x.gguf",
            "../x.gguf",
            "a/../x.gguf",
            "a//x.gguf",
            "./x.gguf",
            "a\\x.gguf",
            "x\0.gguf",
            "x\n.gguf",
            &long,
        ] {
            assert!(Name::parse(&format!("hf:org/name:{file}")).is_err(), "{file:?}");
        }
    }

    #[test]
    fn only_whole_gguf_files_can_be_named() {
        let said =
            |file: &str| Name::parse(&format!("hf:org/name:{file}")).unwrap_err().to_string();
        assert!(said("model.safetensors").contains("name no file"));
        assert!(
            said("big-00002-of-00003.gguf").contains("name the first, big-00001-of-00003.gguf")
        );
        Name::parse("hf:org/name:Q4/big-00001-of-00003.GGUF").unwrap();
    }

    #[test]
    fn a_revision_stands_behind_the_repository() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for revision in ["v1.0", "refs/pr/12", "feature/a_b-c", commit] {
            let text = format!("hf:org/name@{revision}:a.gguf");
            let name = Name::parse(&text).unwrap();
            assert_eq!((name.revision(), name.file()), (revision, Some("a.gguf")));
            assert_eq!(name.to_string(), text);
        }
        assert_eq!(Name::parse("org/name@main").unwrap(), Name::parse("org/name").unwrap());
        let long = "x".repeat(256);
        for bad in [
            "", "/a", "a/", "a//b", "..", "a..b", ".a", "a/.b", "a.lock", "a b", "a@b", "é",
            "a\\b", &long,
        ] {
            assert!(Name::parse(&format!("hf:org/name@{bad}")).is_err(), "{bad}");
        }
    }
}
