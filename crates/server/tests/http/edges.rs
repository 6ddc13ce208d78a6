//! Bounds from both sides: the last that is taken, and the first that is not.

use serde_json::{Map, Value, json};
use server::limits::{
    HEAD_BYTES, HEADERS, JSON_DEPTH, LOGIT_BIASES, MESSAGES, METADATA_BYTES, NAME_BYTES,
    SAMPLED_PROMPTS, SAMPLES, TEMPLATE_VARIABLES, TOOLS,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, Setup};
use crate::vocabulary::normalizing;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
/// Tells functions, so that requests may have some.
const TELLS_TOOLS: &str =
    "{% for m in messages %}{{ m.content }}{% endfor %}{% if tools %}{% endif %}{# <tool_call> #}";

/// `count` messages of one letter.
fn messages(count: usize) -> Value {
    json!({"messages": vec![json!({"role": "user", "content": "a"}); count]})
}

/// As many template variables.
fn variables(count: usize) -> Value {
    let variable = |index| (format!("v{index}"), json!(1));
    json!({"chat_template_kwargs": (0..count).map(variable).collect::<Map<_, _>>()})
}

/// A choice among `count` functions, of which there is one.
fn allowed_tools(count: usize) -> Value {
    let named = json!({"type": "function", "function": {"name": "f"}});
    let choice = json!({"mode": "auto", "tools": vec![named.clone(); count]});
    json!({
        "tools": [named], "tool_choice": {"type": "allowed_tools", "allowed_tools": choice},
    })
}

/// A call whose arguments are lists within an object, `depth` of both.
fn arguments(depth: usize) -> Value {
    let text = format!("{{\"a\": {}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    let function = json!({"name": "f", "arguments": text});
    let call = json!({"id": "1", "type": "function", "function": function});
    json!({"messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "c"},
    ]})
}

/// Metadata of so many bytes of JSON.
fn metadata(bytes: usize) -> Value {
    json!({"metadata": {"a": "x".repeat(bytes - r#"{"a":""}"#.len())}})
}

fn format_name(bytes: usize) -> Value {
    let schema = json!({"enum": [1]});
    let format = json!({"type": "json_schema", "name": "n".repeat(bytes), "schema": schema});
    json!({"text": {"format": format}})
}

/// The status of a request with these fields beside what it must have, and the field that an error names.
async fn ask(server: &Server, path: &str, fields: &Value) -> (u16, Value) {
    let mut body = match path {
        RESPONSES => json!({"input": "a", "max_output_tokens": 4}),
        _ => json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 4}),
    };
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let reply = server.post(path, &body).await;
    let param = if reply.status == 200 { Value::Null } else { reply.error("param") };
    (reply.status.as_u16(), param)
}

#[tokio::test]
async fn the_last_that_is_taken_and_the_first_that_is_not() {
    let mut setup = Setup { template: Some(TELLS_TOOLS), ..Setup::new() };
    setup.engine.max_model_len = 8000;
    let server = setup.start().await;
    type Fields = fn(usize) -> Value;
    let bounds: [(&str, Fields, usize, &str); 6] = [
        (CHAT, messages, MESSAGES, "messages"),
        (CHAT, variables, TEMPLATE_VARIABLES, "chat_template_kwargs"),
        (CHAT, allowed_tools, TOOLS, "tool_choice"),
        (CHAT, arguments, JSON_DEPTH, "messages[1].tool_calls[0].function.arguments"),
        (RESPONSES, metadata, METADATA_BYTES, "metadata"),
        (RESPONSES, format_name, NAME_BYTES, "text.format.name"),
    ];
    for (path, fields, most, param) in bounds {
        assert_eq!(ask(&server, path, &fields(most)).await, (200, Value::Null), "{param}: {most}");
        let beyond = ask(&server, path, &fields(most + 1)).await;
        assert_eq!(beyond, (400, json!(param)), "{param}: more than {most}");
    }
    server.end().await;
}

#[tokio::test]
async fn the_largest_n_is_an_option_and_stands_in_the_description() {
    for most in [1, 16, SAMPLES as usize] {
        let mut setup = Setup::new();
        setup.server.samples_max = most as u32;
        setup.engine.max_num_queued_reqs = SAMPLED_PROMPTS as u32 * SAMPLES;
        let server = setup.start().await;
        for (prompts, n, status) in [
            (1, most, 200),
            (1, most + 1, 400),
            (SAMPLED_PROMPTS, most, 200),
            (SAMPLED_PROMPTS + 1, most, 400),
        ] {
            let body = json!({"prompt": vec!["a"; prompts], "n": n, "max_tokens": 1});
            let reply = server.post("/v1/completions", &body).await;
            assert_eq!(reply.status.as_u16(), status, "{prompts} prompts, n = {n}: {}", reply.body);
            if status == 400 {
                assert_eq!(reply.error("param"), "n");
            }
        }
        let document = server.get("/openapi.json").await.json();
        for schema in ["CompletionRequest", "ChatCompletionRequest"] {
            let n = &document["components"]["schemas"][schema]["properties"]["n"];
            assert_eq!(n["maximum"], json!(most), "{schema}");
        }
        server.end().await;
    }
}

/// The vocabulary of these tests is smaller than the bound: what lies within is refused for another reason.
#[tokio::test]
async fn biases_are_counted_before_they_are_looked_at() {
    let server = Setup::new().start().await;
    for (count, says) in [
        (LOGIT_BIASES, "no token id".to_owned()),
        (LOGIT_BIASES + 1, format!("more than {LOGIT_BIASES}")),
    ] {
        let biases: Map<String, Value> = (0..count).map(|id| (id.to_string(), json!(1))).collect();
        let body = json!({"prompt": "a", "logit_bias": biases});
        let reply = server.post("/v1/completions", &body).await;
        let message = reply.error("message");
        assert!(message.as_str().is_some_and(|text| text.contains(&says)), "{count}: {message}");
    }
    server.end().await;
}

/// What lies within is refused for another reason: it has too many tokens to be told.
#[tokio::test]
async fn a_text_may_have_sixteen_mebibytes_in_its_usual_form() {
    const MOST: usize = 16 << 20;
    let server = Setup { tokenizer: normalizing(), template: None, ..Setup::new() }.start().await;
    let (sign, usual) = ("ﷺ", "صلى الله عليه وسلم");
    let text = format!("{}{}", sign.repeat(MOST / usual.len()), "a".repeat(MOST % usual.len()));
    for (text, says) in [
        (text.clone(), "send it in parts".to_owned()),
        (text + "a", format!("more than {MOST} bytes in its usual form")),
    ] {
        let reply = server.post("/tokenize", &json!({"prompt": text})).await;
        assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!("prompt")));
        let message = reply.error("message");
        assert!(message.as_str().is_some_and(|text| text.contains(&says)), "{message}");
    }
    server.end().await;
}

