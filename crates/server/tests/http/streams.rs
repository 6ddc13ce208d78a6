//! The form of streams, over many random requests.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::SseEvent;
use crate::harness::Setup;

const STREAMS: u64 = 5000;

/// A small generator: the next below `bound` of a sequence that `seed` decides.
fn next(seed: &mut u64, bound: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % bound
}

/// A random request, and whether it is a chat.
fn body(seed: &mut u64) -> (bool, Value) {
    let letters = ["a", "b", "é", "😀", "$", " ", "\n", "ab", "!"];
    let length = 1 + next(seed, 12);
    let prompt: String = (0..length)
        // Failures are rare, so that most streams are whole.
        .map(|_| match next(seed, 60) {
            0 => "!",
            _ => letters[next(seed, 8) as usize],
        })
        .collect();
    let chat = next(seed, 2) == 0;
    let mut body = json!({
        "temperature": 0, "max_tokens": 1 + next(seed, 60), "n": 1 + next(seed, 3),
    });
    match chat {
        true => body["messages"] = json!([{"role": "user", "content": prompt}]),
        false => body["prompt"] = json!(prompt),
    }
    match next(seed, 4) {
        0 => body["stop"] = json!(["ab", "é"]),
        1 => body["stop"] = json!("ba b"),
        _ => {}
    }
    if next(seed, 2) == 0 {
        body["stream_options"] = json!({"include_usage": true});
    }
    (chat, body)
}

/// One choice of a stream, as far as it has come.
#[derive(Default)]
struct Choice {
    started: bool,
    finish: Option<String>,
}

/// Checks the chunks before the end; gives the choices.
fn check_chunks(chunks: &[SseEvent], chat: bool) -> BTreeMap<u64, Choice> {
    let mut choices: BTreeMap<u64, Choice> = BTreeMap::new();
    let first = chunks[0].json();
    for chunk in chunks {
        assert_eq!((&chunk.name, &chunk.comment), (&None, &None));
        let chunk = chunk.json();
        for field in ["id", "created", "model", "object"] {
            assert_eq!(chunk[field], first[field], "{field} stays the same");
        }
        for part in chunk["choices"].as_array().expect("a list") {
            let choice = choices.entry(part["index"].as_u64().expect("a number")).or_default();
            assert_eq!(choice.finish, None, "nothing follows the finish reason");
            if chat {
                let role = part["delta"]["role"].as_str();
                assert_eq!(role, (!choice.started).then_some("assistant"));
            }
            choice.started = true;
            choice.finish = part["finish_reason"].as_str().map(str::to_owned);
        }
    }
    choices
}

/// Checks a whole stream; gives how it ended.
fn check(events: &[SseEvent], chat: bool, body: &Value) -> &'static str {
    let (last, mut chunks) = events.split_last().expect("a stream is not empty");
    if last.name.as_deref() == Some("error") {
        assert!(last.json()["error"]["message"].is_string());
        check_chunks(chunks, chat);
        return "error";
    }
    assert_eq!((last.name.as_deref(), &*last.data), (None, "[DONE]"));
    if body["stream_options"].is_object() {
        let (usage, rest) = chunks.split_last().expect("a chunk with the usage");
        let usage = usage.json();
        assert_eq!(usage["choices"], json!([]));
        let tokens = usage["usage"]["completion_tokens"].as_u64().expect("a number");
        assert!(tokens <= body["n"].as_u64().unwrap() * body["max_tokens"].as_u64().unwrap());
        chunks = rest;
    }
    let choices = check_chunks(chunks, chat);
    assert_eq!(choices.len() as u64, body["n"].as_u64().unwrap());
    assert!(choices.values().all(|choice| choice.finish.is_some()), "one finish each");
    "done"
}

#[tokio::test]
async fn every_stream_has_one_id_one_role_one_finish_for_each_choice_and_one_end() {
    let server = Setup::new().start().await;
    let mut ends = BTreeMap::new();
    for case in 0..STREAMS {
        let mut seed = case;
        let (chat, mut body) = body(&mut seed);
        // A panic tells which one it was.
        println!("case {case}: {body}");
        let path = if chat { "/v1/chat/completions" } else { "/v1/completions" };
        body["stream"] = true.into();
        let mut open = server.open(http::Method::POST, path, &body.to_string()).await;
        // A failure before the first token is told by the status.
        let end = match open.response.status().as_u16() {
            200 => check(&open.events().await, chat, &body),
            status => {
                assert_eq!(status, 500);
                "500"
            }
        };
        *ends.entry(end).or_insert(0) += 1;
    }
    assert_eq!(ends.values().sum::<u64>(), STREAMS);
    for end in ["done", "error", "500"] {
        assert!(ends.contains_key(end), "no stream ended so: {ends:?}");
    }
    server.idle().await;
}
