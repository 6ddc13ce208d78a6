//! A body of `/v1/messages` as one of a chat.

use serde_json::json;
use text::JsonObject;

use crate::anthropic::types::{
    Block, Content as Said, MessagesBody, ToolBody as TheirTool, ToolChoice as TheirChoice, Turn,
};
use crate::openai::error::ApiError;
use crate::openai::tools::{
    Arguments, FunctionBody, FunctionName, NamedTool, ToolBody, ToolCallBody, ToolChoice, Tools,
};
use crate::openai::types::{ChatMessage, Content, GenerationBody, Part, Strings};
use crate::openai::unsupported::is_empty;
use crate::origins::Origins;
use crate::transcript::Transcript;

/// Fields of chats that have another name here.
pub const FIELDS: [(&str, &str); 7] = [
    ("max_completion_tokens", "max_tokens"),
    ("n_predict", "max_tokens"),
    ("stop", "stop_sequences"),
    ("user", "metadata.user_id"),
    ("response_format", "output_config.format"),
    ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
    // Of a function.
    (".parameters", ".input_schema"),
];

/// The chat that `body` asks for, and where its messages come from.
pub fn chat(body: MessagesBody) -> Result<(GenerationBody, Origins), ApiError> {
    refuse_unsupported(&body)?;
    let mut chat = Chat(Transcript::of("messages"));
    if let Some(system) = body.system {
        let content = text_of("system", system)?;
        chat.0.say("system", "system".to_owned(), content)?;
    }
    let Some(turns) = body.messages else {
        return Err(ApiError::invalid("messages", "`messages` is missing"));
    };
    for (index, turn) in turns.into_iter().enumerate() {
        chat.turn(index, turn)?;
    }
    // A turn without blocks is no message.
    if chat.0.last_role() == Some("assistant") {
        let message = "the last message is the assistant's, and this server does not continue it";
        return Err(ApiError::invalid("messages", message));
    }
    let (messages, origins) = chat.0.end();
    let (tool_choice, parallel_tool_calls) = body.tool_choice.map(tool_choice).transpose()?.unzip();
    let format = body.output_config.and_then(|config| config.format);
    let response_format = format.map(|format| {
        json!({"type": format.kind, "json_schema": {"name": "answer", "schema": format.schema}})
    });
    let tools = body.tools.map(|tools| tools.into_iter().map(tool).collect());
    let tools = tools.map(Tools::new).transpose()?;
    let generation = GenerationBody {
        model: body.model,
        messages: Some(messages),
        max_tokens: body.max_tokens,
        temperature: body.temperature,
        top_p: body.top_p,
        top_k: body.top_k,
        stop: body.stop_sequences.map(Strings::Many),
        user: body.metadata.and_then(|metadata| metadata.user_id),
        cache_salt: body.cache_salt,
        response_format,
        stream: body.stream,
        tools,
        tool_choice,
        parallel_tool_calls: parallel_tool_calls.flatten(),
        include_reasoning: body.thinking.map(|thinking| thinking.kind != "disabled"),
        ..GenerationBody::default()
    };
    Ok((generation, origins))
}

fn refuse_unsupported(body: &MessagesBody) -> Result<(), ApiError> {
    let fields = [("container", &body.container), ("mcp_servers", &body.mcp_servers)];
    for (name, value) in fields {
        if value.as_ref().is_some_and(|value| !is_empty(value)) {
            let message = format!("`{name}` is not supported by this server; leave it out");
            return Err(ApiError::invalid(name, message));
        }
    }
    Ok(())
}

/// The chat in the making.
struct Chat(Transcript);

impl Chat {
    fn turn(&mut self, index: usize, turn: Turn) -> Result<(), ApiError> {
        let at = format!("messages[{index}]");
        match (turn.role.as_str(), turn.content) {
            ("user" | "assistant", Said::Text(text)) => {
                self.0.say(&turn.role, at, Content::Text(text))
            }
            ("user", Said::List(blocks)) => self.user(&at, blocks),
            ("assistant", Said::List(blocks)) => self.assistant(at, blocks),
            ("system", content) => {
                let content = text_of(&format!("{at}.content"), content)?;
                self.0.say("system", at, content)
            }
            (role, _) => {
                let message = format!("role `{role}`; give user, assistant or system");
                Err(ApiError::invalid(format!("{at}.role"), message))
            }
        }
    }

    /// A message of the user: results of calls are messages of their own.
    fn user(&mut self, at: &str, blocks: Vec<Block>) -> Result<(), ApiError> {
        let mut parts = Vec::new();
        for (index, block) in blocks.into_iter().enumerate() {
            let here = format!("{at}.content[{index}]");
            if block.kind != "tool_result" {
                parts.push(text_part(&here, block)?);
                continue;
            }
            self.flush(at, &mut parts)?;
            let content = block.content.unwrap_or(Said::Text(String::new()));
            let mut content = text_of(&format!("{here}.content"), content)?;
            if block.is_error == Some(true) {
                content = failed(content);
            }
            let Some(id) = block.tool_use_id else {
                let param = format!("{here}.tool_use_id");
                return Err(ApiError::invalid(param, "`tool_use_id` is missing"));
            };
            self.0.result(here, id, content)?;
        }
        self.flush(at, &mut parts)
    }

