//! The whole reply of `/v1/chat/completions`.

use serde::Serialize;

use text::Tokenizer;

use crate::answer::{Answer, Call, Finish};
use crate::openai::log_probs::{ChatLogProbs, PromptLogProbs};
use crate::openai::reply::{ReplyHead, Timings, Usage, WholeAnswer};

/// The reply.
#[derive(Debug, Serialize)]
pub struct ChatCompletion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<ChatChoice<'a>>,
    usage: Usage,
    timings: Timings,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_ids: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_logprobs: Option<PromptLogProbs<'a>>,
}

#[derive(Debug, Serialize)]
struct ChatChoice<'a> {
    index: usize,
    message: AssistantMessage,
    logprobs: Option<ChatLogProbs<'a>>,
    finish_reason: Finish,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<Vec<u32>>,
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

impl<'a> ChatCompletion<'a> {
    /// The reply with `answers` in order.
    pub fn new(
        head: ReplyHead,
        answers: Vec<WholeAnswer>,
        tokenizer: &'a Tokenizer,
        usage: Usage,
        timings: Timings,
    ) -> Self {
        let choice = |(index, whole): (usize, WholeAnswer)| ChatChoice {
            index,
            logprobs: whole.tokens.map(|tokens| ChatLogProbs::new(tokenizer, tokens)),
            finish_reason: whole.answer.finish,
            message: message(&whole.answer),
            token_ids: whole.ids,
        };
        let prompt = answers.first().map(|whole| whole.prompt.clone()).unwrap_or_default();
        let prompt_logprobs = PromptLogProbs::new(tokenizer, &prompt);
        let prompt_token_ids = prompt.ids.map(|ids| ids.to_vec());
        let choices = answers.into_iter().enumerate().map(choice).collect();
        let ReplyHead { id, created, model, .. } = head;
        ChatCompletion {
            id,
            object: "chat.completion",
            created,
            model,
            choices,
            usage,
            timings,
            prompt_token_ids,
            prompt_logprobs,
        }
    }
}

fn message(answer: &Answer) -> AssistantMessage {
    let call = |call: &Call| {
        let Call { id, name, arguments } = call.clone();
        ToolCall { id, kind: "function", function: Function { name, arguments } }
    };
    let tool_calls: Vec<ToolCall> = answer.calls().map(call).collect();
    let content = answer.content();
    let is_silent = content.is_empty() && !tool_calls.is_empty();
    AssistantMessage {
        role: "assistant",
        content: (!is_silent).then_some(content),
        reasoning_content: answer.reasoning(),
        tool_calls,
    }
}
