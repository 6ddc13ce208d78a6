//! Faults of the machine: a server that is killed, and one without file descriptors.

use std::net::TcpStream;
use std::time::Instant;

use serde_json::json;

use crate::http;
use crate::process::{Server, TINY, wait_for};

#[test]
fn a_server_that_was_killed_is_followed_by_one_on_the_same_port() {
    let server = Server::start(TINY.iter().copied());
    let body = json!({"prompt": "Once", "max_tokens": 400, "ignore_eos": true, "stream": true});
    let mut running = server.open("/v1/completions", &body);
    assert!(running.event().is_some(), "it has begun");
    let port = server.address.port().to_string();
    server.kill();
    let server = Server::start_on(&port, TINY.iter().copied());
    assert_eq!(server.address.port().to_string(), port);
    let body = json!({"prompt": "Once", "max_tokens": 4, "ignore_eos": true});
    assert_eq!(server.post("/v1/completions", &body).status, 200);
}

#[test]
fn a_server_without_descriptors_goes_on_when_some_are_free_again() {
    let server = Server::start_with_descriptors(64, TINY.iter().copied());
    // The kernel accepts them for the server, which cannot take them all.
    let connect = |_| TcpStream::connect(server.address).expect("there is room in the backlog");
    let silent: Vec<TcpStream> = (0..100).map(connect).collect();
    wait_for("the warning", || server.stderr().contains("cannot accept").then_some(()));
    let (start, before) = (Instant::now(), server.processor_ticks());
    wait_for("two seconds", || (2 <= start.elapsed().as_secs()).then_some(()));
    let ticks = server.processor_ticks() - before;
    assert!(ticks < 20, "it took {ticks} hundredths of a second of the processor while it waited");
    drop(silent);
    assert_eq!(http::get(server.address, "/health").status, 200);
    let body = json!({"prompt": "Once", "max_tokens": 4, "ignore_eos": true});
    assert_eq!(server.post("/v1/completions", &body).status, 200);
}
