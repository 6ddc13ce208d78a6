//! The battery of hostile requests: each alone, then all at once beside a client that must not
//! notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};
use server::guard::Guard;

use crate::client::send;
use crate::harness::{Server, Setup};

/// The cases; the first lines of the file say how they are written.
const CASES: &str = include_str!("hostile.txt");
/// Requests in the battery, at least.
const REQUESTS_MIN: usize = 400;
/// Requests under way at once.
const WORKERS: usize = 16;

/// One request and what must come of it.
struct Case {
    /// Where it stands in the file, for messages.
    line: String,
    status: u16,
    code: Value,
    param: Value,
    method: Method,
    path: String,
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
    body: Bytes,
}

/// All requests of the file.
fn cases() -> Vec<Case> {
    let lines =
        CASES.lines().zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(|(line, number)| requests(line, number)).collect()
}

/// The requests of one line.
fn requests(line: &str, number: usize) -> Vec<Case> {
    let mut columns = line.splitn(5, ' ');
    let mut column = || columns.next().unwrap_or_else(|| panic!("line {number} has five columns"));
    let status = column().parse().expect("a status");
    let [code, param] = [column(), column()].map(|word| match word {
        "-" => Value::Null,
        word => word.into(),
    });
    let (place, body) = (column(), column());
    let case = |method: Method, place: &str, body: &[u8]| {
        let mut parts = place.split(';');
        let path = String::from_utf8(repeated(parts.next().expect("a path").as_bytes()));
        let headers = parts.map(|header| {
            let (name, value) = header.split_once('=').expect("a name and a value");
            let value = (!value.is_empty()).then(|| value.parse().expect("a value"));
            (name.parse().expect("a name"), value)
        });
        Case {
            line: format!("line {number}: {line:.90}"),
            status,
            code: code.clone(),
            param: param.clone(),
            method,
            path: path.expect("a path is text"),
            headers: headers.collect(),
            body: Bytes::copy_from_slice(body),
        }
    };
    if let Some((method, place)) = place.split_once(':') {
        let body = if body == "-" { Vec::new() } else { expanded(body) };
        return vec![case(method.parse().expect("a method"), place, &body)];
    }
    let prompts = [("completions", "prompt", r#""a""#)];
    let messages = [("chat", "messages", r#"[{"role":"user","content":"a"}]"#)];
    let mut cases = Vec::new();
    for (endpoint, field, prompt) in prompts.into_iter().chain(messages) {
        if place != "both" && place != endpoint {
            continue;
        }
        for stream in [false, true] {
            let mut fields = vec![format!(r#""stream":{stream}"#), body.to_owned()];
            for (field, value) in [(field, prompt), ("max_tokens", "2")] {
                if !body.contains(&format!("\"{field}\":")) {
                    fields.push(format!(r#""{field}":{value}"#));
                }
            }
            let body = expanded(&format!("{{{}}}", fields.join(",")));
            let path = match endpoint {
                "chat" => "/v1/chat/completions",
                _ => "/v1/completions",
            };
            cases.push(case(Method::POST, path, &body));
        }
    }
    assert!(!cases.is_empty(), "line {number}: where is {place}?");
    cases
}

/// `body` with its bytes and repetitions written out.
fn expanded(body: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = body;
    while let Some(start) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..start]);
        let digits = &rest[start + 2..start + 4];
        bytes.push(u8::from_str_radix(digits, 16).expect("two digits of a byte"));
        rest = &rest[start + 4..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    repeated(&bytes)
}

/// `text` with its repetitions written out.
fn repeated(text: &[u8]) -> Vec<u8> {
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|part| part == what);
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(start) = find(rest, b"<<") {
        bytes.extend_from_slice(&rest[..start]);
        rest = &rest[start + 2..];
        let (times, end) = (find(rest, b"*").expect("a count"), find(rest, b">>").expect("an end"));
        let count = std::str::from_utf8(&rest[..times]).expect("a number");
        let count: usize = count.parse().expect("a number");
        bytes.extend(rest[times + 1..end].repeat(count));
        rest = &rest[end + 2..];
    }
    bytes.extend_from_slice(rest);
    bytes
}

impl Case {
    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(&self.method).uri(self.path.as_str());
        request = request.header("host", "test").header("content-type", "application/json");
        let mut request = request.body(Full::new(self.body.clone())).expect("a valid request");
        for (name, value) in &self.headers {
            match value {
                Some(value) => request.headers_mut().insert(name, value.clone()),
                None => request.headers_mut().remove(name),
            };
        }
        request
    }

    /// What is wrong with the server's answer, if anything.
    async fn complaint(&self, server: &Server) -> Option<String> {
        let open = match send(server.address, self.request()).await {
            Ok(open) => open,
            Err(error) => return Some(format!("{}: no reply: {error}", self.line)),
        };
        let reply = open.reply().await;
        let failed = 400 <= self.status;
        let right = reply.status == self.status
            && !reply.body.contains("event: error")
            && (!failed
                || reply.headers["content-type"] == "application/json"
                    && reply.error("code") == self.code
                    && reply.error("param") == self.param
                    && reply.error("message").as_str().is_some_and(|text| !text.is_empty()));
        (!right).then(|| format!("{}: {} {:.300}", self.line, reply.status, reply.body))
    }
}

/// The text that a client which minds its own business gets as a stream.
async fn canary(server: &Server) -> String {
    let body = json!({"prompt": "canary in the mine ", "temperature": 0, "max_tokens": 100});
    let mut stream = server.stream("/v1/completions", &body).await;
    let mut text = String::new();
    for event in stream.events().await {
        if event.data != "[DONE]" {
            text += event.json()["choices"][0]["text"].as_str().expect("a text");
        }
    }
    text
}

async fn server() -> Server {
    let mut setup = Setup::new();
    // As on a loopback address, asked by another name.
    let address = "127.0.0.1:8000".parse().expect("an address");
    setup.server.guard = Guard::new(address, &["test".to_owned()], &[]).expect("good");
    // Nothing here is about a full queue.
    setup.engine.max_num_queued_reqs = 1024;
    setup.start().await
}

#[tokio::test]
async fn each_hostile_request_is_answered_as_the_list_says() {
    let server = server().await;
    let cases = cases();
    assert!(REQUESTS_MIN <= cases.len(), "{} requests", cases.len());
    let mut complaints = Vec::new();
    for case in &cases {
        complaints.extend(case.complaint(&server).await);
    }
    assert!(
        complaints.is_empty(),
        "{} of {}:\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
    let metrics = server.idle().await;
    assert_eq!(metrics.value("millrace:panics_total", ""), 0.0);
    assert_eq!(server.get("/health").await.status, 200);
    println!("{} hostile requests, each answered as the list says", cases.len());
}

#[tokio::test]
async fn hostile_requests_all_at_once_do_not_reach_anybody_else() {
    let server = Arc::new(server().await);
    let baseline = canary(&server).await;
    assert_eq!(baseline.len(), 100);
    let mut cases = cases();
    // The order in which the workers take them: a fixed shuffle.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for last in (1..cases.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        cases.swap(last, ((state >> 33) % (last as u64 + 1)) as usize);
    }
    let (cases, next) = (Arc::new(cases), Arc::new(AtomicUsize::new(0)));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let (server, cases, next) = (Arc::clone(&server), Arc::clone(&cases), Arc::clone(&next));
        workers.spawn(async move {
            let mut complaints = Vec::new();
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                complaints.extend(case.complaint(&server).await);
            }
            complaints
        });
    }
    let mut beside = 0;
    while next.load(Ordering::Relaxed) < cases.len() {
        assert_eq!(canary(&server).await, baseline);
        beside += 1;
    }
    let complaints: Vec<String> = workers.join_all().await.concat();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(1 < beside, "the canary sang {beside} times");
    assert_eq!(canary(&server).await, baseline);
    server.idle().await;
}
