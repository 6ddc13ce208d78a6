//! Many clients at once: more than there are places for, more than are heard of, and some that are
//! stuck.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use server::Ending;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::advance;

use crate::client::{request, send};
use crate::harness::{Server, Setup};
use crate::silence::stop_the_clock;

const COMPLETIONS: &str = "/v1/completions";

#[tokio::test]
async fn of_a_burst_exactly_those_beyond_the_places_are_refused_and_all_get_an_answer() {
    let mut setup = Setup::new();
    setup.engine.max_num_seqs = 66;
    setup.engine.max_num_queued_reqs = 100;
    let (server, gate) = setup.start_gated().await;
    let (sender, mut replies) = tokio::sync::mpsc::unbounded_channel();
    for client in 0..300 {
        let (address, sender) = (server.address, sender.clone());
        let stream = client % 2 == 0;
        let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 3, "stream": stream});
        tokio::spawn(async move {
            let request = request(Method::POST, COMPLETIONS, &body.to_string());
            let reply = send(address, request).await.unwrap().reply().await;
            sender.send(reply.status.as_u16()).unwrap();
        });
    }
    let mut statuses = BTreeMap::new();
    for _ in 0..134 {
        *statuses.entry(replies.recv().await.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(429, 134)]));
    drop(gate);
    for _ in 134..300 {
        *statuses.entry(replies.recv().await.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(200, 166), (429, 134)]));
    let metrics = server.idle().await;
    assert_eq!(metrics.value("millrace:requests_accepted_total", ""), 166.0);
}

/// The text of a stream that must be whole.
async fn text(server: &Server, body: &Value) -> String {
    let mut events = server.stream(COMPLETIONS, body).await.events().await;
    assert_eq!(events.pop().expect("an end").data, "[DONE]");
    let text = |event: &crate::client::SseEvent| {
        event.json()["choices"][0]["text"].as_str().expect("a text").to_owned()
    };
    // On a busy machine it may be silent for so long that a comment says that it is alive.
    events.iter().filter(|event| event.comment.is_none()).map(text).collect()
}

/// The short form of `.ci/soak`, with which ten thousand connect.
#[tokio::test]
async fn idle_connections_and_many_streams_do_not_disturb_each_other() {
    let mut setup = Setup::new();
    setup.engine.max_num_queued_reqs = 100;
    let server = setup.start().await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    let bodies: Vec<Value> = (0..64)
        .map(|client| json!({"prompt": format!("<{client}>"), "temperature": 0, "max_tokens": 100}))
        .collect();
    let texts = futures(bodies.iter().map(|body| text(&server, body))).await;
    for (client, text) in texts.iter().enumerate() {
        // Every token in its place: the prompt over and over.
        assert_eq!(*text, format!("<{client}>").repeat(100)[..100]);
    }
    assert_eq!(server.get("/health").await.status, 200);
    drop(idle);
    server.idle().await;
}

/// Waits for all of them, together.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (future, value) in all.iter_mut().filter(|(_, value)| value.is_none()) {
            if let std::task::Poll::Ready(ready) = future.as_mut().poll(context) {
                *value = Some(ready);
            }
        }
        match all.iter().all(|(_, value)| value.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    all.into_iter().map(|(_, value)| value.expect("all are ready")).collect()
}

/// Clients that never read.
const STUCK: usize = 100;

#[tokio::test]
async fn clients_that_never_read_are_cancelled_and_one_that_reads_is_not_disturbed() {
    let mut setup = Setup::new();
    setup.engine.max_model_len = 400_000;
    setup.engine.block_count = 400_000;
    setup.engine.max_num_seqs = STUCK as u32 + 1;
    let server = setup.start().await;
    let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 399_000, "stream": true});
    let body = body.to_string();
    let bytes = format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(server.address).await.unwrap();
        stream.writable().await.unwrap();
        assert_eq!(stream.try_write(bytes.as_bytes()).unwrap(), bytes.len());
        stuck.push(stream);
    }
    let beside = json!({"prompt": "xyz", "temperature": 0, "max_tokens": 900});
    assert_eq!(text(&server, &beside).await, "xyz".repeat(300));
    let metrics = server.metrics_until(|metrics| metrics.ended("abort") == STUCK as f64).await;
    assert!(metrics.value("vllm:generation_tokens_total", "") < STUCK as f64 * 399_000.0);
    server.idle().await;
    drop(stuck);
}

#[tokio::test]
async fn a_step_that_never_ends_ends_the_server_and_every_request_hears_of_it() {
    let mut setup = Setup::new();
    setup.server.iteration_timeout = Duration::from_secs(300);
    let (server, _gate) = setup.start_gated().await;
    let _clock = stop_the_clock();
    let ask = |stream: bool| {
        let body = json!({"prompt": "ab", "temperature": 0, "stream": stream}).to_string();
        tokio::spawn(send(server.address, request(Method::POST, COMPLETIONS, &body)))
    };
    let (stream, whole) = (ask(true), ask(false));
    server.metrics_until(|m| m.value("millrace:requests_accepted_total", "") == 2.0).await;
    // In steps, with a round through the server after each: the stream may begin to wait after it was
    // accepted.
    for _ in 0..29 {
        advance(Duration::from_secs(10)).await;
        server.get("/live").await;
    }
    let mut stream = stream.await.unwrap().unwrap();
    assert_eq!(stream.event().await.unwrap().comment.as_deref(), Some("keep-alive"));
    assert!(!server.task.is_finished());
    // The engine's last sign may have come after the clock was moved first.
    let mut events = std::pin::pin!(stream.events());
    let events = loop {
        tokio::select! {
            events = &mut events => break events,
            () = advance(Duration::from_secs(1)) => {}
        }
    };
    let last = events.last().expect("an end");
    assert_eq!(last.name.as_deref(), Some("error"), "{events:?}");
    assert!(last.data.contains("the engine has stopped"), "{last:?}");
    assert_eq!(whole.await.unwrap().unwrap().reply().await.status, 503);
    // Connections that stay open are given a second, from when the server comes to it.
    while !server.task.is_finished() {
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(server.task.await.unwrap(), Ending::Hung);
}
