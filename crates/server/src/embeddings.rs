//! `/v1/embeddings`: vectors of prompts, computed by the same engine in the same steps.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use engine::{FinishReason, TokenId};
use http::{Request, header};
use sampling::Pool;
use tokio::time::Instant;

use crate::app::{App, held};
use crate::dispatch::End;
use crate::generate::refusal;
use crate::keys::Caller;
use crate::limits::EMBEDDINGS_AT_ONCE;
use crate::openai::embeddings::{Embedding, EmbeddingUsage, Embeddings};
use crate::openai::error::ApiError;
use crate::openai::types::parse;
use crate::request_id::{RequestId, random_hex};
use crate::unix_time::unix_time;
use crate::validate::embeddings::Inputs;

/// `POST /v1/embeddings`.
pub async fn embeddings(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    app.admit()?;
    let tag = request.extensions().get::<RequestId>().expect("every request is tagged").clone();
    let caller = Caller::of(&request);
    let body = app.receive(request).await?;
    let width = app.info.embedding_len as usize;
    let check = move |app: &App, body: &[u8]| app.door(caller).embeddings(&parse(body)?, width);
    let inputs = app.work_on(body, check);
    let inputs = inputs.await?;
    let room = app.room(inputs.bytes)?;
    let count = inputs.prompts.len();
    // Their sum is that of one body's tokens.
    let prompt_tokens = inputs.prompts.iter().map(|prompt| prompt.len() as u32).sum();
    let id = format!("embd-{}", random_hex());
    let began = Instant::now();
    let model = app.info.name_of(inputs.adapter).to_owned();
    let line = LogLine {
        id: &id,
        request_id: tag,
        model: model.clone(),
        inputs: count,
        prompt_tokens,
        began,
        end: None,
    };
    let data = line.tell(embed(&app, inputs).await)?;
    let usage = EmbeddingUsage { prompt_tokens, total_tokens: prompt_tokens };
    let reply = Embeddings { id, object: "list", created: unix_time(), model, data, usage };
    let bytes = serde_json::to_vec(&reply).expect("vectors are finite");
    // What was reserved for the vectors is free again once they are sent.
    let response = ([(header::CONTENT_TYPE, "application/json")], bytes).into_response();
    Ok(held(response, room))
}

/// One line per request, whichever way it ended. No text of the client's in it.
struct LogLine<'a> {
    id: &'a str,
    request_id: RequestId,
    model: String,
    inputs: usize,
    prompt_tokens: u32,
    began: Instant,
    /// How it ended; none if the client left before.
    end: Option<Result<(), String>>,
}

impl LogLine<'_> {
    /// Tells how the request ended.
    fn tell<T>(mut self, answer: Result<T, ApiError>) -> Result<T, ApiError> {
        self.end = Some(answer.as_ref().map(|_| ()).map_err(ApiError::to_string));
        answer
    }
}

impl Drop for LogLine<'_> {
    fn drop(&mut self) {
        let (outcome, failure) = match &self.end {
            Some(Ok(())) => ("finished", None),
            Some(Err(failure)) => ("failed", Some(failure)),
            None => ("cancelled", None),
        };
        tracing::info!(
            id = self.id,
            request_id = self.request_id.as_str(),
            endpoint = "/v1/embeddings",
            model = self.model,
            outcome,
            failure,
            inputs = self.inputs,
            prompt_tokens = self.prompt_tokens,
            e2e_ms = self.began.elapsed().as_micros() as f64 / 1e3,
            "request"
        );
    }
}

/// Embeds some inputs at a time, so that a long list leaves places to others.
async fn embed(app: &Arc<App>, inputs: Inputs) -> Result<Vec<Embedding>, ApiError> {
    let at_once = EMBEDDINGS_AT_ONCE.min(app.info.max_num_seqs as usize);
    let mut data = Vec::with_capacity(inputs.prompts.len());
    for prompts in inputs.prompts.chunks(at_once) {
        for vector in pooled(app, &inputs, prompts).await? {
            let vector = normalised(&vector[..inputs.dimensions]);
            data.push(Embedding::new(data.len(), vector, inputs.format));
        }
    }
    Ok(data)
}

/// The model's vectors of `prompts`, which are some of `inputs`.
async fn pooled(
    app: &Arc<App>,
    inputs: &Inputs,
    prompts: &[Vec<TokenId>],
) -> Result<Vec<Vec<f32>>, ApiError> {
    let pooling = app.config.pooling;
    let pools: Vec<Pool> = prompts.iter().map(|_| Pool::new(pooling)).collect();
    let requests = prompts.iter().zip(&pools);
    let requests = requests.map(|(prompt, pool)| inputs.request(prompt.clone(), pooling, pool));
    let requests = requests.collect();
    let mut submitted = app.dispatch.submit(requests).map_err(|e| refusal(e, prompts.len()))?;
    let mut open = prompts.len();
    while 0 < open {
        let Some(event) = submitted.events.recv().await else { return Err(cancelled()) };
        let Some(end) = event.end else { continue };
        submitted.ended(event.choice.into());
        open -= 1;
        match *end {
            End::Failed(failure) => return Err(failure.told(None)),
            End::Finished { reason: FinishReason::Cancelled, .. } => return Err(cancelled()),
            End::Finished { .. } => {}
        }
    }
    Ok(pools.iter().map(Pool::vector).collect())
}

fn cancelled() -> ApiError {
    ApiError::Failed { message: "the request was cancelled".to_owned() }
}

/// The vector of length 1 in this direction; nothing has no direction and stays what it is.
fn normalised(vector: &[f32]) -> Vec<f32> {
    let squares: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    if squares == 0.0 {
        return vector.to_vec();
    }
    let length = squares.sqrt();
    vector.iter().map(|value| (f64::from(*value) / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_also_those_whose_squares_are_tiny_or_huge() {
        for size in [1e-30, 1.0, 1e30] {
            let [x, y] = normalised(&[3.0 * size, -4.0 * size])[..] else { panic!("two numbers") };
            assert!((x - 0.6).abs() < 1e-6 && (y + 0.8).abs() < 1e-6, "{x} {y}");
        }
        assert_eq!(normalised(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
