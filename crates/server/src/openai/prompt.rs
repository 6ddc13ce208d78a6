//! What a reply tells of its prompts.

use std::sync::Arc;

use sampling::PromptScores;
use text::{Decoder, Tokenizer};

/// What is told of a prompt.
#[derive(Debug, Clone, Default)]
pub struct ToldPrompt {
    /// Its tokens, if their ids are told.
    pub ids: Option<Arc<[u32]>>,
    /// Its text, if answers begin with it.
    pub echo: Option<Arc<Echo>>,
    /// What the device found of its tokens, if that is told.
    pub scores: Option<PromptScores>,
    /// How many likeliest tokens `prompt_logprobs` tells at each position, if it is told, and the tokens.
    pub log_probs: Option<(usize, Arc<[u32]>)>,
}

/// A prompt as text.
#[derive(Debug)]
pub struct Echo {
    /// The text.
    pub text: String,
    /// Its tokens, each with the characters before the first that it has a part in.
    pub tokens: Vec<(u32, u32)>,
    /// How many likeliest tokens are told at each position, if its log-probabilities are.
    pub log_probs: Option<usize>,
}

impl Echo {
    /// The text of `ids`, control tokens spelt out, without what was `added` before and behind it.
    pub fn new(
        tokenizer: &Arc<Tokenizer>,
        ids: &[u32],
        (begin, end): (Option<u32>, Option<u32>),
        log_probs: Option<usize>,
    ) -> Self {
        let mut decoder = Decoder::new(Arc::clone(tokenizer), false);
        let (mut text, mut characters) = (String::new(), 0);
        let mut tokens = Vec::with_capacity(ids.len());
        let is_added = |place: usize, id: u32| {
            (place == 0 && begin == Some(id)) || (place + 1 == ids.len() && end == Some(id))
        };
        for (place, &id) in ids.iter().enumerate() {
            tokens.push((id, characters));
            if !is_added(place, id) {
                let decoded = decoder.push(id);
                characters += decoded.chars().count() as u32;
                text.push_str(&decoded);
            }
        }
        text.push_str(&decoder.finish());
        Echo { text, tokens, log_probs }
    }

    /// Its characters.
    pub fn characters(&self) -> u32 {
        self.text.chars().count() as u32
    }
}
