//! `/v1/messages`: Anthropic's form of chats, whole and streamed.

use http::Method;
use serde_json::{Value, json};

use crate::client::{SseEvent, request, send};
use crate::harness::{Server, Setup};
use crate::repeating::{KNOWS_FUNCTIONS, REPEATS, call, schema, start};

const PATH: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

/// Every message and function that is told to the model, as JSON.
const SHOWS_ALL: &str = "{{ tools | tojson }}{{ messages | tojson }}{# <tool_call> #}";

/// A request whose answer is `answer`.
fn asks(answer: &str) -> Value {
    json!({
        "model": "tiny", "max_tokens": 400, "temperature": 0,
        "messages": [{"role": "user", "content": format!("{answer}$")}],
    })
}

fn tool(name: &str) -> Value {
    json!({"name": name, "description": "does it", "input_schema": schema()})
}

async fn whole(server: &Server, body: &Value) -> Value {
    let reply = server.post(PATH, body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    without_ids(reply.json())
}

/// Takes ids away after a look at them: they are new in each reply.
fn without_ids(mut message: Value) -> Value {
    let id = message["id"].take();
    assert!(id.as_str().is_some_and(|id| id.starts_with("msg_")), "{id}");
    for block in message["content"].as_array_mut().expect("blocks") {
        if block["type"] == "tool_use" {
            assert_eq!(block["id"].take().as_str().map(str::len), Some(9));
        }
    }
    message
}

/// What a stream amounts to, as the clients put it together; panics where the order is not theirs.
fn assembled(events: &[SseEvent]) -> Value {
    let mut message = Value::Null;
    let mut arguments = String::new();
    let mut open = None;
    for event in events {
        let data = event.json();
        assert_eq!(event.name.as_deref(), data["type"].as_str(), "the name is said twice");
        let index = data["index"].as_u64().map(|index| index as usize);
        match data["type"].as_str().expect("a type") {
            "message_start" => {
                assert_eq!(message, Value::Null);
                message = data["message"].clone();
            }
            "content_block_start" => {
                let blocks = message["content"].as_array_mut().expect("blocks");
                assert_eq!((open, index), (None, Some(blocks.len())));
                blocks.push(data["content_block"].clone());
                open = index;
            }
            "content_block_delta" => {
                assert_eq!(open, index);
                let block = &mut message["content"][index.expect("a block")];
                let (field, text) = match data["delta"]["type"].as_str().expect("a type") {
                    "text_delta" => ("text", &data["delta"]["text"]),
                    "thinking_delta" => ("thinking", &data["delta"]["thinking"]),
                    "input_json_delta" => {
                        arguments += data["delta"]["partial_json"].as_str().expect("text");
                        continue;
                    }
                    other => panic!("{other}"),
                };
                let before = block[field].as_str().expect("text").to_owned();
                block[field] = (before + text.as_str().expect("text")).into();
            }
            "content_block_stop" => {
                assert_eq!(open.take(), index);
                if !arguments.is_empty() {
                    let input = serde_json::from_str(&arguments).expect("JSON");
                    message["content"][index.expect("a block")]["input"] = input;
                    arguments.clear();
                }
            }
            "message_delta" => {
                assert_eq!(open, None);
                for field in ["stop_reason", "stop_sequence"] {
                    message[field] = data["delta"][field].clone();
                }
                message["usage"] = data["usage"].clone();
            }
            "message_stop" => assert_eq!(event, events.last().expect("events")),
            other => panic!("{other}"),
        }
    }
    without_ids(message)
}

/// The reply to `body`, whole and streamed.
async fn both(server: &Server, body: &Value) -> Value {
    let mut whole = whole(server, body).await;
    let mut streamed = assembled(&server.stream(PATH, body).await.events().await);
    // The second one finds more in the cache.
    for message in [&mut whole, &mut streamed] {
        let usage = &mut message["usage"];
        let cached = usage["cache_read_input_tokens"].take().as_u64().expect("a number");
        let read = usage["input_tokens"].as_u64().expect("a number");
        usage["input_tokens"] = (read + cached).into();
    }
    assert_eq!(streamed, whole);
    whole
}

#[tokio::test]
async fn a_reply_has_text_and_usage_whole_and_streamed() {
    let server = start(REPEATS).await;
    let reply = both(&server, &asks("Well, é.")).await;
    let expected = json!({
        "id": null, "type": "message", "role": "assistant", "model": "tiny",
        "content": [{"type": "text", "text": "Well, é."}],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {
            "input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": null,
            "output_tokens": 10,
        },
    });
    assert_eq!(reply, expected);
    let mut body = asks("abc");
    body["max_tokens"] = 2.into();
    let reply = both(&server, &body).await;
    assert_eq!(
        (&reply["content"][0]["text"], &reply["stop_reason"]),
        (&json!("ab"), &json!("max_tokens"))
    );
}

#[tokio::test]
async fn a_stop_sequence_is_named() {
    let server = start(REPEATS).await;
    let mut body = asks("one two three");
    body["stop_sequences"] = json!(["three", "two"]);
    let reply = both(&server, &body).await;
    assert_eq!(reply["content"][0]["text"], "one ");
    assert_eq!(
        (&reply["stop_reason"], &reply["stop_sequence"]),
        (&json!("stop_sequence"), &json!("two"))
    );
}

#[tokio::test]
async fn thoughts_and_calls_are_blocks_in_their_order() {
    let server = start(REPEATS).await;
    let answer =
        format!("<think>hm</think>Well. {}\n{}", call("f", "{\"a\": \"x\"}"), call("g", "{}"));
    let mut body = asks(&answer);
    body["tools"] = json!([tool("f"), tool("g")]);
    let reply = both(&server, &body).await;
    let expected = json!([
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "Well."},
        {"type": "tool_use", "id": null, "name": "f", "input": {"a": "x"}},
        {"type": "tool_use", "id": null, "name": "g", "input": {}},
    ]);
    assert_eq!((&reply["content"], &reply["stop_reason"]), (&expected, &json!("tool_use")));
    body["thinking"] = json!({"type": "disabled"});
    assert_eq!(both(&server, &body).await["content"][0]["type"], "text");
    body["tool_choice"] = json!({"type": "auto", "disable_parallel_tool_use": true});
    assert_eq!(both(&server, &body).await["content"].as_array().map(Vec::len), Some(2));
    body["tool_choice"] = json!({"type": "none"});
    assert_eq!(both(&server, &body).await["stop_reason"], "end_turn");
}

