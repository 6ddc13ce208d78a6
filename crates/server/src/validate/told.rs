//! What a body wants to be told of its prompts.

use std::sync::Arc;

use sampling::PromptScores;

use super::{Door, Prompting};
use crate::limits::{BODIES_BYTES_IN_FLIGHT, PROMPT_LOG_PROB_BYTES, PROMPT_LOG_PROBS};
use crate::openai::error::ApiError;
use crate::openai::prompt::{Echo, ToldPrompt};
use crate::openai::reply::Endpoint;
use crate::openai::types::{GenerationBody, PromptItem, Prompts};

/// What is to be told of prompts.
#[derive(Debug, Clone, Copy)]
pub struct Telling {
    /// Whether ids of tokens are.
    pub ids: bool,
    /// Whether answers begin with the prompt; if so with the log-probabilities that answers have.
    echo: bool,
    echo_log_probs: Option<u32>,
    /// How many of the likeliest tokens `prompt_logprobs` tells.
    log_probs: Option<u32>,
}

impl Telling {
    /// What `body` asks for; its answers have `log_probs`, and it may want a stream.
    pub fn new(
        endpoint: Endpoint,
        body: &GenerationBody,
        log_probs: Option<u32>,
        streams: bool,
    ) -> Result<Self, ApiError> {
        let echo = body.echo == Some(true);
        if echo && endpoint == Endpoint::Chat {
            let message = "`echo` is for completions; see `continue_final_message`";
            return Err(ApiError::invalid("echo", message));
        }
        let refused = |message| Err(ApiError::invalid("prompt_logprobs", message));
        let asked = match body.prompt_logprobs.map(u32::try_from) {
            None => None,
            Some(_) if streams => {
                return refused("`prompt_logprobs` are not told in a stream".to_owned());
            }
            Some(Ok(count)) if count <= PROMPT_LOG_PROBS => Some(count),
            Some(_) => {
                let asked = body.prompt_logprobs.unwrap_or_default();
                return refused(format!(
                    "prompt_logprobs is {asked}; give 0 to {PROMPT_LOG_PROBS}"
                ));
            }
        };
        let ids = body.return_token_ids == Some(true);
        Ok(Telling { ids, echo, echo_log_probs: log_probs.filter(|_| echo), log_probs: asked })
    }

    /// How many of the likeliest tokens are looked for at each position of a prompt, if any are.
    fn scored(&self) -> Option<u32> {
        self.echo_log_probs.max(self.log_probs)
    }

    /// Bytes that log-probabilities of `prompts` take until the reply is sent, at most all there are.
    pub fn bytes(&self, prompts: &[Vec<u32>], samples: usize) -> Result<usize, ApiError> {
        let Some(top) = self.scored() else { return Ok(0) };
        let tokens: usize = prompts.iter().map(Vec::len).sum();
        let bytes = tokens * samples * (top as usize + 1) * PROMPT_LOG_PROB_BYTES;
        if bytes <= BODIES_BYTES_IN_FLIGHT {
            return Ok(bytes);
        }
        let param = if self.log_probs.is_some() { "prompt_logprobs" } else { "logprobs" };
        let message = format!(
            "log-probabilities of {tokens} prompt tokens, {samples} times with {top} others each, take \
             {bytes} bytes, more than {BODIES_BYTES_IN_FLIGHT}; send fewer prompts"
        );
        Err(ApiError::invalid(param, message))
    }
}

impl Door<'_> {
    /// What is told of each of `prompts`, which were made of `body`.
    pub(super) fn told(
        &self,
        telling: Telling,
        (body, prompting): (&GenerationBody, &Prompting),
        prompts: &[Vec<u32>],
    ) -> Vec<ToldPrompt> {
        let items = body.prompt.as_ref().map_or(&[][..], |Prompts(items)| items);
        let one = |(index, ids): (usize, &Vec<u32>)| {
            let is_text = matches!(items.get(index), Some(PromptItem::Text(_)));
            let added = match is_text && prompting.special_tokens {
                true => self.tokenizer.around_prompts(),
                false => (None, None),
            };
            let echo_log_probs = telling.echo_log_probs.map(|count| count as usize);
            let echo = || Arc::new(Echo::new(self.tokenizer, ids, added, echo_log_probs));
            let shared = || Arc::from(ids.as_slice());
            ToldPrompt {
                ids: telling.ids.then(shared),
                echo: telling.echo.then(echo),
                scores: telling.scored().map(|count| PromptScores::new(ids.len(), count)),
                log_probs: telling.log_probs.map(|count| (count as usize, shared())),
            }
        };
        prompts.iter().enumerate().map(one).collect()
    }
}
