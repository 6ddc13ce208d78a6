//! Requests that somebody recorded: prompts or their lengths, lengths of answers, times.
//!
//! Understood are JSON lines and a JSON list of the same objects, among them those of ShareGPT.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::random::{Purpose, Random};

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of the user's.
    pub fn user(content: String) -> Message {
        Message { role: "user".to_owned(), content }
    }
}

/// What a recorded request asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// A text of so many tokens; which one is not recorded.
    Tokens(u32),
    /// This text.
    Text(String),
    /// A whole chat, to be continued.
    Messages(Vec<Message>),
    /// The user's side of a conversation, turn by turn; at least one.
    Turns(Vec<String>),
}

/// How long the answer to a recorded request is to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// So many tokens.
    Tokens(u32),
    /// As many tokens as this recorded answer has.
    AsLongAs(String),
    /// The record does not say.
    Unsaid,
}

/// A recorded request.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What it asks.
    pub prompt: Prompt,
    /// How long its answer is to be.
    pub output: Output,
    /// When it was sent, nanoseconds after an unknown origin.
    pub at_ns: Option<u64>,
    /// The line of its end in the file, from 1; in a list its number.
    pub line: usize,
}

/// Recorded requests, at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// In the order in which they were recorded.
    pub items: Vec<Item>,
    /// Records that hold no request: conversations without a question or an answer, and lengths of 0.
    pub skipped: usize,
}

/// Why a text holds no recorded requests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatasetError {
    /// A record that cannot be understood.
    #[error("line {line}: {why}")]
    Line {
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A record of a list that cannot be understood.
    #[error("record {number} of the list: {why}")]
    Record {
        /// Its number, from 1.
        number: usize,
        /// What is wrong.
        why: String,
    },
    /// Nothing that could be sent.
    #[error("it has no requests ({skipped} records were skipped)")]
    Empty {
        /// Records without a request.
        skipped: usize,
    },
    /// More than can be used.
    #[error("it has more than {ITEMS_MAX} requests: cut it")]
    TooMany,
}

/// Most requests of a data set.
pub const ITEMS_MAX: usize = 1_000_000;
/// Longest prompt or answer of a record, in tokens; a longer one is a slip.
const TOKENS_MAX: u32 = 1 << 20;
/// Latest time of a record after its origin, seconds: the year 2286 if that is 1970.
const TIME_S_MAX: f64 = 1e10;

impl Dataset {
    /// Reads a file's `text`.
    pub fn parse(text: &str) -> Result<Dataset, DatasetError> {
        let text = text.trim_start_matches('\u{feff}').trim_end();
        let mut dataset = Dataset { items: Vec::new(), skipped: 0 };
        if text.trim_start().starts_with('[') {
            dataset.read_list(text)?;
        } else {
            dataset.read_lines(text)?;
        }
        let Dataset { items, skipped } = &dataset;
        if items.is_empty() { Err(DatasetError::Empty { skipped: *skipped }) } else { Ok(dataset) }
    }

    fn read_list(&mut self, text: &str) -> Result<(), DatasetError> {
        let records: Vec<Record<'_>> = serde_json::from_str(text)
            .map_err(|error| DatasetError::Line { line: error.line(), why: error.to_string() })?;
        for (number, record) in (1..).zip(records) {
            let item = record.into_item(number);
            self.take(item.map_err(|why| DatasetError::Record { number, why })?)?;
        }
        Ok(())
    }

    fn read_lines(&mut self, text: &str) -> Result<(), DatasetError> {
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            let record: Result<Record<'_>, _> = serde_json::from_str(text);
            let record = record.map_err(|error| error.to_string());
            let item = record.and_then(|record| record.into_item(line));
            self.take(item.map_err(|why| DatasetError::Line { line, why })?)?;
        }
        Ok(())
    }

    fn take(&mut self, item: Option<Item>) -> Result<(), DatasetError> {
        match item {
            None => self.skipped += 1,
            Some(_) if self.items.len() == ITEMS_MAX => return Err(DatasetError::TooMany),
            Some(item) => self.items.push(item),
        }
        Ok(())
    }

    /// In which order a run with this `seed` sends the requests, each once: places in
    /// [`Dataset::items`].
    pub fn order(&self, seed: u64) -> Vec<usize> {
        let mut random = Random::new(seed, &[Purpose::Order as u64]);
        let mut order: Vec<usize> = (0..self.items.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last + 1)); // Fisher and Yates
        }
        order
    }

    /// Puts the requests in the order of their times.
    ///
    /// # Errors
    /// The line of the first one without a time.
    pub fn into_trace(mut self) -> Result<Trace, usize> {
        match self.items.iter().find(|item| item.at_ns.is_none()) {
            Some(item) => Err(item.line),
            None => {
                self.items.sort_by_key(|item| item.at_ns); // stable: equal times keep their order
                Ok(Trace(self))
            }
        }
    }
}

