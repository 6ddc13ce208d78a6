//! Functions in chats: how a template writes them, and what stands in for those that do not.

use minijinja::context;
use minijinja::value::Value;

use crate::answer::{
    ARGS, END_THINK, END_TOOL_CALL, PYTHON_TAG, THINK, TOOL_CALL, TOOL_CALLS, ToolFormat,
};

use super::message::{Message, Tool};
use super::{TemplateError, tojson};

/// What the text of a template says about answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AnswerStyle {
    /// How functions are called.
    pub(super) format: ToolFormat,
    /// Whether the template writes functions and calls itself.
    pub(super) writes_tools: bool,
    /// Whether answers may begin with thoughts.
    pub(super) thinks: bool,
}

impl AnswerStyle {
    /// Reads it off the template's text.
    ///
    /// A template whose calls are written in a way that is not known counts as one that knows no
    /// functions.
    pub(super) fn of(source: &str) -> Self {
        let has = |mark: &str| source.contains(mark);
        // Qwen3-Coder and GLM put another notation between the same marks.
        let is_other = has("<function=") || has("<arg_key>");
        let format = if has(TOOL_CALL) && !is_other {
            Some(ToolFormat::Hermes)
        } else if has(TOOL_CALLS) {
            Some(ToolFormat::Mistral { has_args: has(ARGS) })
        } else if has(PYTHON_TAG) || has("ipython") {
            Some(ToolFormat::Llama3)
        } else {
            None
        };
        let writes_tools = format.is_some() && has("tools");
        let format = format.filter(|_| writes_tools).unwrap_or(ToolFormat::Hermes);
        AnswerStyle { format, writes_tools, thinks: has(END_THINK) }
    }
}

/// Whether a prompt has opened the thoughts of its answer.
pub(super) fn opens_thoughts(prompt: &str) -> bool {
    prompt.trim_end().ends_with(THINK)
}

/// `tool` as templates see it: OpenAI's object.
pub(super) fn tool_value(tool: &Tool) -> Value {
    let mut function = vec![("name", Value::from(tool.name.as_str()))];
    function.extend(tool.description.as_deref().map(|text| ("description", Value::from(text))));
    function.extend(tool.parameters.as_ref().map(|schema| ("parameters", schema.value().clone())));
    let pairs = [("type", Value::from("function")), ("function", Value::from_pairs(function))];
    Value::from_pairs(pairs)
}

/// The same chat in messages that any template can write: functions in a system message, calls and
/// results as text between marks.
///
/// Where the template drops or refuses system messages (`takes_system` is false) the description
/// stands in the first message of the user.
pub(super) fn spelt_out(
    messages: &[Message],
    tools: &[Tool],
    takes_system: bool,
) -> Result<Vec<Message>, TemplateError> {
    let mut spelt: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    for message in messages {
        match message.role.as_str() {
            "tool" => {
                let result = format!("<tool_response>\n{}\n</tool_response>", message.content);
                // Results of several calls are one turn.
                match spelt.last_mut() {
                    Some(last) if last.role == "user" && is_result(&last.content) => {
                        last.content = format!("{}\n{result}", last.content);
                    }
                    _ => spelt.push(Message::new("user", result)),
                }
            }
            "assistant" => {
                let mut content = message.content.clone();
                for call in &message.tool_calls {
                    let call = context! { name => call.name.as_str(), arguments => call.arguments.value() };
                    if !content.is_empty() {
                        content.push('\n');
                    }
                    content.push_str(&format!("{TOOL_CALL}\n{}\n{END_TOOL_CALL}", line(&call)?));
                }
                let reasoning = message.reasoning.clone();
                spelt.push(Message { reasoning, ..Message::new("assistant", content) });
            }
            _ => spelt.push(message.clone()),
        }
    }
    if !tools.is_empty() {
        describe(&mut spelt, &description(tools)?, takes_system);
    }
    Ok(spelt)
}

fn is_result(content: &str) -> bool {
    content.starts_with("<tool_response>\n") && content.ends_with("\n</tool_response>")
}

/// Puts the description of the functions where the model reads it.
fn describe(messages: &mut Vec<Message>, description: &str, takes_system: bool) {
    if takes_system {
        match messages.first_mut() {
            Some(first) if first.role == "system" || first.role == "developer" => {
                first.content = format!("{}\n\n{description}", first.content);
            }
            _ => messages.insert(0, Message::new("system", description)),
        }
        return;
    }
    match messages.iter_mut().find(|message| message.role == "user") {
        Some(first) => first.content = format!("{description}\n\n{}", first.content),
        None => messages.insert(0, Message::new("user", description)),
    }
}

fn description(tools: &[Tool]) -> Result<String, TemplateError> {
    let lines: Vec<String> =
        tools.iter().map(|tool| line(&tool_value(tool))).collect::<Result<_, _>>()?;
    Ok(format!(
        "You can call functions. Here they are, one JSON object in each line:\n\
         <tools>\n{}\n</tools>\n\n\
         To call a function, write its name and its arguments as JSON between these marks, once \
         for each call, and then stop; the results come in the next message:\n\
         {TOOL_CALL}\n{{\"name\": FUNCTION, \"arguments\": {{ARGUMENT: VALUE}}}}\n{END_TOOL_CALL}",
        lines.join("\n")
    ))
}

fn line(value: &Value) -> Result<String, TemplateError> {
    tojson::line(value)
        .map_err(|error| TemplateError::Render { line: 1, message: error.to_string() })
}
