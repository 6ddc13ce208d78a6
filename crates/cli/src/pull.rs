//! `millrace pull`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::source;

/// Options of `millrace pull`.
#[derive(Args)]
pub struct PullArgs {
    /// The catalogue's name of the model.
    #[arg(default_value = "smollm2-135m")]
    name: String,
}

/// Fetches a model and prints where it is.
pub fn run(args: &PullArgs) -> Result<ExitCode> {
    println!("{}", source::fetch(&args.name)?.display());
    Ok(ExitCode::SUCCESS)
}
