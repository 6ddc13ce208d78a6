//! Who is served first.

use engine::SchedulingPolicy;
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::client::{request, request_with, send};
use crate::harness::{Server, Setup};

const COMPLETIONS: &str = "/v1/completions";

/// Sends a request in the background and waits until `waiting` requests wait; `answered` gets its
/// name when its reply has come.
async fn queue(server: &Server, body: Value, name: &str, answered: &UnboundedSender<String>) {
    let request = request(Method::POST, COMPLETIONS, &body.to_string());
    queue_request(server, request, name, answered).await;
}

/// The same of any request.
async fn queue_request(
    server: &Server,
    request: Request<Full<Bytes>>,
    name: &str,
    answered: &UnboundedSender<String>,
) {
    let waiting = server.metrics().await.value("vllm:num_requests_waiting", "");
    let (address, name, answered) = (server.address, name.to_owned(), answered.clone());
    tokio::spawn(async move {
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

/// Asks how many requests the server has until there are `count`.
async fn load_until(server: &Server, count: u32) {
    loop {
        let headers = [("authorization", "Bearer sk-quiet")];
        let request = request_with((Method::GET, "/load", ""), &headers);
        let load = send(server.address, request).await.expect("a reply").reply().await;
        if load.json()["server_load"] == count {
            return;
        }
    }
}

/// As above, where keys tell clients apart: whatever `user` the flood names, it stays one client.
#[tokio::test]
async fn a_key_that_floods_the_server_is_one_client_whatever_users_it_names() {
    let mut setup = Setup::with_keys("sk-flood flood\nsk-flood-2 flood\nsk-quiet quiet\n");
    setup.engine.max_num_seqs = 4;
    setup.engine.max_num_queued_reqs = 8;
    setup.engine.scheduling_policy = SchedulingPolicy::Fair;
    let (server, gate) = setup.start_gated().await;
    let ask = |key: &str, user: usize| {
        let user = format!("user {user}");
        let body = json!({"prompt": "ab", "max_tokens": 50, "stream": true, "user": user});
        let authorization = format!("Bearer {key}");
        let body = body.to_string();
        let headers = [("authorization", authorization.as_str())];
        send(server.address, request_with((Method::POST, COMPLETIONS, &body), &headers))
    };
    gate.allow(1);
    let first = ask("sk-flood", 0).await.expect("a reply");
    assert_eq!(first.response.status(), 200);
    // Of twelve places six are its share, by either of its keys.
    let mut flood = Vec::new();
    for user in 1..6 {
        flood.push(tokio::spawn(ask(if user < 3 { "sk-flood" } else { "sk-flood-2" }, user)));
    }
    load_until(&server, 6).await;
    let refused = ask("sk-flood-2", 7).await.expect("a reply").reply().await;
    assert_eq!((refused.status.as_u16(), refused.error("code")), (429, json!("share_full")));
    let impostor = json!({"prompt": "ab", "max_tokens": 1, "user": "quiet"}).to_string();
    let impostor = (Method::POST, COMPLETIONS, impostor.as_str());
    let request = request_with(impostor, &[("x-api-key", "sk-flood")]);
    let impostor = send(server.address, request).await.expect("a reply").reply().await;
    assert_eq!(impostor.error("code"), "share_full");
    // Its requests have all places to run; the other's gets one at once, long before any of them ends.
    gate.allow(2);
    let quiet = tokio::spawn(ask("sk-quiet", 0));
    load_until(&server, 7).await;
    gate.allow(3);
    assert_eq!(quiet.await.expect("no panic").expect("its first token").response.status(), 200);
    drop(gate);
    for reply in flood {
        assert_eq!(reply.await.expect("no panic").expect("a reply").response.status(), 200);
    }
    drop(first);
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
