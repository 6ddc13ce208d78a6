//! How clients leave, and how the server does.

use std::thread;

use serde_json::{Value, json};

use crate::http::{self, Open};
use crate::process::{REAL, Server, TINY, wait_for};

fn completion(model: &str, max_tokens: u32) -> Value {
    json!({
        "model": model,
        "prompt": "Once upon a time",
        "max_tokens": max_tokens,
        "ignore_eos": true,
        "stream": true,
        "seed": 1,
    })
}

/// Reads so many events and leaves without a word; none: leaves before the reply has begun.
fn leave_after(server: &Server, events: usize) {
    let body = completion("dummy:tiny", 490).to_string();
    let connection = http::request(server.address, "POST", "/v1/completions", &body);
    if 0 < events {
        let mut open = Open::new(connection);
        for _ in 0..events {
            open.event();
        }
    }
}

#[test]
fn a_hundred_clients_that_leave_at_random_leave_nothing_behind() {
    let server = Server::start(TINY.iter().copied());
    thread::scope(|scope| {
        for client in 0..100 {
            // A scattered number up to 30, which is far from the end.
            let events = client * 37 % 101 % 31;
            let server = &server;
            scope.spawn(move || leave_after(server, events));
        }
    });
    let gauges =
        ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"];
    for gauge in gauges {
        wait_for(gauge, || (server.metric(gauge) == 0.0).then_some(()));
    }
    let accepted = server.metric("millrace:requests_accepted_total");
    assert_eq!(server.metric("vllm:request_success_total"), accepted);
    assert!(server.metric("vllm:generation_tokens_total") < 100.0 * 490.0, "nobody left early");
    let events = server.open("/v1/completions", &completion("dummy:tiny", 10)).events();
    let last = events.last().expect("the server still answers");
    assert_eq!(last["choices"][0]["finish_reason"], "length", "{last}");
}

#[test]
fn the_first_sigterm_lets_running_requests_finish_and_no_other_begin() {
    let server = Server::start(REAL.iter().copied());
    let mut running = server.open("/v1/completions", &completion("smollm2-135m", 60));
    assert!(running.event().is_some(), "it has begun");
    server.terminate();
    wait_for("503 of /health", || (server.get("/health").status == 503).then_some(()));
    assert_eq!(server.get("/live").status, 200);
    let refused = server.post("/v1/completions", &completion("smollm2-135m", 1));
    assert_eq!(refused.status, 503, "{}", refused.body);
    let events = running.events();
    let last = events.last().expect("it went on");
    assert_eq!(last["choices"][0]["finish_reason"], "length", "{last}");
    let ended = server.end();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
}

#[test]
fn a_request_that_outlasts_the_shutdown_timeout_is_cut_off_with_an_error() {
    let options = ["--shutdown-timeout", "0"];
    let server = Server::start(REAL.iter().chain(&options).copied());
    let mut running = server.open("/v1/completions", &completion("smollm2-135m", 4000));
    assert!(running.event().is_some(), "it has begun");
    server.terminate();
    let events: Vec<String> = std::iter::from_fn(|| running.event()).collect();
    assert!(events.iter().any(|event| event.contains("shutting down")), "{events:?}");
    let ended = server.end();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let mut lines = ended.stderr.lines().filter(|line| line.contains("endpoint="));
    let line = lines.next().expect("the request has its line");
    assert!(line.contains("outcome=\"failed\""), "{line}");
    assert!(!line.contains("_ms="), "stages that did not end have no times: {line}");
}

#[test]
fn the_second_sigterm_ends_it_within_a_long_step() {
    // One step computes the whole prompt, which takes long.
    let options = ["--max-num-batched-tokens", "8192"];
    let server = Server::start(REAL.iter().chain(&options).copied());
    let mut body = completion("smollm2-135m", 100);
    body["prompt"] = json!(vec![400; 7000]);
    let request = http::request(server.address, "POST", "/v1/completions", &body.to_string());
    let accepted = "millrace:requests_accepted_total";
    wait_for("a request", || (server.metric(accepted) == 1.0).then_some(()));
    server.terminate();
    wait_for("503 of /health", || (server.get("/health").status == 503).then_some(()));
    server.terminate();
    let ended = server.end();
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("stopping at once"), "{}", ended.stderr);
    // The prompt was not computed to its end, or there would be tokens.
    let mut rest = String::new();
    let _ = std::io::Read::read_to_string(&mut &request, &mut rest);
    assert!(!rest.contains("data: "), "{rest}");
}

#[test]
fn a_full_queue_answers_429_and_says_when_to_come_again() {
    let options = ["--max-num-seqs", "1", "--max-num-queued-reqs", "0"];
    let server = Server::start(REAL.iter().chain(&options).copied());
    let mut running = server.open("/v1/completions", &completion("smollm2-135m", 4000));
    assert!(running.event().is_some(), "it has begun");
    let refused = server.post("/v1/completions", &completion("smollm2-135m", 1));
    assert_eq!(refused.status, 429, "{}", refused.body);
    drop(running);
    wait_for("a place", || {
        let reply = server.post("/v1/completions", &completion("smollm2-135m", 1));
        (reply.status == 200).then_some(())
    });
}

#[test]
fn a_server_that_is_told_to_ends_with_its_stdin() {
    let mut server = Server::start(REAL.iter().copied().chain(["--stop-with-stdin"]));
    let mut running = server.open("/v1/completions", &completion("smollm2-135m", 4000));
    assert!(running.event().is_some(), "it has begun");
    server.close_stdin();
    assert_eq!(server.end().code(), Some(1));
}
