//! Which path goes where, and who may ask.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::Request;

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
    let router = Router::new()
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
        .layer(from_fn_with_state(Arc::clone(&app), load::report))
        .layer(from_fn_with_state(Arc::clone(&app), check_key));
    // Before keys: a browser asks without one whether it may ask.
    let router = match app.config.guard.cors() {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(from_fn_with_state(Arc::clone(&app), check_guard))
        .layer(from_fn_with_state(app.panics.clone(), panics::catch))
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

async fn check_guard(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    match app.config.guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => ApiError::from(refusal).into_response(),
    }
}

/// Lets in whoever shows a key, and says with the request whose it is.
async fn check_key(
    State(app): State<Arc<App>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let keys = &app.config.keys;
    if keys.are_asked_for() {
        match keys.caller(request.headers()) {
            Some(caller) => drop(request.extensions_mut().insert(caller)),
            None if is_open(&app, request.uri().path()) => {}
            None => return ApiError::Unauthorized.into_response(),
        }
    }
    next.run(request).await
}

fn is_open(app: &App, path: &str) -> bool {
    let of_page = || app.config.web_page && page::FILES.iter().any(|file| file.path == path);
    OPEN_PATHS.contains(&path) || of_page()
}
