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
