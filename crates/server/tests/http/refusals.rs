//! What is refused, and how.

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{request, send};
use crate::harness::{Server, Setup};
use crate::vocabulary::LEN;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// Asserts that `field` with `value` is refused with 400, and that the error names `param`.
async fn check(server: &Server, path: &str, (field, value, param): (&str, Value, &str)) {
    let mut body = json!({"max_tokens": 4});
    match path {
        CHAT => body["messages"] = json!([{"role": "user", "content": "a"}]),
        _ => body["prompt"] = json!("a"),
    }
    body[field] = value;
    for stream in [false, true] {
        if field != "stream" && field != "stream_options" {
            body["stream"] = stream.into();
        }
        let reply = server.post(path, &body).await;
        let context = format!("{path} {body} gave {}", reply.body);
        assert_eq!(reply.status, 400, "{context}");
        assert_eq!(reply.headers["content-type"], "application/json");
        assert_eq!(reply.error("type"), "invalid_request_error", "{context}");
        assert_eq!(reply.error("param"), param, "{context}");
        assert!(reply.error("message").as_str().is_some_and(|m| !m.is_empty()), "{context}");
    }
}

#[tokio::test]
async fn numbers_out_of_range_are_refused_by_name_at_both_endpoints() {
    let server = Setup::new().start().await;
    let cases = [
        ("temperature", vec![json!(-0.1), json!(2.1), json!(1e300), json!("hot"), json!([])]),
        ("top_p", vec![json!(0), json!(-0.5), json!(1.01), json!(-1e300), json!(true)]),
        ("top_k", vec![json!(-2), json!(1.5), json!("all")]),
        ("min_p", vec![json!(-0.1), json!(1.1), json!({})]),
        ("repetition_penalty", vec![json!(0), json!(-1), json!(1e9), json!("x")]),
        ("presence_penalty", vec![json!(-2.1), json!(2.1), json!("x")]),
        ("frequency_penalty", vec![json!(-2.1), json!(2.1), json!(false)]),
        ("max_tokens", vec![json!(0), json!(-1), json!(1.5), json!(u64::MAX), json!("4")]),
        ("min_tokens", vec![json!(-1), json!(5), json!(1_i64 << 40), json!("x")]),
        ("n", vec![json!(0), json!(-1), json!(17), json!(1_000_000), json!("2")]),
        ("seed", vec![json!(1.5), json!("x"), json!(u64::MAX)]),
        ("user", vec![json!(7), json!("x".repeat(513))]),
        // In double precision these are outside, in single precision they would not be.
        ("temperature", vec![json!(2.0000000000000004), json!(-1e-300)]),
        ("top_p", vec![json!(1.00000000001)]),
        ("presence_penalty", vec![json!(-2.00000000001)]),
        // Requests are served first come, first served here.
        ("priority", vec![json!(1), json!(-1), json!(1_i64 << 31), json!("x")]),
        ("stream", vec![json!("yes"), json!(1)]),
        ("ignore_eos", vec![json!("yes"), json!(0)]),
        ("stop", vec![json!(""), json!(["a", ""]), json!(7), json!("x".repeat(257))]),
        ("stop", vec![json!(vec!["a"; 17]), json!([["a"]])]),
        ("stop_token_ids", vec![json!(vec![1; 65]), json!(5)]),
        ("model", vec![json!(5), json!([])]),
        ("stream_options", vec![json!({"include_usage": true}), json!(5)]),
    ];
    for (field, values) in cases {
        for value in values {
            for path in [COMPLETIONS, CHAT] {
                check(&server, path, (field, value.clone(), field)).await;
            }
        }
    }
    assert_eq!(server.idle().await.value("millrace:requests_accepted_total", ""), 0.0);
}

#[tokio::test]
async fn the_last_value_within_each_limit_is_served() {
    let mut setup = Setup::new();
    setup.engine.max_num_queued_reqs = 64;
    let server = setup.start().await;
    let values = [
        ("temperature", json!(2)),
        ("temperature", json!(0)),
        ("top_p", json!(1e-9)),
        ("top_k", json!(i64::MAX)),
        ("min_p", json!(1)),
        ("repetition_penalty", json!(100)),
        ("presence_penalty", json!(-2)),
        ("frequency_penalty", json!(2.0)),
        ("min_tokens", json!(4)),
        ("n", json!(16)),
        ("priority", json!(0)),
        ("user", json!("x".repeat(512))),
        ("seed", json!(i64::MIN)),
        ("stop", json!(vec!["x".repeat(256); 16])),
        ("stop_token_ids", json!(vec![LEN - 1; 64])),
        ("prompt", json!(vec!["a"; 16])),
        ("prompt", json!([LEN - 1])),
    ];
    for (field, value) in values {
        let mut body = json!({"prompt": "a", "max_tokens": 4});
        body[field] = value;
        let reply = server.post(COMPLETIONS, &body).await;
        assert_eq!(reply.status, 200, "{body} gave {}", reply.body);
    }
    let most = json!({"prompt": vec!["a"; 4], "n": 16});
    assert_eq!(server.post(COMPLETIONS, &most).await.status, 200);
    let body = "{\"prompt\":\"a\"}";
    let padded = format!("{body}{}", " ".repeat((4 << 20) - body.len()));
    assert_eq!(server.post_raw(COMPLETIONS, &padded).await.status, 200);
}

