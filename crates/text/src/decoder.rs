//! Ids to text, never half a character.

use std::sync::Arc;

use crate::tokenizer::Tokenizer;

/// Turns a stream of ids into text as it comes.
///
/// Tokens are pieces of bytes, so a character may need several. What [`Decoder::push`] and
/// [`Decoder::finish`] give, joined, equals [`decode`] of all the ids. At most three bytes wait.
#[derive(Debug)]
pub struct Decoder {
    tokenizer: Arc<Tokenizer>,
    skip_control: bool,
    /// Control tokens that leave a trace all the same.
    shown: Vec<u32>,
    /// The beginning of a character, at most three bytes between calls.
    pending: Vec<u8>,
}

impl Decoder {
    /// Starts a stream. With `skip_control` control tokens leave no trace in the text.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_control: bool) -> Self {
        Self { tokenizer, skip_control, shown: Vec::new(), pending: Vec::new() }
    }

    /// Spells out the control tokens `shown`, whatever becomes of the others.
    pub fn showing(mut self, shown: Vec<u32>) -> Self {
        self.shown = shown;
        self
    }

    /// The whole characters that `id` completes; often none, when it ends inside of one.
    ///
    /// Bytes that cannot be UTF-8 become U+FFFD as in [`String::from_utf8_lossy`]. An id outside
    /// the vocabulary (a model may have more logits than tokens) gives nothing.
    pub fn push(&mut self, id: u32) -> String {
        let skip_control = self.skip_control && !self.shown.contains(&id);
        self.pending.extend_from_slice(shown_bytes(&self.tokenizer, id, skip_control));
        take_characters(&mut self.pending)
    }

    /// The end of the text: U+FFFD if it stops inside a character. Afterwards a new stream begins.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }
}

/// Text of `ids`, with U+FFFD for bytes that are not UTF-8.
pub fn decode(tokenizer: &Tokenizer, ids: &[u32], skip_control: bool) -> String {
    let mut bytes = Vec::with_capacity(ids.len() * 4);
    for id in ids {
        bytes.extend_from_slice(shown_bytes(tokenizer, *id, skip_control));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn shown_bytes(tokenizer: &Tokenizer, id: u32, skip_control: bool) -> &[u8] {
    if skip_control && tokenizer.is_control(id) {
        return &[];
    }
    tokenizer.token_bytes(id).unwrap_or_default()
}

/// Takes everything that later bytes cannot change from the front of `bytes`.
fn take_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut done = 0;
    while let Err(error) = std::str::from_utf8(&bytes[done..]) {
        let valid = done + error.valid_up_to();
        text.push_str(std::str::from_utf8(&bytes[done..valid]).expect("valid up to here"));
        done = valid;
        let Some(invalid) = error.error_len() else {
            // The bytes end inside a character that may still become whole.
            bytes.drain(..done);
            return text;
        };
        text.push(char::REPLACEMENT_CHARACTER);
        done += invalid;
    }
    text.push_str(std::str::from_utf8(&bytes[done..]).expect("the loop ended on valid bytes"));
    bytes.clear();
    text
}

#[cfg(test)]
mod tests;
