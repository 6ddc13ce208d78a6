//! `millrace serve`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use engine::{Worker, WorkerExit};
use sampling::{Pooling, SamplingRequest};
use server::config::{
    CONNECTIONS_MAX, ITERATION_TIMEOUT, SAMPLES_MAX, SHUTDOWN_TIMEOUT, STALL_LIMIT,
};
use server::guard::Guard;
use server::keys::Keys;
use server::limits::SAMPLES;
use server::shutdown::{self, Shutdown, Trigger};
use server::tls::Tls;
use server::{Ending, Parts, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::buffers::Connections;
use crate::launch::{EngineArgs, Launched, launch, open};
use crate::log::{Log, LogArgs};

/// Bytes of a file of keys: more than the keys that may be in it take.
const KEY_FILE_BYTES: u64 = 16 << 20;

/// Options of `millrace serve`.
#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    engine: EngineArgs,

    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,

    /// Port to listen on; 0 takes a free one. The address is printed on stdout once it is ready.
    #[arg(long, default_value_t = 8000)]
    port: u16,

    /// Name that clients put into "model" [default: the model's own].
    #[arg(long, value_name = "NAME")]
    served_model_name: Option<String>,

    /// Key that clients must send as "Authorization: Bearer KEY" or "x-api-key: KEY". May be given several
    /// times; each key is then a client of its own for --scheduling-policy fair.
    #[arg(long = "api-key", value_name = "KEY")]
    api_keys: Vec<String>,

    /// A file of keys, one a line: KEY, KEY OWNER or KEY OWNER WEIGHT, where keys of one owner share and a
    /// weight of 2 is twice a share. Lines that begin with # are passed over. Unlike a key on the command
    /// line it does not show in the list of processes.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,

    /// A name or address by which clients ask this server, beside localhost and loopback addresses. A
    /// server on a loopback --host refuses requests for other hosts, as web pages send them that a name
    /// was bound to this machine for; elsewhere they are refused once a name is given here. `*` allows
    /// any. May be given several times.
    #[arg(long = "allowed-host", value_name = "HOST")]
    allowed_hosts: Vec<String>,

    /// Origins of web pages that may ask this server and read its replies: one like `https://chat.example`,
    /// a JSON list of them as vLLM takes it, or `*` for any. May be given several times [default: none
    /// but the page of this server].
    #[arg(long, value_name = "ORIGINS", value_parser = origins)]
    allowed_origins: Vec<Origins>,

    /// A PEM file with the server's certificate, and behind it those that vouch for it: the server then
    /// speaks HTTPS.
    #[arg(long, requires = "ssl_keyfile", value_name = "FILE")]
    ssl_certfile: Option<PathBuf>,

    /// A PEM file with the key of that certificate.
    #[arg(long, requires = "ssl_certfile", value_name = "FILE")]
    ssl_keyfile: Option<PathBuf>,

    /// Serve a page for people at /: a chat and the server's live figures. A program that embeds the
    /// server may want none.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    enable_web_page: bool,

    /// What makes the vectors of /v1/embeddings: mean (of the states of all tokens) or last (the state
    /// of the last token, for models that were trained so).
    #[arg(long, default_value_t = Pooling::Mean, value_name = "TYPE")]
    pooling_type: Pooling,

    /// What counts where a request says nothing of how tokens are chosen: auto (what the
    /// generation_config.json of a model in a folder says) or vllm (nothing: temperature 1, all tokens).
    #[arg(long, value_enum, default_value_t = GenerationConfig::Auto, value_name = "FROM")]
    generation_config: GenerationConfig,

    /// Largest "n" of a request: answers to one prompt. Each takes a place of its own, running or queued, and
    /// its share of the memory budget.
    #[arg(
        long,
        default_value_t = SAMPLES_MAX,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SAMPLES)),
        value_name = "N"
    )]
    max_n_sequences: u32,

    /// Most connections open at once; further ones wait in the kernel's backlog. Each has 64 KiB
    /// in the memory budget (128 KiB behind TLS) and a file descriptor.
    #[arg(
        long,
        default_value_t = CONNECTIONS_MAX as u32,
        value_parser = clap::value_parser!(u32).range(1..=65536),
        value_name = "N"
    )]
    max_connections: u32,

    /// Seconds that a step may take while requests are open. Then the engine counts as stuck: open requests
    /// end with an error, and so does the server, for whoever watches over it to start it again.
    #[arg(
        long,
        default_value_t = ITERATION_TIMEOUT.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=86400),
        value_name = "SECONDS"
    )]
    engine_iteration_timeout: u64,

    /// Seconds that running requests may go on after the first SIGTERM or Ctrl-C.
    #[arg(long, default_value_t = SHUTDOWN_TIMEOUT.as_secs(), value_name = "SECONDS")]
    shutdown_timeout: u64,

    /// Stop at once when stdin is closed, so that the server does not outlive the program that
    /// started it and holds the other end.
    #[arg(long)]
    stop_with_stdin: bool,

    #[command(flatten)]
    log: LogArgs,
}

