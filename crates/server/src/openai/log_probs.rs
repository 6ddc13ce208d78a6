//! Log-probabilities as the two endpoints spell them.
//!
//! A chat's entry has the token's bytes beside its text, in which bytes that are not whole characters
//! are U+FFFD. A completion has no place for bytes, so there such a token is spelt `bytes:\\xe2\\x82`,
//! as OpenAI does; so tokens of one position that differ have different names.

use std::borrow::Cow;
use std::sync::Arc;

use sampling::LogProbs;
use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};
use text::Tokenizer;

use crate::openai::prompt::ToldPrompt;

/// A token of an answer with its log-probabilities.
#[derive(Debug, Clone)]
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

/// `logprobs` of a choice or a chunk of `/v1/chat/completions`, written token by token.
#[derive(Debug)]
pub struct ChatLogProbs<'a>(Tokens<'a>);

/// `logprobs` of a choice or a chunk of `/v1/completions`, written token by token.
#[derive(Debug)]
pub struct CompletionLogProbs<'a>(Tokens<'a>);

#[derive(Debug)]
struct Tokens<'a> {
    tokenizer: &'a Tokenizer,
    scored: Cow<'a, [ScoredToken]>,
}

impl Tokens<'_> {
    /// A list of what `entry` makes of each token that it makes something of.
    fn list<'t, T>(&'t self, entry: Entry<'t, T>) -> List<'t, T> {
        List { tokenizer: self.tokenizer, scored: &self.scored, entry }
    }
}

type Entry<'t, T> = fn(&'t Tokenizer, &'t ScoredToken) -> Option<T>;

struct List<'t, T> {
    tokenizer: &'t Tokenizer,
    scored: &'t [ScoredToken],
    entry: Entry<'t, T>,
}

impl<T: Serialize> Serialize for List<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = self.scored.iter().filter_map(|token| (self.entry)(self.tokenizer, token));
        serializer.collect_seq(entries)
    }
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
    /// The entries of `scored`.
    pub fn new(tokenizer: &'a Tokenizer, scored: impl Into<Cow<'a, [ScoredToken]>>) -> Self {
        ChatLogProbs(Tokens { tokenizer, scored: scored.into() })
    }
}

impl Serialize for ChatLogProbs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("logprobs", 2)?;
        fields.serialize_field("content", &self.0.list(ChatToken::new))?;
        // There is no separate text of a refusal.
        fields.serialize_field("refusal", &())?;
        fields.end()
    }
}

impl<'a> ChatToken<'a> {
    fn new(tokenizer: &'a Tokenizer, token: &'a ScoredToken) -> Option<Self> {
        let candidate = |id, logprob| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            ChatCandidate { token: String::from_utf8_lossy(bytes), logprob, bytes }
        };
        let log_probs = token.log_probs.as_ref()?;
        Some(ChatToken {
            token: candidate(token.id, log_probs.token),
            top_logprobs: log_probs.top.iter().map(|&(id, log)| candidate(id, log)).collect(),
        })
    }
}

/// Names and log-probabilities of one position: the likeliest tokens, and the token itself.
#[derive(Debug)]
struct TopLogProbs<'a>(Vec<(Cow<'a, str>, f32)>);

impl<'a> TopLogProbs<'a> {
    fn new(tokenizer: &'a Tokenizer, token: &ScoredToken) -> Option<Self> {
        let LogProbs { token: own, top, .. } = token.log_probs.as_deref()?;
        let mut named: Vec<_> = top.iter().map(|&(id, log)| (name(tokenizer, id), log)).collect();
        if top.iter().all(|(id, _)| *id != token.id) {
            named.push((name(tokenizer, token.id), *own));
        }
        Some(TopLogProbs(named))
    }
}

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
    /// The entries of `scored`.
    pub fn new(tokenizer: &'a Tokenizer, scored: impl Into<Cow<'a, [ScoredToken]>>) -> Self {
        CompletionLogProbs(Tokens { tokenizer, scored: scored.into() })
    }
}

impl Serialize for CompletionLogProbs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tokens = &self.0;
        let mut fields = serializer.serialize_struct("logprobs", 4)?;
        let names = tokens.list(|tokenizer, token| Some(name(tokenizer, token.id)));
        fields.serialize_field("tokens", &names)?;
        let own = tokens.list(|_, token| Some(token.log_probs.as_ref().map(|own| own.token)));
        fields.serialize_field("token_logprobs", &own)?;
        let top = tokens.list(|tokenizer, token| Some(TopLogProbs::new(tokenizer, token)));
        fields.serialize_field("top_logprobs", &top)?;
        fields.serialize_field("text_offset", &tokens.list(|_, token| Some(token.offset)))?;
        fields.end()
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
