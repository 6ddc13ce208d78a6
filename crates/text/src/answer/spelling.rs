//! How models spell calls of functions: what [`AnswerParser`](super::AnswerParser) reads, as text.

use super::{ARGS, END_TOOL_CALL, TOOL_CALL, TOOL_CALLS, ToolFormat};

/// The texts around names and arguments.
///
/// An answer that is calls alone is `begin`, the calls with `between` between them, and `end`; a call is
/// `open`, the function's name, `middle`, the JSON object of its arguments, and `close`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSpelling {
    /// Before the first call.
    pub begin: String,
    /// Before a function's name.
    pub open: String,
    /// Between its name and its arguments.
    pub middle: String,
    /// Behind its arguments.
    pub close: String,
    /// Between two calls.
    pub between: String,
    /// Behind the last call.
    pub end: String,
}

impl ToolFormat {
    /// How this format spells calls.
    pub fn spelling(self) -> CallSpelling {
        let object = |key: &str| [r#"{"name": ""#.to_owned(), format!(r#"", "{key}": "#)];
        let [open, middle] = object(if self == Self::Llama3 { "parameters" } else { "arguments" });
        let [begin, open, middle, close, between, end] = match self {
            Self::Hermes => {
                let (open, close) =
                    (format!("{TOOL_CALL}\n{open}"), format!("}}\n{END_TOOL_CALL}"));
                [String::new(), open, middle, close, "\n".to_owned(), String::new()]
            }
            Self::Llama3 => {
                [String::new(), open, middle, "}".to_owned(), "; ".to_owned(), String::new()]
            }
            Self::Mistral { has_args: false } => {
                let begin = format!("{TOOL_CALLS}[");
                [begin, open, middle, "}".to_owned(), ", ".to_owned(), "]".to_owned()]
            }
            Self::Mistral { has_args: true } => {
                let [begin, close, between, end] = [const { String::new() }; 4];
                [begin, TOOL_CALLS.to_owned(), ARGS.to_owned(), close, between, end]
            }
        };
        CallSpelling { begin, open, middle, close, between, end }
    }
}
