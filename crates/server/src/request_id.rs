//! The id by which a client, a router and the log mean the same request.

use axum::body::Body;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Request};

use crate::limits::REQUEST_ID_BYTES;

/// The header that carries it, in both directions.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Id of a request: 1 to [`REQUEST_ID_BYTES`] visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The client's own id if it is one, else a new one: what it sent would have to be cut or escaped
    /// in the log, and then the two sides would mean different things by it.
    pub fn of(sent: Option<&HeaderValue>) -> Self {
        let sent = sent.and_then(|value| value.to_str().ok()).filter(|id| is_valid(id));
        RequestId(sent.map_or_else(|| format!("req-{}", random_hex()), str::to_owned))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_valid(id: &str) -> bool {
    (1..=REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// 128 random bits in hexadecimal digits.
pub fn random_hex() -> String {
    let random = || getrandom::u64().expect("the operating system gives random numbers");
    format!("{:016x}{:016x}", random(), random())
}

/// Gives every request its id (an extension of it), and the reply the same one, whatever it says.
pub async fn tag(mut request: Request<Body>, next: Next) -> Response {
    let id = RequestId::of(request.headers().get(HEADER));
    let value = HeaderValue::from_str(id.as_str()).expect("visible ASCII is a valid value");
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    response.headers_mut().insert(HEADER, value);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sent: &str) -> RequestId {
        RequestId::of(Some(&HeaderValue::from_bytes(sent.as_bytes()).expect("a header's value")))
    }

    #[test]
    fn a_visible_id_is_kept_and_any_other_replaced() {
        let longest = "x".repeat(REQUEST_ID_BYTES);
        for id in ["a", "~!-42/b:c", &longest] {
            assert_eq!(of(id).as_str(), id);
        }
        for id in ["", "a b", "a\tb", "é", &format!("{longest}x")] {
            let new = of(id);
            assert!(new.as_str().starts_with("req-"), "{id:?} became {new:?}");
            assert!(is_valid(new.as_str()));
        }
    }

    #[test]
    fn new_ids_differ() {
        assert_ne!(RequestId::of(None), RequestId::of(None));
    }
}
