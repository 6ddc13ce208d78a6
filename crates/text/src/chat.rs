//! Chat messages to prompt segments, by the model's own template.
//!
//! Templates are Jinja programs out of model files: they run with bounded fuel, memory and stack,
//! see no files, no clock and no environment, and message text cannot make them write control
//! tokens (see `placeholders`).

mod guard;
mod message;
mod options;
mod placeholders;
mod tojson;
mod tools;
mod weight;

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, State, context};

use crate::answer::{AnswerRules, MARKS_OF_CALLS, MARKS_OF_THOUGHTS, Reasoning};
use crate::decoder::decode;
use crate::tokenizer::{Segment, Tokenizer};

pub use message::{JsonObject, Message, Tool, ToolCall};
pub use options::{Ending, RenderOptions, Variable};

use options::OWN_VARIABLES;
use placeholders::Placeholders;
use tools::AnswerStyle;

/// Why a template cannot be used, or why it cannot render some messages.
///
/// `Refused`, `PromptTooLong`, `OutOfFuel` and `NotContinued` are about the messages, the rest is about the
/// template or the engine.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template is larger than any real one.
    #[error("the chat template has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Size of the template.
        bytes: usize,
        /// Largest size.
        limit: usize,
    },
    /// Joining constants takes time that grows with the square of their number.
    #[error("the chat template has {count} `~` signs, the limit is {limit}")]
    TooManyJoins {
        /// Signs in the template.
        count: usize,
        /// Largest number.
        limit: usize,
    },
    /// The template writes a control token in parts, around a role.
    #[error(
        "the chat template builds the control token {token:?} from the role {role:?}; \
         only tokens written out in the template are supported"
    )]
    ComposedToken {
        /// The token.
        token: String,
        /// The role in the middle of it.
        role: &'static str,
    },
    /// The template uses a namespace as a value, which could come to hold itself.
    #[error(
        "chat template, line {line}: `{name}` is used as a value; a namespace is made by \
         `set NAME = namespace(...)` and used by its fields, `NAME.field`"
    )]
    Namespace {
        /// Line of the template, from 1.
        line: usize,
        /// The namespace, or `namespace` itself.
        name: String,
    },
    /// The template is not Jinja, or uses a statement that is not supported.
    #[error("chat template, line {line}: {message}")]
    Syntax {
        /// Line of the template, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The template refuses these messages, by `raise_exception`. The message is the template's.
    #[error("the chat template refuses these messages: {message}")]
    Refused {
        /// What the template says.
        message: String,
    },
    /// The template fails on these messages, for example by a function that is not supported.
    #[error("chat template, line {line}: {message}")]
    Render {
        /// Line of the template, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The template does more work than these messages can call for.
    #[error("chat template, line {line}: more than {limit} steps for {messages} messages")]
    OutOfFuel {
        /// Line of the template, from 1.
        line: usize,
        /// Messages given.
        messages: usize,
        /// Steps allowed for them.
        limit: u64,
    },
    /// The prompt is larger than any context.
    #[error("the rendered chat has {bytes} bytes, the limit is {limit}")]
    PromptTooLong {
        /// Size of the prompt.
        bytes: usize,
        /// Largest size.
        limit: usize,
    },
    /// The template does not show the end of the last message, so the answer cannot go on there.
    #[error("the chat template does not show the last message as it is, so it cannot be continued")]
    NotContinued,
    /// The template engine panicked, or there is no memory for its thread.
    #[error("the chat template engine failed: {0}")]
    Engine(String),
}

/// Largest template in bytes. Those of 2025's models have up to about 20,000.
const MAX_SOURCE_BYTES: usize = 65_536;

/// Most `~` signs in a template: minijinja folds a chain of constants in quadratic time.
const MAX_JOINS: usize = 1_000;

/// Largest prompt in bytes.
const MAX_PROMPT_BYTES: usize = 4 << 20;

/// Steps of a render: for the template itself, for each message, and at most. minijinja counts
/// one for an instruction and one for each 64 bytes made, so fuel bounds memory as well (600,000
/// is 38 MB). Templates of 2025 take up to about 100 steps for a message.
const FUEL_BASE: u64 = 30_000;
const FUEL_PER_MESSAGE: u64 = 1_000;
const FUEL_MAX: u64 = 600_000;

/// Message bytes for one step: each byte may be copied 16 times.
const BYTES_PER_FUEL: u64 = 4;

/// Stack on which templates are compiled and run, in bytes of address space; pages are taken as
/// they are used. minijinja recurses once for each level of nesting, of which a template of
/// `MAX_SOURCE_BYTES` can write, and one with `FUEL_MAX` can build, some ten thousand.
const STACK_BYTES: usize = 128 << 20;

/// Name of the one template in its environment.
const NAME: &str = "chat";

/// A model's chat template, compiled.
///
/// It sees what Hugging Face's `apply_chat_template` gives: `messages` (each with `role` and
/// `content`, and `tool_calls`, `tool_call_id`, `name` and `reasoning_content` where it has them),
/// `tools` (none without any), `add_generation_prompt`, `bos_token`, `eos_token`,
/// `raise_exception(text)`, and `documents` as none; blocks are trimmed as there, `break` and
/// `continue` work, and so do Python's string methods but `format`. Clients may add variables. There is no
/// `strftime_now`: a prompt depends on its messages alone, and templates that ask first fall back to a fixed
/// date.
///
/// A template that knows no functions, or writes calls in a way that answers are not read in, sees
/// them as text: descriptions in the system message, calls between `<tool_call>` marks in messages
/// of the assistant, results in messages of the user.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    style: AnswerStyle,
    /// Whether a system message comes through; asked only of those that know no functions.
    takes_system: bool,
    /// Control tokens that are spelt like marks of thoughts, and of calls.
    marks: [Vec<u32>; 2],
    placeholders: Placeholders,
    bos_token: String,
    eos_token: String,
}

