//! Answers that must call functions: their form, their arguments, how they end.

use serde_json::{Value, json};

use crate::client::SseEvent;
use crate::harness::{PLAIN, Server, Setup};

const CHAT: &str = "/v1/chat/completions";

const HERMES: &str = "{% if tools %}{% endif %}{{ messages[-1].content }}{# <tool_call> #}";
const LLAMA: &str = "{% if tools %}{% endif %}{{ messages[-1].content }}{# ipython #}";
const MISTRAL: &str = "{% if tools %}{% endif %}{{ messages[-1].content }}{# [TOOL_CALLS] #}";
const MISTRAL_ARGS: &str =
    "{% if tools %}{% endif %}{{ messages[-1].content }}{# [TOOL_CALLS] [ARGS] #}";
/// Has thoughts, which it opens itself.
const THINKS: &str =
    "{% if tools %}{% endif %}{{ messages[-1].content }}{# <tool_call> </think> #}<think>";

/// Two functions: `f` takes an integer and one of two words, `g` nothing.
fn tools() -> Value {
    let parameters = json!({
        "properties": {"a": {"type": "integer", "maximum": 99}, "b": {"enum": ["x", "y"]}},
        "required": ["a", "b"], "additionalProperties": false,
    });
    json!([
        {"type": "function", "function": {"name": "f", "parameters": parameters, "strict": true}},
        {"type": "function", "function": {"name": "g"}},
    ])
}

/// A request whose answer would be `says`, over and over, if it were not forced.
fn asks(says: &str, tool_choice: &Value) -> Value {
    json!({
        "messages": [{"role": "user", "content": says}], "temperature": 0, "max_tokens": 400,
        "tools": tools(), "tool_choice": tool_choice,
    })
}

fn named(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name}})
}

async fn start(template: &'static str) -> Server {
    Setup { template: Some(template), ..Setup::new() }.start().await
}

