//! The log: what is in it, what never is, and what becomes of the service when nobody takes it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use serde_json::{Value, json};

use crate::process::{Server, TINY, wait_for};

const COMPLETIONS: &str = "/v1/completions";
/// What only the client and the server may know.
const PROMPT: &str = "attack at dawn";
const KEY: &str = "sk-sesame";

/// Asks for a completion with all that a client may write where a log might show it, and is answered.
fn ask_with_traps(server: &Server) {
    let trap = "\u{1b}[2J\r\n2026-01-01T00:00:00Z ERROR all is lost\u{7}";
    let body = json!({
        "prompt": format!("{PROMPT}{trap}"), "user": trap, "stop": trap, "max_tokens": 3,
        "temperature": 0,
    });
    let body = body.to_string();
    let head = |fields: &str, length: usize| {
        format!(
            "POST {COMPLETIONS}?x=%1b%0d%0aERROR HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n{fields}\
             content-length: {length}\r\n\r\n"
        )
    };
    let send = |head: &str, body: &str| {
        let mut connection = TcpStream::connect(server.address).expect("the server listens");
        connection.write_all(format!("{head}{body}").as_bytes()).expect("it reads");
        let mut reply = String::new();
        // What is no HTTP may be cut off.
        let _ = connection.read_to_string(&mut reply);
        reply
    };
    let reply = send(&head("x-request-id: order-66\r\n", body.len()), &body);
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let unknown = json!({"prompt": PROMPT, "model": trap}).to_string();
    assert!(send(&head("", unknown.len()), &unknown).starts_with("HTTP/1.1 404 "));
    for bytes in ["GET /\u{1b}[2J\u{7} HTTP/1.1\r\nhost: localhost\r\n\r\n", "\u{1b}[2J\r\n\r\n"] {
        send(bytes, "");
    }
    for id in ["a\u{1b}[2Jb", "a\nERROR b", "\u{9b}2J"] {
        send(&head(&format!("x-request-id: {id}\r\n"), body.len()), &body);
    }
}

fn logged_request(server: &Server) -> String {
    wait_for("the line of a request", || {
        server.stderr().lines().find(|line| line.contains("order-66")).map(str::to_owned)
    })
}

fn assert_discreet(log: &str) {
    for secret in [PROMPT, KEY, "all is lost"] {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{log:?}");
}

#[test]
fn a_line_of_text_is_one_line_without_secrets() {
    let server = Server::start(TINY.iter().copied().chain(["--api-key", KEY]));
    ask_with_traps(&server);
    let line = logged_request(&server);
    for field in ["endpoint=\"/v1/completions\"", "outcome=\"finished\"", "finish=\"length\""] {
        assert!(line.contains(field), "no {field} in {line}");
    }
    let log = server.stderr();
    assert_discreet(&log);
    for line in log.lines() {
        assert!(line.starts_with("20") && line.contains('Z'), "{line}");
    }
}

#[test]
fn a_line_of_json_is_an_object_with_all_there_is_to_say() {
    let options = ["--api-key", KEY, "--log-format", "json"];
    let server = Server::start(TINY.iter().copied().chain(options));
    ask_with_traps(&server);
    let line: Value = serde_json::from_str(&logged_request(&server)).expect("an object");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], "request");
    assert_eq!(line["endpoint"], COMPLETIONS);
    assert_eq!(line["finish"], "length");
    assert_eq!(line["completion_tokens"], 3);
    for field in ["id", "request_id", "outcome"] {
        assert!(line[field].is_string(), "no {field} in {line}");
    }
    for field in ["prompt_tokens", "queue_ms", "prefill_ms", "decode_ms"] {
        assert!(line[field].is_number(), "no {field} in {line}");
    }
    let log = server.stderr();
    assert_discreet(&log);
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
}

fn assert_serves(server: &Server) {
    let body = json!({"prompt": "a", "max_tokens": 2, "temperature": 0});
    assert_eq!(server.post(COMPLETIONS, &body).status, 200);
}

#[test]
fn a_disk_that_is_full_costs_lines_that_are_counted() {
    let full = File::options().write(true).open("/dev/full").expect("this is Linux");
    let server = Server::start_logging_to(full, TINY.iter().copied());
    assert_serves(&server);
    wait_for("lost lines", || (0.0 < server.metric("millrace:log_dropped_total")).then_some(()));
}

#[test]
fn a_pipe_that_nobody_reads_costs_lines_that_are_counted() {
    let (_reader, writer) = std::io::pipe().expect("descriptors are left");
    let mut filler = writer.try_clone().expect("descriptors are left");
    // It writes until nothing fits any more, and then for ever.
    thread::spawn(move || while filler.write_all(&[b'x'; 4096]).is_ok() {});
    let options = TINY.iter().copied().chain(["--log-level", "debug"]);
    let server = Server::start_logging_to(File::from(std::os::fd::OwnedFd::from(writer)), options);
    assert_serves(&server);
    // Each is a line: the queue is full at last, and the server goes on.
    wait_for("lost lines", || {
        for _ in 0..500 {
            let mut connection = TcpStream::connect(server.address).expect("the server listens");
            connection.write_all(b"?\r\n\r\n").expect("it reads");
            let _ = connection.read_to_end(&mut Vec::new());
        }
        (0.0 < server.metric("millrace:log_dropped_total")).then_some(())
    });
    assert_serves(&server);
    server.terminate();
    assert_eq!(server.end().code(), Some(0), "it ends though nobody takes its last words");
}
