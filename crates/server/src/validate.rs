//! The one door: bodies become requests that the engine can serve. Nobody checks again behind it.

use std::sync::Arc;

use engine::{AdapterId, CacheSalt, Limits, Request, SubmitError, Tenant, TokenId};
use grammar::Guided;
use sampling::{SamplingParams, SamplingRequest};
use sha2::{Digest, Sha256};
use text::{AnswerRules, ChatTemplate, StopStrings, Tokenizer, Tool};

use crate::answer::AnswerForm;
use crate::config::ServerInfo;
use crate::grammars::Wanted;
use crate::keys::Caller;
use crate::limits::{
    CACHE_SALT_BYTES, COMPLETION_TOKENS_DEFAULT, SAMPLED_PROMPTS, STOP_STRING_BYTES, STOP_STRINGS,
    STOP_TOKENS, USER_BYTES,
};
use crate::openai::error::ApiError;
use crate::openai::prompt::ToldPrompt;
use crate::openai::reply::Endpoint;
use crate::openai::tools::Tools;
use crate::openai::types::{GenerationBody, Strings};
use crate::openai::unsupported::UNSUPPORTED;

mod calls;
pub mod embeddings;
mod log_probs;
mod messages;
mod parameters;
mod variables;
mod prompts;
mod told;
mod structured;
mod token_rules;
mod tools;

use log_probs::log_probs;
use parameters::Parameters;
pub use prompts::{ChatPrompt, Prompting};
use token_rules::masked_by;
use told::Telling;
pub use told::text_bytes;
use tools::{ToolUse, checked_tools};

/// What a body is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Door<'a> {
    /// Who sends.
    pub caller: Caller,
    /// What is served, under which names.
    pub info: &'a ServerInfo,
    /// Its tokenizer.
    pub tokenizer: &'a Arc<Tokenizer>,
    /// Its chat template, if it has one.
    pub template: Option<&'a ChatTemplate>,
    /// What the engine can serve.
    pub limits: Limits,
    /// What counts where a body says nothing of how tokens are chosen.
    pub sampling: &'a SamplingRequest,
    /// Largest `n`.
    pub samples_max: u32,
}

/// A body that can be served.
#[derive(Debug)]
pub struct Valid {
    /// One engine request per choice; the choices of one prompt stand together.
    pub requests: Vec<Request<Guided<SamplingParams>>>,
    /// The adapter that they take.
    pub adapter: Option<AdapterId>,
    /// What the answers must look like; the requests' constraints are made of it.
    pub wanted: Option<Wanted>,
    /// What ends each choice.
    pub rules: StopRules,
    /// How many prompts there are, and how long they are.
    pub prompts: PromptSums,
    /// How each choice is divided.
    pub answers: AnswerForm,
    /// Bytes that what is told of the prompts, and of answers beside their text, takes until the reply is sent.
    pub room: usize,
    /// How to stream; none: the reply is sent as a whole.
    pub stream: Option<StreamRules>,
}

/// What decides about the end of every choice of a reply.
#[derive(Debug, Clone)]
pub struct StopRules {
    /// Tokens that end the answer.
    pub tokens: Vec<TokenId>,
    /// How many tokens an answer has at least.
    pub min_tokens: u32,
    /// Strings that end the answer.
    pub strings: Option<Arc<StopStrings>>,
    /// Whether what ends the answer is shown, and control tokens are.
    pub shown: Shown,
    /// The field to blame if no token is left.
    pub masked_by: Option<&'static str>,
}

/// What of an answer is shown that usually is not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown {
    /// The stop string or token that ended it.
    pub stop: bool,
    /// Control tokens.
    pub control: bool,
}

