//! Functions and calls of functions as they arrive; values are checked in `validate`.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use text::JsonObject;

use crate::limits::TOOLS;
use crate::openai::error::ApiError;

/// `tools`, at most [`TOOLS`].
#[derive(Debug, Default)]
pub struct Tools(pub Vec<ToolBody>);

impl<'de> Deserialize<'de> for Tools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ToolsVisitor;
        impl<'de> Visitor<'de> for ToolsVisitor {
            type Value = Tools;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of tools")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tools, A::Error> {
                let mut tools = Vec::new();
                while let Some(tool) = list.next_element()? {
                    if tools.len() == TOOLS {
                        return Err(A::Error::custom(format!("more than {TOOLS} tools")));
                    }
                    tools.push(tool);
                }
                Ok(Tools(tools))
            }
        }
        deserializer.deserialize_seq(ToolsVisitor)
    }
}

impl Tools {
    /// Functions that were made of another body.
    pub fn new(tools: Vec<ToolBody>) -> Result<Self, ApiError> {
        if TOOLS < tools.len() {
            return Err(ApiError::invalid("tools", format!("more than {TOOLS} tools")));
        }
        Ok(Tools(tools))
    }
}

/// One of `tools`: `{"type": "function", "function": …}`.
#[derive(Debug, Deserialize)]
pub struct ToolBody {
    /// What it is; only functions are served.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function.
    #[serde(default)]
    pub function: Option<FunctionBody>,
}

/// A function that an answer may call.
#[derive(Debug, Deserialize)]
pub struct FunctionBody {
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: Option<String>,
    /// JSON schema of its arguments.
    #[serde(default)]
    pub parameters: Option<JsonObject>,
}

/// `tool_choice`.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected `none`, `auto`, `required`, \
        {\"type\": \"function\", \"function\": {\"name\": …}} or \
        {\"type\": \"allowed_tools\", \"allowed_tools\": {\"mode\": …, \"tools\": […]}}"
)]
pub enum ToolChoice {
    /// A word.
    Mode(String),
    /// One function.
    Named(NamedTool),
    /// Some of the functions.
    Allowed {
        /// `allowed_tools`.
        #[serde(rename = "type")]
        kind: String,
        /// Which.
        allowed_tools: AllowedTools,
    },
}

/// Some of the functions.
#[derive(Debug, Clone, Deserialize)]
pub struct AllowedTools {
    /// `auto` or `required`.
    pub mode: String,
    /// The functions.
    pub tools: Vec<NamedTool>,
}

/// `{"type": "function", "function": {"name": …}}`.
#[derive(Debug, Clone, Deserialize)]
pub struct NamedTool {
    /// What it is; only functions are served.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function.
    pub function: FunctionName,
}

/// A function by its name.
#[derive(Debug, Clone, Deserialize)]
pub struct FunctionName {
    /// The name.
    pub name: String,
}

/// One of an assistant's `tool_calls`.
#[derive(Debug, Deserialize)]
pub struct ToolCallBody {
    /// Its id.
    #[serde(default)]
    pub id: Option<String>,
    /// The function and its arguments.
    pub function: CallBody,
}

/// A call of a function.
#[derive(Debug, Deserialize)]
pub struct CallBody {
    /// The function.
    pub name: String,
    /// What it was given.
    #[serde(default)]
    pub arguments: Option<Arguments>,
}

/// Arguments: OpenAI writes the object into a string; some clients send the object itself.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string that holds a JSON object")]
pub enum Arguments {
    /// JSON in a string.
    Text(String),
    /// The object.
    Object(JsonObject),
}
