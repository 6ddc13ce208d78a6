//! Request bodies as they arrive: shapes are checked here, values in `validate`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::limits::{MESSAGES, PROMPTS};
use crate::openai::error::ApiError;
use crate::openai::integer::Integer;
use crate::openai::text_or::TextOr;
use crate::openai::tools::{ToolCallBody, ToolChoice, Tools};
use crate::openai::unsupported::{UNSUPPORTED, is_empty};
use crate::openai::values::check_count;

/// Reads a body; an error names the field that does not have the right shape.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    check_count(body)?;
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        // A root error's path is a lone dot.
        match path.as_str() {
            "." | "?" => ApiError::Invalid { param: None, message: format!("bad body: {message}") },
            _ => ApiError::invalid(path.clone(), format!("bad `{path}`: {message}")),
        }
    })?;
    json.end().map_err(|error| ApiError::Invalid {
        param: None,
        message: format!("bad body: {error}"),
    })?;
    Ok(value)
}

/// Declares [`GenerationBody`]: each field is optional, `null` counts as absent, a field that
/// comes twice is an error, the names in `UNSUPPORTED` are kept for `validate`, others are dropped.
macro_rules! generation_body {
    ($($(#[$doc:meta])+ $field:ident: $kind:ty,)+) => {
        /// Body of `/v1/completions` and `/v1/chat/completions`: each reads the fields it has.
        #[derive(Debug, Default)]
        pub struct GenerationBody {
            $($(#[$doc])+ pub $field: Option<$kind>,)+
            /// What came in fields that are known but not served.
            pub unsupported: Vec<(&'static str, Value)>,
        }

        impl GenerationBody {
            /// The fields that are read.
            pub const FIELDS: &[&str] = &[$(stringify!($field),)+];
        }

        impl<'de> Visitor<'de> for BodyVisitor {
            type Value = GenerationBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GenerationBody, A::Error> {
                let mut body = GenerationBody::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        $(stringify!($field) => {
                            if body.$field.is_some() {
                                return Err(A::Error::duplicate_field(stringify!($field)));
                            }
                            body.$field = map.next_value()?;
                        })+
                        other => match UNSUPPORTED.iter().find(|(name, _)| *name == other) {
                            Some((name, _)) => body.unsupported.push((*name, map.next_value()?)),
                            None => {
                                map.next_value::<IgnoredAny>()?;
                            }
                        },
                    }
                }
                Ok(body)
            }
        }
    };
}

struct BodyVisitor;

generation_body! {
    /// Name of the model; absent or empty: the one that is served.
    model: String,
    /// Completions: what to continue.
    prompt: Prompt,
    /// Chat: what was said.
    messages: Messages,
    /// Longest answer in tokens.
    max_tokens: Integer,
    /// Chat's newer name of `max_tokens`; wins over it.
    max_completion_tokens: Integer,
    /// llama-server's name of `max_tokens`; -1: what is left of the context.
    n_predict: Integer,
    /// Tokens before which the answer may not stop.
    min_tokens: Integer,
    /// Whether the model's end tokens are ordinary tokens.
    ignore_eos: bool,
    /// 0: the most likely token.
    temperature: f64,
    /// Nucleus.
    top_p: f64,
    /// Candidates; 0 or -1: all.
    top_k: Integer,
    /// Least probability of a candidate, as a fraction of the best one's.
    min_p: f64,
    /// Divides the logits of tokens seen in prompt or answer.
    repetition_penalty: f64,
    /// llama-server's name of `repetition_penalty`.
    repeat_penalty: f64,
    /// Subtracted from the logits of tokens seen in the answer.
    presence_penalty: f64,
    /// Subtracted once per occurrence in the answer.
    frequency_penalty: f64,
    /// Makes sampling repeatable.
    seed: Integer,
    /// Strings that end the answer.
    stop: Strings,
    /// Tokens that end the answer.
    stop_token_ids: Vec<i64>,
    /// Whether log-probabilities are wanted, or of how many tokens.
    logprobs: LogProbsField,
    /// Chat: of how many of the likeliest tokens beside the chosen one.
    top_logprobs: Integer,
    /// What is added to the logits of tokens, by their ids.
    logit_bias: BTreeMap<String, f64>,
    /// Tokens that alone may be chosen.
    allowed_token_ids: Vec<i64>,
    /// Texts that answers do not have.
    bad_words: Vec<String>,
    /// Of how many of the likeliest tokens, beside its own, at each position of the prompt.
    prompt_logprobs: Integer,
    /// Completions: whether the answer's text begins with the prompt.
    echo: bool,
    /// Answers per prompt.
    n: Integer,
    /// Place in the queue: a lower number goes first.
    priority: Integer,
    /// Whom the request is for; where tenants share, requests of one user share.
    user: String,
    /// Requests with other salts share nothing that is cached.
    cache_salt: String,
    /// How many of the prompt's last tokens are kept; -1: as many as fit.
    truncate_prompt_tokens: Integer,
    /// Whether the model's begin and end tokens are added to the prompt.
    add_special_tokens: bool,
    /// Whether control tokens leave no trace in the answer's text.
    skip_special_tokens: bool,
    /// Whether a stop string or token is shown.
    include_stop_str_in_output: bool,
    /// Whether the ids of prompt and answer are told.
    return_token_ids: bool,
    /// OpenAI: what the answer must look like.
    response_format: Value,
    /// vLLM: what the answer must look like.
    structured_outputs: Value,
    /// vLLM, before: a JSON schema for the answer.
    guided_json: Value,
    /// vLLM, before: a regular expression for the answer.
    guided_regex: Value,
    /// vLLM, before: texts of which the answer is one.
    guided_choice: Value,
    /// vLLM, before: a grammar for the answer.
    guided_grammar: Value,
    /// llama-server: a JSON schema for the answer.
    json_schema: Value,
    /// SGLang: a regular expression for the answer.
    regex: Value,
    /// llama-server: a grammar for the answer.
    grammar: Value,
    /// Whether to stream.
    stream: bool,
    /// What the stream tells besides text.
    stream_options: StreamOptions,
    /// Chat: functions that the answer may call.
    tools: Tools,
    /// Chat: whether it may, or must.
    tool_choice: ToolChoice,
    /// Chat: whether it may call more than one.
    parallel_tool_calls: bool,
    /// Chat: whether thoughts are told.
    include_reasoning: bool,
    /// Chat: whether the assistant's answer is begun in the prompt.
    add_generation_prompt: bool,
    /// Chat: whether the answer goes on with the last message.
    continue_final_message: bool,
    /// Chat: variables for the template.
    chat_template_kwargs: BTreeMap<String, Value>,
}

impl<'de> Deserialize<'de> for GenerationBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BodyVisitor)
    }
}

