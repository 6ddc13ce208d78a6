//! A panic while a request is answered: that request fails, and nothing else does.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::Request;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::metrics::Panics;
use crate::openai::error::ApiError;
use crate::request_id::RequestId;

/// Answers a request whose handler panics with 500, and breaks off a reply whose body panics, unless it is
/// a [`WatchedStream`]. Both are counted in `panics` and logged. What the handler held is dropped on the way,
/// so that its requests are cancelled.
pub async fn catch(State(panics): State<Panics>, request: Request<Body>, next: Next) -> Response {
    let request_id = request.extensions().get::<RequestId>().cloned();
    let watch = Watch { panics, request_id };
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => watch.over_body_of(response),
        Err(panic) => watch.note(&*panic).into_response(),
    }
}

/// Who is told of a panic.
pub struct Watch {
    /// Where it is counted.
    pub panics: Panics,
    /// What the log calls the request.
    pub request_id: Option<RequestId>,
}

impl Watch {
    /// Counts and logs a panic; gives what the client is told of it.
    fn note(&self, panic: &(dyn Any + Send)) -> ApiError {
        self.panics.count();
        let request_id = self.request_id.as_ref().map(RequestId::as_str);
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
        tracing::error!(request_id, panic = text, "a request's code panicked");
        ApiError::Failed {
            message: "the server has failed at this request; its log says why".into(),
        }
    }

    fn over_body_of(self, response: Response) -> Response {
        response.map(|body| Body::new(Watched { body: Some(body), watch: self }))
    }
}

/// A body whose panics are caught.
struct Watched {
    /// None after its panic.
    body: Option<Body>,
    watch: Watch,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let watched = self.get_mut();
        let Some(body) = &mut watched.body else { return Poll::Ready(None) };
        let poll = || Pin::new(body).poll_frame(context).map_err(BoxError::from);
        catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|panic| {
            watched.body = None;
            // It may have told its length, or be in the middle of anything: the connection breaks off.
            Poll::Ready(Some(Err(watched.watch.note(&*panic).into())))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::new, HttpBody::size_hint)
    }
}

/// A stream that tells a failure in its own form.
pub trait Stream: HttpBody<Data = Bytes, Error = Infallible> + Unpin {
    /// The last event of a stream that failed.
    fn failed(&mut self, error: &ApiError) -> Bytes;
}

/// A stream whose panic is its last event.
pub struct WatchedStream<S> {
    /// None after its panic.
    stream: Option<S>,
    watch: Watch,
}

impl<S> WatchedStream<S> {
    /// `stream` under `watch`.
    pub fn new(stream: S, watch: Watch) -> Self {
        WatchedStream { stream: Some(stream), watch }
    }
}

impl<S: Stream> HttpBody for WatchedStream<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let watched = self.get_mut();
        let Some(stream) = &mut watched.stream else { return Poll::Ready(None) };
        let poll = || Pin::new(stream).poll_frame(context);
        catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|panic| {
            let error = watched.watch.note(&*panic);
            // Gone before it is asked, should it panic again.
            let mut stream = watched.stream.take().expect("it panicked just now");
            Poll::Ready(Some(Ok(Frame::data(stream.failed(&error)))))
        })
    }
}

#[cfg(test)]
mod tests;
