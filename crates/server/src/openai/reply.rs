//! What the answers of completions and chats have in common: usage, timings, stream chunks.

use bytes::Bytes;
use serde::Serialize;

use crate::answer::{Answer, Finish, Part};
use crate::openai::log_probs::{LogProbsBody, ScoredToken};
use crate::openai::prompt::ToldPrompt;
use crate::request_id::RequestId;

/// Which endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/completions`.
    Completions,
    /// `/v1/chat/completions`.
    Chat,
}

/// What a request cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of all prompts, each counted once whatever `n` is.
    pub prompt_tokens: u32,
    /// Tokens generated for all choices; those after a stop string are not counted.
    pub completion_tokens: u32,
    /// Their sum.
    pub total_tokens: u32,
    /// Known when every choice has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
}

/// Where the prompt's keys and values came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PromptTokensDetails {
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: u32,
}

/// How long the stages of a request took; our own addition to OpenAI's replies.
///
/// With several choices: from the earliest start to the latest end of each stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Timings {
    /// From submit to the first step, in milliseconds.
    pub queue_ms: f64,
    /// From the first step to the first token.
    pub prefill_ms: f64,
    /// From the first token to the end.
    pub decode_ms: f64,
    /// Prompt tokens found in the prefix cache.
    pub cached_prompt_tokens: u32,
}

/// What stands at the head of every reply and chunk.
#[derive(Debug, Clone)]
pub struct ReplyHead {
    /// Id of the reply.
    pub id: String,
    /// Unix time in seconds.
    pub created: u64,
    /// Name of the model.
    pub model: String,
    /// Id of the request, for the log: it stands in a header of the reply, not in its body.
    pub request_id: RequestId,
    /// The route that was asked, for the log.
    pub endpoint: String,
}

/// A whole choice.
#[derive(Debug)]
pub struct WholeAnswer {
    /// What it says.
    pub answer: Answer,
    /// Its tokens with their log-probabilities, if they were asked for.
    pub tokens: Option<Vec<ScoredToken>>,
    /// Ids of its tokens, if they were asked for.
    pub ids: Option<Vec<u32>>,
    /// What is told of its prompt.
    pub prompt: ToldPrompt,
}

/// One piece of a choice.
#[derive(Debug)]
pub struct Delta<'a> {
    /// Which choice.
    pub index: usize,
    /// Whether it is the choice's first piece.
    pub first: bool,
    /// What is new, if anything is.
    pub part: Option<&'a Part>,
    /// Log-probabilities of new tokens, if they were asked for.
    pub log_probs: Option<LogProbsBody<'a>>,
    /// Ids of new tokens, if they were asked for.
    pub ids: Option<&'a [u32]>,
    /// Set in the choice's last piece.
    pub finish: Option<Finish>,
}

/// What a chunk says besides its piece.
#[derive(Debug, Default)]
pub struct Extras {
    /// `usage`: absent, null or the figures.
    pub usage: UsageField,
    /// `timings` of the last chunk.
    pub timings: Option<Timings>,
    /// What a choice's first chunk tells of the prompt.
    pub prompt: ToldPrompt,
}

/// The `usage` field of a chunk.
#[derive(Debug, Default)]
pub enum UsageField {
    /// The client did not ask for usage.
    #[default]
    Absent,
    /// It comes in the last chunk.
    Null,
    /// So far, or in all.
    Figures(Usage),
}

/// Writes the chunks of one stream as server-sent events.
///
/// What does not change from chunk to chunk is written once, at the start of the stream; a chunk is
/// then a copy of it and the escaped text, in one allocation.
#[derive(Debug)]
pub struct ChunkWriter {
    endpoint: Endpoint,
    head: Vec<u8>,
}

/// Room for what a chunk has besides head and text, without usage: about 90 bytes.
const CHUNK_BYTES: usize = 128;

impl ChunkWriter {
    /// A writer for the stream of `endpoint` that begins with `head`.
    pub fn new(endpoint: Endpoint, head: &ReplyHead) -> Self {
        let object = match endpoint {
            Endpoint::Completions => "text_completion",
            Endpoint::Chat => "chat.completion.chunk",
        };
        let mut bytes = b"data: {\"id\":".to_vec();
        push_json(&mut bytes, &head.id);
        bytes.extend_from_slice(b",\"object\":\"");
        bytes.extend_from_slice(object.as_bytes());
        bytes.extend_from_slice(b"\",\"created\":");
        push_json(&mut bytes, &head.created);
        bytes.extend_from_slice(b",\"model\":");
        push_json(&mut bytes, &head.model);
        bytes.extend_from_slice(b",\"choices\":[");
        ChunkWriter { endpoint, head: bytes }
    }

