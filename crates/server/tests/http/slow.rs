//! Clients that send slowly, or never to the end. Time stands still unless a test moves it.

use std::time::Duration;

use serde_json::{Value, json};
use server::limits::{BODY_READ_TIMEOUT, HEAD_READ_TIMEOUT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::advance;

use crate::harness::{Server, Setup};
use crate::silence::stop_the_clock;

/// Timers are exact to a millisecond.
pub const A_MOMENT: Duration = Duration::from_millis(2);
const HEAD: &str = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

pub async fn connect(server: &Server, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    // Two rounds through the server, in which it reads what came.
    for _ in 0..2 {
        server.get("/live").await;
    }
    stream
}

/// What comes until the server closes the connection.
pub async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // The server may close it with something unread, which is an error here.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn half_a_head_is_waited_for_ten_seconds_and_silence_too() {
    let server = Setup::new().start().await;
    let _clock = stop_the_clock();
    let mut streams = Vec::new();
    for bytes in ["", "P", "GET /live HTTP/1.1\r\n", HEAD] {
        streams.push(connect(&server, bytes).await);
    }
    advance(HEAD_READ_TIMEOUT + A_MOMENT).await;
    for stream in &mut streams {
        assert!(!rest(stream).await.contains("200"));
    }
    assert_eq!(server.get("/live").await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408_however_slowly_it_drips() {
    let server = Setup::new().start().await;
    let _clock = stop_the_clock();
    let head = format!("{HEAD}content-length: 1000\r\n\r\n");
    let mut silent = connect(&server, &format!("{head}{{\"prompt\"")).await;
    let mut dripping = connect(&server, &head).await;
    let seconds = BODY_READ_TIMEOUT.as_secs();
    for _ in 0..seconds - 1 {
        advance(Duration::from_secs(1)).await;
        dripping.write_all(b" ").await.unwrap();
        server.get("/live").await;
    }
    let asked = server.post("/v1/completions", &json!({"prompt": "ab", "max_tokens": 1})).await;
    assert_eq!(asked.status, 200, "others are served meanwhile");
    advance(Duration::from_secs(1) + A_MOMENT).await;
    for stream in [&mut silent, &mut dripping] {
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 408");
    }
    assert_eq!(server.metrics().await.value("millrace:requests_accepted_total", ""), 1.0);
}

#[tokio::test]
async fn who_asks_before_sending_the_body_is_told_to_go_on() {
    let server = Setup::new().start().await;
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 2}).to_string();
    let head = format!(
        "{HEAD}connection: close\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = connect(&server, &head).await;
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let reply = rest(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let (_, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["choices"][0]["text"], "ab");
}

#[tokio::test]
async fn a_length_that_lies_ends_the_connection() {
    let server = Setup::new().start().await;
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 2}).to_string();
    // Shorter than the body: half a body is no JSON, and its rest is no request.
    let reply = {
        let head = format!("{HEAD}content-length: 10\r\n\r\n{body}");
        rest(&mut connect(&server, &head).await).await
    };
    assert_eq!(reply.matches("HTTP/1.1 400 ").count(), 2, "{reply}");
    // Two that differ: which one a proxy believes is anybody's guess.
    for fields in
        ["content-length: 10\r\ncontent-length: 20", "content-length: 1, 2", "content-length: x"]
    {
        let head = format!("{HEAD}{fields}\r\n\r\n{body}");
        let reply = rest(&mut connect(&server, &head).await).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{fields}: {reply}");
    }
    assert_eq!(server.metrics().await.value("millrace:requests_accepted_total", ""), 0.0);
}
