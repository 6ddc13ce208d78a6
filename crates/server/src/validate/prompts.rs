//! Prompts: texts, ids and chats to tokens.

use text::{
    AnswerRules, ControlTokens, Ending, Message, RenderOptions, TokenizerError, Tool, Variable,
};

use super::Door;
use super::messages::message;
use super::variables::variables;
use crate::limits::{COMPLETION_TOKENS_DEFAULT, PROMPTS, TEXT_TOKENS};
use crate::openai::error::ApiError;
use crate::openai::reply::Endpoint;
use crate::openai::types::{GenerationBody, Messages, Prompt, PromptItem, Prompts};

/// How a prompt becomes tokens.
#[derive(Debug)]
pub struct Prompting {
    /// Whether the model's begin and end tokens are added.
    pub special_tokens: bool,
    /// How many of the last tokens are kept; none keeps all.
    pub keep: Option<usize>,
    /// Whether it is served, and not only counted or told.
    pub is_served: bool,
    /// Most tokens before some are cut.
    pub most: usize,
    /// How a chat ends.
    pub ending: Ending,
    /// What a chat's template is told beside the chat.
    pub variables: Vec<(String, Variable)>,
}

/// A chat that can be continued.
#[derive(Debug)]
pub struct ChatPrompt {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// How answers to it are divided.
    pub rules: AnswerRules,
}

impl Prompting {
    /// The usual way of `endpoint`, for at most `most` tokens.
    pub fn usual(endpoint: Endpoint, most: usize) -> Self {
        Prompting {
            // A chat's template writes them itself.
            special_tokens: endpoint == Endpoint::Completions,
            keep: None,
            is_served: true,
            most,
            ending: Ending::AnswerBegun,
            variables: Vec::new(),
        }
    }

    /// The usual way of `endpoint`, for a prompt that is only counted or told.
    pub fn to_tell(endpoint: Endpoint) -> Self {
        Prompting { is_served: false, ..Prompting::usual(endpoint, TEXT_TOKENS) }
    }

    /// Cuts `ids` where that was asked for.
    fn cut(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(keep) = self.keep {
            ids.drain(..ids.len().saturating_sub(keep));
        }
        ids
    }

    /// What a client is told about a prompt that did not become tokens.
    fn refused(&self, param: &'static str, error: &TokenizerError) -> ApiError {
        match (error, self.keep) {
            (TokenizerError::TextTooLong { most }, _) if !self.is_served => {
                let message = format!(
                    "the prompt has more than the {most} tokens that are counted; send it in parts"
                );
                ApiError::invalid(param, message)
            }
            (TokenizerError::TextTooLong { most }, Some(_)) => {
                let message = format!(
                    "the prompt has more than the {most} tokens of which the last can be kept"
                );
                ApiError::ContextLength { param, message }
            }
            _ => tokens_refused(param, error),
        }
    }
}

