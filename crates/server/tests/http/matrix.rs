//! Features that must not trip over each other: every combination of them.

use serde_json::{Value, json};

use crate::harness::{Server, Setup};

/// What a request may ask for, each beside all others.
const FEATURES: [(&str, &str); 8] = [
    ("grammar", r#"{"structured_outputs": {"regex": "[abc]{0,20}"}}"#),
    ("penalties", r#"{"presence_penalty": 1.5, "frequency_penalty": -1, "repetition_penalty": 2}"#),
    ("choices", r#"{"n": 3}"#),
    ("scores", r#"{"logprobs": 2}"#),
    ("stop strings", r#"{"stop": ["ca", "x"]}"#),
    ("end tokens", r#"{"stop_token_ids": [98], "min_tokens": 2}"#),
    ("sampling", r#"{"temperature": 1, "seed": 7, "top_p": 0.9, "top_k": 5, "min_p": 0.01}"#),
    ("no end", r#"{"ignore_eos": true}"#),
];

/// The completion with the features whose bits are set, and their names.
fn body(bits: usize) -> (Vec<&'static str>, Value) {
    let mut body = json!({"prompt": "abc", "max_tokens": 8, "temperature": 0});
    let mut names = Vec::new();
    for (index, (name, fields)) in FEATURES.into_iter().enumerate() {
        if bits >> index & 1 == 1 {
            names.push(name);
            let fields: serde_json::Map<String, Value> = serde_json::from_str(fields).unwrap();
            body.as_object_mut().unwrap().extend(fields);
        }
    }
    (names, body)
}

/// Texts and finish reasons of the whole reply.
async fn whole(server: &Server, body: &Value, names: &[&str]) -> Vec<(String, Value)> {
    let reply = server.post("/v1/completions", body).await;
    assert_eq!(reply.status, 200, "{names:?}: {}", reply.body);
    let reply = reply.json();
    let choices = reply["choices"].as_array().unwrap();
    assert_eq!(choices.len(), if names.contains(&"choices") { 3 } else { 1 }, "{names:?}");
    let choice = |choice: &Value| {
        let scored = choice["logprobs"]["tokens"].as_array().is_some();
        assert_eq!(scored, names.contains(&"scores"), "{names:?}: {choice}");
        (choice["text"].as_str().unwrap().to_owned(), choice["finish_reason"].clone())
    };
    choices.iter().map(choice).collect()
}

/// The same of the stream.
async fn streamed(server: &Server, body: &Value, choices: usize) -> Vec<(String, Value)> {
    let mut events = server.stream("/v1/completions", body).await.events().await;
    assert_eq!(events.pop().unwrap().data, "[DONE]");
    let mut answers = vec![(String::new(), Value::Null); choices];
    for chunk in events {
        for choice in chunk.json()["choices"].as_array().unwrap() {
            let answer = &mut answers[choice["index"].as_u64().unwrap() as usize];
            answer.0 += choice["text"].as_str().unwrap();
            answer.1 = choice["finish_reason"].clone();
        }
    }
    answers
}

#[tokio::test]
async fn every_combination_of_features_is_answered_and_streams_say_the_same() {
    let server = Setup::new().start().await;
    for bits in 0..1 << FEATURES.len() {
        let (names, body) = body(bits);
        let whole = whole(&server, &body, &names).await;
        assert_eq!(streamed(&server, &body, whole.len()).await, whole, "{names:?}");
        for (text, finish) in &whole {
            assert!(finish == "stop" || finish == "length", "{names:?}: {finish}");
            assert!(text.len() <= 8, "{names:?}: {text}");
            if names.contains(&"grammar") {
                assert!(text.chars().all(|letter| "abc".contains(letter)), "{names:?}: {text}");
            }
        }
    }
    assert_eq!(server.idle().await.value("millrace:panics_total", ""), 0.0);
}
