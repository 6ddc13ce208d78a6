//! Answers that follow a schema, an expression, choices or a grammar.

use serde_json::{Value, json};

use crate::harness::Setup;

/// A greedy body that asks for up to 300 tokens, with `fields` in it.
fn body(prompt: &str, fields: &Value) -> Value {
    let mut body = json!({"prompt": prompt, "max_tokens": 300, "temperature": 0});
    let fields = fields.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(fields);
    body
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
        "required": ["a", "b"],
        "additionalProperties": false
    })
}

#[tokio::test]
async fn every_field_shapes_the_answer() {
    let server = Setup::new().start().await;
    let named = json!({"name": "n", "strict": true, "schema": schema()});
    let (json_text, lark) = (schema().to_string(), "start: \"a\" | \"(\" start \")\"");
    let cases = [
        json!({"response_format": {"type": "json_schema", "json_schema": named}}),
        json!({"response_format": {"type": "json_object", "schema": schema()}}),
        json!({"structured_outputs": {"json": schema()}}),
        json!({"structured_outputs": {"json": json_text}}),
        json!({"guided_json": schema()}),
        json!({"json_schema": schema()}),
    ];
    for fields in cases {
        // The script would repeat its prompt; what is not allowed becomes the first that is.
        let reply = server.post("/v1/completions", &body("7}", &fields)).await;
        let reply = reply.json();
        let text = reply["choices"][0]["text"].as_str().expect("a text");
        assert_eq!(reply["choices"][0]["finish_reason"], "stop", "{fields}: {text}");
        let answer: Value = serde_json::from_str(text).expect(text);
        assert!(answer["a"].is_i64() && (answer["b"] == "x" || answer["b"] == "y"), "{text}");
    }
    let texts = [
        (json!({"guided_regex": "[ab]{3}c"}), "bbbc"),
        (json!({"regex": "[ab]{3}c"}), "bbbc"),
        (json!({"structured_outputs": {"regex": "[ab]{3}c"}}), "bbbc"),
        (json!({"guided_choice": ["aa", "bz"]}), "bz"),
        (json!({"structured_outputs": {"choice": ["aa", "bz"]}}), "bz"),
        (json!({"guided_grammar": lark}), "((((a))))"),
        (json!({"grammar": lark}), "((((a))))"),
        (json!({"structured_outputs": {"grammar": lark}}), "((((a))))"),
    ];
    for (fields, expected) in texts {
        let prompt = if expected.starts_with('(') { "((((a))))$" } else { "b" };
        let reply = server.post("/v1/completions", &body(prompt, &fields)).await.json();
        assert_eq!(reply["choices"][0]["text"], expected, "{fields}");
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    }
    server.end().await;
}

#[tokio::test]
async fn chats_streams_and_several_answers_follow_it_too() {
    let server = Setup::new().start().await;
    let fields = json!({"guided_regex": "[0-9]{4}", "n": 3, "temperature": 1, "seed": 1});
    let reply = server.post("/v1/completions", &body("x", &fields)).await.json();
    let mut digits = 0;
    for choice in reply["choices"].as_array().expect("choices") {
        digits += choice["text"].as_str().expect("a text").matches(char::is_numeric).count();
    }
    assert_eq!(digits, 12);
    let chat = json!({
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0,
        "response_format": {"type": "json_object"}
    });
    let reply = server.post("/v1/chat/completions", &chat).await.json();
    let text = reply["choices"][0]["message"]["content"].as_str().expect("a text");
    assert!(text.starts_with('{'), "{text}");
    server.end().await;
}

#[tokio::test]
async fn min_tokens_and_ignore_eos_lengthen_an_answer_unseen() {
    let server = Setup::new().start().await;
    for fields in [json!({"min_tokens": 9}), json!({"ignore_eos": true, "max_tokens": 9})] {
        let mut fields = fields;
        fields["guided_choice"] = json!(["ab"]);
        let reply = server.post("/v1/completions", &body("x", &fields)).await.json();
        assert_eq!(reply["choices"][0]["text"], "ab", "{fields}");
        assert!(9 <= reply["usage"]["completion_tokens"].as_u64().expect("a number"), "{reply}");
    }
    server.end().await;
}

#[tokio::test]
async fn what_is_invalid_unsupported_or_too_large_is_refused_by_name() {
    let server = Setup::new().start().await;
    let deep = (0..40).fold(json!({}), |inner, _| json!({"not": inner}));
    let cases = [
        ("response_format", json!({"type": "structural_tag"})),
        ("response_format", json!({"type": "json_schema"})),
        ("response_format", json!({"type": "json_schema", "json_schema": {"schema": 3}})),
        ("structured_outputs", json!({"structural_tag": "x"})),
        ("structured_outputs", json!({"regex": "a", "choice": ["b"]})),
        ("structured_outputs", json!("a")),
        ("guided_json", json!({"$ref": "#/$defs/none"})),
        ("guided_json", json!("{")),
        ("json_schema", deep),
        ("guided_regex", json!("(a")),
        ("guided_regex", json!("a".repeat(5000))),
        ("regex", json!(3)),
        ("guided_choice", json!(["a", 1])),
        ("guided_choice", json!(["a", ""])),
        ("guided_grammar", json!("start: nothing")),
        ("grammar", json!("root ::= [a-z]+")),
    ];
    for (param, value) in cases {
        let reply = server.post("/v1/completions", &body("x", &json!({param: value}))).await;
        assert_eq!(reply.status, 400, "{param}: {}", reply.body);
        assert_eq!(reply.json()["error"]["param"], param, "{}", reply.body);
    }
    let two = json!({"guided_regex": "a", "guided_choice": ["b"]});
    let reply = server.post("/v1/completions", &body("x", &two)).await;
    assert_eq!(reply.json()["error"]["param"], "guided_choice", "{}", reply.body);
    // Nothing was submitted, and the server goes on.
    let metrics = server.idle().await;
    assert_eq!(metrics.value("millrace:requests_accepted_total", ""), 0.0);
    server.end().await;
}
