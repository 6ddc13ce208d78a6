//! What a body wants to be told of its prompts, and of its answers beside their text.

use std::sync::Arc;

use sampling::PromptScores;
use text::Tokenizer;

use super::{Door, Prompting};
use crate::limits::{BODIES_BYTES_IN_FLIGHT, LOG_PROB_BYTES, PROMPT_LOG_PROBS, TOLD_ID_BYTES};
use crate::openai::error::ApiError;
use crate::openai::prompt::{Echo, ToldPrompt};
use crate::openai::reply::Endpoint;
use crate::openai::types::{GenerationBody, PromptItem, Prompts};

/// What is to be told of prompts and answers.
#[derive(Debug, Clone, Copy)]
pub struct Telling {
    /// Whether ids of tokens are.
    pub ids: bool,
    /// Whether answers begin with the prompt; if so with the log-probabilities that answers have.
    echo: bool,
    /// How many of the likeliest tokens are told at each token of an answer, if log-probabilities are.
    answer_log_probs: Option<u32>,
    /// How many of them `prompt_logprobs` tells.
    prompt_log_probs: Option<u32>,
    streams: bool,
}

impl Telling {
    /// What `body` asks for; its answers have log-probabilities, and it may want a stream.
    pub fn new(
        endpoint: Endpoint,
        body: &GenerationBody,
        answer_log_probs: Option<u32>,
        streams: bool,
    ) -> Result<Self, ApiError> {
        let echo = body.echo == Some(true);
        if echo && endpoint == Endpoint::Chat {
            let message = "`echo` is for completions; see `continue_final_message`";
            return Err(ApiError::invalid("echo", message));
        }
        let refused = |message| Err(ApiError::invalid("prompt_logprobs", message));
        let prompt_log_probs = match body.prompt_logprobs.map(i64::from) {
            None => None,
            Some(_) if streams => {
                return refused("`prompt_logprobs` are not told in a stream".to_owned());
            }
            Some(asked) => match u32::try_from(asked) {
                Ok(count) if count <= PROMPT_LOG_PROBS => Some(count),
                _ => {
                    return refused(format!(
                        "prompt_logprobs is {asked}; give 0 to {PROMPT_LOG_PROBS}"
                    ));
                }
            },
        };
        let ids = body.return_token_ids == Some(true);
        Ok(Telling { ids, echo, answer_log_probs, prompt_log_probs, streams })
    }

    /// How many of the likeliest tokens an echo tells at each token of the prompt.
    fn echo_log_probs(&self) -> Option<u32> {
        self.answer_log_probs.filter(|_| self.echo)
    }

    /// How many of the likeliest tokens are looked for at each position of a prompt, if any are.
    fn scored(&self) -> Option<u32> {
        self.echo_log_probs().max(self.prompt_log_probs)
    }

    /// Bytes that what is told of `prompts` takes until the reply is sent, at most all there are.
    pub fn bytes(
        &self,
        tokenizer: &Tokenizer,
        prompts: &[Vec<u32>],
        samples: usize,
    ) -> Result<usize, ApiError> {
        let tokens: usize = prompts.iter().map(Vec::len).sum();
        let of_ids = if self.ids { tokens * samples * TOLD_ID_BYTES } else { 0 };
        let of_text = if self.echo {
            // The text, and a copy for each choice, itself and as JSON.
            let text: usize = prompts.iter().map(|ids| text_bytes(tokenizer, ids)).sum();
            text.saturating_mul(1 + 3 * samples)
        } else {
            0
        };
        let of_log_probs = self.scored().map_or(0, |top| tokens * samples * log_probs_bytes(top));
        let bytes = of_text.saturating_add(of_ids + of_log_probs);
        if bytes <= BODIES_BYTES_IN_FLIGHT {
            return Ok(bytes);
        }
        let param = match (self.prompt_log_probs, self.echo_log_probs()) {
            (Some(_), _) => "prompt_logprobs",
            (None, Some(_)) => "logprobs",
            (None, None) if self.echo => "echo",
            (None, None) => "return_token_ids",
        };
        let message = format!(
            "what is told of {tokens} prompt tokens, {samples} times, takes {bytes} bytes, more than \
             {BODIES_BYTES_IN_FLIGHT}; send fewer prompts"
        );
        Err(ApiError::invalid(param, message))
    }

    /// Bytes that what is told of answers of so many tokens takes beside their text until the reply is sent,
    /// at most those that prompts leave of all there are. A stream keeps nothing.
    pub fn answers_bytes(&self, of_prompts: usize, tokens: usize) -> Result<usize, ApiError> {
        if self.streams {
            return Ok(0);
        }
        let of_ids = if self.ids { tokens * TOLD_ID_BYTES } else { 0 };
        let bytes = of_ids + self.answer_log_probs.map_or(0, |top| tokens * log_probs_bytes(top));
        let most = BODIES_BYTES_IN_FLIGHT - of_prompts;
        if bytes <= most {
            return Ok(bytes);
        }
        let param = match self.answer_log_probs {
            Some(_) => "logprobs",
            None => "return_token_ids",
        };
        let message = format!(
            "what is told of answers of {tokens} tokens takes {bytes} bytes, more than {most}; set `stream` or \
             lower max_tokens"
        );
        Err(ApiError::invalid(param, message))
    }
}

/// Bytes of the log-probabilities at one position: of the token, and of the `top` likeliest.
fn log_probs_bytes(top: u32) -> usize {
    (top as usize + 1) * LOG_PROB_BYTES
}

/// Bytes of the text of `ids`, control tokens spelt out.
pub fn text_bytes(tokenizer: &Tokenizer, ids: &[u32]) -> usize {
    ids.iter().filter_map(|id| tokenizer.token_bytes(*id)).map(<[u8]>::len).sum()
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
            let echo_log_probs = telling.echo_log_probs().map(|count| count as usize);
            let echo = || Arc::new(Echo::new(self.tokenizer, ids, added, echo_log_probs));
            let shared = || Arc::from(ids.as_slice());
            ToldPrompt {
                ids: telling.ids.then(shared),
                echo: telling.echo.then(echo),
                scores: telling.scored().map(|count| PromptScores::new(ids.len(), count)),
                log_probs: telling.prompt_log_probs.map(|count| (count as usize, shared())),
            }
        };
        prompts.iter().enumerate().map(one).collect()
    }
}
