//! `serve` as its clients see it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use serde_json::{Value, json};

use crate::process::{REAL, Server, TINY, wait_for};

fn question() -> Value {
    json!({
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 32,
    })
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

#[test]
fn the_default_model_answers_streamed_and_whole_alike() {
    let server = Server::start(REAL.iter().copied());
    let path = "/v1/chat/completions";
    let stream = with(question(), "stream", json!(true));
    let stream = with(stream, "stream_options", json!({"include_usage": true}));
    let open = server.open(path, &stream);
    assert_eq!(open.status, 200);
    let events = open.events();
    let text: String = (events.iter())
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert!(text.contains("Paris"), "{text}");

    let reply = server.post(path, &question());
    assert_eq!(reply.status, 200, "{}", reply.body);
    let whole = reply.json();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    let reason = |event: &Value| event["choices"][0]["finish_reason"].clone();
    assert_eq!(reason(&whole), "stop");
    assert!(events.iter().map(reason).any(|reason| reason == "stop"), "{events:#?}");
    let usage = &events.last().expect("there are events")["usage"];
    for part in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(usage[part], whole["usage"][part], "{part}");
    }
    assert!(whole["timings"].is_object(), "{whole:#}");
}

#[test]
fn a_server_says_what_it_serves_and_refuses_what_it_does_not() {
    let options = ["--served-model-name", "mine", "--api-key", "secret"];
    let server = Server::start(TINY.iter().chain(&options).copied());
    for path in ["/health", "/live", "/"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert_eq!(server.get("/v1/models").status, 401);
    let body = json!({"model": "mine", "prompt": "hello"});
    assert_eq!(server.post("/v1/completions", &body).status, 401);
}

#[test]
fn the_page_can_be_left_out() {
    let server = Server::start(TINY.iter().chain(&["--enable-web-page", "false"]).copied());
    assert_eq!(server.get("/").status, 404);
    assert_eq!(server.get("/v1/models").status, 200);
}

#[test]
fn an_unknown_model_name_and_a_bad_value_are_named() {
    let server = Server::start(TINY.iter().copied());
    let models = server.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "dummy:tiny");
    let body = json!({"model": "dummy:tiny", "prompt": "hello", "max_tokens": 5});
    assert_eq!(server.post("/v1/completions", &body).status, 200);
    let unknown = server.post("/v1/completions", &with(body.clone(), "model", json!("other")));
    assert_eq!(unknown.status, 404, "{}", unknown.body);
    assert!(unknown.body.contains("other"), "{}", unknown.body);
    let hot = server.post("/v1/completions", &with(body.clone(), "temperature", json!(3)));
    assert_eq!((hot.status, hot.json()["error"]["param"].as_str()), (400, Some("temperature")));
    let long = server.post("/v1/completions", &with(body, "max_tokens", json!(512)));
    assert_eq!(long.status, 400, "{}", long.body);
    assert!(long.body.contains("512"), "{}", long.body);
}

#[test]
fn a_seeded_answer_is_the_same_alone_and_in_a_crowd() {
    let server = Server::start(TINY.iter().copied());
    let ask = &|seed: u64| {
        let body = json!({
            "model": "dummy:tiny",
            "prompt": format!("Story number {seed}"),
            "max_tokens": 100,
            "ignore_eos": true,
            "temperature": 1,
            "seed": seed,
        });
        let reply = server.post("/v1/completions", &body);
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()["choices"][0]["text"].clone()
    };
    let alone: Vec<Value> = (0..24).map(ask).collect();
    let crowd: Vec<Value> = thread::scope(|scope| {
        let asking: Vec<_> = (0..24).map(|seed| scope.spawn(move || ask(seed))).collect();
        asking.into_iter().map(|asking| asking.join().expect("it was answered")).collect()
    });
    assert_eq!(crowd, alone);
    assert_ne!(alone[0], alone[1]);
}

#[test]
fn the_log_has_the_id_that_the_client_gave_its_request() {
    let server = Server::start(TINY.iter().copied());
    let body = json!({"prompt": "hello", "max_tokens": 1}).to_string();
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-request-id: order-66\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(server.address).expect("the server listens");
    connection.write_all(request.as_bytes()).expect("the server reads");
    let mut reply = String::new();
    connection.read_to_string(&mut reply).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.contains("\r\nx-request-id: order-66\r\n"), "{reply}");
    wait_for("the line of the log", || server.stderr().contains("order-66").then_some(()));
}

#[test]
fn the_log_at_start_has_the_lines_that_users_of_vllm_look_for() {
    let server = Server::start(TINY.iter().copied());
    let log = server.stderr();
    for line in [
        "Available KV cache memory: 0.06 GiB",
        "CPU KV cache size: 131,072 tokens, Maximum concurrency for 512 tokens per request: 256.00x",
        "Chunked prefill is enabled with max_num_batched_tokens=256.",
    ] {
        assert!(log.contains(line), "no {line} in {log}");
    }
}
