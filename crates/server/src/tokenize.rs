//! `/tokenize` and `/detokenize`, with vLLM's bodies.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::Request;
use serde::{Deserialize, Serialize};
use text::{Ending, decode};
use tokio::sync::OwnedSemaphorePermit;

use crate::app::{App, held};
use crate::keys::Caller;
use crate::limits::{BODIES_BYTES_IN_FLIGHT, TEXT_TOKENS, TOLD_ID_BYTES, TOLD_SPELLING_BYTES};
use crate::openai::error::ApiError;
use crate::openai::reply::Endpoint;
use crate::openai::tools::Tools;
use crate::openai::types::{Messages, parse};
use crate::validate::{Prompting, text_bytes};

/// Body of `/tokenize`: a text or a chat.
#[derive(Debug, Deserialize)]
pub struct TokenizeBody {
    model: Option<String>,
    prompt: Option<String>,
    messages: Option<Messages>,
    /// For a chat: functions that are told to the model.
    tools: Option<Tools>,
    /// For a text: whether the model's begin and end tokens are added; true unless said otherwise.
    add_special_tokens: Option<bool>,
    /// For a chat: whether the assistant's turn is opened; true unless said otherwise.
    add_generation_prompt: Option<bool>,
    return_token_strs: Option<bool>,
}

/// Reply of `/tokenize`.
#[derive(Debug, Serialize)]
pub struct Tokenized {
    count: usize,
    max_model_len: u32,
    tokens: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_strs: Option<Vec<String>>,
}

/// Body of `/detokenize`.
#[derive(Debug, Deserialize)]
pub struct DetokenizeBody {
    model: Option<String>,
    tokens: Option<Vec<i64>>,
}

/// Reply of `/detokenize`.
#[derive(Debug, Serialize)]
pub struct Detokenized {
    prompt: String,
}

/// `POST /tokenize`.
pub async fn tokenize(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let body = app.receive(request).await?;
    let (reply, room) = app.work_on(body, |app, body| tokenized(app, &parse(body)?)).await?;
    Ok(held(Json(reply).into_response(), room))
}

/// `POST /detokenize`.
pub async fn detokenize(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let body = app.receive(request).await?;
    let (reply, room) = app.work_on(body, |app, body| detokenized(app, &parse(body)?)).await?;
    Ok(held(Json(reply).into_response(), room))
}

/// The reply, and room for it until it is sent.
fn tokenized(
    app: &App,
    body: &TokenizeBody,
) -> Result<(Tokenized, OwnedSemaphorePermit), ApiError> {
    let door = app.door(Caller::default());
    door.model(body.model.as_deref())?;
    let tools = door.tools(body.tools.as_ref())?;
    let tokens = match (&body.prompt, &body.messages) {
        (Some(prompt), None) => {
            let usual = Prompting::to_tell(Endpoint::Completions);
            let special_tokens = body.add_special_tokens != Some(false);
            door.text_prompt(prompt, &Prompting { special_tokens, ..usual })?
        }
        (None, Some(messages)) => {
            let usual = Prompting::to_tell(Endpoint::Chat);
            let ending = match body.add_generation_prompt {
                Some(false) => Ending::Closed,
                _ => Ending::AnswerBegun,
            };
            door.chat_prompt(messages, &tools, &Prompting { ending, ..usual })?.ids
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("messages", "give `prompt` or `messages`, not both"));
        }
        (None, None) => return Err(ApiError::invalid("prompt", "`prompt` is missing")),
    };
    let spelling = |id: &u32| app.tokenizer.token_text(*id).unwrap_or_default();
    let tells_spellings = body.return_token_strs == Some(true);
    let spelt = |id: &u32| TOLD_SPELLING_BYTES + 3 * spelling(id).len();
    let of_spellings: usize = if tells_spellings { tokens.iter().map(spelt).sum() } else { 0 };
    let room = reply_room(app, "prompt", tokens.len() * TOLD_ID_BYTES + of_spellings)?;
    let token_strs =
        tells_spellings.then(|| tokens.iter().map(|id| spelling(id).to_owned()).collect());
    let max_model_len = app.info.max_model_len;
    Ok((Tokenized { count: tokens.len(), max_model_len, tokens, token_strs }, room))
}

/// The reply, and room for it until it is sent.
fn detokenized(
    app: &App,
    body: &DetokenizeBody,
) -> Result<(Detokenized, OwnedSemaphorePermit), ApiError> {
    let door = app.door(Caller::default());
    door.model(body.model.as_deref())?;
    let check = |(index, id): (usize, &i64)| door.token("tokens", index, *id);
    let Some(tokens) = &body.tokens else {
        return Err(ApiError::invalid("tokens", "`tokens` is missing"));
    };
    if TEXT_TOKENS < tokens.len() {
        let message = format!("{} tokens, more than {TEXT_TOKENS}", tokens.len());
        return Err(ApiError::invalid("tokens", message));
    }
    let ids: Vec<u32> = tokens.iter().enumerate().map(check).collect::<Result<_, _>>()?;
    // The text, and as JSON.
    let room = reply_room(app, "tokens", 3 * text_bytes(&app.tokenizer, &ids))?;
    Ok((Detokenized { prompt: decode(&app.tokenizer, &ids, false) }, room))
}

/// Room for a reply of so many bytes.
fn reply_room(app: &App, param: &str, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
    if BODIES_BYTES_IN_FLIGHT < bytes {
        let message = format!(
            "the reply takes {bytes} bytes, more than {BODIES_BYTES_IN_FLIGHT}; send less in one request"
        );
        return Err(ApiError::invalid(param, message));
    }
    app.room(bytes)
}