/// All that comes back for these bytes; the client says nothing more.
async fn say(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The server may refuse the head before it has all of it.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8_lossy(&reply).into_owned()
}

/// The statuses of the replies in `text`.
fn statuses(text: &str) -> Vec<&str> {
    text.split("HTTP/1.1 ").skip(1).map(|reply| &reply[..3]).collect()
}

/// A head of so many bytes.
fn head(bytes: usize) -> String {
    let (start, end) = ("GET /live HTTP/1.1\r\nhost: localhost\r\nlong: ", "\r\n\r\n");
    format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
}

/// A head of so many fields.
fn fields(count: usize) -> String {
    let more: String = (1..count).map(|index| format!("f{index}: a\r\n")).collect();
    format!("GET /live HTTP/1.1\r\nhost: localhost\r\n{more}\r\n")
}

#[tokio::test]
async fn a_head_may_be_as_long_as_the_limits_say() {
    let server = Setup::new().start().await;
    for (text, expected) in [
        (head(HEAD_BYTES), "200"),
        (head(HEAD_BYTES + 1), "431"),
        (fields(HEADERS), "200"),
        (fields(HEADERS + 1), "431"),
    ] {
        let reply = say(&server, text.as_bytes()).await;
        assert_eq!(statuses(&reply), [expected], "{} bytes: {reply}", text.len());
    }
    server.end().await;
}

/// Where a message ends must not be a matter of opinion: what lies behind is no request of its own.
#[tokio::test]
async fn malformed_messages_get_one_reply_and_no_second_meaning() {
    let server = Setup::new().start().await;
    let post = "POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let body = r#"{"prompt":"a"}"#;
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let smuggled = "GET /load HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let cases = [
        // Chunks count, and the connection closes behind them.
        (format!("{post}content-length: 4\r\n{chunked}\r\n{chunks}{smuggled}"), &["200"][..]),
        (format!("{post}{chunked}content-length: 4\r\n\r\n{chunks}{smuggled}"), &["200"]),
        (format!("{post}transfer-encoding: gzip\r\n\r\n{chunks}{smuggled}"), &["400"]),
        (format!("{post}transfer-encoding: chunked, gzip\r\n\r\n{chunks}{smuggled}"), &["400"]),
        (format!("{post}content-length: +14\r\n\r\n{body}"), &["400"]),
        (format!("{post}content-length: -1\r\n\r\n{body}"), &["400"]),
        (format!("{post}content-length: 99999999999999999999\r\n\r\n{body}"), &["400"]),
        (format!("{post}{chunked}\r\nfffffffffffffffff\r\n{body}"), &["400"]),
        (format!("{post}{chunked}\r\n-1\r\n{body}"), &["400"]),
        (format!("{post}{chunked}\r\nx\r\n{body}"), &["400"]),
        (format!("{post}{chunked}\r\ne\r\n{body}zz0\r\n\r\n"), &["400"]),
        (format!("{post}{chunked}\r\ne\r\n{body}"), &["400"]),
        ("GET /live HTTP/1.1\r\nhost: localhost\r\na: b\r\n folded\r\n\r\n".into(), &["400"]),
        ("GET /live HTTP/1.1\r\nhost: local\0host\r\n\r\n".into(), &["400"]),
        ("GET /live HTTP/1.1\r\nhost : localhost\r\n\r\n".into(), &["400"]),
        ("GET /live HTTP/1.1\r\nho\0st: localhost\r\n\r\n".into(), &["400"]),
        ("GET /li ve HTTP/1.1\r\nhost: localhost\r\n\r\n".into(), &["400"]),
        ("GET /live HTTP/1.1\rhost: localhost\r\n\r\n".into(), &["400"]),
        ("GET /live HTTP/3.0\r\nhost: localhost\r\n\r\n".into(), &["400"]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &[]),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0".into(), &["400"]),
        ("\r\n\r\n\r\n".into(), &[]),
        ("GET".into(), &[]),
    ];
    for (bytes, expected) in cases {
        let reply = say(&server, bytes.as_bytes()).await;
        assert_eq!(statuses(&reply), expected, "{bytes:?} gave {reply}");
    }
    assert_eq!(server.get("/live").await.status, 200);
    assert_eq!(server.idle().await.value("millrace:panics_total", ""), 0.0);
    server.end().await;
}
