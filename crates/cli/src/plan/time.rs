//! How fast it would be: the load test's report before there is a server.

use std::fs;
use std::path::PathBuf;

use ::engine::budget::Budget;
use ::engine::{EngineConfig, SchedulingPolicy, Speculation};
use anyhow::{Context, Result, bail, ensure};
use bench::{Language, LengthLaws, Loads, Preset, USERS_MAX};
use clap::Args;
use plan::cost::StepCost;
use plan::device_model::DeviceModel;
use plan::dtype::KvDtype;
use plan::hardware::Hardware;
use plan::ideal::Ideal;
use plan::prediction::Prediction;
use plan::preset::SEED;
use plan::shape::Shape;
use plan::simulate::{LevelRun, ModelledServer};
use workload::load::{Arrivals, LevelPlan, Load};

use super::engine::{Origin, SEED_DEVICE};
use super::findings::Findings;
use super::model::Model;
use super::recorded::Recorded;
use crate::load::LoadArgs;
use crate::prompts::{LENGTHS, PromptArgs};

/// What is asked of the modelled server, as `bench` asks a real one.
#[derive(Args)]
#[command(next_help_heading = "Time: a load test without a server")]
pub(super) struct TimeOptions {
    /// What a step costs: a file that `millrace plan calibrate --out` wrote [default: the seed
    /// report's device and program, carried over to --device and the model by their data].
    #[arg(long, value_name = "FILE")]
    device_model: Option<PathBuf>,

    /// How the server is loaded.
    #[command(flatten)]
    load: LoadArgs,

    /// What is asked.
    #[command(flatten)]
    prompts: PromptArgs,

    /// Decides the random times: the same seed gives the same ones.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,

    /// Language of the predicted report: en or zh.
    #[arg(long, default_value = "en", value_name = "LANGUAGE")]
    language: Language,

    /// Folder for report.md, report.html, summary.json and requests.jsonl of the predicted run.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Requests of an open loop in a search, unless said otherwise.
const SEARCH_REQUESTS: u32 = 1000;
/// Most requests that wait in a server without a limit of its own.
const QUEUE: u32 = 1_000_000;

impl TimeOptions {
    /// Whether anything of it was given.
    pub(super) fn is_given(&self) -> bool {
        let asked = self.load.is_given() || self.prompts.is_given();
        asked || self.out.is_some() || self.device_model.is_some()
    }

    /// The requests, if they were recorded: with times for `--trace`, else without.
    pub(super) fn recorded(&self, model: &Model) -> Result<Option<Recorded>> {
        let file = match self.prompts.dataset()? {
            None => self.load.trace()?,
            dataset => dataset,
        };
        file.map(|file| Recorded::new(file, model)).transpose()
    }

    /// The server that is planned for, with the blocks of `budget`.
    pub(super) fn server(&self, findings: &Findings, budget: &Budget) -> Result<ModelledServer> {
        Ok(ModelledServer { engine: engine(findings, budget), cost: self.cost(findings)? })
    }

    /// The predicted report; also written, if that was asked for.
    pub(super) fn report(
        &self,
        server: ModelledServer,
        basics: &[String],
        asked: &Asked<'_>,
    ) -> Result<String> {
        self.load.check_requests()?;
        let recording = asked.recorded.map(|recorded| recorded.recording(self.seed));
        let next = |runs: &[LevelRun]| {
            let before: Vec<_> = match asked.loads {
                Loads::Doubling { .. } => runs.iter().map(LevelRun::summary).collect(),
                // How they went decides nothing.
                Loads::Closed { .. } | Loads::Open { .. } => {
                    return asked.listed(self.seed).into_iter().nth(runs.len());
                }
            };
            asked.loads.next(&before, self.seed).ok().map(|load| asked.level(load))
        };
        let runs = server.run_each(self.seed, recording.as_ref(), next)?;
        let prediction = Prediction::of(server, self.seed, &runs);
        let report = prediction.report(basics, self.language);
        if let Some(folder) = &self.out {
            prediction
                .write(folder, basics, self.language, &runs)
                .with_context(|| format!("cannot write to {}", folder.display()))?;
        }
        Ok(report + "\n")
    }

