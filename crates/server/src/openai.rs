//! The wire, as OpenAI and vLLM spell it: what comes in, what goes out. No decisions here.

pub mod error;
pub mod tools;
mod values;
pub mod integer;
pub mod text_or;
pub mod unsupported;
pub mod types;
pub mod prompt;
pub mod log_probs;
pub mod reply;
pub mod completions;
pub mod chat;
pub mod models;
pub mod embeddings;
