//! `/v1/responses`: OpenAI's newer form of chats, whole and streamed.

use serde_json::{Value, json};

use crate::client::SseEvent;
use crate::harness::{Server, Setup};
use crate::repeating::{KNOWS_FUNCTIONS, REPEATS, call, schema, start};

const PATH: &str = "/v1/responses";

/// Every message that is told to the model, as JSON.
const SHOWS_ALL: &str = "{{ messages | tojson }}{# tools <tool_call> #}";

/// A request whose answer is `answer`.
fn asks(answer: &str) -> Value {
    json!({
        "model": "tiny", "max_output_tokens": 400, "temperature": 0, "input": format!("{answer}$"),
    })
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "name": name, "parameters": schema(), "strict": true})
}

/// Takes ids away after a look at them, and what else differs from reply to reply.
fn without_ids(mut response: Value) -> Value {
    let id = response["id"].take();
    let hex = id.as_str().and_then(|id| id.strip_prefix("resp_")).expect("an id").to_owned();
    assert!(response["created_at"].take().is_u64());
    for (index, item) in response["output"].as_array_mut().expect("items").iter_mut().enumerate() {
        let id = item["id"].take();
        let expected = match item["type"].as_str().expect("a type") {
            "message" => format!("msg_{hex}_{index}"),
            "reasoning" => format!("rs_{hex}_{index}"),
            _ => format!("fc_{hex}_{index}"),
        };
        assert_eq!(id, expected);
        if item["type"] == "function_call" {
            assert_eq!(item["call_id"].take().as_str().map(str::len), Some(9));
        }
    }
    if let Some(details) = response["usage"].get_mut("input_tokens_details") {
        details["cached_tokens"].take();
    }
    response
}

/// The output that the events of a stream amount to; panics where their order or numbers are not OpenAI's.
fn assembled(events: &[SseEvent]) -> Value {
    let mut output: Vec<Value> = Vec::new();
    let mut text = String::new();
    for (number, event) in (0..).zip(events) {
        let data = event.json();
        assert_eq!(event.name.as_deref(), data["type"].as_str(), "the name is said twice");
        assert_eq!(data["sequence_number"].as_u64(), Some(number));
        let name = data["type"].as_str().expect("a type");
        match name {
            "response.created" | "response.in_progress" => {
                assert_eq!(number, u64::from(name != "response.created"));
                assert_eq!(data["response"]["status"], "in_progress");
                assert_eq!(data["response"]["output"], json!([]));
                continue;
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                assert_eq!(number as usize + 1, events.len());
                assert_eq!(name.strip_prefix("response."), data["response"]["status"].as_str());
                assert_eq!(data["response"]["output"], json!(output));
                return data["response"].clone();
            }
            _ => {}
        }
        let index = data["output_index"].as_u64().expect("an index") as usize;
        if name == "response.output_item.added" {
            assert_eq!((index, &data["item"]["status"]), (output.len(), &json!("in_progress")));
            output.push(data["item"].clone());
            text.clear();
            continue;
        }
        assert_eq!(index + 1, output.len());
        if name == "response.output_item.done" {
            assert_eq!(data["item"]["id"], output[index]["id"]);
            output[index] = data["item"].clone();
            continue;
        }
        assert_eq!(data["item_id"], output[index]["id"]);
        let is_call = output[index]["type"] == "function_call";
        assert_eq!(data["content_index"].as_u64(), (!is_call).then_some(0));
        match name.rsplit_once('.').expect("a name of several words") {
            (_, "delta") => text += data["delta"].as_str().expect("text"),
            (_, "added") => assert_eq!(data["part"]["text"], ""),
            ("response.content_part", _) => assert_eq!(data["part"]["text"], text),
            ("response.function_call_arguments", _) => assert_eq!(data["arguments"], text),
            _ => assert_eq!(data["text"], text),
        }
    }
    panic!("the stream has an end");
}

