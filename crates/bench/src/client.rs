//! One HTTP connection: writes a request, keeps what comes back with the time it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::endpoint::Endpoint;
use crate::stamped::{StampedStream, Stamps};
use crate::tls::Tls;

/// A server that does not even accept a connection in this time counts as gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that is kept: a thousand times what 1,000 tokens need.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What every connection of a run has in common.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    endpoint: Arc<Endpoint>,
    tls: Option<Tls>,
    authorization: Option<String>,
    headers: Arc<[(HeaderName, HeaderValue)]>,
    clock: Clock,
}

impl Client {
    /// A client of `endpoint`, spoken to through `tls` if there is any, that sends `api_key` and `headers`
    /// with each request.
    pub(crate) fn new(
        endpoint: Endpoint,
        tls: Option<Tls>,
        api_key: Option<&str>,
        headers: &[(HeaderName, HeaderValue)],
        clock: Clock,
    ) -> Client {
        let authorization = api_key.map(|key| format!("Bearer {key}"));
        Client { endpoint: Arc::new(endpoint), tls, authorization, headers: headers.into(), clock }
    }

    /// Where it sends to.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The clock that it stamps with.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// A `GET` of `path`.
    pub(crate) fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path, Bytes::new())
    }

    /// A `POST` of the JSON text `body` to `path`.
    pub(crate) fn post(&self, path: &str, body: Bytes) -> Call {
        self.call(Method::POST, path, body)
    }

    fn call(&self, method: Method, path: &str, body: Bytes) -> Call {
        let mut head = Request::builder()
            .method(method)
            .uri(self.endpoint.path(path))
            .header(header::HOST, &self.endpoint.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "*/*");
        if let Some(authorization) = &self.authorization {
            head = head.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in &*self.headers {
            head = head.header(name, value);
        }
        Call { head: head.body(()).map_err(|error| error.to_string()), body }
    }
}

/// A request with all its bytes, ready to be written. `Err` says why it cannot be one, such as a
/// line break in the key.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    head: Result<Request<()>, String>,
    body: Bytes,
}

impl Call {
    /// The bytes behind the head.
    #[cfg(test)]
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    fn to_request(&self) -> Result<Request<Full<Bytes>>, String> {
        let body = Full::new(self.body.clone());
        self.head.clone().map(|head| head.map(|()| body))
    }
}

/// What came back for one request, unread.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawAnswer {
    /// When the first byte of the request was written.
    pub(crate) sent_ns: u64,
    /// HTTP status, if the answer began.
    pub(crate) status: Option<u16>,
    /// The body so far.
    pub(crate) bytes: Vec<u8>,
    /// When how much of the body had come: the time of its arrival and where its bytes end.
    pub(crate) reads: Vec<(u64, usize)>,
    /// The longest time that bytes lay in this machine before they were read.
    pub(crate) delay_ns: u64,
    /// When it was over.
    pub(crate) done_ns: u64,
    /// Why it did not come to its end.
    pub(crate) broken: Option<String>,
}

impl RawAnswer {
    fn push(&mut self, at_ns: u64, data: &[u8]) -> Result<(), String> {
        if ANSWER_BYTES_MAX < self.bytes.len() + data.len() {
            return Err(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"));
        }
        self.bytes.extend_from_slice(data);
        self.reads.push((at_ns, self.bytes.len()));
        Ok(())
    }
}

/// One connection, opened again if the server closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Client,
    link: Option<Link>,
    /// Counts the pieces of bodies that came, for the progress display.
    pieces: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Link {
    sender: SendRequest<Full<Bytes>>,
    stamps: Arc<Stamps>,
}

impl Connection {
    /// A connection that is opened by [`Connection::open`] or by the first request. Each piece of
    /// a body that comes adds one to `pieces`.
    pub(crate) fn new(client: Client, pieces: Arc<AtomicU64>) -> Connection {
        Connection { client, link: None, pieces }
    }

    /// Opens it now, so that no request has to wait for it. A failure is told by the next request.
    pub(crate) async fn open(&mut self) {
        self.link = open(&self.client).await.ok();
    }

