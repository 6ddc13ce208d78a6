//! Clients that leave without a word, a hundred in each phase of a request.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::device::Gate;
use crate::harness::{Server, Setup};

const CLIENTS: usize = 100;
const ACCEPTED: &str = "millrace:requests_accepted_total";

/// The request whose client leaves; its prompt is prefilled in four steps.
fn body() -> Value {
    json!({"prompt": "ab".repeat(400), "temperature": 0, "max_tokens": 100, "stream": true})
}

/// The bytes of a request for `body`.
fn bytes(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head, body].concat().into_bytes()
}

async fn send(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

async fn accepted(server: &Server, count: usize) {
    server.metrics_until(|metrics| metrics.value(ACCEPTED, "") == count as f64).await;
}

/// Steps until nothing runs or waits any more but `others`.
async fn alone(server: &Server, gate: &Gate, others: f64) {
    let done = |metrics: &crate::harness::Metrics| {
        let open = ["vllm:num_requests_running", "vllm:num_requests_waiting"];
        open.iter().map(|gauge| metrics.value(gauge, "")).sum::<f64>() == others
    };
    server.step_until(gate, done).await;
}

/// After all have left: the server is as if nobody had been there, and answers.
async fn check(server: &Server, gate: Gate, aborted: usize) {
    drop(gate);
    let metrics = server.idle().await;
    assert_eq!(metrics.ended("abort"), aborted as f64);
    assert_eq!(metrics.ended("error"), 0.0);
    assert_eq!(metrics.value("millrace:panics_total", ""), 0.0);
    let reply = server.post("/v1/completions", &json!({"prompt": "ab", "temperature": 0})).await;
    assert_eq!(reply.json()["choices"][0]["text"], "ab".repeat(8));
}

#[tokio::test]
async fn those_that_leave_cost_no_more_than_the_step_that_runs() {
    let (server, gate) = Setup::new().start_gated().await;
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 100, "stream": true});
    let stays = send(&server, &bytes(&body)).await;
    accepted(&server, 1).await;
    let mut leave = Vec::new();
    for _ in 0..7 {
        leave.push(send(&server, &bytes(&body)).await);
    }
    accepted(&server, 8).await;
    let after_steps = async |steps: u32| {
        gate.allow(1);
        let told = "vllm:iteration_tokens_total_count";
        let metrics = server.metrics_until(|m| m.value(told, "") == f64::from(steps)).await;
        metrics.value("vllm:generation_tokens_total", "")
    };
    // The first step may lack those that came while it began.
    let first = after_steps(1).await;
    assert_eq!(after_steps(2).await, first + 8.0);
    assert_eq!(after_steps(3).await, first + 16.0);
    drop(leave);
    // The fourth step is held; in the time of some scrapes the server sees that they are gone.
    for _ in 0..20 {
        server.metrics().await;
    }
    assert_eq!(after_steps(4).await, first + 24.0);
    assert_eq!(after_steps(5).await, first + 25.0);
    check(&server, gate, 7).await;
    drop(stays);
}

#[tokio::test]
async fn before_the_head_or_the_body_has_ended() {
    let (server, gate) = Setup::new().start_gated().await;
    let whole = bytes(&body());
    for client in 0..CLIENTS {
        // From the first byte to the last but one.
        let end = 1 + client * (whole.len() - 2) / (CLIENTS - 1);
        drop(send(&server, &whole[..end]).await);
    }
    let metrics = server.metrics().await;
    assert_eq!(metrics.value(ACCEPTED, ""), 0.0);
    check(&server, gate, 0).await;
}

#[tokio::test]
async fn while_it_waits_for_a_place() {
    let mut setup = Setup::new();
    setup.engine.max_num_seqs = 1;
    let (server, gate) = setup.start_gated().await;
    let first = json!({"prompt": "x", "temperature": 0, "max_tokens": 990, "stream": true});
    let mut first = send(&server, &bytes(&first)).await;
    for client in 0..CLIENTS {
        let stream = send(&server, &bytes(&body())).await;
        accepted(&server, client + 2).await;
        drop(stream);
        alone(&server, &gate, 1.0).await;
    }
    let metrics = server.metrics().await;
    assert!(metrics.value("vllm:prompt_tokens_total", "") <= 1.0, "none of them was computed");
    drop(gate);
    let mut reply = Vec::new();
    while !reply.ends_with(b"[DONE]\n\n\r\n0\r\n\r\n") {
        let mut part = [0; 4096];
        let count = first.read(&mut part).await.unwrap();
        assert_ne!(count, 0, "the stream of the one that stayed is whole");
        reply.extend_from_slice(&part[..count]);
    }
    let metrics = server.idle().await;
    assert_eq!(metrics.ended("abort"), CLIENTS as f64);
}

#[tokio::test]
async fn in_the_middle_of_its_prompt() {
    let (server, gate) = Setup::new().start_gated().await;
    for client in 0..CLIENTS {
        let mut body = body();
        // Nothing of it was computed before.
        body["prompt"] = format!("{client:03}").repeat(260).into();
        let stream = send(&server, &bytes(&body)).await;
        accepted(&server, client + 1).await;
        gate.allow(1 + client % 3);
        drop(stream);
        alone(&server, &gate, 0.0).await;
    }
    check(&server, gate, CLIENTS).await;
}

#[tokio::test]
async fn while_its_grammar_is_compiled() {
    let (server, gate) = Setup::new().start_gated().await;
    for client in 0..CLIENTS {
        let mut body = body();
        // Another one each time, or it would be in the cache.
        let names: Vec<String> = (0..50).map(|n| format!("field_{client}_{n}")).collect();
        let fields = names.iter().map(|name| (name.clone(), json!({"type": "string"})));
        let fields: serde_json::Map<String, Value> = fields.collect();
        body["guided_json"] = json!({"type": "object", "properties": fields, "required": names});
        let stream = send(&server, &bytes(&body)).await;
        for _ in 0..client {
            tokio::task::yield_now().await;
        }
        drop(stream);
    }
    drop(gate);
    let metrics = server.idle().await;
    let accepted = metrics.value(ACCEPTED, "");
    assert_eq!(metrics.ended("abort") + metrics.ended("length") + metrics.ended("stop"), accepted);
    assert_eq!(metrics.value("millrace:panics_total", ""), 0.0);
    let body = json!({"prompt": "ab", "guided_regex": "[0-9]{3}", "temperature": 0});
    let reply = server.post("/v1/completions", &body).await;
    assert_eq!(reply.json()["choices"][0]["text"], "000");
}

#[tokio::test]
async fn in_the_middle_of_its_answer() {
    let (server, gate) = Setup::new().start_gated().await;
    for client in 0..CLIENTS {
        let mut body = body();
        body["prompt"] = "ab".into();
        let tokens = 1 + client % 7;
        gate.allow(tokens);
        let mut stream = send(&server, &bytes(&body)).await;
        let mut reply = Vec::new();
        while reply.windows(6).filter(|part| part == b"data: ").count() < tokens {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).await.unwrap();
            assert_ne!(count, 0);
            reply.extend_from_slice(&part[..count]);
        }
        drop(stream);
        alone(&server, &gate, 0.0).await;
    }
    check(&server, gate, CLIENTS).await;
}
