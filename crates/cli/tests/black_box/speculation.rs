//! Tokens that are guessed: the same replies, sooner.

use serde_json::{Value, json};

use crate::process::{REAL, Server, TINY, wait_for};

const COMPLETIONS: &str = "/v1/completions";

/// Requests of all kinds to continue `prompt`.
fn bodies(prompt: &str) -> Vec<Value> {
    let plain = json!({"prompt": prompt, "max_tokens": 24, "temperature": 0});
    let with = |changes: Value| {
        let mut body = plain.clone();
        let changes = changes.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(changes);
        body
    };
    vec![
        plain.clone(),
        with(json!({"logprobs": 2})),
        with(json!({"temperature": 0.9, "top_k": 8, "seed": 5, "n": 2})),
        with(json!({"repetition_penalty": 1.02, "frequency_penalty": 0.1})),
        with(json!({"stop": ["three"], "ignore_eos": true})),
        with(json!({"structured_outputs": {"regex": "(one two ){6}three"}})),
        with(json!({"prompt": [prompt, "Once upon a time"], "echo": true})),
    ]
}

/// What is the same in two replies to the same request.
fn choices(server: &Server, body: &Value) -> [Value; 2] {
    let reply = server.post(COMPLETIONS, body);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let reply = reply.json();
    [reply["choices"].clone(), reply["usage"]["completion_tokens"].clone()]
}

/// The line of the log about a request that tokens were guessed for.
fn logged_guesses(server: &Server) -> Value {
    wait_for("a line with guesses", || {
        let log = server.stderr();
        let line = log.lines().find(|line| line.contains("accepted_draft_tokens"))?;
        serde_json::from_str(line).ok()
    })
}

#[test]
fn guesses_from_the_text_change_no_reply() {
    let text = "one two three four five six seven, ".repeat(3);
    let options = ["--speculative-ngram", "5", "--log-format", "json"];
    let plain = Server::start(REAL.iter().copied());
    let guessing = Server::start(REAL.iter().copied().chain(options));
    for body in bodies(&text) {
        assert_eq!(choices(&guessing, &body), choices(&plain, &body), "{body}");
    }
    assert_eq!(guessing.get("/server_info").json()["num_speculative_tokens"], 5);
    let count = |name: &str| guessing.metric(&format!("vllm:spec_decode_num_{name}_total"));
    let [drafts, tokens, accepted] = ["drafts", "draft_tokens", "accepted_tokens"].map(count);
    assert!(drafts < tokens && accepted <= tokens, "{drafts} drafts, {accepted} of {tokens}");
    assert!(20.0 < accepted, "{accepted} of {tokens}");
    let metrics = guessing.get("/metrics").body;
    let places = metrics.matches("vllm:spec_decode_num_accepted_tokens_per_pos_total{").count();
    assert_eq!(places, 5);
    assert!(!plain.get("/metrics").body.contains("spec_decode"));
    let line = logged_guesses(&guessing);
    assert!(line["accepted_draft_tokens"].as_u64() <= line["draft_tokens"].as_u64(), "{line}");
}

#[test]
fn a_model_that_guesses_changes_no_reply_and_counts_in_the_memory() {
    let draft = ["--speculative-model", "dummy:tiny", "--num-speculative-tokens", "3"];
    let plain = Server::start(TINY.iter().copied());
    let guessing = Server::start(TINY.iter().copied().chain(draft));
    for body in bodies("one two three ") {
        assert_eq!(choices(&guessing, &body), choices(&plain, &body), "{body}");
    }
    assert!(0.0 < guessing.metric("vllm:spec_decode_num_accepted_tokens_total"));
    let log = guessing.stderr();
    assert!(log.contains("Of this the draft model has weights"), "{log}");
    let blocks = |server: &Server| server.get("/server_info").json()["block_count"].clone();
    assert!(blocks(&guessing).as_u64() < blocks(&plain).as_u64(), "its keys and values count");
}