/// The reply to `body`, whole and streamed.
async fn both(server: &Server, body: &Value) -> Value {
    let reply = server.post(PATH, body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let whole = without_ids(reply.json());
    let streamed = without_ids(assembled(&server.stream(PATH, body).await.events().await));
    assert_eq!(streamed, whole);
    whole
}

fn text(text: &str) -> Value {
    let part = json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    json!({
        "type": "message", "id": null, "role": "assistant", "status": "completed", "content": [part],
    })
}

#[tokio::test]
async fn a_reply_has_text_usage_and_what_was_asked() {
    let server = start(REPEATS).await;
    let mut body = asks("Well, é.");
    body["metadata"] = json!({"a": "b"});
    body["store"] = true.into();
    let reply = both(&server, &body).await;
    let expected = json!({
        "id": null, "object": "response", "created_at": null, "status": "completed", "error": null,
        "incomplete_details": null, "model": "tiny", "output": [text("Well, é.")],
        "previous_response_id": null, "store": false, "background": false, "truncation": "disabled",
        "usage": {
            "input_tokens": 10, "input_tokens_details": {"cached_tokens": null, "cache_write_tokens": 0},
            "output_tokens": 10, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 20,
        },
        "instructions": null, "max_output_tokens": 400, "metadata": {"a": "b"},
        "parallel_tool_calls": true, "temperature": 0.0, "text": {"format": {"type": "text"}},
        "tool_choice": "auto", "tools": [], "top_p": 1.0, "user": null,
    });
    assert_eq!(reply, expected);
    body["max_output_tokens"] = 2.into();
    let reply = both(&server, &body).await;
    assert_eq!(reply["status"], "incomplete");
    assert_eq!(reply["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(reply["output"][0]["status"], "incomplete");
    assert_eq!(reply["output"][0]["content"][0]["text"], "We");
}

#[tokio::test]
async fn thoughts_text_and_calls_are_items_in_their_order() {
    let server = start(REPEATS).await;
    let answer =
        format!("<think>hm</think>Well. {}\n{}", call("f", "{\"a\": \"x\"}"), call("g", "{}"));
    let mut body = asks(&answer);
    body["tools"] = json!([tool("f"), tool("g")]);
    let reply = both(&server, &body).await;
    let thoughts = json!({
        "type": "reasoning", "id": null, "status": "completed", "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    });
    let of_call = |name: &str, arguments: &str| {
        json!({
            "type": "function_call", "id": null, "call_id": null, "name": name,
            "arguments": arguments, "status": "completed",
        })
    };
    let calls = [of_call("f", "{\"a\": \"x\"}"), of_call("g", "{}")];
    assert_eq!(reply["output"], json!([thoughts, text("Well."), calls[0], calls[1]]));
    let thought = reply["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64();
    assert_eq!(thought, Some("<think>hm</think>".len() as u64 - "<think".len() as u64 - 1));
    assert_eq!(reply["tools"], body["tools"]);
    body["tool_choice"] = "none".into();
    let reply = both(&server, &body).await;
    assert_eq!((&reply["tools"], reply["output"].as_array().map(Vec::len)), (&json!([]), Some(2)));
}

#[tokio::test]
async fn forced_calls_and_formats_are_followed() {
    let server = start(KNOWS_FUNCTIONS).await;
    for choice in [
        json!({"type": "function", "name": "g"}),
        json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}),
    ] {
        let mut body = asks("No.");
        body["tools"] = json!([tool("f"), tool("g")]);
        body["tool_choice"] = choice.clone();
        body["parallel_tool_calls"] = false.into();
        let reply = both(&server, &body).await;
        let call = &reply["output"][0];
        assert_eq!(
            (&call["type"], &call["name"]),
            (&json!("function_call"), &json!("g")),
            "{reply}"
        );
        let arguments: Value =
            serde_json::from_str(call["arguments"].as_str().expect("text")).expect("JSON");
        assert!(arguments["a"] == "x" || arguments["a"] == "y", "{arguments}");
        assert_eq!(reply["tool_choice"], choice);
        let told = if choice["type"] == "allowed_tools" { 1 } else { 2 };
        assert_eq!(
            reply["tools"].as_array().map(Vec::len),
            Some(told),
            "those the model is told of"
        );
    }
    let schema = json!({"type": "object", "properties": {"b": {"const": 5}}, "required": ["b"]});
    for format in [
        json!({"type": "json_schema", "name": "n", "schema": schema, "strict": true}),
        json!({"type": "json_object"}),
    ] {
        let mut body = asks("{\"b\": 5}");
        body["text"] = json!({"format": format});
        let reply = both(&server, &body).await;
        let text = reply["output"][0]["content"][0]["text"].as_str().expect("a text");
        assert_eq!(serde_json::from_str::<Value>(text).expect(text), json!({"b": 5}));
        assert_eq!(reply["text"]["format"], format);
    }
}

#[tokio::test]
async fn the_template_sees_instructions_and_items_as_messages() {
    let mut setup = Setup { template: Some(SHOWS_ALL), ..Setup::new() };
    setup.engine.max_model_len = 4000;
    let server = setup.start().await;
    let part = |kind: &str, text: &str| json!([{"type": kind, "text": text, "annotations": []}]);
    let input = json!([
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "id": "r", "summary": [], "content": part("reasoning_text", "hm")},
        {"type": "message", "id": "m", "role": "assistant", "content": part("output_text", "Well.")},
        {"type": "function_call", "id": "c", "call_id": "1", "name": "f", "arguments": "{\"b\":1,\"a\":2}"},
        {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "r"},
        {"type": "function_call_output", "call_id": "2", "output": part("input_text", "s")},
        {"type": "reasoning", "id": "s", "summary": [], "encrypted_content": "x"},
        {"role": "assistant", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "developer", "content": part("input_text", "C")},
    ]);
    let told = "[{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \"Hi\"}, \
         {\"role\": \"assistant\", \"content\": \"Well.\", \"reasoning_content\": \"hm\", \"tool_calls\": [\
         {\"id\": \"1\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": 2}}}, \
         {\"id\": \"2\", \"type\": \"function\", \"function\": {\"name\": \"g\", \"arguments\": {}}}]}, \
         {\"role\": \"tool\", \"content\": \"r\", \"tool_call_id\": \"1\", \"name\": \"f\"}, \
         {\"role\": \"tool\", \"content\": \"s\", \"tool_call_id\": \"2\", \"name\": \"g\"}, \
         {\"role\": \"assistant\", \"content\": \"A\"}, {\"role\": \"assistant\", \"content\": \"B\"}, \
         {\"role\": \"developer\", \"content\": \"C\"}]";
    let body = json!({
        "input": input, "instructions": "Be brief.", "temperature": 0, "max_output_tokens": told.len(),
    });
    let reply = both(&server, &body).await;
    assert_eq!(reply["output"][0]["content"][0]["text"], told);
    assert_eq!(reply["instructions"], "Be brief.");
}

#[tokio::test]
async fn refusals_name_what_the_client_wrote() {
    let server = start(REPEATS).await;
    let parts = |part: Value| json!([{"role": "user", "content": [{"type": "input_text", "text": "a"}, part]}]);
    let cases = [
        ("input", Value::Null, "input"),
        ("input", json!([]), "input"),
        ("input", json!(5), "input"),
        ("input", json!([{"role": 5}]), "input[0].role"),
        ("input", json!([{"role": "user", "content": [{"type": 5}]}]), "input[0].content[0].type"),
        ("input", json!([{"role": "user"}]), "input[0].content"),
        ("input", json!([{"content": "a"}]), "input[0].role"),
        ("input", json!([{"role": "root", "content": "a"}]), "input[0]"),
        ("input", json!([{"type": "item_reference", "id": "x"}]), "input[0].type"),
        (
            "input",
            parts(json!({"type": "input_image", "image_url": "x"})),
            "input[0].content[1].type",
        ),
        ("input", parts(json!({"type": "input_text"})), "input[0].content[1].text"),
        ("input", json!([{"type": "function_call", "name": "f"}]), "input[0]"),
        (
            "input",
            json!([{"type": "function_call", "call_id": "1", "name": "f", "arguments": "{"}]),
            "input[0]",
        ),
        ("input", json!([{"type": "function_call_output", "call_id": "1"}]), "input[0]"),
        ("input", json!(vec![json!({"role": "user", "content": "a"}); 4097]), "input"),
        ("max_output_tokens", json!(0), "max_output_tokens"),
        ("temperature", json!(3), "temperature"),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
        ("tools", json!([{"type": "function"}]), "tools[0].name"),
        ("tools", json!([{"type": "function", "name": "a b"}]), "tools[0].name"),
        ("tool_choice", json!({"type": "function", "name": "h"}), "tool_choice"),
        ("tool_choice", json!({"type": "file_search"}), "tool_choice"),
        ("text", json!({"format": {"type": "xml"}}), "text.format"),
        (
            "text",
            json!({"format": {"type": "json_schema", "schema": {"$ref": "x"}}}),
            "text.format",
        ),
        ("text", json!({"format": {"type": "json_object", "schema": {}}}), "text.format.schema"),
        (
            "text",
            json!({"format": {"type": "json_schema", "schema": {}, "name": "n".repeat(129)}}),
            "text.format.name",
        ),
        ("previous_response_id", json!("resp_1"), "previous_response_id"),
        ("conversation", json!("conv_1"), "conversation"),
        ("background", json!(true), "background"),
        ("prompt", json!({"id": "x"}), "prompt"),
        ("top_logprobs", json!(2), "top_logprobs"),
        ("metadata", json!({"a": "x".repeat(17_000)}), "metadata"),
    ];
    for (field, value, param) in cases {
        let mut body = asks("x");
        body[field] = value;
        let reply = server.post(PATH, &body).await;
        let shown = format!("{field}: {:.300} gave {}", body[field].to_string(), reply.body);
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!(param)), "{shown}");
    }
    let mut body = asks("x");
    for (field, value) in [("background", json!(false)), ("previous_response_id", json!(null))] {
        body[field] = value;
    }
    assert_eq!(server.post(PATH, &body).await.status, 200);
    server.idle().await;
}