/// How many choices each prompt has, how long the prompts are, and what is told of them.
#[derive(Debug, Clone)]
pub struct PromptSums {
    /// Tokens of all prompts.
    pub tokens: u32,
    /// Choices per prompt.
    pub samples: usize,
    /// Whether ids of tokens are told.
    pub tells_ids: bool,
    /// Whether answers have tokens; without, a reply tells of its prompts alone.
    pub has_answer: bool,
    /// What is told of each prompt.
    pub told: Vec<ToldPrompt>,
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
        refuse_unsupported(&body)?;
        let adapter = self.model(body.model.as_deref())?;
        let stream = stream_rules(&body)?;
        let samples = self.samples(body.n.map(i64::from))?;
        let mut rules = self.stop_rules(&body)?;
        let tenant = self.caller.tenant_or(tenant(body.user.as_deref())?);
        let cache_salt = cache_salt(body.cache_salt.as_deref())?;
        let mut wanted = structured::wanted(&body)?;
        let asked = asked(endpoint, &body, rules.min_tokens)?;
        let vocabulary_len = self.tokenizer.vocabulary_len();
        let log_probs = log_probs(endpoint, &body)?;
        let telling = Telling::new(endpoint, &body, log_probs, stream.is_some())?;
        let tool_use = ToolUse::new(endpoint, &body)?;
        let token_rules = self.token_rules(&body, wanted.is_some() || tool_use.forced.is_some())?;
        let request = SamplingRequest { log_probs, ..token_rules };
        let parameters = Parameters::new(&body, &rules, request, vocabulary_len)?;
        let prompting = self.prompting(endpoint, &body, asked.tokens)?;
        let hides_reasoning = body.include_reasoning == Some(false);
        let is_named = tool_use.is_named();
        let mut answers = AnswerForm { hides_reasoning, is_named, ..AnswerForm::default() };
        let prompts = match endpoint {
            Endpoint::Completions => self.raw_prompts(body.prompt.as_ref(), &prompting)?,
            Endpoint::Chat => {
                let Some(messages) = &body.messages else {
                    return Err(ApiError::invalid("messages", "`messages` is missing"));
                };
                let prompt = self.chat_prompt(messages, &tool_use.tools, &prompting)?;
                let ends_with_call = body.parallel_tool_calls == Some(false);
                answers.rules = AnswerRules { ends_with_call, ..prompt.rules };
                wanted = calls::wanted(&tool_use, &answers.rules, self.tokenizer, wanted)?;
                vec![prompt.ids]
            }
        };
        rules.masked_by = wanted.as_ref().map(|wanted| wanted.param).or(masked_by(&body));
        self.check_choices(prompts.len(), samples)?;
        let tokens = prompts.iter().map(|prompt| prompt.len() as u32).sum();
        let of_prompts = telling.bytes(self.tokenizer, &prompts, samples)?;
        let told = self.told(telling, (&body, &prompting), &prompts);
        let common = Common { asked, rules: &rules, parameters: &parameters, samples };
        let mut requests = self.requests(endpoint, prompts, &told, common)?;
        for request in &mut requests {
            (request.tenant, request.cache_salt) = (tenant, cache_salt);
            request.adapter = adapter;
        }
        let answers_len = requests.iter().map(|request| request.max_tokens as usize).sum();
        let room = of_prompts + telling.answers_bytes(of_prompts, answers_len)?;
        let (tells_ids, has_answer) = (telling.ids, asked.tokens != Some(0));
        let prompts = PromptSums { tokens, samples, tells_ids, has_answer, told };
        Ok(Valid { requests, adapter, wanted, rules, prompts, answers, room, stream })
    }

    /// The adapter that `model` names; none for the model itself, which absent or empty stands for.
    pub fn model(&self, model: Option<&str>) -> Result<Option<AdapterId>, ApiError> {
        let name = model.filter(|name| !name.is_empty()).unwrap_or(&self.info.model);
        self.info.served(name).ok_or_else(|| {
            let (model, served) = (name.to_owned(), self.info.names());
            ApiError::UnknownModel { model, served }
        })
    }

    /// Tokens of the prompt of a chat, also of more than can be served. What the answer would be chosen by is checked too.
    pub fn chat_len(&self, body: &GenerationBody) -> Result<usize, ApiError> {
        tenant(body.user.as_deref())?;
        cache_salt(body.cache_salt.as_deref())?;
        self.model(body.model.as_deref())?;
        let rules = self.stop_rules(body)?;
        let is_structured = structured::wanted(body)?.is_some();
        asked(Endpoint::Chat, body, rules.min_tokens)?;
        let tool_use = ToolUse::new(Endpoint::Chat, body)?;
        let request = self.token_rules(body, is_structured || tool_use.forced.is_some())?;
        Parameters::new(body, &rules, request, self.tokenizer.vocabulary_len())?;
        let Some(messages) = &body.messages else {
            return Err(ApiError::invalid("messages", "`messages` is missing"));
        };
        let prompting = Prompting::to_tell(Endpoint::Chat);
        Ok(self.chat_prompt(messages, &tool_use.tools, &prompting)?.ids.len())
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

    /// Answers that are asked for to each prompt.
    fn samples(&self, n: Option<i64>) -> Result<usize, ApiError> {
        let (n, most) = (n.unwrap_or(1), self.samples_max);
        if !(1..=i64::from(most)).contains(&n) {
            return Err(ApiError::invalid("n", format!("n is {n}; give 1 to {most}")));
        }
        Ok(usize::try_from(n).expect("between 1 and a small limit"))
    }

    /// Checks that a request with so many prompts does not have too many choices.
    fn check_choices(&self, prompts: usize, samples: usize) -> Result<(), ApiError> {
        let (choices, most) = (prompts * samples, SAMPLED_PROMPTS * self.samples_max as usize);
        if choices <= most {
            return Ok(());
        }
        let message = format!(
            "{prompts} prompts with n = {samples} make {choices} choices, more than {most}"
        );
        Err(ApiError::invalid("n", message))
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
        let min_tokens = body.min_tokens.map_or(0, i64::from);
        let min_tokens = u32::try_from(min_tokens).map_err(|_| {
            ApiError::invalid("min_tokens", format!("min_tokens is {min_tokens}; give 0 or more"))
        })?;
        let strings = (!strings.is_empty()).then(|| Arc::new(StopStrings::new(strings)));
        let shown = Shown {
            stop: body.include_stop_str_in_output == Some(true),
            control: body.skip_special_tokens == Some(false),
        };
        Ok(StopRules { tokens, min_tokens, strings, shown, masked_by: None })
    }

    /// A request for each choice, those of one prompt together.
    fn requests(
        &self,
        endpoint: Endpoint,
        prompts: Vec<Vec<u32>>,
        told: &[ToldPrompt],
        common: Common<'_>,
    ) -> Result<Vec<Request<Guided<SamplingParams>>>, ApiError> {
        let mut requests = Vec::with_capacity(prompts.len() * common.samples);
        for (prompt, told) in prompts.into_iter().zip(told) {
            let prompt = prompt.into_iter().map(TokenId).collect();
            let request = self.request(endpoint, prompt, common.asked, common.rules)?;
            // What is found of every position must be computed at every position.
            let request = Request { use_prefix_cache: told.scores.is_none(), ..request };
            for index in 0..common.samples {
                let params = common.parameters.choice(index);
                let params = match &told.scores {
                    Some(scores) => params.with_prompt_scores(scores.clone()),
                    None => params,
                };
                requests.push(request.clone().with_params(params.into()));
            }
        }
        Ok(requests)
    }

    /// The engine's view of one prompt, without its sampling.
    fn request(
        &self,
        endpoint: Endpoint,
        prompt: Vec<TokenId>,
        asked: Asked,
        rules: &StopRules,
    ) -> Result<Request<()>, ApiError> {
        let room =
            u32::try_from(prompt.len()).map_or(0, |len| self.limits.longest().saturating_sub(len));
        let max_tokens = asked.tokens.unwrap_or(asked.otherwise.min(room));
        let prompt_param = match endpoint {
            Endpoint::Completions => "prompt",
            Endpoint::Chat => "messages",
        };
        if room == 0 {
            let (tokens, longest) = (prompt.len(), self.limits.longest());
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
        // The engine ends requests with a token, also where none is asked for.
        let max_tokens = max_tokens.max(1);
        let (min_tokens, stop_tokens) = (rules.min_tokens, rules.tokens.clone());
        let priority = asked.priority;
        let request = Request {
            prompt,
            max_tokens,
            min_tokens,
            stop_tokens,
            priority,
            use_prefix_cache: true,
            cache_salt: CacheSalt::default(),
            adapter: None,
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
}

fn refuse_unsupported(body: &GenerationBody) -> Result<(), ApiError> {
    for (name, value) in &body.unsupported {
        let asks_for_nothing = UNSUPPORTED
            .iter()
            .find_map(|(known, test)| (known == name).then_some(*test))
            .expect("only names of the table are kept");
        if !asks_for_nothing(value) {
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

/// Whom a request is for: whoever `user` names. The name itself goes no further.
fn tenant(user: Option<&str>) -> Result<Tenant, ApiError> {
    let Some(user) = user else { return Ok(Tenant::default()) };
    if USER_BYTES < user.len() {
        let message = format!("user has {} bytes, more than {USER_BYTES}", user.len());
        return Err(ApiError::invalid("user", message));
    }
    Ok(Tenant::named(user.as_bytes()))
}

/// What keeps the request's blocks apart: a digest of the text, which itself goes no further.
fn cache_salt(salt: Option<&str>) -> Result<CacheSalt, ApiError> {
    let Some(salt) = salt else { return Ok(CacheSalt::default()) };
    if !(1..=CACHE_SALT_BYTES).contains(&salt.len()) {
        let length = salt.len();
        let message = format!("cache_salt has {length} bytes; give 1 to {CACHE_SALT_BYTES}");
        return Err(ApiError::invalid("cache_salt", message));
    }
    Ok(CacheSalt(Sha256::digest(salt).into()))
}

/// The place in the order that was asked for.
fn priority(priority: Option<i64>) -> Result<i32, ApiError> {
    let priority = priority.unwrap_or(0);
    i32::try_from(priority).map_err(|_| {
        let message = format!("priority is {priority}; give {} to {}", i32::MIN, i32::MAX);
        ApiError::invalid("priority", message)
    })
}

/// What the choices of a reply have in common.
#[derive(Clone, Copy)]
struct Common<'a> {
    asked: Asked,
    rules: &'a StopRules,
    parameters: &'a Parameters,
    samples: usize,
}

/// The length and the place in the order that were asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The field that says how long.
    param: &'static str,
    /// None if it was not said.
    tokens: Option<u32>,
    /// How long then, as far as there is room.
    otherwise: u32,
    /// A lower number goes first.
    priority: i32,
}

fn asked(endpoint: Endpoint, body: &GenerationBody, min_tokens: u32) -> Result<Asked, ApiError> {
    let (param, asked) = match (endpoint, body.max_completion_tokens, body.max_tokens) {
        (Endpoint::Chat, Some(asked), _) => ("max_completion_tokens", Some(asked)),
        (_, _, None) if body.n_predict.is_some() => ("n_predict", body.n_predict),
        (_, _, asked) => ("max_tokens", asked),
    };
    let priority = priority(body.priority.map(i64::from))?;
    let otherwise = match endpoint {
        Endpoint::Completions => COMPLETION_TOKENS_DEFAULT,
        Endpoint::Chat => u32::MAX,
    };
    let asked = match asked.map(i64::from) {
        None => return Ok(Asked { param, tokens: None, otherwise, priority }),
        Some(-1) if param == "n_predict" => {
            return Ok(Asked { param, tokens: None, otherwise: u32::MAX, priority });
        }
        Some(asked) => asked,
    };
    let tokens = match u32::try_from(asked) {
        // An echo may be all that is wanted.
        Ok(0) if endpoint == Endpoint::Completions && body.echo == Some(true) => 0,
        Ok(asked) if 0 < asked => asked,
        _ => return Err(ApiError::invalid(param, format!("{param} is {asked}; give 1 or more"))),
    };
    if tokens < min_tokens {
        let message = format!("min_tokens is {min_tokens}, more than {param} ({tokens})");
        return Err(ApiError::invalid("min_tokens", message));
    }
    Ok(Asked { param, tokens: Some(tokens), otherwise, priority })
}
