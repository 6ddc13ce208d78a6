//! What a client sees when the device fails.

use std::time::Duration;

use engine::WorkerExit;
use http::Method;
use serde_json::json;

use crate::client::{request, send};
use crate::harness::Setup;

const COMPLETIONS: &str = "/v1/completions";

#[tokio::test]
async fn a_failure_before_the_first_byte_is_500() {
    let server = Setup::new().start().await;
    for stream in [false, true] {
        let body = json!({"prompt": "!", "temperature": 0, "stream": stream});
        let reply = server.post(COMPLETIONS, &body).await;
        assert_eq!(reply.status, 500);
        assert_eq!(reply.error("type"), "server_error");
        assert_eq!(reply.error("message"), "the logits are not finite");
    }
    assert_eq!(server.idle().await.ended("error"), 2.0);
}

#[tokio::test]
async fn a_failure_in_the_middle_is_an_error_event_and_the_end() {
    let server = Setup::new().start().await;
    let body = json!({"prompt": "ab!", "temperature": 0, "max_tokens": 9});
    let events = server.stream(COMPLETIONS, &body).await.events().await;
    assert_eq!(events.len(), 3, "{events:?}");
    assert_eq!(events[0].json()["choices"][0]["text"], "a");
    assert_eq!(events[2].name.as_deref(), Some("error"));
    assert_eq!(events[2].json()["error"]["message"], "the logits are not finite");
    assert_eq!(server.post(COMPLETIONS, &body).await.status, 500);
    let fine = server.post(COMPLETIONS, &json!({"prompt": "ab", "temperature": 0})).await;
    assert_eq!(fine.status, 200);
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn one_failed_choice_fails_the_reply_and_frees_its_siblings() {
    let (server, gate) = Setup::new().start_gated().await;
    let body = json!({"prompt": ["ab", "a!"], "temperature": 0, "max_tokens": 900});
    let request = request(Method::POST, COMPLETIONS, &body.to_string());
    let address = server.address;
    let reply = tokio::spawn(async move { send(address, request).await.unwrap().reply().await });
    server.step_until(&gate, |_| reply.is_finished()).await;
    assert_eq!(reply.await.unwrap().status, 500);
    let metrics = server.step_until(&gate, |metrics| metrics.ended("abort") == 1.0).await;
    assert_eq!(metrics.ended("error"), 1.0);
    server.idle().await;
}

#[tokio::test]
async fn a_broken_device_fails_everything_and_health_says_so() {
    let (server, gate) = Setup::new().start_gated().await;
    gate.allow(1);
    let long = json!({"prompt": "ab", "temperature": 0, "max_tokens": 900});
    let mut stream = server.stream(COMPLETIONS, &long).await;
    stream.event().await.unwrap();
    let bad = json!({"prompt": "#", "temperature": 0}).to_string();
    let bad = tokio::spawn(send(server.address, request(Method::POST, COMPLETIONS, &bad)));
    server.metrics_until(|m| m.value("millrace:requests_accepted_total", "") == 2.0).await;
    // The step that is held does not have the second request yet, the next one has.
    gate.allow(2);
    assert_eq!(bad.await.unwrap().unwrap().reply().await.status, 500);
    let events = stream.events().await;
    assert_eq!(events.last().unwrap().name.as_deref(), Some("error"));
    // The end of the engine's thread is seen a moment after its last report.
    while server.get("/health").await.status != 503 {}
    assert_eq!(server.get("/live").await.status, 200);
    let reply = server.post(COMPLETIONS, &long).await;
    assert_eq!(reply.status, 503);
    assert!(reply.error("message").as_str().unwrap().contains("the engine has stopped"));
    assert_eq!(server.idle().await.ended("error"), 2.0);
    let exit = server.worker.join();
    assert_eq!(exit, WorkerExit::DeviceFailed("the script says so".to_owned()));
}

#[tokio::test]
async fn an_overdue_step_is_seen_by_health_and_its_end_too() {
    let mut setup = Setup::new();
    setup.server.stall_limit = Duration::from_millis(1);
    let (server, gate) = setup.start_gated().await;
    assert_eq!(server.get("/health").await.status, 200);
    gate.allow(1);
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 9});
    let mut stream = server.stream(COMPLETIONS, &body).await;
    while server.get("/health").await.status != 503 {}
    assert_eq!(server.get("/live").await.status, 200);
    drop(gate);
    stream.events().await;
    server.idle().await;
    assert_eq!(server.get("/health").await.status, 200);
}