/// `stream_options`.
#[derive(Debug, Default, Deserialize)]
pub struct StreamOptions {
    /// Whether a last chunk carries the usage.
    pub include_usage: Option<bool>,
    /// Whether every chunk carries the usage so far.
    pub continuous_usage_stats: Option<bool>,
}

/// `logprobs`: a switch in chats, a number in completions.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected a boolean or a whole number")]
pub enum LogProbsField {
    /// Whether.
    Switch(bool),
    /// Of how many of the likeliest tokens.
    Count(Integer),
}

/// One string or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Strings {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// `prompt`: a text, ids, or a list of either.
pub type Prompt = Prompts<PROMPTS>;

/// A text, ids, or a list of either, of at most `MAX` entries.
#[derive(Debug)]
pub struct Prompts<const MAX: usize>(pub Vec<PromptItem>);

/// One prompt.
#[derive(Debug)]
pub enum PromptItem {
    /// To be tokenised.
    Text(String),
    /// Ids as they came: any integer.
    Ids(Vec<i64>),
}

impl<'de, const MAX: usize> Deserialize<'de> for Prompts<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PromptVisitor<const MAX: usize>;
        impl<'de, const MAX: usize> Visitor<'de> for PromptVisitor<MAX> {
            type Value = Prompts<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list of token ids, or a list of either")
            }

            fn visit_str<E>(self, text: &str) -> Result<Prompts<MAX>, E> {
                Ok(Prompts(vec![PromptItem::Text(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Prompts<MAX>, A::Error> {
                let mut items = Vec::new();
                match list.next_element()? {
                    None => return Ok(Prompts(items)),
                    Some(Element::Item(item)) => items.push(item),
                    // A list that begins with an id holds ids only.
                    Some(Element::Id(first)) => {
                        let mut ids = vec![first];
                        while let Some(id) = list.next_element()? {
                            ids.push(id);
                        }
                        return Ok(Prompts(vec![PromptItem::Ids(ids)]));
                    }
                }
                while let Some(element) = list.next_element()? {
                    match element {
                        Element::Item(_) if items.len() == MAX => {
                            return Err(A::Error::custom(format!(
                                "more than {MAX} prompts in one request; send several requests"
                            )));
                        }
                        Element::Item(item) => items.push(item),
                        Element::Id(id) => {
                            return Err(A::Error::custom(format!(
                                "the token id {id} stands beside whole prompts"
                            )));
                        }
                    }
                }
                Ok(Prompts(items))
            }
        }
        deserializer.deserialize_any(PromptVisitor::<MAX>)
    }
}

/// One element of a list of prompts.
enum Element {
    Id(i64),
    Item(PromptItem),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;
        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token id, or a list of token ids")
            }

            fn visit_i64<E>(self, id: i64) -> Result<Element, E> {
                Ok(Element::Id(id))
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Element, E> {
                let id =
                    i64::try_from(id).map_err(|_| E::custom(format!("{id} is no token id")))?;
                Ok(Element::Id(id))
            }

            fn visit_str<E>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Item(PromptItem::Text(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = list.next_element()? {
                    ids.push(id);
                }
                Ok(Element::Item(PromptItem::Ids(ids)))
            }
        }
        deserializer.deserialize_any(ElementVisitor)
    }
}

/// `messages`, at most [`MESSAGES`].
#[derive(Debug)]
pub struct Messages(pub Vec<ChatMessage>);

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MessagesVisitor;
        impl<'de> Visitor<'de> for MessagesVisitor {
            type Value = Messages;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Messages, A::Error> {
                let mut messages = Vec::new();
                while let Some(message) = list.next_element()? {
                    if messages.len() == MESSAGES {
                        return Err(A::Error::custom(format!("more than {MESSAGES} messages")));
                    }
                    messages.push(message);
                }
                Ok(Messages(messages))
            }
        }
        deserializer.deserialize_seq(MessagesVisitor)
    }
}

