//! Bodies of `/v1/embeddings`.

use engine::{AdapterId, CacheSalt, Request, SchedulingPolicy, SubmitError, Tenant, TokenId};
use grammar::Guided;
use sampling::{Pool, Pooling, SamplingParams};

use super::{Door, Prompting, priority, tenant};
use crate::limits::{BODIES_BYTES_IN_FLIGHT, EMBEDDING_INPUTS, EMBEDDING_NUMBER_BYTES};
use crate::openai::embeddings::{EmbeddingBody, EncodingFormat};
use crate::openai::error::ApiError;
use crate::openai::reply::Endpoint;
use crate::openai::types::PromptItem;

/// A body of `/v1/embeddings` that can be served.
#[derive(Debug)]
pub struct Inputs {
    /// What to embed; each fits the engine.
    pub prompts: Vec<Vec<TokenId>>,
    /// Numbers of each vector.
    pub dimensions: usize,
    /// How they are written.
    pub format: EncodingFormat,
    /// The adapter that they take.
    pub adapter: Option<AdapterId>,
    /// Whose they are.
    pub tenant: Tenant,
    /// A lower number goes first.
    pub priority: i32,
    /// Bytes that they take until they are sent, at most.
    pub bytes: usize,
}

impl Inputs {
    /// The engine's view of one prompt: it is computed, and `pool` gets the vector.
    pub fn request(
        &self,
        prompt: Vec<TokenId>,
        pooling: Pooling,
        pool: &Pool,
    ) -> Request<Guided<SamplingParams>> {
        Request {
            prompt,
            // The engine ends requests with a token. Nobody sees this one.
            max_tokens: 1,
            min_tokens: 0,
            stop_tokens: Vec::new(),
            priority: self.priority,
            tenant: self.tenant,
            // A mean is of every position.
            use_prefix_cache: pooling == Pooling::Last,
            cache_salt: CacheSalt::default(),
            adapter: self.adapter,
            params: SamplingParams::pooled(pool.clone()).into(),
        }
    }
}

impl Door<'_> {
    /// Checks a body of `/v1/embeddings`, for a model whose vectors have `width` numbers.
    pub fn embeddings(&self, body: &EmbeddingBody, width: usize) -> Result<Inputs, ApiError> {
        let refused = [
            ("messages", &body.messages),
            ("truncate_prompt_tokens", &body.truncate_prompt_tokens),
        ];
        for (name, value) in refused {
            if value.is_some() {
                let message = format!("`{name}` is not supported by this server; leave it out");
                return Err(ApiError::invalid(name, message));
            }
        }
        let adapter = self.model(body.model.as_deref())?;
        let tenant = self.caller.tenant_or(tenant(body.user.as_deref())?);
        let priority = priority(body.priority.map(i64::from))?;
        if priority != 0 && self.limits.scheduling_policy != SchedulingPolicy::Priority {
            let refusal = SubmitError::PriorityUnused { priority };
            return Err(ApiError::invalid("priority", refusal.to_string()));
        }
        let dimensions = dimensions(body.dimensions.map(i64::from), width)?;
        let Some(input) = &body.input else {
            return Err(ApiError::invalid("input", "`input` is missing"));
        };
        if !(1..=EMBEDDING_INPUTS).contains(&input.0.len()) {
            let message = format!("{} inputs; give 1 to {EMBEDDING_INPUTS}", input.0.len());
            return Err(ApiError::invalid("input", message));
        }
        let bytes = reply_bytes(input.0.len(), dimensions)?;
        let special_tokens = body.add_special_tokens != Some(false);
        let mut prompts = Vec::with_capacity(input.0.len());
        for (index, item) in input.0.iter().enumerate() {
            let param = if input.0.len() == 1 { "input".into() } else { format!("input[{index}]") };
            prompts.push(self.input(&param, item, special_tokens)?);
        }
        let format = body.encoding_format.unwrap_or_default();
        Ok(Inputs { prompts, dimensions, format, adapter, tenant, priority, bytes })
    }

    fn input(
        &self,
        param: &str,
        item: &PromptItem,
        special_tokens: bool,
    ) -> Result<Vec<TokenId>, ApiError> {
        let ids = match item {
            PromptItem::Text(text) => {
                let usual = Prompting::usual(Endpoint::Completions, self.limits.longest() as usize);
                let prompting = Prompting { special_tokens, ..usual };
                self.text_prompt(text, &prompting).map_err(|error| match error {
                    ApiError::ContextLength { message, .. } => {
                        ApiError::ContextLength { param: "input", message }
                    }
                    other => other.about(param),
                })?
            }
            PromptItem::Ids(ids) => {
                let check = |(index, id): (usize, &i64)| self.token(param, index, *id);
                ids.iter().enumerate().map(check).collect::<Result<_, _>>()?
            }
        };
        if ids.is_empty() {
            return Err(ApiError::invalid(param, "the input has no tokens; give at least one"));
        }
        let longest = self.limits.longest().saturating_sub(1) as usize;
        if longest < ids.len() {
            let count = ids.len();
            let message = format!(
                "{param} is too long: this model's maximum context length leaves {longest} tokens \
                 to an input, and it has {count}; shorten it"
            );
            return Err(ApiError::ContextLength { param: "input", message });
        }
        Ok(ids.into_iter().map(TokenId).collect())
    }
}

fn dimensions(asked: Option<i64>, width: usize) -> Result<usize, ApiError> {
    let Some(asked) = asked else { return Ok(width) };
    match usize::try_from(asked) {
        Ok(dimensions) if (1..=width).contains(&dimensions) => Ok(dimensions),
        _ => {
            let message = format!("dimensions is {asked}; give 1 to {width}, the model's width");
            Err(ApiError::invalid("dimensions", message))
        }
    }
}

/// The most bytes that so many vectors take until they are sent.
fn reply_bytes(inputs: usize, dimensions: usize) -> Result<usize, ApiError> {
    let vector = dimensions * EMBEDDING_NUMBER_BYTES;
    if BODIES_BYTES_IN_FLIGHT < inputs * vector {
        let most = BODIES_BYTES_IN_FLIGHT / vector;
        let message = format!(
            "{inputs} inputs make vectors of {dimensions} numbers each, more than there is room for; \
             give at most {most}, or ask for fewer dimensions"
        );
        return Err(ApiError::invalid("input", message));
    }
    Ok(inputs * vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_that_never_find_room_are_refused() {
        let widest = BODIES_BYTES_IN_FLIGHT / EMBEDDING_NUMBER_BYTES / EMBEDDING_INPUTS;
        assert!(reply_bytes(EMBEDDING_INPUTS, widest).is_ok());
        let refusal = reply_bytes(EMBEDDING_INPUTS, widest + 1).unwrap_err().to_string();
        assert!(refusal.contains("give at most 2047"), "{refusal}");
    }
}
