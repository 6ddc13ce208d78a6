//! Who is served first.

use engine::SchedulingPolicy;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::client::{request, send};
use crate::harness::{Server, Setup};

const COMPLETIONS: &str = "/v1/completions";

/// Sends a request in the background and waits until `waiting` requests wait; `answered` gets its
/// name when its reply has come.
async fn queue(server: &Server, body: Value, name: &str, answered: &UnboundedSender<String>) {
    let waiting = server.metrics().await.value("vllm:num_requests_waiting", "");
    let (address, name, answered) = (server.address, name.to_owned(), answered.clone());
    tokio::spawn(async move {
        let request = request(http::Method::POST, COMPLETIONS, &body.to_string());
        assert_eq!(send(address, request).await.unwrap().reply().await.status, 200);
        answered.send(name).unwrap();
    });
    let queued = waiting + 1.0;
    server.metrics_until(|metrics| metrics.value("vllm:num_requests_waiting", "") == queued).await;
}

#[tokio::test]
async fn a_client_that_floods_the_server_keeps_nobody_waiting() {
    let mut setup = Setup::new();
    setup.engine.max_num_seqs = 4;
    setup.engine.max_num_queued_reqs = 8;
    setup.engine.scheduling_policy = SchedulingPolicy::Fair;
    let (server, gate) = setup.start_gated().await;
    gate.allow(1);
    let body = |user: &str| json!({"prompt": "ab", "max_tokens": 50, "user": user});
    let mut flood = server.stream(COMPLETIONS, &body("flood")).await;
    let (sender, mut answered) = unbounded_channel();
    for _ in 0..5 {
        queue(&server, body("flood"), "flood", &sender).await;
    }
    let refused = server.post(COMPLETIONS, &body("flood")).await;
    assert_eq!((refused.status.as_u16(), refused.error("code")), (429, json!("share_full")));
    assert_eq!(refused.headers["retry-after"], "1");
    gate.allow(2);
    let running = "vllm:num_requests_running";
    server.metrics_until(|metrics| metrics.value(running, "") == 4.0).await;
    // All places are taken, and many wait; of the newcomer two get one nevertheless, at once.
    let quiet = json!({"prompt": "ab", "max_tokens": 1, "user": "quiet"});
    queue(&server, quiet.clone(), "quiet", &sender).await;
    queue(&server, quiet, "quiet", &sender).await;
    gate.allow(2);
    assert_eq!(answered.recv().await.unwrap(), "quiet");
    assert_eq!(answered.recv().await.unwrap(), "quiet");
    drop(gate);
    flood.events().await;
    assert_eq!(server.idle().await.ended("length"), 8.0);
}

#[tokio::test]
async fn the_lower_priority_goes_first() {
    let mut setup = Setup::new();
    setup.engine.max_num_seqs = 1;
    setup.engine.scheduling_policy = SchedulingPolicy::Priority;
    let (server, gate) = setup.start_gated().await;
    gate.allow(1);
    let body = |priority: i64| json!({"prompt": "ab", "max_tokens": 2, "priority": priority});
    let mut first = server.stream(COMPLETIONS, &body(0)).await;
    let (sender, mut answered) = unbounded_channel();
    queue(&server, body(i64::from(i32::MAX)), "high", &sender).await;
    queue(&server, body(i64::from(i32::MIN)), "low", &sender).await;
    drop(gate);
    first.events().await;
    assert_eq!(answered.recv().await.unwrap(), "low");
    assert_eq!(answered.recv().await.unwrap(), "high");
    let beyond = server.post(COMPLETIONS, &body(1 << 31)).await;
    assert_eq!((beyond.status.as_u16(), beyond.error("param")), (400, json!("priority")));
}
