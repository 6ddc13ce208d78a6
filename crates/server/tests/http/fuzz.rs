//! Bodies made of the parts of valid ones, some spoilt: whatever comes is answered as the document says,
//! is never a fault of the server's, and touches nobody else.

use http::Method;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseError;
use serde_json::{Map, Value, json};

use crate::client::{Reply, request, send};
use crate::harness::{Server, Setup};
use crate::openapi::{document, undescribed};

/// Valid bodies, one a line.
const BODIES: &str = include_str!("fuzz.jsonl");

/// What no field expects, as JSON or nearly.
const HOSTILE: [&str; 41] = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "-0.0",
    "0.5",
    "1e400",
    "-1e400",
    "1e-400",
    "1E+2",
    "01",
    "NaN",
    "4294967296",
    "-2147483649",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "123456789012345678901234567890",
    r#""""#,
    r#"" ""#,
    r#""a""#,
    r#""\u0000""#,
    r#""\ud800""#,
    r#""\u202e💥""#,
    r#""<|end|>""#,
    r#""</think>""#,
    r#""{{7*7}}""#,
    r#""(a+)+$""#,
    r#""1""#,
    r#""auto""#,
    "[]",
    "[[]]",
    "[null]",
    "[0,\"a\",{}]",
    "{}",
    r#"{"a":null}"#,
    r##"{"$ref":"#"}"##,
    r#"{"type":"object"}"#,
];

/// What may come to stand in the middle of a body.
const SPOIL: [&[u8]; 12] = [
    b"",
    b"\"",
    b"}",
    b"]",
    b",",
    b":",
    b"\\",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"{\"model\":\"other\"}",
];

/// Bytes that the message of an error may have, the path of its field before it.
const MESSAGE_BYTES_MAX: usize = 1212;

/// Longer lists and texts are for the tests of the limits.
const REPEATED_MAX: usize = 300;