/// One message of a chat.
#[derive(Debug, Default, Deserialize)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: String,
    /// What is said; an assistant's message may have none.
    #[serde(default)]
    pub content: Option<Content>,
    /// Functions that the assistant called.
    #[serde(default)]
    pub tool_calls: Option<Vec<ToolCallBody>>,
    /// The call that a tool answers.
    #[serde(default)]
    pub tool_call_id: Option<String>,
    /// Name of who speaks.
    #[serde(default)]
    pub name: Option<String>,
    /// The assistant's thoughts.
    #[serde(default)]
    pub reasoning_content: Option<String>,
    /// The older form of `tool_calls`: not served.
    #[serde(default)]
    pub function_call: Option<Value>,
}

impl ChatMessage {
    /// A message of `role` without anything in it.
    pub fn of(role: &str) -> Self {
        ChatMessage { role: role.to_owned(), ..ChatMessage::default() }
    }

    /// Whether the message asks for something that is not served.
    pub fn has_function_call(&self) -> bool {
        self.function_call.as_ref().is_some_and(|value| !is_empty(value))
    }
}

/// `content` of a message.
pub type Content = TextOr<Part>;

/// One part of a content: `{"type": "text", "text": …}`; other types are refused by `validate`.
#[derive(Debug, Deserialize)]
pub struct Part {
    /// What the part is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text of a text part.
    #[serde(default)]
    pub text: Option<String>,
}