    /// The chunk that carries `delta`.
    pub fn delta(&self, delta: &Delta<'_>, extras: &Extras) -> Bytes {
        let mut chunk = Vec::with_capacity(self.head.len() + text_len(delta.part) + CHUNK_BYTES);
        chunk.extend_from_slice(&self.head);
        chunk.extend_from_slice(b"{\"index\":");
        push_json(&mut chunk, &delta.index);
        match self.endpoint {
            Endpoint::Completions => {
                chunk.extend_from_slice(b",\"text\":");
                push_json(&mut chunk, content(delta.part));
            }
            Endpoint::Chat => {
                chunk.extend_from_slice(b",\"delta\":");
                push_delta(&mut chunk, delta);
            }
        }
        chunk.extend_from_slice(b",\"logprobs\":");
        push_json(&mut chunk, &delta.log_probs);
        chunk.extend_from_slice(b",\"finish_reason\":");
        push_json(&mut chunk, &delta.finish);
        if let Some(ids) = delta.ids {
            chunk.extend_from_slice(b",\"token_ids\":");
            push_json(&mut chunk, ids);
        }
        if self.endpoint == Endpoint::Completions {
            push_prompt(&mut chunk, &extras.prompt);
        }
        chunk.push(b'}');
        close(chunk, extras, self.endpoint)
    }

    /// The chunk without choices that carries usage and timings.
    pub fn without_choices(&self, extras: &Extras) -> Bytes {
        close(self.head.clone(), extras, self.endpoint)
    }
}

/// The text of a part that is content; all of a completion is.
fn content(part: Option<&Part>) -> &str {
    match part {
        Some(Part::Content(text)) => text,
        _ => "",
    }
}

fn text_len(part: Option<&Part>) -> usize {
    match part {
        Some(Part::Content(text) | Part::Reasoning(text) | Part::Arguments { text, .. }) => {
            text.len()
        }
        Some(Part::Call { name, .. }) => name.len(),
        None => 0,
    }
}

/// The `delta` of a chat's chunk.
fn push_delta(chunk: &mut Vec<u8>, delta: &Delta<'_>) {
    chunk.push(b'{');
    if delta.first {
        chunk.extend_from_slice(b"\"role\":\"assistant\",");
    }
    match delta.part {
        Some(Part::Reasoning(text)) => {
            chunk.extend_from_slice(b"\"reasoning_content\":");
            push_json(chunk, text);
        }
        Some(Part::Call { index, id, name }) => {
            let function = FunctionDelta { name: Some(name), arguments: "" };
            push_call(chunk, &CallDelta { index: *index, id: Some(id), kind: FUNCTION, function });
        }
        Some(Part::Arguments { index, text }) => {
            let function = FunctionDelta { name: None, arguments: text };
            push_call(chunk, &CallDelta { index: *index, id: None, kind: None, function });
        }
        Some(Part::Content(_)) | None => {
            chunk.extend_from_slice(b"\"content\":");
            push_json(chunk, content(delta.part));
        }
    }
    chunk.push(b'}');
}

fn push_call(chunk: &mut Vec<u8>, call: &CallDelta<'_>) {
    chunk.extend_from_slice(b"\"tool_calls\":[");
    push_json(chunk, call);
    chunk.push(b']');
}

const FUNCTION: Option<&str> = Some("function");

/// One of `tool_calls` in a chunk: the first one of a call has its id, type and name.
#[derive(Serialize)]
struct CallDelta<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionDelta<'a>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

/// Ends the list of choices, adds what is due and ends the event.
fn close(mut chunk: Vec<u8>, extras: &Extras, endpoint: Endpoint) -> Bytes {
    chunk.push(b']');
    if endpoint == Endpoint::Chat {
        push_prompt(&mut chunk, &extras.prompt);
    }
    match &extras.usage {
        UsageField::Absent => {}
        UsageField::Null => chunk.extend_from_slice(b",\"usage\":null"),
        UsageField::Figures(usage) => {
            chunk.extend_from_slice(b",\"usage\":");
            push_json(&mut chunk, usage);
        }
    }
    if let Some(timings) = &extras.timings {
        chunk.extend_from_slice(b",\"timings\":");
        push_json(&mut chunk, timings);
    }
    chunk.extend_from_slice(b"}\n\n");
    chunk.into()
}

