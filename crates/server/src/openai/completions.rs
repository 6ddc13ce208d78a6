//! The whole reply of `/v1/completions`.

use serde::Serialize;

use crate::answer::{Answer, Finish};
use crate::openai::reply::{ReplyHead, Timings, Usage};

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
    /// The reply with `answers` in order.
    pub fn new(head: ReplyHead, answers: Vec<Answer>, usage: Usage, timings: Timings) -> Self {
        let choices = answers
            .into_iter()
            .enumerate()
            .map(|(index, answer)| CompletionChoice {
                index,
                text: answer.content,
                logprobs: (),
                finish_reason: answer.finish,
            })
            .collect();
        let ReplyHead { id, created, model, .. } = head;
        Completion { id, object: "text_completion", created, model, choices, usage, timings }
    }
}