/// What is done to a body, one after the other.
#[derive(Debug, Clone)]
enum Change {
    /// A field of the document gets one of the values at its bounds.
    Field(Index, Index),
    /// A field of the document gets what is somewhere else in a body.
    Borrow(Index, Index),
    /// Something within is replaced by what is hostile.
    Replace(Index, usize),
    /// Something within is left out.
    Remove(Index),
    /// An element is there many times.
    Repeat(Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let (at, other) = (any::<Index>, any::<Index>);
    prop_oneof![
        4 => (at(), other()).prop_map(|(field, value)| Change::Field(field, value)),
        1 => (at(), other()).prop_map(|(field, from)| Change::Borrow(field, from)),
        3 => (at(), 0..HOSTILE.len()).prop_map(|(at, with)| Change::Replace(at, with)),
        1 => at().prop_map(Change::Remove),
        1 => (at(), 2..REPEATED_MAX).prop_map(|(at, times)| Change::Repeat(at, times)),
    ]
}

/// Bytes that stand in the place of so many others.
type Spoil = (Index, usize, &'static [u8]);

fn spoil() -> impl Strategy<Value = Option<Spoil>> {
    let cut = prop_oneof![Just(0_usize), Just(1), 0..40_usize];
    prop::option::weighted(0.2, (any::<Index>(), cut, select(&SPOIL[..])))
}

/// The fields of a path's bodies, and valid bodies.
struct Parts {
    fields: Vec<(String, Vec<Value>)>,
    bodies: Vec<Value>,
}

impl Parts {
    fn of(document: &Value, path: &str) -> Parts {
        let body = &document["paths"][path]["post"]["requestBody"];
        let schema = resolved(document, &body["content"]["application/json"]["schema"]);
        let properties = schema["properties"].as_object().expect("a body has fields");
        let values = |(name, schema): (&String, _)| (name.clone(), values(document, schema, 4));
        let lines = BODIES.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let bodies = lines.filter(|line| line["path"] == path).map(|line| line["body"].clone());
        Parts { fields: properties.iter().map(values).collect(), bodies: bodies.collect() }
    }

    fn change(&self, body: &mut Value, change: &Change) {
        match change {
            Change::Field(field, value) => {
                let (name, values) = field.get(&self.fields);
                set(body, name, value.get(values).clone());
            }
            Change::Borrow(field, from) => {
                let mut from_body = from.get(&self.bodies).clone();
                set(body, &field.get(&self.fields).0, within(&mut from_body, from).clone());
            }
            Change::Replace(at, with) => *within(body, at) = raw(*with),
            Change::Remove(at) => remove(body, at),
            Change::Repeat(at, times) => match within(body, at) {
                Value::Array(items) if !items.is_empty() => {
                    let item = items[0].clone();
                    items.extend(vec![item; *times]);
                }
                Value::String(text) => *text = text.repeat(*times),
                _ => {}
            },
        }
    }

    /// The bytes of a changed body.
    fn bytes(&self, base: Index, changes: &[Change], spoil: Option<&Spoil>) -> Vec<u8> {
        let mut body = base.get(&self.bodies).clone();
        for change in changes {
            self.change(&mut body, change);
        }
        let mut text = body.to_string();
        for (index, hostile) in HOSTILE.iter().enumerate() {
            text = text.replace(&raw(index).to_string(), hostile);
        }
        let mut bytes = text.into_bytes();
        if let Some((at, cut, with)) = spoil {
            let at = at.index(bytes.len());
            bytes.splice(at..bytes.len().min(at + cut), with.iter().copied());
        }
        bytes
    }
}

/// Sets a field of a body, if that is an object still.
fn set(body: &mut Value, field: &str, value: Value) {
    if let Some(fields) = body.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

/// Stands for what [`Value`] cannot hold.
fn raw(hostile: usize) -> Value {
    format!("<raw {hostile}>").into()
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).expect("references are met"),
        None => schema,
    }
}

/// Values at the bounds of `schema`, on both sides of each.
fn values(document: &Value, schema: &Value, depth: usize) -> Vec<Value> {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().flat_map(|choice| values(document, choice, depth)).collect();
    }
    if let Some(constant) = schema.get("const") {
        return vec![constant.clone()];
    }
    if let Some(choices) = schema["enum"].as_array() {
        return choices.clone();
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let mut found = Vec::new();
    for kind in kinds {
        match kind.as_str() {
            Some("boolean") => found.extend([true.into(), false.into()]),
            Some("integer" | "number") => found.extend(numbers(schema)),
            Some("string") => {
                found.extend(repeated(schema, "Length", |count| "a".repeat(count).into()))
            }
            Some("array") if 0 < depth => {
                let items = values(document, &schema["items"], depth - 1);
                let few = items.iter().take(6).map(|item| json!([item]));
                found.extend(few);
                let first = items.first().cloned().unwrap_or_default();
                found.extend(repeated(schema, "Items", |count| vec![first.clone(); count].into()));
            }
            Some("object") if 0 < depth => found.extend(objects(document, schema, depth)),
            _ => found.push(Value::Null),
        }
    }
    found
}

fn numbers(schema: &Value) -> Vec<Value> {
    let mut found = vec![json!(0), json!(1), json!(-1), json!(0.5)];
    for bound in ["minimum", "maximum", "exclusiveMinimum"] {
        if let Some(bound) = schema[bound].as_i64() {
            found
                .extend([bound.saturating_sub(1), bound, bound.saturating_add(1)].map(Value::from));
        } else if let Some(bound) = schema[bound].as_f64() {
            found.extend([bound.next_down(), bound, bound.next_up()].map(Value::from));
        }
    }
    found
}

/// As many of something as are just enough, too few, and too many.
fn repeated(schema: &Value, of: &str, make: impl Fn(usize) -> Value) -> Vec<Value> {
    let bounds = ["min", "max"].map(|bound| schema[format!("{bound}{of}")].as_u64().unwrap_or(1));
    let counts = bounds.iter().flat_map(|bound| {
        let bound = *bound as usize;
        [bound.saturating_sub(1), bound, bound + 1]
    });
    counts.filter(|count| *count <= REPEATED_MAX).map(make).collect()
}

/// An object with what is required, and one for each value of each further field.
fn objects(document: &Value, schema: &Value, depth: usize) -> Vec<Value> {
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let of = |name: &str| values(document, &properties[name], depth - 1);
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let first = |name: &str| (name.to_owned(), of(name).first().cloned().unwrap_or_default());
    let least: Map<String, Value> = required.map(first).collect();
    let mut found = vec![Value::from(least.clone())];
    for name in properties.keys() {
        for value in of(name).into_iter().take(8) {
            let mut object = least.clone();
            object.insert(name.clone(), value);
            found.push(object.into());
        }
    }
    found
}

/// Something in `value`: itself, or a value at any depth.
fn within<'a>(value: &'a mut Value, at: &Index) -> &'a mut Value {
    let mut pointers = Vec::new();
    collect(value, String::new(), &mut pointers);
    value.pointer_mut(at.get::<String>(&pointers)).expect("it was found there")
}

/// The places of everything in `value`.
fn collect(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().take(4).enumerate() {
                collect(item, format!("{place}/{index}"), places);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                collect(value, format!("{place}/{name}"), places);
            }
        }
        _ => {}
    }
    if !place.is_empty() {
        places.push(place);
    } else if places.is_empty() {
        places.push(String::new());
    }
}

/// Leaves out something in `value`.
fn remove(value: &mut Value, at: &Index) {
    let mut places = Vec::new();
    collect(value, String::new(), &mut places);
    let Some((parent, name)) = at.get::<String>(&places).rsplit_once('/') else { return };
    match value.pointer_mut(parent).expect("it was found there") {
        Value::Object(fields) => drop(fields.remove(&name.replace("~1", "/").replace("~0", "~"))),
        Value::Array(items) => drop(items.remove(name.parse().expect("an index"))),
        _ => {}
    }
}

