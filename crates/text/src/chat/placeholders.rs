//! Keeping control tokens of the template apart from message text that spells the same.
//!
//! Before compiling, each control token that the template spells out is replaced by one
//! private-use character, its placeholder. Message text never holds a placeholder: where it has
//! that very character, it is escaped. So a placeholder in the rendered prompt comes from the
//! template, and a spelling in the rendered prompt comes from a message, whatever the template
//! cut, trimmed or joined in between. Templates see message text as it is.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use minijinja::value::{Value, ValueKind};

use crate::tokenizer::{Segment, Tokenizer};

use super::TemplateError;
use super::message::entries;

/// Placeholders and the escape are taken from plane 16 of Unicode, which is private use.
const FIRST_RESERVED: char = '\u{100000}';

/// An escaped character is written as the escape and its twin in plane 15.
const TWIN_DISTANCE: u32 = 0x10000;

/// Roles that clients send, in the middle of such tokens as `<|user|>`.
const ROLES: [&str; 8] =
    ["system", "developer", "user", "assistant", "tool", "function", "ipython", "model"];

/// What stands for control tokens in one template.
#[derive(Debug)]
pub(super) struct Placeholders {
    escape: char,
    /// Stands behind the content of a message that is to be continued.
    mark: char,
    /// Placeholder of each control token that the template may write.
    by_id: HashMap<u32, char>,
    /// The way back: id and spelling.
    tokens: HashMap<char, (u32, String)>,
}

impl Placeholders {
    /// Chooses placeholders for the control tokens in `source` and for the begin and end token.
    /// Gives `source` with placeholders in it.
    pub(super) fn new(
        source: &str,
        tokenizer: &Tokenizer,
    ) -> Result<(Self, String), TemplateError> {
        check_composed(source, tokenizer)?;
        let found: Vec<_> = tokenizer
            .find_control(source)
            .into_iter()
            .filter(|(_, range)| !is_word(&source[range.clone()]))
            .collect();
        let special = tokenizer.bos().into_iter().chain(tokenizer.end_tokens().first().copied());
        let special = special.filter(|id| tokenizer.is_control(*id));
        let ids: BTreeSet<u32> = found.iter().map(|(id, _)| *id).chain(special).collect();

        let mut free = (FIRST_RESERVED..=char::MAX).filter(|reserved| !source.contains(*reserved));
        let mut next =
            || free.next().expect("plane 16 has more characters than a template has bytes");
        let (escape, mark) = (next(), next());
        let by_id: HashMap<u32, char> = ids.into_iter().zip(free).collect();
        let spelling = |id: u32| tokenizer.token_text(id).unwrap_or_default().to_owned();
        let tokens = by_id.iter().map(|(id, c)| (*c, (*id, spelling(*id)))).collect();

        let mut replaced = String::with_capacity(source.len());
        let mut done = 0;
        for (id, range) in found {
            replaced.push_str(&source[done..range.start]);
            replaced.push(by_id[&id]);
            done = range.end;
        }
        replaced.push_str(&source[done..]);
        Ok((Self { escape, mark, by_id, tokens }, replaced))
    }

    /// The placeholder of a control token that was in the template, or begins or ends texts.
    pub(super) fn of(&self, id: u32) -> Option<char> {
        self.by_id.get(&id).copied()
    }

    /// Message text that [`Placeholders::cut_at_mark`] finds the end of.
    pub(super) fn escape_and_mark(&self, text: &str) -> String {
        // The space tells whether the template trims: it would be gone.
        format!("{}{} ", self.escape(text), self.mark)
    }

    /// `rendered` up to the end of the text that was marked. It is trimmed if the template does that.
    /// None if the end is not there.
    pub(super) fn cut_at_mark(&self, rendered: &str) -> Option<String> {
        let at = rendered.rfind(self.mark)?;
        let is_kept = rendered[at + self.mark.len_utf8()..].starts_with(' ');
        let cut = if is_kept { &rendered[..at] } else { rendered[..at].trim_end() };
        Some(cut.replace(self.mark, ""))
    }

