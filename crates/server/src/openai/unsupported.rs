//! Fields that are known and not served.

use serde_json::Value;

/// A test whether a value of an unsupported field asks for nothing.
pub type AsksForNothing = fn(&Value) -> bool;

/// Fields whose silent dropping would change the answer, each with the values that do not.
/// Everything else that is unknown is ignored, as OpenAI's own fields for billing and storage are.
pub const UNSUPPORTED: [(&str, AsksForNothing); 17] = [
    ("audio", is_empty),
    ("best_of", |v| is_empty(v) || v == &Value::from(1)),
    ("chat_template", is_empty),
    ("documents", is_empty),
    ("dry_multiplier", is_empty),
    ("ebnf", is_empty),
    ("function_call", |v| is_empty(v) || is_one_of(v, &["none", "auto"])),
    ("functions", is_empty),
    ("length_penalty", is_one),
    ("logits_processors", is_empty),
    ("mirostat", is_empty),
    ("modalities", |v| is_empty(v) || v == &Value::from(vec!["text"])),
    ("prompt_embeds", is_empty),
    ("suffix", is_empty),
    ("typical_p", is_one),
    ("use_beam_search", is_empty),
    ("xtc_probability", is_empty),
];

/// Null, false, zero, and empty strings, lists and objects.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Null and 1.
pub fn is_one(value: &Value) -> bool {
    value.is_null() || value.as_f64() == Some(1.0)
}

fn is_one_of(value: &Value, names: &[&str]) -> bool {
    value.as_str().is_some_and(|text| names.contains(&text))
}