    /// Sends `call` and keeps what comes back in `answer`, which is filled as it comes, so that a
    /// caller who stops waiting still has what came. A failure is in the answer too.
    pub(crate) async fn exchange(&mut self, call: &Call, answer: &mut RawAnswer) {
        answer.sent_ns = self.client.clock.now_ns();
        answer.broken = self.try_exchange(call, answer).await.err();
        if answer.broken.is_some() {
            self.link = None;
        }
        answer.done_ns = self.client.clock.now_ns();
    }

    /// The body of the answer to `call`, if it was a success.
    pub(crate) async fn ask(&mut self, call: &Call) -> Option<Vec<u8>> {
        let mut answer = RawAnswer::default();
        self.exchange(call, &mut answer).await;
        (answer.status == Some(200) && answer.broken.is_none()).then_some(answer.bytes)
    }

    async fn try_exchange(&mut self, call: &Call, answer: &mut RawAnswer) -> Result<(), String> {
        let response = match self.send_on_kept_link(call, answer).await? {
            Some(response) => response,
            None => {
                let link = self.link.insert(open(&self.client).await?);
                let response = send(link, self.client.clock, call, answer).await?;
                response.map_err(|error| format!("connection lost: {}", chain(&error)))?
            }
        };
        let stamps = &self.link.as_ref().expect("it was just used").stamps;
        answer.sent_ns = stamps.first_write_ns().unwrap_or(answer.sent_ns);
        answer.status = Some(response.status().as_u16());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            // The connection is not read again before this frame has been taken, so the last
            // read is the one that brought it.
            let at_ns = stamps.last_arrival_ns();
            answer.delay_ns = stamps.longest_delay_ns();
            let frame =
                frame.map_err(|error| format!("the answer broke off: {}", chain(&error)))?;
            if let Some(data) = frame.data_ref() {
                answer.push(at_ns, data)?;
                self.pieces.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }

    /// Sends `call` on the open connection. `None` if there is none, or if the server turns out to
    /// have closed it since the last answer: a new one is then needed, and nothing was answered.
    async fn send_on_kept_link(
        &mut self,
        call: &Call,
        answer: &mut RawAnswer,
    ) -> Result<Option<Response>, String> {
        let Some(link) = &mut self.link else { return Ok(None) };
        if link.sender.ready().await.is_err() {
            return Ok(None);
        }
        Ok(send(link, self.client.clock, call, answer).await?.ok())
    }
}

type Response = http::Response<hyper::body::Incoming>;

async fn open(client: &Client) -> Result<Link, String> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connect(client)).await {
        Ok(link) => link.map_err(|reason| format!("cannot connect: {reason}")),
        Err(_) => Err(format!("cannot connect within {} s", CONNECT_TIMEOUT.as_secs())),
    }
}

async fn connect(client: &Client) -> Result<Link, String> {
    let Endpoint { host, port, .. } = client.endpoint();
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| e.to_string())?;
    stream.set_nodelay(true).map_err(|error| format!("cannot set TCP_NODELAY: {error}"))?;
    let (stream, stamps) = StampedStream::new(stream, client.clock);
    let sender = match &client.tls {
        Some(tls) => speak(tls.connect(stream).await?).await?,
        None => speak(stream).await?,
    };
    Ok(Link { sender, stamps })
}

/// Makes `stream` an HTTP connection.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let handshake = Builder::new().handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| chain(&error))?;
    // It ends when the sender is dropped; how it ended reaches whoever waits for an answer.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// The outer error: the request itself is malformed. The inner one: the connection failed.
async fn send(
    link: &mut Link,
    clock: Clock,
    call: &Call,
    answer: &mut RawAnswer,
) -> Result<Result<Response, hyper::Error>, String> {
    let request = call.to_request()?;
    link.stamps.begin_request();
    answer.sent_ns = clock.now_ns();
    Ok(link.sender.send_request(request).await)
}

/// An error with its causes, which hyper keeps out of its own text.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