    /// Ends a run of texts.
    fn flush(&mut self, at: &str, parts: &mut Vec<Part>) -> Result<(), ApiError> {
        if parts.is_empty() {
            return Ok(());
        }
        self.0.say("user", at.to_owned(), Content::List(std::mem::take(parts)))
    }

    fn assistant(&mut self, at: String, blocks: Vec<Block>) -> Result<(), ApiError> {
        let mut message = ChatMessage::of("assistant");
        let (mut parts, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        for (index, block) in blocks.into_iter().enumerate() {
            let here = format!("{at}.content[{index}]");
            match block.kind.as_str() {
                "thinking" => thoughts.extend(block.thinking),
                // Nobody but its author can read it.
                "redacted_thinking" => {}
                "tool_use" => self.call((&at, &here), &mut calls, block)?,
                _ => parts.push(text_part(&here, block)?),
            }
        }
        message.content = (!parts.is_empty()).then_some(Content::List(parts));
        message.reasoning_content = (!thoughts.is_empty()).then(|| thoughts.join("\n"));
        message.tool_calls = Some(calls);
        self.0.push(at, message)
    }

    /// A call `here` in the message `at`.
    fn call(
        &mut self,
        (at, here): (&str, &str),
        calls: &mut Vec<ToolCallBody>,
        block: Block,
    ) -> Result<(), ApiError> {
        let (Some(id), Some(name)) = (block.id, block.name) else {
            return Err(ApiError::invalid(here, "a call has an `id` and a `name`"));
        };
        self.0.call(at, calls, (id, name), block.input.map(Arguments::Object))
    }
}

/// A text, or blocks of text.
fn text_of(at: &str, content: Said) -> Result<Content, ApiError> {
    match content {
        Said::Text(text) => Ok(Content::Text(text)),
        Said::List(blocks) => {
            let part = |(index, block)| text_part(&format!("{at}[{index}]"), block);
            blocks.into_iter().enumerate().map(part).collect::<Result<_, _>>().map(Content::List)
        }
    }
}

fn text_part(at: &str, block: Block) -> Result<Part, ApiError> {
    match (block.kind.as_str(), block.text) {
        ("text", Some(text)) => Ok(Part { kind: block.kind, text: Some(text) }),
        ("text", None) => Err(ApiError::invalid(format!("{at}.text"), "`text` is missing")),
        (kind, _) => {
            let message = format!("blocks of type `{kind}` are not supported here; send text");
            Err(ApiError::invalid(format!("{at}.type"), message))
        }
    }
}

/// The result of a call that failed, told as such: chats have no other place for it.
fn failed(content: Content) -> Content {
    const MARK: &str = "Error: ";
    match content {
        Content::Text(text) => Content::Text(format!("{MARK}{text}")),
        Content::List(mut parts) => {
            match parts.first_mut().and_then(|part| part.text.as_mut()) {
                Some(text) => text.insert_str(0, MARK),
                None => return Content::Text(MARK.to_owned()),
            }
            Content::List(parts)
        }
    }
}

fn tool(tool: TheirTool) -> ToolBody {
    let TheirTool { kind, name, description, input_schema: parameters } = tool;
    let kind = kind.filter(|kind| kind != "custom").unwrap_or_else(|| "function".to_owned());
    ToolBody { kind, function: Some(FunctionBody { name, description, parameters }) }
}

/// In OpenAI's words, and whether there may be more than one call.
fn tool_choice(choice: TheirChoice) -> Result<(ToolChoice, Option<bool>), ApiError> {
    let TheirChoice { kind, name, disable_parallel_tool_use } = choice;
    let mode = |mode: &str| Ok(ToolChoice::Mode(mode.to_owned()));
    let translated = match (kind.as_str(), name) {
        ("auto", _) => mode("auto"),
        ("any", _) => mode("required"),
        ("none", _) => mode("none"),
        ("tool", Some(name)) => {
            let function = FunctionName { name };
            Ok(ToolChoice::Named(NamedTool { kind: "function".to_owned(), function }))
        }
        ("tool", None) => Err("tool_choice.name is missing".to_owned()),
        (kind, _) => Err(format!("tool_choice.type is `{kind}`; give auto, any, tool or none")),
    };
    let translated = translated.map_err(|message| ApiError::invalid("tool_choice", message))?;
    Ok((translated, disable_parallel_tool_use.map(|disabled| !disabled)))
}

/// An object out of the arguments that a model wrote. What is none is told as Anthropic says to tell it.
pub fn input(arguments: &str) -> JsonObject {
    JsonObject::parse(arguments).unwrap_or_else(|_| {
        let wrapped = json!({"INVALID_JSON": arguments}).to_string();
        JsonObject::parse(&wrapped).expect("an object is written as JSON")
    })
}
