//! The id that a request keeps on its way.

use http::{HeaderMap, Method};
use serde_json::json;

use crate::client::{request, send};
use crate::harness::{Server, Setup};

const COMPLETIONS: &str = "/v1/completions";

/// The reply's status and id for a request with `sent` as its id.
async fn ask(server: &Server, path: &str, body: &str, sent: Option<&[u8]>) -> (u16, String) {
    let method = if body.is_empty() { Method::GET } else { Method::POST };
    let mut request = request(method, path, body);
    if let Some(sent) = sent {
        let value = http::HeaderValue::from_bytes(sent).expect("a header's value");
        request.headers_mut().insert("x-request-id", value);
    }
    let reply = send(server.address, request).await.expect("a reply").reply().await;
    (reply.status.as_u16(), id_of(&reply.headers))
}

fn id_of(headers: &HeaderMap) -> String {
    headers["x-request-id"].to_str().expect("visible").to_owned()
}

#[tokio::test]
async fn every_reply_has_the_id_of_its_request() {
    let setup = Setup::with_keys("secret");
    let server = setup.start().await;
    for (path, body, status) in [("/health", "", 200), ("/v1/models", "", 401), ("/x", "{}", 401)] {
        let reply = ask(&server, path, body, Some(b"mine-1")).await;
        assert_eq!(reply, (status, "mine-1".to_owned()), "{path}");
    }
    let server = Setup::new().start().await;
    let good = json!({"prompt": "ab", "temperature": 0}).to_string();
    let stream = json!({"prompt": "ab", "temperature": 0, "stream": true}).to_string();
    for (path, body, status) in [
        (COMPLETIONS, good.as_str(), 200),
        (COMPLETIONS, stream.as_str(), 200),
        (COMPLETIONS, "{\"prompt\": 5}", 400),
        ("/x", "{}", 404),
        (COMPLETIONS, "", 405),
    ] {
        let reply = ask(&server, path, body, Some(b"mine-2")).await;
        assert_eq!(reply, (status, "mine-2".to_owned()), "{path} {body}");
    }
}

#[tokio::test]
async fn a_missing_or_unusable_id_is_replaced() {
    let server = Setup::new().start().await;
    let mut ids = Vec::new();
    for sent in [None, Some(b"".as_slice()), Some(b"a b"), Some(b"\xc3\xa9"), Some(&[b'x'; 129])] {
        let (status, id) = ask(&server, "/live", "", sent).await;
        assert_eq!(status, 200);
        assert!(id.starts_with("req-"), "{sent:?} became {id}");
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 5, "each request has an id of its own");
}
