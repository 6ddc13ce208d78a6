//! A server whose timing is known: it sends each token when it is due, and tells when it did.
//!
//! It answers every completion with its first token a fixed time after the request was read, and
//! the others at a fixed distance. The `timings` of the answer are what really happened here:
//! `prefill_ms` from the return of the read to just before the write of the first token,
//! `decode_ms` from there to just before the write of the last.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bench::arrival;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::timeout;

/// When tokens are due.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// From the request to its first token.
    pub first: Duration,
    /// From one token to the next.
    pub gap: Duration,
}

/// The runtime's timers are a millisecond coarse: the last of the wait is spun through.
const SPIN: Duration = Duration::from_millis(2);

/// Serves until the process ends; the address goes to stdout.
pub fn serve(beat: Beat) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let due = Due::default();
        spawn_local(keep_time(due.clone(), beat.gap));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            arrival::note_arrivals(&stream);
            spawn_local(answer_all(stream, due.clone(), beat.first));
        }
    })
}

/// The answers on their way, the one whose next token is due first on top.
#[derive(Clone, Default)]
struct Due {
    answers: Rc<RefCell<BinaryHeap<Reverse<Answer>>>>,
    added: Rc<Notify>,
}

struct Answer {
    due: Instant,
    /// Tokens that are still to be sent.
    left: u32,
    tokens: u32,
    received: Instant,
    first: Option<Instant>,
    stream: Rc<TcpStream>,
    finished: Rc<Notify>,
}

impl PartialEq for Answer {
    fn eq(&self, other: &Answer) -> bool {
        self.due == other.due
    }
}

impl Eq for Answer {}

impl PartialOrd for Answer {
    fn partial_cmp(&self, other: &Answer) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Answer {
    fn cmp(&self, other: &Answer) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

/// Sends every token when it is due.
async fn keep_time(due: Due, gap: Duration) {
    loop {
        let next = due.answers.borrow().peek().map(|Reverse(answer)| answer.due);
        let Some(next) = next else {
            due.added.notified().await;
            continue;
        };
        let wait = next.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            let Reverse(answer) = due.answers.borrow_mut().pop().expect("it was just seen");
            if let Some(later) = beat(answer, gap) {
                due.answers.borrow_mut().push(Reverse(later));
            }
        } else if SPIN < wait {
            // An answer that is added meanwhile may be due earlier.
            drop(timeout(wait - SPIN, due.added.notified()).await);
        } else {
            yield_now().await;
        }
    }
}

/// Sends the next token of `answer`; gives it back if there are more.
fn beat(mut answer: Answer, gap: Duration) -> Option<Answer> {
    let now = Instant::now();
    let first = *answer.first.get_or_insert(now);
    let head = if answer.left == answer.tokens { HEAD } else { "" };
    answer.left -= 1;
    let token = r#"{"choices":[{"index":0,"text":" word","finish_reason":null}]}"#;
    let mut text = head.to_owned() + &chunk(&format!("data: {token}\n\n"));
    if answer.left == 0 {
        let milliseconds = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1000.0;
        let end = format!(
            "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":{}}},\
             \"timings\":{{\"queue_ms\":0,\"prefill_ms\":{},\"decode_ms\":{}}}}}\n\ndata: [DONE]\n\n",
            answer.tokens,
            milliseconds(answer.received, first),
            milliseconds(first, now),
        );
        text += &(chunk(&end) + "0\r\n\r\n");
    }
    match answer.stream.try_write(text.as_bytes()) {
        Ok(written) if written == text.len() => {}
        // A client that does not read 64 KiB in time, or is gone, is not worth measuring.
        outcome => {
            eprintln!("metronome: a client does not keep up: {outcome:?}");
            return None;
        }
    }
    answer.due += gap;
    if answer.left == 0 {
        answer.finished.notify_one();
        return None;
    }
    Some(answer)
}

const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Answers the requests of one connection, one after another.
async fn answer_all(stream: TcpStream, due: Due, first: Duration) -> Option<()> {
    let stream = Rc::new(stream);
    let mut buffer = Vec::new();
    loop {
        let (path, body, received) = request(&stream, &mut buffer).await?;
        if path != "/v1/completions" {
            let body = if path == "/v1/models" { MODELS } else { "{}" };
            let status = if path == "/v1/models" { "200 OK" } else { "404 Not Found" };
            let length = body.len();
            let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.try_write(text.as_bytes()).ok()?;
            continue;
        }
        let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let tokens = u32::try_from(body["max_tokens"].as_u64()?).ok().filter(|n| 0 < *n)?;
        let finished = Rc::new(Notify::new());
        due.answers.borrow_mut().push(Reverse(Answer {
            due: received + first,
            left: tokens,
            tokens,
            received,
            first: None,
            stream: Rc::clone(&stream),
            finished: Rc::clone(&finished),
        }));
        due.added.notify_one();
        finished.notified().await;
    }
}

const MODELS: &str = r#"{"data":[{"id":"metronome","owned_by":"metronome"}]}"#;

/// The next request: its path, its body, and when the last of it arrived.
async fn request(
    stream: &Rc<TcpStream>,
    buffer: &mut Vec<u8>,
) -> Option<(String, Vec<u8>, Instant)> {
    let mut arrived = Instant::now();
    loop {
        if let Some((path, start, end)) = complete(buffer) {
            let body = buffer[start..end].to_vec();
            buffer.drain(..end);
            return Some((path, body, arrived));
        }
        stream.readable().await.ok()?;
        let mut piece = [0; 16 << 10];
        match stream.try_io(Interest::READABLE, || arrival::read(stream, &mut piece)) {
            Ok(arrival) if arrival.bytes == 0 => return None,
            Ok(arrival) => {
                arrived = Instant::now() - arrival.delay.unwrap_or_default();
                buffer.extend_from_slice(&piece[..arrival.bytes]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

/// Path and place of the body of the request that `buffer` begins with, once it is there.
fn complete(buffer: &[u8]) -> Option<(String, usize, usize)> {
    let text = std::str::from_utf8(buffer).ok()?;
    let start = text.find("\r\n\r\n")? + 4;
    let head = text[..start].to_ascii_lowercase();
    let length = head.split("content-length:").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length: usize = length.map_or(Some(0), |length| length.trim().parse().ok())?;
    let path = text.split(' ').nth(1)?.to_owned();
    (start + length <= buffer.len()).then_some((path, start, start + length))
}
