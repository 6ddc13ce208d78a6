//! Room for bodies and for what replies tell: the last that there is, and the first that there is not.

use http::Method;
use serde_json::{Value, json};
use server::limits::{
    BODIES_BYTES_IN_FLIGHT, EMBEDDING_NUMBER_BYTES, LOG_PROB_BYTES, TOLD_ID_BYTES,
    TOLD_SPELLING_BYTES,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::client::{Open, request, send};
use crate::device::Gate;
use crate::harness::{Metrics, Server, Setup};

const COMPLETIONS: &str = "/v1/completions";
/// Tells nothing but a number.
pub const COUNT: &str = "/v1/messages/count_tokens";
const ACCEPTED: &str = "millrace:requests_accepted_total";

/// What a token takes of the prompt of [`whole`]: 16 log-probabilities for each of 16 choices.
pub const TOKEN_BYTES: usize = 16 * 16 * LOG_PROB_BYTES;
/// Its tokens if it takes all the room that there is.
const ALL: usize = BODIES_BYTES_IN_FLIGHT / TOKEN_BYTES;

/// A request that takes [`TOKEN_BYTES`] for each of so many tokens until its reply is sent.
fn whole(tokens: usize) -> Value {
    json!({
        "prompt": "a".repeat(tokens), "n": 16, "prompt_logprobs": 15, "temperature": 0,
        "max_tokens": 1,
    })
}

/// A server in which no step happens until it is allowed.
pub async fn start() -> (Server, Gate) {
    let mut setup = Setup::new();
    setup.engine.max_model_len = 50_000;
    setup.engine.block_count = 20_000;
    setup.engine.max_num_queued_reqs = 100;
    setup.start_gated().await
}

/// A request that was sent.
pub type Asked = JoinHandle<hyper::Result<Open>>;

/// Sends a request; its client leaves when the task is aborted.
pub fn ask(server: &Server, path: &str, body: &str) -> Asked {
    tokio::spawn(send(server.address, request(Method::POST, path, body)))
}

async fn accepted(server: &Server, count: usize) {
    server.metrics_until(|metrics: &Metrics| metrics.value(ACCEPTED, "") == count as f64).await;
}

/// Takes all the room but that of so many tokens.
pub async fn take_all_but(server: &Server, tokens: usize) -> Asked {
    let asked = ask(server, COMPLETIONS, &whole(ALL - tokens).to_string());
    accepted(server, 16).await;
    asked
}

/// A body of so many bytes of which nothing is told but a number.
pub fn body_of(bytes: usize) -> String {
    let body = json!({"messages": [{"role": "user", "content": "a"}]}).to_string();
    format!("{body}{}", " ".repeat(bytes - body.len()))
}

/// Whether there is room for a request. If not, it is told so, and when to come again.
pub async fn fits(server: &Server, path: &str, body: &str) -> bool {
    let reply = server.post_raw(path, body).await;
    if reply.status == 200 {
        return true;
    }
    assert_eq!(reply.status, 503, "{}", reply.body);
    assert_eq!(reply.headers["retry-after"], "1");
    let message = reply.error("message");
    assert!(message.as_str().is_some_and(|told| told.contains("too many large")), "{message}");
    false
}

/// Waits until there is room for such a body, or none any more.
pub async fn wait_until_fits(server: &Server, is_expected: bool, bytes: usize) {
    for _ in 0..10_000 {
        if fits(server, COUNT, &body_of(bytes)).await == is_expected {
            return;
        }
    }
    panic!("there is room for {bytes} bytes: still not {is_expected}");
}

/// Whether a request is refused that the engine would take else.
async fn is_refused(server: &Server, path: &str, body: &str) -> bool {
    let asked = ask(server, path, body);
    let taken = |metrics: &Metrics| metrics.value(ACCEPTED, "") != 16.0;
    server.metrics_until(|metrics| asked.is_finished() || taken(metrics)).await;
    asked.is_finished() && asked.await.unwrap().unwrap().reply().await.status == 503
}

#[tokio::test]
async fn one_request_may_take_it_all_and_leaves_it_to_others_at_its_end() {
    let (server, _gate) = start().await;
    let beyond = server.post(COMPLETIONS, &whole(ALL + 1)).await;
    assert_eq!((beyond.status.as_u16(), beyond.error("param")), (400, json!("prompt_logprobs")));
    let first = take_all_but(&server, 0).await;
    assert!(!fits(&server, COUNT, &body_of(100)).await);
    // What needs no room goes on.
    assert_eq!(server.get("/health").await.status, 200);
    first.abort();
    wait_until_fits(&server, true, 100).await;
}

#[tokio::test]
async fn bodies_have_what_is_left_to_the_last_byte() {
    let (server, _gate) = start().await;
    let _first = take_all_but(&server, 1).await;
    assert!(fits(&server, COUNT, &body_of(TOKEN_BYTES)).await);
    assert!(!fits(&server, COUNT, &body_of(TOKEN_BYTES + 1)).await);
    // One of which a part has come takes that part, whatever length it declares.
    let slow = body_of(30_000);
    let head = format!(
        "POST {COUNT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        slow.len()
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(format!("{head}{}", &slow[..20_000]).as_bytes()).await.unwrap();
    let left = TOKEN_BYTES - 20_000;
    wait_until_fits(&server, false, left + 1).await;
    assert!(fits(&server, COUNT, &body_of(left)).await);
    stream.write_all(&slow.as_bytes()[20_000..]).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert!(fits(&server, COUNT, &body_of(TOKEN_BYTES)).await);
}

/// A request in which there is so much of something.
type Body = fn(usize) -> Value;
/// What it takes, its own bytes given.
type Cost = fn(usize, usize) -> usize;

fn letters(count: usize) -> String {
    "a".repeat(count)
}

/// The greatest count whose request fits into `room`.
fn last(room: usize, body: Body, cost: Cost) -> usize {
    let fits = |count: usize| cost(count, body(count).to_string().len()) <= room;
    (1..).take_while(|count| fits(*count)).last().expect("one fits")
}

#[tokio::test]
async fn replies_that_tell_texts_and_ids_have_what_is_left_beside_their_bodies() {
    let (server, _gate) = start().await;
    let _first = take_all_but(&server, 1).await;
    let cases: [(&str, Body, Cost); 3] = [
        (
            "/tokenize",
            |count| json!({"prompt": letters(count)}),
            |count, body| body + count * TOLD_ID_BYTES,
        ),
        (
            "/tokenize",
            |count| json!({"prompt": letters(count), "return_token_strs": true}),
            |count, body| body + count * (TOLD_ID_BYTES + TOLD_SPELLING_BYTES + 3),
        ),
        ("/detokenize", |count| json!({"tokens": vec![97; count]}), |count, body| body + 3 * count),
    ];
    for (path, body, cost) in cases {
        let count = last(TOKEN_BYTES, body, cost);
        assert!(fits(&server, path, &body(count).to_string()).await, "{path}: {count}");
        assert!(!fits(&server, path, &body(count + 1).to_string()).await, "{path}: {count} + 1");
    }
}

#[tokio::test]
async fn answers_that_tell_more_than_text_have_what_is_left_from_check_to_reply() {
    let cases: [(&str, usize, Body, Cost); 5] = [
        (
            COMPLETIONS,
            2,
            |count| json!({"prompt": letters(count), "n": 2, "max_tokens": 16, "return_token_ids": true}),
            |count, _| (count + 16) * 2 * TOLD_ID_BYTES,
        ),
        (
            COMPLETIONS,
            2,
            |count| json!({"prompt": letters(count), "n": 2, "echo": true}),
            |count, _| count * (1 + 2 * 3),
        ),
        (
            COMPLETIONS,
            2,
            |count| json!({"prompt": "a", "n": 2, "logprobs": 5, "max_tokens": count}),
            |count, _| count * 2 * 6 * LOG_PROB_BYTES,
        ),
        (
            "/v1/chat/completions",
            1,
            |count| {
                let messages = json!([{"role": "user", "content": "a"}]);
                json!({
                    "messages": messages, "logprobs": true, "top_logprobs": 20, "max_tokens": count,
                })
            },
            |count, _| count * 21 * LOG_PROB_BYTES,
        ),
        // Three numbers each; 16 inputs at a time are in the engine.
        (
            "/v1/embeddings",
            8,
            |count| json!({"input": vec!["a"; count]}),
            |count, _| count * 3 * EMBEDDING_NUMBER_BYTES,
        ),
    ];
    for (path, requests, body, cost) in cases {
        let (server, _gate) = start().await;
        let first = take_all_but(&server, 1).await;
        let count = last(TOKEN_BYTES, body, cost);
        let beyond = body(count + 1).to_string();
        assert!(is_refused(&server, path, &beyond).await, "{path}: {count} + 1");
        let taken = ask(&server, path, &body(count).to_string());
        accepted(&server, 16 + requests).await;
        // They would be answered at length once steps may happen.
        first.abort();
        taken.abort();
    }
}

#[tokio::test]
async fn a_response_tells_back_its_instructions_if_there_is_room() {
    let (server, _gate) = start().await;
    let _first = take_all_but(&server, 1).await;
    let body = |count: usize| json!({"input": "a", "instructions": letters(count)}).to_string();
    // Three times themselves; what else is told back is less than a KiB.
    let count = TOKEN_BYTES / 3;
    assert!(is_refused(&server, "/v1/responses", &body(count)).await);
    let _taken = ask(&server, "/v1/responses", &body(count - 1024));
    accepted(&server, 17).await;
}