impl ChatTemplate {
    /// Compiles `source`, the template of the model that `tokenizer` belongs to.
    ///
    /// `bos_token` and `eos_token` are the tokenizer's begin token and first end token, or empty.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        check_size(source)?;
        let style = AnswerStyle::of(source);
        let marks = [MARKS_OF_THOUGHTS, MARKS_OF_CALLS].map(|marks| {
            let spelt = tokenizer.control_tokens().filter(|(_, token)| marks.contains(token));
            spelt.map(|(id, _)| id).collect()
        });
        let (placeholders, source) = Placeholders::new(source, tokenizer)?;
        let text = |id: Option<u32>| {
            id.map_or_else(String::new, |id| token_text(id, tokenizer, &placeholders))
        };
        let bos_token = text(tokenizer.bos());
        let eos_token = text(tokenizer.end_tokens().first().copied());
        let environment = on_large_stack(|| compile(source))??;
        let takes_system = true;
        let mut template =
            Self { environment, style, takes_system, marks, placeholders, bos_token, eos_token };
        template.takes_system = style.writes_tools || template.shows_system();
        Ok(template)
    }

    /// Whether a system message is neither refused nor dropped.
    fn shows_system(&self) -> bool {
        const PROBE: &str = "Describe the functions here.";
        let messages = [Message::new("system", PROBE), Message::new("user", "Hello")];
        let segments = self.render(&messages, &[], true).unwrap_or_default();
        segments.iter().any(|s| matches!(s, Segment::Text(text) if text.contains(PROBE)))
    }

    /// How answers to a `prompt` that [`ChatTemplate::render`] gave for `tools` are divided.
    pub fn answer_rules(&self, prompt: &[Segment], tools: &[Tool]) -> AnswerRules {
        let reasoning = match self.style.thinks {
            true if tools::opens_thoughts(&self.placeholders.end_of(prompt)) => Reasoning::Open,
            true => Reasoning::MayOpen,
            false => Reasoning::None,
        };
        let [thoughts, calls] = &self.marks;
        let mut marks = Vec::new();
        marks.extend(thoughts.iter().filter(|_| self.style.thinks));
        marks.extend(calls.iter().filter(|_| !tools.is_empty()));
        AnswerRules {
            reasoning,
            tools: (!tools.is_empty()).then_some(self.style.format),
            names: tools.iter().map(|tool| tool.name.clone()).collect(),
            ends_with_call: false,
            marks,
        }
    }

    /// Whether clients may give the template a variable of this name: none that it sees as something
    /// else.
    pub fn takes_variable(&self, name: &str) -> bool {
        let is_global = self.environment.globals().any(|(global, _)| global == name);
        !is_global && !OWN_VARIABLES.contains(&name)
    }

    /// The prompt for `messages`, ready for [`Tokenizer::encode_segments`]; the answer may call
    /// `tools`. Nothing but the beginning of the assistant's answer is added, if that.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[Tool],
        add_generation_prompt: bool,
    ) -> Result<Vec<Segment>, TemplateError> {
        let ending = if add_generation_prompt { Ending::AnswerBegun } else { Ending::Closed };
        self.render_with(messages, tools, &RenderOptions { ending, variables: &[] })
    }

    /// As [`ChatTemplate::render`], written as `options` say.
    ///
    /// No text segment is empty and no two stand side by side. Runs on a thread of its own and waits.
    pub fn render_with(
        &self,
        messages: &[Message],
        tools: &[Tool],
        options: &RenderOptions<'_>,
    ) -> Result<Vec<Segment>, TemplateError> {
        let limit = fuel(messages, tools);
        let has_functions = !tools.is_empty() || messages.iter().any(is_about_calls);
        let spelt;
        let (messages, tools) = if has_functions && !self.style.writes_tools {
            spelt = tools::spelt_out(messages, tools, self.takes_system)?;
            (spelt.as_slice(), [].as_slice())
        } else {
            (messages, tools)
        };
        let rendered = on_large_stack(|| {
            let mut environment = self.environment.clone();
            environment.set_fuel(Some(limit));
            let template = environment.get_template(NAME)?;
            template.render(self.context(messages, tools, options))
        })?;
        let mut rendered =
            rendered.map_err(|error| self.render_error(&error, messages.len(), limit))?;
        if rendered.len() > MAX_PROMPT_BYTES {
            let bytes = rendered.len();
            return Err(TemplateError::PromptTooLong { bytes, limit: MAX_PROMPT_BYTES });
        }
        if options.ending == Ending::LastMessageOpen {
            let cut = self.placeholders.cut_at_mark(&rendered);
            rendered = cut.ok_or(TemplateError::NotContinued)?;
        }
        Ok(self.placeholders.segments(&rendered))
    }

    fn context(&self, messages: &[Message], tools: &[Tool], options: &RenderOptions<'_>) -> Value {
        let open = match options.ending {
            Ending::LastMessageOpen => messages.len().checked_sub(1),
            Ending::Closed | Ending::AnswerBegun => None,
        };
        let messages = messages.iter().enumerate();
        let messages: Vec<Value> =
            messages.map(|(index, message)| self.message(message, open == Some(index))).collect();
        let tool = |tool| self.placeholders.escape_json(&tools::tool_value(tool));
        let tools: Option<Vec<Value>> =
            (!tools.is_empty()).then(|| tools.iter().map(tool).collect());
        context! {
            messages,
            add_generation_prompt => options.ending == Ending::AnswerBegun,
            bos_token => &self.bos_token,
            eos_token => &self.eos_token,
            tools,
            documents => (),
            ..self.variables(options)
        }
    }

    fn variables(&self, options: &RenderOptions<'_>) -> Value {
        let value = |variable: &Variable| match variable {
            Variable::Switch(on) => Value::from(*on),
            Variable::Whole(number) => Value::from(*number),
            Variable::Number(number) => Value::from(*number),
            Variable::Text(text) => Value::from(self.placeholders.escape(text)),
        };
        Value::from_pairs(options.variables.iter().map(|(name, v)| (name.as_str(), value(v))))
    }

    fn message(&self, message: &Message, is_open: bool) -> Value {
        let text = |text: &str| Value::from(self.placeholders.escape(text));
        let content = match is_open {
            true => Value::from(self.placeholders.escape_and_mark(&message.content)),
            false => text(&message.content),
        };
        let mut fields = vec![("role", text(&message.role)), ("content", content)];
        let mut optional = |name, value: &Option<String>| {
            fields.extend(value.as_deref().map(|value| (name, text(value))));
        };
        optional("reasoning_content", &message.reasoning);
        optional("tool_call_id", &message.tool_call_id);
        optional("name", &message.name);
        if !message.tool_calls.is_empty() {
            let call = |call: &ToolCall| {
                let arguments = self.placeholders.escape_json(call.arguments.value());
                let function = context! { name => text(&call.name), arguments };
                context! { id => text(&call.id), type => "function", function }
            };
            let calls: Vec<Value> = message.tool_calls.iter().map(call).collect();
            fields.push(("tool_calls", Value::from(calls)));
        }
        Value::from_pairs(fields)
    }

    fn render_error(&self, error: &minijinja::Error, messages: usize, limit: u64) -> TemplateError {
        let line = error.line().unwrap_or(1);
        if let Some(refusal) = refusal(error) {
            return TemplateError::Refused { message: self.placeholders.plain(&refusal.0) };
        }
        if error.kind() == ErrorKind::OutOfFuel {
            return TemplateError::OutOfFuel { line, messages, limit };
        }
        TemplateError::Render { line, message: self.placeholders.plain(&describe(error)) }
    }
}

