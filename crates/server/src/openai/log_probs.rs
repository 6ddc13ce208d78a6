//! Log-probabilities as the two endpoints spell them.
//!
//! A chat's entry has the token's bytes beside its text, in which bytes that are not whole characters
//! are U+FFFD. A completion has no place for bytes, so there such a token is spelt `bytes:\\xe2\\x82`,
//! as OpenAI does; so tokens of one position that differ have different names.

use std::borrow::Cow;

use sampling::LogProbs;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use text::Tokenizer;

/// A token of an answer with its log-probabilities.
#[derive(Debug)]
pub struct ScoredToken {
    /// The token.
    pub id: u32,
    /// Characters of the answer before the first that the token has a part in.
    pub offset: u32,
    /// What the device gave with it.
    pub log_probs: Box<LogProbs>,
}

/// `logprobs` of a chunk.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum LogProbsBody<'a> {
    /// Of a chat.
    Chat(ChatLogProbs<'a>),
    /// Of a completion.
    Completion(CompletionLogProbs<'a>),
}

/// `logprobs` of a choice or a chunk of `/v1/chat/completions`.
#[derive(Debug, Serialize)]
pub struct ChatLogProbs<'a> {
    content: Vec<ChatToken<'a>>,
    /// Always null: there is no separate text of a refusal.
    refusal: (),
}

#[derive(Debug, Serialize)]
struct ChatToken<'a> {
    #[serde(flatten)]
    token: ChatCandidate<'a>,
    top_logprobs: Vec<ChatCandidate<'a>>,
}

#[derive(Debug, Serialize)]
struct ChatCandidate<'a> {
    token: Cow<'a, str>,
    logprob: f32,
    bytes: &'a [u8],
}

impl<'a> ChatLogProbs<'a> {
    /// The entries of `tokens`.
    pub fn new(tokenizer: &'a Tokenizer, tokens: &[ScoredToken]) -> Self {
        let candidate = |id, logprob| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            ChatCandidate { token: String::from_utf8_lossy(bytes), logprob, bytes }
        };
        let entry = |token: &ScoredToken| ChatToken {
            token: candidate(token.id, token.log_probs.token),
            top_logprobs: token.log_probs.top.iter().map(|&(id, log)| candidate(id, log)).collect(),
        };
        ChatLogProbs { content: tokens.iter().map(entry).collect(), refusal: () }
    }
}

/// `logprobs` of a choice or a chunk of `/v1/completions`.
#[derive(Debug, Serialize)]
pub struct CompletionLogProbs<'a> {
    tokens: Vec<Cow<'a, str>>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<TopLogProbs<'a>>,
    text_offset: Vec<u32>,
}

/// Names and log-probabilities of one position: the likeliest tokens, and the token itself.
#[derive(Debug)]
struct TopLogProbs<'a>(Vec<(Cow<'a, str>, f32)>);

impl Serialize for TopLogProbs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, log_prob) in &self.0 {
            map.serialize_entry(name, log_prob)?;
        }
        map.end()
    }
}

impl<'a> CompletionLogProbs<'a> {
    /// The entries of `tokens`.
    pub fn new(tokenizer: &'a Tokenizer, tokens: &[ScoredToken]) -> Self {
        let top = |token: &ScoredToken| {
            let LogProbs { token: own, top, .. } = &*token.log_probs;
            let mut named: Vec<_> =
                top.iter().map(|&(id, log)| (name(tokenizer, id), log)).collect();
            if top.iter().all(|(id, _)| *id != token.id) {
                named.push((name(tokenizer, token.id), *own));
            }
            TopLogProbs(named)
        };
        CompletionLogProbs {
            tokens: tokens.iter().map(|token| name(tokenizer, token.id)).collect(),
            token_logprobs: tokens.iter().map(|token| token.log_probs.token).collect(),
            top_logprobs: tokens.iter().map(top).collect(),
            text_offset: tokens.iter().map(|token| token.offset).collect(),
        }
    }
}

/// A token's name in a completion.
fn name(tokenizer: &Tokenizer, id: u32) -> Cow<'_, str> {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            Cow::Owned(format!("bytes:{escaped}"))
        }
    }
}
