//! The body of `/v1/responses` as it arrives; values are checked in `validate`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use text::JsonObject;

use crate::openai::integer::Integer;
use crate::openai::text_or::TextOr;
use crate::openai::types::Content;

/// Body of `/v1/responses`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResponsesBody {
    /// Name of the model; absent or empty: the one that is served.
    pub model: Option<String>,
    /// What was said.
    pub input: Option<Input>,
    /// What the model is told before.
    pub instructions: Option<String>,
    /// Longest answer in tokens.
    pub max_output_tokens: Option<Integer>,
    /// 0: the most likely token.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// Whether to stream.
    pub stream: Option<bool>,
    /// Functions that the answer may call.
    pub tools: Option<Vec<ToolBody>>,
    /// Whether it may, or must.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call more than one.
    pub parallel_tool_calls: Option<bool>,
    /// What the answer must look like.
    pub text: Option<TextConfig>,
    /// Whose request it is; where tenants share, requests of one user share.
    pub user: Option<String>,
    /// Cached prefixes are shared only with requests of the same salt.
    pub cache_salt: Option<String>,
    /// Told back as it came.
    pub metadata: Option<JsonObject>,
    /// Not served: nothing is stored.
    pub previous_response_id: Option<Value>,
    /// Not served: nothing is stored.
    pub conversation: Option<Value>,
    /// Not served.
    pub background: Option<Value>,
    /// Not served.
    pub prompt: Option<Value>,
    /// Not served.
    pub top_logprobs: Option<Value>,
}

/// `input`: a text of the user's, or items.
pub type Input = TextOr<Item>;

/// An item: which fields it has depends on its type.
#[derive(Debug, Deserialize)]
pub struct Item {
    /// `message` (also where it is absent), `function_call`, `function_call_output` or `reasoning`;
    /// others are not served.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// Of a message: who speaks.
    #[serde(default)]
    pub role: Option<String>,
    /// Of a message what is said, of reasoning the thoughts. Parts are `input_text`, `output_text`,
    /// `reasoning_text` or `text`; others are not served.
    #[serde(default)]
    pub content: Option<Content>,
    /// Of a call and of its output.
    #[serde(default)]
    pub call_id: Option<String>,
    /// Of a call: the function.
    #[serde(default)]
    pub name: Option<String>,
    /// Of a call: JSON in a string.
    #[serde(default)]
    pub arguments: Option<String>,
    /// Of an output: what the function gave.
    #[serde(default)]
    pub output: Option<Content>,
}

/// A function that the answer may call.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct ToolBody {
    /// `function`; others are run by OpenAI's servers.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON schema of its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<JsonObject>,
    /// Told back as it came: every schema is followed where a call is forced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// `tool_choice`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "expected `none`, `auto`, `required`, {\"type\": \"function\", \"name\": …} or \
        {\"type\": \"allowed_tools\", \"mode\": …, \"tools\": […]}"
)]
pub enum ToolChoice {
    /// A word.
    Mode(String),
    /// Some of the functions.
    Allowed {
        /// `allowed_tools`.
        #[serde(rename = "type")]
        kind: String,
        /// `auto` or `required`.
        mode: String,
        /// The functions.
        tools: Vec<NamedTool>,
    },
    /// One function.
    Named(NamedTool),
}

/// A function by its name.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct NamedTool {
    /// What it is; only functions are served.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// `text`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TextConfig {
    /// `{"type": "text"}`, `{"type": "json_object"}` or `{"type": "json_schema", "schema": …}`.
    #[serde(default)]
    pub format: Option<TextFormat>,
}

/// What the answer must look like.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TextFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of a schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Told back as it came: every schema is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

impl TextFormat {
    /// Any text.
    pub fn text() -> Self {
        TextFormat { kind: "text".to_owned(), name: None, schema: None, strict: None }
    }
}
