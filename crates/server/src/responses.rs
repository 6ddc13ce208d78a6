//! `/v1/responses`: chats in OpenAI's newer form, of which nothing is stored.
//!
//! A body becomes that of a chat and passes the same door; only replies and streams have a form of
//! their own.

mod types;
mod translate;
mod reply;
mod events;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response as HttpResponse};
use http::Request;

use crate::app::{App, held};
use crate::generate::{Begun, begin, streamed};
use crate::misplaced;
use crate::openai::error::ApiError;
use crate::openai::reply::Endpoint;
use crate::validate::{Door, Valid};

#[cfg(test)]
pub use types::{Item as InputItem, ResponsesBody, TextFormat, ToolBody};

use events::ResponseEvents;
use reply::{Echo, Response};

/// `POST /v1/responses`.
pub async fn responses(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<HttpResponse, ApiError> {
    let Begun { mut generation, stream, room, about: echo } =
        begin(&app, request, "resp_", read).await?;
    if stream.is_some() {
        let events = ResponseEvents::new(generation.head().clone(), echo);
        return Ok(held(streamed(&app, generation, Box::new(events)).await?, room));
    }
    let answers = generation.collect().await?;
    let answer = &answers.first().expect("there is one choice").answer;
    let reply = Response::ended(&generation, &echo, answer, answer.finish);
    Ok(held(Json(reply).into_response(), room))
}

fn read(door: Door<'_>, body: &[u8]) -> Result<(Valid, Echo), ApiError> {
    let body: types::ResponsesBody = misplaced::read(body, &translate::FIELDS)?;
    translate::check(&body)?;
    let echo = Echo::new(&body, door.sampling);
    let (chat, origins) = translate::chat(body)?;
    let mut valid = origins.valid(door.generation(Endpoint::Chat, chat), &translate::FIELDS)?;
    // Itself, and twice as JSON: as it is written, and as it is sent.
    valid.room += 3 * serde_json::to_vec(&echo).expect("texts, numbers and lists").len();
    Ok((valid, echo))
}
