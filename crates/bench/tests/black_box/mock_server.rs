//! An OpenAI-compatible server of known behaviour, over real TCP and without a model.
//!
//! A token is a word. The prompt has one token more than words, as with a beginning token.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// When the server closes a connection of its own accord.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Close {
    /// Never.
    Never,
    /// After each answer, which says so.
    Announced,
    /// After each answer, without a word.
    Silent,
}

/// How the answer to a completion goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It is refused with 429.
    Refused,
    /// The connection breaks after two tokens.
    BrokenOff,
    /// The stream tells of an error after one token.
    ErrorInStream,
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Completions that run at once; the others queue in the order of their arrival.
    pub places: usize,
    /// Time for each token.
    pub pace: Duration,
    /// Tokens it gives, whatever it is asked for.
    pub tokens: Option<u32>,
    /// Whether there is `/tokenize`.
    pub tokenize: bool,
    /// Whether there is `/metrics`.
    pub metrics: bool,
    /// Whether there is `/server_info`.
    pub info: bool,
    /// Whether answers carry timings.
    pub timings: bool,
    /// Whether answers carry usage.
    pub usage: bool,
    /// Line end of the event stream.
    pub line_end: &'static str,
    /// Whether a chunk with a role and an empty one come before the first token.
    pub role_first: bool,
    /// Bytes written at a time; the stream is cut without regard to events.
    pub piece: usize,
    /// When connections are closed.
    pub close: Close,
    /// Whether it answers chats and nothing else, as some proxies do.
    pub chats_alone: bool,
    /// Key that requests must carry.
    pub api_key: Option<&'static str>,
    /// What goes wrong with the completion of this number, counted from 0, the warm-up.
    pub fault: fn(usize) -> Option<Fault>,
}

impl Default for Behaviour {
    /// A fast server that has and does everything right.
    fn default() -> Behaviour {
        Behaviour {
            places: 1000,
            pace: Duration::ZERO,
            tokens: None,
            tokenize: true,
            metrics: true,
            info: true,
            timings: true,
            usage: true,
            line_end: "\n",
            role_first: false,
            piece: usize::MAX,
            close: Close::Never,
            chats_alone: false,
            api_key: None,
            fault: |_| None,
        }
    }
}

/// A running server; it stops with the runtime it was started in.
#[derive(Clone)]
pub struct MockServer {
    state: Arc<State>,
    address: SocketAddr,
    is_secure: bool,
}

/// What a connection is read from and written to: TCP, or TLS on it.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

struct State {
    behaviour: Behaviour,
    places: Semaphore,
    running: AtomicUsize,
    waiting: AtomicUsize,
    completions: Mutex<Vec<Value>>,
}

impl MockServer {
    /// Starts it on a free port.
    pub async fn start(behaviour: Behaviour) -> MockServer {
        MockServer::start_with(behaviour, None).await
    }

    /// The same, behind TLS.
    pub async fn start_secure(behaviour: Behaviour, tls: TlsAcceptor) -> MockServer {
        MockServer::start_with(behaviour, Some(tls)).await
    }

    async fn start_with(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> MockServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            places: Semaphore::new(behaviour.places),
            behaviour,
            running: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            completions: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&state);
        let is_secure = tls.is_some();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a TCP stream");
                let (state, tls) = (Arc::clone(&accepting), tls.clone());
                // A client that leaves is an error of its connection only.
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => serve(&state, &mut tls.accept(stream).await?).await,
                        None => serve(&state, &mut stream).await,
                    }
                });
            }
        });
        MockServer { state, address, is_secure }
    }

    pub fn url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The bodies of all completions asked for so far, the warm-up first.
    pub fn completions(&self) -> Vec<Value> {
        self.state.completions.lock().expect("no test panics with it").clone()
    }

    /// Returns when so many completions have been asked for, the warm-up included.
    pub async fn has_seen(&self, completions: usize) {
        while self.completions().len() < completions {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

struct Request {
    line: String,
    head: String,
    body: Value,
}

async fn serve(state: &State, stream: &mut dyn Wire) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(stream, &mut buffer).await? {
        let key = state.behaviour.api_key.map(|key| format!("authorization: bearer {key}\r\n"));
        if key.is_some_and(|key| !request.head.to_ascii_lowercase().contains(&key)) {
            reply(state, stream, 401, "{\"error\":{\"message\":\"no key\"}}").await?;
        } else if request.line.starts_with("POST /v1/chat/completions ")
            || request.line.starts_with("POST /v1/completions ") && !state.behaviour.chats_alone
        {
            complete(state, stream, &request.body).await?;
        } else {
            let (status, body) = answer(state, &request);
            reply(state, stream, status, &body).await?;
        }
        if state.behaviour.close != Close::Never {
            break;
        }
    }
    Ok(())
}

async fn read_request(stream: &mut dyn Wire, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end + 2]).into_owned();
            let lower = head.to_ascii_lowercase();
            let length = lower.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
            let total = end + 4 + length.unwrap_or(0);
            if total <= buffer.len() {
                let body = serde_json::from_slice(&buffer[end + 4..total]).unwrap_or(Value::Null);
                buffer.drain(..total);
                let line = head.lines().next().unwrap_or_default().to_owned();
                return Ok(Some(Request { line, head, body }));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn answer(state: &State, request: &Request) -> (u16, String) {
    let behaviour = &state.behaviour;
    let path = request.line.split(' ').nth(1).unwrap_or_default();
    match path {
        "/v1/models" if !behaviour.chats_alone => {
            (200, json!({"data": [{"id": "mock", "owned_by": "mock"}]}).to_string())
        }
        "/tokenize" if behaviour.tokenize => match request.body["prompt"].as_str() {
            Some(prompt) => (200, json!({"count": tokens_of(prompt)}).to_string()),
            None => (400, "{}".to_owned()),
        },
        "/server_info" if behaviour.info => {
            let info = json!({"device": "Mock, 2 cores", "memory_utilization": 0.5,
                "max_num_seqs": behaviour.places, "concurrency_line": "Maximum concurrency: 3x"});
            (200, info.to_string())
        }
        "/metrics" if behaviour.metrics => (200, metrics(state)),
        _ => (404, "{\"detail\":\"Not Found\"}".to_owned()),
    }
}

fn tokens_of(prompt: &str) -> usize {
    prompt.split(' ').count() + 1
}

fn metrics(state: &State) -> String {
    format!(
        "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{{m=\"mock\"}} {}\n\
         vllm:num_requests_waiting{{m=\"mock\"}} {}\nvllm:kv_cache_usage_perc{{m=\"mock\"}} 0.1\n\
         vllm:num_preemptions_total{{m=\"mock\"}} 0\n",
        state.running.load(SeqCst),
        state.waiting.load(SeqCst)
    )
}

/// The line that announces the end of the connection, if it is announced.
fn closing(state: &State) -> &'static str {
    if state.behaviour.close == Close::Announced { "Connection: close\r\n" } else { "" }
}

