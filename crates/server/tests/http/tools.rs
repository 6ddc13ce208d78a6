//! Functions in chats, and thoughts: what is asked, what comes back, what is refused.

use serde_json::{Value, json};

use crate::client::SseEvent;
use crate::harness::{PLAIN, Server};
use crate::repeating::{REPEATS, call, start};

const CHAT: &str = "/v1/chat/completions";

/// Opens the thoughts of the answer.
const THINKS: &str = "{{ messages[-1].content }}{# </think> #}<think>\n";

/// Every message and function that is told to the model, as JSON.
const SHOWS_ALL: &str = "{{ tools | tojson }}{{ messages | tojson }}{# <tool_call> #}";

fn function(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
}

/// A request whose answer is `answer`.
fn asks(answer: &str) -> Value {
    json!({
        "messages": [{"role": "user", "content": format!("{answer}$")}], "temperature": 0,
        "max_tokens": 400, "tools": [function("f"), function("g")],
    })
}

/// What a stream amounts to: a message as in a whole reply, and the finish reason.
fn assemble(events: &[SseEvent]) -> (Value, Value) {
    let mut message = json!({"role": null, "content": ""});
    let mut finish = Value::Null;
    let append = |text: &mut Value, more: &Value| {
        let joined = text.as_str().unwrap_or_default().to_owned() + more.as_str().expect("text");
        *text = joined.into();
    };
    for event in &events[..events.len() - 1] {
        let chunk = event.json();
        let Some(choice) = chunk["choices"].get(0) else { continue };
        assert_eq!(finish, Value::Null, "nothing follows the finish reason");
        finish = choice["finish_reason"].clone();
        for (key, value) in choice["delta"].as_object().expect("a delta") {
            match key.as_str() {
                "role" => message["role"] = value.clone(),
                "tool_calls" => {
                    let more = &value[0];
                    let calls = &mut message["tool_calls"];
                    let index = more["index"].as_u64().expect("an index") as usize;
                    if let Some(id) = more.get("id") {
                        assert_eq!(index, calls.as_array().map_or(0, Vec::len), "in order");
                        assert_eq!(more["function"]["arguments"], "", "the head comes first");
                        let (kind, name) = (&more["type"], &more["function"]["name"]);
                        let function = json!({"name": name, "arguments": ""});
                        let call = json!({"id": id, "type": kind, "function": function});
                        match calls.as_array_mut() {
                            Some(calls) => calls.push(call),
                            None => *calls = json!([call]),
                        }
                    } else {
                        let call = &mut calls[index]["function"]["arguments"];
                        append(call, &more["function"]["arguments"]);
                    }
                }
                text => append(&mut message[text], value),
            }
        }
    }
    if message["content"] == "" && message.get("tool_calls").is_some() {
        message["content"] = Value::Null;
    }
    (message, finish)
}

/// Takes the ids of calls away after a look at them: they are new in each reply.
fn without_ids(mut message: Value) -> Value {
    if let Some(calls) = message.get_mut("tool_calls") {
        for call in calls.as_array_mut().expect("a list") {
            let id = call.as_object_mut().expect("a call").remove("id").expect("an id");
            assert_eq!(id.as_str().expect("text").len(), 9);
        }
    }
    message
}

