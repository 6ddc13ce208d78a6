//! Log-probabilities as the two endpoints spell them.
//!
//! A chat's entry has the token's bytes beside its text, in which bytes that are not whole characters
//! are U+FFFD. A completion has no place for bytes, so there such a token is spelt `bytes:\\xe2\\x82`,
//! as OpenAI does; so tokens of one position that differ have different names.

use std::borrow::Cow;
use std::sync::Arc;

use sampling::LogProbs;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use text::Tokenizer;

use crate::openai::prompt::ToldPrompt;

/// A token of an answer with its log-probabilities.
#[derive(Debug)]
pub struct ScoredToken {
    /// The token.
    pub id: u32,
    /// Characters of the answer before the first that the token has a part in.
    pub offset: u32,
    /// What the device gave with it; of the first token of a prompt there is nothing.
    pub log_probs: Option<Box<LogProbs>>,
}

impl ScoredToken {
    /// Those of a prompt with which answers begin, if its log-probabilities are told.
    pub fn of_prompt(prompt: &ToldPrompt) -> Vec<Self> {
        let (Some(echo), Some(scores)) = (&prompt.echo, &prompt.scores) else { return Vec::new() };
        let Some(top) = echo.log_probs else { return Vec::new() };
        let of = |mut log_probs: LogProbs| {
            log_probs.top.truncate(top);
            Some(Box::new(log_probs))
        };
        let scores = std::iter::once(None).chain(scores.all().into_iter().map(of));
        let tokens = echo.tokens.iter().zip(scores);
        tokens.map(|(&(id, offset), log_probs)| ScoredToken { id, offset, log_probs }).collect()
    }
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
        let entry = |token: &ScoredToken| {
            let log_probs = token.log_probs.as_ref()?;
            Some(ChatToken {
                token: candidate(token.id, log_probs.token),
                top_logprobs: log_probs.top.iter().map(|&(id, log)| candidate(id, log)).collect(),
            })
        };
        ChatLogProbs { content: tokens.iter().filter_map(entry).collect(), refusal: () }
    }
}

/// `logprobs` of a choice or a chunk of `/v1/completions`.
#[derive(Debug, Serialize)]
pub struct CompletionLogProbs<'a> {
    tokens: Vec<Cow<'a, str>>,
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<TopLogProbs<'a>>>,
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
            let LogProbs { token: own, top, .. } = token.log_probs.as_deref()?;
            let mut named: Vec<_> =
                top.iter().map(|&(id, log)| (name(tokenizer, id), log)).collect();
            if top.iter().all(|(id, _)| *id != token.id) {
                named.push((name(tokenizer, token.id), *own));
            }
            Some(TopLogProbs(named))
        };
        let own = |token: &ScoredToken| token.log_probs.as_ref().map(|log_probs| log_probs.token);
        CompletionLogProbs {
            tokens: tokens.iter().map(|token| name(tokenizer, token.id)).collect(),
            token_logprobs: tokens.iter().map(own).collect(),
            top_logprobs: tokens.iter().map(top).collect(),
            text_offset: tokens.iter().map(|token| token.offset).collect(),
        }
    }
}

/// `prompt_logprobs`, as vLLM has it: null for the first token, for each other one an object of tokens by
/// their ids, itself first.
#[derive(Debug)]
pub struct PromptLogProbs<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Arc<[u32]>,
    scores: Vec<LogProbs>,
    top: usize,
}

impl<'a> PromptLogProbs<'a> {
    /// Those of a prompt that is computed, if they are told.
    pub fn new(tokenizer: &'a Tokenizer, prompt: &ToldPrompt) -> Option<Self> {
        let (top, tokens) = prompt.log_probs.clone()?;
        let scores = prompt.scores.as_ref()?.all();
        Some(PromptLogProbs { tokenizer, tokens, scores, top })
    }
}

impl Serialize for PromptLogProbs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.tokens.len()))?;
        list.serialize_element(&())?;
        for (&id, score) in self.tokens.iter().skip(1).zip(&self.scores) {
            let top = &score.top[..score.top.len().min(self.top)];
            list.serialize_element(&PromptToken { tokenizer: self.tokenizer, id, score, top })?;
        }
        list.end()
    }
}

struct PromptToken<'a> {
    tokenizer: &'a Tokenizer,
    id: u32,
    score: &'a LogProbs,
    top: &'a [(u32, f32)],
}

#[derive(Serialize)]
struct Candidate<'a> {
    logprob: f32,
    rank: u32,
    decoded_token: Cow<'a, str>,
}

impl Serialize for PromptToken<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let candidate = |id, logprob, rank| {
            let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
            Candidate { logprob, rank, decoded_token: String::from_utf8_lossy(bytes) }
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(&self.id, &candidate(self.id, self.score.token, self.score.rank))?;
        for (rank, &(id, logprob)) in (1..).zip(self.top).filter(|(_, (id, _))| *id != self.id) {
            map.serialize_entry(&id, &candidate(id, logprob, rank))?;
        }
        map.end()
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
