//! From the bytes of an answer to what is kept of it.

use serde::Deserialize;
use workload::record::{ServerTimings, Status, TokenChunk};

use crate::client::RawAnswer;
use crate::sse::events;

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) first_token_ns: Option<u64>,
    pub(crate) last_token_ns: Option<u64>,
    pub(crate) prompt_tokens: Option<u32>,
    pub(crate) completion_tokens: Option<u32>,
    /// Chunks that carried tokens.
    pub(crate) chunks: Vec<TokenChunk>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) timings: Option<ServerTimings>,
    /// Whether the stream said that it was over.
    ended: bool,
    /// The server's error message, or what could not be read.
    error: Option<String>,
    /// When the first chunk came that might have carried a token without text.
    first_choice_ns: Option<u64>,
}

/// Reads the stream of one completion and decides how the request ended.
pub(crate) fn read(answer: &RawAnswer) -> (Reading, Status) {
    let mut reading = Reading::default();
    if answer.status == Some(200) {
        let mut reads = answer.reads.iter();
        let mut read = reads.next();
        for event in events(&answer.bytes) {
            while read.is_some_and(|(_, end)| *end < event.end) {
                read = reads.next();
            }
            let (at_ns, _) = read.expect("the last read ends where the body ends");
            reading.take(*at_ns, &event.data);
        }
        reading.settle_first_token();
    }
    let status = match failure(answer, &reading) {
        Some(message) if answer.status.is_some_and(is_refusal) => Status::Refused(message),
        Some(message) => Status::Failed(message),
        None => Status::Ok,
    };
    (reading, status)
}

/// The text of an answer that came whole; none otherwise.
pub(crate) fn text(answer: &RawAnswer) -> Option<String> {
    let (_, Status::Ok) = read(answer) else { return None };
    let chunks = events(&answer.bytes).filter_map(|event| serde_json::from_slice(&event.data).ok());
    let choices = chunks.filter_map(|chunk: Chunk| chunk.choices?.into_iter().next());
    let pieces = choices
        .filter_map(|choice| choice.text.or_else(|| choice.delta.and_then(|delta| delta.content)));
    Some(pieces.collect())
}

/// Whether a server says with this HTTP status that it takes no more for now.
fn is_refusal(status: u16) -> bool {
    matches!(status, 429 | 503)
}

/// What is wrong with the answer, the cause before its effects.
fn failure(answer: &RawAnswer, reading: &Reading) -> Option<String> {
    match answer.status {
        None => return answer.broken.clone().or_else(|| Some("no answer came".to_owned())),
        Some(200) => {}
        Some(status) => return Some(format!("HTTP {status}: {}", excerpt(&answer.bytes))),
    }
    if let Some(message) = &reading.error {
        return Some(message.clone());
    }
    if let Some(broken) = &answer.broken {
        return Some(broken.clone());
    }
    if !reading.ended && reading.finish_reason.is_none() {
        let text = excerpt(&answer.bytes);
        return Some(format!("the stream ended without [DONE] or a finish_reason: {text}"));
    }
    reading.first_token_ns.is_none().then(|| "the answer has no token".to_owned())
}

/// The beginning of an answer, for messages.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    const CHARACTERS: usize = 200;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * CHARACTERS)]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(CHARACTERS).collect()
}

impl Reading {
    /// Takes in the event with `data`, complete at `at_ns`.
    fn take(&mut self, at_ns: u64, data: &[u8]) {
        if self.ended || self.error.is_some() {
            return;
        }
        if data == b"[DONE]" {
            self.ended = true;
            return;
        }
        let chunk: Chunk = match serde_json::from_slice(data) {
            Ok(chunk) => chunk,
            Err(error) => {
                self.error = Some(format!("unreadable chunk ({error}): {}", excerpt(data)));
                return;
            }
        };
        if let Some(error) = chunk.error {
            self.error = Some(format!("error in the stream: {}", error_text(&error)));
            return;
        }
        self.take_chunk(at_ns, &chunk);
    }

