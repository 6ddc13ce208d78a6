//! `millrace bench compat`, and what `--compat` adds to a run.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use bench::compat::{Tool, of_folder};
use clap::Args;

/// Options of `millrace bench compat`.
#[derive(Args)]
pub struct CompatArgs {
    /// Folder that `millrace bench --out` wrote.
    folder: PathBuf,

    /// Which tools: vllm, aiperf, guidellm.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "vllm,aiperf,guidellm",
        value_name = "TOOLS"
    )]
    tools: Vec<Tool>,
}

/// Prints what the tools would print of a run.
pub fn run(args: &CompatArgs) -> Result<ExitCode> {
    print(&of_folder(&args.folder, &args.tools)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The same for the run that has just been written to `folder`, and into its compat.md.
pub fn add(folder: &Path, tools: &[Tool]) -> Result<()> {
    let text = of_folder(folder, tools)?;
    let path = folder.join("compat.md");
    fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    print(&format!("\n{text}"))
}

fn print(text: &str) -> Result<()> {
    write!(std::io::stdout(), "{text}").context("cannot write the tables")
}