fn check_size(source: &str) -> Result<(), TemplateError> {
    let bytes = source.len();
    if bytes > MAX_SOURCE_BYTES {
        return Err(TemplateError::TooLong { bytes, limit: MAX_SOURCE_BYTES });
    }
    let count = source.matches('~').count();
    if count > MAX_JOINS {
        return Err(TemplateError::TooManyJoins { count, limit: MAX_JOINS });
    }
    Ok(())
}

/// What a template sees of a begin or end token.
fn token_text(id: u32, tokenizer: &Tokenizer, placeholders: &Placeholders) -> String {
    match placeholders.of(id) {
        Some(placeholder) => placeholder.to_string(),
        None => decode(tokenizer, &[id], false),
    }
}

/// Whether a message calls functions, or is what a function gave.
fn is_about_calls(message: &Message) -> bool {
    message.role == "tool" || !message.tool_calls.is_empty()
}

/// Steps that a render of `messages` and `tools` may take.
fn fuel(messages: &[Message], tools: &[Tool]) -> u64 {
    let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let mut bytes = 0;
    let mut items = messages.len() + tools.len();
    for message in messages {
        bytes += message.role.len() + message.content.len() + optional(&message.reasoning);
        items += message.tool_calls.len();
        bytes += message.tool_calls.iter().map(|call| call.arguments.json_len()).sum::<usize>();
    }
    for tool in tools {
        let schema = tool.parameters.as_ref().map_or(0, JsonObject::json_len);
        bytes += tool.name.len() + optional(&tool.description) + schema;
    }
    let for_messages = FUEL_PER_MESSAGE.saturating_mul(items as u64);
    (FUEL_BASE + bytes as u64 / BYTES_PER_FUEL).saturating_add(for_messages).min(FUEL_MAX)
}

