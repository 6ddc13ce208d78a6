//! `/v1/completions` and `/v1/chat/completions`: receive, validate, submit, answer.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use engine::SubmitError;
use http::{HeaderValue, Request, header};

use crate::app::{App, unix_time};
use crate::openai::chat::ChatCompletion;
use crate::openai::completions::Completion;
use crate::openai::error::{ApiError, ENGINE_STOPPED, SHUTTING_DOWN};
use crate::openai::reply::{Endpoint, ReplyHead};
use crate::openai::types::parse;
use crate::request_id::{RequestId, random_hex};
use crate::stream::{Generation, SseBody};

/// `POST /v1/completions`.
pub async fn completions(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    generate(app, Endpoint::Completions, request).await
}

/// `POST /v1/chat/completions`.
pub async fn chat(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    generate(app, Endpoint::Chat, request).await
}

async fn generate(
    app: Arc<App>,
    endpoint: Endpoint,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    app.admit()?;
    let request_id =
        request.extensions().get::<RequestId>().expect("every request is tagged").clone();
    let body = app.receive(request).await?;
    let validate = move |app: &App, body: &[u8]| app.door().generation(endpoint, parse(body)?);
    let mut valid = app.work_on(body, validate).await?;
    if let Some(wanted) = valid.wanted.take() {
        app.grammars.constrain(wanted, &mut valid.requests).await?;
    }
    let head = ReplyHead {
        endpoint,
        id: reply_id(endpoint),
        created: unix_time(),
        model: app.info.model.clone(),
        request_id,
    };
    let choices = valid.requests.len();
    let submitted = app.dispatch.submit(valid.requests).map_err(|e| refusal(e, choices))?;
    let about = (valid.prompts, head);
    let mut generation =
        Generation::new(submitted, &app.tokenizer, valid.rules, &valid.answers, about);
    if let Some(rules) = valid.stream {
        let body = SseBody::start(generation, rules).await?;
        let mut response = Response::new(Body::new(body));
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_static("text/event-stream; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, media_type);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        return Ok(response);
    }
    let answers = generation.collect().await?;
    let tokenizer = &app.tokenizer;
    let (usage, timings) = (generation.usage(), generation.timings());
    let head = generation.head().clone();
    Ok(match endpoint {
        Endpoint::Completions => {
            Json(Completion::new(head, answers, tokenizer, usage, timings)).into_response()
        }
        Endpoint::Chat => {
            Json(ChatCompletion::new(head, answers, tokenizer, usage, timings)).into_response()
        }
    })
}

/// `cmpl-` or `chatcmpl-` and 128 random bits.
fn reply_id(endpoint: Endpoint) -> String {
    let prefix = match endpoint {
        Endpoint::Completions => "cmpl",
        Endpoint::Chat => "chatcmpl",
    };
    format!("{prefix}-{}", random_hex())
}

/// What a client is told when the engine did not take its `choices` requests.
pub fn refusal(error: SubmitError, choices: usize) -> ApiError {
    match error {
        SubmitError::QueueFull { limit, .. } if (limit as usize) < choices => ApiError::invalid(
            "n",
            format!("the request has {choices} choices and the server holds at most {limit}"),
        ),
        SubmitError::QueueFull { in_flight, limit } => {
            ApiError::QueueFull { in_flight: in_flight as usize, limit: limit as usize }
        }
        SubmitError::ShareFull { in_flight, limit } => ApiError::ShareFull { in_flight, limit },
        SubmitError::Draining => ApiError::Unavailable { reason: SHUTTING_DOWN },
        SubmitError::Stopped => ApiError::Unavailable { reason: ENGINE_STOPPED },
        other => unreachable!("validated against the same limits: {other}"),
    }
}