#[tokio::test]
async fn the_message_gives_value_and_limit() {
    let server = Setup::new().start().await;
    let message = async |body: Value| server.post(COMPLETIONS, &body).await.error("message");
    assert_eq!(
        message(json!({"prompt": "a", "temperature": 1e300})).await,
        format!("`temperature` = {} is out of range: expected 0 to 2", 1e300)
    );
    assert_eq!(message(json!({"prompt": "a", "n": 17})).await, "n is 17; give 1 to 16");
}

#[tokio::test]
async fn bad_prompts_are_refused_by_name() {
    let server = Setup::new().start().await;
    let end = i64::from(LEN);
    let cases = [
        (json!(null), "prompt"),
        (json!(""), "prompt"),
        (json!([]), "prompt"),
        (json!([[]]), "prompt"),
        (json!(["a", ""]), "prompt[1]"),
        (json!(["a", []]), "prompt[1]"),
        (json!([1, end]), "prompt[1]"),
        (json!([-1]), "prompt[0]"),
        (json!([[1], [2, end]]), "prompt[1][1]"),
        (json!([1, "a"]), "prompt[1]"),
        (json!(["a", 1]), "prompt"),
        (json!([1.5]), "prompt[0]"),
        (json!({"a": 1}), "prompt"),
        (json!(5), "prompt"),
        (json!([{"a": 1}]), "prompt[0]"),
        (json!(vec!["a"; 17]), "prompt"),
    ];
    for (value, param) in cases {
        check(&server, COMPLETIONS, ("prompt", value, param)).await;
    }
    let too_many = json!({"prompt": vec!["a"; 16], "n": 5});
    assert_eq!(server.post(COMPLETIONS, &too_many).await.error("param"), "n");
}

#[tokio::test]
async fn bad_messages_are_refused_by_name() {
    let server = Setup::new().start().await;
    let one = |message: Value| json!([{"role": "user", "content": "a"}, message]);
    let cases = [
        (json!(null), "messages"),
        (json!([]), "messages"),
        (json!("hi"), "messages"),
        (json!(["hi"]), "messages[0]"),
        (one(json!({"content": "a"})), "messages[1]"),
        (one(json!({"role": "user"})), "messages[1].content"),
        (one(json!({"role": "user", "content": null})), "messages[1].content"),
        (one(json!({"role": "user", "content": 5})), "messages[1].content"),
        (one(json!({"role": "root", "content": "a"})), "messages[1].role"),
        (one(json!({"role": "<|turn|>", "content": "a"})), "messages[1].role"),
        (one(json!({"role": "user", "content": ["a"]})), "messages[1].content[0]"),
        (
            one(json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]})),
            "messages[1].content[0].type",
        ),
        (
            one(json!({"role": "user", "content": [{"type": "text"}]})),
            "messages[1].content[0].text",
        ),
        (
            one(json!({"role": "assistant", "function_call": {"name": "f"}})),
            "messages[1].function_call",
        ),
    ];
    for (value, param) in cases {
        check(&server, CHAT, ("messages", value, param)).await;
    }
}

#[tokio::test]
async fn stop_tokens_outside_the_vocabulary_are_refused() {
    let server = Setup::new().start().await;
    for id in [-1, i64::from(LEN), 1 << 40] {
        let case = ("stop_token_ids", json!([0, id]), "stop_token_ids[1]");
        check(&server, COMPLETIONS, case).await;
    }
}

#[tokio::test]
async fn fields_that_would_change_the_answer_are_refused_by_name() {
    let server = Setup::new().start().await;
    let cases = [
        ("suffix", json!("x")),
        ("best_of", json!(2)),
        ("typical_p", json!(0.5)),
        ("ebnf", json!("root ::= [a]")),
        ("chat_template", json!("x")),
        ("use_beam_search", json!(true)),
        ("modalities", json!(["audio"])),
    ];
    for (field, value) in cases {
        for path in [COMPLETIONS, CHAT] {
            check(&server, path, (field, value.clone(), field)).await;
        }
    }
}

