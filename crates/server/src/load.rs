//! How loaded the server is, in the forms that routers and proxies read.
//!
//! | who | reads |
//! |---|---|
//! | vLLM's own clients | `GET /load` |
//! | vllm-router | `GET /get_load` |
//! | SMG, as of SGLang's servers | `GET /v1/loads` |
//! | proxies that know ORCA (xDS' open request cost aggregation) | the header [`REPORT`] of any reply |

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Request};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::keys::Caller;
use crate::metrics::Progress;
use crate::unix_time::unix_time;

/// Asks for [`REPORT`]: `TEXT` or `JSON`, in any case; other values ask for nothing.
const REPORT_FORMAT: HeaderName = HeaderName::from_static("endpoint-load-metrics-format");
/// The load when the reply began.
const REPORT: HeaderName = HeaderName::from_static("endpoint-load-metrics");

/// `GET /load`: requests accepted and not ended, with vLLM's name.
pub async fn load(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "server_load": app.dispatch.open() }))
}

/// `GET /get_load`: the same, with vllm-router's name.
pub async fn get_load(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "load": app.dispatch.open() }))
}

/// The body of `GET /v1/loads`: one entry, since there is one engine.
#[derive(Debug, Serialize)]
pub struct Loads {
    /// Unix time in seconds.
    timestamp: u64,
    version: String,
    dp_rank_count: u32,
    loads: [EngineLoad; 1],
    aggregate: Aggregate,
}

/// The load of one engine, with SGLang's names.
#[derive(Debug, Serialize)]
struct EngineLoad {
    dp_rank: u32,
    num_running_reqs: u64,
    num_waiting_reqs: u64,
    num_total_reqs: u64,
    max_running_requests: u32,
    /// Tokens that the blocks held by requests have room for.
    num_used_tokens: u64,
    max_total_num_tokens: u64,
    /// Share of the KV blocks in use, 0 to 1.
    token_usage: f64,
    /// Share of the tokens looked up in the prefix cache since the start that were found.
    cache_hit_rate: f64,
    /// Running requests as a share of the most that may run.
    utilization: f64,
    memory: MemoryLoad,
    queues: QueueLoad,
}

#[derive(Debug, Serialize)]
struct MemoryLoad {
    /// GiB.
    kv_cache_gb: f64,
    token_capacity: u64,
}

#[derive(Debug, Serialize)]
struct QueueLoad {
    waiting: u64,
}

/// Sums over all engines.
#[derive(Debug, Serialize)]
struct Aggregate {
    total_running_reqs: u64,
    total_waiting_reqs: u64,
    total_reqs: u64,
    avg_token_usage: f64,
    avg_utilization: f64,
}

/// `GET /v1/loads`. All sections come, whatever `include` asks for.
pub async fn loads(State(app): State<Arc<App>>) -> Json<Loads> {
    let Progress { snapshot, running, waiting } = app.dispatch.progress();
    let info = &app.info;
    let capacity = info.kv_cache_tokens;
    let used = u128::from(capacity) * u128::from(snapshot.blocks_used);
    let load = EngineLoad {
        dp_rank: 0,
        num_running_reqs: running,
        num_waiting_reqs: waiting,
        num_total_reqs: running + waiting,
        max_running_requests: info.max_num_seqs,
        num_used_tokens: (used / u128::from(snapshot.blocks_total.max(1))) as u64,
        max_total_num_tokens: capacity,
        token_usage: snapshot.kv_usage(),
        cache_hit_rate: snapshot.prefix_hit_rate(),
        utilization: running as f64 / f64::from(info.max_num_seqs),
        memory: MemoryLoad {
            kv_cache_gb: info.kv_cache_memory_bytes as f64 / f64::from(1 << 30),
            token_capacity: capacity,
        },
        queues: QueueLoad { waiting },
    };
    let aggregate = Aggregate {
        total_running_reqs: running,
        total_waiting_reqs: waiting,
        total_reqs: running + waiting,
        avg_token_usage: load.token_usage,
        avg_utilization: load.utilization,
    };
    Json(Loads {
        timestamp: unix_time(),
        version: info.version.clone(),
        dp_rank_count: 1,
        loads: [load],
        aggregate,
    })
}

/// Adds [`REPORT`] to the reply of a request that asks for it, and that has shown a key where keys are
/// asked for: probes are answered without one, but are not told the load.
pub async fn report(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let format = request.headers().get(REPORT_FORMAT).and_then(ReportFormat::of);
    let has_key = request.extensions().get::<Caller>().is_some();
    let may_know = has_key || !app.config.keys.are_asked_for();
    let mut response = next.run(request).await;
    if let (Some(format), true) = (format, may_know) {
        response.headers_mut().insert(REPORT, format.write(&app.dispatch.progress()));
    }
    response
}

/// How the client wants the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReportFormat {
    Text,
    Json,
}

impl ReportFormat {
    fn of(asked: &HeaderValue) -> Option<Self> {
        let asked = asked.as_bytes();
        if asked.eq_ignore_ascii_case(b"TEXT") {
            Some(Self::Text)
        } else if asked.eq_ignore_ascii_case(b"JSON") {
            Some(Self::Json)
        } else {
            None
        }
    }

    fn write(self, progress: &Progress) -> HeaderValue {
        let (usage, waiting) = (progress.snapshot.kv_usage(), progress.waiting as f64);
        let text = match self {
            Self::Text => format!(
                "TEXT named_metrics.kv_cache_usage_perc={usage:?}, \
                 named_metrics.num_requests_waiting={waiting:?}"
            ),
            Self::Json => {
                let named =
                    json!({ "kv_cache_usage_perc": usage, "num_requests_waiting": waiting });
                format!("JSON {}", json!({ "named_metrics": named }))
            }
        };
        HeaderValue::from_str(&text).expect("figures and names are visible ASCII characters")
    }
}
