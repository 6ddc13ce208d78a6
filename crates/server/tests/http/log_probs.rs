//! Log-probabilities in replies, streamed and whole. The scripted device says what they are: -1 for
//! the first token of an answer, -2 for the second and so on, and of byte 255 a half more.

use serde_json::{Value, json};
use server::limits::{BODIES_BYTES_IN_FLIGHT, LOG_PROB_BYTES};

use crate::harness::{Server, Setup};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn chat(more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": "a€"}], "temperature": 0, "max_tokens": 3,
    });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

/// The entries of `logprobs` in a whole reply and, joined, in the stream; they are equal.
async fn both(server: &Server, path: &str, body: &Value) -> Value {
    let reply = server.post(path, body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let whole = reply.json()["choices"][0]["logprobs"].clone();
    let fields: &[&str] = match path {
        CHAT => &["content"],
        _ => &["tokens", "token_logprobs", "top_logprobs", "text_offset"],
    };
    let events = server.stream(path, body).await.events().await;
    for field in fields {
        let mut joined = Vec::new();
        for event in &events[..events.len() - 1] {
            let chunk = event.json()["choices"][0]["logprobs"][*field].clone();
            joined.extend(chunk.as_array().cloned().unwrap_or_default());
        }
        assert_eq!(whole[*field], json!(joined), "{field} of {body}");
    }
    whole
}

#[tokio::test]
async fn a_chat_has_an_entry_with_bytes_for_each_token() {
    let server = Setup::new().start().await;
    let logprobs = both(&server, CHAT, &chat(json!({"logprobs": true, "top_logprobs": 2}))).await;
    let other = |logprob: f32| json!({"token": "\u{fffd}", "logprob": logprob, "bytes": [255]});
    let own = |token: &str, logprob: f32, byte: u8| json!({"token": token, "logprob": logprob, "bytes": [byte]});
    let entry = |own: Value, other: Value| {
        let mut entry = own.clone();
        entry["top_logprobs"] = json!([other, own]);
        entry
    };
    assert_eq!(
        logprobs["content"],
        json!([
            entry(own("a", -1.0, b'a'), other(-0.5)),
            entry(own("\u{fffd}", -2.0, 0xe2), other(-1.5)),
            entry(own("\u{fffd}", -3.0, 0x82), other(-2.5)),
        ])
    );
    let none = both(&server, CHAT, &chat(json!({"logprobs": true}))).await;
    assert_eq!(none["content"][0]["top_logprobs"], json!([]));
    let reply = server.post(CHAT, &chat(json!({"logprobs": false, "top_logprobs": 0}))).await;
    assert_eq!(reply.json()["choices"][0]["logprobs"], json!(null));
}

#[tokio::test]
async fn a_completion_has_four_lists() {
    let server = Setup::new().start().await;
    let body = json!({"prompt": "é€b", "temperature": 0, "max_tokens": 7, "logprobs": 1});
    let logprobs = both(&server, COMPLETIONS, &body).await;
    assert_eq!(
        logprobs["tokens"],
        json!([
            "bytes:\\xc3",
            "bytes:\\xa9",
            "bytes:\\xe2",
            "bytes:\\x82",
            "bytes:\\xac",
            "b",
            "bytes:\\xc3"
        ])
    );
    assert_eq!(logprobs["text_offset"], json!([0, 0, 1, 1, 1, 2, 3]));
    assert_eq!(logprobs["token_logprobs"], json!([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0]));
    // The token itself is there, too, when it is not among the likeliest.
    assert_eq!(logprobs["top_logprobs"][5], json!({"bytes:\\xff": -5.5, "b": -6.0}));
    let body = json!({"prompt": "b", "temperature": 0, "max_tokens": 1, "logprobs": 0});
    let logprobs = both(&server, COMPLETIONS, &body).await;
    assert_eq!(logprobs["top_logprobs"], json!([{"b": -1.0}]));
}

#[tokio::test]
async fn every_token_counted_has_an_entry_whatever_is_held_back_or_cut() {
    let server = Setup::new().start().await;
    let cases = [
        // Held back and told at the end; cut; an end token; half a character.
        (json!({"prompt": "abcdef", "stop": "cdz"}), json!(["a", "b", "c", "d"])),
        (json!({"prompt": "abcdef", "stop": "bc"}), json!(["a", "b", "c"])),
        (json!({"prompt": "ab$"}), json!(["a", "b", "<|end|>"])),
        (json!({"prompt": "ab€"}), json!(["a", "b", "bytes:\\xe2", "bytes:\\x82"])),
    ];
    for (mut body, tokens) in cases {
        body["temperature"] = json!(0);
        body["max_tokens"] = json!(4);
        body["logprobs"] = json!(0);
        assert_eq!(both(&server, COMPLETIONS, &body).await["tokens"], tokens, "{body}");
        let usage = server.post(COMPLETIONS, &body).await.json()["usage"].clone();
        assert_eq!(usage["completion_tokens"], tokens.as_array().expect("a list").len());
    }
    server.idle().await;
}

#[tokio::test]
async fn the_numbers_asked_for_are_bounded_on_both_sides_at_both_endpoints() {
    let server = Setup::new().start().await;
    for (field, value) in [
        ("logprobs", json!(3)),
        ("logprobs", json!("yes")),
        ("top_logprobs", json!(2)),
        ("top_logprobs", json!(-1)),
    ] {
        let mut more = json!({});
        more[field] = value;
        let reply = server.post(CHAT, &chat(more)).await;
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!(field)));
    }
    for (top, status) in [(-1, 400), (0, 200), (20, 200), (21, 400), (1_000_000, 400)] {
        let reply = server.post(CHAT, &chat(json!({"logprobs": true, "top_logprobs": top}))).await;
        assert_eq!(reply.status, status, "{top} gave {}", reply.body);
    }
    for (count, status) in [
        (json!(-1), 400),
        (json!(0), 200),
        (json!(5), 200),
        (json!(6), 400),
        (json!(1_u64 << 40), 400),
        (json!(true), 400),
        (json!(false), 200),
    ] {
        let body = json!({"prompt": "a", "max_tokens": 2, "logprobs": count});
        let reply = server.post(COMPLETIONS, &body).await;
        assert_eq!(reply.status, status, "{body} gave {}", reply.body);
    }
    let body = json!({"prompt": "a", "logprobs": 2, "top_logprobs": 2});
    assert_eq!(server.post(COMPLETIONS, &body).await.error("param"), "top_logprobs");
}

