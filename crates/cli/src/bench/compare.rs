//! `millrace bench compare`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

/// The folders of one side.
#[derive(Clone)]
struct Folders(Vec<PathBuf>);

impl From<&str> for Folders {
    fn from(text: &str) -> Folders {
        Folders(text.split(',').map(PathBuf::from).collect())
    }
}

/// Options of `millrace bench compare`.
#[derive(Args)]
pub struct CompareArgs {
    /// Folders that `millrace bench --out` wrote, of repeated runs with commas in between: A1,A2.
    a: Folders,

    /// Folders of what is compared to them, in the same form.
    b: Folders,

    /// Print JSON in place of Markdown.
    #[arg(long)]
    json: bool,
}

/// Prints how B differs from A.
pub fn run(args: &CompareArgs) -> Result<ExitCode> {
    let comparison = bench::compare::compare(&args.a.0, &args.b.0)?;
    let text = match args.json {
        true => {
            serde_json::to_string_pretty(&comparison).context("cannot write it as JSON")? + "\n"
        }
        false => comparison.to_string(),
    };
    write!(std::io::stdout(), "{text}").context("cannot write the comparison")?;
    Ok(ExitCode::SUCCESS)
}
