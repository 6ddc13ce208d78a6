//! What probes, routers and dashboards ask.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::config::{ServerInfo, as_written};
use crate::dispatch::Pulse;
use crate::metrics;
use crate::openai::error::{ApiError, ENGINE_STOPPED};
use crate::openai::models::{Model, ModelList};

/// `GET /health`, `/ready` and `/ping`: whether to send requests here. 503 in a drain and when the
/// engine does not work.
pub async fn health(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    app.admit()?;
    match app.dispatch.pulse(app.config.stall_limit) {
        Pulse::Beating => Ok(Json(json!({ "status": "ok" }))),
        Pulse::Stalled => {
            let reason = "the engine has requests and does not report; a step is overdue";
            Err(ApiError::Unavailable { reason })
        }
        Pulse::Stopped => Err(ApiError::Unavailable { reason: ENGINE_STOPPED }),
    }
}

/// `GET /live`: whether the process runs.
pub async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /version`.
pub async fn version(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "version": app.info.version }))
}

/// The body of `GET /server_info`.
#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    info: &'a ServerInfo,
    /// What counts where a request says nothing; a `top_k` of 0 keeps all.
    sampling_defaults: Value,
}

/// `GET /server_info`.
pub async fn server_info(State(app): State<Arc<App>>) -> Response {
    let default = &app.config.sampling;
    let sampling_defaults = json!({
        "temperature": as_written(default.temperature),
        "top_p": as_written(default.top_p),
        "top_k": default.top_k,
        "min_p": as_written(default.min_p),
        "repetition_penalty": as_written(default.repetition_penalty),
        "presence_penalty": as_written(default.presence_penalty),
        "frequency_penalty": as_written(default.frequency_penalty),
    });
    Json(Info { info: &app.info, sampling_defaults }).into_response()
}

/// What the model is, for routers; with SGLang's names.
#[derive(Debug, Serialize)]
pub struct ModelInfo {
    model_path: String,
    tokenizer_path: String,
    served_model_name: String,
    is_generation: bool,
    max_model_len: u32,
}

/// `GET /model_info` and `GET /get_model_info`.
pub async fn model_info(State(app): State<Arc<App>>) -> Json<ModelInfo> {
    let ServerInfo { root, model, max_model_len, .. } = &*app.info;
    Json(ModelInfo {
        model_path: root.clone(),
        // It comes out of the model's own file.
        tokenizer_path: root.clone(),
        served_model_name: model.clone(),
        is_generation: true,
        max_model_len: *max_model_len,
    })
}

/// `GET /v1/models/{id}`.
pub async fn model(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let Some(adapter) = app.info.served(&id) else {
        return Err(ApiError::UnknownModel { model: id, served: app.info.names() });
    };
    Ok(Json(Model::new(&app.info, adapter, app.started)).into_response())
}

/// `GET /v1/models`.
pub async fn models(State(app): State<Arc<App>>) -> Response {
    Json(ModelList::new(&app.info, app.started)).into_response()
}

/// `GET /metrics`.
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    let page = app.dispatch.exposition(&app.info, Box::new(app.traffic.clone()));
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response()
}