async fn reply(state: &State, stream: &mut dyn Wire, status: u16, body: &str) -> io::Result<()> {
    let (length, closing) = (body.len(), closing(state));
    let head = format!("HTTP/1.1 {status} Mock\r\n{closing}Content-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await
}

/// Counts one more while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn one(counter: &'a AtomicUsize) -> Counted<'a> {
        counter.fetch_add(1, SeqCst);
        Counted(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

async fn complete(state: &State, stream: &mut dyn Wire, body: &Value) -> io::Result<()> {
    let behaviour = &state.behaviour;
    let number = {
        let mut completions = state.completions.lock().expect("no test panics with it");
        completions.push(body.clone());
        completions.len() - 1
    };
    let fault = (behaviour.fault)(number);
    if fault == Some(Fault::Refused) {
        return reply(state, stream, 429, "{\"error\":{\"message\":\"queue full\"}}").await;
    }
    let arrived = Instant::now();
    let waiting = Counted::one(&state.waiting);
    let place = state.places.acquire().await.expect("it is never closed");
    drop(waiting);
    let running = Counted::one(&state.running);
    let queue_ms = arrived.elapsed().as_secs_f64() * 1e3;
    let closing = closing(state);
    let head = format!(
        "HTTP/1.1 200 OK\r\n{closing}Content-Type: text/event-stream\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if behaviour.role_first {
        event(behaviour, stream, &json!({"choices": [{"delta": {"role": "assistant"}}]})).await?;
        event(behaviour, stream, &json!({"choices": [{"text": ""}]})).await?;
    }
    let asked = body["max_tokens"].as_u64().expect("every request has it") as u32;
    let tokens = behaviour.tokens.unwrap_or(asked);
    for token in 0..tokens {
        if !behaviour.pace.is_zero() {
            tokio::time::sleep(behaviour.pace).await;
        }
        match fault {
            Some(Fault::BrokenOff) if token == 2 => return stream.shutdown().await,
            Some(Fault::ErrorInStream) if token == 1 => {
                event(behaviour, stream, &json!({"error": {"message": "bad luck"}})).await?;
            }
            _ => {}
        }
        let finish = (token + 1 == tokens).then_some("length");
        let choice = json!({"index": 0, "text": " word", "finish_reason": finish});
        event(behaviour, stream, &json!({"choices": [choice], "usage": null})).await?;
    }
    drop((running, place));
    last_event(behaviour, stream, body, tokens, queue_ms).await?;
    write(behaviour, stream, format!("data: [DONE]{0}{0}", behaviour.line_end).as_bytes()).await?;
    stream.write_all(b"0\r\n\r\n").await
}

async fn last_event(
    behaviour: &Behaviour,
    stream: &mut dyn Wire,
    body: &Value,
    tokens: u32,
    queue_ms: f64,
) -> io::Result<()> {
    let mut last = json!({"choices": []});
    if behaviour.usage {
        let prompt = body["prompt"].as_str().or(body["messages"][0]["content"].as_str());
        let prompt_tokens = tokens_of(prompt.expect("every request has one"));
        last["usage"] = json!({"prompt_tokens": prompt_tokens, "completion_tokens": tokens});
    }
    if behaviour.timings {
        last["timings"] = json!({"queue_ms": queue_ms, "prefill_ms": 0.0, "decode_ms": 0.0,
            "cached_prompt_tokens": 0});
    }
    event(behaviour, stream, &last).await
}

async fn event(behaviour: &Behaviour, stream: &mut dyn Wire, data: &Value) -> io::Result<()> {
    let end = behaviour.line_end;
    write(behaviour, stream, format!(": mock{end}data: {data}{end}{end}").as_bytes()).await
}

/// Writes `bytes` as HTTP chunks of at most [`Behaviour::piece`] bytes.
async fn write(behaviour: &Behaviour, stream: &mut dyn Wire, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(behaviour.piece) {
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        stream.write_all(&chunk).await?;
    }
    Ok(())
}