    fn take_chunk(&mut self, at_ns: u64, chunk: &Chunk) {
        let choices = chunk.choices.as_deref().unwrap_or_default();
        let counted = chunk.usage.as_ref().and_then(|usage| usage.completion_tokens);
        // A count that rises on a chunk with choices tells of a token, even of one without text.
        let counts_up = !choices.is_empty() && self.completion_tokens < counted;
        if choices.iter().any(Choice::has_text) || (counts_up && counted != Some(0)) {
            let before = self.completion_tokens.unwrap_or(0);
            let tokens = counted.and_then(|counted| counted.checked_sub(before));
            self.chunks.push(TokenChunk { at_ns, tokens });
            self.first_token_ns.get_or_insert(at_ns);
            self.last_token_ns = Some(at_ns);
        }
        if choices.iter().any(|choice| !choice.only_names_a_role()) {
            self.first_choice_ns.get_or_insert(at_ns);
        }
        if let Some(usage) = &chunk.usage {
            self.prompt_tokens = usage.prompt_tokens.or(self.prompt_tokens);
            self.completion_tokens = counted.or(self.completion_tokens);
        }
        if let Some(reason) = choices.iter().find_map(|choice| choice.finish_reason.as_ref()) {
            // It comes with the last token or right behind it; the text of the last tokens may be
            // empty, since end tokens are not shown.
            self.finish_reason = Some(reason.clone());
            self.last_token_ns = Some(at_ns);
        }
        if let Some(timings) = server_timings(chunk) {
            self.timings = Some(timings);
        }
    }

    /// Tokens that had no text at all still came: with the first chunk that could have held one.
    fn settle_first_token(&mut self) {
        if self.first_token_ns.is_none() && self.completion_tokens.is_some_and(|n| 0 < n) {
            self.first_token_ns = self.first_choice_ns;
        }
        if self.first_token_ns.is_none() {
            self.last_token_ns = None;
        }
    }
}

fn server_timings(chunk: &Chunk) -> Option<ServerTimings> {
    let details = chunk.usage.as_ref().and_then(|usage| usage.prompt_tokens_details.as_ref());
    let cached = details.and_then(|details| details.cached_tokens);
    match (&chunk.timings, cached) {
        (None, None) => None,
        (None, cached_prompt_tokens) => Some(ServerTimings {
            queue_ms: None,
            prefill_ms: None,
            decode_ms: None,
            cached_prompt_tokens,
        }),
        (Some(timings), cached) => Some(ServerTimings {
            queue_ms: timings.queue_ms,
            prefill_ms: timings.prefill_ms,
            decode_ms: timings.decode_ms,
            cached_prompt_tokens: timings.cached_prompt_tokens.or(cached),
        }),
    }
}

/// `{"message": "…"}` or whatever else the server calls an error.
fn error_text(error: &serde_json::Value) -> String {
    match error.get("message").and_then(|message| message.as_str()) {
        Some(message) => message.to_owned(),
        None => excerpt(error.to_string().as_bytes()),
    }
}

/// A chunk of `/v1/completions` or `/v1/chat/completions`: only what is looked at.
#[derive(Debug, Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    timings: Option<Timings>,
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    role: Option<String>,
    content: Option<String>,
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u32>,
}

/// Times of one request by the names of millrace, vLLM and llama-server.
#[derive(Debug, Deserialize)]
struct Timings {
    #[serde(alias = "queue_time_ms")]
    queue_ms: Option<f64>,
    #[serde(alias = "prefill_time_ms", alias = "prompt_ms")]
    prefill_ms: Option<f64>,
    #[serde(alias = "decode_time_ms", alias = "predicted_ms")]
    decode_ms: Option<f64>,
    #[serde(alias = "cache_n")]
    cached_prompt_tokens: Option<u32>,
}

impl Choice {
    fn has_text(&self) -> bool {
        let some = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let delta = self.delta.as_ref();
        some(&self.text)
            || delta.is_some_and(|delta| {
                some(&delta.content)
                    || some(&delta.reasoning_content)
                    || delta.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty())
            })
    }

    fn only_names_a_role(&self) -> bool {
        let names_role = self.delta.as_ref().is_some_and(|delta| delta.role.is_some());
        names_role && !self.has_text() && self.finish_reason.is_none()
    }
}

#[cfg(test)]
mod tests;
