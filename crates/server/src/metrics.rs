//! Sums and histograms over requests, and their exposition under vLLM's names.
//!
//! At every scrape: accepted = sum of `request_success` + running + waiting. The first two are counted here;
//! which requests are open is known by their routes, and the engine's snapshot says how many of them run.
//! Waiting is what is left, so that a request counts from the moment it was accepted, also while it is on its
//! way to the engine's thread.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use engine::{AdapterId, DRAFT_TOKENS_MAX, RequestTimes, Snapshot};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::histogram::Histogram;

use crate::config::ServerInfo;
use crate::unix_time::unix_time;

mod page;
mod progress;

pub use page::Page;
pub use progress::Progress;

/// The media type of [`Tally::encode`]'s text: prometheus-client writes OpenMetrics.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// vLLM's buckets, in seconds (`vllm/v1/metrics/buckets.py`).
const FIRST_TOKEN_BUCKETS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
const INTER_TOKEN_BUCKETS: [f64; 19] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
const REQUEST_BUCKETS: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];

/// As vLLM's.
const STEP_BUCKETS: [f64; 13] =
    [1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];
const SAMPLES_BUCKETS: [f64; 5] = [1.0, 2.0, 5.0, 10.0, 20.0];
const PREEMPTION_BUCKETS: [f64; 7] = [1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0];

/// The places of a draft's tokens, as labels.
const PLACES: [&str; DRAFT_TOKENS_MAX] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14"];

/// How a request ended, as `request_success` labels it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An end token, a stop token or a stop string.
    Stop,
    /// `max_tokens`.
    Length,
    /// The client left, or the server cut it off.
    Abort,
    /// What it asked for left no token to choose.
    NoToken,
    /// The device failed.
    Error,
}

impl Outcome {
    const ALL: [Outcome; 5] = [Self::Stop, Self::Length, Self::Abort, Self::NoToken, Self::Error];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
            Self::NoToken => "no_token",
            Self::Error => "error",
        }
    }
}

/// Panics of requests' code. Clones count together; it needs no lock, since a panic may have left one
/// poisoned.
#[derive(Debug, Clone, Default)]
pub struct Panics(Arc<AtomicU64>);

