//! A body of `/v1/responses` as one of a chat.

use serde_json::{Value, json};
use text::JsonObject;

use crate::limits::METADATA_BYTES;
use crate::openai::error::ApiError;
use crate::openai::tools::{
    AllowedTools, Arguments, CallBody, FunctionBody, FunctionName, NamedTool, ToolBody,
    ToolCallBody, ToolChoice, Tools,
};
use crate::openai::types::{ChatMessage, Content, GenerationBody, Messages, Part};
use crate::openai::unsupported::is_empty;
use crate::origins::Origins;
use crate::responses::types::{
    Content as Said, Input, Item, NamedTool as TheirNamed, ResponsesBody, TextFormat,
    ToolBody as TheirTool, ToolChoice as TheirChoice,
};

/// Fields of chats that have another name here.
pub const FIELDS: [(&str, &str); 3] = [
    ("max_completion_tokens", "max_output_tokens"),
    ("messages", "input"),
    ("response_format", "text.format"),
];

/// The chat that `body` asks for, and where its messages come from.
pub fn chat(body: ResponsesBody) -> Result<(GenerationBody, Origins), ApiError> {
    refuse_unsupported(&body)?;
    check_metadata(body.metadata.as_ref())?;
    let mut chat = Chat::default();
    if let Some(instructions) = body.instructions {
        chat.push("system", "instructions".to_owned(), Content::Text(instructions));
    }
    match body.input {
        None => return Err(ApiError::invalid("input", "`input` is missing")),
        Some(Input::Text(text)) => chat.push("user", "input".to_owned(), Content::Text(text)),
        Some(Input::List(items)) if items.is_empty() => {
            return Err(ApiError::invalid("input", "there must be at least one item"));
        }
        Some(Input::List(items)) => {
            for (index, item) in items.into_iter().enumerate() {
                chat.item(format!("input[{index}]"), item)?;
            }
        }
    }
    let (messages, origins) = chat.end();
    let tools = body.tools.map(|tools| tools.into_iter().map(tool).collect());
    let generation = GenerationBody {
        model: body.model,
        messages: Some(Messages::new(messages).map_err(|error| origins.told(error, &FIELDS))?),
        max_completion_tokens: body.max_output_tokens,
        temperature: body.temperature,
        top_p: body.top_p,
        user: body.user,
        response_format: body.text.and_then(|text| text.format).map(response_format),
        stream: body.stream,
        tools: tools.map(Tools::new).transpose()?,
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
        ("previous_response_id", &body.previous_response_id, NOTHING_STORED),
        ("conversation", &body.conversation, NOTHING_STORED),
        ("background", &body.background, NOT_SERVED),
        ("prompt", &body.prompt, NOT_SERVED),
        ("top_logprobs", &body.top_logprobs, NOT_SERVED),
    ];
    for (name, value, why) in fields {
        if value.as_ref().is_some_and(|value| !is_empty(value)) {
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

/// A chat in the making.
#[derive(Default)]
struct Chat {
    messages: Vec<ChatMessage>,
    origins: Origins,
    /// Ids of calls so far, with the functions.
    calls: Vec<(String, String)>,
    /// The assistant's turn in the making: thoughts, what it said and calls are items of their own.
    turn: Option<(String, ChatMessage)>,
}

impl Chat {
    fn push(&mut self, role: &str, origin: String, content: Content) {
        self.flush();
        self.origins.push(origin);
        self.messages.push(ChatMessage { content: Some(content), ..ChatMessage::of(role) });
    }

    /// Ends the assistant's turn.
    fn flush(&mut self) {
        if let Some((origin, message)) = self.turn.take() {
            self.origins.push(origin);
            self.messages.push(message);
        }
    }

    /// The assistant's turn, which begins at `at` if there is none.
    fn turn(&mut self, at: String) -> &mut ChatMessage {
        &mut self.turn.get_or_insert_with(|| (at, ChatMessage::of("assistant"))).1
    }

    fn end(mut self) -> (Vec<ChatMessage>, Origins) {
        self.flush();
        (self.messages, self.origins)
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
                    self.flush();
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
            self.push(&role, at, content);
            return Ok(());
        }
        let is_begun =
            |message: &ChatMessage| message.content.is_some() || message.tool_calls.is_some();
        if self.turn.as_ref().is_some_and(|(_, message)| is_begun(message)) {
            self.flush();
        }
        self.turn(at).content = Some(content);
        Ok(())
    }

    fn call(&mut self, at: String, item: Item) -> Result<(), ApiError> {
        let (Some(id), Some(name)) = (item.call_id, item.name) else {
            return Err(ApiError::invalid(at, "a call has a `call_id` and a `name`"));
        };
        self.calls.push((id.clone(), name.clone()));
        let arguments = item.arguments.map(Arguments::Text);
        let call = ToolCallBody { id: Some(id), function: CallBody { name, arguments } };
        self.turn(at).tool_calls.get_or_insert_default().push(call);
        Ok(())
    }

    fn output(&mut self, at: String, item: Item) -> Result<(), ApiError> {
        let (Some(id), Some(output)) = (item.call_id, item.output) else {
            return Err(ApiError::invalid(
                at,
                "the output of a call has a `call_id` and an `output`",
            ));
        };
        let output = text_of(&format!("{at}.output"), output)?;
        // Some templates write the function's name beside its result.
        let name = self.calls.iter().rev().find(|(call, _)| *call == id);
        let name = name.map(|(_, name)| name.clone());
        self.push("tool", at, output);
        let message = self.messages.last_mut().expect("just pushed");
        (message.tool_call_id, message.name) = (Some(id), name);
        Ok(())
    }
}

/// A text, or parts of text.
fn text_of(at: &str, content: Said) -> Result<Content, ApiError> {
    let parts = match content {
        Said::Text(text) => return Ok(Content::Text(text)),
        Said::List(parts) => parts,
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

fn tool(tool: TheirTool) -> ToolBody {
    let TheirTool { kind, name, description, parameters, .. } = tool;
    let function = name.map(|name| FunctionBody { name, description, parameters });
    ToolBody { kind, function }
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