#[tokio::test]
async fn long_answers_must_be_streamed_if_they_could_take_all_the_room_there_is() {
    let mut setup = Setup::new();
    setup.engine.max_model_len = 400_000;
    setup.engine.block_count = 32_768;
    let server = setup.start().await;
    for n in [1, 2] {
        let most = BODIES_BYTES_IN_FLIGHT / (n * 6 * LOG_PROB_BYTES);
        let body = |max_tokens: usize| {
            json!({
                "prompt": "a$", "temperature": 0, "n": n, "logprobs": 5, "max_tokens": max_tokens,
            })
        };
        assert_eq!(server.post(COMPLETIONS, &body(most)).await.status, 200);
        let reply = server.post(COMPLETIONS, &body(most + 1)).await;
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!("logprobs")));
        server.stream(COMPLETIONS, &body(most + 1)).await.events().await;
    }
}

#[tokio::test]
async fn a_reply_is_no_longer_than_the_room_that_was_taken_for_it() {
    let server = Setup::new().start().await;
    for top in [0, 5, 20] {
        let body = chat(json!({"logprobs": true, "top_logprobs": top, "max_tokens": 500}));
        let reply = server.post(CHAT, &body).await;
        let told = reply.json()["choices"][0]["logprobs"]["content"].as_array().map(Vec::len);
        assert_eq!(told, Some(500));
        let entries = 500 * (top + 1);
        let itself = entries * size_of::<(u32, f32)>();
        assert!(reply.body.len() + itself < entries * LOG_PROB_BYTES, "{}", reply.body.len());
    }
}
