//! JSON schemas as they are given to the library.

use serde_json::{Value, json};

use crate::error::{SpecError, within};
use crate::limits::{SCHEMA_BYTES, SCHEMA_DEPTH};

/// White space between the parts of JSON: none, a space, or a line's end and an indentation. A
/// model may not fill an answer with more of it.
const WHITE_SPACE: &str = r" |\r?\n[ \t]{0,32}";

/// Checks size and depth of a schema.
pub(crate) fn check_schema(schema: &Value) -> Result<(), SpecError> {
    within("the depth of the schema", depth(schema), SCHEMA_DEPTH)?;
    within("the length of the schema in bytes", schema.to_string().len(), SCHEMA_BYTES)
}

/// The schema with our white space, unless it says its own.
pub(crate) fn spaced(schema: Value) -> Value {
    let mut schema = match schema {
        // `true` accepts everything, as the empty schema does.
        Value::Bool(true) => json!({}),
        schema => schema,
    };
    if let Some(fields) = schema.as_object_mut()
        && !fields.contains_key("x-guidance")
    {
        fields.insert("x-guidance".to_owned(), json!({"whitespace_pattern": WHITE_SPACE}));
    }
    schema
}

/// Lists and objects within each other. Never deeper than what JSON was parsed with.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