#[tokio::test]
async fn arguments_that_are_no_object_are_told_as_they_are() {
    let server = start(REPEATS).await;
    let mut body = asks(&call("f", "{a: 1}"));
    body["tools"] = json!([tool("f")]);
    let reply = whole(&server, &body).await;
    assert_eq!(reply["content"][0]["input"], json!({"INVALID_JSON": "{a: 1}"}));
}

#[tokio::test]
async fn forced_calls_have_valid_input() {
    let server = start(KNOWS_FUNCTIONS).await;
    for choice in [
        json!({"type": "any", "disable_parallel_tool_use": true}),
        json!({"type": "tool", "name": "g"}),
    ] {
        let mut body = asks("No.");
        body["tools"] = json!([tool("f"), tool("g")]);
        body["tool_choice"] = choice;
        let reply = both(&server, &body).await;
        assert_eq!(reply["stop_reason"], "tool_use", "{reply}");
        let blocks = reply["content"].as_array().expect("blocks");
        assert!(blocks.len() == 1 && blocks[0]["input"]["a"].is_string(), "{reply}");
    }
    let mut body = asks("No.");
    let schema = json!({
        "type": "object", "properties": {"b": {"const": 5}}, "required": ["b"],
        "additionalProperties": false,
    });
    body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
    let reply = both(&server, &body).await;
    let text = reply["content"][0]["text"].as_str().expect("a text");
    assert_eq!(serde_json::from_str::<Value>(text).expect(text)["b"], 5);
}