/// Recorded requests that all have a time, in that order.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace(Dataset);

impl Trace {
    /// When each request is due at so many times the recorded speed: nanoseconds after the first,
    /// ascending.
    pub fn schedule_ns(&self, speed: f64) -> Vec<u64> {
        let times = || self.0.items.iter().filter_map(|item| item.at_ns);
        let start_ns = times().next().unwrap_or(0);
        times().map(|at_ns| ((at_ns - start_ns) as f64 / speed).round() as u64).collect()
    }

    /// The requests, in the order of their times.
    pub fn into_dataset(self) -> Dataset {
        self.0
    }
}

/// A line or an element of a list: only what is looked at.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    prompt: Option<Cow<'a, str>>,
    messages: Option<Vec<Message>>,
    #[serde(borrow)]
    conversations: Option<Vec<Said<'a>>>,
    #[serde(alias = "input_tokens", alias = "input_length", alias = "prompt_len")]
    prompt_tokens: Option<u32>,
    #[serde(alias = "output_length", alias = "max_tokens", alias = "output_len")]
    output_tokens: Option<u32>,
    /// Milliseconds.
    #[serde(alias = "timestamp")]
    timestamp_ms: Option<f64>,
    timestamp_s: Option<f64>,
}

/// One turn of a ShareGPT conversation.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

impl Record<'_> {
    /// The request in it, if there is one. `Err` says what is wrong.
    fn into_item(self, line: usize) -> Result<Option<Item>, String> {
        let bounded = |name: &str, tokens: Option<u32>| match tokens {
            Some(tokens) if TOKENS_MAX < tokens => {
                Err(format!("`{name}` is {tokens}, and at most {TOKENS_MAX} can be asked for"))
            }
            tokens => Ok(tokens),
        };
        let prompt_tokens = bounded("prompt_tokens", self.prompt_tokens)?;
        let output_tokens = bounded("output_tokens", self.output_tokens)?;
        let at_ns = time_ns(self.timestamp_ms, self.timestamp_s)?;
        let mut output = output_tokens.map_or(Output::Unsaid, Output::Tokens);
        let prompt = if let Some(messages) = self.messages {
            (!messages.is_empty()).then_some(Prompt::Messages(messages))
        } else if let Some(text) = self.prompt {
            (!text.is_empty()).then(|| Prompt::Text(text.into_owned()))
        } else if let Some(said) = self.conversations {
            match conversation(&said) {
                None => None,
                Some((turns, answer)) => {
                    if output == Output::Unsaid {
                        output = Output::AsLongAs(answer);
                    }
                    Some(Prompt::Turns(turns))
                }
            }
        } else if let Some(tokens) = prompt_tokens {
            (0 < tokens).then_some(Prompt::Tokens(tokens))
        } else {
            let fields = "`prompt`, `messages`, `conversations` nor `prompt_tokens`";
            return Err(format!("the record has neither {fields}"));
        };
        let asks_nothing = output == Output::Tokens(0);
        let prompt = prompt.filter(|_| !asks_nothing);
        Ok(prompt.map(|prompt| Item { prompt, output, at_ns, line }))
    }
}

/// What the user says, and the first answer. `None` without either.
fn conversation(said: &[Said<'_>]) -> Option<(Vec<String>, String)> {
    let is = |said: &Said<'_>, names: &[&str]| {
        names.contains(&said.from.as_ref()) && !said.value.trim().is_empty()
    };
    let is_user = |said: &&Said<'_>| is(said, &["human", "user"]);
    let turns: Vec<String> = said.iter().filter(is_user).map(|s| s.value.to_string()).collect();
    let first = said.iter().position(|said| is_user(&said))?;
    let answer = said[first..].iter().find(|said| is(said, &["gpt", "assistant"]))?;
    Some((turns, answer.value.to_string()))
}

fn time_ns(ms: Option<f64>, s: Option<f64>) -> Result<Option<u64>, String> {
    let seconds = match (ms, s) {
        (Some(_), Some(_)) => return Err("it has a time in ms and one in s".to_owned()),
        (None, None) => return Ok(None),
        (Some(ms), None) => ms / 1e3,
        (None, Some(s)) => s,
    };
    if (0.0..=TIME_S_MAX).contains(&seconds) {
        Ok(Some((seconds * 1e9) as u64))
    } else {
        Err(format!("its time of {seconds} s is not between 0 and {TIME_S_MAX} s"))
    }
}

#[cfg(test)]
mod tests;
