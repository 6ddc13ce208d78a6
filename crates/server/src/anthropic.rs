//! `/v1/messages` and `/v1/messages/count_tokens`: chats in Anthropic's form.
//!
//! A body becomes that of a chat and passes the same door; only replies, streams and errors have a
//! form of their own.

mod types;
mod translate;
mod error;
mod reply;
mod events;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::Request;
use serde::Serialize;

use crate::app::App;
use crate::generate::{Begun, begin, streamed};
use crate::keys::Caller;
use crate::misplaced;
use crate::openai::error::ApiError;
use crate::openai::reply::Endpoint;
use crate::validate::{Door, Valid};

pub use error::shape;
pub use types::MessagesBody;
#[cfg(test)]
pub use types::{Block, ToolBody, Turn};

use events::MessageEvents;
use reply::Message;

/// `POST /v1/messages`.
pub async fn messages(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let Begun { mut generation, stream, .. } = begin(&app, request, "msg_", read).await?;
    if stream.is_some() {
        return streamed(&app, generation, Box::new(MessageEvents::new())).await;
    }
    let answers = generation.collect().await?;
    let answer = &answers.first().expect("there is one choice").answer;
    let (stop_string, usage) = (generation.stop_string(0), generation.usage());
    Ok(Json(Message::new(generation.head(), answer, stop_string, usage)).into_response())
}

fn read(door: Door<'_>, body: &[u8]) -> Result<(Valid, ()), ApiError> {
    let body: MessagesBody = misplaced::read(body, &translate::FIELDS)?;
    if body.max_tokens.is_none() {
        return Err(ApiError::invalid("max_tokens", "`max_tokens` is missing"));
    }
    let (chat, origins) = translate::chat(body)?;
    Ok((origins.valid(door.generation(Endpoint::Chat, chat), &translate::FIELDS)?, ()))
}

/// Reply of `/v1/messages/count_tokens`.
#[derive(Debug, Serialize)]
pub struct Counted {
    input_tokens: usize,
}

/// `POST /v1/messages/count_tokens`.
pub async fn count_tokens(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Json<Counted>, ApiError> {
    let body = app.receive(request).await?;
    app.work_on(body, |app, body| counted(app.door(Caller::default()), body)).await.map(Json)
}

fn counted(door: Door<'_>, body: &[u8]) -> Result<Counted, ApiError> {
    let body = misplaced::read(body, &translate::FIELDS)?;
    let (chat, origins) = translate::chat(body)?;
    let input_tokens = door.chat_len(&chat);
    let told = |error| origins.told(error, &translate::FIELDS);
    Ok(Counted { input_tokens: input_tokens.map_err(told)? })
}