#[tokio::test]
async fn the_template_sees_system_calls_and_results() {
    let mut setup = Setup { template: Some(SHOWS_ALL), ..Setup::new() };
    setup.engine.max_model_len = 4000;
    let server = setup.start().await;
    let body = json!({
        "max_tokens": 1, "system": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "system", "content": "So."},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Well."},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"b": 1, "a": 2}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "r"}]},
                {"type": "tool_result", "tool_use_id": "2", "content": "s", "is_error": true},
                {"type": "text", "text": "And?", "cache_control": {"type": "ephemeral"}},
            ]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    });
    let tools = "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\"}}}]";
    let messages = "[{\"role\": \"system\", \"content\": \"Be\\nbrief.\"}, {\"role\": \"user\", \"content\": \"Hi\"}, \
         {\"role\": \"system\", \"content\": \"So.\"}, \
         {\"role\": \"assistant\", \"content\": \"Well.\", \"reasoning_content\": \"hm\", \"tool_calls\": [\
         {\"id\": \"1\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": 2}}}]}, \
         {\"role\": \"tool\", \"content\": \"r\", \"tool_call_id\": \"1\", \"name\": \"f\"}, \
         {\"role\": \"tool\", \"content\": \"Error: s\", \"tool_call_id\": \"2\"}, \
         {\"role\": \"user\", \"content\": \"And?\"}]";
    let expected = tools.len() + messages.len();
    let counted = server.post(COUNT, &body).await;
    assert_eq!(counted.json(), json!({"input_tokens": expected}), "{}", counted.body);
    let reply = whole(&server, &body).await;
    assert_eq!(reply["usage"]["input_tokens"], expected);
    // The device repeats the prompt, in which there are no functions now.
    let mut body = body;
    body["tool_choice"] = json!({"type": "none"});
    let told = format!("null{messages}");
    (body["max_tokens"], body["temperature"]) = (told.len().into(), 0.into());
    assert_eq!(whole(&server, &body).await["content"][0]["text"], told);
}

#[tokio::test]
async fn what_cannot_be_answered_is_not_counted_either() {
    let server = start(REPEATS).await;
    let cases = [
        ("temperature", json!(2.1)),
        ("top_p", json!(2)),
        ("top_k", json!(-2)),
        ("max_tokens", json!(0)),
        ("stop_sequences", json!([""])),
        ("metadata", json!({"user_id": "x".repeat(513)})),
        ("cache_salt", json!("")),
    ];
    for (field, value) in cases {
        let mut body = asks("x");
        body[field] = value;
        let [answered, counted] = [server.post(PATH, &body).await, server.post(COUNT, &body).await];
        assert_eq!(answered.status, 400, "{field}: {}", answered.body);
        assert_eq!(counted.status, 400, "{field}: {}", counted.body);
        assert_eq!(counted.json(), answered.json(), "{field}");
    }
}

/// Sends `value` in `field` and wants a refusal whose message begins with `start`.
async fn refused(server: &Server, field: &str, value: Value, start: &str) {
    let mut body = asks("x");
    body[field] = value;
    let reply = server.post(PATH, &body).await;
    let shown = format!("{field}: {:.300} gave {}", body[field].to_string(), reply.body);
    assert_eq!(reply.status, 400, "{shown}");
    let reply = reply.json();
    let kind = (&reply["type"], &reply["error"]["type"]);
    assert_eq!(kind, (&json!("error"), &json!("invalid_request_error")));
    let message = reply["error"]["message"].as_str().expect("a message");
    assert!(message.starts_with(start), "{shown}");
}

