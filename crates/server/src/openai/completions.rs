//! The whole reply of `/v1/completions`.

use serde::Serialize;

use crate::openai::reply::{Finish, ReplyHead, Timings, Usage};

/// The reply.
#[derive(Debug, Serialize)]
pub struct Completion {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<CompletionChoice>,
    usage: Usage,
    timings: Timings,
}

#[derive(Debug, Serialize)]
struct CompletionChoice {
    index: usize,
    text: String,
    /// Always null: log-probabilities are not served.
    logprobs: (),
    finish_reason: Finish,
}

impl Completion {
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
            .map(|(index, (text, finish_reason))| CompletionChoice {
                index,
                text,
                logprobs: (),
                finish_reason,
            })
            .collect();
        let ReplyHead { id, created, model, .. } = head;
        Completion { id, object: "text_completion", created, model, choices, usage, timings }
    }
}
