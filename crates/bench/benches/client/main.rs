//! What the load test itself adds to the times that it measures.
//!
//! `cargo bench -p bench --bench client [USERS]…` sends to a server of known timing in a process
//! of its own and prints how far the client's figures are from the server's: the delay that a
//! reader of a report has to reckon with.

mod metronome;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bench::{BenchConfig, Cancel, Distribution, Language, Lengths, Loads, RequestForm, Sampling};
use metronome::Beat;
use workload::percentile::Spread;
use workload::record::RequestRecord;

const BEAT: Beat = Beat { first: Duration::from_millis(50), gap: Duration::from_millis(10) };
const TOKENS: u32 = 100;
const REQUESTS_PER_USER: u32 = 5;
/// The word that makes this program the server.
const SERVER: &str = "--metronome";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == SERVER) {
        return Ok(metronome::serve(BEAT)?);
    }
    let users: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let levels = if users.is_empty() { vec![1, 64, 1000] } else { users };
    println!(
        "{REQUESTS_PER_USER} requests a user, first token after {} ms, {TOKENS} tokens {} ms apart",
        BEAT.first.as_millis(),
        BEAT.gap.as_millis()
    );
    println!("errors in ms, the client's time less the server's\n");
    println!("| users | events/s | TTFT p50 | p99 | max | gap p50 | p99 | max | client memory |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for level in levels {
        println!("{}", row(level)?);
    }
    Ok(())
}

/// Measures one level with a server and a folder of its own.
fn row(users: u32) -> Result<String, Box<dyn Error>> {
    let (mut server, address) = start_server()?;
    let folder = tempfile::tempdir()?;
    let config = BenchConfig {
        url: format!("http://{address}"),
        loads: Loads::Closed {
            levels: vec![users],
            requests_per_user: REQUESTS_PER_USER,
            think_time_s: Distribution::fixed(0.0),
        },
        lengths: Lengths { prompt_tokens: 8, output_tokens: TOKENS }.into(),
        dataset: None,
        form: RequestForm::default(),
        sampling: Sampling::GREEDY,
        seed: 0,
        slo: None,
        server_pid: None,
        language: Language::English,
        out: Some(folder.path().to_owned()),
        resume: false,
        assertions: Vec::new(),
        failures_allowed: false,
        command: String::new(),
        api_key: None,
        trust: bench::Trust::System,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(bench::run(config, Cancel::new()));
    server.kill()?;
    server.wait()?;
    let outcome = outcome?;
    let rate = outcome.summary.levels[0].tokens_per_second.unwrap_or(0.0);
    let lines = std::fs::read_to_string(folder.path().join("requests.jsonl"))?;
    let records = lines.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>()?;
    let errors = Errors::of(&records);
    Ok(format!(
        "| {users} | {rate:.0} | {} | {} | {} MiB |",
        figures(errors.first)?,
        figures(errors.gap)?,
        peak_memory_bytes()? >> 20
    ))
}

/// How far the client's figures are from the server's, milliseconds.
struct Errors {
    /// Of each request's time to first token.
    first: Vec<f64>,
    /// Of each gap between two tokens, against the distance at which they were due.
    gap: Vec<f64>,
}

impl Errors {
    fn of(records: &[RequestRecord]) -> Errors {
        let due_ms = BEAT.gap.as_secs_f64() * 1000.0;
        let first =
            |record: &RequestRecord| Some((record.ttft_ms()? - record.timings?.prefill_ms?).abs());
        let gaps = |record: &RequestRecord| {
            let stamps: Vec<f64> = record.chunks.iter().map(|c| c.at_ns as f64 / 1e6).collect();
            stamps.windows(2).map(|pair| (pair[1] - pair[0] - due_ms).abs()).collect::<Vec<_>>()
        };
        Errors {
            first: records.iter().filter_map(first).collect(),
            gap: records.iter().flat_map(gaps).collect(),
        }
    }
}

/// `p50 | p99 | max`.
fn figures(values: Vec<f64>) -> Result<String, Box<dyn Error>> {
    let spread = Spread::of(values).ok_or("no request was answered")?;
    Ok(format!("{:.3} | {:.3} | {:.3}", spread.p50, spread.p99, spread.max))
}

fn start_server() -> Result<(Child, String), Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut server = command.arg(SERVER).stdout(Stdio::piped()).spawn()?;
    let stdout = server.stdout.take().ok_or("the server's output is piped")?;
    let mut address = String::new();
    BufReader::new(stdout).read_line(&mut address)?;
    Ok((server, address.trim().to_owned()))
}

/// The most memory that this process has held at once, by the kernel's count.
fn peak_memory_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(kib << 10)
}