/// Message and finish reason of the answer, whole and streamed.
async fn both(server: &Server, body: &Value) -> (Value, String) {
    let reply = server.post(CHAT, body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let choice = reply.json()["choices"][0].clone();
    let whole = (without_ids(choice["message"].clone()), choice["finish_reason"].clone());
    let (message, finish) = assemble(&server.stream(CHAT, body).await.events().await);
    assert_eq!((without_ids(message), finish), whole);
    (whole.0, whole.1.as_str().expect("a reason").to_owned())
}

#[tokio::test]
async fn calls_come_as_calls_whole_and_streamed() {
    let server = start(REPEATS).await;
    let calls = json!([
        {"type": "function", "function": {"name": "f", "arguments": "{\"a\": \"é\"}"}},
        {"type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]);
    let two = format!("{}\n{}", call("f", "{\"a\": \"é\"}"), call("g", "{}"));
    let (message, finish) = both(&server, &asks(&two)).await;
    let expected = json!({"role": "assistant", "content": null, "tool_calls": calls});
    assert_eq!((message, finish.as_str()), (expected, "tool_calls"));
    let (message, _) = both(&server, &asks(&format!("<think>\nhm\n</think>\n\nWell. {two}"))).await;
    let expected = json!({
        "role": "assistant", "content": "Well.", "reasoning_content": "hm", "tool_calls": calls,
    });
    assert_eq!(message, expected);
}

#[tokio::test]
async fn what_is_no_call_is_content() {
    let server = start(REPEATS).await;
    for answer in ["Well.", "a <tool_call> b", &call("h", "{}"), "<tool_call>{\"name\": \"f\""] {
        let (message, finish) = both(&server, &asks(answer)).await;
        assert_eq!(message, json!({"role": "assistant", "content": answer}));
        assert_eq!(finish, "stop");
    }
    let none = call("f", "{}");
    for choice in [json!({"tool_choice": "none"}), json!({"tools": []}), json!({"tools": null})] {
        let mut body = asks(&none);
        let (field, value) = choice.as_object().expect("one field").iter().next().expect("one");
        body[field] = value.clone();
        assert_eq!(both(&server, &body).await.0["content"], none);
    }
}

#[tokio::test]
async fn a_call_that_is_cut_off_keeps_what_came() {
    let server = start(REPEATS).await;
    let mut body = asks(&call("f", "{\"a\": 1}"));
    body["max_tokens"] = 44.into();
    let (message, finish) = both(&server, &body).await;
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"a\":");
    assert_eq!(finish, "length");
}

#[tokio::test]
async fn without_parallel_calls_the_answer_ends_with_the_first() {
    let server = start(REPEATS).await;
    let mut body = asks(&format!("{} and more {}", call("f", "{}"), call("g", "{}")));
    body["parallel_tool_calls"] = false.into();
    let (message, finish) = both(&server, &body).await;
    let f = json!({"type": "function", "function": {"name": "f", "arguments": "{}"}});
    let expected = json!({"role": "assistant", "content": null, "tool_calls": [f]});
    assert_eq!((&message, finish.as_str()), (&expected, "tool_calls"));
    let metrics = server.idle().await;
    assert_eq!(metrics.ended("stop"), 2.0);
    // Where its last token is also the last that it may have, the call is complete all the same.
    let usage = server.post(CHAT, &body).await.json()["usage"].clone();
    body["max_tokens"] = usage["completion_tokens"].clone();
    assert_eq!(both(&server, &body).await, (expected, "tool_calls".to_owned()));
}

#[tokio::test]
async fn thoughts_are_split_off_also_where_the_prompt_has_opened_them() {
    let server = start(THINKS).await;
    let mut body = asks("\nhm\n</think>\n\nYes");
    body["tools"] = Value::Null;
    let expected = json!({"role": "assistant", "content": "Yes", "reasoning_content": "hm"});
    assert_eq!(both(&server, &body).await.0, expected);
    body["include_reasoning"] = false.into();
    assert_eq!(both(&server, &body).await.0, json!({"role": "assistant", "content": "Yes"}));
}

/// What the model is told, as text.
async fn prompt(server: &Server, body: &Value) -> String {
    let tokens = server.post("/tokenize", body).await;
    assert_eq!(tokens.status, 200, "{}", tokens.body);
    let body = json!({"tokens": tokens.json()["tokens"]});
    server.post("/detokenize", &body).await.json()["prompt"].as_str().expect("text").to_owned()
}

#[tokio::test]
async fn the_template_sees_functions_calls_and_results() {
    let server = start(SHOWS_ALL).await;
    let body = json!({
        "messages": [
            {"role": "assistant", "reasoning_content": "hm", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"b\":1,\"a\":2}"}},
                {"id": "2", "type": "function", "function": {"name": "f", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "1", "name": "f", "content": "x"},
        ],
        "tools": [function("f")],
    });
    assert_eq!(
        prompt(&server, &body).await,
        "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\"}}}]\
         [{\"role\": \"assistant\", \"content\": \"\", \"reasoning_content\": \"hm\", \"tool_calls\": [\
         {\"id\": \"1\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": 2}}}, \
         {\"id\": \"2\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {}}}]}, \
         {\"role\": \"tool\", \"content\": \"x\", \"tool_call_id\": \"1\", \"name\": \"f\"}]"
    );
    let server = start(PLAIN).await;
    let told = prompt(&server, &body).await;
    assert!(told.starts_with("You can call functions."), "{told}");
    assert!(told.ends_with("<tool_response>\nx\n</tool_response>>"), "{told}");
}

#[tokio::test]
async fn bad_functions_and_choices_are_refused_by_name() {
    let server = start(REPEATS).await;
    let with = |field: &str, value: Value| {
        let mut tool = function("f");
        tool["function"][field] = value;
        json!([tool])
    };
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    let deep = |levels: usize| {
        let json = "{\"a\":".repeat(levels - 1) + "{}" + &"}".repeat(levels - 1);
        serde_json::from_str::<Value>(&json).expect("JSON")
    };
    let many = |count: usize| (0..count).map(|i| function(&format!("f{i}"))).collect::<Vec<_>>();
    let large = |count: usize, bytes: usize| {
        let tool = |i: usize| {
            let mut tool = function(&format!("f{i:02}"));
            tool["function"]["description"] =
                "x".repeat(bytes - 3 - "{\"type\":\"object\"}".len()).into();
            tool
        };
        Value::from((0..count).map(tool).collect::<Vec<_>>())
    };
    let cases = [
        ("tools", json!({}), "tools"),
        ("tools", json!([{}]), "tools[0]"),
        ("tools", json!([{"type": "function"}]), "tools[0].function"),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
        ("tools", with("name", json!("")), "tools[0].function.name"),
        ("tools", with("name", json!("a b")), "tools[0].function.name"),
        ("tools", with("name", json!("x".repeat(129))), "tools[0].function.name"),
        ("tools", with("parameters", json!([])), "tools[0].function.parameters"),
        ("tools", with("parameters", deep(49)), "tools[0].function.parameters"),
        ("tools", json!([function("f"), function("f")]), "tools[1].function.name"),
        ("tools", json!(many(129)), "tools"),
        ("tools", large(1, (64 << 10) + 1), "tools[0].function"),
        ("tools", large(17, 64 << 10), "tools"),
        ("tool_choice", json!("any"), "tool_choice"),
        ("tool_choice", json!(5), "tool_choice"),
        ("tool_choice", named("h"), "tool_choice"),
        ("tool_choice", json!({"type": "custom", "function": {"name": "f"}}), "tool_choice"),
        ("parallel_tool_calls", json!("no"), "parallel_tool_calls"),
        ("include_reasoning", json!(1), "include_reasoning"),
    ];
    for (field, value, param) in cases {
        let mut body = asks("x");
        body[field] = value;
        let reply = server.post(CHAT, &body).await;
        let shown = format!("{param}: {:.300} gave {}", body.to_string(), reply.body);
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!(param)), "{shown}");
    }
    let good = [
        ("tools", with("name", json!("x".repeat(128)))),
        ("tools", with("parameters", deep(48))),
        ("tools", json!(many(128))),
        ("tools", large(16, 64 << 10)),
        ("tool_choice", json!("auto")),
    ];
    for (field, value) in good {
        let mut body = asks("x");
        body[field] = value;
        let reply = server.post(CHAT, &body).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let completion = json!({"prompt": "a", "tools": [function("f")]});
    assert_eq!(server.post("/v1/completions", &completion).await.error("param"), "tools");
    let completion = json!({"prompt": "a", "tool_choice": "required"});
    assert_eq!(server.post("/v1/completions", &completion).await.error("param"), "tool_choice");
}

