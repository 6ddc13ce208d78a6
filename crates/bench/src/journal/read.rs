//! A journal read back.

use std::fs;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use workload::record::RequestRecord;

use super::{GAUGES, Head, LEVELS, LevelEnd, LevelSample, Measured, REQUESTS, RUN, Recorded};
use crate::error::BenchError;

/// The run in `folder`. `None` if there is none.
///
/// The last line of a file may be torn, since a process can be killed in the middle of a write: it
/// is dropped, with a note. Anything else that cannot be read is an error.
pub(crate) fn read(folder: &Path) -> Result<Option<Recorded>, BenchError> {
    let path = folder.join(RUN);
    let Some(text) = contents(&path)? else { return Ok(None) };
    let head: Head = serde_json::from_str(&text)
        .map_err(|error| damaged(&path, error.line(), &error.to_string()))?;
    let mut notes = Vec::new();
    let ends: Vec<LevelEnd> = lines(folder, LEVELS, &mut notes)?;
    let samples: Vec<LevelSample> = lines(folder, GAUGES, &mut notes)?;
    let mut records: Vec<RequestRecord> = lines(folder, REQUESTS, &mut notes)?;
    let mut levels = Vec::new();
    for LevelEnd { level, plan, sent, client } in ends {
        let of_level = samples.iter().filter(|found| found.level == level);
        let samples = of_level.map(|found| found.sample).collect();
        let (of_level, others) = records.into_iter().partition(|record| record.level == level);
        records = others;
        levels.push(Measured { level, plan, sent, records: of_level, samples, client });
    }
    levels.sort_by_key(|level| level.level);
    check(folder, &levels)?;
    Ok(Some(Recorded { setup: head.setup, resumes: head.resumes, levels, notes }))
}

/// Refuses a journal in which a complete level has not as many requests as it says.
fn check(folder: &Path, levels: &[Measured]) -> Result<(), BenchError> {
    match levels.iter().find(|level| level.records.len() != level.sent) {
        Some(Measured { level, sent, records, .. }) => {
            let found = records.len();
            let reason = format!("level {level} has {found} requests, and {sent} were begun");
            Err(damaged(&folder.join(REQUESTS), 1, &reason))
        }
        None => Ok(()),
    }
}

/// The lines of a file of the journal; none if it does not exist.
fn lines<T: DeserializeOwned>(
    folder: &Path,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<T>, BenchError> {
    let path = folder.join(name);
    let text = contents(&path)?.unwrap_or_default();
    let mut items = Vec::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        match serde_json::from_str(line) {
            Ok(item) => items.push(item),
            Err(_) if !line.ends_with('\n') => {
                let place = path.display();
                notes.push(format!("{place} ends in the middle of line {number}: it is dropped"));
            }
            Err(error) => return Err(damaged(&path, number, &error.to_string())),
        }
    }
    Ok(items)
}

/// The text of a file, `None` if it does not exist. Bytes that are no text, as a torn end may
/// have, are replaced.
fn contents(path: &Path) -> Result<Option<String>, BenchError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BenchError::Input { path: path.to_owned(), source }),
    }
}

fn damaged(path: &Path, line: usize, reason: &str) -> BenchError {
    BenchError::Damaged { path: path.to_owned(), line, reason: reason.to_owned() }
}
