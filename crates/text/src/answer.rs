//! The text of an answer, divided: content, thoughts, calls of functions.

mod call;
mod spelling;

use std::sync::Arc;

use call::{CallReader, Flow};

pub use spelling::CallSpelling;

/// How a model writes calls of functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolFormat {
    /// Hermes, Qwen: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, anywhere.
    Hermes,
    /// Llama 3: an answer that is `{"name": …, "parameters": {…}}`, perhaps behind
    /// `<|python_tag|>`; several have `;` between.
    Llama3,
    /// Mistral: `[TOOL_CALLS]` and a list of objects, or `NAME[ARGS]{…}`; both are read.
    Mistral {
        /// Whether calls are written in the second way.
        has_args: bool,
    },
}

/// Whether an answer may have thoughts before its content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reasoning {
    /// It has none that could be told.
    #[default]
    None,
    /// It may begin with `<think>`.
    MayOpen,
    /// The prompt has opened them: the answer begins with thoughts.
    Open,
}

impl Reasoning {
    /// The same, for an answer that goes on with `said`.
    pub fn behind(self, said: &str) -> Self {
        let is_open = said.rfind(THINK).is_some_and(|at| !said[at..].contains(END_THINK));
        if self == Reasoning::MayOpen && is_open { Reasoning::Open } else { self }
    }
}

/// What an answer is divided into; by default it is all content.
#[derive(Debug, Clone, Default)]
pub struct AnswerRules {
    /// Whether there may be thoughts.
    pub reasoning: Reasoning,
    /// How functions are called; none: no call is looked for.
    pub tools: Option<ToolFormat>,
    /// The functions that may be called; a call of any other is content.
    pub names: Arc<[String]>,
    /// Whether the answer is over with its first call.
    pub ends_with_call: bool,
    /// Control tokens that are marks of these: they count as text.
    pub marks: Vec<u32>,
}

impl AnswerRules {
    /// Whether every answer is all content.
    pub fn is_plain(&self) -> bool {
        self.reasoning == Reasoning::None && self.tools.is_none()
    }
}

/// A part of an answer; parts of one kind that follow each other belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerPart {
    /// What is said.
    Content(String),
    /// Thoughts.
    Reasoning(String),
    /// The name of a function whose call begins.
    Call(String),
    /// Arguments of the call that began last: JSON as the model wrote it, an object if the model
    /// writes JSON at all and was not cut off.
    Arguments(String),
}

/// Opens the thoughts of an answer.
pub const THINK: &str = "<think>";
/// Ends them.
pub const END_THINK: &str = "</think>";
pub(crate) const TOOL_CALL: &str = "<tool_call>";
pub(crate) const END_TOOL_CALL: &str = "</tool_call>";
pub(crate) const PYTHON_TAG: &str = "<|python_tag|>";
pub(crate) const TOOL_CALLS: &str = "[TOOL_CALLS]";
pub(crate) const ARGS: &str = "[ARGS]";
/// Marks that some models have as control tokens.
pub(crate) const MARKS_OF_THOUGHTS: &[&str] = &[THINK, END_THINK];
pub(crate) const MARKS_OF_CALLS: &[&str] =
    &[TOOL_CALL, END_TOOL_CALL, PYTHON_TAG, TOOL_CALLS, ARGS];

/// Bytes of space that are held back, since space beside a mark is not told.
const SPACE_HELD: usize = 64;

/// Divides the text of one answer as it comes.
///
/// What comes out, joined, does not depend on how the text is cut into pieces. Text is held back
/// only while it may become a mark, or the head of a call; space beside a mark is not told. A call
/// is told once its name and the beginning of its arguments are read; what cannot be read until
/// then is content.
#[derive(Debug)]
pub struct AnswerParser {
    rules: AnswerRules,
    state: State,
    /// The end of the text so far, which may be the beginning of a mark.
    held: String,
    /// Whether nothing was told since the last mark: space is not told then.
    is_fresh: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing was said yet: thoughts may open, and a call may come that has no mark.
    Start,
    Thoughts,
    Content,
    Call(Box<CallReader>),
    /// Behind a call.
    Called,
    /// Nothing more is told.
    Over,
}

/// What a mark begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Thoughts,
    Answer,
    Call,
    Called,
}

impl AnswerParser {
    /// A parser for one answer.
    pub fn new(rules: AnswerRules) -> Self {
        let is_open = rules.reasoning == Reasoning::Open;
        let state = if is_open { State::Thoughts } else { State::Start };
        AnswerParser { rules, state, held: String::new(), is_fresh: is_open }
    }

    /// What `text` adds to the answer.
    pub fn push(&mut self, text: &str) -> Vec<AnswerPart> {
        let mut parts = Parts::default();
        for c in text.chars() {
            self.feed(c, &mut parts);
        }
        parts.0
    }

    /// What was held back, for an answer that is over.
    pub fn finish(&mut self) -> Vec<AnswerPart> {
        let mut parts = Parts::default();
        if let State::Call(reader) = &mut self.state {
            let raw = reader.take_untold();
            self.is_fresh = false;
            self.state = State::Content;
            parts.content(&raw);
        }
        for c in std::mem::take(&mut self.held).chars() {
            self.tell(c, &mut parts);
        }
        parts.0
    }