/// Serves until a signal ends it.
pub fn run(args: ServeArgs) -> Result<ExitCode> {
    let log = Log::begin(&args.log);
    // Before the model is loaded: what cannot be used is said at once.
    let (tls, keys) = (tls(&args)?, keys(&args)?);
    let listener = bind(&args.host, args.port)?;
    let origins: Vec<String> = args.allowed_origins.into_iter().flat_map(|list| list.0).collect();
    let guard = Guard::new(listener.local_addr()?, &args.allowed_hosts, &origins)
        .context("--allowed-host and --allowed-origins")?;
    let connections = Connections { most: args.max_connections, has_tls: tls.is_some() };
    let (sink, reports) = server::dispatch::channel();
    let opened = open(&args.engine)?;
    let Launched { handle, worker, tokenizer, template, info, sampling } =
        launch(&args.engine, opened, args.served_model_name.as_deref(), connections, sink)?;
    let config = ServerConfig {
        keys,
        guard,
        tls,
        web_page: args.enable_web_page,
        pooling: args.pooling_type,
        sampling: args.generation_config.defaults(sampling),
        samples_max: args.max_n_sequences,
        connections_max: args.max_connections as usize,
        stall_limit: STALL_LIMIT,
        iteration_timeout: Duration::from_secs(args.engine_iteration_timeout),
        shutdown_timeout: Duration::from_secs(args.shutdown_timeout),
    };
    let log_dropped = log.dropped();
    let parts = Parts { config, info, handle, reports, tokenizer, template, log_dropped };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (trigger, shutdown) = shutdown::channel();
    if args.stop_with_stdin {
        stop_with_stdin(trigger.clone());
    }
    let exit = runtime.block_on(serve(listener, parts, worker, (trigger, shutdown)))?;
    // Nobody waits for what it may still be reading or tokenising.
    runtime.shutdown_background();
    Ok(if exit == Some(WorkerExit::Drained) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where it is taken from how tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum GenerationConfig {
    Auto,
    Vllm,
}

impl GenerationConfig {
    /// What counts where a request says nothing; if it is the model's, that is said.
    fn defaults(self, of_model: SamplingRequest) -> SamplingRequest {
        let neutral = SamplingRequest::default();
        if self == GenerationConfig::Vllm || of_model == neutral {
            return neutral;
        }
        let SamplingRequest { temperature, top_p, top_k, min_p, repetition_penalty, .. } = of_model;
        tracing::info!(
            "The model's generation_config.json says what counts where a request does not: \
             temperature {temperature}, top_p {top_p}, top_k {top_k}, min_p {min_p}, \
             repetition_penalty {repetition_penalty}; --generation-config vllm leaves it out"
        );
        of_model
    }
}

/// Several origins in one option.
#[derive(Clone)]
struct Origins(Vec<String>);

fn origins(text: &str) -> Result<Origins> {
    if !text.starts_with('[') {
        return Ok(Origins(vec![text.to_owned()]));
    }
    serde_json::from_str(text).map(Origins).context("give a JSON list of texts")
}

fn keys(args: &ServeArgs) -> Result<Keys> {
    let mut keys = Keys::default();
    for key in &args.api_keys {
        keys.add(key).context("--api-key")?;
    }
    if let Some(path) = &args.api_key_file {
        let name = format!("--api-key-file {}", path.display());
        let text = key_file(path).with_context(|| name.clone())?;
        keys.add_lines(&text).map_err(|(line, error)| anyhow!("{name}: line {line}: {error}"))?;
    }
    Ok(keys)
}

/// The text of a file of keys. One that is too large is refused and not cut: what is left of a key would
/// be a key.
fn key_file(path: &Path) -> Result<String> {
    let mut text = String::new();
    File::open(path)?.take(KEY_FILE_BYTES + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= KEY_FILE_BYTES, "it has more than {} MiB", KEY_FILE_BYTES >> 20);
    Ok(text)
}

fn tls(args: &ServeArgs) -> Result<Option<Tls>> {
    match (&args.ssl_certfile, &args.ssl_keyfile) {
        (Some(certificates), Some(key)) => Tls::load(certificates, key)
            .context("cannot serve HTTPS with --ssl-certfile and --ssl-keyfile")
            .map(Some),
        _ => Ok(None),
    }
}

fn bind(host: &str, port: u16) -> Result<std::net::TcpListener> {
    std::net::TcpListener::bind((host, port))
        .with_context(|| format!("cannot listen on {host}:{port}; choose another --host or --port"))
}

/// Serves until a signal or the engine's end; how the engine ended, none if nobody waits for that.
async fn serve(
    listener: std::net::TcpListener,
    parts: Parts,
    worker: Worker,
    (trigger, shutdown): (Trigger, Shutdown),
) -> Result<Option<WorkerExit>> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut exit = watch(worker, trigger.clone());
    let mut stopped = shutdown.clone();
    let limit = parts.config.shutdown_timeout;
    tokio::spawn(async {
        if let Err(error) = shutdown::on_signals(trigger).await {
            tracing::error!(%error, "cannot handle signals: they end the server at once");
        }
    });
    let scheme = if parts.config.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr()?);
    tracing::info!("serving {} on {url}", parts.info.model);
    // Whoever started us may not listen; that is no reason not to serve.
    let _ = writeln!(std::io::stdout(), "{url}");
    match server::serve(listener, parts, shutdown).await {
        Ending::Drained => tokio::select! {
            exit = &mut exit => Ok(Some(exit.unwrap_or(WorkerExit::Panicked))),
            // It may be in the middle of a long step for clients that have left.
            () = tokio::time::sleep(limit) => Ok(Some(WorkerExit::Drained)),
            () = stopped.stopping() => Ok(None),
        },
        // As above, and the time is over.
        Ending::CutOff(_) => Ok(Some(exit.try_recv().unwrap_or(WorkerExit::Drained))),
        // The engine's thread ends never, or too late.
        Ending::Stopped | Ending::Hung => Ok(None),
    }
}

/// Pulls `trigger` once stdin has ended.
fn stop_with_stdin(trigger: Trigger) {
    std::thread::spawn(move || {
        let mut byte = [0];
        // What comes is not looked at; an error is an end too.
        while std::io::stdin().read(&mut byte).is_ok_and(|count| count > 0) {}
        trigger.stop();
    });
}

/// Waits for the engine's end on a thread of its own; one that failed ends the server.
fn watch(worker: Worker, trigger: Trigger) -> oneshot::Receiver<WorkerExit> {
    let (sender, exit) = oneshot::channel();
    std::thread::spawn(move || {
        let outcome = worker.join();
        if outcome != WorkerExit::Drained {
            tracing::error!("the engine has ended: {outcome:?}");
            trigger.drain();
        }
        // Nobody listens once the server has stopped at once.
        let _ = sender.send(outcome);
    });
    exit
}