/// Names and arguments of the calls, and the finish reason.
async fn calls(server: &Server, body: &Value) -> (Vec<(String, Value)>, String) {
    let reply = server.post(CHAT, body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let choice = &reply.json()["choices"][0];
    assert_eq!(choice["message"]["content"], Value::Null, "{}", reply.body);
    let call = |call: &Value| {
        let text = call["function"]["arguments"].as_str().expect("text");
        let arguments: Value = serde_json::from_str(text).expect(text);
        (call["function"]["name"].as_str().expect("a name").to_owned(), arguments)
    };
    let calls = choice["message"]["tool_calls"].as_array().expect("calls");
    let finish = choice["finish_reason"].as_str().expect("a reason").to_owned();
    (calls.iter().map(call).collect(), finish)
}

fn check_arguments((name, arguments): &(String, Value)) {
    let fields = arguments.as_object().expect("an object");
    match name.as_str() {
        "g" => assert!(fields.is_empty()),
        _ => {
            assert_eq!(fields.len(), 2, "{arguments}");
            assert!(arguments["a"].as_i64().is_some_and(|a| a <= 99), "{arguments}");
            assert!(arguments["b"] == "x" || arguments["b"] == "y", "{arguments}");
        }
    }
}

#[tokio::test]
async fn a_forced_call_parses_and_fits_its_schema_in_every_form() {
    for template in [HERMES, LLAMA, MISTRAL, MISTRAL_ARGS, PLAIN] {
        let server = start(template).await;
        for name in ["f", "g"] {
            let (calls, finish) = calls(&server, &asks("No. 7}", &named(name))).await;
            assert_eq!(calls.len(), 1, "{template}");
            assert_eq!((calls[0].0.as_str(), finish.as_str()), (name, "stop"), "{template}");
            check_arguments(&calls[0]);
        }
        let mut body = asks("No. 7}", &json!("required"));
        body["parallel_tool_calls"] = false.into();
        let (one, finish) = calls(&server, &body).await;
        assert_eq!((one.len(), finish.as_str()), (1, "tool_calls"), "{template}");
        check_arguments(&one[0]);
    }
}

#[tokio::test]
async fn sampled_calls_fit_too_and_several_choices_have_their_own() {
    let server = start(HERMES).await;
    let mut body = asks("x", &json!("required"));
    for (field, value) in [("n", json!(4)), ("temperature", json!(1)), ("seed", json!(5))] {
        body[field] = value;
    }
    body["parallel_tool_calls"] = false.into();
    let reply = server.post(CHAT, &body).await;
    let choices = reply.json()["choices"].as_array().expect("choices").clone();
    assert_eq!(choices.len(), 4);
    for choice in choices {
        let function = &choice["message"]["tool_calls"][0]["function"];
        let arguments = function["arguments"].as_str().expect("text");
        let name = function["name"].as_str().expect("a name").to_owned();
        check_arguments(&(name, serde_json::from_str(arguments).expect(arguments)));
    }
}

#[tokio::test]
async fn required_calls_may_be_several() {
    let server = start(HERMES).await;
    // The script repeats its prompt, so that the answer is what is written here.
    let call = |name: &str, arguments: &str| {
        format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>")
    };
    let says = format!("{}\n{}$", call("f", "{\"a\": 5, \"b\": \"y\"}"), call("g", "{}"));
    let (calls, finish) = calls(&server, &asks(&says, &json!("required"))).await;
    let expected = [("f".to_owned(), json!({"a": 5, "b": "y"})), ("g".to_owned(), json!({}))];
    assert_eq!((calls.as_slice(), finish.as_str()), (expected.as_slice(), "tool_calls"));
}

#[tokio::test]
async fn streamed_calls_are_those_of_the_whole_reply() {
    let server = start(HERMES).await;
    for choice in [json!("required"), named("f")] {
        let mut body = asks("No. 7}", &choice);
        body["parallel_tool_calls"] = false.into();
        let whole = calls(&server, &body).await;
        let events = server.stream(CHAT, &body).await.events().await;
        let chunk = |event: &SseEvent| event.json()["choices"][0].clone();
        let chunks: Vec<Value> = events[..events.len() - 1].iter().map(chunk).collect();
        let functions = || chunks.iter().map(|c| &c["delta"]["tool_calls"][0]["function"]);
        let names: String = functions().filter_map(|f| f["name"].as_str()).collect();
        let arguments: String = functions().filter_map(|f| f["arguments"].as_str()).collect();
        let arguments: Value = serde_json::from_str(&arguments).expect("JSON");
        let finish = chunks.last().expect("chunks")["finish_reason"].as_str().expect("a reason");
        assert_eq!((vec![(names, arguments)], finish.to_owned()), whole);
    }
}

#[tokio::test]
async fn thoughts_come_before_forced_calls() {
    let server = start(THINKS).await;
    let reply = server.post(CHAT, &asks("hm</think>", &named("g"))).await.json();
    let message = &reply["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "hm", "{reply}");
    assert_eq!(message["tool_calls"][0]["function"]["name"], "g", "{reply}");
}

#[tokio::test]
async fn beside_functions_that_may_be_called_the_form_of_content_leaves_calls() {
    let server = start(HERMES).await;
    let schema = json!({
        "type": "object", "properties": {"c": {"enum": [1, 2]}}, "required": ["c"],
        "additionalProperties": false,
    });
    let named = json!({"name": "n", "schema": schema});
    let json = json!({"type": "json_schema", "json_schema": named});
    let ask = async |says: &str, fields: (&str, &Value)| {
        let mut body = asks(says, &json!("auto"));
        body[fields.0] = fields.1.clone();
        let reply = server.post(CHAT, &body).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()["choices"][0].clone()
    };
    let forms = [
        ("response_format", json, "{\"c\": 1}"),
        ("guided_regex", json!("a/b\n[c]{2}"), "a/b\ncc"),
        ("guided_choice", json!(["ab", "cd"]), "cd"),
        ("guided_grammar", json!("start: \"{\" A+ \"}\"\nA: /[ab]/"), "{ba}"),
    ];
    for (field, form, says) in &forms {
        // What the form takes is content, and a call is a call.
        let choice = ask(&format!("{says}$"), (field, form)).await;
        assert_eq!(choice["message"]["content"], *says, "{choice}");
        assert_eq!(choice["finish_reason"], "stop");
        let call = "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>$";
        let choice = ask(call, (field, form)).await;
        assert_eq!(choice["message"]["tool_calls"][0]["function"]["name"], "g", "{choice}");
        assert_eq!(choice["finish_reason"], "tool_calls");
    }
}

#[tokio::test]
async fn thoughts_come_before_content_of_any_form() {
    let server = start(THINKS).await;
    for (field, form, says) in [
        ("response_format", json!({"type": "json_object"}), "{}"),
        ("guided_regex", json!("[ab]{3}"), "aba"),
        ("guided_choice", json!(["ab", "cd"]), "cd"),
        ("guided_grammar", json!("start: \"x\" | \"(\" start \")\""), "(x)"),
    ] {
        let mut body = asks(&format!("hm</think>\n\n{says}$"), &json!("none"));
        body[field] = form;
        let message = &server.post(CHAT, &body).await.json()["choices"][0]["message"];
        assert_eq!(message["reasoning_content"], "hm", "{message}");
        assert_eq!(message["content"], says, "{message}");
    }
}

#[tokio::test]
async fn allowed_tools_narrow_what_may_be_called() {
    let server = start(HERMES).await;
    let allow = |mode: &str, names: &[&str]| {
        let tools: Vec<Value> = names.iter().map(|name| named(name)).collect();
        json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
    };
    let (calls, _) = calls(&server, &{
        let mut body = asks("x", &allow("required", &["g"]));
        body["parallel_tool_calls"] = false.into();
        body
    })
    .await;
    assert_eq!(calls, [("g".to_owned(), json!({}))]);
    let says = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>$";
    let reply = server.post(CHAT, &asks(says, &allow("auto", &["g"]))).await.json();
    assert_eq!(reply["choices"][0]["finish_reason"], "stop", "f may not be called: {reply}");
    for choice in [
        allow("required", &[]),
        allow("any", &["g"]),
        allow("auto", &["h"]),
        json!({"type": "tools", "allowed_tools": {"mode": "auto", "tools": []}}),
    ] {
        let reply = server.post(CHAT, &asks("x", &choice)).await;
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!("tool_choice")));
    }
}

