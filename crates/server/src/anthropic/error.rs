//! Refusals in Anthropic's form.

use axum::body::Body;
use axum::middleware::Next;
use axum::response::Response;
use http::{Request, StatusCode, header};
use serde::Serialize;

use crate::openai::error::Told;

/// Where replies have Anthropic's form.
const PATHS: &str = "/v1/messages";

/// An error, as a reply and as an event.
#[derive(Debug, Serialize)]
pub struct ErrorBody {
    #[serde(rename = "type")]
    kind: &'static str,
    error: ErrorFields,
}

#[derive(Debug, Serialize)]
struct ErrorFields {
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
}

impl ErrorBody {
    /// What was `told`, with the status that it has or would have had.
    pub fn new(status: StatusCode, told: Told) -> Self {
        let message = match told.param {
            Some(param) => format!("{param}: {}", told.message),
            None => told.message,
        };
        ErrorBody { kind: "error", error: ErrorFields { kind: kind(status), message } }
    }
}

/// Anthropic's word for a status.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    }
}

/// Gives errors of these paths their form, whoever refuses: the door, the check of the key, the router.
pub async fn shape(request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path();
    let rest = path.strip_prefix(PATHS);
    let is_ours = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut response = next.run(request).await;
    if !is_ours {
        return response;
    }
    let Some(told) = response.extensions_mut().remove::<Told>() else { return response };
    let body = ErrorBody::new(response.status(), told);
    let body = serde_json::to_vec(&body).expect("strings always serialise");
    let (mut head, _) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, Body::from(body))
}
