//! `millrace bench`.

mod compare;
mod compat;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bench::compat::Tool;
use bench::{
    Api, Assertion, BenchConfig, Cancel, Language, Outcome, Preset, RequestForm, Sampling, Slo,
    Trust,
};
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::command_line;
use crate::launch::EngineArgs;
use crate::load::LoadArgs;
use crate::prompts::{LENGTHS, PromptArgs};
use crate::server_process::ServerProcess;
use crate::source::Source;

#[derive(Subcommand)]
enum BenchCommand {
    /// Compare two runs, or repeated runs, level by level: what changed, and how sure that is.
    Compare(compare::CompareArgs),
    /// Print what vLLM's, NVIDIA's and guidellm's load tests would print of a run, by their own
    /// definitions.
    Compat(compat::CompatArgs),
}

/// Options of `millrace bench`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    /// What to do in place of a test.
    #[command(subcommand)]
    command: Option<BenchCommand>,

    /// Test the OpenAI-compatible server at this address instead of starting one.
    #[arg(long, value_name = "URL", conflicts_with = "EngineArgs")]
    url: Option<String>,

    /// How the server is loaded.
    #[command(flatten, next_help_heading = "Load")]
    load: LoadArgs,

    /// What is asked.
    #[command(flatten, next_help_heading = "Prompts")]
    prompts: PromptArgs,

    /// Most requests of an open loop that may be on their way at once. What is due beyond that is
    /// not sent but counted as dropped, and the run is no success.
    #[arg(
        long,
        default_value_t = 1024,
        value_name = "N",
        requires = "open",
        help_heading = "Load"
    )]
    max_connections: u32,

    /// Whether end tokens are ignored, so that every answer has the length asked for. With false,
    /// that length is the most it may have.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    ignore_eos: bool,

    /// What is asked: completions (prompts as they are) or chat (the prompt is a user's message).
    #[arg(long, value_name = "NAME", default_value = "completions")]
    endpoint: EndpointName,

    /// A JSON object whose fields go into every request, in place of ours where the names are the
    /// same, like '{"priority": 1}'.
    #[arg(long, value_name = "JSON", value_parser = extra_body)]
    extra_body: Option<Map<String, Value>>,

    /// A header field for every request to the server, like 'X-Team: search'. May be given several
    /// times.
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// A named set of lengths, sampling and server limits. seed: 634 + 1184 tokens, temperature 1.0,
    /// top_p 0.8, top_k 30, repetition_penalty 10, max_num_seqs 50, max_model_len 1818.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,

    /// Decides the prompts: the same seed gives the same ones [default: 0 for a server of our own,
    /// from the clock with --url, so that a prefix cache does not know the prompts].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// What is expected of each request, as limits of TTFT, TPOT and the time to the last token:
    /// requests that meet all of them are goodput, like ttft=500ms,tpot=50ms,e2e=10s.
    #[arg(long, value_name = "LIMITS")]
    slo: Option<Slo>,

    /// Language of the report: en or zh.
    #[arg(long, default_value = "en", value_name = "LANGUAGE")]
    language: Language,

    /// Folder for report.md, report.html, summary.json, summary.csv and requests.jsonl.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Go on with the run in the folder of --out: levels that are complete are taken from there.
    #[arg(long, requires = "out")]
    resume: bool,

    /// Also print what other load tests would print of this run, by their own definitions, and write
    /// it to compat.md: vllm, aiperf, guidellm.
    #[arg(long, value_delimiter = ',', value_name = "TOOLS", requires = "out")]
    compat: Vec<Tool>,

    /// What must hold for the exit code to be 0, like 'p95_ttft<500ms', 'throughput>1000' or
    /// 'failed==0@64' (at 64 users alone; elsewhere at each level), or 'valid' (no level is INVALID).
    /// May be given several times.
    #[arg(long = "assert", value_name = "EXPRESSION")]
    assertions: Vec<Assertion>,

    /// Exit with 0 though requests failed.
    #[arg(long)]
    allow_failures: bool,

    /// Key to send as "Authorization: Bearer KEY" (with --url).
    #[arg(long, requires = "url", value_name = "KEY")]
    api_key: Option<String>,

    /// A PEM file of certificates: the authorities that may vouch for an https:// server, in place of
    /// those that this machine trusts.
    #[arg(long, requires = "url", value_name = "FILE")]
    ca_cert: Option<PathBuf>,

    /// Believe an https:// server whoever vouches for it. Whoever stands between can read the key and
    /// all that is sent.
    #[arg(long, requires = "url", conflicts_with = "ca_cert")]
    insecure: bool,

    /// Options of the server that is started.
    #[command(flatten, next_help_heading = "Server options (without --url)")]
    engine: EngineArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum EndpointName {
    Completions,
    Chat,
}

impl From<EndpointName> for Api {
    fn from(name: EndpointName) -> Api {
        match name {
            EndpointName::Completions => Api::Completions,
            EndpointName::Chat => Api::Chat,
        }
    }
}

