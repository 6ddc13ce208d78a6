//! `/v1/embeddings`. The device's state of a position is its token, its position and 1.

use std::io;
use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{request, send};
use crate::harness::{Server, Setup};

const EMBEDDINGS: &str = "/v1/embeddings";

async fn embed(server: &Server, body: Value) -> Value {
    let reply = server.post(EMBEDDINGS, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Fails unless `found` points where `expected` does and has length 1.
#[track_caller]
fn assert_direction(found: &Value, expected: &[f64]) {
    let length = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
    let found = numbers(found);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected / length).abs() < 1e-6, "{found} {}", expected / length);
    }
}

#[tokio::test]
async fn an_embedding_is_the_mean_of_all_positions_brought_to_length_one() {
    let server = Setup::new().start().await;
    let reply = embed(&server, json!({"model": "tiny", "input": "abf", "user": "u"})).await;
    assert!(reply["id"].as_str().unwrap().starts_with("embd-"));
    assert_eq!((&reply["object"], &reply["model"]), (&json!("list"), &json!("tiny")));
    assert_eq!(reply["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let data = &reply["data"][0];
    assert_eq!((&data["object"], &data["index"]), (&json!("embedding"), &json!(0)));
    assert_direction(&data["embedding"], &[(97.0 + 98.0 + 102.0) / 3.0, 1.0, 1.0]);
}

#[tokio::test]
async fn with_last_pooling_it_is_that_of_the_last_position() {
    let mut setup = Setup::new();
    setup.server.pooling = sampling::Pooling::Last;
    let server = setup.start().await;
    let reply = embed(&server, json!({"input": "abf"})).await;
    assert_direction(&reply["data"][0]["embedding"], &[102.0, 2.0, 1.0]);
}

#[tokio::test]
async fn texts_ids_and_lists_of_them_are_the_same() {
    let server = Setup::new().start().await;
    let expected = embed(&server, json!({"input": "ab"})).await["data"][0]["embedding"].clone();
    for (input, count) in
        [(json!([97, 98]), 1), (json!(["ab", "ab"]), 2), (json!([[97, 98], "ab", [97, 98]]), 3)]
    {
        let reply = embed(&server, json!({"input": input})).await;
        let data = reply["data"].as_array().unwrap();
        assert_eq!(data.len(), count);
        assert_eq!(reply["usage"]["total_tokens"], 2 * count);
        for (index, data) in data.iter().enumerate() {
            assert_eq!((&data["index"], &data["embedding"]), (&json!(index), &expected));
        }
    }
}

#[tokio::test]
async fn long_lists_are_embedded_in_order_and_leave_places_to_others() {
    let server = Setup::new().start().await;
    let input: Vec<Value> = (0..100).map(|index| json!([100 + index, 5])).collect();
    let reply = embed(&server, json!({"input": input})).await;
    for (index, data) in reply["data"].as_array().unwrap().iter().enumerate() {
        assert_direction(&data["embedding"], &[(index as f64 + 105.0) / 2.0, 0.5, 1.0]);
    }
    let metrics = server.idle().await;
    assert_eq!(metrics.value("millrace:requests_accepted_total", ""), 100.0);
    assert_eq!(metrics.value("vllm:admission_rejections_total", REJECTED), 0.0);
}

const REJECTED: &str = "reason=\"max_num_queued_reqs\"";

#[tokio::test]
async fn dimensions_cut_the_vector_and_base64_is_its_bytes() {
    let server = Setup::new().start().await;
    let reply = embed(&server, json!({"input": "abf", "dimensions": 2})).await;
    assert_direction(&reply["data"][0]["embedding"], &[99.0, 1.0]);
    let floats = embed(&server, json!({"input": "abf", "encoding_format": "float"})).await;
    let reply = embed(&server, json!({"input": "abf", "encoding_format": "base64"})).await;
    use base64::Engine as _;
    let text = reply["data"][0]["embedding"].as_str().unwrap();
    let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
    let decoded: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let written = numbers(&floats["data"][0]["embedding"]);
    assert_eq!(decoded, written.iter().map(|x| *x as f32).collect::<Vec<f32>>());
}

#[tokio::test]
async fn what_cannot_be_embedded_is_refused_with_the_field() {
    let server = Setup::new().start().await;
    let many: Vec<&str> = vec!["a"; 2049];
    for (body, param) in [
        (json!({}), json!("input")),
        (json!({"input": null}), json!("input")),
        (json!({"input": []}), json!("input")),
        (json!({"input": ""}), json!("input")),
        (json!({"input": ["a", ""]}), json!("input[1]")),
        (json!({"input": [[]]}), json!("input")),
        (json!({"input": many}), json!("input")),
        (json!({"input": [258]}), json!("input[0]")),
        (json!({"input": ["a", [1, -1]]}), json!("input[1][1]")),
        (json!({"input": 5}), json!("input")),
        (json!({"input": "a".repeat(1000)}), json!("input")),
        (json!({"input": "a", "user": "x".repeat(513)}), json!("user")),
        (json!({"input": "a", "priority": 1}), json!("priority")),
        (json!({"input": "a", "priority": 1_i64 << 31}), json!("priority")),
        (json!({"input": "a", "dimensions": 0}), json!("dimensions")),
        (json!({"input": "a", "dimensions": 4}), json!("dimensions")),
        (json!({"input": "a", "encoding_format": "int8"}), json!("encoding_format")),
        (json!({"input": "a", "truncate_prompt_tokens": 5}), json!("truncate_prompt_tokens")),
        (json!({"messages": [{"role": "user", "content": "a"}]}), json!("messages")),
    ] {
        let reply = server.post(EMBEDDINGS, &body).await;
        let found = (reply.status.as_u16(), reply.error("param"));
        assert_eq!(found, (400, param), "{}", reply.body);
    }
    // The largest that fits.
    let user = "x".repeat(512);
    let body = json!({"input": "a".repeat(999), "dimensions": 3, "user": user, "priority": 0});
    embed(&server, body).await;
    embed(&server, json!({"input": vec!["a"; 2048]})).await;
    let reply = server.post(EMBEDDINGS, &json!({"input": "a", "model": "other"})).await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn a_vector_that_is_not_finite_fails_its_request_alone() {
    let server = Setup::new().start().await;
    let reply = server.post(EMBEDDINGS, &json!({"input": ["a", "!"]})).await;
    assert_eq!((reply.status.as_u16(), reply.error("type")), (500, json!("server_error")));
    embed(&server, json!({"input": "a"})).await;
    server.idle().await;
}

#[tokio::test]
async fn a_full_server_refuses_and_a_client_that_leaves_is_not_computed_for() {
    let mut setup = Setup::new();
    setup.engine.max_num_seqs = 2;
    setup.engine.max_num_queued_reqs = 1;
    let (server, gate) = setup.start_gated().await;
    let long = json!({"input": ["a".repeat(900), "b".repeat(900)]}).to_string();
    let client = tokio::spawn(send(server.address, request(Method::POST, EMBEDDINGS, &long)));
    server.metrics_until(|m| m.value("vllm:num_requests_waiting", "") == 2.0).await;
    let reply = server.post(EMBEDDINGS, &json!({"input": ["a", "b"]})).await;
    assert_eq!((reply.status.as_u16(), reply.error("code")), (429, json!("queue_full")));
    client.abort();
    let metrics = server.step_until(&gate, |m| 2.0 <= m.ended("abort")).await;
    assert!(metrics.value("vllm:prompt_tokens_total", "") < 1800.0);
    drop(gate);
    server.idle().await;
}

#[tokio::test]
async fn an_embedding_has_its_place_in_the_order_as_any_request() {
    let mut setup = Setup::new();
    setup.engine.max_num_seqs = 1;
    setup.engine.scheduling_policy = engine::SchedulingPolicy::Priority;
    let (server, gate) = setup.start_gated().await;
    gate.allow(1);
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 2});
    let mut first = server.stream("/v1/completions", &body).await;
    let (sender, mut answered) = tokio::sync::mpsc::unbounded_channel();
    for (waiting, priority) in [(1.0, 5), (2.0, -5)] {
        let body = json!({"input": "ab", "priority": priority}).to_string();
        let request = request(Method::POST, EMBEDDINGS, &body);
        let (address, sender) = (server.address, sender.clone());
        tokio::spawn(async move {
            assert_eq!(send(address, request).await.unwrap().reply().await.status, 200);
            sender.send(priority).unwrap();
        });
        server.metrics_until(|m| m.value("vllm:num_requests_waiting", "") == waiting).await;
    }
    drop(gate);
    first.events().await;
    assert_eq!((answered.recv().await, answered.recv().await), (Some(-5), Some(5)));
}

/// What a log has written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_client_that_leaves_leaves_a_line_in_the_log() {
    let log = Written::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let (server, gate) = Setup::new().start_gated().await;
    let body = json!({"input": ["ab", "abf"]}).to_string();
    let head = format!(
        "POST {EMBEDDINGS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let accepted = "millrace:requests_accepted_total";
    server.metrics_until(|metrics| metrics.value(accepted, "") == 2.0).await;
    assert!(!log.text().contains(EMBEDDINGS), "{}", log.text());
    drop(stream);
    server.metrics_until(|_| log.text().contains(EMBEDDINGS)).await;
    let text = log.text();
    let line = text.lines().find(|line| line.contains(EMBEDDINGS)).expect("it was seen");
    for field in ["outcome=\"cancelled\"", "inputs=2", "prompt_tokens=5"] {
        assert!(line.contains(field), "no {field} in {line}");
    }
    drop(gate);
    server.idle().await;
}
