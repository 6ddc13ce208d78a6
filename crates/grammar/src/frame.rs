//! Answers of parts that follow each other, as a grammar in the library's language.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::error::{SpecError, within};
use crate::limits::FRAME_BYTES;
use crate::schema::{check_schema, spaced};

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// This text.
    Text(String),
    /// This token, which is no text.
    Token(u32),
    /// Any text; only a [`Frame::Token`] may follow.
    Any,
    /// Any text up to and including the first of this one.
    Through(String),
    /// JSON that a schema accepts.
    Json(Value),
    /// A text that a regular expression matches.
    Regex(String),
    /// A sentence of a grammar of its own.
    Lark(String),
    /// Parts that follow each other.
    Sequence(Vec<Frame>),
    /// One of these.
    Choice(Vec<Frame>),
    /// This, or nothing.
    Optional(Box<Frame>),
    /// One part or more, with others between them.
    Repeated {
        /// Each of them.
        item: Box<Frame>,
        /// What is between two.
        between: Box<Frame>,
        /// How many there may be, at least 1.
        most: usize,
    },
}

impl Frame {
    /// Checks the sizes and depths of its schemas, and its size.
    pub(crate) fn check(&self) -> Result<(), SpecError> {
        self.each_part(&mut |part| match part {
            Frame::Json(schema) => check_schema(schema),
            // Checked as specs of their own.
            _ => Ok(()),
        })?;
        within("the length of all schemas in bytes", self.to_lark().len(), FRAME_BYTES)
    }

    /// Calls `visit` with this part and those within it, until it fails.
    pub(crate) fn each_part(
        &self,
        visit: &mut dyn FnMut(&Frame) -> Result<(), SpecError>,
    ) -> Result<(), SpecError> {
        visit(self)?;
        match self {
            Frame::Text(_) | Frame::Token(_) | Frame::Any | Frame::Through(_) => Ok(()),
            Frame::Json(_) | Frame::Regex(_) | Frame::Lark(_) => Ok(()),
            Frame::Sequence(parts) | Frame::Choice(parts) => {
                parts.iter().try_for_each(|part| part.each_part(visit))
            }
            Frame::Optional(part) => part.each_part(visit),
            Frame::Repeated { item, between, .. } => {
                item.each_part(visit)?;
                between.each_part(visit)
            }
        }
    }

    /// In the library's variant of Lark's syntax.
    pub(crate) fn to_lark(&self) -> String {
        let mut rules = Vec::new();
        let mut lark = format!("start: {}\n", self.expression(&mut rules));
        for (index, rule) in rules.iter().enumerate() {
            writeln!(lark, "part{index}{rule}").expect("a String takes every text");
        }
        lark
    }

    /// As an expression, whose `rules` are named by their places in the list.
    fn expression(&self, rules: &mut Vec<String>) -> String {
        let joined = |parts: &[Frame], by: &str, rules: &mut Vec<String>| {
            let parts: Vec<String> = parts.iter().map(|part| part.expression(rules)).collect();
            format!("({})", parts.join(by))
        };
        match self {
            Frame::Text(text) => json!(text).to_string(),
            Frame::Token(id) => format!("<[{id}]>"),
            Frame::Any => "/(?s:.*)/".to_owned(),
            Frame::Through(text) => named(format!("[lazy]: /(?s:.*)/ {}", json!(text)), rules),
            Frame::Json(schema) => format!("%json {}", spaced(schema.clone())),
            Frame::Regex(regex) => format!("/{}/", in_slashes(regex)),
            Frame::Lark(text) => format!("%lark {{\n{text}\n}}"),
            Frame::Sequence(parts) if parts.is_empty() => "\"\"".to_owned(),
            Frame::Sequence(parts) => joined(parts, " ", rules),
            Frame::Choice(parts) => joined(parts, " | ", rules),
            Frame::Optional(part) => format!("({})?", part.expression(rules)),
            Frame::Repeated { item, most: 1, .. } => item.expression(rules),
            Frame::Repeated { item, between, most } => {
                let item = format!(": {}", item.expression(rules));
                let (item, between) = (named(item, rules), between.expression(rules));
                format!("({item} ({between} {item}){{0,{}}})", most - 1)
            }
        }
    }
}

/// A regular expression as it stands between slashes: those within, and ends of lines, are escaped.
fn in_slashes(regex: &str) -> String {
    let mut text = String::with_capacity(regex.len());
    let mut is_escaped = false;
    for c in regex.chars() {
        match c {
            '/' if !is_escaped => text.push_str("\\/"),
            '\n' if is_escaped => text.push('n'),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    text
}

/// Adds `rule` to the list; gives its name.
fn named(rule: String, rules: &mut Vec<String>) -> String {
    rules.push(rule);
    format!("part{}", rules.len() - 1)
}
