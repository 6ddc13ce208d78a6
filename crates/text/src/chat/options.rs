//! How a prompt is written, beside what is said in it.

/// How a prompt is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RenderOptions<'a> {
    /// How it ends.
    pub ending: Ending,
    /// Variables that the template sees, by names that [`ChatTemplate::takes_variable`] allows.
    ///
    /// [`ChatTemplate::takes_variable`]: super::ChatTemplate::takes_variable
    pub variables: &'a [(String, Variable)],
}

/// How a prompt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With the end of the last message.
    Closed,
    /// With the beginning of the assistant's answer.
    AnswerBegun,
    /// Within the last message, behind its content, so that the answer goes on with it.
    LastMessageOpen,
}

/// What a client says to a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Variable {
    /// Yes or no.
    Switch(bool),
    /// A whole number.
    Whole(i64),
    /// A finite number.
    Number(f64),
    /// A text. Whatever it spells, it yields no control token.
    Text(String),
}

/// Names that every template sees with a meaning of their own, beside those of functions.
pub(super) const OWN_VARIABLES: [&str; 13] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "strftime_now",
    "loop",
    "self",
    "super",
    "caller",
    "varargs",
    "kwargs",
];
