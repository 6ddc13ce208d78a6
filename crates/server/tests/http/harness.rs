//! A whole server on a free port, over the scripted device.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, EngineConfig, KvGroups, SchedulingPolicy, Speculation, SystemClock, Worker};
use http::Method;
use sampling::{Pooling, SamplingRequest};
use serde_json::Value;
use server::config::AdapterInfo;
use server::guard::Guard;
use server::keys::Keys;
use server::metrics::LogDropped;
use server::shutdown::Trigger;
use server::{Ending, Parts, ServerConfig, ServerInfo};
use text::Tokenizer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::client::{Open, Reply, request, send};
use crate::device::{Gate, Script};
use crate::vocabulary::tokenizer;

/// Scrapes before a test gives up; some seconds.
const SCRAPES_MAX: usize = 50_000;

/// What a test may change.
pub struct Setup {
    pub engine: EngineConfig,
    pub server: ServerConfig,
    pub tokenizer: Tokenizer,
    /// The chat template, if there is one.
    pub template: Option<&'static str>,
}

/// Contents one after the other, then `>`.
pub const PLAIN: &str = "{% for m in messages %}{{ m.content }}{% endfor %}\
                         {% if add_generation_prompt %}>{% endif %}";

impl Setup {
    /// Room for 8 running and 8 waiting requests of at most 1,000 tokens.
    pub fn new() -> Self {
        Setup {
            engine: EngineConfig {
                block_size: 16,
                block_count: 1024,
                kv_groups: KvGroups::ONE,
                max_model_len: 1000,
                max_num_seqs: 8,
                max_num_batched_tokens: 256,
                max_num_queued_reqs: 8,
                prefix_cache: true,
                scheduling_policy: SchedulingPolicy::Fcfs,
                speculation: Speculation::OFF,
            },
            server: ServerConfig {
                keys: Keys::default(),
                guard: Guard::default(),
                tls: None,
                web_page: true,
                pooling: Pooling::Mean,
                sampling: SamplingRequest::default(),
                samples_max: 16,
                connections_max: 1000,
                stall_limit: Duration::from_secs(600),
                iteration_timeout: Duration::from_secs(3600),
                shutdown_timeout: Duration::from_secs(600),
            },
            tokenizer: tokenizer(),
            template: Some(PLAIN),
        }
    }

    /// A server that asks for one of the keys on these lines.
    pub fn with_keys(lines: &str) -> Self {
        let mut setup = Setup::new();
        setup.server.keys.add_lines(lines).expect("good keys");
        setup
    }

    /// Starts the server over a device that runs freely.
    pub async fn start(self) -> Server {
        self.start_over(Script::free()).await
    }

    /// Starts the server over a device that waits for the gate before each step.
    pub async fn start_gated(self) -> (Server, Gate) {
        let (script, gate) = Script::gated();
        (self.start_over(script).await, gate)
    }

    async fn start_over(self, script: Script) -> Server {
        let tokenizer = Arc::new(self.tokenizer);
        let compile = |source| text::ChatTemplate::new(source, &tokenizer).expect("valid");
        let template = self.template.map(compile);
        let (sink, reports) = server::channel();
        let engine = Engine::new(self.engine, script);
        let (handle, worker) = engine::spawn(engine, SystemClock::new(), sink);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (trigger, shutdown) = server::shutdown::channel();
        let info = info(&self.engine);
        let config = self.server;
        let log_dropped = LogDropped::default();
        let parts = Parts { config, info, handle, reports, tokenizer, template, log_dropped };
        let task = tokio::spawn(server::serve(listener, parts, shutdown));
        Server { address, trigger, task, worker }
    }
}

