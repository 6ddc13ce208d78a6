//! What is to be tested, and how.

use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use workload::distribution::Distribution;
use workload::language::Language;
use workload::lengths::{LengthLaws, Sampling};
use workload::load::{Arrivals, LevelPlan, Load};
use workload::saturation::{Saturation, next_users};
use workload::slo::Slo;
use workload::summary::LevelSummary;

use crate::assertion::Assertion;
use crate::dataset::DatasetFile;
use crate::error::BenchError;
use crate::table::level_name;

/// What is to be tested, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchConfig {
    /// Address of the server, like `http://127.0.0.1:8000`; a path before `/v1` is kept.
    pub url: String,
    /// How the server is loaded, one level after another.
    pub loads: Loads,
    /// Lengths of prompts and answers.
    pub lengths: LengthLaws,
    /// Where prompts come from, if they are not written here. A trace also says when they are due.
    pub dataset: Option<Arc<DatasetFile>>,
    /// What requests look like.
    pub form: RequestForm,
    /// How the server draws tokens.
    pub sampling: Sampling,
    /// Decides prompts, lengths and times: the same seed gives the same ones.
    pub seed: u64,
    /// What is expected of each request, if anything.
    pub slo: Option<Slo>,
    /// The server's process, if it is ours, so that what it takes of this machine can be told.
    pub server_pid: Option<u32>,
    /// Language of the report.
    pub language: Language,
    /// Folder for the results; made if it does not exist.
    pub out: Option<PathBuf>,
    /// Whether to go on with the run in that folder, if there is one.
    pub resume: bool,
    /// What must hold for the run to be a success.
    pub assertions: Vec<Assertion>,
    /// Whether the run may be a success though requests failed.
    pub failures_allowed: bool,
    /// The command that asks for the test, without secrets, for who reads report.html.
    pub command: String,
    /// Key sent as `Authorization: Bearer …`.
    pub api_key: Option<String>,
    /// Whose certificates are believed where the address is `https://`.
    pub trust: Trust,
}

/// Who may vouch for a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that this machine trusts.
    #[default]
    System,
    /// Those in this PEM file and no other.
    Authority(PathBuf),
    /// Nobody needs to.
    Anybody,
}

/// What requests look like, their prompts and lengths aside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestForm {
    /// Where they go.
    pub api: Api,
    /// Fields of the body beside ours, which they replace where the names are the same.
    pub extra_body: serde_json::Map<String, serde_json::Value>,
    /// Header fields beside ours, with every request to the server.
    #[serde(skip)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// What is asked for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// `/v1/completions`, with the prompt as it is.
    #[default]
    Completions,
    /// `/v1/chat/completions`, with the prompt as the one message of a user. The server's template
    /// makes it longer.
    Chat,
}

impl Api {
    /// Its path.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Api::Completions => "/v1/completions",
            Api::Chat => "/v1/chat/completions",
        }
    }
}

/// The levels of load of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub enum Loads {
    /// Users who wait for each answer before they send again.
    Closed {
        /// Numbers of users, one level after another.
        levels: Vec<u32>,
        /// Requests that each user of a level sends.
        requests_per_user: u32,
        /// Seconds from the end of an answer to the user's next request.
        think_time_s: Distribution,
    },
    /// The same, with twice the users at each level, from 1 until more of them bring nothing.
    Doubling {
        /// Most users that are tried.
        users_max: u32,
        /// Requests that each user of a level sends.
        requests_per_user: u32,
        /// Seconds from the end of an answer to the user's next request.
        think_time_s: Distribution,
    },
    /// Requests that are due by a schedule, whether or not earlier ones have been answered.
    Open {
        /// The schedules, one level after another.
        arrivals: Vec<Arrivals>,
        /// Where each level ends.
        extent: Extent,
        /// Most requests that may be on their way; what is due beyond is dropped and counted.
        max_connections: u32,
    },
}

/// Where a level of an open loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// After so many requests.
    Requests(u32),
    /// With the last request that is due within so many seconds.
    Seconds(f64),
}

