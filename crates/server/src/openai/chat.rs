//! The whole reply of `/v1/chat/completions`.

use serde::Serialize;

use crate::openai::reply::{Finish, ReplyHead, Timings, Usage};

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
    content: String,
}

impl ChatCompletion {
    /// The reply with `choices` in order.
    pub fn new(
        head: ReplyHead,
        choices: Vec<(String, Finish)>,
        usage: Usage,
        timings: Timings,
    ) -> Self {
        let choices = choices
            .into_iter()
            .enumerate()
            .map(|(index, (content, finish_reason))| ChatChoice {
                index,
                message: AssistantMessage { role: "assistant", content },
                logprobs: (),
                finish_reason,
            })
            .collect();
        let ReplyHead { id, created, model, .. } = head;
        ChatCompletion { id, object: "chat.completion", created, model, choices, usage, timings }
    }
}