fn extra_body(text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).context("a JSON object is needed, like {\"priority\": 1}")
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').context("give NAME:VALUE")?;
    let name = name.trim().parse().with_context(|| format!("`{name}` is no name of a header"))?;
    let value = value.trim().parse().with_context(|| format!("`{name}` cannot have this value"))?;
    Ok((name, value))
}

/// Runs the load test and prints its report.
pub fn run(args: BenchArgs) -> Result<ExitCode> {
    match &args.command {
        Some(BenchCommand::Compare(args)) => return compare::run(args),
        Some(BenchCommand::Compat(args)) => return compat::run(args),
        None => {}
    }
    let preset = args.preset.as_deref().map(preset).transpose()?;
    let config = config(&args, preset)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut server = None;
    let url = match &args.url {
        Some(url) => url.clone(),
        None => {
            let started = start_server(&args.engine, preset)?;
            let url = started.url.clone();
            server = Some(started);
            url
        }
    };
    let server_pid = server.as_ref().map(ServerProcess::id);
    let outcome = runtime.block_on(async {
        let cancel = Cancel::new();
        tokio::spawn(cancel_on_signals(cancel.clone()));
        bench::run(BenchConfig { url, server_pid, ..config }, cancel).await
    });
    if let Some(server) = &mut server
        && !server.is_running()
    {
        eprintln!("millrace: the server ended during the test:\n{}", server.log_tail());
    }
    finish(outcome?, &args)
}

fn finish(outcome: Outcome, args: &BenchArgs) -> Result<ExitCode> {
    writeln!(std::io::stdout(), "{}", outcome.report).context("cannot write the report")?;
    for result in &outcome.summary.assertions {
        eprintln!("millrace: {result}");
    }
    let success = outcome.is_success();
    if let Some(error) = outcome.output_error {
        bail!(error);
    }
    if let Some(folder) = args.out.as_deref().filter(|_| !args.compat.is_empty()) {
        compat::add(folder, &args.compat)?;
    }
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn preset(name: &str) -> Result<Preset> {
    match Preset::named(name) {
        Some(preset) => Ok(preset),
        None => {
            let known: Vec<&str> = Preset::ALL.iter().map(|preset| preset.name).collect();
            bail!("unknown --preset \"{name}\"; known: {}", known.join(", "))
        }
    }
}

fn config(args: &BenchArgs, preset: Option<Preset>) -> Result<BenchConfig> {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let recorded = match &args.out {
        Some(folder) if args.resume => bench::recorded_seed(folder)?,
        _ => None,
    };
    let seed = args.seed.or(recorded);
    let seed = seed.unwrap_or_else(|| if args.url.is_some() { clock() } else { 0 });
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let dataset = match args.prompts.dataset()? {
        None => args.load.trace()?,
        dataset => dataset,
    };
    let usual = preset.map_or(LENGTHS, |preset| preset.lengths);
    let lengths = args.prompts.laws(dataset.is_none().then_some(usual), args.ignore_eos);
    args.load.check_requests()?;
    let form = RequestForm {
        api: args.endpoint.into(),
        extra_body: args.extra_body.clone().unwrap_or_default(),
        headers: args.headers.clone(),
    };
    Ok(BenchConfig {
        url: String::new(),
        loads: args.load.loads(dataset.as_ref(), args.max_connections)?,
        lengths,
        dataset: dataset.map(Arc::new),
        form,
        sampling: preset.map_or(Sampling::GREEDY, |preset| preset.sampling),
        seed,
        slo: args.slo,
        server_pid: None,
        language: args.language,
        out: args.out.clone(),
        resume: args.resume,
        assertions: args.assertions.clone(),
        failures_allowed: args.allow_failures,
        command: command_line::shown(words, &["--api-key", "--header"]),
        api_key: args.api_key.clone(),
        trust: match &args.ca_cert {
            Some(path) => Trust::Authority(path.clone()),
            None if args.insecure => Trust::Anybody,
            None => Trust::System,
        },
    })
}

/// Fetches the models where their progress can be seen, then starts the server.
fn start_server(engine: &EngineArgs, preset: Option<Preset>) -> Result<ServerProcess> {
    for name in [&engine.model].into_iter().chain(&engine.speculative_model) {
        Source::parse(name)?.fetch()?;
    }
    let mut engine = engine.clone();
    if let Some(preset) = preset {
        engine.max_num_seqs.get_or_insert(preset.max_num_seqs);
        engine.max_model_len.get_or_insert(preset.max_model_len);
    }
    ServerProcess::start(engine.to_arguments())
}

/// The first Ctrl-C or SIGTERM ends the test with what is complete, the second ends it at once.
async fn cancel_on_signals(cancel: Cancel) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for last in [false, true] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if last {
            std::process::exit(130);
        }
        cancel.cancel();
    }
    Ok(())
}
