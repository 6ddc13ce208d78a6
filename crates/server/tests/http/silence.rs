//! Streams that have nothing to tell for a while. Time stands still unless a test moves it.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use http::Method;
use serde_json::json;
use server::limits::KEEP_ALIVE;
use tokio::task::JoinHandle;
use tokio::time::{advance, pause};

use crate::client::{Open, SseEvent, request, send};
use crate::harness::{Server, Setup};

const COMPLETIONS: &str = "/v1/completions";
/// Timers are exact to a millisecond.
const JUST_BEFORE: Duration = KEEP_ALIVE.saturating_sub(Duration::from_millis(2));
const JUST_AFTER: Duration = KEEP_ALIVE.saturating_add(Duration::from_millis(2));

/// Keeps a thread busy of those that work beside the network's, until this is dropped.
pub fn keep_a_thread_busy() -> Sender<()> {
    let (sender, dropped) = channel::<()>();
    // It ends with an error, when the sender is gone.
    tokio::task::spawn_blocking(move || {
        let _ = dropped.recv();
    });
    sender
}

/// Stops the clock of this test's runtime. It would jump to the next timer whenever all tasks wait
/// for the network or the engine's thread, were there not a job at work until this is dropped.
pub fn stop_the_clock() -> Sender<()> {
    pause();
    keep_a_thread_busy()
}

/// A request for a stream, on its way.
fn ask(server: &Server, prompt: &str, max_tokens: u32) -> JoinHandle<hyper::Result<Open>> {
    let body =
        json!({"prompt": prompt, "temperature": 0, "max_tokens": max_tokens, "stream": true});
    tokio::spawn(send(server.address, request(Method::POST, COMPLETIONS, &body.to_string())))
}

async fn accepted(server: &Server, count: f64) {
    server.metrics_until(|m| m.value("millrace:requests_accepted_total", "") == count).await;
    // One more round, in which the handler begins to wait for the first token.
    server.metrics().await;
}

fn assert_keep_alive(event: Option<SseEvent>) {
    let event = event.expect("the stream goes on");
    assert_eq!((event.comment.as_deref(), event.data.as_str()), (Some("keep-alive"), ""));
}

#[tokio::test]
async fn a_stream_that_waits_long_begins_with_comments_and_its_answer_is_whole() {
    let (server, gate) = Setup::new().start_gated().await;
    let _clock = stop_the_clock();
    let asked = ask(&server, "ab", 3);
    accepted(&server, 1.0).await;
    advance(JUST_BEFORE).await;
    server.metrics().await;
    assert!(!asked.is_finished(), "the reply begins before the time is over");
    advance(JUST_AFTER - JUST_BEFORE).await;
    let mut stream = asked.await.unwrap().unwrap();
    assert_eq!(stream.response.status(), 200);
    assert_keep_alive(stream.event().await);
    advance(JUST_AFTER).await;
    assert_keep_alive(stream.event().await);
    drop(gate);
    let events = stream.events().await;
    assert_eq!(events.len(), 4, "{events:?}");
    assert_eq!(events[0].json()["choices"][0]["text"], "a");
    assert_eq!(events[3].data, "[DONE]");
}

#[tokio::test]
async fn streams_of_other_forms_begin_in_their_own_way_and_go_on_whole() {
    let _clock = stop_the_clock();
    let user = json!([{"role": "user", "content": "ab"}]);
    for (path, body, begin) in [
        (
            "/v1/messages",
            json!({"messages": user, "max_tokens": 2, "stream": true}),
            ["message_start", "ping"].as_slice(),
        ),
        (
            "/v1/responses",
            json!({"input": "ab", "max_output_tokens": 2, "stream": true}),
            ["response.created", "response.in_progress"].as_slice(),
        ),
    ] {
        let (server, gate) = Setup::new().start_gated().await;
        let asked = request(Method::POST, path, &body.to_string());
        let asked = tokio::spawn(send(server.address, asked));
        accepted(&server, 1.0).await;
        advance(JUST_AFTER).await;
        let mut stream = asked.await.unwrap().unwrap();
        for name in begin {
            assert_eq!(stream.event().await.expect("an event").name.as_deref(), Some(*name));
        }
        drop(gate);
        let events = stream.events().await;
        let last = events.last().expect("events").name.as_deref();
        assert!(matches!(last, Some("message_stop" | "response.incomplete")), "{events:?}");
    }
}

#[tokio::test]
async fn a_silence_between_tokens_is_bridged_too() {
    let (server, gate) = Setup::new().start_gated().await;
    let _clock = stop_the_clock();
    gate.allow(1);
    let mut stream = ask(&server, "ab", 3).await.unwrap().unwrap();
    assert_eq!(stream.event().await.unwrap().json()["choices"][0]["text"], "a");
    advance(JUST_BEFORE).await;
    gate.allow(1);
    assert_eq!(stream.event().await.unwrap().json()["choices"][0]["text"], "b");
    // Counted from the last token, not from the beginning.
    advance(JUST_BEFORE).await;
    server.metrics().await;
    gate.allow(1);
    assert_eq!(stream.event().await.unwrap().json()["choices"][0]["text"], "a");
    assert_eq!(stream.event().await.unwrap().data, "[DONE]");
    gate.allow(1);
    let mut stream = ask(&server, "ab", 3).await.unwrap().unwrap();
    stream.event().await.unwrap();
    advance(JUST_AFTER).await;
    assert_keep_alive(stream.event().await);
}

#[tokio::test]
async fn a_failure_after_the_first_comment_is_an_error_event() {
    let (server, gate) = Setup::new().start_gated().await;
    let _clock = stop_the_clock();
    let asked = ask(&server, "!", 3);
    accepted(&server, 1.0).await;
    advance(JUST_AFTER).await;
    let mut stream = asked.await.unwrap().unwrap();
    assert_keep_alive(stream.event().await);
    drop(gate);
    let events = stream.events().await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].name.as_deref(), Some("error"));
    assert_eq!(events[0].json()["error"]["message"], "the logits are not finite");
    // Before it: by the status, as ever.
    assert_eq!(ask(&server, "!", 3).await.unwrap().unwrap().response.status(), 500);
}

#[tokio::test]
async fn a_client_that_leaves_between_comments_is_cancelled() {
    let (server, gate) = Setup::new().start_gated().await;
    let _clock = stop_the_clock();
    let asked = ask(&server, "ab", 900);
    accepted(&server, 1.0).await;
    advance(JUST_AFTER).await;
    let mut stream = asked.await.unwrap().unwrap();
    assert_keep_alive(stream.event().await);
    drop(stream);
    let metrics = server.step_until(&gate, |metrics| metrics.ended("abort") == 1.0).await;
    assert!(metrics.value("vllm:generation_tokens_total", "") < 900.0);
}
