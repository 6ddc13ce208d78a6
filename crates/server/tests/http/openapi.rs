//! Replies are what `/openapi.json` says.

use http::Method;
use serde_json::{Value, json};

use crate::client::{Reply, request, send};
use crate::harness::{Server, Setup};

/// A body for each path that takes one.
fn samples() -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": "ab"}]);
    vec![
        ("/v1/completions", json!({"prompt": "ab", "max_tokens": 2})),
        ("/v1/chat/completions", json!({"messages": messages, "max_tokens": 2})),
        ("/v1/responses", json!({"input": "ab", "max_output_tokens": 2})),
        ("/v1/messages", json!({"messages": messages, "max_tokens": 2})),
        ("/v1/messages/count_tokens", json!({"messages": messages})),
        ("/v1/embeddings", json!({"input": ["ab", "c"]})),
        ("/tokenize", json!({"prompt": "ab", "return_token_strs": true})),
        ("/detokenize", json!({"tokens": [97]})),
        ("/ping", Value::Null),
    ]
}

/// What keeps `value` from `schema`, if anything: the part of JSON Schema that the document uses for
/// replies.
fn misfit(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(&reference[1..]).expect("references are met");
        return misfit(document, target, value);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices.iter().any(|choice| misfit(document, choice, value).is_none());
        return (!fits).then(|| format!("{value} is none of {choices:?}"));
    }
    if let Some(constant) = schema.get("const") {
        return (constant != value).then(|| format!("{value} is not {constant}"));
    }
    if let Some(choices) = schema["enum"].as_array() {
        return (!choices.contains(value)).then(|| format!("{value} is none of {choices:?}"));
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    if !kinds.iter().any(|kind| is_of(value, kind.as_str().expect("a schema has a type"))) {
        return Some(format!("{value} is not of {kinds:?}"));
    }
    let bound = |name: &str| schema[name].as_f64();
    if let Some(number) = value.as_f64()
        && (bound("minimum").is_some_and(|min| number < min)
            || bound("maximum").is_some_and(|max| max < number))
    {
        return Some(format!("{number} is out of the range of {schema}"));
    }
    if let Some(items) = value.as_array() {
        return items.iter().find_map(|item| misfit(document, &schema["items"], item));
    }
    misfit_of_fields(document, schema, value)
}

fn misfit_of_fields(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    let fields = value.as_object()?;
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if !fields.contains_key(name) {
            return Some(format!("`{name}` is required and not there: {value}"));
        }
    }
    fields.iter().find_map(|(name, value)| match schema["properties"].get(name) {
        Some(schema) => misfit(document, schema, value).map(|why| format!("`{name}`: {why}")),
        None if schema["additionalProperties"] == false => {
            Some(format!("add `{name}` to the schema of this reply in src/openapi.json"))
        }
        None => None,
    })
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type of JSON: {other}"),
    }
}

/// Panics unless the document describes this reply of an operation.
fn check(document: &Value, operation: (&str, &str), reply: &Reply) {
    let why = undescribed(document, operation, reply);
    assert_eq!(why, None, "{operation:?}: {} {}", reply.status, reply.body);
}

/// What of this reply of an operation the document does not describe, if anything.
pub fn undescribed(
    document: &Value,
    (path, method): (&str, &str),
    reply: &Reply,
) -> Option<String> {
    let responses = &document["paths"][path][method]["responses"];
    let status = reply.status.as_str();
    let mut response = &responses[status];
    if let Some(reference) = response["$ref"].as_str() {
        response = document.pointer(&reference[1..]).expect("references are met");
    }
    if response.is_null() {
        return Some(format!("the status {status}"));
    }
    let header = reply.headers["content-type"].to_str().unwrap();
    let media_type = header.split(';').next().unwrap();
    let content = &response["content"][media_type];
    match media_type {
        _ if content.is_null() => Some(format!("the media type {media_type}")),
        "application/json" => misfit(document, &content["schema"], &reply.json()),
        _ => None,
    }
}

pub async fn document(server: &Server) -> Value {
    let reply = server.get("/openapi.json").await;
    assert_eq!(reply.headers["content-type"], "application/json");
    reply.json()
}

#[tokio::test]
async fn replies_have_the_fields_that_the_document_names() {
    let server = Setup::new().start().await;
    let document = document(&server).await;
    let samples = samples();
    for (path, operations) in document["paths"].as_object().unwrap() {
        if !operations["get"].is_null() {
            check(&document, (path, "get"), &server.get(&path.replace("{id}", "tiny")).await);
        }
        if operations["post"].is_null() {
            continue;
        }
        let sample = samples.iter().find(|(of, _)| of == path);
        let (_, body) = sample.unwrap_or_else(|| panic!("add a body for {path} to `samples()`"));
        let reply = server.post(path, body).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        check(&document, (path, "post"), &reply);
    }
}

#[tokio::test]
async fn refusals_are_those_that_the_document_names() {
    let server = Setup::new().start().await;
    let document = document(&server).await;
    check(&document, ("/v1/models/{id}", "get"), &server.get("/v1/models/other").await);
    for (path, sample) in samples().iter().filter(|(_, sample)| sample.is_object()) {
        let mut other_model = sample.clone();
        other_model["model"] = json!("other");
        let model = server.post(path, &other_model).await;
        assert_eq!(model.status, 404, "{path}");
        let malformed = server.post_raw(path, "[]").await;
        assert_eq!(malformed.status, 400, "{path}");
        let mut request = request(Method::POST, path, &sample.to_string());
        request.headers_mut().insert("content-type", "text/plain".parse().unwrap());
        let media_type = send(server.address, request).await.unwrap().reply().await;
        assert_eq!(media_type.status, 415, "{path}");
        for reply in [model, malformed, media_type] {
            check(&document, (path, "post"), &reply);
        }
    }
    let failed = server.post("/v1/completions", &json!({"prompt": "!", "temperature": 0})).await;
    assert_eq!(failed.status, 500);
    check(&document, ("/v1/completions", "post"), &failed);
}

#[test]
fn a_reply_that_does_not_fit_is_told() {
    let document = json!({"s": {"type": ["string", "null"]}});
    let schema = json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {
            "a": {"type": "array", "items": {"$ref": "#/s"}}, "b": {"type": "integer", "minimum": 1},
            "c": {"anyOf": [{"const": 1}, {"enum": ["x"]}]},
        },
    });
    let fits = |value: Value| misfit(&document, &schema, &value).is_none();
    assert!(fits(json!({"a": ["x", null], "b": 1, "c": "x"})));
    for other in [
        json!([]),
        json!({}),
        json!({"a": [1]}),
        json!({"a": [], "b": 0}),
        json!({"a": [], "b": 1.5}),
        json!({"a": [], "c": 2}),
        json!({"a": [], "d": 1}),
    ] {
        assert!(!fits(other.clone()), "{other}");
    }
}