#[tokio::test]
async fn what_does_not_fit_the_context_is_refused_with_the_figures() {
    let server = Setup::new().start().await;
    let cases = [
        (COMPLETIONS, json!({"prompt": "a".repeat(1000)}), "prompt", "prompt of 1000 tokens"),
        (COMPLETIONS, json!({"prompt": "a".repeat(900), "max_tokens": 101}), "max_tokens", "900"),
        (CHAT, json!({"messages": [{"role": "user", "content": "a".repeat(999)}]}), "messages", ""),
    ];
    for (path, body, param, figure) in cases {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, 400);
        assert_eq!(reply.error("code"), "context_length_exceeded");
        assert_eq!(reply.error("param"), param);
        let message = reply.error("message");
        let message = message.as_str().unwrap();
        assert!(message.contains(figure), "{message}");
        // Clients know the case by these words: not all of them read `code`.
        assert!(
            message.contains("this model's maximum context length is 1000 tokens"),
            "{message}"
        );
        let is_prompt = param != "max_tokens";
        assert_eq!(message.contains("the prompt is too long"), is_prompt, "{message}");
    }
    let body = json!({
        "messages": [{"role": "user", "content": "a"}], "max_completion_tokens": 999,
    });
    assert_eq!(server.post(CHAT, &body).await.error("param"), "max_completion_tokens");
    // The default length takes what is left.
    let body = json!({"prompt": "a".repeat(995), "temperature": 0});
    assert_eq!(server.post(COMPLETIONS, &body).await.json()["usage"]["completion_tokens"], 5);
}

#[tokio::test]
async fn what_does_not_fit_the_blocks_is_refused_and_the_default_length_fits() {
    let mut setup = Setup::new();
    setup.engine.block_count = 2;
    let server = setup.start().await;
    let chat = |extra: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "abc"}], "temperature": 0});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let reply = server.post(CHAT, &chat(json!({"max_tokens": 30}))).await;
    assert_eq!(
        (reply.status.as_u16(), reply.error("code")),
        (400, json!("context_length_exceeded"))
    );
    let reply = server.post(CHAT, &chat(json!({}))).await.json();
    assert_eq!(reply["usage"]["total_tokens"], 33);
}

#[tokio::test]
async fn a_chat_without_template_is_refused() {
    let mut setup = Setup::new();
    setup.template = None;
    let server = setup.start().await;
    let body = json!({"messages": [{"role": "user", "content": "a"}]});
    let reply = server.post(CHAT, &body).await;
    assert_eq!((reply.status.as_u16(), reply.error("param")), (400, json!("messages")));
}

#[tokio::test]
async fn another_model_is_not_found() {
    let server = Setup::new().start().await;
    let paths = [
        (COMPLETIONS, json!({"prompt": "a", "model": "huge"})),
        (CHAT, json!({"messages": [{"role": "user", "content": "a"}], "model": "huge"})),
        ("/tokenize", json!({"prompt": "a", "model": "huge"})),
        ("/detokenize", json!({"tokens": [1], "model": "huge"})),
    ];
    for (path, body) in paths {
        let reply = server.post(path, &body).await;
        assert_eq!(reply.status, 404);
        assert_eq!(reply.error("code"), "model_not_found");
        assert_eq!(reply.error("param"), "model");
        assert!(reply.error("message").as_str().unwrap().contains("`huge`"));
    }
}

#[tokio::test]
async fn bodies_that_are_no_request_get_400_without_param() {
    let server = Setup::new().start().await;
    let deep = "[".repeat(100_000);
    for body in ["", "{", "[]", "null", "5", "\"a\"", "{\"prompt\":\"a\"}x", "\u{feff}{}", &deep] {
        let reply = server.post_raw(COMPLETIONS, body).await;
        assert_eq!(reply.status, 400, "{body:.20}");
        assert_eq!(reply.error("param"), Value::Null, "{body:.20}");
    }
    let bad_fields = [
        ("{\"prompt\":\"\\ud800\"}", "prompt"),
        ("{\"prompt\":\"a\",\"temperature\":1e999}", "temperature"),
        ("{\"prompt\":\"a\",\"prompt\":\"b\"}", "prompt"),
    ];
    for (body, param) in bad_fields {
        let reply = server.post_raw(COMPLETIONS, body).await;
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.body.contains(param), "{}", reply.body);
    }
}

