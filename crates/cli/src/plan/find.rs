//! The most users or requests, or the least memory, with which what is expected still holds.

use std::str::FromStr;

use ::engine::budget::{Budget, Memory};
use anyhow::{Result, ensure};
use bench::Assertion;
use clap::Args;
use plan::search::last_that_holds;
use plan::simulate::{LevelRun, ModelledServer, Sweep};
use workload::load::LevelPlan;
use workload::summary::LevelSummary;

use super::findings::Findings;
use super::time::{self, Asked, TimeOptions};

/// What is searched for, and what must hold.
#[derive(Args)]
#[command(next_help_heading = "Search")]
pub(super) struct FindOptions {
    /// Search for what meets every --slo: max-users, max-rate (requests per second), or
    /// min-utilization (the least share of memory at --levels or --rate).
    #[arg(long, value_name = "GOAL", requires = "slo")]
    pub(super) find: Option<Goal>,

    /// What must hold, as in `bench --assert`: p95_ttft<500ms. May be given several times.
    #[arg(long, value_name = "CONDITION", requires = "find")]
    pub(super) slo: Vec<Assertion>,
}

/// What is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The most users.
    MaxUsers,
    /// The most requests per second.
    MaxRate,
    /// The least share of memory.
    MinUtilization,
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Goal, String> {
        match text {
            "max-users" => Ok(Goal::MaxUsers),
            "max-rate" => Ok(Goal::MaxRate),
            "min-utilization" => Ok(Goal::MinUtilization),
            _ => Err(format!("`{text}` is not max-users, max-rate or min-utilization")),
        }
    }
}

/// Most users that are tried.
const USERS_MAX: u32 = 16_384;
/// Rates are tried in hundredths of what the server gives when every place is taken, from a tenth
/// of it to half as much again: beyond, no queue is stable.
const RATE_HUNDREDTHS: std::ops::RangeInclusive<u32> = 10..=150;
/// Shares of memory are tried in hundredths.
const SHARES: u32 = 100;

/// A search on one plan.
pub(super) struct Search<'a> {
    /// The server; its blocks are those of the utilisation asked for.
    pub(super) server: ModelledServer,
    /// The plan of its memory.
    pub(super) findings: &'a Findings,
    /// What is asked at the levels given, and how long requests are.
    pub(super) asked: Asked<'a>,
    /// Its options.
    pub(super) options: &'a TimeOptions,
    /// What must hold.
    pub(super) slo: &'a [Assertion],
}

impl Search<'_> {
    /// The trials and the answer, as Markdown.
    pub(super) fn text(&self, goal: Goal) -> Result<String> {
        let mut trials = Vec::new();
        let answer = match goal {
            Goal::MaxUsers => self.max_users(&mut trials)?,
            Goal::MaxRate => self.max_rate(&mut trials)?,
            Goal::MinUtilization => self.min_utilization(&mut trials)?,
        };
        let slo = self.slo.iter().map(|slo| slo.text()).collect::<Vec<_>>().join(", ");
        let answer = answer.unwrap_or_else(|| "Nothing that was tried".to_owned());
        Ok(format!(
            "## Search\n\n| tried | outcome |\n|---|---|\n{}\n**{answer}** meets {slo}.\n",
            trials.concat()
        ))
    }

    fn max_users(&self, trials: &mut Vec<String>) -> Result<Option<String>> {
        let found = last_that_holds(USERS_MAX, |rung| {
            let plan = self.asked.level(self.options.closed(rung + 1));
            self.holds(&self.server, vec![plan], format!("users: {}", rung + 1), trials)
        })?;
        Ok(found.map(|rung| format!("Up to {} users", rung + 1)))
    }

    fn max_rate(&self, trials: &mut Vec<String>) -> Result<Option<String>> {
        let full = self.options.closed(self.server.engine.max_num_seqs);
        let full = self.asked.level(full);
        let levels = self.run(&self.server, vec![full])?;
        let level = levels.first().expect("one level was asked for");
        let time_s = level.total_time_s.unwrap_or(f64::INFINITY);
        let capacity = level.counts.ok as f64 / time_s;
        let least = *RATE_HUNDREDTHS.start();
        let rate = |rung: u32| capacity * f64::from(least + rung) / 100.0;
        let rungs = RATE_HUNDREDTHS.end() - least + 1;
        let found = last_that_holds(rungs, |rung| {
            let plan = self.asked.level(self.options.open(rate(rung)));
            self.holds(&self.server, vec![plan], format!("{:.3} requests/s", rate(rung)), trials)
        })?;
        Ok(found.map(|rung| format!("Up to {:.3} requests/s", rate(rung))))
    }

    fn min_utilization(&self, trials: &mut Vec<String>) -> Result<Option<String>> {
        let share = |rung: u32| f64::from(SHARES - rung) / f64::from(SHARES);
        let levels = self.asked.listed(self.options.seed());
        ensure!(!levels.is_empty(), "--find min-utilization needs --levels as numbers, not auto");
        let found = last_that_holds(SHARES, |rung| {
            let utilization = share(rung);
            let memory =
                Memory { utilization, kv_cache_bytes: None, ..self.findings.engine.memory };
            let tried = format!("a utilisation of {utilization:.2}");
            match Budget::new(self.findings.engine.demand, memory) {
                Err(error) => {
                    trials.push(format!("| {tried} | {error} |\n"));
                    Ok(false)
                }
                Ok(budget) => {
                    let engine = time::engine(self.findings, &budget);
                    let server = ModelledServer { engine, ..self.server };
                    self.holds(&server, levels.clone(), tried, trials)
                }
            }
        })?;
        Ok(found.map(|rung| format!("From a utilisation of {:.2} on", share(rung))))
    }

    fn run(&self, server: &ModelledServer, levels: Vec<LevelPlan>) -> Result<Vec<LevelSummary>> {
        let seed = self.options.seed();
        let recording = self.asked.recorded.map(|recorded| recorded.recording(seed));
        let runs = server.run(&Sweep { levels, seed, recording: recording.as_ref() })?;
        Ok(runs.iter().map(LevelRun::summary).collect())
    }

    /// Whether every condition holds at every level, and no request failed; keeps a row of it.
    fn holds(
        &self,
        server: &ModelledServer,
        levels: Vec<LevelPlan>,
        tried: String,
        trials: &mut Vec<String>,
    ) -> Result<bool> {
        let levels = self.run(server, levels)?;
        let results = self.slo.iter().map(|slo| slo.check(&levels));
        let results: Vec<_> = results.collect();
        let failed: usize = levels.iter().map(|level| level.counts.failed).sum();
        let mut words: Vec<String> = results.iter().map(ToString::to_string).collect();
        if 0 < failed {
            words.push(format!("{failed} requests failed"));
        }
        trials.push(format!("| {tried} | {} |\n", words.join("; ")));
        Ok(failed == 0 && results.iter().all(|result| result.passed))
    }
}