#[tokio::test]
async fn bad_calls_in_messages_are_refused_by_name() {
    let server = start(REPEATS).await;
    let calls = |arguments: Value| {
        let call = json!({"id": "1", "function": {"name": "f", "arguments": arguments}});
        json!({"role": "assistant", "tool_calls": [call]})
    };
    let of_user = json!({"role": "user", "content": "a", "tool_calls": [
        {"id": "1", "function": {"name": "f"}},
    ]});
    let many = |count: usize| {
        let calls = vec![json!({"id": "1", "function": {"name": "f"}}); count];
        json!({"role": "assistant", "tool_calls": calls})
    };
    let result =
        |id: usize| json!({"role": "tool", "content": "a", "tool_call_id": "x".repeat(id)});
    let at = "messages[0].tool_calls[0].function.arguments";
    let deep = "{\"a\":".repeat(60) + "1" + &"}".repeat(60);
    for (message, param) in [
        (calls(json!("{")), at),
        (calls(json!("[]")), at),
        (calls(json!(deep)), at),
        (calls(json!(7)), at),
        (of_user, "messages[0].tool_calls"),
        (many(129), "messages[0].tool_calls"),
        (result(257), "messages[0].tool_call_id"),
    ] {
        let body = json!({"messages": [message], "max_tokens": 1});
        let reply = server.post(CHAT, &body).await;
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!(param)), "{body}");
    }
    for message in [calls(json!({"a": 1})), many(128), result(256)] {
        let messages = json!([message, {"role": "user", "content": "a"}]);
        let reply = server.post(CHAT, &json!({"messages": messages, "max_tokens": 1})).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
}
