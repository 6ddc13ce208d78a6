//! `millrace plan`.

mod model;
mod engine;
mod findings;
mod report;
mod json;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use plan::hardware;

use engine::EngineOptions;
use findings::{Findings, QuestionArgs};
use model::ModelOptions;

/// Shown below the options.
pub const EXAMPLES: &str = "\
Examples:
  millrace plan
      What `millrace serve` would do with this machine's memory.
  millrace plan --preset seed
      The system of the report that this project starts from, on an RTX 4090.
  millrace plan --model Qwen2.5-7B/config.json --device l40s --max-model-len 32768
      A model by its config.json, on a device of the table (--list-devices).
  millrace plan --model model.gguf --device h100-sxm --length 2000 --users 200
      What 200 users with 2,000 tokens each would need.
  millrace plan --layers 12 --width 768 --heads 12 --ffn 2048 --vocab 32000 --max-model-len 2048
      A model that has no file yet, on this machine.
  millrace roofline --json here.json; millrace plan --device here.json
      A machine that was measured.

Exit code: 0 if it fits, 1 if it does not or nothing could be planned, 2 for a bad command line.";

/// Options of `millrace plan`.
#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    model: ModelOptions,

    #[command(flatten)]
    engine: EngineOptions,

    #[command(flatten)]
    question: QuestionArgs,

    /// Print JSON for programs in place of the report.
    #[arg(long)]
    json: bool,

    /// Print the devices of the table and their sources, and do nothing else.
    #[arg(long)]
    list_devices: bool,
}

/// Plans and prints.
pub fn run(args: &PlanArgs) -> Result<ExitCode> {
    if args.list_devices {
        return print(&hardware::table(), ExitCode::SUCCESS);
    }
    let preset = args.model.preset()?;
    let device = args.engine.device(preset)?;
    let model = args.model.open(args.engine.max_model_len)?;
    let engine = args.engine.engine(&model, &device, preset)?;
    let findings = Findings::new(model, device, engine, &args.question)?;
    let text = if args.json { json::text(&findings) } else { report::text(&findings) };
    let fits = findings.answers.budget.is_ok();
    print(&text, if fits { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(text: &str, code: ExitCode) -> Result<ExitCode> {
    write!(std::io::stdout(), "{text}").context("cannot write the plan")?;
    Ok(code)
}
