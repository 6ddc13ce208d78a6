//! A server whose model repeats the last message, so that a request says what its answer is, calls of
//! functions and thoughts among it.

use serde_json::{Value, json};

use crate::harness::{Server, Setup};

/// Knows functions and thoughts; the prompt is the last message, which the device repeats.
pub const REPEATS: &str = "{% if tools %}{% endif %}{{ messages[-1].content }}\
                           {# <tool_call> </think> #}";

/// The same without thoughts.
pub const KNOWS_FUNCTIONS: &str = "{% if tools %}{% endif %}{{ messages[-1].content }}\
                                   {# <tool_call> #}";

pub async fn start(template: &'static str) -> Server {
    Setup { template: Some(template), ..Setup::new() }.start().await
}

/// What a function takes.
pub fn schema() -> Value {
    json!({
        "type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"],
        "additionalProperties": false,
    })
}

/// A call as the model spells it.
pub fn call(name: &str, arguments: &str) -> String {
    format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>")
}
