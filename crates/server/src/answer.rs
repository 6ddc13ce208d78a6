//! The parts of an answer: content, thoughts, calls of functions with their ids.

use serde::Serialize;
use text::{AnswerParser, AnswerPart, AnswerRules};

/// Why a choice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// An end token, a stop token or a stop string.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// As [`Finish::Stop`], and functions were called.
    ToolCalls,
}

impl Finish {
    /// As the wire spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// How the text of every choice of a reply is divided, and what of it is told.
#[derive(Debug, Clone, Default)]
pub struct AnswerForm {
    /// What it is divided into.
    pub rules: AnswerRules,
    /// Whether thoughts are left out.
    pub hides_reasoning: bool,
    /// Whether the request names the function to call; as with OpenAI, calls then are not told by
    /// [`Finish`].
    pub is_named: bool,
}

/// What came to an answer. Calls are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What is said.
    Content(String),
    /// Thoughts.
    Reasoning(String),
    /// A call begins.
    Call {
        /// Which one.
        index: usize,
        /// Its id.
        id: String,
        /// The function.
        name: String,
    },
    /// Arguments of a call, as the model writes them.
    Arguments {
        /// Of which one.
        index: usize,
        /// The next of its JSON.
        text: String,
    },
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it consists of; no two texts of one kind stand side by side.
    pub blocks: Vec<Block>,
    /// Why it ended.
    pub finish: Finish,
}

/// A piece of an answer that is of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// What is said.
    Content(String),
    /// Thoughts.
    Reasoning(String),
    /// A call of a function.
    Call(Call),
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// The function.
    pub name: String,
    /// Its arguments, as the model wrote them.
    pub arguments: String,
}

impl Answer {
    /// An answer without anything in it.
    pub fn empty() -> Self {
        Answer { blocks: Vec::new(), finish: Finish::Stop }
    }

    /// Whether what comes belongs to the block that came last.
    pub fn goes_on_with(&self, part: &Part) -> bool {
        matches!(
            (part, self.blocks.last()),
            (Part::Content(_), Some(Block::Content(_)))
                | (Part::Reasoning(_), Some(Block::Reasoning(_)))
                | (Part::Arguments { .. }, _)
        )
    }

    /// Adds what came; true if a block begins with it.
    pub fn add(&mut self, part: &Part) -> bool {
        let block = match (part, self.blocks.last_mut()) {
            (Part::Content(text), Some(Block::Content(before)))
            | (Part::Reasoning(text), Some(Block::Reasoning(before))) => {
                before.push_str(text);
                return false;
            }
            (Part::Arguments { text, .. }, last) => {
                let Some(Block::Call(call)) = last else {
                    unreachable!("arguments follow the head of their call");
                };
                call.arguments.push_str(text);
                return false;
            }
            (Part::Content(text), _) => Block::Content(text.clone()),
            (Part::Reasoning(text), _) => Block::Reasoning(text.clone()),
            (Part::Call { id, name, .. }, _) => {
                let (id, name) = (id.clone(), name.clone());
                Block::Call(Call { id, name, arguments: String::new() })
            }
        };
        self.blocks.push(block);
        true
    }

    /// All that is said.
    pub fn content(&self) -> String {
        let texts = self.blocks.iter().map(|block| match block {
            Block::Content(text) => text.as_str(),
            _ => "",
        });
        texts.collect()
    }

    /// All thoughts.
    pub fn reasoning(&self) -> String {
        let texts = self.blocks.iter().map(|block| match block {
            Block::Reasoning(text) => text.as_str(),
            _ => "",
        });
        texts.collect()
    }

    /// Calls of functions, in order.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Call(call) => Some(call),
            _ => None,
        })
    }
}

/// Divides the text of one answer into parts as it comes.
#[derive(Debug)]
pub struct Divider {
    /// None where all of it is content.
    parser: Option<AnswerParser>,
    hides_reasoning: bool,
    is_named: bool,
    calls: usize,
}

impl Divider {
    /// A divider for one answer.
    pub fn new(form: &AnswerForm) -> Self {
        let parser = (!form.rules.is_plain()).then(|| AnswerParser::new(form.rules.clone()));
        let AnswerForm { hides_reasoning, is_named, .. } = *form;
        Divider { parser, hides_reasoning, is_named, calls: 0 }
    }