/// The text of a client that minds its own business.
async fn canary(server: &Server) -> String {
    let body = json!({"prompt": "canary ", "temperature": 0, "max_tokens": 21});
    let reply = server.post("/v1/completions", &body).await;
    reply.json()["choices"][0]["text"].as_str().expect("a text").to_owned()
}

/// What is wrong with the `reply` to `body`, if it is not what the document says, or not the client's doing.
fn complaint(document: &Value, path: &str, body: &[u8], reply: &Reply) -> Option<String> {
    if 500 <= reply.status.as_u16() || reply.body.contains("server_error") {
        return Some("a fault".to_owned());
    }
    let undescribed = undescribed(document, (path, "post"), reply);
    // A body that is too large is not looked into.
    if undescribed.is_some() || reply.status == 200 || reply.status == 413 {
        return undescribed.map(|what| format!("not described: {what}"));
    }
    let error = &reply.json()["error"];
    let message = error["message"].as_str().unwrap_or_default();
    if !(1..=MESSAGE_BYTES_MAX).contains(&message.len()) {
        return Some(format!("a message of {} bytes", message.len()));
    }
    let is_object = serde_json::from_slice::<Value>(body).is_ok_and(|body| body.is_object());
    if !is_object || message.contains("duplicate field") {
        return None;
    }
    // Anthropic's errors have no place for the field but the message.
    let field = match path.starts_with("/v1/messages") {
        true => message.split_once(": ").map(|(field, _)| field),
        false => error["param"].as_str(),
    };
    match field {
        Some(field) if !field.is_empty() && !field.contains(' ') => None,
        _ => Some("no field is named".to_owned()),
    }
}

/// Asks `path` with many bodies.
#[track_caller]
fn ask_all(path: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut setup = Setup::new();
    setup.engine.max_model_len = 200;
    // Nothing here is about a full queue.
    setup.engine.max_num_queued_reqs = 1024;
    let server = runtime.block_on(setup.start());
    let document = runtime.block_on(document(&server));
    let sung = runtime.block_on(canary(&server));
    let parts = Parts::of(&document, path);
    let ask = async |body: &[u8]| {
        let mut request = request(Method::POST, path, "");
        *request.body_mut() = body.to_vec().into();
        let reply = send(server.address, request).await.expect("a reply").reply().await;
        if let Some(complaint) = complaint(&document, path, body, &reply) {
            let (status, body) = (reply.status, reply.body);
            return Err(TestCaseError::fail(format!("{complaint}: {status} {body}")));
        }
        prop_assert_eq!(canary(&server).await, sung.as_str());
        Ok(())
    };
    let strategy = (any::<Index>(), prop::collection::vec(change(), 0..5), spoil());
    let bodies = strategy
        .prop_map(|(base, changes, spoil)| Body(parts.bytes(base, &changes, spoil.as_ref())));
    fuzz::check(256, &bodies, |Body(body)| runtime.block_on(ask(&body)));
    runtime.block_on(server.idle());
}

/// A body, shown as text.
struct Body(Vec<u8>);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[test]
fn completions_of_any_shape_are_answered_or_refused() {
    ask_all("/v1/completions");
}

#[test]
fn chats_of_any_shape_are_answered_or_refused() {
    ask_all("/v1/chat/completions");
}

#[test]
fn messages_of_any_shape_are_answered_or_refused() {
    ask_all("/v1/messages");
}

#[test]
fn messages_of_any_shape_are_counted_or_refused() {
    ask_all("/v1/messages/count_tokens");
}

#[test]
fn responses_of_any_shape_are_answered_or_refused() {
    ask_all("/v1/responses");
}

#[test]
fn inputs_of_any_shape_are_embedded_or_refused() {
    ask_all("/v1/embeddings");
}

#[test]
fn texts_of_any_shape_are_converted_or_refused() {
    ask_all("/tokenize");
}

#[test]
fn tokens_of_any_shape_are_converted_or_refused() {
    ask_all("/detokenize");
}

#[test]
fn every_path_that_takes_a_body_has_valid_ones() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let server = Setup::new().start().await;
        let document = document(&server).await;
        for (path, operations) in document["paths"].as_object().expect("paths") {
            if operations["post"]["requestBody"].is_null() {
                continue;
            }
            let bodies = Parts::of(&document, path).bodies;
            assert!(!bodies.is_empty(), "add bodies for {path} to fuzz.jsonl, and a test");
            for body in bodies {
                let reply = server.post(path, &body).await;
                assert_eq!(reply.status, 200, "{path} {body}: {}", reply.body);
            }
        }
        server.idle().await;
    });
}