impl Door<'_> {
    /// How `body` wants its prompt written; the answer is to have so many `answer_tokens`, if it says so.
    pub(super) fn prompting(
        &self,
        endpoint: Endpoint,
        body: &GenerationBody,
        answer_tokens: Option<u32>,
    ) -> Result<Prompting, ApiError> {
        let usual = Prompting::usual(endpoint, self.limits.longest() as usize);
        let special_tokens = body.add_special_tokens.unwrap_or(usual.special_tokens);
        let keep = self.kept(body.truncate_prompt_tokens.map(i64::from), answer_tokens)?;
        let most = if keep.is_some() { TEXT_TOKENS } else { usual.most };
        let usual = Prompting { special_tokens, keep, most, ..usual };
        if endpoint == Endpoint::Completions {
            return Ok(usual);
        }
        let ending = ending(body)?;
        let variables = match &body.chat_template_kwargs {
            Some(kwargs) => variables(kwargs, self.template)?,
            None => Vec::new(),
        };
        Ok(Prompting { ending, variables, ..usual })
    }

    /// How many of a prompt's last tokens are kept.
    fn kept(
        &self,
        truncate: Option<i64>,
        answer_tokens: Option<u32>,
    ) -> Result<Option<usize>, ApiError> {
        let longest = self.limits.longest();
        let room = || {
            let answer = answer_tokens.unwrap_or(COMPLETION_TOKENS_DEFAULT);
            longest.saturating_sub(answer.max(1)).max(1) as usize
        };
        match truncate {
            None => Ok(None),
            Some(-1) => Ok(Some(room())),
            Some(count) if (1..=i64::from(longest)).contains(&count) => Ok(Some(count as usize)),
            Some(count) => {
                let message =
                    format!("truncate_prompt_tokens is {count}; give 1 to {longest}, or -1");
                Err(ApiError::invalid("truncate_prompt_tokens", message))
            }
        }
    }

    /// Ids of a raw prompt.
    pub fn text_prompt(&self, text: &str, prompting: &Prompting) -> Result<Vec<u32>, ApiError> {
        let ids = if prompting.special_tokens {
            self.tokenizer.encode_prompt_within(text, prompting.most)
        } else {
            self.tokenizer.encode_within(text, ControlTokens::Parse, prompting.most)
        };
        ids.map(|ids| prompting.cut(ids)).map_err(|error| prompting.refused("prompt", &error))
    }

    /// A chat, whose answer may call `tools`.
    pub fn chat_prompt(
        &self,
        messages: &Messages,
        tools: &[Tool],
        prompting: &Prompting,
    ) -> Result<ChatPrompt, ApiError> {
        let Some(template) = self.template else {
            let message = "this model has no chat template; use /v1/completions";
            return Err(ApiError::invalid("messages", message));
        };
        let messages: Vec<Message> =
            (0..).zip(&messages.0).map(|(i, m)| message(i, m)).collect::<Result<_, _>>()?;
        let Some(last) = messages.last() else {
            return Err(ApiError::invalid("messages", "there must be at least one message"));
        };
        let is_open = prompting.ending == Ending::LastMessageOpen;
        if is_open && !last.tool_calls.is_empty() {
            let message = "the last message calls functions, so it cannot be continued";
            return Err(ApiError::invalid("continue_final_message", message));
        }
        let bad = |error: &dyn std::fmt::Display| ApiError::invalid("messages", error.to_string());
        let options = RenderOptions { ending: prompting.ending, variables: &prompting.variables };
        let segments = template.render_with(&messages, tools, &options).map_err(|e| bad(&e))?;
        let ids = self.tokenizer.encode_segments_within(&segments, prompting.most);
        let mut ids = ids.map_err(|error| prompting.refused("messages", &error))?;
        if prompting.special_tokens {
            let (begin, end) = self.tokenizer.around_prompts();
            ids = begin.into_iter().chain(ids).chain(end).collect();
        }
        let mut rules = template.answer_rules(&segments, tools);
        if is_open {
            rules.reasoning = rules.reasoning.behind(&last.content);
        }
        Ok(ChatPrompt { ids: prompting.cut(ids), rules })
    }

    pub(super) fn raw_prompts(
        &self,
        prompt: Option<&Prompt>,
        prompting: &Prompting,
    ) -> Result<Vec<Vec<u32>>, ApiError> {
        let Some(Prompts(items)) = prompt else {
            return Err(ApiError::invalid("prompt", "`prompt` is missing"));
        };
        if !(1..=PROMPTS).contains(&items.len()) {
            let message = format!("{} prompts; give 1 to {PROMPTS}", items.len());
            return Err(ApiError::invalid("prompt", message));
        }
        let mut prompts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let param = if items.len() == 1 { "prompt".into() } else { format!("prompt[{index}]") };
            let ids = match item {
                PromptItem::Text(text) => self.text_prompt(text, prompting)?,
                PromptItem::Ids(ids) => {
                    let check = |(index, id): (usize, &i64)| self.token(&param, index, *id);
                    let ids = ids.iter().enumerate().map(check).collect::<Result<_, _>>()?;
                    prompting.cut(ids)
                }
            };
            if ids.is_empty() {
                return Err(ApiError::invalid(
                    param,
                    "the prompt has no tokens; give at least one",
                ));
            }
            prompts.push(ids);
        }
        Ok(prompts)
    }
}

/// How a chat's prompt ends. As with vLLM the answer is begun unless `add_generation_prompt` says
/// otherwise, and continuing needs that it does.
fn ending(body: &GenerationBody) -> Result<Ending, ApiError> {
    let begins = body.add_generation_prompt.unwrap_or(true);
    match (begins, body.continue_final_message == Some(true)) {
        (true, false) => Ok(Ending::AnswerBegun),
        (false, false) => Ok(Ending::Closed),
        (false, true) => Ok(Ending::LastMessageOpen),
        (true, true) => {
            let message = "`continue_final_message` needs `add_generation_prompt` to be false";
            Err(ApiError::invalid("continue_final_message", message))
        }
    }
}

/// What a client is told about a prompt that did not become tokens.
fn tokens_refused(param: &'static str, error: &TokenizerError) -> ApiError {
    match error {
        TokenizerError::TextTooLong { most } => ApiError::ContextLength {
            param,
            message: format!(
                "the prompt is too long: this model's maximum context length is {most} tokens, and \
                 the prompt has more; shorten the prompt"
            ),
        },
        other => ApiError::invalid(param, other.to_string()),
    }
}
