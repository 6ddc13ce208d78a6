//! A panic while a request is answered: that request fails, and nothing else does.

use std::any::Any;
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
use http::{HeaderMap, Request, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::metrics::Panics;
use crate::openai::error::ApiError;
use crate::openai::reply::error_event;
use crate::request_id::RequestId;

/// Answers a request whose handler panics with 500, and ends a stream that panics with an error event.
/// Both are counted in `panics` and logged. What the handler held is dropped on the way, so that its
/// requests are cancelled.
pub async fn catch(State(panics): State<Panics>, request: Request<Body>, next: Next) -> Response {
    let request_id = request.extensions().get::<RequestId>().cloned();
    let watch = Watch { panics, request_id };
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => watch.over_body_of(response),
        Err(panic) => watch.note(&*panic).into_response(),
    }
}

/// Who is told of a panic.
struct Watch {
    panics: Panics,
    request_id: Option<RequestId>,
}

impl Watch {
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
        let is_stream = is_stream(response.headers());
        response.map(|body| Body::new(Watched { body: Some(body), is_stream, watch: self }))
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    media_type.starts_with(b"text/event-stream")
}

/// A body whose panics are caught.
struct Watched {
    /// None after its panic.
    body: Option<Body>,
    is_stream: bool,
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
            let error = watched.watch.note(&*panic);
            // What is no stream has told its length: the connection breaks off.
            Poll::Ready(Some(match watched.is_stream {
                true => Ok(Frame::data(error_event(&error.body()))),
                false => Err(error.into()),
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::new, HttpBody::size_hint)
    }
}

#[cfg(test)]
mod tests;
