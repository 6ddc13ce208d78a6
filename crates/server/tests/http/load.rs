//! What routers and proxies are told about the load.

use http::Method;
use serde_json::{Value, json};

use crate::client::{Reply, request, send};
use crate::harness::{Server, Setup};

/// One request runs and one waits, both for blocks of 16 tokens.
async fn loaded() -> (Server, crate::device::Gate) {
    let mut setup = Setup::new();
    setup.engine.max_num_seqs = 1;
    let (server, gate) = setup.start_gated().await;
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 900, "n": 2}).to_string();
    let request = request(Method::POST, "/v1/completions", &body);
    tokio::spawn(send(server.address, request));
    gate.allow(1);
    server.metrics_until(|metrics| metrics.value("vllm:num_requests_running", "") == 1.0).await;
    (server, gate)
}

async fn ask(server: &Server, path: &str, format: &str) -> Reply {
    let mut request = request(Method::GET, path, "");
    request.headers_mut().insert("endpoint-load-metrics-format", format.parse().unwrap());
    send(server.address, request).await.unwrap().reply().await
}

#[tokio::test]
async fn v1_loads_has_sglangs_names_and_agrees_with_the_metrics() {
    let (server, _gate) = loaded().await;
    let loads = server.get("/v1/loads?include=core,disagg,queues,memory").await.json();
    let load = &loads["loads"][0];
    for (field, value) in [
        ("dp_rank", json!(0)),
        ("num_running_reqs", json!(1)),
        ("num_waiting_reqs", json!(1)),
        ("num_total_reqs", json!(2)),
        ("max_running_requests", json!(1)),
        ("num_used_tokens", json!(16)),
        ("max_total_num_tokens", json!(16 * 1024)),
        ("token_usage", json!(1.0 / 1024.0)),
        ("utilization", json!(1.0)),
        ("queues", json!({"waiting": 1})),
    ] {
        assert_eq!(load[field], value, "{field}");
    }
    assert_eq!(load["memory"]["token_capacity"], 16 * 1024);
    assert_eq!((&loads["dp_rank_count"], &loads["version"]), (&json!(1), &json!("1.2.3")));
    assert!(1_700_000_000 < loads["timestamp"].as_u64().unwrap());
    let aggregate = &loads["aggregate"];
    assert_eq!(
        (&aggregate["total_running_reqs"], &aggregate["total_reqs"]),
        (&json!(1), &json!(2))
    );
}

#[tokio::test]
async fn a_reply_reports_the_load_in_the_form_that_was_asked_for() {
    let (server, _gate) = loaded().await;
    let usage = 1.0 / 1024.0;
    let text = format!(
        "TEXT named_metrics.kv_cache_usage_perc={usage}, named_metrics.num_requests_waiting=1.0"
    );
    for format in ["TEXT", "text"] {
        assert_eq!(ask(&server, "/version", format).await.headers["endpoint-load-metrics"], text);
    }
    // Refusals tell it too: they are when a proxy wants to know.
    for path in ["/version", "/nothing"] {
        let reply = ask(&server, path, "Json").await;
        let header = reply.headers["endpoint-load-metrics"].to_str().unwrap();
        let report: Value = serde_json::from_str(header.strip_prefix("JSON ").unwrap()).unwrap();
        let named = json!({"kv_cache_usage_perc": usage, "num_requests_waiting": 1.0});
        assert_eq!(report, json!({ "named_metrics": named }));
    }
}

#[tokio::test]
async fn a_reply_says_nothing_about_the_load_unasked_or_in_an_unknown_form() {
    let server = Setup::new().start().await;
    assert!(!server.get("/version").await.headers.contains_key("endpoint-load-metrics"));
    for format in ["BIN", "", "TEXT,JSON"] {
        let reply = ask(&server, "/version", format).await;
        assert!(!reply.headers.contains_key("endpoint-load-metrics"), "{format}");
    }
}
