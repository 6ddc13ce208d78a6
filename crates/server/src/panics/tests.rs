use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use http::{StatusCode, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;

/// A stream of two events that panics in place of the second.
struct Half(bool);

impl HttpBody for Half {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        assert!(!std::mem::replace(&mut self.0, true), "the second event");
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data: one\n\n")))))
    }
}

impl Stream for Half {
    fn failed(&mut self, error: &ApiError) -> Bytes {
        format!("own: {error}").into()
    }
}

/// A stream that panics, and again while it tells so.
struct Twice;

impl HttpBody for Twice {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("once")
    }
}

impl Stream for Twice {
    fn failed(&mut self, _: &ApiError) -> Bytes {
        panic!("twice")
    }
}

async fn panics() -> Response {
    panic!("{} is wrong", "something")
}

async fn stream(State(panics): State<Panics>) -> Body {
    Body::new(WatchedStream::new(Half(false), Watch { panics, request_id: None }))
}

async fn twice(State(panics): State<Panics>) -> Body {
    Body::new(WatchedStream::new(Twice, Watch { panics, request_id: None }))
}

async fn plain() -> Body {
    Body::new(Half(false))
}

/// The reply to a GET of `path`, and the panics there were.
async fn ask(path: &str) -> (Response, Panics) {
    let panics_total = Panics::default();
    let router = Router::new()
        .route("/panics", get(panics))
        .route("/stream", get(stream))
        .route("/twice", get(twice))
        .route("/plain", get(plain))
        .route("/well", get(async || "well"))
        .layer(from_fn_with_state(panics_total.clone(), catch))
        .with_state(panics_total.clone());
    let request = Request::get(path).body(Body::empty()).unwrap();
    (router.oneshot(request).await.unwrap(), panics_total)
}

#[tokio::test]
async fn a_panic_is_500_in_our_shape_and_counted() {
    let (reply, panics) = ask("/panics").await;
    assert_eq!(reply.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(panics.total(), 1);
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["type"], "server_error");
    assert!(!body.to_string().contains("something"), "what panicked is for the log alone");
}

#[tokio::test]
async fn a_stream_that_panics_ends_with_an_error_event_in_its_own_form() {
    let (reply, panics) = ask("/stream").await;
    let text = reply.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&text).unwrap();
    let error = text.strip_prefix("data: one\n\nown: ").expect(text);
    assert_eq!(error, "the server has failed at this request; its log says why");
    assert_eq!(panics.total(), 1);
}

#[tokio::test]
async fn a_stream_that_cannot_even_tell_so_breaks_off() {
    let (reply, panics) = ask("/twice").await;
    let mut body = reply.into_body();
    assert!(body.frame().await.unwrap().is_err());
    assert!(body.frame().await.is_none());
    assert_eq!(panics.total(), 2);
}

#[tokio::test]
async fn another_body_that_panics_breaks_off() {
    let (reply, panics) = ask("/plain").await;
    let mut body = reply.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    assert!(body.frame().await.unwrap().is_err());
    assert!(body.frame().await.is_none());
    assert_eq!(panics.total(), 1);
}

#[tokio::test]
async fn a_reply_without_panic_is_as_it_was() {
    let (reply, panics) = ask("/well").await;
    assert_eq!(reply.headers()[header::CONTENT_LENGTH], "4");
    assert_eq!(reply.body().size_hint().exact(), Some(4));
    assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), "well");
    assert_eq!(panics.total(), 0);
}
