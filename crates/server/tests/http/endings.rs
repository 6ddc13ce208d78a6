//! How the server ends.

use std::time::Duration;

use engine::WorkerExit;
use http::Method;
use serde_json::json;
use server::Ending;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{request, send};
use crate::harness::Setup;

const COMPLETIONS: &str = "/v1/completions";

#[tokio::test]
async fn a_drain_finishes_what_runs_and_refuses_what_is_new() {
    let (server, gate) = Setup::new().start_gated().await;
    gate.allow(1);
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 4});
    let mut running = server.stream(COMPLETIONS, &body).await;
    let waiting =
        tokio::spawn(send(server.address, request(Method::POST, COMPLETIONS, &body.to_string())));
    server.metrics_until(|m| m.value("millrace:requests_accepted_total", "") == 2.0).await;
    server.trigger.drain();
    for path in ["/health", "/v1/models"] {
        let status = server.get(path).await.status;
        assert_eq!(status, if path == "/health" { 503 } else { 200 });
    }
    let refused = server.post(COMPLETIONS, &body).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(server.get("/live").await.status, 200);
    drop(gate);
    let events = running.events().await;
    assert_eq!(events.last().unwrap().data, "[DONE]");
    assert_eq!(waiting.await.unwrap().unwrap().reply().await.json()["choices"][0]["text"], "abab");
    assert_eq!(server.task.await.unwrap(), Ending::Drained);
    assert_eq!(server.worker.join(), WorkerExit::Drained);
}

#[tokio::test]
async fn an_idle_server_drains_at_once_whatever_connections_are_open() {
    let server = Setup::new().start().await;
    let whole = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                  content-length: 90\r\n\r\n{\"prompt\": \"a\"";
    let mut half_open = Vec::new();
    for client in 0..100 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&whole[..1 + client * whole.len() / 100]).await.unwrap();
        half_open.push(stream);
    }
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    assert_eq!(server.end().await, Ending::Drained);
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn at_the_deadline_streams_end_with_an_error_event_and_others_with_503() {
    let mut setup = Setup::new();
    setup.server.shutdown_timeout = Duration::from_millis(1);
    let (server, gate) = setup.start_gated().await;
    gate.allow(1);
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 900});
    let mut running = server.stream(COMPLETIONS, &body).await;
    running.event().await.unwrap();
    let waiting =
        tokio::spawn(send(server.address, request(Method::POST, COMPLETIONS, &body.to_string())));
    server.metrics_until(|m| m.value("millrace:requests_accepted_total", "") == 2.0).await;
    server.trigger.drain();
    let events = running.events().await;
    let last = events.last().unwrap();
    assert_eq!(last.name.as_deref(), Some("error"));
    let message = last.json()["error"]["message"].clone();
    assert_eq!(message, "the server is shutting down");
    let reply = waiting.await.unwrap().unwrap().reply().await;
    assert_eq!((reply.status.as_u16(), reply.error("message")), (503, message));
    assert_eq!(server.task.await.unwrap(), Ending::CutOff(2));
    drop(gate);
    assert_eq!(server.worker.join(), WorkerExit::Drained);
}

#[tokio::test]
async fn a_second_trigger_stops_at_once() {
    let (server, gate) = Setup::new().start_gated().await;
    gate.allow(1);
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 900});
    let _running = server.stream(COMPLETIONS, &body).await;
    server.trigger.drain();
    assert_eq!(server.get("/health").await.status, 503);
    server.trigger.stop();
    assert_eq!(server.task.await.unwrap(), Ending::Stopped);
    drop(gate);
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_stops() {
    let (server, gate) = Setup::new().start_gated().await;
    let signals = tokio::spawn(server::shutdown::on_signals(server.trigger.clone()));
    // The handlers are installed when the task first runs.
    tokio::task::yield_now().await;
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 900});
    gate.allow(1);
    let _running = server.stream(COMPLETIONS, &body).await;
    let signal = |name: &str| {
        let command = format!("kill -{name} {}", std::process::id());
        let status = std::process::Command::new("sh").args(["-c", &command]).status();
        assert!(status.expect("a shell").success());
    };
    signal("TERM");
    while server.get("/health").await.status != 503 {}
    assert!(!server.task.is_finished());
    signal("INT");
    assert_eq!(server.task.await.unwrap(), Ending::Stopped);
    signals.await.unwrap().unwrap();
    drop(gate);
}
