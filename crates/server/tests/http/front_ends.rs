//! Requests in the shapes that common programs send, with all that they add to OpenAI's fields.

use serde_json::{Value, json};

use crate::harness::Setup;

const CHAT: &str = "/v1/chat/completions";

/// A line for each: who sends it, and the body, whose question the device answers with `hello`.
const CHATS: &str = include_str!("front_ends.jsonl");

/// Knows functions; the prompt is the last message, which the device repeats.
const KNOWS_TOOLS: &str = "{% if tools %}{% endif %}{{ messages[-1].content }}{# <tool_call> #}";

#[tokio::test]
async fn chats_of_common_programs_are_answered() {
    let server = Setup { template: Some(KNOWS_TOOLS), ..Setup::new() }.start().await;
    for line in CHATS.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let (who, mut body) = (&line["who"], line["body"].clone());
        // So that the answer is known.
        body["temperature"] = json!(0);
        let is_stream = body["stream"] == true;
        let wants_usage = body["stream_options"]["include_usage"] == true;
        let mut reply = server.open(http::Method::POST, CHAT, &body.to_string()).await;
        let kind = reply.response.headers()["content-type"].to_str().expect("text").to_owned();
        if !is_stream {
            let reply = reply.reply().await;
            assert_eq!((reply.status.as_u16(), &*kind), (200, "application/json"), "{who}");
            assert_eq!(reply.json()["choices"][0]["message"]["content"], "hello", "{who}");
            continue;
        }
        assert_eq!(reply.response.status(), 200, "{who}");
        assert!(kind.starts_with("text/event-stream"), "{who}: {kind}");
        let events = reply.events().await;
        let (done, chunks) = events.split_last().expect("a stream is not empty");
        assert_eq!(done.data, "[DONE]", "{who}");
        let said: String = chunks
            .iter()
            .filter_map(|chunk| {
                chunk.json()["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
            })
            .collect();
        assert_eq!(said, "hello", "{who}");
        let last = chunks.last().expect("a chunk").json();
        assert_eq!(last["usage"].is_object(), wants_usage, "{who}");
    }
}

#[tokio::test]
async fn completions_of_editors_are_answered() {
    let server = Setup::new().start().await;
    let stops = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>", "\n\n", "```"];
    let body = json!({
        "model": "tiny", "prompt": "hello$", "max_tokens": 100, "temperature": 0, "stop": stops,
        "stream": false, "suffix": null, "echo": false, "best_of": 1, "logprobs": null,
    });
    let reply = server.post("/v1/completions", &body).await;
    assert_eq!(reply.json()["choices"][0]["text"], "hello");
}

/// What a program reads that lets its user choose a model, or checks an address.
#[tokio::test]
async fn the_list_of_models_has_what_choosers_read() {
    let server = Setup::new().start().await;
    let reply = server.get("/v1/models").await;
    assert_eq!(reply.headers["content-type"], "application/json");
    let list = reply.json();
    assert_eq!(list["object"], "list");
    let model = &list["data"][0];
    assert_eq!((&model["id"], &model["object"]), (&json!("tiny"), &json!("model")));
    assert!(model["created"].is_u64() && model["owned_by"].is_string(), "{model}");
    assert_eq!(model["max_model_len"], 1000);
    assert_eq!(&server.get("/v1/models/tiny").await.json(), model);
    // Some send a query, and some a slash behind the path.
    assert_eq!(server.get("/v1/models?limit=1000").await.json()["data"][0]["id"], "tiny");
    assert_eq!(server.get("/v1/models/").await.status, 404);
}
