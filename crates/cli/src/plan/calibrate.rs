//! `millrace plan calibrate`.

use std::fs;
use std::path::{Path, PathBuf};

use ::engine::{EngineConfig, KvGroups, SchedulingPolicy, Speculation};
use anyhow::{Context, Result, bail};
use bench::{Lengths, Preset};
use clap::Args;
use indicatif::ProgressBar;
use plan::calibrate::{Fit, Held, Target, fit, predict};
use plan::cost::StepCost;
use plan::device_model::{DeviceModel, check_parameter};
use plan::figures::Figures;
use plan::observed::{Observation, Observed};
use plan::preset::SEED;
use workload::load::LevelPlan;

/// Options of `millrace plan calibrate`.
#[derive(Args)]
pub(super) struct CalibrateArgs {
    /// Load tests to fit to: folders that `millrace bench --out` wrote, or reports in its form.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,

    /// Fit to the levels of these numbers of users only, and predict the others.
    #[arg(long, value_delimiter = ',', value_name = "N,N,…")]
    fit_levels: Vec<u32>,

    /// Another load test, not fitted to but predicted. May be given several times; what several runs
    /// measured of the same level is averaged, and the table says how far they are apart.
    #[arg(long, value_name = "RUN")]
    predict: Vec<PathBuf>,

    /// A parameter that is known from elsewhere, in microseconds, like kv_token_us=0.12 from a data
    /// sheet's bandwidth. May be given several times.
    #[arg(long, value_name = "NAME=US", value_parser = held)]
    hold: Vec<(usize, f64)>,

    /// File for the parameters, which `millrace plan --device-model` reads.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// The server and the lengths of a known report: seed.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,

    /// Tokens of each prompt, which a report does not say.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    prompt_tokens: Option<u32>,

    /// Tokens of each answer that were asked for, which a report does not say.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    output_tokens: Option<u32>,

    /// The server's cap on sequences, if the run does not say [default: 50].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    max_num_seqs: Option<u32>,

    /// Its step budget, if the run does not say [default: 256].
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_num_batched_tokens: Option<u32>,
}

/// The engine of `serve` by default, with more memory than a run needs, for what a run does not say.
const ENGINE: EngineConfig = EngineConfig {
    block_size: 32,
    block_count: 1 << 16,
    kv_groups: KvGroups::ONE,
    max_model_len: 1 << 20,
    max_num_seqs: 50,
    max_num_batched_tokens: 256,
    max_num_queued_reqs: 1 << 16,
    prefix_cache: true,
    scheduling_policy: SchedulingPolicy::Fcfs,
    speculation: Speculation::OFF,
};

/// Place and value of `NAME=US`.
fn held(text: &str) -> Result<(usize, f64), String> {
    let names = StepCost::NAMES.join(", ");
    let form = || format!("`{text}` is not NAME=US with a name of {names}");
    let (name, value) = text.split_once('=').ok_or_else(form)?;
    let place = StepCost::NAMES.iter().position(|known| *known == name).ok_or_else(form)?;
    let value: f64 = value.parse().map_err(|_| form())?;
    check_parameter(name, value).map_err(|error| error.to_string())?;
    Ok((place, value))
}

/// A run, and which of its levels are fitted to.
struct Run {
    path: PathBuf,
    engine: EngineConfig,
    seed: u64,
    fitted: Vec<Observation>,
    predicted: Vec<Observation>,
}

impl Run {
    fn target<'a>(&self, levels: &'a [Observation]) -> Target<'a> {
        Target { engine: self.engine, seed: self.seed, levels }
    }
}

