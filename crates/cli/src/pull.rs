//! `millrace pull`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::source::Source;

/// Options of `millrace pull`.
#[derive(Args)]
pub struct PullArgs {
    /// A name of the catalogue (`millrace models` lists them), or hf:ORG/NAME or hf:ORG/NAME:FILE.gguf
    /// of the Hugging Face hub, with @REVISION behind NAME for another branch than main, a tag or a commit.
    #[arg(default_value = "smollm2-135m")]
    name: String,
}

/// Fetches a model and prints where it is; the licence's terms of one of the catalogue are said before.
pub fn run(args: &PullArgs) -> Result<ExitCode> {
    let path = Source::parse(&args.name)?.pull()?;
    writeln!(std::io::stdout(), "{}", path.display()).context("cannot write the path")?;
    Ok(ExitCode::SUCCESS)
}
