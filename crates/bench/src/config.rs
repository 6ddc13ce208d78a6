//! What is to be tested, and how.

use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use workload::language::Language;
use workload::lengths::{LengthLaws, Sampling};
use workload::load::{Arrivals, LevelPlan, Load};
use workload::slo::Slo;

use crate::assertion::Assertion;
use crate::dataset::DatasetFile;
use crate::error::BenchError;
use crate::loads::{Loads, setting};
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

/// Most turns of a conversation: each writes all before it again.
const TURNS_MAX: u32 = 1000;

/// Most shared prefixes: each is written before it is used.
const PREFIXES_MAX: u32 = 10_000;

impl BenchConfig {
    /// Refuses what cannot be run.
    pub(crate) fn check(&self) -> Result<(), BenchError> {
        self.loads.check(self.seed)?;
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
        let names: Vec<String> = self.loads.listed(self.seed).iter().map(level_name).collect();
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
