//! Where a run begins: anew, or with what is left of an earlier one.

use std::path::Path;

use crate::config::BenchConfig;
use crate::error::BenchError;
use crate::journal::{self, Measured, Recorded};
use crate::setup::{Difference, Setup};
use crate::table::level_name;

/// Where a run begins.
#[derive(Debug)]
pub(crate) struct Start {
    /// The levels that it has already.
    pub(crate) kept: Vec<Measured>,
    /// How often it was continued, this time included.
    pub(crate) resumes: u32,
    /// What its user should know, a line each.
    pub(crate) notes: Vec<String>,
}

/// The run that `config` asks to continue, if there is one.
///
/// # Errors
/// If there is one, and it cannot be read.
pub(crate) fn earlier(config: &BenchConfig) -> Result<Option<Recorded>, BenchError> {
    match &config.out {
        Some(folder) if config.resume => journal::read(folder),
        _ => Ok(None),
    }
}

/// The seed of the run in `folder`, if there is one: to continue it, the same is needed.
///
/// # Errors
/// If there is a run, and it cannot be read.
pub fn recorded_seed(folder: &Path) -> Result<Option<u64>, BenchError> {
    Ok(journal::read(folder)?.map(|recorded| recorded.setup.seed))
}

impl Start {
    /// The run of `config`, which is `setup`, after what `earlier` has of it.
    ///
    /// # Errors
    /// If `earlier` is a run of something else.
    pub(crate) fn of(
        config: &BenchConfig,
        setup: &Setup,
        earlier: Option<Recorded>,
    ) -> Result<Start, BenchError> {
        let folder = config.out.clone().unwrap_or_default();
        let place = folder.display();
        let Some(earlier) = earlier else {
            let note = format!("there is no run in {place} to continue: all levels are run");
            let notes = Vec::from_iter(config.resume.then_some(note));
            return Ok(Start { kept: Vec::new(), resumes: 0, notes });
        };
        if let Some(Difference { field, a, b }) = earlier.setup.obstacle(setup) {
            return Err(BenchError::OtherSetup { folder, field, recorded: a, asked: b });
        }
        let mut notes = earlier.notes;
        // A level without any success tells nothing; most likely the server was gone.
        let (kept, failed): (Vec<_>, Vec<_>) =
            earlier.levels.into_iter().partition(Measured::has_success);
        if !failed.is_empty() {
            notes.push(format!("run again, since every request failed: {}", names(&failed)));
        }
        notes.push(match kept.is_empty() {
            true => format!("no level of the run in {place} is complete: all are run"),
            false => format!("the run in {place} goes on; complete levels: {}", names(&kept)),
        });
        Ok(Start { kept, resumes: earlier.resumes + 1, notes })
    }
}

fn names(levels: &[Measured]) -> String {
    levels.iter().map(|level| level_name(&level.plan.load)).collect::<Vec<_>>().join(", ")
}
