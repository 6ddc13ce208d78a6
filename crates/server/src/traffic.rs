//! Requests and replies as HTTP sees them, counted under the names that dashboards of web servers
//! know.
//!
//! Labels come from fixed sets: the routes that there are, three methods, five classes of status.
//! What a client sends never becomes a label.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Method, Request, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use crate::metrics::Page;

/// Routes that are asked all the time by those who watch: counting them would hide the others.
const UNCOUNTED: [&str; 10] = [
    "/health",
    "/ready",
    "/ping",
    "/live",
    "/metrics",
    "/version",
    "/server_info",
    "/load",
    "/get_load",
    "/v1/loads",
];
/// The label of what no route matched.
const NO_ROUTE: &str = "none";
/// In seconds.
const BUCKETS: [f64; 15] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0];

/// The counts. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Mutex<Series>>);

#[derive(Debug, Default)]
struct Series {
    /// By route, method and status.
    requests: BTreeMap<(String, &'static str, &'static str), u64>,
    /// From a request's head to its reply's, by route and method.
    durations: BTreeMap<(String, &'static str), Histogram>,
}

/// Counts a request when the head of its reply is there: for a stream, with its first token.
pub async fn count(State(traffic): State<Traffic>, request: Request<Body>, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = method_label(request.method());
    let began = Instant::now();
    let response = next.run(request).await;
    let route = route.unwrap_or_else(|| NO_ROUTE.to_owned());
    if !UNCOUNTED.contains(&route.as_str()) {
        traffic.lock().add(route, method, response.status(), began.elapsed());
    }
    response
}

impl Traffic {
    fn lock(&self) -> MutexGuard<'_, Series> {
        self.0.lock().expect("nothing panics while it holds the traffic's lock")
    }
}

impl Series {
    fn add(&mut self, route: String, method: &'static str, status: StatusCode, took: Duration) {
        *self.requests.entry((route.clone(), method, status_label(status))).or_default() += 1;
        let histogram =
            self.durations.entry((route, method)).or_insert_with(|| Histogram::new(BUCKETS));
        histogram.observe(took.as_secs_f64());
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        _ => "other",
    }
}

fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

impl Collector for Traffic {
    fn encode(&self, encoder: DescriptorEncoder) -> std::fmt::Result {
        let series = self.lock();
        let mut page = Page(encoder);
        let help = "HTTP requests answered, by route, method and class of status.";
        let mut metric = page.metric("http_requests", help, MetricType::Counter)?;
        for ((route, method, status), count) in &series.requests {
            let labels = [("handler", route.as_str()), ("method", method), ("status", status)];
            ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
        }
        let help = "From the head of a request to that of its reply.";
        let name = "http_request_duration_seconds";
        let mut metric = page.metric(name, help, MetricType::Histogram)?;
        for ((route, method), histogram) in &series.durations {
            let labels = [("handler", route.as_str()), ("method", method)];
            histogram.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