#[tokio::test]
async fn schemas_may_refer_to_themselves_and_need_not_say_that_they_are_of_objects() {
    let server = start(HERMES).await;
    let tree = json!({"type": "object", "properties": {"sub": {"$ref": "#/$defs/tree"}}});
    for parameters in [
        json!({"$ref": "#/$defs/tree", "$defs": {"tree": tree}}),
        json!({"$ref": "#/$defs/any", "$defs": {"any": {"properties": {"a": {"const": 1}}}}}),
        json!({"type": ["null", "object"]}),
        json!({}),
    ] {
        let mut body = asks("7}", &named("f"));
        body["tools"][0]["function"]["parameters"] = parameters.clone();
        let (calls, _) = calls(&server, &body).await;
        assert!(calls[0].1.is_object(), "{parameters}: {calls:?}");
    }
}

#[tokio::test]
async fn a_schema_that_cannot_be_followed_is_refused_by_name() {
    let server = start(HERMES).await;
    let deep = (0..40).fold(json!({}), |inner, _| json!({"not": inner}));
    for (parameters, param) in [
        (json!({"type": "string"}), "tools[0].function.parameters"),
        (json!({"type": ["string", "null"]}), "tools[0].function.parameters"),
        (json!({"properties": {"a": {"$ref": "#/$defs/none"}}}), "tools"),
        (json!({"properties": {"a": {"type": "string", "pattern": "("}}}), "tools"),
        (deep, "tools"),
    ] {
        let mut body = asks("x", &named("f"));
        body["tools"][0]["function"]["parameters"] = parameters.clone();
        let reply = server.post(CHAT, &body).await;
        let shown = format!("{parameters}: {}", reply.body);
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!(param)), "{shown}");
        // A choice that forces nothing does not look at the schema.
        body["tool_choice"] = "auto".into();
        assert_eq!(server.post(CHAT, &body).await.status, 200);
    }
    let mut body = asks("x", &json!("required"));
    body["tools"] = json!([]);
    assert_eq!(server.post(CHAT, &body).await.error("param"), "tool_choice");
    let metrics = server.idle().await;
    assert_eq!(metrics.ended("error"), 0.0);
}

#[tokio::test]
async fn forced_calls_go_before_the_form_of_content() {
    let server = start(HERMES).await;
    let mut body = asks("x", &named("g"));
    body["response_format"] = json!({"type": "json_object"});
    let (calls, _) = calls(&server, &body).await;
    assert_eq!(calls, [("g".to_owned(), json!({}))]);
}
