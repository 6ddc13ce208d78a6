//! A body of `/v1/responses` as one of a chat.

use serde_json::{Value, json};
use text::JsonObject;

use crate::limits::{METADATA_BYTES, NAME_BYTES};
use crate::openai::error::ApiError;
use crate::openai::tools::{
    AllowedTools, Arguments, FunctionBody, FunctionName, NamedTool, ToolBody, ToolChoice, Tools,
};
use crate::openai::types::{ChatMessage, Content, GenerationBody, Part};
use crate::origins::Origins;
use crate::responses::types::{
    Input, Item, NamedTool as TheirNamed, ResponsesBody, TextFormat, ToolBody as TheirTool,
    ToolChoice as TheirChoice,
};
use crate::transcript::Transcript;

/// Fields of chats that have another name here.
pub const FIELDS: [(&str, &str); 5] = [
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("n_predict", "max_output_tokens"),
    ("messages", "input"),
    ("response_format", "text.format"),
];

/// Checks what chats have no place for.
pub fn check(body: &ResponsesBody) -> Result<(), ApiError> {
    refuse_unsupported(body)?;
    check_metadata(body.metadata.as_ref())?;
    body.text.as_ref().and_then(|text| text.format.as_ref()).map_or(Ok(()), check_format)
}

/// The chat that a checked `body` asks for, and where its messages come from.
pub fn chat(body: ResponsesBody) -> Result<(GenerationBody, Origins), ApiError> {
    let mut chat = Chat { transcript: Transcript::of("input"), turn: None };
    if let Some(instructions) = body.instructions {
        chat.say("system", "instructions".to_owned(), Content::Text(instructions))?;
    }
    match body.input {
        None => return Err(ApiError::invalid("input", "`input` is missing")),
        Some(Input::Text(text)) => chat.say("user", "input".to_owned(), Content::Text(text))?,
        Some(Input::List(items)) if items.is_empty() => {
            return Err(ApiError::invalid("input", "there must be at least one item"));
        }
        Some(Input::List(items)) => {
            for (index, item) in items.into_iter().enumerate() {
                chat.item(format!("input[{index}]"), item)?;
            }
        }
    }
    chat.flush()?;
    let (messages, origins) = chat.transcript.end();
    let tools = body.tools.map(|tools| (0..).zip(tools).map(tool).collect::<Result<_, _>>());
    let tools = tools.transpose()?.map(Tools::new).transpose()?;
    let generation = GenerationBody {
        model: body.model,
        messages: Some(messages),
        max_completion_tokens: body.max_output_tokens,
        temperature: body.temperature,
        top_p: body.top_p,
        user: body.user,
        cache_salt: body.cache_salt,
        response_format: body.text.and_then(|text| text.format).map(response_format),
        stream: body.stream,
        tools,
        tool_choice: body.tool_choice.map(tool_choice),
        parallel_tool_calls: body.parallel_tool_calls,
        ..GenerationBody::default()
    };
    Ok((generation, origins))
}

fn refuse_unsupported(body: &ResponsesBody) -> Result<(), ApiError> {
    const NOTHING_STORED: &str = "this server stores no responses; send the whole `input`";
    const NOT_SERVED: &str = "it is not supported by this server; leave it out";
    let fields = [
        ("previous_response_id", &body.previous_response_id, Value::Null, NOTHING_STORED),
        ("conversation", &body.conversation, Value::Null, NOTHING_STORED),
        ("background", &body.background, Value::Bool(false), NOT_SERVED),
        ("prompt", &body.prompt, Value::Null, NOT_SERVED),
        ("top_logprobs", &body.top_logprobs, Value::from(0), NOT_SERVED),
    ];
    for (name, value, nothing, why) in fields {
        if value.as_ref().is_some_and(|value| !value.is_null() && *value != nothing) {
            return Err(ApiError::invalid(name, format!("`{name}`: {why}")));
        }
    }
    Ok(())
}

/// Checks what is told back and means nothing here.
fn check_metadata(metadata: Option<&JsonObject>) -> Result<(), ApiError> {
    let bytes = metadata.map_or(0, JsonObject::json_len);
    if METADATA_BYTES < bytes {
        let message = format!("metadata has {bytes} bytes, more than {METADATA_BYTES}");
        return Err(ApiError::invalid("metadata", message));
    }
    Ok(())
}

/// Checks that a format has what its type has, and no more: it is told back. The schema itself is checked
/// as in chats.
fn check_format(format: &TextFormat) -> Result<(), ApiError> {
    let is_schema = format.kind == "json_schema";
    let refused = |field: &str, message: String| {
        Err(ApiError::invalid(format!("text.format.{field}"), message))
    };
    match &format.schema {
        None if is_schema => refused("schema", "`schema` is missing".to_owned()),
        Some(_) if !is_schema => {
            refused("schema", "a schema needs the type `json_schema`".to_owned())
        }
        Some(schema) if !schema.is_object() => {
            refused("schema", "a schema is an object".to_owned())
        }
        _ => match format.name.as_ref().map_or(0, String::len) {
            bytes if NAME_BYTES < bytes => {
                refused("name", format!("{bytes} bytes, more than {NAME_BYTES}"))
            }
            _ => Ok(()),
        },
    }
}

/// The chat in the making.
struct Chat {
    transcript: Transcript,
    /// The assistant's turn in the making: thoughts, what it said and calls are items of their own.
    turn: Option<(String, ChatMessage)>,
}

