//! The one door: bodies become requests that the engine can serve. Nobody checks again behind it.

use std::sync::Arc;

use engine::{Limits, Request, SubmitError, Tenant, TokenId};
use grammar::Guided;
use sampling::SamplingParams;
use text::{
    AnswerRules, ChatTemplate, ControlTokens, Message, StopStrings, Tokenizer, TokenizerError, Tool,
};

use crate::answer::AnswerForm;
use crate::grammars::Wanted;
use crate::keys::Caller;
use crate::limits::{
    CHOICES, COMPLETION_TOKENS_DEFAULT, PROMPTS, SAMPLES, STOP_STRING_BYTES, STOP_STRINGS,
    STOP_TOKENS, USER_BYTES,
};
use crate::openai::error::ApiError;
use crate::openai::reply::Endpoint;
use crate::openai::tools::Tools;
use crate::openai::types::{
    GenerationBody, Messages, Prompt, PromptItem, Prompts, Strings, UNSUPPORTED,
};

mod calls;
pub mod embeddings;
mod log_probs;
mod messages;
mod parameters;
mod structured;
mod tools;

use log_probs::{check_whole, log_probs};
use messages::message;
use parameters::Parameters;
use tools::{ToolUse, checked_tools};

/// What a body is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Door<'a> {
    /// Who sends.
    pub caller: Caller,
    /// Name of the model.
    pub model: &'a str,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its chat template, if it has one.
    pub template: Option<&'a ChatTemplate>,
    /// What the engine can serve.
    pub limits: Limits,
}

/// A body that can be served.
#[derive(Debug)]
pub struct Valid {
    /// One engine request per choice; the choices of one prompt stand together.
    pub requests: Vec<Request<Guided<SamplingParams>>>,
    /// What the answers must look like; the requests' constraints are made of it.
    pub wanted: Option<Wanted>,
    /// What ends each choice.
    pub rules: StopRules,
    /// How many prompts there are, and how long they are.
    pub prompts: PromptSums,
    /// How each choice is divided.
    pub answers: AnswerForm,
    /// How to stream; none: the reply is sent as a whole.
    pub stream: Option<StreamRules>,
}

/// A chat that can be continued.
#[derive(Debug)]
pub struct ChatPrompt {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// How answers to it are divided.
    pub rules: AnswerRules,
}

/// What decides about the end of every choice of a reply.
#[derive(Debug, Clone)]
pub struct StopRules {
    /// Tokens that end the answer and are not shown.
    pub tokens: Vec<TokenId>,
    /// How many tokens an answer has at least.
    pub min_tokens: u32,
    /// Strings that end the answer and are not shown.
    pub strings: Option<Arc<StopStrings>>,
}

/// How many choices each prompt has, and how long the prompts are.
#[derive(Debug, Clone, Copy)]
pub struct PromptSums {
    /// Tokens of all prompts.
    pub tokens: u32,
    /// Choices per prompt.
    pub samples: usize,
}

/// What a stream tells besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRules {
    /// Whether a last chunk carries the usage.
    pub include_usage: bool,
    /// Whether every chunk carries the usage so far.
    pub continuous_usage: bool,
}

