//! Which path goes where, and who may ask.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use constant_time_eq::constant_time_eq;
use http::{HeaderValue, Request, header};

use crate::app::App;
use crate::openai::error::ApiError;
use crate::{
    anthropic, embeddings, generate, health, load, openapi, page, panics, request_id, responses,
    tokenize, traffic,
};

/// Paths that need no key, beside the files of the page ([`page::FILES`], which hold nothing secret, and
/// which somebody must see to be asked for the key). Everything else does, also what does not exist,
/// and all that the page itself asks for.
pub const OPEN_PATHS: [&str; 4] = ["/health", "/ready", "/ping", "/live"];

/// The whole router.
pub fn router(app: Arc<App>) -> Router {
    let page = if app.config.web_page { page::routes() } else { Router::new() };
    Router::new()
        .merge(page)
        .route("/v1/completions", post(generate::completions))
        .route("/v1/chat/completions", post(generate::chat))
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/models", get(health::models))
        .route("/v1/models/{*id}", get(health::model))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/health", get(health::health))
        .route("/ready", get(health::health))
        .route("/ping", get(health::health).post(health::health))
        .route("/live", get(health::live))
        .route("/version", get(health::version))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/server_info", get(health::server_info))
        .route("/get_server_info", get(health::server_info))
        .route("/model_info", get(health::model_info))
        .route("/get_model_info", get(health::model_info))
        .route("/load", get(load::load))
        .route("/get_load", get(load::get_load))
        .route("/v1/loads", get(load::loads))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), check_key))
        .layer(from_fn_with_state(app.panics.clone(), panics::catch))
        .layer(from_fn_with_state(Arc::clone(&app), load::report))
        .layer(from_fn_with_state(app.traffic.clone(), traffic::count))
        .layer(from_fn(anthropic::shape))
        // Outermost: refusals and failures are told with their id too.
        .layer(from_fn(request_id::tag))
        .with_state(app)
}

async fn unknown_path(request: Request<Body>) -> ApiError {
    ApiError::UnknownPath { path: request.uri().path().to_owned() }
}

async fn wrong_method(request: Request<Body>) -> ApiError {
    let path = request.uri().path().to_owned();
    ApiError::Method { path, method: request.method().to_string() }
}

async fn check_key(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path();
    let of_page = || app.config.web_page && page::FILES.iter().any(|file| file.path == path);
    let open = OPEN_PATHS.contains(&path) || of_page();
    match &app.config.api_key {
        Some(key) if !open && !carries(&request, key) => ApiError::Unauthorized.into_response(),
        _ => next.run(request).await,
    }
}

/// Whether the request has `Authorization: Bearer KEY`, or as Anthropic's clients send it `x-api-key: KEY`;
/// takes as long for any wrong key.
fn carries(request: &Request<Body>, key: &str) -> bool {
    let headers = request.headers();
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, sent) = value.as_bytes().split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(sent)
    });
    let plain = headers.get("x-api-key").map(HeaderValue::as_bytes);
    bearer.into_iter().chain(plain).any(|sent| constant_time_eq(sent, key.as_bytes()))
}
