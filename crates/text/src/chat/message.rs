//! What a chat consists of: messages, calls of functions, descriptions of functions.

use std::fmt;

use minijinja::value::{Value, ValueKind};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};

/// One message of a chat. All of it is data: whatever it spells, it yields no control token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
    /// An assistant's thoughts before it.
    pub reasoning: Option<String>,
    /// Functions that an assistant called.
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool's message answers.
    pub tool_call_id: Option<String>,
    /// Name of who speaks, or of the function that a tool's message comes from.
    pub name: Option<String>,
}

impl Message {
    /// A message that is text alone.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into(), ..Message::default() }
    }
}

/// A call of a function, in a message of an assistant.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// The function.
    pub name: String,
    /// What it was given.
    pub arguments: JsonObject,
}

/// A function that an answer may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON schema of its arguments.
    pub parameters: Option<JsonObject>,
}

/// A JSON object whose keys keep their order, as templates see it.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonObject(Value);

impl JsonObject {
    /// Reads an object; an error says what `json` is instead. At most 128 levels deep.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// Bytes of it as JSON without spaces.
    pub fn json_len(&self) -> usize {
        self.to_string().len()
    }

    /// Objects and lists within each other: 1 without any inside.
    pub fn depth(&self) -> usize {
        depth(&self.0)
    }

    /// The object for templates.
    pub(super) fn value(&self) -> &Value {
        &self.0
    }
}

/// As JSON without spaces.
impl fmt::Display for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).map_err(|_| fmt::Error)?)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value.kind() {
            ValueKind::Map => Ok(JsonObject(value)),
            other => Err(D::Error::custom(format!("expected an object, found {other}"))),
        }
    }
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

fn depth(value: &Value) -> usize {
    let inner: Vec<Value> = match value.kind() {
        ValueKind::Map => entries(value).into_iter().map(|(_, value)| value).collect(),
        ValueKind::Seq => value.try_iter().map(Iterator::collect).unwrap_or_default(),
        _ => return 0,
    };
    1 + inner.iter().map(depth).max().unwrap_or(0)
}

/// Keys and values of an object, in order.
pub(super) fn entries(object: &Value) -> Vec<(Value, Value)> {
    let keys = object.try_iter().into_iter().flatten();
    keys.map(|key| {
        let value = object.get_item(&key).unwrap_or_default();
        (key, value)
    })
    .collect()
}
