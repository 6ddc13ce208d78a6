//! What is to be tested, and how.

use std::path::PathBuf;

use workload::language::Language;
use workload::lengths::{Lengths, Sampling};
use workload::load::{LevelPlan, Load};

use crate::assertion::Assertion;
use crate::error::BenchError;
use crate::table::level_name;

/// What is to be tested, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchConfig {
    /// Address of the server, like `http://127.0.0.1:8000`; a path before `/v1` is kept.
    pub url: String,
    /// Numbers of users, one level after another.
    pub levels: Vec<u32>,
    /// Requests that each user of a level sends, one after another.
    pub requests_per_user: u32,
    /// Tokens of each prompt.
    pub prompt_tokens: u32,
    /// Tokens that each answer is asked to have.
    pub output_tokens: u32,
    /// How the server draws tokens.
    pub sampling: Sampling,
    /// Decides the prompts: the same seed gives the same ones.
    pub seed: u64,
    /// Language of the report.
    pub language: Language,
    /// Folder for the results; made if it does not exist.
    pub out: Option<PathBuf>,
    /// What must hold for the run to be a success.
    pub assertions: Vec<Assertion>,
    /// Whether the run may be a success though requests failed.
    pub failures_allowed: bool,
    /// Key sent as `Authorization: Bearer …`.
    pub api_key: Option<String>,
}

/// Most users of a level: each needs a connection, and an address has about 28,000 ports to give.
const USERS_MAX: u32 = 16_384;

impl BenchConfig {
    /// Refuses what cannot be run.
    pub(crate) fn check(&self) -> Result<(), BenchError> {
        let at_least_one = |setting: &'static str, value: u32| match value {
            0 => {
                let need = "it must be at least 1";
                Err(BenchError::Setting { setting, value: "0".to_owned(), need })
            }
            _ => Ok(()),
        };
        at_least_one("--requests-per-user", self.requests_per_user)?;
        at_least_one("--prompt-tokens", self.prompt_tokens)?;
        at_least_one("--output-tokens", self.output_tokens)?;
        let possible = |users: &u32| (1..=USERS_MAX).contains(users);
        if self.levels.is_empty() || !self.levels.iter().all(possible) {
            return Err(BenchError::Setting {
                setting: "--levels",
                value: format!("{:?}", self.levels),
                need: "name at least one number of users, each from 1 to 16384",
            });
        }
        self.check_assertions()
    }

    /// Refuses assertions about levels that will not run.
    fn check_assertions(&self) -> Result<(), BenchError> {
        let name = |users: &u32| level_name(&self.plan(*users).load);
        let names: Vec<String> = self.levels.iter().map(name).collect();
        match self.assertions.iter().find(|assertion| !assertion.is_about_one_of(&names)) {
            Some(assertion) => Err(BenchError::AssertedLevel {
                assertion: assertion.text().to_owned(),
                levels: names.join(", "),
            }),
            None => Ok(()),
        }
    }

    /// The level of so many `users`.
    pub(crate) fn plan(&self, users: u32) -> LevelPlan {
        let (prompt_tokens, output_tokens) = (self.prompt_tokens, self.output_tokens);
        let lengths = Lengths { prompt_tokens, output_tokens }.into();
        let load = Load::closed(users, self.requests_per_user);
        LevelPlan { load, lengths }
    }
}
