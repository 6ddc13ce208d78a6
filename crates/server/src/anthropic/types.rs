//! The body of `/v1/messages` as it arrives; values are checked in `validate`.

use serde::Deserialize;
use serde_json::Value;
use text::JsonObject;

use crate::openai::integer::Integer;
use crate::openai::text_or::TextOr;

/// Body of `/v1/messages` and `/v1/messages/count_tokens`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct MessagesBody {
    /// Name of the model; absent or empty: the one that is served.
    pub model: Option<String>,
    /// What was said.
    pub messages: Option<Turns>,
    /// What the model is told before.
    pub system: Option<Content>,
    /// Longest answer in tokens; required where there is an answer.
    pub max_tokens: Option<Integer>,
    /// 0: the most likely token.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// Candidates.
    pub top_k: Option<Integer>,
    /// Strings that end the answer.
    pub stop_sequences: Option<Vec<String>>,
    /// Whether to stream.
    pub stream: Option<bool>,
    /// Functions that the answer may call.
    pub tools: Option<Vec<ToolBody>>,
    /// Whether it may, or must.
    pub tool_choice: Option<ToolChoice>,
    /// Whether thoughts are told.
    pub thinking: Option<Thinking>,
    /// What the answer must look like.
    pub output_config: Option<OutputConfig>,
    /// For whom the request is.
    pub metadata: Option<Metadata>,
    /// Cached prefixes are shared only with requests of the same salt.
    pub cache_salt: Option<String>,
    /// Not served.
    pub container: Option<Value>,
    /// Not served.
    pub mcp_servers: Option<Value>,
}

/// `messages`; how many there may be is checked as in chats.
pub type Turns = Vec<Turn>;

/// One message.
#[derive(Debug, Deserialize)]
pub struct Turn {
    /// `user`, `assistant` or `system`.
    pub role: String,
    /// What is said.
    pub content: Content,
}

/// A text, or blocks.
pub type Content = TextOr<Block>;

/// A block: which fields it has depends on its type.
#[derive(Debug, Deserialize)]
pub struct Block {
    /// `text`, `thinking`, `redacted_thinking`, `tool_use` or `tool_result`; others are not served.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of a text.
    #[serde(default)]
    pub text: Option<String>,
    /// Of thoughts.
    #[serde(default)]
    pub thinking: Option<String>,
    /// Of a call.
    #[serde(default)]
    pub id: Option<String>,
    /// Of a call: the function.
    #[serde(default)]
    pub name: Option<String>,
    /// Of a call: what the function was given.
    #[serde(default)]
    pub input: Option<JsonObject>,
    /// Of a result: the call.
    #[serde(default)]
    pub tool_use_id: Option<String>,
    /// Of a result: what the function gave.
    #[serde(default)]
    pub content: Option<Content>,
    /// Of a result: whether the function failed.
    #[serde(default)]
    pub is_error: Option<bool>,
}

/// A function that the answer may call.
#[derive(Debug, Deserialize)]
pub struct ToolBody {
    /// Absent or `custom`; the others are run by Anthropic's servers.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: Option<String>,
    /// JSON schema of its arguments.
    #[serde(default)]
    pub input_schema: Option<JsonObject>,
}

/// `tool_choice`.
#[derive(Debug, Deserialize)]
pub struct ToolChoice {
    /// `auto`, `any`, `tool` or `none`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of `tool`: the function.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether the answer ends with its first call.
    #[serde(default)]
    pub disable_parallel_tool_use: Option<bool>,
}

/// `thinking`.
#[derive(Debug, Deserialize)]
pub struct Thinking {
    /// `disabled` leaves thoughts out.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `output_config`.
#[derive(Debug, Deserialize)]
pub struct OutputConfig {
    /// `{"type": "json_schema", "schema": …}`.
    #[serde(default)]
    pub format: Option<OutputFormat>,
}

/// What the answer must look like.
#[derive(Debug, Deserialize)]
pub struct OutputFormat {
    /// `json_schema`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The schema.
    #[serde(default)]
    pub schema: Value,
}

/// `metadata`.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// Whose request it is; where tenants share, requests of one user share.
    #[serde(default)]
    pub user_id: Option<String>,
}
