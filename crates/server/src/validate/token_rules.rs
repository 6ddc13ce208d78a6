//! What a body says about single tokens.

use sampling::SamplingRequest;
use text::ControlTokens;

use super::Door;
use crate::limits::{ALLOWED_TOKENS, BAD_WORD_BYTES, BAD_WORDS, LOGIT_BIAS_MAX, LOGIT_BIASES};
use crate::openai::error::ApiError;
use crate::openai::types::GenerationBody;

/// The field that leaves fewest tokens to choose from, but for what the answer must look like.
pub(super) fn masked_by(body: &GenerationBody) -> Option<&'static str> {
    let fields = [
        ("allowed_token_ids", body.allowed_token_ids.is_some()),
        ("bad_words", body.bad_words.is_some()),
    ];
    fields.into_iter().find_map(|(field, is_given)| is_given.then_some(field))
}

impl Door<'_> {
    /// Biases, allowed tokens and banned sequences of `body`, in a request of which all else is what counts
    /// where a body says nothing.
    /// An answer that is `guided` by a grammar ends where that says so, so its end tokens are allowed, too.
    pub(super) fn token_rules(
        &self,
        body: &GenerationBody,
        guided: bool,
    ) -> Result<SamplingRequest, ApiError> {
        let mut allowed_tokens = self.allowed_tokens(body.allowed_token_ids.as_deref())?;
        if guided && !allowed_tokens.is_empty() {
            allowed_tokens.extend(self.tokenizer.end_tokens());
        }
        Ok(SamplingRequest {
            logit_bias: self.logit_bias(body)?,
            allowed_tokens,
            bad_words: self.bad_words(body.bad_words.as_deref().unwrap_or_default())?,
            ..self.sampling.clone()
        })
    }

    fn logit_bias(&self, body: &GenerationBody) -> Result<Vec<(u32, f32)>, ApiError> {
        let refused = |message| Err(ApiError::invalid("logit_bias", message));
        let Some(biases) = &body.logit_bias else { return Ok(Vec::new()) };
        if LOGIT_BIASES < biases.len() {
            return refused(format!("{} tokens, more than {LOGIT_BIASES}", biases.len()));
        }
        let count = self.tokenizer.vocabulary_len();
        let mut checked = Vec::with_capacity(biases.len());
        for (name, &bias) in biases {
            let Some(id) = name.parse().ok().filter(|id: &u32| (*id as usize) < count) else {
                let name: String = name.chars().take(32).collect();
                return refused(format!("`{name}` is no token id of the vocabulary 0..{count}"));
            };
            if !(-LOGIT_BIAS_MAX..=LOGIT_BIAS_MAX).contains(&bias) {
                let message = format!("the bias of token {id} is {bias}; give -100 to 100");
                return refused(message);
            }
            checked.push((id, bias as f32));
        }
        Ok(checked)
    }

    fn allowed_tokens(&self, ids: Option<&[i64]>) -> Result<Vec<u32>, ApiError> {
        let Some(ids) = ids else { return Ok(Vec::new()) };
        if !(1..=ALLOWED_TOKENS).contains(&ids.len()) {
            let message = format!("{} tokens; give 1 to {ALLOWED_TOKENS}", ids.len());
            return Err(ApiError::invalid("allowed_token_ids", message));
        }
        let check = |(index, id): (usize, &i64)| self.token("allowed_token_ids", index, *id);
        ids.iter().enumerate().map(check).collect()
    }

    /// Each word with and without a space before it, as a word of a text is spelt either way.
    fn bad_words(&self, words: &[String]) -> Result<Vec<Vec<u32>>, ApiError> {
        let at = |index: usize| format!("bad_words[{index}]");
        if BAD_WORDS < words.len() {
            let message = format!("{} words, more than {BAD_WORDS}", words.len());
            return Err(ApiError::invalid("bad_words", message));
        }
        let mut sequences = Vec::with_capacity(2 * words.len());
        for (index, word) in words.iter().enumerate() {
            if !(1..=BAD_WORD_BYTES).contains(&word.len()) {
                let message = format!("{} bytes; give 1 to {BAD_WORD_BYTES}", word.len());
                return Err(ApiError::invalid(at(index), message));
            }
            let bare = match word.trim_start() {
                "" => word,
                bare => bare,
            };
            for spelt in [bare.to_owned(), format!(" {bare}")] {
                let ids = self.tokenizer.encode(&spelt, ControlTokens::Parse);
                let ids = ids.map_err(|e| ApiError::invalid(at(index), e.to_string()))?;
                if ids.is_empty() {
                    return Err(ApiError::invalid(at(index), "the word has no tokens"));
                }
                sequences.push(ids);
            }
        }
        Ok(sequences)
    }
}
