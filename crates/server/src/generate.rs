//! From a request to a reply under way, for every endpoint that generates; and the two of OpenAI that
//! came first, `/v1/completions` and `/v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::response::{IntoResponse, Response};
use engine::SubmitError;
use http::{HeaderValue, Request, header};
use tokio::sync::OwnedSemaphorePermit;

use crate::app::{App, held};
use crate::chunks::Chunks;
use crate::keys::Caller;
use crate::openai::chat::ChatCompletion;
use crate::openai::completions::Completion;
use crate::openai::error::{ApiError, ENGINE_STOPPED, SHUTTING_DOWN};
use crate::openai::reply::{Endpoint, ReplyHead};
use crate::openai::types::parse;
use crate::panics::{Watch, WatchedStream};
use crate::request_id::{RequestId, random_hex};
use crate::stream::{Events, Generation, SseBody};
use crate::unix_time::unix_time;
use crate::validate::{Door, StreamRules, Valid};

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
    let prefix = match endpoint {
        Endpoint::Completions => "cmpl-",
        Endpoint::Chat => "chatcmpl-",
    };
    let read =
        move |door: Door<'_>, body: &[u8]| Ok((door.generation(endpoint, parse(body)?)?, ()));
    let Begun { mut generation, stream, room, .. } = begin(&app, request, prefix, read).await?;
    if let Some(rules) = stream {
        let chunks = Chunks::new(endpoint, generation.head(), rules);
        return Ok(held(streamed(&app, generation, Box::new(chunks)).await?, room));
    }
    let answers = generation.collect().await?;
    let tokenizer = &app.tokenizer;
    let (usage, timings) = (generation.usage(), generation.timings());
    let head = generation.head().clone();
    let response = match endpoint {
        Endpoint::Completions => {
            Json(Completion::new(head, answers, tokenizer, usage, timings)).into_response()
        }
        Endpoint::Chat => {
            Json(ChatCompletion::new(head, answers, tokenizer, usage, timings)).into_response()
        }
    };
    Ok(held(response, room))
}

/// A reply under way.
pub struct Begun<T> {
    /// Its choices.
    pub generation: Generation,
    /// How to stream; none: the reply is sent as a whole.
    pub stream: Option<StreamRules>,
    /// Room for what is told of the prompts, until the reply is sent.
    pub room: OwnedSemaphorePermit,
    /// What else was read in the body.
    pub about: T,
}

/// Receives a request, has its body checked by `read`, and submits it; the reply's id begins with `prefix`.
pub async fn begin<T: Send + 'static>(
    app: &Arc<App>,
    request: Request<Body>,
    prefix: &'static str,
    read: impl FnOnce(Door<'_>, &[u8]) -> Result<(Valid, T), ApiError> + Send + 'static,
) -> Result<Begun<T>, ApiError> {
    app.admit()?;
    let request_id =
        request.extensions().get::<RequestId>().expect("every request is tagged").clone();
    let caller = Caller::of(&request);
    let endpoint = request.extensions().get::<MatchedPath>().expect("a handler has a route");
    let endpoint = endpoint.as_str().to_owned();
    let body = app.receive(request).await?;
    let read = move |app: &App, body: &[u8]| read(app.door(caller), body);
    let (mut valid, about) = app.work_on(body, read).await?;
    if let Some(wanted) = valid.wanted.take() {
        app.grammars.constrain(wanted, &mut valid.requests).await?;
    }
    let head = ReplyHead {
        id: format!("{prefix}{}", random_hex()),
        created: unix_time(),
        model: app.info.name_of(valid.adapter).to_owned(),
        request_id,
        endpoint,
    };
    let room = app.room(valid.room)?;
    let choices = valid.requests.len();
    let submitted = app.dispatch.submit(valid.requests).map_err(|e| refusal(e, choices))?;
    let of_reply = (valid.prompts, head);
    let generation =
        Generation::new(submitted, &app.tokenizer, valid.rules, &valid.answers, of_reply);
    Ok(Begun { generation, stream: valid.stream, room, about })
}

/// The streamed reply of `generation`, in the form of `events`.
pub async fn streamed(
    app: &App,
    generation: Generation,
    events: Box<dyn Events>,
) -> Result<Response, ApiError> {
    let request_id = Some(generation.head().request_id.clone());
    let watch = Watch { panics: app.panics.clone(), request_id };
    let body = SseBody::start(generation, events).await?;
    let mut response = Response::new(Body::new(WatchedStream::new(body, watch)));
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
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