#[tokio::test]
async fn messages_of_refusals_name_what_the_client_wrote() {
    let server = start(REPEATS).await;
    for (field, value, message) in [
        ("max_output_tokens", json!(0), "max_output_tokens is 0;"),
        ("max_output_tokens", json!(5000), "this model's maximum context length is 1000 tokens,"),
        ("text", json!({"format": {"type": "xml"}}), "`text.format.type` is \"xml\";"),
    ] {
        let mut body = asks("x");
        body[field] = value;
        let told = server.post(PATH, &body).await.error("message");
        let told = told.as_str().expect("a message");
        assert!(told.starts_with(message) && !told.contains("max_tokens"), "{told}");
    }
}

#[tokio::test]
async fn a_failure_in_a_stream_is_a_failed_response() {
    let server = start(REPEATS).await;
    let body = json!({"input": "ab!", "temperature": 0, "max_output_tokens": 9});
    let events = server.stream(PATH, &body).await.events().await;
    let last = events.last().expect("events");
    assert_eq!(last.name.as_deref(), Some("response.failed"));
    let response = &last.json()["response"];
    assert_eq!(
        (&response["status"], &response["error"]["code"]),
        (&json!("failed"), &json!("server_error"))
    );
    assert_eq!(response["output"][0]["content"][0]["text"], "ab");
    // What was told as whole before stays so.
    let body = json!({
        "input": "<think>hm</think>ab!", "temperature": 0, "max_output_tokens": 99,
    });
    let events = server.stream(PATH, &body).await.events().await;
    let output = events.last().expect("events").json()["response"]["output"].clone();
    let done =
        events.iter().find(|event| event.name.as_deref() == Some("response.output_item.done"));
    assert_eq!(output[0], done.expect("thoughts end").json()["item"]);
    assert_eq!(output[0]["status"], "completed");
    let last = (&output[1]["status"], &output[1]["content"][0]["text"]);
    assert_eq!(last, (&json!("incomplete"), &json!("ab")));
}
