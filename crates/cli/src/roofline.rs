//! `millrace roofline`.

mod ceiling;
mod machine_peaks;
mod steps;
mod tables;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use kernels::isa::Isa;
use kernels::probe::Measured;
use model::file::ModelFile;
use model::weights::Weights;
use plan::hardware::{Flops, Hardware, HardwareKind};

use crate::machine;
use crate::source::Source;
use ceiling::{Demand, Step};
use machine_peaks::Peaks;
use steps::{Steps, StepsSizes};

/// Numbers of sequences that decode together, ascending.
const DECODES: [usize; 4] = [1, 4, 16, 64];
/// Length of the prompt that is computed in one step, where the model's context has room for it.
const PROMPT_TOKENS: usize = 512;

/// Options of `millrace roofline`.
#[derive(Args)]
pub struct RooflineArgs {
    /// The model: a name of the catalogue (smollm2-135m), hf:ORG/NAME[:FILE.gguf] of the Hugging Face hub, a
    /// .gguf file, a folder of safetensors, or dummy:smollm2-135m (random weights, no download).
    #[arg(long, default_value = "smollm2-135m", value_name = "MODEL")]
    model: String,

    /// Tokens that each decoding sequence has already. There are up to 64 sequences, so more tokens
    /// take more memory, and longer.
    #[arg(
        long,
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(1..),
        value_name = "TOKENS"
    )]
    context: u32,

    /// Threads that compute [default: all cores].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "N")]
    threads: Option<u16>,

    /// Instructions to use: avx512, avx2 or scalar [default: the best this machine has].
    #[arg(long, value_name = "TIER")]
    isa: Option<Isa>,

    /// Also write what the machine can do to this file, for `millrace plan --device FILE`.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the report is made of.
struct Findings {
    /// Processor, cores and memory.
    machine: String,
    model: String,
    threads: usize,
    isa: Isa,
    peaks: Peaks,
    demand: Demand,
    steps: Vec<(Step, Option<Measured>)>,
}

/// Measures and prints the report.
pub fn run(args: &RooflineArgs) -> Result<ExitCode> {
    let isa = args.isa.unwrap_or_else(Isa::detect);
    ensure!(isa.available(), "--isa {isa}: this machine lacks these instructions");
    let mut file = Source::parse(&args.model)?.open()?;
    Weights::check(&file.config)?;
    let sizes = sizes(args, &file)?;
    let memory = machine::memory()?;
    let threads = args.threads.map_or_else(machine::cores, usize::from);
    let needed = sizes.bytes(&file, threads).max(machine_peaks::buffer_bytes(threads) as u64);
    ensure!(
        needed <= memory.available_bytes,
        "{} MiB of memory are needed, {} MiB are available: give a smaller --context or model",
        needed >> 20,
        memory.available_bytes >> 20
    );
    // Before anything is measured: a file that cannot be written is said at once.
    let json = args.json.as_ref().map(|path| create(path)).transpose()?;
    say("measuring what the machine can do");
    let peaks = machine_peaks::measure(threads, isa);
    say("loading the model");
    let demand = Demand::of(&file);
    let mut steps = Steps::load(&mut file, (threads, isa), sizes)?;
    say("making the context of the sequences");
    steps.fill(DECODES);
    let steps = each_step(&sizes)
        .map(|step| {
            say(&format!("running {step}"));
            (step, steps.measure(step))
        })
        .collect();
    let machine = machine::description(memory);
    if let (Some(mut file), Some(path)) = (json, &args.json) {
        let hardware = hardware(&machine, memory.total_bytes, (threads, isa), peaks.rates);
        file.write_all(hardware.to_json().as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let findings =
        Findings { machine, model: args.model.clone(), threads, isa, peaks, demand, steps };
    let report = tables::report(&findings);
    write!(std::io::stdout(), "{report}").context("cannot write the report")?;
    Ok(ExitCode::SUCCESS)
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// The machine as `millrace plan` takes it.
fn hardware(
    name: &str,
    memory_bytes: u64,
    (threads, isa): (usize, Isa),
    rates: ceiling::Rates,
) -> Hardware {
    // Per nanosecond, and a multiply-add is two operations.
    let per_second = |multiply_adds: f64| Some(2e9 * multiply_adds);
    let flops = rates.arithmetic.map_or_else(Flops::default, |[int8, bf16, f32]| Flops {
        fp16: per_second(bf16),
        int8: per_second(int8),
        fp32: per_second(f32),
    });
    let version = env!("CARGO_PKG_VERSION");
    Hardware {
        name: name.to_string(),
        kind: HardwareKind::Cpu,
        memory_bytes,
        bandwidth: 1e9 * rates.memory,
        flops,
        source: format!("measured by millrace roofline {version}, {threads} threads, {isa}"),
    }
}

fn sizes(args: &RooflineArgs, file: &ModelFile) -> Result<StepsSizes> {
    let limit = file.config.context_length;
    let context = args.context as usize;
    ensure!(
        context < limit,
        "--context is {context}, and with the next token it must fit the model's context of {limit}"
    );
    let sequences = DECODES.into_iter().max().expect("there are some");
    Ok(StepsSizes { sequences, context, prompt: PROMPT_TOKENS.min(limit) })
}

fn each_step(sizes: &StepsSizes) -> impl Iterator<Item = Step> {
    let (position, prompt) = (sizes.context, sizes.prompt);
    let decodes = DECODES.into_iter().map(move |sequences| Step { sequences, position, tokens: 1 });
    decodes.chain([Step { sequences: 1, position: 0, tokens: prompt }])
}

fn say(phase: &str) {
    eprintln!("roofline: {phase}");
}
