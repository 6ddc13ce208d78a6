//! `millrace pull`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::source;

/// Options of `millrace pull`.
#[derive(Args)]
pub struct PullArgs {
    /// The catalogue's name of the model (`millrace models` lists them).
    #[arg(default_value = "smollm2-135m")]
    name: String,
}

/// Fetches a model and prints where it is; its licence's terms are said before the download.
pub fn run(args: &PullArgs) -> Result<ExitCode> {
    let path = source::fetch(&args.name)?;
    writeln!(std::io::stdout(), "{}", path.display()).context("cannot write the path")?;
    Ok(ExitCode::SUCCESS)
}
