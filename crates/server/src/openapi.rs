//! `GET /openapi.json`: what is served, for programs that read descriptions.
//!
//! The document is kept by hand, so that it can say what types do not (ranges, meaning), and compared
//! by tests with the routes, with the fields of bodies and with replies, so that it cannot fall behind.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;

use crate::app::App;
use crate::config::SAMPLES_MAX;

/// An OpenAPI 3.1 document, of a server with the usual options.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub async fn document(State(app): State<Arc<App>>) -> Response {
    let document = described(app.config.samples_max);
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

/// The document of a server with this largest `n`, the only number of which it says so.
fn described(samples_max: u32) -> String {
    let maximum = |most: u32| format!("\"maximum\": {most},");
    DOCUMENT.replace(&maximum(SAMPLES_MAX), &maximum(samples_max))
}

#[cfg(test)]
mod fields;
#[cfg(test)]
mod tests;
