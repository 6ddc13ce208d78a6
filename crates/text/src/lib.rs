//! Text to token ids and back, for one model's vocabulary.
//!
//! This crate does not know engines, models, files or HTTP: a vocabulary arrives as a
//! [`TokenizerSpec`] that somebody else read from a file, and ids leave as plain `u32`.
//!
//! # How data passes through
//!
//! ```text
//! prompt   ─ Tokenizer::encode_prompt ─▶ ids                      control tokens are parsed
//! messages ─ ChatTemplate::render ─▶ segments ─ Tokenizer::encode_segments ─▶ ids
//!                                     only the template's own text yields control tokens
//! ids      ─ Decoder::push ─▶ text in whole characters ─ StopMatcher::push ─▶ text to show
//!          ─ AnswerParser::push ─▶ content, thoughts, calls of functions
//! ```
#![forbid(unsafe_code)]

mod normalization;
mod vocabulary;
mod pre_tokenizer;
mod sentence_piece;
mod unigram;
mod tokenizer;
#[cfg(test)]
mod fixture;
mod decoder;
mod stop;
mod answer;
mod chat;

pub use answer::{
    AnswerParser, AnswerPart, AnswerRules, CallSpelling, END_THINK, Reasoning, THINK, ToolFormat,
};
pub use chat::{
    ChatTemplate, Ending, JsonObject, Message, RenderOptions, TemplateError, Tool, ToolCall,
    Variable,
};
pub use decoder::{Decoder, decode};
pub use normalization::{Normalization, Parts};
pub use pre_tokenizer::begins_prompts;
pub use stop::{StopMatcher, StopOutput, StopStrings};
pub use tokenizer::{ControlTokens, Segment, Tokenizer};
pub use unigram::UNKNOWN_PENALTY;
pub use vocabulary::{
    Cutting, Merging, SpacePrefix, TextRules, TokenKind, TokenizerError, TokenizerSpec, UnigramSpec,
};
