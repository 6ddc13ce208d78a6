//! What is asked for, and whether it is small enough to look at.

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use crate::error::SpecError;
use crate::limits::{
    BRACKETS_DEPTH, CHOICES, CHOICES_BYTES, LARK_BYTES, REGEX_BYTES, SCHEMA_BYTES, SCHEMA_DEPTH,
};

/// White space between the parts of JSON: none, a space, or a line's end and an indentation. A
/// model may not fill an answer with more of it.
const WHITE_SPACE: &str = r" |\r?\n[ \t]{0,32}";

/// What an answer must look like, as a whole.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// A JSON object, whichever.
    JsonObject,
    /// JSON that a schema accepts.
    JsonSchema(Value),
    /// A text that a regular expression matches from beginning to end, in the syntax of Rust's
    /// `regex` without anchors, look-around and lazy repetition.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A sentence of a grammar in llguidance's variant of Lark's syntax, whose start is `start`.
    Lark(String),
}

impl Spec {
    /// Checks sizes and depths; nothing deeper or larger reaches the library.
    pub fn check(&self) -> Result<(), SpecError> {
        match self {
            Spec::JsonObject => Ok(()),
            Spec::JsonSchema(schema) => {
                within("the depth of the schema", depth(schema), SCHEMA_DEPTH)?;
                within("the length of the schema in bytes", schema.to_string().len(), SCHEMA_BYTES)
            }
            Spec::Regex(regex) => {
                within("the length of the regular expression in bytes", regex.len(), REGEX_BYTES)?;
                within("the depth of its brackets", brackets(regex), BRACKETS_DEPTH)
            }
            Spec::Choice(choices) => check_choices(choices),
            Spec::Lark(text) => {
                within("the length of the grammar in bytes", text.len(), LARK_BYTES)?;
                within("the depth of its brackets", brackets(text), BRACKETS_DEPTH)
            }
        }
    }

    /// A text that two specs have in common exactly if they ask for the same.
    pub fn key(&self) -> String {
        match self {
            Spec::JsonObject => "object".to_owned(),
            Spec::JsonSchema(schema) => format!("schema {schema}"),
            Spec::Regex(regex) => format!("regex {regex}"),
            Spec::Choice(choices) => format!("choice {}", json!(choices)),
            Spec::Lark(text) => format!("lark {text}"),
        }
    }

    /// In the library's form.
    pub(crate) fn to_library(&self) -> TopLevelGrammar {
        match self {
            Spec::JsonObject => {
                TopLevelGrammar::from_json_schema(spaced(json!({"type": "object"})))
            }
            Spec::JsonSchema(schema) => TopLevelGrammar::from_json_schema(spaced(schema.clone())),
            Spec::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Spec::Choice(choices) => {
                let quoted: Vec<String> =
                    choices.iter().map(|text| json!(text).to_string()).collect();
                TopLevelGrammar::from_lark(format!("start: {}", quoted.join(" | ")))
            }
            Spec::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
        }
    }
}

/// The schema with our white space, unless it says its own.
fn spaced(schema: Value) -> Value {
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

fn check_choices(choices: &[String]) -> Result<(), SpecError> {
    if choices.is_empty() {
        return Err(SpecError::NoChoices);
    }
    within("the number of choices", choices.len(), CHOICES)?;
    within(
        "the length of all choices in bytes",
        choices.iter().map(String::len).sum(),
        CHOICES_BYTES,
    )?;
    match choices.iter().position(String::is_empty) {
        Some(index) => Err(SpecError::EmptyChoice { index }),
        None => Ok(()),
    }
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), SpecError> {
    if found <= limit { Ok(()) } else { Err(SpecError::TooLarge { what, found, limit }) }
}

/// Lists and objects within each other. Never deeper than what JSON was parsed with.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The most brackets that are open at once; those in texts and classes count too, since only the
/// library knows which these are.
fn brackets(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}
