//! Options that say how long requests are and what their prompts have in common, or are.

use std::path::PathBuf;

use anyhow::Result;
use bench::{DatasetFile, Distribution, LengthLaws, Lengths, SharedPrefix};
use clap::Args;

use crate::load::length;

/// How long requests are and what their prompts have in common.
#[derive(Args, Clone)]
pub struct PromptArgs {
    /// Tokens of prompts: a number, uniform:MIN..MAX, normal:MEAN,SD or lognormal:MEAN,SD (bounded
    /// with ,MIN..MAX behind), file:PATH with one number a line [default: 100, or the preset's].
    #[arg(long, value_name = "N", value_parser = length)]
    prompt_tokens: Option<Distribution>,

    /// Tokens of answers, in the same forms [default: 128, or the preset's].
    #[arg(long, value_name = "N", value_parser = length)]
    output_tokens: Option<Distribution>,

    /// Tokens that each prompt begins with and shares with others, as system prompts do. They come
    /// on top of --prompt-tokens.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    prefix_tokens: u32,

    /// How many different such beginnings there are; each request has one of them at random.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    prefixes: u32,

    /// Turns of each conversation: a user's next request says again what was said and answered, and
    /// --prompt-tokens more. A user who has sent all turns opens another conversation.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    turns: u32,

    /// Recorded requests, each sent once in an order of the seed before one comes again: JSON lines
    /// with `prompt`, `messages` or `prompt_tokens` and perhaps `output_tokens`, or a list of
    /// conversations as ShareGPT has them, whose answers say how long ours may be.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt_tokens", "trace"])]
    dataset: Option<PathBuf>,
}

/// Lengths of requests if nothing is said.
pub const LENGTHS: Lengths = Lengths { prompt_tokens: 100, output_tokens: 128 };

impl PromptArgs {
    /// Whether lengths were given, or requests that have them.
    pub fn is_given(&self) -> bool {
        self.prompt_tokens.is_some() || self.output_tokens.is_some() || self.dataset.is_some()
    }

    /// The requests that are to be sent, if they were recorded without times.
    pub fn dataset(&self) -> Result<Option<DatasetFile>> {
        Ok(self.dataset.as_deref().map(DatasetFile::read).transpose()?)
    }

    /// The lengths, with `usual` ones where nothing is said. Without usual ones they are left to a
    /// data set.
    pub fn laws(&self, usual: Option<Lengths>, ignore_eos: bool) -> LengthLaws {
        let or = |given: &Option<Distribution>, usual: Option<u32>| {
            given.clone().or(usual.map(|tokens| Distribution::fixed(f64::from(tokens))))
        };
        let count = if self.prefix_tokens == 0 { 0 } else { self.prefixes };
        LengthLaws {
            prompt: or(&self.prompt_tokens, usual.map(|usual| usual.prompt_tokens)),
            output: or(&self.output_tokens, usual.map(|usual| usual.output_tokens)),
            prefix: SharedPrefix { tokens: self.prefix_tokens, count },
            turns: self.turns,
            ignore_eos,
        }
    }
}
