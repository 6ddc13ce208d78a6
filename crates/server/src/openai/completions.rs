//! The whole reply of `/v1/completions`.

use serde::Serialize;

use text::Tokenizer;

use crate::answer::Finish;
use crate::openai::log_probs::{CompletionLogProbs, PromptLogProbs};
use crate::openai::reply::{ReplyHead, Timings, Usage, WholeAnswer};

/// The reply.
#[derive(Debug, Serialize)]
pub struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<CompletionChoice<'a>>,
    usage: Usage,
    timings: Timings,
}

#[derive(Debug, Serialize)]
struct CompletionChoice<'a> {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogProbs<'a>>,
    finish_reason: Finish,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_ids: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_logprobs: Option<PromptLogProbs<'a>>,
}

impl<'a> Completion<'a> {
    /// The reply with `answers` in order.
    pub fn new(
        head: ReplyHead,
        answers: Vec<WholeAnswer>,
        tokenizer: &'a Tokenizer,
        usage: Usage,
        timings: Timings,
    ) -> Self {
        let choices = answers
            .into_iter()
            .enumerate()
            .map(|(index, whole)| CompletionChoice {
                index,
                text: whole.answer.content(),
                logprobs: whole.tokens.map(|tokens| CompletionLogProbs::new(tokenizer, tokens)),
                finish_reason: whole.answer.finish,
                token_ids: whole.ids,
                prompt_logprobs: PromptLogProbs::new(tokenizer, &whole.prompt),
                prompt_token_ids: whole.prompt.ids.map(|ids| ids.to_vec()),
            })
            .collect();
        let ReplyHead { id, created, model, .. } = head;
        Completion { id, object: "text_completion", created, model, choices, usage, timings }
    }
}
