//! How fast it would be: the load test's report before there is a server.

use std::fs;
use std::path::PathBuf;

use ::engine::budget::Budget;
use ::engine::{EngineConfig, SchedulingPolicy};
use anyhow::{Context, Result, bail, ensure};
use bench::{Language, LengthLaws, Preset};
use clap::Args;
use plan::cost::StepCost;
use plan::device_model::DeviceModel;
use plan::dtype::KvDtype;
use plan::hardware::Hardware;
use plan::ideal::Ideal;
use plan::prediction::Prediction;
use plan::preset::SEED;
use plan::shape::Shape;
use plan::simulate::{ModelledServer, Sweep};
use workload::load::{Arrivals, LevelPlan, Load};

use super::engine::{Origin, SEED_DEVICE};
use super::findings::Findings;
use crate::prompts::{LENGTHS, PromptArgs};

/// What is asked of the modelled server, as `bench` asks a real one.
#[derive(Args)]
#[command(next_help_heading = "Time: a load test without a server")]
pub(super) struct TimeOptions {
    /// What a step costs: a file that `millrace plan calibrate --out` wrote [default: the seed
    /// report's device and program, carried over to --device and the model by their data].
    #[arg(long, value_name = "FILE")]
    device_model: Option<PathBuf>,

    /// Numbers of users, one level after another [default with --preset: 1,4,8,16,32,64].
    #[arg(long, value_delimiter = ',', value_name = "N,N,…", conflicts_with = "rate",
        value_parser = clap::value_parser!(u32).range(1..=16384))]
    levels: Vec<u32>,

    /// Requests per second that do not wait for answers, at random times, one level after another.
    #[arg(long, value_delimiter = ',', value_name = "R,R,…", value_parser = rate)]
    rate: Vec<f64>,

    /// Requests of each level of --rate.
    #[arg(long, default_value_t = 1000, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: u32,

    /// Requests that each user sends, one after another.
    #[arg(long, default_value_t = 5, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests_per_user: u32,

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

/// A rate on the command line.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (1e-6..=1e6).contains(rate));
    rate.ok_or_else(|| format!("{text} is no rate from 0.000001 to 1000000 per second"))
}

/// Levels if nothing is said, as of `bench`.
const LEVELS: [u32; 6] = [1, 4, 8, 16, 32, 64];
/// Most requests that wait in a server without a limit of its own.
const QUEUE: u32 = 1_000_000;

impl TimeOptions {
    /// Whether anything of it was given.
    pub(super) fn is_given(&self) -> bool {
        let loads = !self.levels.is_empty() || !self.rate.is_empty();
        loads || self.prompts.is_given() || self.out.is_some() || self.device_model.is_some()
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
        lengths: &LengthLaws,
    ) -> Result<String> {
        let sweep = Sweep { levels: self.load(lengths), seed: self.seed };
        let runs = server.run(&sweep)?;
        let prediction = Prediction::of(server, self.seed, &runs);
        let report = prediction.report(basics, self.language);
        if let Some(folder) = &self.out {
            prediction
                .write(folder, basics, self.language, &runs)
                .with_context(|| format!("cannot write to {}", folder.display()))?;
        }
        Ok(report + "\n")
    }

    /// How long requests are.
    pub(super) fn lengths(&self, preset: bool) -> LengthLaws {
        self.prompts.laws(Some(if preset { Preset::SEED.lengths } else { LENGTHS }), true)
    }

    /// The levels that are asked for.
    pub(super) fn load(&self, lengths: &LengthLaws) -> Vec<LevelPlan> {
        if !self.rate.is_empty() {
            return self.rate.iter().map(|&rate| self.open(rate, lengths)).collect();
        }
        let users = if self.levels.is_empty() { &LEVELS[..] } else { &self.levels };
        users.iter().map(|&users| self.closed(users, lengths)).collect()
    }

    /// A level of so many users.
    pub(super) fn closed(&self, users: u32, lengths: &LengthLaws) -> LevelPlan {
        LevelPlan { load: Load::closed(users, self.requests_per_user), lengths: lengths.clone() }
    }

    /// A level of so many requests per second.
    pub(super) fn open(&self, rate: f64, lengths: &LengthLaws) -> LevelPlan {
        let load = Load::Open { arrivals: Arrivals::Poisson { rate }, requests: self.requests };
        LevelPlan { load, lengths: lengths.clone() }
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
        let demand = &findings.engine.demand;
        let token_bytes = demand.block_bytes / u64::from(demand.block_size);
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
        max_model_len: budget.demand.max_model_len,
        max_num_seqs,
        max_num_batched_tokens,
        max_num_queued_reqs,
        prefix_cache: true,
        scheduling_policy: SchedulingPolicy::Fcfs,
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
