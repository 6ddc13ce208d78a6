//! What was measured: a load test's folder, or a report in the form of the seed's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engine::EngineConfig;
use serde::{Deserialize, Serialize};
use workload::lengths::Lengths;
use workload::load::LevelPlan;
use workload::record::RequestRecord;

use crate::figures::Figures;

mod markdown;

/// A level that was measured.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Which level of its run it is, from 1.
    pub number: u32,
    /// What was asked.
    pub plan: LevelPlan,
    /// What came.
    pub figures: Figures,
}

/// A run that was measured.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Its levels, in the order in which they ran.
    pub levels: Vec<Observation>,
    /// What decided that which was left to chance.
    pub seed: u64,
    /// What is known about the server.
    pub server: ServerSizes,
}

/// The sizes of a server's engine, as far as it said them at `/server_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSizes {
    /// Its cap on sequences that run at once.
    pub max_num_seqs: Option<u32>,
    /// Most positions it computes in a step.
    pub max_num_batched_tokens: Option<u32>,
    /// Its limit of prompt and answer together, in tokens.
    pub max_model_len: Option<u32>,
    /// Positions in a KV block.
    pub block_size: Option<u32>,
    /// Blocks in its pool.
    pub block_count: Option<u32>,
    /// Whether it keeps blocks for later requests.
    pub prefix_caching: Option<bool>,
}

impl ServerSizes {
    /// All sizes of an engine.
    pub fn of(engine: &EngineConfig) -> ServerSizes {
        ServerSizes {
            max_num_seqs: Some(engine.max_num_seqs),
            max_num_batched_tokens: Some(engine.max_num_batched_tokens),
            max_model_len: Some(engine.max_model_len),
            block_size: Some(engine.block_size),
            block_count: Some(engine.block_count),
            prefix_caching: Some(engine.prefix_cache),
        }
    }

    /// The engine with these sizes, and those of `otherwise` where nothing is known.
    pub fn engine(&self, otherwise: EngineConfig) -> EngineConfig {
        EngineConfig {
            block_size: self.block_size.unwrap_or(otherwise.block_size),
            block_count: self.block_count.unwrap_or(otherwise.block_count),
            kv_groups: otherwise.kv_groups,
            max_model_len: self.max_model_len.unwrap_or(otherwise.max_model_len),
            max_num_seqs: self.max_num_seqs.unwrap_or(otherwise.max_num_seqs),
            max_num_batched_tokens: self
                .max_num_batched_tokens
                .unwrap_or(otherwise.max_num_batched_tokens),
            max_num_queued_reqs: otherwise.max_num_queued_reqs,
            prefix_cache: self.prefix_caching.unwrap_or(otherwise.prefix_cache),
            scheduling_policy: otherwise.scheduling_policy,
            speculation: otherwise.speculation,
        }
    }
}

/// Why a run cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; name the folder of `millrace bench --out` or a report")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is none of ours.
    #[error("{path}: line {line}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// The part of summary.json that is used.
#[derive(Deserialize)]
struct Summary {
    levels: Vec<Level>,
    seed: u64,
    #[serde(default)]
    server: Server,
}

#[derive(Deserialize)]
struct Level {
    plan: LevelPlan,
}

#[derive(Default, Deserialize)]
struct Server {
    info: Option<ServerSizes>,
}

impl Observed {
    /// Reads what `millrace bench --out` wrote into `folder`: summary.json and requests.jsonl.
    ///
    /// # Errors
    /// A file that is missing or is not what bench writes.
    pub fn of_folder(folder: &Path) -> Result<Observed, ObserveError> {
        let path = folder.join("summary.json");
        let summary: Summary = serde_json::from_str(&read(&path)?).map_err(|error| {
            malformed(&path, error.line(), format!("not the summary of a load test: {error}"))
        })?;
        let path = folder.join("requests.jsonl");
        let records = records(&path, &read(&path)?)?;
        let mut of_level: BTreeMap<u32, Vec<RequestRecord>> = BTreeMap::new();
        for record in records {
            of_level.entry(record.level).or_default().push(record);
        }
        let level = |(number, Level { plan })| {
            let records = of_level.get(&number).map_or(&[][..], Vec::as_slice);
            Observation { number, plan, figures: Figures::of(records) }
        };
        let levels = (1..).zip(summary.levels).map(level).collect();
        let server = summary.server.info.unwrap_or_default();
        Ok(Observed { levels, seed: summary.seed, server })
    }

    /// Reads a report in the form of the seed's, from `path`. It says nothing about prompts, nor
    /// how many tokens were asked for, so both are given as `lengths`.
    ///
    /// # Errors
    /// A file that is missing or has no level that can be read.
    pub fn of_report(path: &Path, lengths: Lengths) -> Result<Observed, ObserveError> {
        Observed::of_markdown(&read(path)?, lengths)
            .map_err(|(line, reason)| malformed(path, line, reason))
    }

    /// As [`Observed::of_report`], from the text itself.
    ///
    /// # Errors
    /// The line, from 1, that is not as it should be, and why.
    pub fn of_markdown(text: &str, lengths: Lengths) -> Result<Observed, (usize, String)> {
        let levels = markdown::levels(text, lengths)?.into_iter();
        let level = |(number, (plan, figures))| Observation { number, plan, figures };
        let levels = (1..).zip(levels).map(level).collect();
        Ok(Observed { levels, seed: 0, server: markdown::sizes(text) })
    }
}

fn read(path: &Path) -> Result<String, ObserveError> {
    fs::read_to_string(path).map_err(|source| ObserveError::Read { path: path.to_owned(), source })
}

fn malformed(path: &Path, line: usize, reason: String) -> ObserveError {
    ObserveError::Malformed { path: path.to_owned(), line, reason }
}

fn records(path: &Path, text: &str) -> Result<Vec<RequestRecord>, ObserveError> {
    let record = |(line, text): (usize, &str)| {
        serde_json::from_str(text)
            .map_err(|error| malformed(path, line, format!("not a request: {error}")))
    };
    (1..).zip(text.lines()).map(record).collect()
}

#[cfg(test)]
mod tests;
