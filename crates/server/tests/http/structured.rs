//! Answers that follow a schema, an expression, choices or a grammar.

use serde_json::{Value, json};

use crate::harness::{Server, Setup};

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
        ("response_format", json!({})),
        ("response_format", json!("")),
        ("response_format", json!({"type": "structural_tag"})),
        ("response_format", json!({"type": "json_schema"})),
        ("response_format", json!({"type": "json_schema", "json_schema": {"schema": 3}})),
        ("structured_outputs", json!({"structural_tag": "x"})),
        ("structured_outputs", json!({"regex": "a", "choice": ["b"]})),
        ("structured_outputs", json!("a")),
        ("structured_outputs", json!([])),
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

/// The ids of these bytes.
fn ids(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[tokio::test]
async fn tokens_are_those_of_the_grammar_that_other_fields_leave() {
    let server = Setup::new().start().await;
    let regex = "[a-d]{3}[x-z]";
    let cases = [
        // The script would say b, which the grammar allows.
        (json!({"guided_regex": regex}), "bbbx"),
        // Of those allowed the first; the end token need not be named.
        (json!({"guided_regex": regex, "allowed_token_ids": ids("cdz")}), "cccz"),
        (json!({"guided_regex": regex, "bad_words": ["b", "x"]}), "aaay"),
        (json!({"guided_regex": regex, "bad_words": ["bb"]}), "babx"),
        (json!({"guided_regex": regex, "logit_bias": {"98": -100, "100": 1, "122": 1}}), "dddz"),
        // Where it may end, that is one way to go on, and where it must, the only one.
        (json!({"guided_regex": "b+", "bad_words": ["bb"]}), "b"),
        (json!({"guided_regex": "b{2}", "allowed_token_ids": ids("b"), "min_tokens": 9}), "bb"),
    ];
    for (fields, expected) in cases {
        let reply = server.post("/v1/completions", &body("b", &fields)).await;
        assert_eq!(reply.json()["choices"][0]["text"], expected, "{fields}: {}", reply.body);
        assert_eq!(reply.json()["choices"][0]["finish_reason"], "stop");
    }
    server.end().await;
}

#[tokio::test]
async fn forced_calls_are_of_the_allowed_tokens() {
    let server = Setup::new().start().await;
    let chat = |allowed: &str| {
        json!({
            "messages": [{"role": "user", "content": "x"}],
            "temperature": 0,
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {
                "type": "object", "properties": {"a": {"type": "integer", "minimum": 0}},
                "required": ["a"], "additionalProperties": false
            }}}],
            "tool_choice": "required",
            "parallel_tool_calls": false,
            "allowed_token_ids": ids(allowed),
        })
    };
    let call = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 7}}</tool_call>\n ";
    let reply = server.post("/v1/chat/completions", &chat(call)).await.json();
    let function = &reply["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(function["name"], "f", "{reply}");
    let arguments: Value =
        serde_json::from_str(function["arguments"].as_str().expect("a text")).expect("JSON");
    let digits = arguments["a"].to_string();
    assert!(digits.bytes().all(|digit| digit == b'7'), "{digits}");
    let reply = server.post("/v1/chat/completions", &chat("<to")).await.json();
    assert_no_token_left(&reply, "tools");
    server.end().await;
}

fn assert_no_token_left(reply: &Value, param: &str) {
    let error = &reply["error"];
    assert_eq!(error["type"], "invalid_request_error", "{reply}");
    assert_eq!(error["code"], "no_token_left", "{reply}");
    assert_eq!(error["param"], param, "{reply}");
}

/// Of so many requests nobody is to blame but those who sent them.
async fn assert_not_faulty(server: &Server, requests: f64) {
    let metrics = server.idle().await;
    assert_eq!(metrics.ended("no_token"), requests);
    assert_eq!(metrics.ended("error"), 0.0);
    assert_eq!(metrics.value("vllm:corrupted_requests_total", ""), 0.0);
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn what_leaves_no_token_is_the_clients_error_before_and_within_a_stream() {
    let server = Setup::new().start().await;
    let cases = [
        ("guided_regex", json!({"guided_regex": "b{3}c", "allowed_token_ids": ids("b")}), 3),
        ("guided_regex", json!({"guided_regex": "b{3}c", "bad_words": ["c"]}), 3),
        ("guided_regex", json!({"guided_regex": "b{3}c", "allowed_token_ids": ids("x")}), 0),
        ("allowed_token_ids", json!({"allowed_token_ids": ids("b"), "bad_words": ["bbb"]}), 2),
        // Needs more work for a step the longer it gets, and at some place more than is allowed.
        ("grammar", json!({"grammar": "start: start start | \"b\"", "max_tokens": 900}), 100),
    ];
    for (param, fields, told) in &cases {
        let reply = server.post("/v1/completions", &body("b", fields)).await;
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert_no_token_left(&reply.json(), param);
        let mut fields = fields.clone();
        fields["stream"] = json!(true);
        if *told == 0 {
            let reply = server.post("/v1/completions", &body("b", &fields)).await;
            assert_eq!(reply.status, 400, "{}", reply.body);
            assert_no_token_left(&reply.json(), param);
            continue;
        }
        let events = server.stream("/v1/completions", &body("b", &fields)).await.events().await;
        let (end, tokens) = events.split_last().expect("an event");
        assert!(*told <= tokens.len() && tokens.len() < 900, "{} tokens", tokens.len());
        assert_eq!(end.name.as_deref(), Some("error"));
        assert_no_token_left(&end.json(), param);
    }
    assert_not_faulty(&server, 2.0 * cases.len() as f64).await;
    server.end().await;
}
