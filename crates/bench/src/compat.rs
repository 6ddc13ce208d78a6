//! What other load tests would print of the same requests, by their own definitions.
//!
//! Tools disagree by construction: in what they call by the same name, in whether a request or a
//! token has a vote, in percentiles, in where a run begins and ends. Computed here again from our
//! records, a difference of definitions can be told from a difference of servers.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use workload::gaps::chunk_gaps_ms;
use workload::record::{RequestRecord, milliseconds};

use crate::compare::{CompareError, Run};
use crate::table::level_name;

mod sample;

use sample::Sample;

/// A load test whose figures can be computed from our records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `vllm bench serve`.
    Vllm,
    /// NVIDIA's aiperf.
    Aiperf,
    /// guidellm.
    Guidellm,
}

/// No tool is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no tool `{0}`; there are vllm, aiperf and guidellm")]
pub struct UnknownTool(String);

impl FromStr for Tool {
    type Err = UnknownTool;

    fn from_str(name: &str) -> Result<Tool, UnknownTool> {
        match name {
            "vllm" => Ok(Tool::Vllm),
            "aiperf" => Ok(Tool::Aiperf),
            "guidellm" => Ok(Tool::Guidellm),
            _ => Err(UnknownTool(name.to_owned())),
        }
    }
}

/// The figures of one level as one tool counts them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figures {
    tool: Tool,
    /// Of the whole level: the tool's name for it, and its value.
    whole: Vec<(&'static str, f64)>,
    /// Names of the columns of what follows.
    columns: &'static [&'static str],
    /// Of its requests, tokens or chunks: the tool's name, and a value for each column.
    rows: Vec<(&'static str, Vec<f64>)>,
}

/// What the tools would print of a run that `bench --out` left in `folder`, as Markdown.
///
/// # Errors
/// A folder that cannot be read.
pub fn of_folder(folder: &Path, tools: &[Tool]) -> Result<String, CompareError> {
    let run = Run::read(folder)?;
    let mut text = String::from(HEAD);
    for (number, load) in (1..).zip(run.loads()) {
        let records: Vec<&RequestRecord> = run.records_of(number).collect();
        for tool in tools {
            text += &format!("\n## Level {}, as {} counts\n\n", level_name(load), tool.name());
            match Figures::of(*tool, &records) {
                Some(figures) => text += &figures.to_string(),
                None => text += "No request succeeded.\n",
            }
        }
    }
    Ok(text)
}

const HEAD: &str = "# As other tools count\n\nComputed from this run's requests by the definitions of \
                    other load tests. It is not their output: they send otherwise, and count tokens \
                    with a tokenizer of their own.\n";

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Tool::Vllm => "vllm bench serve",
            Tool::Aiperf => "aiperf",
            Tool::Guidellm => "guidellm",
        }
    }

    fn definitions(self) -> &'static str {
        match self {
            Tool::Vllm => {
                "Of successful requests. The duration goes from the first request sent to the end \
                 of the last one of any outcome. ITL is the gap between chunks, pooled. Percentiles \
                 are linear, the standard deviation is that of a population. A chunk that only has \
                 a role, which this tool takes for the first token, is not in the records."
            }
            Tool::Aiperf => {
                "Of successful requests. The duration goes from the first of them sent to the last \
                 answer. Inter token latency is what others call TPOT, one value a request. \
                 Percentiles are linear, the standard deviation is that of a population."
            }
            Tool::Guidellm => {
                "Of successful requests, without a warm-up cut off. TPOT includes the first token. \
                 ITL and TPOT are one value a request and count once for each of its tokens. \
                 Latency ends when the stream is closed. Percentiles are the nearest rank, the \
                 standard deviation is that of a population."
            }
        }
    }
}

impl Figures {
    /// `None` if no request succeeded.
    pub(crate) fn of(tool: Tool, records: &[&RequestRecord]) -> Option<Figures> {
        let ok: Vec<&RequestRecord> = records.iter().copied().filter(|r| r.is_ok()).collect();
        let sent = ok.iter().map(|record| record.sent_ns).min()?;
        let last = ok.iter().filter_map(|record| record.last_token_ns).max()?;
        Some(match tool {
            Tool::Vllm => vllm(records, &ok),
            Tool::Aiperf => aiperf(&ok, milliseconds(sent, last) / 1000.0),
            Tool::Guidellm => guidellm(&ok, sent),
        })
    }
}

fn vllm(records: &[&RequestRecord], ok: &[&RequestRecord]) -> Figures {
    let sent = records.iter().filter(|r| r.was_sent()).map(|r| r.sent_ns).min().unwrap_or(0);
    let done = records.iter().map(|record| record.done_ns).max().unwrap_or(0);
    let duration_s = milliseconds(sent, done) / 1000.0;
    let (input, output) = (input_tokens(ok), output_tokens(ok));
    let gaps = ok.iter().flat_map(|record| chunk_gaps_ms(record)).collect();
    let row = |sample: Sample| {
        vec![sample.mean(), sample.linear(0.5), sample.deviation(), sample.linear(0.99)]
    };
    Figures {
        tool: Tool::Vllm,
        whole: vec![
            ("Successful requests", ok.len() as f64),
            ("Benchmark duration (s)", duration_s),
            ("Total input tokens", input),
            ("Total generated tokens", output),
            ("Request throughput (req/s)", ok.len() as f64 / duration_s),
            ("Output token throughput (tok/s)", output / duration_s),
            ("Total token throughput (tok/s)", (input + output) / duration_s),
        ],
        columns: &["Mean", "Median", "Std", "P99"],
        rows: vec![
            ("TTFT (ms)", row(each(ok, RequestRecord::ttft_ms))),
            ("TPOT (ms)", row(each(ok, RequestRecord::tpot_ms))),
            ("ITL (ms)", row(Sample::of(gaps))),
            ("E2EL (ms)", row(each(ok, RequestRecord::latency_ms))),
        ],
    }
}

