//! The reply of `/v1/messages`.

use serde::Serialize;
use text::JsonObject;

use crate::answer::{Answer, Block, Call, Finish};
use crate::openai::reply::{ReplyHead, Usage};

use super::translate::input;

/// A whole reply, or one that begins.
#[derive(Debug, Serialize)]
pub struct Message {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: String,
    content: Vec<ContentBlock>,
    /// Null until the answer has ended, as is `stop_sequence`.
    stop_reason: Option<&'static str>,
    stop_sequence: Option<String>,
    usage: MessageUsage,
}

/// A block of a reply.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentBlock {
    /// What is said.
    Text {
        /// The text.
        text: String,
    },
    /// Thoughts.
    Thinking {
        /// The text.
        thinking: String,
        /// Anthropic's proof of who wrote them: empty, since there is none.
        signature: &'static str,
    },
    /// A call of a function.
    ToolUse {
        /// Its id.
        id: String,
        /// The function.
        name: String,
        /// What it is given.
        input: JsonObject,
    },
}

/// Why an answer ended.
#[derive(Debug, Serialize)]
pub struct Stop {
    /// `end_turn`, `max_tokens`, `stop_sequence` or `tool_use`.
    pub stop_reason: &'static str,
    /// The stop string that was found.
    pub stop_sequence: Option<String>,
}

/// Tokens.
#[derive(Debug, Serialize)]
pub struct MessageUsage {
    /// Of the prompt, without those found in the cache.
    input_tokens: u32,
    /// Nothing is asked to be kept, everything is.
    cache_creation_input_tokens: u32,
    /// Of the prompt, found in the prefix cache.
    cache_read_input_tokens: u32,
    /// Of the answer.
    output_tokens: u32,
}

impl Message {
    /// A reply that begins.
    pub fn begun(head: &ReplyHead, usage: Usage) -> Self {
        Message {
            id: head.id.clone(),
            kind: "message",
            role: "assistant",
            model: head.model.clone(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: usage.into(),
        }
    }

    /// The reply with `answer`; `stop_string` ended it, if one did.
    pub fn new(head: &ReplyHead, answer: &Answer, stop_string: Option<&str>, usage: Usage) -> Self {
        let Stop { stop_reason, stop_sequence } = Stop::new(answer, answer.finish, stop_string);
        Message {
            content: answer.blocks.iter().map(ContentBlock::from).collect(),
            stop_reason: Some(stop_reason),
            stop_sequence,
            ..Self::begun(head, usage)
        }
    }
}

impl Stop {
    /// Of an answer that ended with `finish`, by `stop_string` if there was one.
    pub fn new(answer: &Answer, finish: Finish, stop_string: Option<&str>) -> Self {
        let stop_reason = match finish {
            Finish::Length => "max_tokens",
            _ if stop_string.is_some() => "stop_sequence",
            _ if answer.calls().next().is_some() => "tool_use",
            _ => "end_turn",
        };
        Stop { stop_reason, stop_sequence: stop_string.map(str::to_owned) }
    }
}

impl From<&Block> for ContentBlock {
    fn from(block: &Block) -> Self {
        match block.clone() {
            Block::Content(text) => ContentBlock::Text { text },
            Block::Reasoning(thinking) => ContentBlock::Thinking { thinking, signature: "" },
            Block::Call(Call { id, name, arguments }) => {
                ContentBlock::ToolUse { id, name, input: input(&arguments) }
            }
        }
    }
}

impl From<Usage> for MessageUsage {
    fn from(usage: Usage) -> Self {
        let cached = usage.prompt_tokens_details.map_or(0, |details| details.cached_tokens);
        MessageUsage {
            input_tokens: usage.prompt_tokens - cached,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: cached,
            output_tokens: usage.completion_tokens,
        }
    }
}
