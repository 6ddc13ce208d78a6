//! The whole reply of `/v1/chat/completions`.

use serde::Serialize;

use crate::answer::{Answer, Call, Finish};
use crate::openai::reply::{ReplyHead, Timings, Usage};

/// The reply.
#[derive(Debug, Serialize)]
pub struct ChatCompletion {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<ChatChoice>,
    usage: Usage,
    timings: Timings,
}

#[derive(Debug, Serialize)]
struct ChatChoice {
    index: usize,
    message: AssistantMessage,
    /// Always null: log-probabilities are not served.
    logprobs: (),
    finish_reason: Finish,
}

#[derive(Debug, Serialize)]
struct AssistantMessage {
    role: &'static str,
    /// Null where functions are called and nothing is said.
    content: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
}

#[derive(Debug, Serialize)]
struct ToolCall {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function,
}

#[derive(Debug, Serialize)]
struct Function {
    name: String,
    arguments: String,
}

impl ChatCompletion {
    /// The reply with `answers` in order.
    pub fn new(head: ReplyHead, answers: Vec<Answer>, usage: Usage, timings: Timings) -> Self {
        let choice = |(index, answer): (usize, Answer)| ChatChoice {
            index,
            logprobs: (),
            finish_reason: answer.finish,
            message: message(answer),
        };
        let choices = answers.into_iter().enumerate().map(choice).collect();
        let ReplyHead { id, created, model, .. } = head;
        ChatCompletion { id, object: "chat.completion", created, model, choices, usage, timings }
    }
}

fn message(answer: Answer) -> AssistantMessage {
    let Answer { content, reasoning, calls, .. } = answer;
    let is_silent = content.is_empty() && !calls.is_empty();
    let call = |Call { id, name, arguments }| ToolCall {
        id,
        kind: "function",
        function: Function { name, arguments },
    };
    AssistantMessage {
        role: "assistant",
        content: (!is_silent).then_some(content),
        reasoning_content: reasoning,
        tool_calls: calls.into_iter().map(call).collect(),
    }
}
