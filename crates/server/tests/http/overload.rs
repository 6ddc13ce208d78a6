//! Too many requests, clients that leave, clients that do not read.

use http::Method;
use serde_json::json;
use tokio::net::TcpSocket;

use crate::client::{request, send};
use crate::harness::Setup;

const COMPLETIONS: &str = "/v1/completions";

#[tokio::test]
async fn exactly_what_exceeds_the_queue_gets_429_and_the_rest_is_answered() {
    let mut setup = Setup::new();
    setup.engine.max_num_seqs = 2;
    setup.engine.max_num_queued_reqs = 3;
    let (server, gate) = setup.start_gated().await;
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 3}).to_string();
    let (sender, mut replies) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..15 {
        let (address, body, sender) = (server.address, body.clone(), sender.clone());
        tokio::spawn(async move {
            let request = request(Method::POST, COMPLETIONS, &body);
            sender.send(send(address, request).await.unwrap().reply().await).unwrap();
        });
    }
    for _ in 0..10 {
        let reply = replies.recv().await.unwrap();
        assert_eq!(reply.status, 429);
        assert_eq!(reply.headers["retry-after"], "1");
        assert_eq!(reply.error("type"), "rate_limit_error");
        assert!(reply.error("message").as_str().unwrap().contains("limit (5)"));
    }
    // The first step had one request only, since the others came while it was held.
    gate.allow(2);
    let metrics =
        server.metrics_until(|metrics| metrics.value("vllm:num_requests_running", "") == 2.0).await;
    assert_eq!(metrics.value("vllm:num_requests_waiting", ""), 3.0);
    assert_eq!(server.get("/load").await.json(), json!({"server_load": 5}));
    assert_eq!(server.get("/get_load").await.json(), json!({"load": 5}));
    drop(gate);
    for _ in 0..5 {
        let reply = replies.recv().await.unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json()["choices"][0]["text"], "aba");
    }
    let metrics = server.idle().await;
    assert_eq!(metrics.ended("length"), 5.0);
    let rejected = "reason=\"max_num_queued_reqs\"";
    assert_eq!(metrics.value("vllm:admission_rejections_total", rejected), 10.0);
}

#[tokio::test]
async fn choices_are_taken_all_or_none() {
    let mut setup = Setup::new();
    setup.engine.max_num_seqs = 2;
    setup.engine.max_num_queued_reqs = 2;
    let (server, gate) = setup.start_gated().await;
    gate.allow(1);
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 2, "n": 3});
    let mut first = server.stream(COMPLETIONS, &body).await;
    let reply = server.post(COMPLETIONS, &json!({"prompt": "x", "n": 2})).await;
    assert_eq!(reply.status, 429);
    // More than the server ever holds is not a matter of waiting.
    let reply = server.post(COMPLETIONS, &json!({"prompt": "x", "n": 5})).await;
    assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!("n")));
    drop(gate);
    first.events().await;
    let metrics = server.idle().await;
    assert_eq!(metrics.ended("length"), 3.0);
}

/// A small generator: the next of a sequence that `seed` decides.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[tokio::test]
async fn a_hundred_clients_that_leave_at_random_leave_nothing_behind() {
    let (server, gate) = Setup::new().start_gated().await;
    let mut seed = 42;
    for _ in 0..100 {
        let body = json!({
            "prompt": "ab".repeat(1 + next(&mut seed) as usize % 300), "temperature": 0,
            "max_tokens": 300, "stream": next(&mut seed).is_multiple_of(2), "n": 1 + next(&mut seed) % 3,
        });
        let request = request(Method::POST, COMPLETIONS, &body.to_string());
        // Leaves while it waits, is computed or streams: after some steps and some turns.
        gate.allow(next(&mut seed) as usize % 6);
        let client = tokio::spawn(send(server.address, request));
        for _ in 0..next(&mut seed) % 40 {
            tokio::task::yield_now().await;
        }
        client.abort();
    }
    drop(gate);
    let metrics = server.idle().await;
    let accepted = metrics.value("millrace:requests_accepted_total", "");
    assert!(0.0 < accepted, "some request got as far as the engine");
    assert_eq!(metrics.ended("abort") + metrics.ended("length"), accepted);
    assert!(0.0 < metrics.ended("abort"));
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_cancelled() {
    let (server, gate) = Setup::new().start_gated().await;
    gate.allow(3);
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 900});
    let mut stream = server.stream(COMPLETIONS, &body).await;
    for _ in 0..3 {
        stream.event().await.unwrap();
    }
    drop(stream);
    let metrics = server.step_until(&gate, |metrics| metrics.ended("abort") == 1.0).await;
    assert!(metrics.value("vllm:generation_tokens_total", "") < 900.0);
    server.idle().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cancelled_when_its_buffer_is_full() {
    let mut setup = Setup::new();
    setup.engine.max_model_len = 400_000;
    setup.engine.block_count = 30_000;
    let server = setup.start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 399_000, "stream": true});
    let body = body.to_string();
    let head = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    for bytes in [head.as_bytes(), body.as_bytes()] {
        stream.writable().await.unwrap();
        assert_eq!(stream.try_write(bytes).unwrap(), bytes.len());
    }
    let metrics = server.metrics_until(|metrics| metrics.ended("abort") == 1.0).await;
    assert!(metrics.value("vllm:generation_tokens_total", "") < 399_000.0);
    // Another client is served meanwhile and after.
    let reply = server.post(COMPLETIONS, &json!({"prompt": "ab", "temperature": 0})).await;
    assert_eq!(reply.status, 200);
    drop(stream);
    server.idle().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let mut setup = Setup::new();
    setup.server.connections_max = 1;
    let (server, gate) = setup.start_gated().await;
    gate.allow(1);
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 3});
    let mut first = server.stream(COMPLETIONS, &body).await;
    let second = tokio::spawn(send(server.address, request(Method::GET, "/live", "")));
    for _ in 0..2 {
        first.event().await.unwrap();
        gate.allow(1);
    }
    first.events().await;
    assert!(!second.is_finished(), "the first connection is still open");
    drop(first);
    assert_eq!(second.await.unwrap().unwrap().reply().await.status, 200);
}
