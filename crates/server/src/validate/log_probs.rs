//! How many log-probabilities a body asks for.

use crate::limits::{CHAT_LOG_PROBS, COMPLETION_LOG_PROBS};
use crate::openai::error::ApiError;
use crate::openai::integer::Integer;
use crate::openai::reply::Endpoint;
use crate::openai::types::{GenerationBody, LogProbsField};

/// How many of the likeliest tokens are wanted at each position beside the token itself; none if no
/// log-probabilities are.
///
/// A chat says `logprobs: true` and how many in `top_logprobs`, a completion how many in `logprobs`.
pub fn log_probs(endpoint: Endpoint, body: &GenerationBody) -> Result<Option<u32>, ApiError> {
    let top = body.top_logprobs.map(i64::from);
    let counted = match (endpoint, body.logprobs) {
        (_, None | Some(LogProbsField::Switch(false))) => None,
        (Endpoint::Chat, Some(LogProbsField::Switch(true))) => {
            Some(count("top_logprobs", top.unwrap_or(0), CHAT_LOG_PROBS)?)
        }
        (Endpoint::Chat, Some(LogProbsField::Count(Integer(count)))) => {
            let message =
                format!("logprobs is {count}; give true, and the number in `top_logprobs`");
            return Err(ApiError::invalid("logprobs", message));
        }
        (Endpoint::Completions, Some(LogProbsField::Count(Integer(asked)))) => {
            Some(count("logprobs", asked, COMPLETION_LOG_PROBS)?)
        }
        (Endpoint::Completions, Some(LogProbsField::Switch(true))) => {
            let message = format!("logprobs is true; give a number, 0 to {COMPLETION_LOG_PROBS}");
            return Err(ApiError::invalid("logprobs", message));
        }
    };
    match top {
        Some(top) if top != 0 && (counted.is_none() || endpoint == Endpoint::Completions) => {
            let instead = match endpoint {
                Endpoint::Chat => "`top_logprobs` needs `logprobs` to be true",
                Endpoint::Completions => {
                    "`top_logprobs` is for chats; give the number in `logprobs`"
                }
            };
            Err(ApiError::invalid("top_logprobs", instead))
        }
        _ => Ok(counted),
    }
}

fn count(param: &'static str, asked: i64, most: u32) -> Result<u32, ApiError> {
    match u32::try_from(asked) {
        Ok(count) if count <= most => Ok(count),
        _ => Err(ApiError::invalid(param, format!("{param} is {asked}; give 0 to {most}"))),
    }
}