/// Fits, writes the parameters and says what came of it.
pub(super) fn text(args: &CalibrateArgs) -> Result<String> {
    let fit_to = |users: Option<u32>| {
        args.fit_levels.is_empty() || users.is_some_and(|users| args.fit_levels.contains(&users))
    };
    let runs: Vec<Run> =
        args.runs.iter().map(|path| args.read(path, fit_to)).collect::<Result<_>>()?;
    let others = args.predict.iter().map(|path| args.read(path, |_| false));
    let others: Vec<Run> = others.collect::<Result<_>>()?;
    let mut known = Held::default();
    args.hold.iter().for_each(|&(place, value)| known[place] = Some(value));
    let targets: Vec<_> = runs.iter().map(|run| run.target(&run.fitted)).collect();
    let progress = ProgressBar::new_spinner();
    let found = fit(&targets, &known, |simulations| {
        progress.set_message(format!("{simulations} simulations"));
        progress.tick();
    })?;
    progress.finish_and_clear();
    if let Some(path) = &args.out {
        let paths: Vec<_> = args.runs.iter().map(|path| path.display().to_string()).collect();
        let source = format!("millrace plan calibrate {}", paths.join(" "));
        let model = DeviceModel { source, cost: found.cost };
        fs::write(path, model.to_json())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut text = parameters(&found, &known);
    text += TABLE_HEAD;
    for (role, levels_of) in ROLES {
        let mut groups = Vec::new();
        for run in runs.iter().chain(&others) {
            gather(run, levels_of(run), found.cost, &mut groups)?;
        }
        text.extend(groups.iter().map(|group| group.row(role)));
    }
    Ok(text)
}

impl CalibrateArgs {
    fn read(&self, path: &Path, fit_to: impl Fn(Option<u32>) -> bool) -> Result<Run> {
        let preset = match self.preset.as_deref() {
            None => None,
            Some("seed") => Some(Preset::SEED),
            Some(other) => bail!("unknown --preset \"{other}\"; known: seed"),
        };
        let kind = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        let observed = if kind.is_dir() {
            Observed::of_folder(path)?
        } else {
            Observed::of_report(path, self.lengths(preset)?)?
        };
        let otherwise = preset.map_or(ENGINE, |_| SEED.engine);
        let otherwise = EngineConfig {
            max_num_seqs: self.max_num_seqs.unwrap_or(otherwise.max_num_seqs),
            max_num_batched_tokens: self
                .max_num_batched_tokens
                .unwrap_or(otherwise.max_num_batched_tokens),
            ..otherwise
        };
        let is_fitted = |level: &Observation| fit_to(level.plan.users());
        let (fitted, predicted) = observed.levels.into_iter().partition(is_fitted);
        Ok(Run {
            path: path.to_owned(),
            engine: observed.server.engine(otherwise),
            seed: observed.seed,
            fitted,
            predicted,
        })
    }

    fn lengths(&self, preset: Option<Preset>) -> Result<Lengths> {
        let known = preset.map(|preset| preset.lengths);
        let prompt_tokens = self.prompt_tokens.or(known.map(|known| known.prompt_tokens));
        let output_tokens = self.output_tokens.or(known.map(|known| known.output_tokens));
        let lengths = prompt_tokens
            .zip(output_tokens)
            .map(|(prompt_tokens, output_tokens)| Lengths { prompt_tokens, output_tokens });
        lengths.context(
            "a report does not say what was asked: give --prompt-tokens and --output-tokens",
        )
    }
}

fn parameters(found: &Fit, known: &Held) -> String {
    let mut text = "# Device model\n\n| parameter | microseconds | |\n|---|---:|---|\n".to_owned();
    for ((name, value), held) in StepCost::NAMES.iter().zip(found.cost.values()).zip(known) {
        let how = if held.is_some() { "given" } else { "fitted" };
        text += &format!("| {name} | {value:.4} | {how} |\n");
    }
    let Fit { simulations, misfit, .. } = found;
    text + &format!("\nFound in {simulations} simulations; misfit {misfit:.2}.\n\n")
}

const TABLE_HEAD: &str = "\
| level | | run | throughput, tokens/s | mean latency, ms | P95 latency, ms | mean TTFT, ms |
|---|---|---|---|---|---|---|
";

type LevelsOf = fn(&Run) -> &[Observation];
const ROLES: [(&str, LevelsOf); 2] =
    [("fitted", |run| &run.fitted), ("predicted", |run| &run.predicted)];

/// What is compared.
const CELLS: [fn(&Figures) -> Option<f64>; 4] = [
    |figures| figures.tokens_per_second,
    |figures| figures.latency_ms.map(|spread| spread.mean),
    |figures| figures.latency_ms.map(|spread| spread.p95),
    |figures| figures.ttft_ms.map(|spread| spread.mean),
];

/// The same level of the same server, measured once or several times.
struct Group {
    plan: LevelPlan,
    engine: EngineConfig,
    name: String,
    runs: Vec<String>,
    /// Measured and predicted figures, one pair for each run.
    figures: Vec<(Figures, Figures)>,
}

/// Adds `levels` of a run to the groups that they belong to.
fn gather(
    run: &Run,
    levels: &[Observation],
    cost: StepCost,
    groups: &mut Vec<Group>,
) -> Result<()> {
    let predicted = predict(&run.target(levels), cost)?;
    for (level, predicted) in levels.iter().zip(predicted) {
        let (plan, engine) = (&level.plan, run.engine);
        let known = groups.iter().position(|g| g.plan == *plan && g.engine == engine);
        let place = known.unwrap_or_else(|| {
            let users = plan.users().map(|users| format!("users: {users}"));
            let name = users.unwrap_or_else(|| format!("number {}", level.number));
            let (plan, runs, figures) = (plan.clone(), Vec::new(), Vec::new());
            groups.push(Group { plan, engine, name, runs, figures });
            groups.len() - 1
        });
        groups[place].runs.push(run.path.display().to_string());
        groups[place].figures.push((level.figures, predicted));
    }
    Ok(())
}

impl Group {
    /// Measured, predicted, and the difference; of several runs their means, and how far apart they
    /// measured.
    fn row(&self, role: &str) -> String {
        let cells = CELLS.map(|figure| self.cell(figure));
        let runs = match &self.runs[..] {
            [run] => run.clone(),
            runs => format!("mean of {}", runs.len()),
        };
        format!("| {} | {role} | {runs} | {} |\n", self.name, cells.join(" | "))
    }

    fn cell(&self, figure: fn(&Figures) -> Option<f64>) -> String {
        let pair = |(measured, predicted): &(Figures, Figures)| {
            Some((figure(measured)?, figure(predicted)?))
        };
        let pairs: Vec<(f64, f64)> = self.figures.iter().filter_map(pair).collect();
        let count = pairs.len() as f64;
        let measured = pairs.iter().map(|pair| pair.0).sum::<f64>() / count;
        let predicted = pairs.iter().map(|pair| pair.1).sum::<f64>() / count;
        if pairs.is_empty() {
            return "-".to_owned();
        }
        let off = 100.0 * (predicted / measured - 1.0);
        let values = || pairs.iter().map(|pair| pair.0);
        let least = values().fold(f64::INFINITY, f64::min);
        let most = values().fold(f64::NEG_INFINITY, f64::max);
        let apart = match pairs.len() {
            1 => String::new(),
            _ => format!(" ({:.0} % apart)", 100.0 * (most - least) / measured),
        };
        format!("{measured:.1}{apart} → {predicted:.1} ({off:+.1} %)")
    }
}
