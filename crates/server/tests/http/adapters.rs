//! Requests that choose an adapter by its name.

use serde_json::{Value, json};

use crate::harness::{Server, Setup};

const COMPLETIONS: &str = "/v1/completions";

fn body(model: &str, prompt: &str) -> Value {
    json!({"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 4})
}

async fn text(server: &Server, model: &str, prompt: &str) -> (Value, Value) {
    let reply = server.post(COMPLETIONS, &body(model, prompt)).await;
    assert_eq!(reply.status, 200, "{:?}", reply.json());
    let reply = reply.json();
    (reply["model"].clone(), reply["choices"][0]["text"].clone())
}

#[tokio::test]
async fn the_model_field_chooses_the_adapter_and_the_reply_names_it() {
    let server = Setup::new().start().await;
    for (model, expected) in [("tiny", "abca"), ("sql", "bcdb"), ("poem", "cdec"), ("", "abca")] {
        let name = if model.is_empty() { "tiny" } else { model };
        assert_eq!(text(&server, model, "abc").await, (json!(name), json!(expected)));
    }
    let chat = json!({
        "model": "sql", "temperature": 0, "max_tokens": 2,
        "messages": [{"role": "user", "content": "ab"}],
    });
    let reply = server.post("/v1/chat/completions", &chat).await.json();
    assert_eq!(
        (&reply["model"], &reply["choices"][0]["message"]["content"]),
        (&json!("sql"), &json!("bc"))
    );
    let unknown = server.post(COMPLETIONS, &body("prose", "abc")).await;
    assert_eq!((unknown.status.as_u16(), unknown.error("code")), (404, json!("model_not_found")));
    let message = unknown.error("message").to_string();
    assert!(message.contains("`tiny`, `sql`, `poem`"), "{message}");
}

#[tokio::test]
async fn streams_of_several_adapters_run_side_by_side() {
    let server = Setup::new().start().await;
    let streamed = async |model: &str| {
        let mut body = body(model, "abc");
        (body["stream"], body["max_tokens"]) = (json!(true), json!(60));
        let mut text = String::new();
        let events = server.stream(COMPLETIONS, &body).await.events().await;
        for event in events.iter().filter(|event| event.data.starts_with('{')) {
            let chunk = event.json();
            assert_eq!(chunk["model"], model);
            text += chunk["choices"][0]["text"].as_str().unwrap_or_default();
        }
        text
    };
    let texts = tokio::join!(streamed("tiny"), streamed("sql"), streamed("poem"), streamed("sql"));
    let expected = |text: &str| text.repeat(20);
    assert_eq!(texts, (expected("abc"), expected("bcd"), expected("cde"), expected("bcd")));
}

#[tokio::test]
async fn what_is_cached_of_a_prompt_is_not_shared_between_adapters() {
    let server = Setup::new().start().await;
    let prompt = "x".repeat(40);
    let cached = async |model: &str| {
        let reply = server.post(COMPLETIONS, &body(model, &prompt)).await.json();
        reply["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0)
    };
    for (model, expected) in
        [("tiny", 0), ("tiny", 32), ("sql", 0), ("poem", 0), ("sql", 32), ("tiny", 32)]
    {
        assert_eq!(cached(model).await, expected, "{model}");
    }
}

#[tokio::test]
async fn other_endpoints_take_the_names_of_adapters_too() {
    let server = Setup::new().start().await;
    let embedded = server.post("/v1/embeddings", &json!({"model": "sql", "input": "ab"})).await;
    assert_eq!((embedded.status.as_u16(), &embedded.json()["model"]), (200, &json!("sql")));
    let counted = server.post("/tokenize", &json!({"model": "poem", "prompt": "ab"})).await;
    assert_eq!(counted.json()["count"], 2);
    let message = json!({
        "model": "sql", "max_tokens": 2, "temperature": 0,
        "messages": [{"role": "user", "content": "ab"}],
    });
    assert_eq!(server.post("/v1/messages", &message).await.json()["model"], "sql");
    let response = json!({"model": "poem", "input": "ab", "max_output_tokens": 2});
    assert_eq!(server.post("/v1/responses", &response).await.json()["model"], "poem");
    // Whatever names clients send, the series of the metrics stay those of the model.
    let metrics = server.get("/metrics").await.body;
    assert!(metrics.contains("model_name=\"tiny\"") && !metrics.contains("model_name=\"sql\""));
}

/// The adapters that `/metrics` names as running and as waiting.
async fn in_use(server: &Server) -> (String, String) {
    let page = server.get("/metrics").await.body;
    let line = page.lines().find(|line| line.starts_with("vllm:lora_requests_info{"));
    let line = line.expect("there are adapters");
    assert!(line.contains(r#"max_lora="2""#), "{line}");
    let label = |name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).expect(line);
        rest.split_once('"').expect(line).0.to_owned()
    };
    (label("running_lora_adapters"), label("waiting_lora_adapters"))
}

#[tokio::test]
async fn metrics_name_the_adapters_in_use() {
    let mut setup = Setup::new();
    setup.engine.max_num_seqs = 1;
    let (server, gate) = setup.start_gated().await;
    assert_eq!(in_use(&server).await, (String::new(), String::new()));
    let mut first = server.stream(COMPLETIONS, &body("poem", "abc")).await;
    let mut others = Vec::new();
    for model in ["sql", "poem", "tiny"] {
        others.push(server.stream(COMPLETIONS, &body(model, "abc")).await);
    }
    assert_eq!(in_use(&server).await, (String::new(), "sql,poem".to_owned()));
    server
        .step_until(&gate, |metrics| {
            0.0 < metrics.value("vllm:time_to_first_token_seconds_count", "")
        })
        .await;
    assert_eq!(in_use(&server).await, ("poem".to_owned(), "sql,poem".to_owned()));
    drop(gate);
    first.events().await;
    for mut other in others {
        other.events().await;
    }
    server.idle().await;
    assert_eq!(in_use(&server).await, (String::new(), String::new()));
}