    /// What is asked of the server.
    pub(super) fn asked<'a>(
        &self,
        preset: bool,
        recorded: Option<&'a Recorded>,
    ) -> Result<Asked<'a>> {
        let usual = if preset { Preset::SEED.lengths } else { LENGTHS };
        let lengths = self.prompts.laws(recorded.is_none().then_some(usual), true);
        let loads = self.load.loads(recorded.map(|recorded| &recorded.file), USERS_MAX)?;
        loads.check(self.seed)?;
        ensure!(
            lengths.turns == 1 || !matches!(loads, Loads::Open { .. }),
            "--turns is {}: conversations need users who wait for their answers: give --levels",
            lengths.turns
        );
        Ok(Asked { loads, lengths, recorded })
    }

    /// A level of so many users.
    pub(super) fn closed(&self, users: u32) -> Load {
        self.load.closed(users)
    }

    /// A level of so many requests per second at random times.
    pub(super) fn open(&self, rate: f64) -> Load {
        let requests = self.load.requests().unwrap_or(SEARCH_REQUESTS);
        Load::Open { arrivals: Arrivals::Poisson { rate }, requests }
    }

    /// What decides that which is left to chance.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// What a step costs there.
    fn cost(&self, findings: &Findings) -> Result<StepCost> {
        if let Some(path) = &self.device_model {
            let path = path.display();
            let text = fs::read_to_string(path.to_string())
                .with_context(|| format!("--device-model: cannot read {path}"))?;
            let model = DeviceModel::from_json(&text);
            return Ok(model.with_context(|| format!("--device-model {path}"))?.cost);
        }
        ensure!(
            matches!(findings.engine.origin, Origin::Estimate(..)),
            "what a step costs here is not known: run `millrace bench --out DIR`, then `millrace \
             plan calibrate DIR --out FILE`, then give --device-model FILE"
        );
        let token_bytes = findings.engine.demand.token_bytes();
        let hardware = findings.device.hardware.as_ref();
        let to = hardware.and_then(|to| Ideal::new(&findings.shape, to, token_bytes));
        let Some(to) = to else {
            bail!("how fast {} multiplies is not known; give --device-model", findings.device.name)
        };
        let shape = Shape::seed();
        let from = Ideal::new(&shape, &Hardware::named(SEED_DEVICE)?, shape.kv_bytes(KvDtype::F16));
        Ok(SEED.cost.carried_over(&from.context("the seed's device has no rates")?, &to))
    }
}

/// The load, and what requests are like.
pub(super) struct Asked<'a> {
    /// The levels.
    loads: Loads,
    /// How long requests are.
    lengths: LengthLaws,
    /// The requests, if they were recorded.
    pub(super) recorded: Option<&'a Recorded>,
}

impl Asked<'_> {
    /// The levels that are known beforehand.
    pub(super) fn listed(&self, seed: u64) -> Vec<LevelPlan> {
        self.loads.listed(seed).into_iter().map(|load| self.level(load)).collect()
    }

    /// A level with this `load`.
    pub(super) fn level(&self, load: Load) -> LevelPlan {
        LevelPlan { load, lengths: self.lengths.clone() }
    }
}

/// The sizes of the engine that is planned for, with the blocks of `budget`.
pub(super) fn engine(findings: &Findings, budget: &Budget) -> EngineConfig {
    let max_num_seqs = findings.engine.max_num_seqs;
    let (max_num_batched_tokens, max_num_queued_reqs) = match &findings.engine.origin {
        Origin::Serve(serve) => (serve.sizes.step_tokens_max as u32, serve.requests - max_num_seqs),
        Origin::Estimate(_, sizes) => (sizes.max_num_batched_tokens, QUEUE),
    };
    EngineConfig {
        block_size: budget.demand.block_size,
        block_count: budget.block_count,
        kv_groups: budget.demand.kv_groups,
        max_model_len: budget.demand.max_model_len,
        max_num_seqs,
        max_num_batched_tokens,
        max_num_queued_reqs,
        prefix_cache: true,
        scheduling_policy: SchedulingPolicy::Fcfs,
        speculation: Speculation::OFF,
    }
}

/// The first lines of the report: those of a real server's, and that there is none.
pub(super) fn basics(findings: &Findings, budget: &Budget) -> Vec<String> {
    let memory = match budget.memory.kv_cache_bytes {
        Some(bytes) => format!("kv_cache_memory_bytes = {bytes}"),
        None => format!("gpu_memory_utilization = {}", budget.memory.utilization),
    };
    vec![
        format!("{} (modelled)", findings.device.name),
        memory,
        budget.log_line(findings.device.kind.word()),
        format!("max_num_seqs = {}", findings.engine.max_num_seqs),
    ]
}
