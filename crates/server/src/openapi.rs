//! `GET /openapi.json`: what is served, for programs that read descriptions.
//!
//! The document is kept by hand, so that it can say what types do not (ranges, meaning), and compared
//! by tests with the routes, with the fields of bodies and with replies, so that it cannot fall behind.

use axum::response::{IntoResponse, Response};
use http::header;

/// An OpenAPI 3.1 document.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod fields;
#[cfg(test)]
mod tests;