/// Most users of a level and most connections: an address has about 28,000 ports to give.
pub const USERS_MAX: u32 = 16_384;

/// Most requests of a level: all of them are written before it begins.
const REQUESTS_MAX: u32 = 1_000_000;

/// Most turns of a conversation: each writes all before it again.
const TURNS_MAX: u32 = 1000;

/// Most shared prefixes: each is written before it is used.
const PREFIXES_MAX: u32 = 10_000;

/// Most requests per second: far beyond what one thread can send.
const RATE_MAX: f64 = 1e6;

impl BenchConfig {
    /// Refuses what cannot be run.
    pub(crate) fn check(&self) -> Result<(), BenchError> {
        match &self.loads {
            Loads::Closed { levels, requests_per_user, .. } => {
                check_users(levels, *requests_per_user)?;
            }
            Loads::Doubling { users_max, requests_per_user, .. } => {
                check_users(&[*users_max], *requests_per_user)?;
            }
            Loads::Open { arrivals, extent, max_connections } => {
                check_schedules(arrivals, *extent, *max_connections)?;
            }
        }
        for (number, load) in (1..).zip(self.loads()) {
            self.check_size(number, load)?;
        }
        if let (Some(dataset), Api::Completions) = (&self.dataset, self.form.api)
            && let Some(line) = dataset.first_chat()
        {
            let why = format!("request {line} is a chat; send it with `--endpoint chat`");
            return Err(BenchError::Dataset { file: dataset.name.file.clone().into(), why });
        }
        self.check_turns()?;
        self.check_assertions()
    }

    /// Refuses assertions about levels that will not run, as far as that is known.
    fn check_assertions(&self) -> Result<(), BenchError> {
        let of_goodput = self.assertions.iter().find(|assertion| assertion.needs_slo());
        if let (Some(assertion), None) = (of_goodput, self.slo) {
            let assertion = assertion.text().to_owned();
            return Err(BenchError::AssertedGoodput { assertion });
        }
        if matches!(self.loads, Loads::Doubling { .. }) {
            return Ok(());
        }
        let names: Vec<String> = self.loads().iter().map(level_name).collect();
        match self.assertions.iter().find(|assertion| !assertion.is_about_one_of(&names)) {
            Some(assertion) => Err(BenchError::AssertedLevel {
                assertion: assertion.text().to_owned(),
                levels: names.join(", "),
            }),
            None => Ok(()),
        }
    }

    fn check_turns(&self) -> Result<(), BenchError> {
        let LengthLaws { turns, prefix, .. } = &self.lengths;
        if !(1..=TURNS_MAX).contains(turns) {
            return Err(setting("--turns", turns.to_string(), "it must be from 1 to 1000"));
        }
        if 0 < prefix.tokens && !(1..=PREFIXES_MAX).contains(&prefix.count) {
            let need = "it must be from 1 to 10000";
            return Err(setting("--prefixes", prefix.count.to_string(), need));
        }
        if 1 < *turns && matches!(self.loads, Loads::Open { .. }) {
            let need = "conversations need users who wait for their answers: give --levels";
            return Err(setting("--turns", turns.to_string(), need));
        }
        Ok(())
    }

    fn check_size(&self, number: u32, load: Load) -> Result<(), BenchError> {
        let requests = self.plan(load).requests();
        if (1..=REQUESTS_MAX as usize).contains(&requests) {
            return Ok(());
        }
        let value = format!("{requests} requests for level {number}");
        let need = "a level has at least one request and at most 1000000";
        Err(setting("the load", value, need))
    }

    /// The level after `levels`, or why there is none: `None` at the end of those asked for.
    pub(crate) fn next_load(&self, levels: &[LevelSummary]) -> Result<Load, Option<Saturation>> {
        match &self.loads {
            Loads::Doubling { users_max, requests_per_user, think_time_s } => {
                let users = next_users(levels, *users_max).map_err(Some)?;
                Ok(closed(users, *requests_per_user, think_time_s))
            }
            Loads::Closed { .. } | Loads::Open { .. } => {
                self.loads().into_iter().nth(levels.len()).ok_or(None)
            }
        }
    }

