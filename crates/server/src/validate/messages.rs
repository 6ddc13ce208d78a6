//! The messages of a chat.

use text::{JsonObject, Message, ToolCall};

use crate::limits::{CALL_ID_BYTES, JSON_DEPTH, NAME_BYTES, TOOL_CALLS};
use crate::openai::error::ApiError;
use crate::openai::tools::{Arguments, ToolCallBody};
use crate::openai::types::{ChatMessage, Content, Part};

/// Who may speak. A role ends up in template text, so it is not free text.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// The `index`-th message of a chat.
pub(super) fn message(index: usize, message: &ChatMessage) -> Result<Message, ApiError> {
    let at = |field: &str| format!("messages[{index}].{field}");
    if !ROLES.contains(&message.role.as_str()) {
        let text = format!("role `{}`; give one of {}", message.role, ROLES.join(", "));
        return Err(ApiError::invalid(at("role"), text));
    }
    if message.has_function_call() {
        let text = "`function_call` is not supported by this server; send `tool_calls`";
        return Err(ApiError::invalid(at("function_call"), text));
    }
    let is_assistant = message.role == "assistant";
    let content = match &message.content {
        None if is_assistant => String::new(),
        None => return Err(ApiError::invalid(at("content"), "`content` is missing")),
        Some(Content::Text(text)) => text.clone(),
        Some(Content::List(parts)) => joined(&at("content"), parts)?,
    };
    let calls = message.tool_calls.as_deref().unwrap_or_default();
    if !is_assistant && !calls.is_empty() {
        let text = format!(
            "a message of role `{}` calls functions; only the assistant's may",
            message.role
        );
        return Err(ApiError::invalid(at("tool_calls"), text));
    }
    if TOOL_CALLS < calls.len() {
        let text = format!("{} calls in one message, more than {TOOL_CALLS}", calls.len());
        return Err(ApiError::invalid(at("tool_calls"), text));
    }
    let tool_calls = calls
        .iter()
        .enumerate()
        .map(|(call, body)| tool_call(&at(&format!("tool_calls[{call}]")), body))
        .collect::<Result<_, _>>()?;
    if let Some(id) = &message.tool_call_id {
        check_len(&at("tool_call_id"), id, CALL_ID_BYTES)?;
    }
    if let Some(name) = &message.name {
        check_len(&at("name"), name, NAME_BYTES)?;
    }
    Ok(Message {
        role: message.role.clone(),
        content,
        reasoning: message.reasoning_content.clone().filter(|_| is_assistant),
        tool_calls,
        tool_call_id: message.tool_call_id.clone(),
        name: message.name.clone(),
    })
}

/// The texts of `parts`, one in each line.
fn joined(param: &str, parts: &[Part]) -> Result<String, ApiError> {
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let text = match (part.kind.as_str(), &part.text) {
            ("text", Some(text)) => text.as_str(),
            ("text", None) => {
                let param = format!("{param}[{index}].text");
                return Err(ApiError::invalid(param, "`text` is missing"));
            }
            (kind, _) => {
                let param = format!("{param}[{index}].type");
                let text = format!("parts of type `{kind}` are not supported; send text");
                return Err(ApiError::invalid(param, text));
            }
        };
        texts.push(text);
    }
    Ok(texts.join("\n"))
}

fn tool_call(param: &str, call: &ToolCallBody) -> Result<ToolCall, ApiError> {
    let id = call.id.clone().unwrap_or_default();
    check_len(&format!("{param}.id"), &id, CALL_ID_BYTES)?;
    let name = call.function.name.clone();
    check_len(&format!("{param}.function.name"), &name, NAME_BYTES)?;
    let param = format!("{param}.function.arguments");
    let arguments = match &call.function.arguments {
        Some(Arguments::Object(object)) => Ok(object.clone()),
        // A function without parameters.
        None => JsonObject::parse("{}"),
        Some(Arguments::Text(text)) if text.trim().is_empty() => JsonObject::parse("{}"),
        Some(Arguments::Text(text)) => JsonObject::parse(text),
    };
    let arguments = arguments.map_err(|error| {
        ApiError::invalid(&param, format!("the arguments are no JSON object: {error}"))
    })?;
    check_depth(&param, &arguments)?;
    Ok(ToolCall { id, name, arguments })
}

fn check_len(param: &str, text: &str, limit: usize) -> Result<(), ApiError> {
    if limit < text.len() {
        let message = format!("{} bytes, more than {limit}", text.len());
        return Err(ApiError::invalid(param, message));
    }
    Ok(())
}

/// Checks that `json` is not nested deeper than templates may write it.
pub(super) fn check_depth(param: &str, json: &JsonObject) -> Result<(), ApiError> {
    let depth = json.depth();
    if JSON_DEPTH < depth {
        let message = format!("{depth} levels of objects and lists, more than {JSON_DEPTH}");
        return Err(ApiError::invalid(param, message));
    }
    Ok(())
}
