//! A run as its folder has it: summary.json and requests.jsonl.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use workload::load::{LevelPlan, Load};
use workload::record::RequestRecord;
use workload::summary::Counts;
use workload::validity::Verdict;

/// Why a folder cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A file is not there or cannot be read.
    #[error("cannot read {path}: {source}; give folders that `millrace bench --out` wrote")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what this version writes.
    #[error("{path}, line {line}: {source}; was it written by another version?")]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// No level ran on both sides.
    #[error("A and B have no level in common, so there is nothing to compare")]
    NothingInCommon,
}

/// What is read of summary.json.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    pub version: String,
    pub server: Value,
    pub lengths: Value,
    pub sampling: Value,
    pub verdict: Verdict,
    pub interrupted: bool,
    pub counts: Counts,
    levels: Vec<Level>,
}

#[derive(Debug, Deserialize)]
struct Level {
    plan: LevelPlan,
    tokens_per_second: Option<f64>,
}

/// A run that was read.
#[derive(Debug)]
pub(crate) struct Run {
    pub(super) folder: PathBuf,
    pub(super) summary: Summary,
    records: Vec<RequestRecord>,
}

/// The successful requests of a level of a run.
#[derive(Debug)]
pub(super) struct RunLevel<'a> {
    pub tokens_per_second: Option<f64>,
    pub records: Vec<&'a RequestRecord>,
}

impl Run {
    /// Reads what is in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Run, CompareError> {
        let path = folder.join("summary.json");
        let summary = serde_json::from_str(&text(&path)?)
            .map_err(|source| CompareError::Content { line: source.line(), path, source })?;
        let path = folder.join("requests.jsonl");
        let parse = |(index, line)| {
            serde_json::from_str(line).map_err(|source| CompareError::Content {
                path: path.clone(),
                line: index + 1,
                source,
            })
        };
        let records = text(&path)?.lines().enumerate().map(parse).collect::<Result<_, _>>()?;
        Ok(Run { folder: folder.to_owned(), summary, records })
    }

    /// The loads of its levels, in order.
    pub(crate) fn loads(&self) -> impl Iterator<Item = &Load> {
        self.summary.levels.iter().map(|level| &level.plan.load)
    }

    /// The requests of a level by its number, from 1.
    pub(crate) fn records_of(&self, number: u32) -> impl Iterator<Item = &RequestRecord> {
        self.records.iter().filter(move |record| record.level == number)
    }

    /// The first level with this load.
    pub(super) fn level(&self, load: &Load) -> Option<RunLevel<'_>> {
        let index = self.loads().position(|other| other == load)?;
        let number = index + 1;
        let is_of_level = |record: &&RequestRecord| record.level as usize == number;
        Some(RunLevel {
            tokens_per_second: self.summary.levels[index].tokens_per_second,
            records: self.records.iter().filter(is_of_level).filter(|r| r.is_ok()).collect(),
        })
    }
}

fn text(path: &Path) -> Result<String, CompareError> {
    fs::read_to_string(path).map_err(|source| CompareError::Read { path: path.to_owned(), source })
}
