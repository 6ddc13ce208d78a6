//! What a run writes down while it runs, so that it can be continued and looked at again.
//!
//! `run.json` says what was asked of which server. `requests.jsonl` gets a line as each request
//! ends. When a level is over, `gauges.jsonl` gets a line for each reading of the server's gauges,
//! and then `levels.jsonl` gets the line that makes the level complete. What belongs to no such
//! line is left over from a level that was interrupted, and counts for nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use workload::gauges::GaugeSample;
use workload::load::LevelPlan;
use workload::record::RequestRecord;
use workload::slo::Slo;
use workload::summary::LevelSummary;
use workload::validity::ClientReadings;

use crate::error::BenchError;
use crate::setup::Setup;

mod read;
#[cfg(test)]
mod tests;

pub(crate) use read::read;

const RUN: &str = "run.json";
const REQUESTS: &str = "requests.jsonl";
const GAUGES: &str = "gauges.jsonl";
const LEVELS: &str = "levels.jsonl";

/// The contents of run.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    #[serde(flatten)]
    setup: Setup,
    /// How often the run was continued.
    resumes: u32,
}

/// A line of levels.jsonl: a level is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LevelEnd {
    level: u32,
    plan: LevelPlan,
    sent: usize,
    client: ClientReadings,
}

/// A line of gauges.jsonl.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct LevelSample {
    level: u32,
    #[serde(flatten)]
    sample: GaugeSample,
}

/// Everything that was measured of a level.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    /// Which level of the run it is, from 1.
    pub(crate) level: u32,
    /// What was meant.
    pub(crate) plan: LevelPlan,
    /// Requests that were begun.
    pub(crate) sent: usize,
    /// How each of them ended.
    pub(crate) records: Vec<RequestRecord>,
    /// The server's gauges meanwhile.
    pub(crate) samples: Vec<GaugeSample>,
    /// What the client read of itself meanwhile.
    pub(crate) client: ClientReadings,
}

impl Measured {
    /// The level in numbers, its requests held to `slo`, if there is one.
    pub(crate) fn summary(&self, slo: Option<Slo>) -> LevelSummary {
        let level = LevelSummary::of(self.plan.clone(), self.sent, &self.records, &self.samples);
        let level = level.with_client(self.client, &self.records);
        match slo {
            Some(slo) => level.with_goodput(slo, &self.records),
            None => level,
        }
    }

    /// Whether any request was answered to its end.
    pub(crate) fn has_success(&self) -> bool {
        self.records.iter().any(RequestRecord::is_ok)
    }

    fn end(&self) -> LevelEnd {
        let Measured { level, sent, client, .. } = *self;
        LevelEnd { level, plan: self.plan.clone(), sent, client }
    }

    fn level_samples(&self) -> impl Iterator<Item = LevelSample> {
        self.samples.iter().map(|&sample| LevelSample { level: self.level, sample })
    }
}

/// A run as it was written down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recorded {
    /// What was asked of which server.
    pub(crate) setup: Setup,
    /// How often it was continued.
    pub(crate) resumes: u32,
    /// The levels that are complete, by their number.
    pub(crate) levels: Vec<Measured>,
    /// What was found that should not be there, in words.
    pub(crate) notes: Vec<String>,
}

impl Recorded {
    /// The time of the last thing that is known, nanoseconds since the origin of the run.
    pub(crate) fn end_ns(&self) -> u64 {
        let ends = self.levels.iter().flat_map(|level| {
            let requests = level.records.iter().map(|record| record.done_ns);
            requests.chain(level.samples.iter().map(|sample| sample.at_ns))
        });
        ends.max().unwrap_or(0)
    }
}

/// A journal that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    requests: File,
    gauges: File,
    levels: File,
}

impl Journal {
    /// Makes the folder and begins a journal that was continued `resumes` times and holds the
    /// levels `kept` already; everything else that an earlier run left there is replaced.
    ///
    /// Each file is replaced at once by a whole one, levels.jsonl first, without which the others
    /// count for nothing: an end at any moment loses no more than it must.
    pub(crate) fn begin(
        folder: &Path,
        setup: &Setup,
        resumes: u32,
        kept: &[Measured],
    ) -> Result<Journal, BenchError> {
        fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
        let levels = replace(folder, LEVELS, &lines(kept.iter().map(Measured::end)))?;
        let head = Head { setup: setup.clone(), resumes };
        let mut text = serde_json::to_vec_pretty(&head).expect(PLAIN);
        text.push(b'\n');
        replace(folder, RUN, &text)?;
        let samples = kept.iter().flat_map(Measured::level_samples);
        let gauges = replace(folder, GAUGES, &lines(samples))?;
        let records = kept.iter().flat_map(|level| &level.records);
        let requests = replace(folder, REQUESTS, &lines(records))?;
        Ok(Journal { folder: folder.to_owned(), requests, gauges, levels })
    }

    /// Adds a finished request.
    pub(crate) fn record(&mut self, record: &RequestRecord) -> Result<(), BenchError> {
        self.requests.write_all(&lines([record])).map_err(|error| self.failed(REQUESTS, error))
    }

    /// Marks a level as complete, whose records have been added. It stays even if the machine
    /// stops.
    pub(crate) fn end_level(&mut self, level: &Measured) -> Result<(), BenchError> {
        let write = |mut file: &File, bytes: &[u8]| {
            file.write_all(bytes)?;
            file.sync_data()
        };
        write(&self.requests, &[]).map_err(|error| self.failed(REQUESTS, error))?;
        let samples = lines(level.level_samples());
        write(&self.gauges, &samples).map_err(|error| self.failed(GAUGES, error))?;
        let end = lines([level.end()]);
        write(&self.levels, &end).map_err(|error| self.failed(LEVELS, error))
    }

    fn failed(&self, name: &str, source: io::Error) -> BenchError {
        failed(&self.folder.join(name), source)
    }
}

const PLAIN: &str = "plain data with text keys";

/// One line of JSON for each of `items`.
fn lines<T: Serialize>(items: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut text = Vec::new();
    for item in items {
        serde_json::to_writer(&mut text, &item).expect(PLAIN);
        text.push(b'\n');
    }
    text
}

/// Puts a file with these `contents` in the place of what is called `name`; gives it for writing
/// further.
fn replace(folder: &Path, name: &str, contents: &[u8]) -> Result<File, BenchError> {
    let (path, fresh) = (folder.join(name), folder.join(format!("{name}.new")));
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(contents)?;
        file.sync_data()?;
        fs::rename(&fresh, &path)?;
        Ok(file)
    };
    write().map_err(|error| failed(&path, error))
}

fn failed(path: &Path, source: io::Error) -> BenchError {
    BenchError::Output { path: path.to_owned(), source }
}