fn compile(source: String) -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    let syntax = minijinja::syntax::SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .expect("the default delimiters are valid");
    environment.set_syntax(syntax.clone());
    environment.set_debug(false);
    environment.set_unknown_method_callback(python_method);
    environment.add_filter("tojson", tojson::tojson);
    weight::limit(&mut environment);
    environment.add_function("raise_exception", raise_exception);
    let source = guard::guard(source, syntax)?;
    environment.add_template_owned(NAME, source).map_err(|error| TemplateError::Syntax {
        line: error.line().unwrap_or(1),
        message: describe(&error),
    })?;
    Ok(environment)
}

/// Python's methods of strings, lists and dictionaries, and those that `guard` writes. `format`
/// is left out: its widths make text of any size before fuel is counted.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, minijinja::Error> {
    if method == guard::CHARGE && arguments.is_empty() {
        return Ok(value.clone());
    }
    if method == weight::WEIGHED && arguments.is_empty() {
        weight::weigh(state, value)?;
        return Ok(value.clone());
    }
    if method == "format" {
        return Err(ErrorKind::UnknownMethod.into());
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}

/// What a template said by `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    let error = minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception");
    Err(error.with_source(Refusal(message)))
}

/// The refusal at the bottom of an error, if there is one.
fn refusal(error: &minijinja::Error) -> Option<&Refusal> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
        .find_map(|error| error.downcast_ref::<Refusal>())
}

fn describe(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// Runs `work` on a thread with a stack of [`STACK_BYTES`] and waits for it.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat-template".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| TemplateError::Engine(format!("no thread to run it: {error}")))?;
        thread.join().map_err(|_| TemplateError::Engine("it panicked".to_owned()))
    })
}

#[cfg(test)]
mod tests;
