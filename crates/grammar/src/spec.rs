//! What is asked for, and whether it is small enough to look at.

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use crate::error::{SpecError, within};
use crate::frame::Frame;
use crate::limits::{BRACKETS_DEPTH, CHOICES, CHOICES_BYTES, LARK_BYTES, REGEX_BYTES};
use crate::schema::{check_schema, spaced};

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
    /// Parts that follow each other.
    Frame(Frame),
}

impl Spec {
    /// Checks sizes and depths; nothing deeper or larger reaches the library.
    pub fn check(&self) -> Result<(), SpecError> {
        match self {
            Spec::JsonObject => Ok(()),
            Spec::JsonSchema(schema) => check_schema(schema),
            Spec::Regex(regex) => {
                within("the length of the regular expression in bytes", regex.len(), REGEX_BYTES)?;
                within("the depth of its brackets", brackets(regex), BRACKETS_DEPTH)
            }
            Spec::Choice(choices) => check_choices(choices),
            Spec::Lark(text) => {
                within("the length of the grammar in bytes", text.len(), LARK_BYTES)?;
                within("the depth of its brackets", brackets(text), BRACKETS_DEPTH)
            }
            Spec::Frame(frame) => frame.check(),
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
            Spec::Frame(frame) => format!("lark {}", frame.to_lark()),
        }
    }

    /// As a part of an answer.
    pub fn into_frame(self) -> Frame {
        match self {
            Spec::JsonObject => Frame::Json(json!({"type": "object"})),
            Spec::JsonSchema(schema) => Frame::Json(schema),
            Spec::Regex(regex) => Frame::Regex(regex),
            Spec::Choice(choices) => Frame::Choice(choices.into_iter().map(Frame::Text).collect()),
            Spec::Lark(text) => Frame::Lark(text),
            Spec::Frame(frame) => frame,
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
            Spec::Frame(frame) => TopLevelGrammar::from_lark(frame.to_lark()),
        }
    }
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