    /// Every level that is known before the run.
    pub(crate) fn loads(&self) -> Vec<Load> {
        match &self.loads {
            Loads::Doubling { .. } => Vec::new(),
            Loads::Closed { levels, requests_per_user, think_time_s } => {
                let load = |users: &u32| closed(*users, *requests_per_user, think_time_s);
                levels.iter().map(load).collect()
            }
            Loads::Open { arrivals, extent, .. } => {
                let load = |(number, arrivals): (u32, &Arrivals)| {
                    let arrivals = *arrivals;
                    let requests = match *extent {
                        Extent::Requests(requests) => requests,
                        Extent::Seconds(time_s) => {
                            arrivals.requests_within(time_s, self.seed, number).unwrap_or(0)
                        }
                    };
                    Load::Open { arrivals, requests }
                };
                (1..).zip(arrivals).map(load).collect()
            }
        }
    }

    /// When each of `requests` requests of a level is due, nanoseconds after its beginning.
    pub(crate) fn schedule_ns(&self, arrivals: Arrivals, requests: u32, level: u32) -> Vec<u64> {
        match (arrivals, &self.dataset) {
            (Arrivals::Trace { speed, .. }, Some(trace)) => trace.schedule_ns(requests, speed),
            _ => arrivals.schedule_ns(requests, self.seed, level).unwrap_or_default(),
        }
    }

    /// The level of this `load`.
    pub(crate) fn plan(&self, load: Load) -> LevelPlan {
        LevelPlan { load, lengths: self.lengths.clone() }
    }
}

fn closed(users: u32, requests_per_user: u32, think_time_s: &Distribution) -> Load {
    Load::Closed { users, requests_per_user, think_time_s: think_time_s.clone() }
}

fn check_users(levels: &[u32], requests_per_user: u32) -> Result<(), BenchError> {
    if requests_per_user == 0 {
        return Err(setting("--requests-per-user", "0".to_owned(), "it must be at least 1"));
    }
    let possible = |users: &u32| (1..=USERS_MAX).contains(users);
    if levels.is_empty() || !levels.iter().all(possible) {
        let need = "name at least one number of users, each from 1 to 16384";
        return Err(setting("--levels", format!("{levels:?}"), need));
    }
    Ok(())
}

fn check_schedules(
    arrivals: &[Arrivals],
    extent: Extent,
    max_connections: u32,
) -> Result<(), BenchError> {
    for arrivals in arrivals {
        let (least, most) = match *arrivals {
            Arrivals::Constant { rate } | Arrivals::Poisson { rate } => (rate, rate),
            Arrivals::Ramp { from, to } if from + to == 0.0 => (-1.0, 0.0),
            Arrivals::Ramp { from, to } => (from.min(to), from.max(to)),
            Arrivals::Trace { speed, .. } => (speed, speed),
        };
        let is_ramp = matches!(arrivals, Arrivals::Ramp { .. });
        if !(0.0..=RATE_MAX).contains(&least) || RATE_MAX < most || (least == 0.0 && !is_ramp) {
            let need = "requests per second are more than 0 and at most 1000000";
            return Err(setting("--rate", format!("{least}"), need));
        }
    }
    if arrivals.is_empty() {
        return Err(setting("--rate", "empty".to_owned(), "name at least one rate"));
    }
    let possible = match extent {
        Extent::Requests(requests) => 0 < requests,
        Extent::Seconds(time_s) => time_s.is_finite() && 0.0 < time_s,
    };
    if !possible {
        let value = format!("{extent:?}");
        return Err(setting("--requests or --duration", value, "it must be more than 0"));
    }
    if !(1..=USERS_MAX).contains(&max_connections) {
        let need = "it must be from 1 to 16384";
        return Err(setting("--max-connections", max_connections.to_string(), need));
    }
    Ok(())
}

fn setting(setting: &'static str, value: String, need: &'static str) -> BenchError {
    BenchError::Setting { setting, value, need }
}