impl Panics {
    /// One more.
    pub fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// All so far.
    pub fn total(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Lines of the log that were lost, since nobody took them. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct LogDropped(Arc<AtomicU64>);

impl LogDropped {
    /// One more.
    pub fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// All so far.
    pub fn total(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Which adapters open requests take.
#[derive(Debug, Default)]
pub struct AdapterUse {
    /// Of requests that have a token.
    pub running: BTreeSet<AdapterId>,
    /// Of requests that have none yet.
    pub waiting: BTreeSet<AdapterId>,
}

/// Requests accepted and not ended.
#[derive(Debug, Clone, Copy)]
pub struct OpenRequests {
    /// Those that run.
    pub running: u64,
    /// Those that do not.
    pub waiting: u64,
}

impl OpenRequests {
    /// Of so many. A failing engine may still count some as running that it has given up.
    pub fn new(count: usize, snapshot: &Snapshot) -> Self {
        let running = (count as u64).min(u64::from(snapshot.running));
        OpenRequests { running, waiting: count as u64 - running }
    }
}

/// What the server counts beside the engine.
#[derive(Debug)]
pub struct Tally {
    panics: Panics,
    log_dropped: LogDropped,
    accepted: u64,
    rejected: u64,
    ended: [u64; Outcome::ALL.len()],
    first_token: Histogram,
    inter_token: Histogram,
    end_to_end: Histogram,
    queue: Histogram,
    inference: Histogram,
    prefill: Histogram,
    decode: Histogram,
    time_per_token: Histogram,
    prompt_tokens: Histogram,
    computed_prompt_tokens: Histogram,
    generation_tokens: Histogram,
    longest_tokens: Histogram,
    max_tokens: Histogram,
    samples: Histogram,
    preemptions: Histogram,
    step_tokens: Histogram,
}

impl Tally {
    /// Nothing counted yet but `panics` and `log_dropped`; `max_model_len` bounds the buckets of lengths.
    pub fn new(max_model_len: u32, panics: Panics, log_dropped: LogDropped) -> Self {
        let lengths = || Histogram::new(length_buckets(max_model_len));
        Tally {
            panics,
            log_dropped,
            accepted: 0,
            rejected: 0,
            ended: [0; Outcome::ALL.len()],
            first_token: Histogram::new(FIRST_TOKEN_BUCKETS),
            inter_token: Histogram::new(INTER_TOKEN_BUCKETS),
            end_to_end: Histogram::new(REQUEST_BUCKETS),
            queue: Histogram::new(REQUEST_BUCKETS),
            inference: Histogram::new(REQUEST_BUCKETS),
            prefill: Histogram::new(REQUEST_BUCKETS),
            decode: Histogram::new(REQUEST_BUCKETS),
            time_per_token: Histogram::new(INTER_TOKEN_BUCKETS),
            prompt_tokens: lengths(),
            computed_prompt_tokens: lengths(),
            generation_tokens: lengths(),
            longest_tokens: lengths(),
            max_tokens: lengths(),
            samples: Histogram::new(SAMPLES_BUCKETS),
            preemptions: Histogram::new(PREEMPTION_BUCKETS),
            step_tokens: Histogram::new(STEP_BUCKETS),
        }
    }

    /// A request of at most `max_tokens` generated tokens was accepted.
    pub fn accepted(&mut self, max_tokens: u32) {
        self.accepted += 1;
        self.max_tokens.observe(f64::from(max_tokens));
    }

    /// So many answers were asked for to a prompt that was accepted.
    pub fn samples(&self, samples: usize) {
        self.samples.observe(samples as f64);
    }

    /// Every answer to a prompt has come, and the longest has so many tokens.
    pub fn longest(&self, tokens: u32) {
        self.longest_tokens.observe(f64::from(tokens));
    }

    /// A step computed so many positions.
    pub fn step(&self, tokens: u32) {
        self.step_tokens.observe(f64::from(tokens));
    }

    /// A request was refused because the queue was full.
    pub fn rejected(&mut self) {
        self.rejected += 1;
    }

    /// A request got its first token so long after it was accepted.
    pub fn first_token(&self, waited: Duration) {
        self.first_token.observe(waited.as_secs_f64());
    }

    /// A request got one more token so long after the one before.
    pub fn next_token(&self, waited: Duration) {
        self.inter_token.observe(waited.as_secs_f64());
    }

    /// A request ended; `times` are missing when the engine failed it.
    pub fn ended(&mut self, outcome: Outcome, times: Option<&RequestTimes>) {
        self.ended[outcome as usize] += 1;
        let Some(times) = times else { return };
        let seconds = |from: engine::Nanos, to: engine::Nanos| to.since(from).as_secs_f64();
        self.end_to_end.observe(seconds(times.arrived, times.finished));
        self.prompt_tokens.observe(f64::from(times.prompt_tokens));
        let computed = times.prompt_tokens - times.cached_prompt_tokens;
        self.computed_prompt_tokens.observe(f64::from(computed));
        self.generation_tokens.observe(f64::from(times.generated_tokens));
        self.preemptions.observe(f64::from(times.preemptions));
        let Some(scheduled) = times.scheduled else { return };
        self.queue.observe(seconds(times.arrived, scheduled));
        self.inference.observe(seconds(scheduled, times.finished));
        let Some(first_token) = times.first_token else { return };
        self.prefill.observe(seconds(scheduled, first_token));
        let decode = seconds(first_token, times.finished);
        self.decode.observe(decode);
        if 1 < times.generated_tokens {
            self.time_per_token.observe(decode / f64::from(times.generated_tokens - 1));
        }
    }

    /// Writes everything, with the engine's `snapshot`, the `open` requests, the `adapters` in use and what
    /// `info` says of them and of the cache.
    pub fn encode(
        &self,
        snapshot: &Snapshot,
        open: OpenRequests,
        adapters: &AdapterUse,
        info: &ServerInfo,
        encoder: DescriptorEncoder,
    ) -> std::fmt::Result {
        let mut page = Page(encoder);
        encode_cache_config(info, &mut page)?;
        encode_adapters(adapters, info, &mut page)?;
        encode_gauges(snapshot, open, &mut page)?;
        self.encode_counters(snapshot, &mut page)?;
        encode_drafts(info.num_speculative_tokens, snapshot, &mut page)?;
        self.encode_histograms(&mut page)?;
        self.encode_older_names(snapshot, &mut page)
    }

    fn encode_counters(&self, snapshot: &Snapshot, page: &mut Page<'_>) -> std::fmt::Result {
        let counters = [
            ("vllm:prompt_tokens", "Prompt tokens computed.", snapshot.prompt_tokens_total),
            ("vllm:generation_tokens", "Tokens generated.", snapshot.generation_tokens_total),
            ("vllm:num_preemptions", "Preemptions by the engine.", snapshot.preemptions_total),
            (
                "vllm:prefix_cache_queries",
                "Tokens looked up in the prefix cache.",
                snapshot.prefix_queries_total,
            ),
            (
                "vllm:prefix_cache_hits",
                "Tokens found in the prefix cache.",
                snapshot.prefix_hits_total,
            ),
            (
                "vllm:prompt_tokens_cached",
                "Prompt tokens found in the prefix cache.",
                snapshot.prefix_hits_total,
            ),
            (
                "vllm:corrupted_requests",
                "Requests that failed alone: a logit was not a finite number.",
                snapshot.rows_faulty_total,
            ),
            ("millrace:requests_accepted", "Requests that the engine took.", self.accepted),
            ("millrace:panics", "Requests whose code panicked.", self.panics.total()),
            (
                "millrace:log_dropped",
                "Lines of the log that nobody took in time.",
                self.log_dropped.total(),
            ),
        ];
        for (name, help, value) in counters {
            page.counter(name, help, value)?;
        }
        let help = "Prompt tokens, by where their keys and values came from.";
        let sources = [
            (("source", "local_compute"), snapshot.prompt_tokens_total),
            (("source", "local_cache_hit"), snapshot.prefix_hits_total),
        ];
        page.counters("vllm:prompt_tokens_by_source", help, sources)?;
        let help = "Requests refused at the door.";
        let rejected = [(("reason", "max_num_queued_reqs"), self.rejected)];
        page.counters("vllm:admission_rejections", help, rejected)?;
        let ended = Outcome::ALL.map(|o| (("finished_reason", o.as_str()), self.ended[o as usize]));
        page.counters("vllm:request_success", "Requests that ended, by reason.", ended)
    }

    fn encode_histograms(&self, page: &mut Page<'_>) -> std::fmt::Result {
        page.histograms([
            ("vllm:time_to_first_token_seconds", "Time to first token.", &self.first_token),
            ("vllm:inter_token_latency_seconds", "Time between tokens.", &self.inter_token),
            (
                "vllm:request_time_per_output_token_seconds",
                "Mean time between the tokens of a request.",
                &self.time_per_token,
            ),
            ("vllm:e2e_request_latency_seconds", "Time from arrival to end.", &self.end_to_end),
            ("vllm:request_queue_time_seconds", "Time in the queue.", &self.queue),
            (
                "vllm:request_inference_time_seconds",
                "Time from first step to end.",
                &self.inference,
            ),
            ("vllm:request_prefill_time_seconds", "First step to first token.", &self.prefill),
            ("vllm:request_decode_time_seconds", "First token to end.", &self.decode),
        ])?;
        page.histograms([
            ("vllm:request_prompt_tokens", "Tokens of the prompt.", &self.prompt_tokens),
            (
                "vllm:request_prefill_kv_computed_tokens",
                "Tokens of the prompt that were not in the prefix cache.",
                &self.computed_prompt_tokens,
            ),
            ("vllm:request_generation_tokens", "Tokens generated.", &self.generation_tokens),
            (
                "vllm:request_max_num_generation_tokens",
                "Tokens of the longest answer to a prompt.",
                &self.longest_tokens,
            ),
            ("vllm:request_params_max_tokens", "Most tokens asked for.", &self.max_tokens),
            ("vllm:request_params_n", "Answers asked for to a prompt.", &self.samples),
            ("vllm:request_num_preemptions", "Preemptions of a request.", &self.preemptions),
            ("vllm:iteration_tokens_total", "Positions computed in a step.", &self.step_tokens),
        ])
    }

    /// The same again under the names of vLLM's engine before V1: production-stack and SMG scrape
    /// these, and older dashboards show them.
    fn encode_older_names(&self, snapshot: &Snapshot, page: &mut Page<'_>) -> std::fmt::Result {
        let usage = snapshot.kv_usage();
        page.gauge("vllm:gpu_cache_usage_perc", "Older name of kv_cache_usage_perc.", usage)?;
        let (queries, hits) = (snapshot.prefix_queries_total, snapshot.prefix_hits_total);
        let help = "Share of the tokens looked up in the prefix cache that were found.";
        page.gauge("vllm:gpu_prefix_cache_hit_rate", help, share(hits, queries))?;
        let help = "Older name of prefix_cache_queries.";
        page.counter("vllm:gpu_prefix_cache_queries", help, queries)?;
        let help = "Older name of prefix_cache_hits.";
        page.counter("vllm:gpu_prefix_cache_hits", help, hits)?;
        let help = "Older name of inter_token_latency_seconds.";
        page.histograms([("vllm:time_per_output_token_seconds", help, &self.inter_token)])
    }
}

fn encode_gauges(snapshot: &Snapshot, open: OpenRequests, page: &mut Page<'_>) -> std::fmt::Result {
    let (running, waiting) = (open.running as f64, open.waiting as f64);
    page.gauge("vllm:num_requests_running", "Requests in the execution batch.", running)?;
    page.gauge("vllm:num_requests_waiting", "Requests waiting to be processed.", waiting)?;
    // Nothing is put off for another reason, as vLLM does with adapters and remote caches.
    let help = "Requests waiting to be processed, by reason.";
    let capacity = [(("reason", "capacity"), waiting)];
    page.gauges("vllm:num_requests_waiting_by_reason", help, capacity)?;
    let usage = snapshot.kv_usage();
    page.gauge("vllm:kv_cache_usage_perc", "KV blocks in use, 1 means all.", usage)
}

/// How the KV cache was set up, with the names of vLLM's `CacheConfig`.
fn encode_cache_config(info: &ServerInfo, page: &mut Page<'_>) -> std::fmt::Result {
    let python_bool = if info.prefix_caching { "True" } else { "False" };
    let utilization = info.memory_utilization.map_or_else(|| "None".into(), |u| u.to_string());
    let labels = [
        ("block_size", info.block_size.to_string()),
        ("cache_dtype", info.kv_cache_dtype.clone()),
        ("enable_prefix_caching", python_bool.to_owned()),
        ("gpu_memory_utilization", utilization),
        ("kv_cache_max_concurrency", info.max_concurrency.to_string()),
        ("kv_cache_memory_bytes", info.kv_cache_memory_bytes.to_string()),
        ("kv_cache_size_tokens", info.kv_cache_tokens.to_string()),
        ("num_gpu_blocks", info.block_count.to_string()),
    ];
    page.info("vllm:cache_config_info", "How the KV cache was set up; always 1.", &labels, 1)
}

/// The adapters of open requests, as vLLM tells them to what routes requests by them; like there nothing
/// where there are no adapters. All of them are kept ready.
fn encode_adapters(
    adapters: &AdapterUse,
    info: &ServerInfo,
    page: &mut Page<'_>,
) -> std::fmt::Result {
    if info.adapters.is_empty() {
        return Ok(());
    }
    let names = |ids: &BTreeSet<AdapterId>| {
        let names: Vec<&str> = ids.iter().map(|id| info.name_of(Some(*id))).collect();
        names.join(",")
    };
    let labels = [
        ("max_lora", info.adapters.len().to_string()),
        ("waiting_lora_adapters", names(&adapters.waiting)),
        ("running_lora_adapters", names(&adapters.running)),
    ];
    let help = "Adapters of the requests that have a token and of those that have none; the time.";
    page.info("vllm:lora_requests_info", help, &labels, unix_time())
}

/// What became of drafts of up to so many tokens; as vLLM, nothing where nothing is guessed.
fn encode_drafts(tokens_max: u32, snapshot: &Snapshot, page: &mut Page<'_>) -> std::fmt::Result {
    if tokens_max == 0 {
        return Ok(());
    }
    let by_place = &snapshot.accepted_draft_tokens_total[..tokens_max as usize];
    let counters = [
        ("vllm:spec_decode_num_drafts", "Drafts.", snapshot.drafts_total),
        ("vllm:spec_decode_num_draft_tokens", "Tokens of drafts.", snapshot.draft_tokens_total),
        (
            "vllm:spec_decode_num_accepted_tokens",
            "Tokens of drafts that were accepted.",
            by_place.iter().sum(),
        ),
    ];
    for (name, help, value) in counters {
        page.counter(name, help, value)?;
    }
    let help = "Tokens of drafts that were accepted, by their place in the draft.";
    let places = PLACES.iter().map(|place| ("position", *place)).zip(by_place.iter().copied());
    page.counters("vllm:spec_decode_num_accepted_tokens_per_pos", help, places)
}

/// `part` of `whole`; 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// 1, 2, 5, 10, 20, 50 … up to `max_model_len`, as vLLM has them.
fn length_buckets(max_model_len: u32) -> Vec<f64> {
    let series = (0..10).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
    series.take_while(|bound| *bound <= u64::from(max_model_len)).map(|b| b as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_buckets_end_at_the_models_length() {
        assert_eq!(length_buckets(30), [1.0, 2.0, 5.0, 10.0, 20.0]);
    }
}
