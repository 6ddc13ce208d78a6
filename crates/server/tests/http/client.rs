//! A small HTTP client: one connection per request, streams read event by event.

use std::net::SocketAddr;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A reply that was read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.body))
    }

    /// `error.FIELD`.
    pub fn error(&self, field: &str) -> Value {
        self.json()["error"][field].clone()
    }
}

/// A reply whose head has come. Dropping it closes the connection.
pub struct Open {
    pub response: Response<Incoming>,
    text: String,
    /// What was read of a character that is not whole yet.
    begun: Vec<u8>,
    connection: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event:` field.
    pub name: Option<String>,
    /// The `data:` field.
    pub data: String,
    /// A comment.
    pub comment: Option<String>,
}

impl SseEvent {
    /// The data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e} in {:?}", self.data))
    }
}

impl Open {
    /// Reads one more frame; false at the end.
    async fn read(&mut self) -> bool {
        match self.response.body_mut().frame().await {
            Some(Ok(frame)) => {
                let data = frame.into_data().expect("no trailers");
                // The network may divide it anywhere, also within a character.
                self.begun.extend_from_slice(&data);
                let whole =
                    std::str::from_utf8(&self.begun).map_or_else(|e| e.valid_up_to(), str::len);
                let rest = self.begun.split_off(whole);
                let whole = std::mem::replace(&mut self.begun, rest);
                self.text.push_str(&String::from_utf8(whole).expect("it was looked at"));
                true
            }
            Some(Err(error)) => panic!("the body broke off: {error}"),
            None => {
                assert!(self.begun.is_empty(), "the body ends in the middle of a character");
                false
            }
        }
    }

    /// The next event; none at the end of the stream.
    pub async fn event(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event = self.text[..end].to_owned();
                self.text.drain(..end + 2);
                let mut parsed = SseEvent { name: None, data: String::new(), comment: None };
                for line in event.lines() {
                    match line.split_once(": ").expect("a field and a value") {
                        ("event", name) => parsed.name = Some(name.to_owned()),
                        ("data", data) => parsed.data = data.to_owned(),
                        ("", comment) => parsed.comment = Some(comment.to_owned()),
                        (field, _) => panic!("unknown field {field}"),
                    }
                }
                return Some(parsed);
            }
            if !self.read().await {
                assert_eq!(self.text, "", "the stream ends in the middle of an event");
                return None;
            }
        }
    }

    /// All events to the end of the stream.
    pub async fn events(&mut self) -> Vec<SseEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            events.push(event);
        }
        events
    }

    /// The whole reply.
    pub async fn reply(mut self) -> Reply {
        while self.read().await {}
        let (status, headers) = (self.response.status(), self.response.headers().clone());
        Reply { status, headers, body: std::mem::take(&mut self.text) }
    }
}

/// A request to `path`, not sent yet.
pub fn request(method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(&method).uri(path).header("host", "test");
    if method == Method::POST {
        builder = builder.header("content-type", "application/json");
    }
    builder.body(Full::new(Bytes::from(body.to_owned()))).expect("a valid request")
}

/// The same, with further headers.
pub fn request_with(
    (method, path, body): (Method, &str, &str),
    headers: &[(&str, &str)],
) -> Request<Full<Bytes>> {
    let mut request = request(method, path, body);
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().expect("a name");
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    request
}

/// Sends `request` over a new connection and waits for the head of its reply.
pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> hyper::Result<Open> {
    send_on(TcpStream::connect(address).await.expect("the server listens"), request).await
}

/// The same over a connection that is open.
pub async fn send_on(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Open> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(async move {
        // The server may close the connection at any time.
        let _ = connection.await;
    });
    let response = sender.send_request(request).await?;
    Ok(Open { response, text: String::new(), begun: Vec::new(), connection })
}
