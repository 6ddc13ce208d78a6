//! What is left when the test is over, beside its journal: report.md, report.html, summary.json,
//! summary.csv.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use workload::analysis::Finding;
use workload::load::Load;
use workload::summary::{Counts, LevelSummary};
use workload::validity::{HostFacts, Verdict};

use crate::assertion::AssertionResult;
use crate::error::BenchError;
use crate::setup::Setup;
use crate::table;

/// A whole run in numbers: the contents of summary.json.
#[derive(Clone, Debug, Serialize)]
pub struct RunSummary {
    /// What was asked of which server.
    #[serde(flatten)]
    pub setup: Setup,
    /// How often the run was continued after it had been interrupted.
    pub resumes: u32,
    /// The levels asked for.
    pub levels_asked: Vec<Load>,
    /// The client's machine.
    pub host: HostFacts,
    /// Whether the client was fit to measure: the worst verdict of a level.
    pub verdict: Verdict,
    /// Whether the run was stopped before its end.
    pub interrupted: bool,
    /// Whether the run may be a success though requests failed.
    pub failures_allowed: bool,
    /// What was asserted, and whether it held.
    pub assertions: Vec<AssertionResult>,
    /// How all requests ended.
    pub counts: Counts,
    /// The levels that ran; written with their metrics under vLLM's names.
    #[serde(serialize_with = "table::with_metrics")]
    pub levels: Vec<LevelSummary>,
    /// What was found, as data.
    pub findings: Vec<Finding>,
    /// What was found, in words.
    pub analysis: Vec<String>,
    /// What the numbers mean.
    pub definitions: Definitions,
}

/// What the numbers of a summary mean, so that it can be read without this program.
///
/// `docs/definitions.md` says the same with its reasons.
#[derive(Clone, Debug, Serialize)]
pub struct Definitions {
    /// Of `total_time_s`.
    pub total_time: &'static str,
    /// Of `tokens_per_second`.
    pub throughput: &'static str,
    /// Of `ttft_ms`.
    pub ttft: &'static str,
    /// Of `latency_ms`.
    pub latency: &'static str,
    /// Of `ttft_user_ms` and `latency_user_ms`.
    pub user: &'static str,
    /// Of `tokens`.
    pub tokens: &'static str,
    /// Of `tpot_ms`.
    pub tpot: &'static str,
    /// Of `gaps.icl_ms`.
    pub icl: &'static str,
    /// Of `gaps.itl_ms`.
    pub itl: &'static str,
    /// Of `user_decode_rate` and `user_rate`.
    pub user_rates: &'static str,
    /// Of `goodput`.
    pub goodput: &'static str,
    /// Of p50, p95 and p99.
    pub percentiles: &'static str,
    /// Of `bounds`.
    pub bounds: &'static str,
    /// Of `std`.
    pub std: &'static str,
    /// Of `counts`.
    pub counts: &'static str,
    /// Of the numbers under `gauges` and `streams`.
    pub window: &'static str,
    /// Of the numbers under `steady`, `little` and `trend`.
    pub steady: &'static str,
    /// Of the numbers under `stages`.
    pub stages: &'static str,
    /// Of the numbers under `validity`.
    pub validity: &'static str,
}

impl Definitions {
    /// The definitions in force.
    pub const OURS: Definitions = Definitions {
        total_time: "last token of a successful request arrived - first byte written of any request",
        throughput: "sum of completion_tokens of successful requests / total time",
        ttft: "first chunk with a generated token arrived - first byte of the request written; arrivals are \
               the kernel's note (SO_TIMESTAMPNS) or, where it has none, the return of the read",
        latency: "last chunk with a generated token arrived - first byte of the request written",
        user: "as ttft and latency, but from when the request was due; in an open loop only",
        tokens: "completion_tokens of the server's usage; chunks of the stream without a usage",
        tpot: "(latency - ttft) / (tokens - 1), one value per request, from 2 tokens on",
        icl: "time between two chunks with generated tokens, pooled over successful requests",
        itl: "icl / k, counted k times for a chunk of k tokens; absent where k is unknown",
        user_rates: "1 / tpot and tokens / latency, tokens per second, one value per request",
        goodput: "requests that met every limit of the slo / all but cancelled ones; failed, refused \
                  and dropped requests and missing figures are bad; in an open loop from when due",
        percentiles: "linear interpolation (R-7, numpy's default) over successful requests",
        bounds: "whether the maximum bounds the percentile with 95% confidence for any distribution: \
                 from 59 values on for P95, from 299 on for P99",
        std: "sample standard deviation (n - 1)",
        counts: "sent = ok + failed + cancelled + dropped, refused is part of failed; Total Requests \
                 of the report is sent",
        window: "while every user had a request on its way; in an open loop while requests were sent",
        steady: "requests sent in the window above after the first answer, and tokens read in it",
        stages: "ttft from when due = lag (client) + network + queue + prefill (server's own times)",
        validity: "one breached limit is a warning, two are invalid; limits: P99 of sent - due at \
                   most max(1 ms, 2% of median ttft), at least 95% of the load delivered, at most 80% \
                   of a core for the load's thread, P99 of its heartbeat at most max(5 ms, 10% of \
                   median ttft), or max(2 ms, 2%) where the kernel noted no arrivals, enough open \
                   files",
    };
}

const REPORT: &str = "report.md";
const PAGE: &str = "report.html";
const SUMMARY: &str = "summary.json";
const TABLE: &str = "summary.csv";
const COMPAT: &str = "compat.md";

/// Takes away the results of an earlier run in `folder`, which would contradict its journal.
pub(crate) fn remove_results(folder: &Path) -> Result<(), BenchError> {
    for path in [REPORT, PAGE, SUMMARY, TABLE, COMPAT].map(|name| folder.join(name)) {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(BenchError::Output { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes report.md, summary.csv, report.html and summary.json.
pub(crate) fn write_results(
    folder: &Path,
    report: &str,
    page: &str,
    summary: &RunSummary,
) -> Result<(), BenchError> {
    let mut json = serde_json::to_vec_pretty(summary).expect("plain data with text keys");
    json.push(b'\n');
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|source| BenchError::Output { path, source })
    };
    write(REPORT, format!("{report}\n").as_bytes())?;
    write(TABLE, &table::to_csv(&summary.levels))?;
    write(PAGE, page.as_bytes())?;
    write(SUMMARY, &json)
}