#[tokio::test]
async fn unknown_paths_wrong_methods_and_media_types_are_json_errors() {
    let server = Setup::new().start().await;
    let cases = [
        (Method::GET, "/nothing", 404),
        (Method::POST, "/v1", 404),
        (Method::GET, COMPLETIONS, 405),
        (Method::DELETE, "/v1/models", 405),
        (Method::POST, "/health", 405),
    ];
    for (method, path, status) in cases {
        let reply = server.open(method, path, "").await.reply().await;
        assert_eq!(reply.status, status, "{path}");
        assert!(reply.error("message").as_str().unwrap().contains(path));
    }
    for media_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let mut request = request(Method::POST, COMPLETIONS, "{\"prompt\":\"a\"}");
        request.headers_mut().remove("content-type");
        if let Some(media_type) = media_type {
            request.headers_mut().insert("content-type", media_type.parse().unwrap());
        }
        let reply = send(server.address, request).await.unwrap().reply().await;
        assert_eq!(
            (reply.status.as_u16(), reply.error("code")),
            (415, json!("unsupported_media_type"))
        );
    }
    let mut request = request(Method::POST, COMPLETIONS, "{\"prompt\":\"a\"}");
    let media_type = "Application/JSON; charset=utf-8".parse().unwrap();
    request.headers_mut().insert("content-type", media_type);
    assert_eq!(send(server.address, request).await.unwrap().reply().await.status, 200);
}

/// Sends raw bytes and gives what comes back until the server closes the connection.
async fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The server may close the connection before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8(reply).unwrap()
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_however_it_is_sent() {
    let server = Setup::new().start().await;
    let head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let declared = format!("{head}content-length: 4194305\r\n\r\n");
    let reply = raw(&server, declared.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    assert!(reply.contains("4194304 bytes"), "{reply}");
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..5 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend(std::iter::repeat_n(b' ', 0x10_0000));
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut reply = vec![0; 12];
    let write = async {
        let _ = writer.write_all(&chunked).await;
    };
    let (_, read) = tokio::join!(write, reader.read_exact(&mut reply));
    read.unwrap();
    assert_eq!(reply, b"HTTP/1.1 413");
}

#[tokio::test]
async fn broken_heads_are_refused_and_the_server_goes_on() {
    let server = Setup::new().start().await;
    let long = format!("GET /live HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(40_000));
    let cases: [(&[u8], &str); 4] = [
        (b"nonsense\r\n\r\n", "400"),
        (b"GET / HTTP/9.9\r\n\r\n", "400"),
        (b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", "400"),
        (long.as_bytes(), "431"),
    ];
    for (bytes, status) in cases {
        let reply = raw(&server, bytes).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
    }
    assert_eq!(server.get("/live").await.status, 200);
}

#[tokio::test]
async fn without_the_key_every_path_but_the_probes_and_the_page_is_closed() {
    let setup = Setup::with_keys("secret");
    let server = setup.start().await;
    let paths = [
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/models",
        "/tokenize",
        "/detokenize",
        "/version",
        "/metrics",
        "/server_info",
        "/load",
        "/get_load",
        "/v1/models/tiny",
        "/v1/loads",
        "/model_info",
        "/get_model_info",
        "/get_server_info",
        "/openapi.json",
        "/page/",
        "/page/page.js/",
        "//",
        "/nothing",
        "/health/",
        "/live/x",
        "//health",
        "/Health",
        "/health%2f..%2fmetrics",
    ];
    let keys = [
        None,
        Some(""),
        Some("secret"),
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer secre"),
        Some("Bearer secretx"),
        Some("Bearer Secret"),
        Some("Basic secret"),
        Some("Bearer  secret"),
    ];
    for path in paths {
        for method in [Method::GET, Method::POST] {
            for key in keys {
                let mut request = request(method.clone(), path, "");
                if let Some(key) = key {
                    request.headers_mut().insert("authorization", key.parse().unwrap());
                }
                let reply = send(server.address, request).await.unwrap().reply().await;
                assert_eq!(reply.status, 401, "{method} {path} {key:?}");
                assert_eq!(reply.error("code"), "invalid_api_key");
            }
        }
    }
    for path in ["/health", "/live", "/ready", "/ping"] {
        assert_eq!(server.get(path).await.status, 200);
    }
    for scheme in ["Bearer", "bearer"] {
        let mut request = request(Method::GET, "/v1/models", "");
        let key = format!("{scheme} secret").parse().unwrap();
        request.headers_mut().insert("authorization", key);
        assert_eq!(send(server.address, request).await.unwrap().reply().await.status, 200);
    }
}
