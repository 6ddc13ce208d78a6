//! Connections: how many, how long, and how they end.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service;

use crate::limits::{
    CONNECTION_BUFFER_BYTES, HEAD_BYTES, HEAD_READ_TIMEOUT, PEER_PROBE, WRITE_TIMEOUT,
};
use crate::shutdown::Shutdown;
use crate::timer::PatientTimer;
use crate::tls::Tls;

/// Pause after a failed accept, when file descriptors may have run out: no spinning until some
/// connection closes.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Counts connections that have had a request. One that never sent a whole head does not count,
/// so it cannot hold up the end.
#[derive(Debug, Clone)]
pub struct Served(watch::Sender<usize>);

impl Served {
    /// None yet.
    pub fn new() -> Self {
        Served(watch::channel(0).0)
    }

    /// Waits until none is left. In a drain each closes when its reply is written.
    pub async fn none_left(&self) {
        let mut count = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    fn count(&self) -> ServedGuard {
        self.0.send_modify(|count| *count += 1);
        ServedGuard(self.clone())
    }
}

/// One connection in the count.
struct ServedGuard(Served);

impl Drop for ServedGuard {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// Accepts connections for ever, at most `connections_max` at once, and shakes hands on them if there is
/// `tls`. Dropping the future closes all of them.
pub async fn accept(
    listener: TcpListener,
    router: Router,
    (connections_max, tls): (usize, Option<Tls>),
    served: Served,
    shutdown: Shutdown,
) {
    assert!(0 < connections_max, "a server without connections serves nobody");
    let places = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = Connection {
                    tls: tls.clone(),
                    router: router.clone(),
                    served: served.clone(),
                    shutdown: shutdown.clone(),
                    _place: place,
                };
                connections.spawn(connection.serve(stream));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

struct Connection {
    tls: Option<Tls>,
    router: Router,
    served: Served,
    shutdown: Shutdown,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        if let Err(error) = set_options(&stream) {
            tracing::debug!(%error, "cannot set the options of a connection");
        }
        match &self.tls {
            Some(tls) => {
                if let Some(stream) = tls.accept(stream).await {
                    self.speak(stream).await;
                }
            }
            None => self.speak(stream).await,
        }
    }

    /// Answers requests until either side has had enough.
    async fn speak(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mark = Arc::new(Mark { guard: OnceLock::new(), requested: Notify::new() });
        let service = {
            let (router, served, mark) = (self.router, self.served, Arc::clone(&mark));
            service_fn(move |request| {
                mark.request(&served);
                answer(router.clone(), request)
            })
        };
        let connection = http1::Builder::new()
            .timer(PatientTimer)
            .header_read_timeout(HEAD_READ_TIMEOUT)
            .max_header_size(HEAD_BYTES)
            .max_buf_size(CONNECTION_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // A connection that was not used yet may still ask once in a drain, to hear "503".
        let close = async {
            self.shutdown.draining().await;
            mark.requested.notified().await;
        };
        tokio::select! {
            result = connection.as_mut() => return log(result),
            () = close => connection.as_mut().graceful_shutdown(),
        }
        log(connection.await);
    }
}

/// What the kernel is to do for us: send small chunks at once, and break off if the client takes
/// nothing, or if its machine is gone without a word while nothing is sent to it.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(WRITE_TIMEOUT))?;
    let keepalive = TcpKeepalive::new().with_time(PEER_PROBE).with_interval(PEER_PROBE);
    socket.set_tcp_keepalive(&keepalive)
}

fn log(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// What a connection has seen.
struct Mark {
    guard: OnceLock<ServedGuard>,
    requested: Notify,
}

impl Mark {
    fn request(&self, served: &Served) {
        self.guard.get_or_init(|| served.count());
        self.requested.notify_one();
    }
}

async fn answer(
    mut router: Router,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    router.call(request).await
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;
    use tokio::task::yield_now;
    use tokio::time::Instant;

    use super::*;

    /// A socket of whose bytes the runtime hears only the second time that it is asked after `deadline`.
    struct HeardLate<'a> {
        deadline: Instant,
        was_asked: bool,
        bytes: &'static [u8],
        reply: &'a mut Vec<u8>,
    }

    impl AsyncRead for HeardLate<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if Instant::now() < self.deadline || self.bytes.is_empty() {
                return Poll::Pending;
            }
            if !std::mem::replace(&mut self.was_asked, true) {
                let waker = context.waker().clone();
                tokio::spawn(async move {
                    yield_now().await;
                    waker.wake();
                });
                return Poll::Pending;
            }
            into.put_slice(std::mem::take(&mut self.bytes));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for HeardLate<'_> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.reply.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What comes back if a request is heard of at the first moment after its time is over.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_came_in_time_is_answered_although_it_is_heard_of_late() {
        let (_trigger, shutdown) = crate::shutdown::channel();
        let places = Arc::new(Semaphore::new(1));
        let connection = Connection {
            tls: None,
            router: Router::new(),
            served: Served::new(),
            shutdown,
            _place: places.acquire_owned().await.expect("never closed"),
        };
        let mut reply = Vec::new();
        let socket = HeardLate {
            deadline: Instant::now() + HEAD_READ_TIMEOUT,
            was_asked: false,
            bytes: b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            reply: &mut reply,
        };
        connection.speak(socket).await;
        assert!(reply.starts_with(b"HTTP/1.1 404 "), "{:?}", String::from_utf8_lossy(&reply));
    }

    #[tokio::test]
    async fn a_machine_that_is_gone_without_a_word_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.expect("a connection");
        set_options(&stream).expect("Linux has them");
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), PEER_PROBE);
        assert_eq!(socket.tcp_keepalive_interval().expect("an option"), PEER_PROBE);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(WRITE_TIMEOUT));
        drop(client);
    }
}