impl Chat {
    fn say(&mut self, role: &str, origin: String, content: Content) -> Result<(), ApiError> {
        self.flush()?;
        self.transcript.say(role, origin, content)
    }

    /// Ends the assistant's turn.
    fn flush(&mut self) -> Result<(), ApiError> {
        match self.turn.take() {
            Some((origin, message)) => self.transcript.push(origin, message),
            None => Ok(()),
        }
    }

    /// The assistant's turn, which begins at `at` if there is none.
    fn turn(&mut self, at: String) -> &mut ChatMessage {
        &mut self.turn.get_or_insert_with(|| (at, ChatMessage::of("assistant"))).1
    }

    fn item(&mut self, at: String, item: Item) -> Result<(), ApiError> {
        match item.kind.as_deref() {
            None | Some("message") => self.message(at, item),
            Some("function_call") => self.call(at, item),
            Some("function_call_output") => self.output(at, item),
            Some("reasoning") => {
                // What OpenAI's servers keep for themselves has no content.
                if let Some(content) = item.content {
                    let thoughts = joined(text_of(&format!("{at}.content"), content)?);
                    self.flush()?;
                    self.turn(at).reasoning_content = Some(thoughts);
                }
                Ok(())
            }
            Some(kind) => {
                let message = format!("items of type `{kind}` are not supported by this server");
                Err(ApiError::invalid(format!("{at}.type"), message))
            }
        }
    }

    fn message(&mut self, at: String, item: Item) -> Result<(), ApiError> {
        let missing = |field: &str| {
            ApiError::invalid(format!("{at}.{field}"), format!("`{field}` is missing"))
        };
        let role = item.role.ok_or_else(|| missing("role"))?;
        let content = item.content.ok_or_else(|| missing("content"))?;
        let content = text_of(&format!("{at}.content"), content)?;
        if role != "assistant" {
            return self.say(&role, at, content);
        }
        let is_begun =
            |message: &ChatMessage| message.content.is_some() || message.tool_calls.is_some();
        if self.turn.as_ref().is_some_and(|(_, message)| is_begun(message)) {
            self.flush()?;
        }
        self.turn(at).content = Some(content);
        Ok(())
    }

    fn call(&mut self, at: String, item: Item) -> Result<(), ApiError> {
        let (Some(id), Some(name)) = (item.call_id, item.name) else {
            return Err(ApiError::invalid(at, "a call has a `call_id` and a `name`"));
        };
        let (at, turn) = self.turn.get_or_insert_with(|| (at, ChatMessage::of("assistant")));
        let calls = turn.tool_calls.get_or_insert_default();
        self.transcript.call(at, calls, (id, name), item.arguments.map(Arguments::Text))
    }

    fn output(&mut self, at: String, item: Item) -> Result<(), ApiError> {
        let (Some(id), Some(output)) = (item.call_id, item.output) else {
            return Err(ApiError::invalid(
                at,
                "the output of a call has a `call_id` and an `output`",
            ));
        };
        let output = text_of(&format!("{at}.output"), output)?;
        self.flush()?;
        self.transcript.result(at, id, output)
    }
}

/// A text, or parts of text.
fn text_of(at: &str, content: Content) -> Result<Content, ApiError> {
    let parts = match content {
        Content::Text(text) => return Ok(Content::Text(text)),
        Content::List(parts) => parts,
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.into_iter().enumerate() {
        let is_text = ["input_text", "output_text", "reasoning_text", "text"];
        if !is_text.contains(&part.kind.as_str()) {
            let message = format!("parts of type `{}` are not supported; send text", part.kind);
            return Err(ApiError::invalid(format!("{at}[{index}].type"), message));
        }
        let Some(text) = part.text else {
            return Err(ApiError::invalid(format!("{at}[{index}].text"), "`text` is missing"));
        };
        texts.push(Part { kind: "text".to_owned(), text: Some(text) });
    }
    Ok(Content::List(texts))
}

fn joined(content: Content) -> String {
    match content {
        Content::Text(text) => text,
        Content::List(parts) => {
            let texts: Vec<String> = parts.into_iter().filter_map(|part| part.text).collect();
            texts.join("\n")
        }
    }
}

fn tool((index, tool): (usize, TheirTool)) -> Result<ToolBody, ApiError> {
    let TheirTool { kind, name, description, parameters, .. } = tool;
    if kind == "function" && name.is_none() {
        return Err(ApiError::invalid(format!("tools[{index}].name"), "`name` is missing"));
    }
    let function = name.map(|name| FunctionBody { name, description, parameters });
    Ok(ToolBody { kind, function })
}

/// In the words of chats.
fn tool_choice(choice: TheirChoice) -> ToolChoice {
    match choice {
        TheirChoice::Mode(mode) => ToolChoice::Mode(mode),
        TheirChoice::Named(tool) => ToolChoice::Named(named(tool)),
        TheirChoice::Allowed { kind, mode, tools } => {
            let tools = tools.into_iter().map(named).collect();
            ToolChoice::Allowed { kind, allowed_tools: AllowedTools { mode, tools } }
        }
    }
}

fn named(TheirNamed { kind, name }: TheirNamed) -> NamedTool {
    NamedTool { kind, function: FunctionName { name } }
}

fn response_format(format: TextFormat) -> Value {
    let TextFormat { kind, name, schema, .. } = format;
    match schema {
        Some(schema) => json!({"type": kind, "json_schema": {"name": name, "schema": schema}}),
        None => json!({"type": kind}),
    }
}