    /// What `text` adds; with `is_last` also what was held back.
    pub fn push(&mut self, text: String, is_last: bool) -> Vec<Part> {
        let Some(parser) = &mut self.parser else {
            return if text.is_empty() { Vec::new() } else { vec![Part::Content(text)] };
        };
        let mut found = parser.push(&text);
        if is_last {
            found.extend(parser.finish());
        }
        found.into_iter().filter_map(|part| self.part(part)).collect()
    }

    fn part(&mut self, part: AnswerPart) -> Option<Part> {
        match part {
            AnswerPart::Reasoning(_) if self.hides_reasoning => None,
            AnswerPart::Reasoning(text) => Some(Part::Reasoning(text)),
            AnswerPart::Content(text) => Some(Part::Content(text)),
            AnswerPart::Call(name) => {
                self.calls += 1;
                Some(Part::Call { index: self.calls - 1, id: call_id(), name })
            }
            AnswerPart::Arguments(text) => Some(Part::Arguments { index: self.calls - 1, text }),
        }
    }

    /// Why the answer ended, of which `finish` is known.
    pub fn finish(&self, finish: Finish) -> Finish {
        match finish {
            Finish::Stop if 0 < self.calls && !self.is_named => Finish::ToolCalls,
            finish => finish,
        }
    }

    /// Whether what comes now is thought.
    pub fn is_thinking(&self) -> bool {
        self.parser.as_ref().is_some_and(AnswerParser::is_thinking)
    }

    /// Whether nothing more is wanted: the only call that the answer may have is complete.
    pub fn is_over(&self) -> bool {
        self.parser.as_ref().is_some_and(AnswerParser::is_over)
    }
}

/// Characters of an id: what the templates of Mistral's models ask for.
const ID_LEN: usize = 9;

/// A new id of a call: letters and digits.
fn call_id() -> String {
    let mut random = getrandom::u64().expect("the operating system gives random numbers");
    let digit = || {
        let digit = char::from_digit((random % 36) as u32, 36).expect("below 36");
        random /= 36;
        digit
    };
    std::iter::repeat_with(digit).take(ID_LEN).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use text::{Reasoning, ToolFormat};

    use super::*;

    fn form() -> AnswerForm {
        let rules = AnswerRules {
            reasoning: Reasoning::MayOpen,
            tools: Some(ToolFormat::Hermes),
            names: ["f".to_owned()].into(),
            ..AnswerRules::default()
        };
        AnswerForm { rules, ..AnswerForm::default() }
    }

    const CALL: &str = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";

    #[test]
    fn parts_add_up_to_the_answer() {
        let mut divider = Divider::new(&form());
        let mut answer = Answer::empty();
        let text = format!("<think>hm</think>Well.\n{CALL}\n{CALL} <tool");
        let mut parts = divider.push(text, false);
        parts.extend(divider.push(String::new(), true));
        let begun = parts.iter().filter(|part| answer.add(part)).count();
        assert_eq!((begun, answer.blocks.len()), (5, 5));
        assert_eq!((answer.content().as_str(), answer.reasoning().as_str()), ("Well.<tool", "hm"));
        let calls: Vec<_> =
            answer.calls().map(|c| (c.name.as_str(), c.arguments.as_str())).collect();
        assert_eq!(calls, [("f", "{}"), ("f", "{}")]);
        assert!(divider.finish(Finish::Stop) == Finish::ToolCalls && !divider.is_over());
        assert_eq!(divider.finish(Finish::Length), Finish::Length);
    }

    #[test]
    fn hidden_thoughts_are_left_out() {
        let mut divider = Divider::new(&AnswerForm { hides_reasoning: true, ..form() });
        let parts = divider.push("<think>hm</think>Yes".to_owned(), true);
        assert_eq!(parts, [Part::Content("Yes".to_owned())]);
    }

    #[test]
    fn ids_are_nine_letters_and_digits_and_differ() {
        let ids: BTreeSet<String> = (0..1_000).map(|_| call_id()).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(
            ids.iter().all(|id| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()))
        );
    }
}