    /// Message text in which no placeholder stands.
    pub(super) fn escape<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !text.contains(|c| self.is_reserved(c)) {
            return Cow::Borrowed(text);
        }
        let mut escaped = String::with_capacity(text.len() + 8);
        for c in text.chars() {
            if self.is_reserved(c) {
                escaped.push(self.escape);
                escaped.push(twin(c));
            } else {
                escaped.push(c);
            }
        }
        Cow::Owned(escaped)
    }

    /// JSON in whose strings and keys no placeholder stands.
    pub(super) fn escape_json(&self, value: &Value) -> Value {
        match value.kind() {
            ValueKind::String => self.escape(value.as_str().unwrap_or_default()).into(),
            ValueKind::Seq => {
                let items = value.try_iter().into_iter().flatten();
                Value::from(items.map(|item| self.escape_json(&item)).collect::<Vec<_>>())
            }
            ValueKind::Map => {
                let pairs = entries(value).into_iter();
                let escaped = |(k, v)| (self.escape_json(&k), self.escape_json(&v));
                Value::from_pairs(pairs.map(escaped))
            }
            _ => value.clone(),
        }
    }

    /// A rendered prompt as segments: placeholders as control tokens, the rest as text, with what
    /// was escaped put back.
    pub(super) fn segments(&self, rendered: &str) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut text = String::new();
        let mut characters = rendered.chars().peekable();
        while let Some(c) = characters.next() {
            if c < FIRST_RESERVED {
                text.push(c);
            } else if let Some((id, _)) = self.tokens.get(&c) {
                if !text.is_empty() {
                    segments.push(Segment::Text(std::mem::take(&mut text)));
                }
                segments.push(Segment::Control(*id));
            } else if c == self.escape {
                // Without its twin (the template cut between them) an escape is nothing.
                let original = characters.peek().and_then(|c| self.original(*c));
                if let Some(original) = original {
                    characters.next();
                    text.push(original);
                }
            } else {
                text.push(c);
            }
        }
        if !text.is_empty() {
            segments.push(Segment::Text(text));
        }
        segments
    }

    /// A text for people, such as an error: control tokens as they are spelt.
    pub(super) fn plain(&self, rendered: &str) -> String {
        let mut plain = String::with_capacity(rendered.len());
        for segment in self.segments(rendered) {
            match segment {
                Segment::Control(id) => plain.push_str(&self.tokens[&self.by_id[&id]].1),
                Segment::Text(text) => plain.push_str(&text),
            }
        }
        plain
    }

    /// The last segments of a prompt as text, as far as a mark may stand in them.
    pub(super) fn end_of(&self, prompt: &[Segment]) -> String {
        let end = &prompt[prompt.len().saturating_sub(2)..];
        let texts = end.iter().map(|segment| match segment {
            Segment::Control(id) => self.by_id.get(id).map_or("", |c| &self.tokens[c].1),
            Segment::Text(text) => text,
        });
        texts.collect()
    }

    fn is_reserved(&self, c: char) -> bool {
        FIRST_RESERVED <= c && (c == self.escape || c == self.mark || self.tokens.contains_key(&c))
    }

    /// The reserved character that `twin` was written for, if it is a twin.
    fn original(&self, twin: char) -> Option<char> {
        let original = char::from_u32(u32::from(twin).saturating_add(TWIN_DISTANCE));
        original.filter(|c| self.is_reserved(*c))
    }
}

fn twin(reserved: char) -> char {
    char::from_u32(u32::from(reserved) - TWIN_DISTANCE).expect("plane 15 is all characters")
}

/// Whether a spelling is a plain word, which in a template may as well be the name of a variable.
/// No model has such a control token; if one had, its template would write it as text.
fn is_word(spelling: &str) -> bool {
    spelling.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || c == '_')
}

/// Fails if the template writes a control token such as `<|user|>` as `'<|' + role + '|>'`.
///
/// Such a token has no placeholder and would be rendered as plain text without anyone noticing.
fn check_composed(source: &str, tokenizer: &Tokenizer) -> Result<(), TemplateError> {
    for (_, token) in tokenizer.control_tokens() {
        for role in ROLES {
            let Some((before, after)) = token.split_once(role) else { continue };
            let stands_alone = !after.starts_with(is_word_part) && !before.ends_with(is_word_part);
            if !stands_alone || before.is_empty() {
                continue;
            }
            let opened =
                ["'", "\"", "{{"].iter().any(|end| source.contains(&(before.to_owned() + end)));
            if opened {
                return Err(TemplateError::ComposedToken { token: token.to_owned(), role });
            }
        }
    }
    Ok(())
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