    /// Whether nothing more is told, since the only call that there may be is complete.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether what comes now is thought.
    pub fn is_thinking(&self) -> bool {
        matches!(self.state, State::Thoughts)
    }

    fn feed(&mut self, c: char, parts: &mut Parts) {
        let reader = match &mut self.state {
            State::Call(reader) => reader,
            State::Over => return,
            _ => return self.seek(c, parts),
        };
        match reader.push(c, parts) {
            Flow::More => {}
            Flow::Done | Flow::Over if self.rules.ends_with_call => self.enter(State::Over),
            Flow::Done => self.enter(State::Called),
            Flow::Over => {
                self.enter(State::Called);
                self.seek(c, parts);
            }
            Flow::Malformed => {
                let raw = reader.take_untold();
                self.state = State::Content;
                self.is_fresh = false;
                parts.content(&raw);
                self.seek(c, parts);
            }
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.is_fresh = true;
    }

    /// Looks for a mark at the end of the text so far.
    fn seek(&mut self, c: char, parts: &mut Parts) {
        self.held.push(c);
        while !self.held.is_empty() {
            let text = self.held.trim_start();
            let found = self.marks().find(|(mark, _)| mark.starts_with(text));
            match found {
                // All of it is space.
                _ if text.is_empty() && self.held.len() <= SPACE_HELD => return,
                Some((mark, next)) if mark == text => return self.pass(mark, next, parts),
                Some(_) if !text.is_empty() => return,
                _ => {
                    let first = self.held.remove(0);
                    self.tell(first, parts);
                }
            }
        }
    }

    /// The marks that may come now, with what they begin.
    fn marks(&self) -> impl Iterator<Item = (&'static str, Next)> + use<> {
        use Next::{Answer, Call, Called, Thoughts};
        let starts = matches!(self.state, State::Start);
        let opens = starts && self.rules.reasoning == Reasoning::MayOpen;
        let thoughts: &[_] = match &self.state {
            State::Thoughts => &[(END_THINK, Answer)],
            _ if opens => &[(THINK, Thoughts)],
            _ => &[],
        };
        let tools = self.rules.tools.filter(|_| !matches!(self.state, State::Thoughts));
        let calls: &[_] = match tools {
            Some(ToolFormat::Hermes) => &[(TOOL_CALL, Call)],
            Some(ToolFormat::Mistral { .. }) => &[(TOOL_CALLS, Call)],
            Some(ToolFormat::Llama3) if starts => &[(PYTHON_TAG, Call), ("{", Call)],
            Some(ToolFormat::Llama3) => &[(PYTHON_TAG, Call)],
            None => &[],
        };
        let behind: &[_] = match tools.filter(|_| matches!(self.state, State::Called)) {
            Some(ToolFormat::Hermes) => &[(END_TOOL_CALL, Called)],
            Some(ToolFormat::Mistral { .. }) => &[(",", Call), ("]", Called)],
            Some(ToolFormat::Llama3) => &[(";", Call)],
            None => &[],
        };
        thoughts.iter().chain(calls).chain(behind).copied()
    }

    /// Goes on behind a mark, which `held` ends with.
    fn pass(&mut self, mark: &str, next: Next, parts: &mut Parts) {
        let held = std::mem::take(&mut self.held);
        match next {
            Next::Thoughts => self.enter(State::Thoughts),
            Next::Answer => {
                self.rules.reasoning = Reasoning::None;
                self.enter(State::Start);
            }
            Next::Called => self.enter(State::Called),
            Next::Call => {
                let format = self.rules.tools.expect("only then its marks are looked for");
                let names = Arc::clone(&self.rules.names);
                let object = if mark == "{" { "{" } else { "" };
                let untold = &held[..held.len() - object.len()];
                let untold = if self.is_fresh { untold.trim_start() } else { untold }.to_owned();
                self.state = State::Call(Box::new(CallReader::new(format, names, untold)));
                object.chars().for_each(|c| self.feed(c, parts));
            }
        }
    }

    /// Tells a character that belongs to no mark.
    fn tell(&mut self, c: char, parts: &mut Parts) {
        if self.is_fresh && c.is_whitespace() {
            return;
        }
        self.is_fresh = false;
        let mut buffer = [0; 4];
        let text = c.encode_utf8(&mut buffer);
        if matches!(self.state, State::Thoughts) {
            parts.reasoning(text);
        } else {
            self.state = State::Content;
            parts.content(text);
        }
    }
}

/// Parts in the making: what follows its own kind is joined to it.
#[derive(Debug, Default)]
struct Parts(Vec<AnswerPart>);

impl Parts {
    fn content(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(AnswerPart::Content(before)) => before.push_str(text),
            _ => self.0.push(AnswerPart::Content(text.to_owned())),
        }
    }

    fn reasoning(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(AnswerPart::Reasoning(before)) => before.push_str(text),
            _ => self.0.push(AnswerPart::Reasoning(text.to_owned())),
        }
    }

    fn call(&mut self, name: String) {
        self.0.push(AnswerPart::Call(name));
    }

    fn arguments(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(AnswerPart::Arguments(before)) => before.push_str(text),
            _ => self.0.push(AnswerPart::Arguments(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