#[tokio::test]
async fn refusals_have_anthropics_form_and_name_what_the_client_wrote() {
    let server = start(REPEATS).await;
    let block =
        |block: Value| json!([{"role": "user", "content": [{"type": "text", "text": "a"}, block]}]);
    let cases = [
        ("max_tokens", Value::Null, "max_tokens: "),
        ("max_tokens", json!(0), "max_tokens: "),
        ("messages", Value::Null, "messages: "),
        ("messages", json!([]), "messages: "),
        ("messages", json!([{"role": "tool", "content": "a"}]), "messages[0].role: "),
        (
            "messages",
            json!([{"role": "system", "content": [{"type": "tool_use"}]}]),
            "messages[0].content[0].type: ",
        ),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": 5}]}]),
            "messages[0].content[0].type: ",
        ),
        ("messages", json!([{"role": "user"}]), "messages[0]: "),
        (
            "messages",
            block(json!({"type": "image", "source": {}})),
            "messages[0].content[1].type: ",
        ),
        ("messages", block(json!({"type": "tool_result"})), "messages[0].content[1].tool_use_id: "),
        (
            "messages",
            block(json!({"type": "tool_result", "tool_use_id": "x".repeat(300)})),
            "messages[0].content[1]: ",
        ),
        (
            "messages",
            json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
            "messages: ",
        ),
        (
            "messages",
            json!([{"role": "assistant", "content": "b"}, {"role": "user", "content": []}]),
            "messages: ",
        ),
        ("system", json!([{"type": "image"}]), "system[0].type: "),
        ("tools", json!([{"name": "a", "input_schema": {"a": "x".repeat(70_000)}}]), "tools[0]: "),
        ("stop", json!(["a"]), "stop: `stop` is not supported here; send `stop_sequences`"),
        ("temperature", json!(3), "temperature: "),
        ("stop_sequences", json!([""]), "stop_sequences: "),
        ("stop_sequences", json!("a"), "stop_sequences: "),
        ("tools", json!([{"type": "bash_20250124", "name": "bash"}]), "tools[0].type: "),
        ("tools", json!([{"name": "a b"}]), "tools[0].name: "),
        ("seed", json!(1), "seed: "),
        ("tools", json!(vec![json!({"name": "a"}); 129]), "tools: "),
        ("tool_choice", json!({"type": "tool"}), "tool_choice: "),
        ("tool_choice", json!({"type": "some"}), "tool_choice: "),
        ("tool_choice", json!({"type": "any"}), "tool_choice: "),
        (
            "output_config",
            json!({"format": {"type": "xml"}}),
            "output_config.format: `output_config.format.type` ",
        ),
        ("metadata", json!({"user_id": "x".repeat(600)}), "metadata.user_id: "),
        ("mcp_servers", json!([{"type": "url"}]), "mcp_servers: "),
        ("container", json!("c"), "container: "),
    ];
    for (field, value, start) in cases {
        refused(&server, field, value, start).await;
    }
}

#[tokio::test]
async fn refusals_of_other_kinds_have_that_form_too() {
    let server = start(REPEATS).await;
    let mut body = asks("x");
    body["model"] = "other".into();
    let reply = server.post(PATH, &body).await;
    assert_eq!((reply.status.as_u16(), reply.error("type")), (404, json!("not_found_error")));
    let reply = server.post("/v1/messages/batches", &body).await;
    assert_eq!((reply.status.as_u16(), reply.error("type")), (404, json!("not_found_error")));
    let reply = server.get(PATH).await;
    assert_eq!((reply.status.as_u16(), reply.error("type")), (405, json!("invalid_request_error")));
    let reply = server.post("/v1/messagesx", &body).await;
    assert_eq!(reply.error("code"), "unknown_url");
    let reply = server.post(PATH, &asks("!")).await;
    assert_eq!((reply.status.as_u16(), reply.error("type")), (500, json!("api_error")));
    server.idle().await;
}

#[tokio::test]
async fn a_failure_in_a_stream_is_an_error_event() {
    let server = start(REPEATS).await;
    let body = json!({
        "max_tokens": 9, "temperature": 0, "messages": [{"role": "user", "content": "ab!"}],
    });
    let events = server.stream(PATH, &body).await.events().await;
    let last = events.last().expect("events");
    assert_eq!(last.name.as_deref(), Some("error"));
    assert_eq!(last.json()["error"]["type"], "api_error");
    assert_eq!(events[0].name.as_deref(), Some("message_start"));
}

#[tokio::test]
async fn the_key_may_come_as_anthropics_clients_send_it() {
    let setup = Setup::with_keys("secret");
    let server = setup.start().await;
    for (header, value, status) in [
        ("x-api-key", "secret", 200),
        ("x-api-key", "secrets", 401),
        ("authorization", "Bearer secret", 200),
        ("x-other", "secret", 401),
    ] {
        let mut request = request(Method::POST, PATH, &asks("a").to_string());
        request.headers_mut().insert(header, value.parse().expect("a value"));
        let reply = send(server.address, request).await.expect("a reply").reply().await;
        assert_eq!(reply.status, status, "{header}: {value}");
        if status == 401 {
            assert_eq!(reply.error("type"), "authentication_error");
        }
    }
}