fn aiperf(ok: &[&RequestRecord], duration_s: f64) -> Figures {
    let (count, output) = (ok.len() as f64, output_tokens(ok));
    let gaps = ok.iter().flat_map(|record| chunk_gaps_ms(record)).collect();
    let row = |sample: Sample| {
        let percentiles = [0.99, 0.9, 0.5].map(|q| sample.linear(q));
        let ends = [sample.mean(), sample.linear(0.0), sample.linear(1.0)];
        [&ends[..], &percentiles, &[sample.deviation()]].concat()
    };
    let per_user = |record: &RequestRecord| Some(1000.0 / record.tpot_ms().filter(|ms| 0.0 < *ms)?);
    Figures {
        tool: Tool::Aiperf,
        whole: vec![
            ("Request Count", count),
            ("Benchmark Duration (s)", duration_s),
            ("Output Token Throughput (tokens/sec)", output / duration_s),
            ("Request Throughput (requests/sec)", count / duration_s),
        ],
        columns: &["avg", "min", "max", "p99", "p90", "p50", "std"],
        rows: vec![
            ("Time to First Token (ms)", row(each(ok, RequestRecord::ttft_ms))),
            ("Request Latency (ms)", row(each(ok, RequestRecord::latency_ms))),
            ("Inter Token Latency (ms)", row(each(ok, RequestRecord::tpot_ms))),
            ("Inter Chunk Latency (ms)", row(Sample::of(gaps))),
            ("Output Token Throughput Per User (tokens/sec/user)", row(each(ok, per_user))),
            (
                "Output Sequence Length (tokens)",
                row(each(ok, |record| Some(f64::from(record.tokens())))),
            ),
        ],
    }
}

fn guidellm(ok: &[&RequestRecord], sent: u64) -> Figures {
    let closed = ok.iter().map(|record| record.done_ns).max().unwrap_or(sent);
    let duration_s = milliseconds(sent, closed) / 1000.0;
    let output = output_tokens(ok);
    let row = |sample: Sample| {
        let ranks = [0.5, 0.95, 0.99].map(|q| sample.nearest_rank(q));
        [&[sample.mean()], &ranks[..], &[sample.deviation()]].concat()
    };
    let open = |record: &RequestRecord| Some(milliseconds(record.sent_ns, record.done_ns));
    let weighted = |value: fn(&RequestRecord) -> Option<f64>, less: u32| {
        let values = ok.iter().filter_map(|record| {
            Some((value(record)?, f64::from(record.tokens().saturating_sub(less))))
        });
        Sample::weighted(values.collect())
    };
    let with_first = |record: &RequestRecord| {
        Some(record.latency_ms()? / f64::from(Some(record.tokens()).filter(|n| 0 < *n)?))
    };
    Figures {
        tool: Tool::Guidellm,
        whole: vec![
            ("Successful requests", ok.len() as f64),
            ("Requests per second, mean", ok.len() as f64 / duration_s),
            ("Output tokens per second, mean", output / duration_s),
            ("Total tokens per second, mean", (input_tokens(ok) + output) / duration_s),
        ],
        columns: &["mean", "median", "p95", "p99", "std"],
        rows: vec![
            ("Request latency (ms)", row(each(ok, open))),
            ("TTFT (ms)", row(each(ok, RequestRecord::ttft_ms))),
            ("ITL (ms)", row(weighted(RequestRecord::tpot_ms, 1))),
            ("TPOT (ms)", row(weighted(with_first, 0))),
        ],
    }
}

fn each(ok: &[&RequestRecord], value: impl Fn(&RequestRecord) -> Option<f64>) -> Sample {
    Sample::of(ok.iter().filter_map(|record| value(record)).collect())
}

fn output_tokens(ok: &[&RequestRecord]) -> f64 {
    ok.iter().map(|record| f64::from(record.tokens())).sum()
}

fn input_tokens(ok: &[&RequestRecord]) -> f64 {
    ok.iter().map(|record| f64::from(record.prompt_tokens.unwrap_or(0))).sum()
}

/// Two tables with the definitions before them. What has no value is a dash.
impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = |value: f64| match value.is_finite() {
            true => format!("{value:.2}"),
            false => "-".to_owned(),
        };
        writeln!(out, "{}\n\n| Metric | Value |\n|---|---|", self.tool.definitions())?;
        for (name, value) in &self.whole {
            writeln!(out, "| {name} | {} |", cell(*value))?;
        }
        writeln!(out, "\n| Metric | {} |", self.columns.join(" | "))?;
        writeln!(out, "|---|{}", "---|".repeat(self.columns.len()))?;
        for (name, values) in &self.rows {
            let cells: Vec<String> = values.iter().map(|value| cell(*value)).collect();
            writeln!(out, "| {name} | {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
