//! The functions that an answer may call.

use std::collections::BTreeSet;

use text::{JsonObject, Tool};

use crate::limits::{NAME_BYTES, TOOL_BYTES, TOOLS, TOOLS_BYTES};
use crate::openai::error::ApiError;
use crate::openai::reply::Endpoint;
use crate::openai::tools::{FunctionBody, NamedTool, ToolChoice, Tools};
use crate::openai::types::GenerationBody;

use super::messages::check_depth;

/// The functions that the answer may call, which are told to the model.
#[derive(Debug, Default)]
pub(super) struct ToolUse {
    /// Checked; none with `tool_choice` `none`.
    pub(super) tools: Vec<Tool>,
    /// Whether the answer must call.
    pub(super) forced: Option<Forced>,
}

/// Which calls an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forced {
    /// One or more, of any of the functions.
    Any,
    /// One, of the function at this place.
    Named(usize),
}

impl ToolUse {
    /// Checks `tools` and `tool_choice` of `body`.
    pub(super) fn new(endpoint: Endpoint, body: &GenerationBody) -> Result<Self, ApiError> {
        let tools = checked_tools(body.tools.as_ref())?;
        if endpoint == Endpoint::Completions {
            return match &body.tool_choice {
                _ if !tools.is_empty() => Err(ApiError::invalid("tools", ONLY_CHATS)),
                None => Ok(ToolUse::default()),
                Some(ToolChoice::Mode(mode)) if mode == "auto" || mode == "none" => {
                    Ok(ToolUse::default())
                }
                Some(_) => Err(refused(ONLY_CHATS)),
            };
        }
        match &body.tool_choice {
            None => Ok(ToolUse { tools, forced: None }),
            Some(ToolChoice::Mode(mode)) if mode == "none" => Ok(ToolUse::default()),
            Some(ToolChoice::Mode(mode)) => Self::by_mode(tools, mode),
            Some(ToolChoice::Named(named)) => {
                let forced = Some(Forced::Named(place(&tools, named)?));
                Ok(ToolUse { tools, forced })
            }
            Some(ToolChoice::Allowed { kind, allowed_tools }) => {
                if kind != "allowed_tools" {
                    return Err(refused(format!(
                        "tool_choice is of type `{kind}`; give `allowed_tools`"
                    )));
                }
                Self::by_mode(allowed(tools, &allowed_tools.tools)?, &allowed_tools.mode)
            }
        }
    }

    /// Whether the request names the function to call.
    pub(super) fn is_named(&self) -> bool {
        matches!(self.forced, Some(Forced::Named(_)))
    }

    fn by_mode(tools: Vec<Tool>, mode: &str) -> Result<Self, ApiError> {
        match mode {
            "auto" => Ok(ToolUse { tools, forced: None }),
            "required" if tools.is_empty() => {
                Err(refused("a call is required, and `tools` is empty"))
            }
            "required" => Ok(ToolUse { tools, forced: Some(Forced::Any) }),
            _ => {
                let message =
                    format!("tool_choice is `{mode}`; give none, auto, required or a function");
                Err(refused(message))
            }
        }
    }
}

const ONLY_CHATS: &str = "functions are called in chats only; use /v1/chat/completions";

fn refused(message: impl Into<String>) -> ApiError {
    ApiError::invalid("tool_choice", message)
}

/// Where among `tools` the one that is `named` stands.
fn place(tools: &[Tool], named: &NamedTool) -> Result<usize, ApiError> {
    let NamedTool { kind, function } = named;
    if kind != "function" {
        return Err(refused(format!("tools of type `{kind}` are not supported; give functions")));
    }
    let place = tools.iter().position(|tool| tool.name == function.name);
    place.ok_or_else(|| refused("the function that tool_choice names is not among `tools`"))
}

/// Those of `tools` that are `named`, in their own order.
fn allowed(mut tools: Vec<Tool>, named: &[NamedTool]) -> Result<Vec<Tool>, ApiError> {
    if TOOLS < named.len() {
        return Err(refused(format!(
            "tool_choice allows {} tools, more than {TOOLS}",
            named.len()
        )));
    }
    let places =
        named.iter().map(|named| place(&tools, named)).collect::<Result<BTreeSet<_>, _>>()?;
    let mut index = 0..;
    tools.retain(|_| index.next().is_some_and(|index| places.contains(&index)));
    Ok(tools)
}

/// Checks `tools`: names, sizes, depths.
pub(super) fn checked_tools(tools: Option<&Tools>) -> Result<Vec<Tool>, ApiError> {
    let bodies = tools.map_or([].as_slice(), |tools| &tools.0);
    let mut checked = Vec::with_capacity(bodies.len());
    let mut names = BTreeSet::new();
    let mut bytes = 0;
    for (index, body) in bodies.iter().enumerate() {
        let at = |field: &str| format!("tools[{index}].{field}");
        let function = match &body.function {
            Some(function) if body.kind == "function" => function,
            None if body.kind == "function" => {
                return Err(ApiError::invalid(at("function"), "`function` is missing"));
            }
            _ => {
                let kind = &body.kind;
                let message = format!("tools of type `{kind}` are not supported; give functions");
                return Err(ApiError::invalid(at("type"), message));
            }
        };
        let (tool, size) = checked_function(&at("function"), function)?;
        bytes += size;
        if TOOLS_BYTES < bytes {
            let message = format!("the functions have more than {TOOLS_BYTES} bytes in all");
            return Err(ApiError::invalid("tools", message));
        }
        if !names.insert(tool.name.clone()) {
            let message = format!("there is another function `{}`", tool.name);
            return Err(ApiError::invalid(at("function.name"), message));
        }
        checked.push(tool);
    }
    Ok(checked)
}

/// One function, and its bytes.
fn checked_function(param: &str, function: &FunctionBody) -> Result<(Tool, usize), ApiError> {
    let FunctionBody { name, description, parameters } = function;
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    if !(1..=NAME_BYTES).contains(&name.len()) || !name.chars().all(is_of_name) {
        let message = format!(
            "a function's name has 1 to {NAME_BYTES} letters of A to Z and a to z, digits, `_`, \
             `-`, `.` and `:`"
        );
        return Err(ApiError::invalid(format!("{param}.name"), message));
    }
    if let Some(parameters) = parameters {
        check_depth(&format!("{param}.parameters"), parameters)?;
    }
    let schema = parameters.as_ref().map_or(0, JsonObject::json_len);
    let bytes = name.len() + description.as_ref().map_or(0, String::len) + schema;
    if TOOL_BYTES < bytes {
        let message = format!("the function has {bytes} bytes, more than {TOOL_BYTES}");
        return Err(ApiError::invalid(param, message));
    }
    let tool = Tool {
        name: name.clone(),
        description: description.clone(),
        parameters: parameters.clone(),
    };
    Ok((tool, bytes))
}