fn info(engine: &EngineConfig) -> ServerInfo {
    ServerInfo {
        version: "1.2.3".to_owned(),
        model: "tiny".to_owned(),
        root: "script".to_owned(),
        adapters: ["sql", "poem"]
            .map(|name| AdapterInfo { name: name.to_owned(), root: format!("adapters/{name}") })
            .into(),
        device: "a script".to_owned(),
        memory_utilization: None,
        kv_cache_memory_bytes: 1,
        max_num_seqs: engine.max_num_seqs,
        max_model_len: engine.max_model_len,
        embedding_len: 3,
        max_num_batched_tokens: engine.max_num_batched_tokens,
        num_speculative_tokens: engine.speculation.draft_tokens_max,
        block_size: engine.block_size,
        block_count: engine.block_count,
        kv_cache_dtype: "bf16".to_owned(),
        kv_cache_tokens: u64::from(engine.block_size) * u64::from(engine.block_count),
        max_concurrency: 1.0,
        concurrency_line: String::new(),
        prefix_caching: engine.prefix_cache,
        threads: 1,
    }
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub trigger: Trigger,
    pub task: JoinHandle<Ending>,
    pub worker: Worker,
}

impl Server {
    /// Sends a request and waits for the head of its reply.
    pub async fn open(&self, method: Method, path: &str, body: &str) -> Open {
        send(self.address, request(method, path, body)).await.expect("a reply")
    }

    /// A whole reply to a GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.open(Method::GET, path, "").await.reply().await
    }

    /// A whole reply to a POST.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_raw(path, &body.to_string()).await
    }

    /// A whole reply to a POST of any bytes.
    pub async fn post_raw(&self, path: &str, body: &str) -> Reply {
        self.open(Method::POST, path, body).await.reply().await
    }

    /// A stream that has begun.
    pub async fn stream(&self, path: &str, body: &Value) -> Open {
        let mut body = body.clone();
        body["stream"] = true.into();
        let open = self.open(Method::POST, path, &body.to_string()).await;
        assert_eq!(open.response.status(), 200);
        assert_eq!(open.response.headers()["content-type"], "text/event-stream; charset=utf-8");
        open
    }

    /// The scrape of `/metrics`, checked for consistency.
    pub async fn metrics(&self) -> Metrics {
        let metrics = Metrics(self.get("/metrics").await.body);
        let ended: f64 =
            ["stop", "length", "abort", "no_token", "error"].map(|r| metrics.ended(r)).iter().sum();
        let open = metrics.value("vllm:num_requests_running", "")
            + metrics.value("vllm:num_requests_waiting", "");
        let accepted = metrics.value("millrace:requests_accepted_total", "");
        assert_eq!(accepted, ended + open, "{}", metrics.0);
        metrics
    }

    /// Scrapes until `done` holds. The scrapes take turns with the server, so no pause is needed.
    pub async fn metrics_until(&self, done: impl Fn(&Metrics) -> bool) -> Metrics {
        for _ in 0..SCRAPES_MAX {
            let metrics = self.metrics().await;
            if done(&metrics) {
                return metrics;
            }
        }
        panic!("still not so after {SCRAPES_MAX} scrapes: {}", self.metrics().await.0);
    }

    /// Allows one step after each scrape until `done` holds: the engine cannot run ahead of the
    /// server.
    pub async fn step_until(&self, gate: &Gate, done: impl Fn(&Metrics) -> bool) -> Metrics {
        self.metrics_until(|metrics| {
            gate.allow(1);
            done(metrics)
        })
        .await
    }

    /// Scrapes until nothing runs, waits or holds blocks.
    pub async fn idle(&self) -> Metrics {
        self.metrics_until(|metrics| {
            ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"]
                .iter()
                .all(|gauge| metrics.value(gauge, "") == 0.0)
        })
        .await
    }

    /// Drains the server and waits for its end.
    pub async fn end(self) -> Ending {
        self.trigger.drain();
        self.task.await.expect("the server does not panic")
    }
}

/// A page of metrics.
#[derive(Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// The value of the series `name` whose further labels are `labels`.
    pub fn value(&self, name: &str, labels: &str) -> f64 {
        let more = if labels.is_empty() { String::new() } else { format!(",{labels}") };
        let start = format!("{name}{{model_name=\"tiny\",engine=\"0\"{more}}} ");
        let line = self.0.lines().find_map(|line| line.strip_prefix(&start));
        let line = line.unwrap_or_else(|| panic!("no {start} in {}", self.0));
        line.parse().unwrap_or_else(|e| panic!("{e} in {line}"))
    }

    /// Requests that ended for `reason`.
    pub fn ended(&self, reason: &str) -> f64 {
        self.value("vllm:request_success_total", &format!("finished_reason=\"{reason}\""))
    }
}
