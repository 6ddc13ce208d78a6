//! `millrace plan`.

mod model;
mod engine;
mod findings;
mod report;
mod json;
mod recorded;
mod time;
mod find;
mod calibrate;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use plan::hardware;

use calibrate::CalibrateArgs;
use engine::EngineOptions;
use find::{FindOptions, Search};
use findings::{Findings, QuestionArgs};
use model::ModelOptions;
use recorded::Recorded;
use time::TimeOptions;

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
  millrace plan --preset seed --max-num-seqs 64 --memory-utilization 0.7
      The seed report's tables if its cap were 64.
  millrace plan --preset seed --trace day.jsonl --trace-speed 1,2
      A recorded day there, and one twice as busy.
  millrace plan calibrate DIR --out here-model.json
  millrace plan --device-model here-model.json --find max-rate --slo 'p95_ttft<500ms'
      What this machine can promise, from a run of `millrace bench --out DIR`.

Exit code: 0 if it fits, 1 if it does not or nothing could be planned, 2 for a bad command line.";

/// Options of `millrace plan`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PlanArgs {
    #[command(subcommand)]
    command: Option<PlanCommand>,

    #[command(flatten)]
    model: ModelOptions,

    #[command(flatten)]
    engine: EngineOptions,

    #[command(flatten)]
    question: QuestionArgs,

    #[command(flatten)]
    time: TimeOptions,

    #[command(flatten)]
    find: FindOptions,

    /// Print the memory's plan as JSON for programs, and nothing else.
    #[arg(
        long,
        help_heading = "Output",
        conflicts_with_all = [
            "device_model", "LoadArgs", "PromptArgs", "out", "find",
        ],
    )]
    json: bool,

    /// Print the devices of the table and their sources, and do nothing else.
    #[arg(long, help_heading = "Output")]
    list_devices: bool,
}

#[derive(Subcommand)]
enum PlanCommand {
    /// Fit the cost of a device's steps to a load test of it.
    ///
    /// The simulator is asked the same load, and its six parameters are changed until its levels
    /// look like the measured ones. Prints them, and measured beside predicted for every level.
    Calibrate(CalibrateArgs),
}

/// Plans and prints.
pub fn run(args: &PlanArgs) -> Result<ExitCode> {
    if let Some(PlanCommand::Calibrate(args)) = &args.command {
        return print(&calibrate::text(args)?, ExitCode::SUCCESS);
    }
    if args.list_devices {
        return print(&hardware::table(), ExitCode::SUCCESS);
    }
    let preset = args.model.preset()?;
    let device = args.engine.device(preset)?;
    let model = args.model.open(args.engine.max_model_len)?;
    let engine = args.engine.engine(&model, &device, preset)?;
    let recorded = args.time.recorded(&model)?;
    let findings = Findings::new(model, device, engine, &args.question)?;
    let mut text = if args.json { json::text(&findings) } else { report::text(&findings) };
    if !args.json {
        text += &args.speed(&findings, preset, recorded.as_ref())?;
    }
    let fits = findings.answers.budget.is_ok();
    print(&text, if fits { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl PlanArgs {
    /// The predicted report, or the search; nothing if neither was asked for or the memory does
    /// not do.
    fn speed(
        &self,
        findings: &Findings,
        preset: bool,
        recorded: Option<&Recorded>,
    ) -> Result<String> {
        let is_asked = preset || self.time.is_given() || self.find.find.is_some();
        let Some(budget) = findings.answers.budget.as_ref().ok().filter(|_| is_asked) else {
            return Ok(String::new());
        };
        let options = &self.time;
        let asked = options.asked(preset, recorded)?;
        let server = options.server(findings, budget)?;
        let text = match self.find.find {
            Some(goal) => {
                Search { server, findings, asked, options, slo: &self.find.slo }.text(goal)?
            }
            None => options.report(server, &time::basics(findings, budget), &asked)?,
        };
        Ok(format!("\n{text}"))
    }
}

fn print(text: &str, code: ExitCode) -> Result<ExitCode> {
    write!(std::io::stdout(), "{text}").context("cannot write the plan")?;
    Ok(code)
}