/// What is told of a prompt: as vLLM has it, in a chat of the whole reply, in a completion of a choice.
fn push_prompt(chunk: &mut Vec<u8>, prompt: &ToldPrompt) {
    if let Some(ids) = &prompt.ids {
        chunk.extend_from_slice(b",\"prompt_token_ids\":");
        push_json(chunk, &ids[..]);
    }
}

/// A comment, which clients skip: the stream is alive and has nothing to tell.
pub fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

/// The end of a stream that has told everything.
pub fn done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}

/// The end of a stream that failed: `error` is an [`ApiError`](super::error::ApiError)'s body.
pub fn error_event(error: &[u8]) -> Bytes {
    [b"event: error\ndata: ".as_slice(), error, b"\n\n"].concat().into()
}

fn push_json<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(bytes, value).expect("a Vec takes every byte and figures are finite");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> ReplyHead {
        ReplyHead {
            id: "x-1".into(),
            created: 7,
            model: "m\"".into(),
            request_id: RequestId::of(None),
            endpoint: "/x".into(),
        }
    }

    #[test]
    fn a_chunk_is_one_event_with_escaped_text() {
        let part = Part::Content("a\"\n".to_owned());
        let delta = Delta {
            index: 1,
            first: true,
            part: Some(&part),
            log_probs: None,
            ids: None,
            finish: None,
        };
        let chunk =
            ChunkWriter::new(Endpoint::Completions, &head()).delta(&delta, &Extras::default());
        assert_eq!(
            std::str::from_utf8(&chunk).unwrap(),
            "data: {\"id\":\"x-1\",\"object\":\"text_completion\",\"created\":7,\"model\":\"m\\\"\",\
             \"choices\":[{\"index\":1,\"text\":\"a\\\"\\n\",\"logprobs\":null,\
             \"finish_reason\":null}]}\n\n"
        );
    }

    #[test]
    fn only_the_first_chat_chunk_names_the_role() {
        let writer = ChunkWriter::new(Endpoint::Chat, &head());
        let chunk = |first| {
            let part = Part::Content("a".to_owned());
            let finish = Some(Finish::Length);
            let delta =
                Delta { index: 0, first, part: Some(&part), log_probs: None, ids: None, finish };
            let bytes =
                writer.delta(&delta, &Extras { usage: UsageField::Null, ..Extras::default() });
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        assert!(chunk(true).contains(
            "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"a\"},\
             \"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":null}\n\n"
        ));
        assert!(chunk(false).contains("\"delta\":{\"content\":\"a\"}"));
    }

    #[test]
    fn each_kind_of_part_has_its_field() {
        let writer = ChunkWriter::new(Endpoint::Chat, &head());
        let delta = |part: Option<Part>| {
            let delta = Delta {
                index: 0,
                first: false,
                part: part.as_ref(),
                log_probs: None,
                ids: None,
                finish: None,
            };
            let chunk = String::from_utf8(writer.delta(&delta, &Extras::default()).to_vec());
            let chunk = chunk.unwrap();
            let (_, delta) = chunk.split_once("\"delta\":").unwrap();
            delta.split_once(",\"logprobs\"").unwrap().0.to_owned()
        };
        let (id, name) = ("i".to_owned(), "f".to_owned());
        for (part, expected) in [
            (None, r#"{"content":""}"#),
            (Some(Part::Reasoning("hm\n".to_owned())), r#"{"reasoning_content":"hm\n"}"#),
            (
                Some(Part::Call { index: 1, id, name }),
                r#"{"tool_calls":[{"index":1,"id":"i","type":"function","function":{"name":"f","arguments":""}}]}"#,
            ),
            (
                Some(Part::Arguments { index: 1, text: "{\"".to_owned() }),
                r#"{"tool_calls":[{"index":1,"function":{"arguments":"{\""}}]}"#,
            ),
        ] {
            assert_eq!(delta(part), expected);
        }
    }
}