impl Door<'_> {
    /// Checks a body of `endpoint`. The cheap checks come first, the prompts last.
    pub fn generation(&self, endpoint: Endpoint, body: GenerationBody) -> Result<Valid, ApiError> {
        refuse_unsupported(endpoint, &body)?;
        self.model(body.model.as_deref())?;
        let stream = stream_rules(&body)?;
        let samples = samples(body.n)?;
        let rules = self.stop_rules(&body)?;
        let tenant = self.caller.tenant_or(tenant(body.user.as_deref())?);
        let mut wanted = structured::wanted(&body)?;
        let asked = asked(endpoint, &body, rules.min_tokens)?;
        let vocabulary_len = self.tokenizer.vocabulary_len();
        let log_probs = log_probs(endpoint, &body)?;
        let (stop_tokens, min_tokens) = (&rules.tokens, rules.min_tokens);
        let parameters =
            Parameters::new(&body, stop_tokens, min_tokens, log_probs, vocabulary_len)?;
        let tool_use = ToolUse::new(endpoint, &body)?;
        let hides_reasoning = body.include_reasoning == Some(false);
        let is_named = tool_use.is_named();
        let mut answers = AnswerForm { hides_reasoning, is_named, ..AnswerForm::default() };
        let prompts = match endpoint {
            Endpoint::Completions => self.raw_prompts(body.prompt.as_ref())?,
            Endpoint::Chat => {
                let Some(messages) = &body.messages else {
                    return Err(ApiError::invalid("messages", "`messages` is missing"));
                };
                let most = self.longest() as usize;
                let prompt = self.chat_prompt(messages, &tool_use.tools, true, most)?;
                let ends_with_call = body.parallel_tool_calls == Some(false);
                answers.rules = AnswerRules { ends_with_call, ..prompt.rules };
                // What other fields say is about content, of which there is none beside forced calls.
                wanted = calls::wanted(&tool_use, &answers.rules, self.tokenizer)?.or(wanted);
                vec![prompt.ids]
            }
        };
        if CHOICES < prompts.len() * samples {
            let count = prompts.len();
            let message = format!(
                "{count} prompts with n = {samples} make {} choices, more than {CHOICES}",
                count * samples
            );
            return Err(ApiError::invalid("n", message));
        }
        let tokens = prompts.iter().map(|prompt| prompt.len() as u32).sum();
        let mut requests = Vec::with_capacity(prompts.len() * samples);
        for prompt in prompts {
            let prompt = prompt.into_iter().map(TokenId).collect();
            let request = self.request(endpoint, prompt, asked, &rules)?;
            let request = Request { tenant, ..request };
            for index in 0..samples {
                requests.push(request.clone().with_params(parameters.choice(index).into()));
            }
        }
        if let (Some(top), None) = (log_probs, stream) {
            let longest = requests.iter().map(|request| request.max_tokens).max().unwrap_or(0);
            check_whole(requests.len(), u64::from(longest), top)?;
        }
        let prompts = PromptSums { tokens, samples };
        Ok(Valid { requests, wanted, rules, prompts, answers, stream })
    }

    /// Checks that `model` is the one that is served; absent or empty stands for it.
    pub fn model(&self, model: Option<&str>) -> Result<(), ApiError> {
        match model {
            Some(model) if !model.is_empty() && model != self.model => {
                let (model, served) = (model.to_owned(), self.model.to_owned());
                Err(ApiError::UnknownModel { model, served })
            }
            _ => Ok(()),
        }
    }

    /// Ids of a raw prompt, at most `most`.
    pub fn text_prompt(
        &self,
        text: &str,
        special_tokens: bool,
        most: usize,
    ) -> Result<Vec<u32>, ApiError> {
        let ids = if special_tokens {
            self.tokenizer.encode_prompt_within(text, most)
        } else {
            self.tokenizer.encode_within(text, ControlTokens::Parse, most)
        };
        ids.map_err(|error| tokens_refused("prompt", &error))
    }

    /// A chat of at most `most` tokens, whose answer may call `tools`.
    pub fn chat_prompt(
        &self,
        messages: &Messages,
        tools: &[Tool],
        generation_prompt: bool,
        most: usize,
    ) -> Result<ChatPrompt, ApiError> {
        let Some(template) = self.template else {
            let message = "this model has no chat template; use /v1/completions";
            return Err(ApiError::invalid("messages", message));
        };
        if messages.0.is_empty() {
            return Err(ApiError::invalid("messages", "there must be at least one message"));
        }
        let messages: Vec<Message> =
            (0..).zip(&messages.0).map(|(i, m)| message(i, m)).collect::<Result<_, _>>()?;
        let bad = |error: &dyn std::fmt::Display| ApiError::invalid("messages", error.to_string());
        let segments = template.render(&messages, tools, generation_prompt).map_err(|e| bad(&e))?;
        let ids = self.tokenizer.encode_segments_within(&segments, most);
        let ids = ids.map_err(|error| tokens_refused("messages", &error))?;
        Ok(ChatPrompt { ids, rules: template.answer_rules(&segments, tools) })
    }

    /// Tokens of the prompt of a chat, however many.
    pub fn chat_len(&self, body: &GenerationBody) -> Result<usize, ApiError> {
        self.model(body.model.as_deref())?;
        let tool_use = ToolUse::new(Endpoint::Chat, body)?;
        let Some(messages) = &body.messages else {
            return Err(ApiError::invalid("messages", "`messages` is missing"));
        };
        Ok(self.chat_prompt(messages, &tool_use.tools, true, usize::MAX)?.ids.len())
    }

    /// Checks functions that an answer may call.
    pub fn tools(&self, tools: Option<&Tools>) -> Result<Vec<Tool>, ApiError> {
        checked_tools(tools)
    }

    /// Checks that `id` is in the vocabulary.
    pub fn token(&self, param: &str, index: usize, id: i64) -> Result<u32, ApiError> {
        let count = self.tokenizer.vocabulary_len();
        match u32::try_from(id) {
            Ok(token) if (token as usize) < count => Ok(token),
            _ => {
                let message = format!("token id {id} is outside the vocabulary 0..{count}");
                Err(ApiError::invalid(format!("{param}[{index}]"), message))
            }
        }
    }

    fn raw_prompts(&self, prompt: Option<&Prompt>) -> Result<Vec<Vec<u32>>, ApiError> {
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
                PromptItem::Text(text) => self.text_prompt(text, true, self.longest() as usize)?,
                PromptItem::Ids(ids) => {
                    let check = |(index, id): (usize, &i64)| self.token(&param, index, *id);
                    ids.iter().enumerate().map(check).collect::<Result<_, _>>()?
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

    fn stop_rules(&self, body: &GenerationBody) -> Result<StopRules, ApiError> {
        let strings = match &body.stop {
            None => Vec::new(),
            Some(Strings::One(string)) => vec![string.clone()],
            Some(Strings::Many(strings)) => strings.clone(),
        };
        if STOP_STRINGS < strings.len() {
            let message = format!("{} stop strings, more than {STOP_STRINGS}", strings.len());
            return Err(ApiError::invalid("stop", message));
        }
        for string in &strings {
            if !(1..=STOP_STRING_BYTES).contains(&string.len()) {
                let length = string.len();
                let message =
                    format!("a stop string of {length} bytes; give 1 to {STOP_STRING_BYTES}");
                return Err(ApiError::invalid("stop", message));
            }
        }
        let ids = body.stop_token_ids.as_deref().unwrap_or_default();
        if STOP_TOKENS < ids.len() {
            let message = format!("{} stop tokens, more than {STOP_TOKENS}", ids.len());
            return Err(ApiError::invalid("stop_token_ids", message));
        }
        let mut tokens = Vec::new();
        if body.ignore_eos != Some(true) {
            tokens.extend(self.tokenizer.end_tokens().iter().copied().map(TokenId));
        }
        for (index, id) in ids.iter().enumerate() {
            tokens.push(TokenId(self.token("stop_token_ids", index, *id)?));
        }
        let min_tokens = body.min_tokens.unwrap_or(0);
        let min_tokens = u32::try_from(min_tokens).map_err(|_| {
            ApiError::invalid("min_tokens", format!("min_tokens is {min_tokens}; give 0 or more"))
        })?;
        let strings = (!strings.is_empty()).then(|| Arc::new(StopStrings::new(strings)));
        Ok(StopRules { tokens, min_tokens, strings })
    }

    /// The engine's view of one prompt, without its sampling.
    fn request(
        &self,
        endpoint: Endpoint,
        prompt: Vec<TokenId>,
        asked: Asked,
        rules: &StopRules,
    ) -> Result<Request<()>, ApiError> {
        let room = u32::try_from(prompt.len()).map_or(0, |len| self.longest().saturating_sub(len));
        let max_tokens = asked.tokens.unwrap_or(match endpoint {
            Endpoint::Completions => COMPLETION_TOKENS_DEFAULT.min(room),
            Endpoint::Chat => room,
        });
        let prompt_param = match endpoint {
            Endpoint::Completions => "prompt",
            Endpoint::Chat => "messages",
        };
        if room == 0 {
            let (tokens, longest) = (prompt.len(), self.longest());
            let message = format!(
                "the prompt is too long: this model's maximum context length is {longest} tokens, \
                 and the prompt of {tokens} tokens leaves no room for an answer; shorten the prompt"
            );
            return Err(ApiError::ContextLength { param: prompt_param, message });
        }
        if max_tokens < rules.min_tokens {
            let message =
                format!("min_tokens is {}, more than max_tokens ({max_tokens})", rules.min_tokens);
            return Err(ApiError::invalid("min_tokens", message));
        }
        let (min_tokens, stop_tokens) = (rules.min_tokens, rules.tokens.clone());
        let priority = asked.priority;
        let request = Request {
            prompt,
            max_tokens,
            min_tokens,
            stop_tokens,
            priority,
            use_prefix_cache: true,
            tenant: Tenant::default(),
            params: (),
        };
        match self.limits.check(&request) {
            Ok(()) => Ok(request),
            Err(SubmitError::EmptyPrompt) => {
                Err(ApiError::invalid(prompt_param, SubmitError::EmptyPrompt.to_string()))
            }
            Err(refusal @ SubmitError::PriorityUnused { .. }) => {
                Err(ApiError::invalid("priority", refusal.to_string()))
            }
            Err(refusal) => {
                Err(ApiError::ContextLength { param: asked.param, message: refusal.to_string() })
            }
        }
    }

    /// Most tokens of prompt and answer: the model's length, or less where the KV pool is smaller.
    fn longest(&self) -> u32 {
        // The last token generated is never computed, so it needs no room in the pool.
        let pool = self.limits.block_size.saturating_mul(self.limits.block_count);
        self.limits.max_model_len.min(pool.saturating_add(1))
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

fn refuse_unsupported(endpoint: Endpoint, body: &GenerationBody) -> Result<(), ApiError> {
    for (name, value) in &body.unsupported {
        let asks_for_nothing = UNSUPPORTED
            .iter()
            .find_map(|(known, test)| (known == name).then_some(*test))
            .expect("only names of the table are kept");
        // The endpoints' own defaults: a raw prompt gets the model's special tokens, a chat's
        // template writes them itself.
        let default = *name == "add_special_tokens"
            && value.as_bool() == Some(endpoint == Endpoint::Completions);
        if !asks_for_nothing(value) && !default {
            let message = format!("`{name}` is not supported by this server; leave it out");
            return Err(ApiError::invalid(*name, message));
        }
    }
    Ok(())
}

fn stream_rules(body: &GenerationBody) -> Result<Option<StreamRules>, ApiError> {
    let stream = body.stream == Some(true);
    match (&body.stream_options, stream) {
        (Some(_), false) => {
            let message = "`stream_options` needs `stream` to be true";
            Err(ApiError::invalid("stream_options", message))
        }
        (options, true) => {
            let asked = |option: Option<bool>| option == Some(true);
            let options = options.as_ref();
            Ok(Some(StreamRules {
                include_usage: asked(options.and_then(|o| o.include_usage)),
                continuous_usage: asked(options.and_then(|o| o.continuous_usage_stats)),
            }))
        }
        (None, false) => Ok(None),
    }
}

fn samples(n: Option<i64>) -> Result<usize, ApiError> {
    let n = n.unwrap_or(1);
    if !(1..=SAMPLES).contains(&n) {
        return Err(ApiError::invalid("n", format!("n is {n}; give 1 to {SAMPLES}")));
    }
    Ok(usize::try_from(n).expect("between 1 and a small limit"))
}

/// Whom a request is for: whoever `user` names. The name itself goes no further.
fn tenant(user: Option<&str>) -> Result<Tenant, ApiError> {
    let Some(user) = user else { return Ok(Tenant::default()) };
    if USER_BYTES < user.len() {
        let message = format!("user has {} bytes, more than {USER_BYTES}", user.len());
        return Err(ApiError::invalid("user", message));
    }
    Ok(Tenant::named(user.as_bytes()))
}

/// The place in the order that was asked for.
fn priority(priority: Option<i64>) -> Result<i32, ApiError> {
    let priority = priority.unwrap_or(0);
    i32::try_from(priority).map_err(|_| {
        let message = format!("priority is {priority}; give {} to {}", i32::MIN, i32::MAX);
        ApiError::invalid("priority", message)
    })
}

/// The length and the place in the order that were asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The field that says how long.
    param: &'static str,
    /// None leaves it to the endpoint.
    tokens: Option<u32>,
    /// A lower number goes first.
    priority: i32,
}

fn asked(endpoint: Endpoint, body: &GenerationBody, min_tokens: u32) -> Result<Asked, ApiError> {
    let (param, asked) = match (endpoint, body.max_completion_tokens) {
        (Endpoint::Chat, Some(asked)) => ("max_completion_tokens", Some(asked)),
        _ => ("max_tokens", body.max_tokens),
    };
    let priority = priority(body.priority)?;
    let Some(asked) = asked else { return Ok(Asked { param, tokens: None, priority }) };
    let asked = match u32::try_from(asked) {
        Ok(asked) if 0 < asked => asked,
        _ => return Err(ApiError::invalid(param, format!("{param} is {asked}; give 1 or more"))),
    };
    if asked < min_tokens {
        let message = format!("min_tokens is {min_tokens}, more than {param} ({asked})");
        return Err(ApiError::invalid("min_tokens", message));
    }
    Ok(Asked { param, tokens: Some(asked), priority })
}
