//! The `millrace` binary: parses the command line and puts the crates together, nothing else.
//!
//! One file per command; what several commands share stands before them: `errors` (how they are
//! said), `command_line` (how it is shown), `machine` (what this computer has), `source` (where a model comes from),
//! `buffers` (what they take), `speculation` (what guesses tokens), `adapters` (what is added to a model),
//! `launch` (a running engine from options).
#![forbid(unsafe_code)]

mod errors;
mod command_line;
mod sizes;
mod machine;
mod source;
mod buffers;
mod speculation;
mod adapters;
mod launch;
mod log;
mod serve;
mod server_process;
mod load;
mod prompts;
mod bench;
mod generate;
mod perplexity;
mod pull;
mod models;
mod check;
mod roofline;
mod plan;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

/// Serves language models to many clients at once on a CPU, and measures how well it does so.
#[derive(Parser)]
#[command(name = "millrace", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a model over an OpenAI-compatible HTTP API.
    Serve(serve::ServeArgs),
    /// Load-test a server and print the report. Starts a server of its own unless --url is given.
    Bench(Box<bench::BenchArgs>),
    /// Answer one prompt on the terminal.
    Generate(generate::GenerateArgs),
    /// Say how well a model predicts a text, by the definition of llama.cpp's llama-perplexity.
    ///
    /// The text's tokens are cut into windows, a begin token takes the place of each window's first if
    /// the model has it before prompts, and the engine reads each window by itself. Printed is exp of
    /// the mean of -ln p over the tokens of the windows' second halves, but the first of each, with its
    /// standard error: the lower, the better. It depends on tokenizer and text, so compare files of one
    /// model, or programs, over one text.
    Perplexity(perplexity::PerplexityArgs),
    /// Fetch a model of the catalogue or of the Hugging Face hub.
    ///
    /// Of the hub: hf:ORG/NAME takes the model in safetensors that the repository has, or else its only
    /// GGUF file, of several that in Q4_K_M; hf:ORG/NAME:FILE.gguf takes that file, and of one
    /// that is split, of which the first part is named, all parts. Files go to the cache
    /// that all clients of the hub share, and what they have fetched is not fetched again. A download
    /// that broke off goes on where it ended, and every file is checked by its hash. Other commands fetch
    /// what is missing by themselves and use what is there as it is; pull also asks for what is new. As all
    /// clients of the hub do, it heeds HF_ENDPOINT, HF_TOKEN (or the file HF_TOKEN_PATH), HF_HOME, HF_HUB_CACHE,
    /// HF_HUB_OFFLINE and HF_HUB_DISABLE_IMPLICIT_TOKEN. No token goes over http://, but to this machine, for
    /// which no proxy is asked.
    Pull(pull::PullArgs),
    /// List the models of the catalogue and of the cache folders, and say which fit this machine.
    ///
    /// Of the cache that all clients of the Hugging Face hub share, it lists what Millrace can serve.
    /// For each: whether it is present, its size on disk or to fetch, the types of its weights, its
    /// context, the memory that `millrace serve` takes for one request of the whole context (weights,
    /// activations, buffers, keys and values), what `serve` without options would do with that on this
    /// machine if nothing else ran (the whole context, or so many tokens of it, or not at all), and
    /// its licence.
    Models(models::ModelsArgs),
    /// Read a model file's header, tokenizer and chat template, and say what is there or wrong.
    Check(check::CheckArgs),
    /// Measure what this machine can do, the model's ceilings on it, and what share is reached.
    ///
    /// A step must read the weights and the keys and values of its sequences from memory, and it
    /// must multiply: the slower of the two is its ceiling. The model is then run alone, without
    /// scheduler, sampling and HTTP, so the distance from there to what `millrace bench` shows is
    /// theirs. The report is Markdown on stdout, to be pasted as it is; progress is on stderr. It
    /// takes about twenty seconds: keep the machine free meanwhile.
    Roofline(roofline::RooflineArgs),
    /// Say what a model needs of a device: does it fit, how many at once, what binds first.
    ///
    /// Memory is divided by the formula that `millrace serve` divides it by, and every term is
    /// printed. On a processor, with a model that Millrace serves, the numbers are those that
    /// `serve` would log. Everything else is estimated as vLLM finds it in the profile run at its
    /// start. Nothing is loaded but a file's header.
    #[command(after_help = plan::EXAMPLES)]
    Plan(Box<plan::PlanArgs>),
}

/// No command at all is answered with the help page.
const NO_COMMAND: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
/// Exit code for a command line that cannot be understood, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && error.kind() != NO_COMMAND => {
            eprintln!("millrace: {}", errors::usage_line(&error));
            return ExitCode::from(USAGE);
        }
        Err(page) => page.exit(),
    };
    let result = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Bench(args) => bench::run(*args),
        Command::Generate(args) => generate::run(args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Roofline(args) => roofline::run(&args),
        Command::Plan(args) => plan::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("millrace: {}", errors::line(&error));
        ExitCode::FAILURE
    })
}
