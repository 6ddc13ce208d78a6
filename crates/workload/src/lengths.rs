//! How long requests are and how their tokens are drawn.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;
use crate::random::{Purpose, RequestKey};

/// The lengths of one request, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// Tokens of the prompt, at least 1.
    pub prompt_tokens: u32,
    /// Tokens to generate, at least 1.
    pub output_tokens: u32,
}

/// Lengths that a prompt or an answer may be asked to have, in tokens: a longer one is a slip.
pub const LENGTH_LIMITS: RangeInclusive<f64> = 1.0..=1_048_576.0;

/// How the lengths of a level's requests are spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthLaws {
    /// Of the prompts, in tokens.
    pub prompt: Distribution,
    /// Of the answers, in tokens.
    pub output: Distribution,
    /// Whether end tokens are ignored, so that answers have the length drawn; without, it is the
    /// most that they may have.
    pub ignore_eos: bool,
}

impl LengthLaws {
    /// The lengths of the request `key`: the same for whoever asks.
    pub fn draw(&self, key: RequestKey) -> Lengths {
        let prompt_tokens = self.prompt.draw_count(&mut key.random(Purpose::PromptLength));
        let output_tokens = self.output.draw_count(&mut key.random(Purpose::OutputLength));
        Lengths { prompt_tokens, output_tokens }
    }

    /// The lengths that every request has, if they all have the same.
    pub fn constant(&self) -> Option<Lengths> {
        let (prompt, output) = (self.prompt.constant()?, self.output.constant()?);
        Some(Lengths { prompt_tokens: prompt as u32, output_tokens: output as u32 })
    }
}

/// Every request has these lengths, and end tokens are ignored.
impl LengthLaws {
    /// Every request as long as `lengths`.
    pub const fn fixed(lengths: Lengths) -> LengthLaws {
        LengthLaws {
            prompt: Distribution::fixed(lengths.prompt_tokens as f64),
            output: Distribution::fixed(lengths.output_tokens as f64),
            ignore_eos: true,
        }
    }
}

impl From<Lengths> for LengthLaws {
    fn from(lengths: Lengths) -> LengthLaws {
        LengthLaws::fixed(lengths)
    }
}

/// How the server is asked to draw tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// Share of probability that the kept tokens have together, 0..=1; 1 keeps all.
    pub top_p: f64,
    /// Number of tokens kept; 0 keeps all.
    pub top_k: u32,
    /// Divides the score of tokens seen before, up to 100; 1 does nothing.
    pub repetition_penalty: f64,
}

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Sampling =
        Sampling { temperature: 0.0, top_p: 1.0, top_k: 0, repetition_penalty: 1.0 };
}

/// A named set of everything that decides how hard a run is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// Lengths of every request.
    pub lengths: Lengths,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// The server's cap on sequences that run at once.
    pub max_num_seqs: u32,
    /// The server's limit of prompt and output together, in tokens.
    pub max_model_len: u32,
}

impl Preset {
    /// The protocol of the report this project starts from: requests of 634 + 1184 = 1818 tokens
    /// against a server that runs 50 sequences at once.
    pub const SEED: Preset = Preset {
        name: "seed",
        lengths: Lengths { prompt_tokens: 634, output_tokens: 1184 },
        sampling: Sampling { temperature: 1.0, top_p: 0.8, top_k: 30, repetition_penalty: 10.0 },
        max_num_seqs: 50,
        max_model_len: 1818,
    };

    /// Every preset there is.
    pub const ALL: [Preset; 1] = [Preset::SEED];

    /// The preset called `name`.
    pub fn named(name: &str) -> Option<Preset> {
        Preset::ALL.into_iter().find(|preset| preset.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_request_fills_the_model_length_exactly() {
        let seed = Preset::named("seed").expect("it is in the list");
        assert_eq!(seed.lengths.prompt_tokens + seed.lengths.output_tokens, seed.max_model_len);
        assert_eq!(Preset::named("sed"), None);
    }

    #[test]
    fn lengths_are_a_function_of_seed_and_request() {
        let uniform = |text| Distribution::parse(text, LENGTH_LIMITS).expect("a good example");
        let laws = LengthLaws {
            prompt: uniform("uniform:10..500"),
            output: uniform("uniform:10..500"),
            ignore_eos: true,
        };
        let key = RequestKey { seed: 3, level: 1, user: 4, request: 2 };
        assert_eq!(laws.draw(key), laws.draw(key));
        let lengths = (0..100).map(|request| laws.draw(RequestKey { request, ..key }));
        let lengths: Vec<_> = lengths.map(|l| (l.prompt_tokens, l.output_tokens)).collect();
        let equal = lengths.iter().filter(|(prompt, output)| prompt == output).count();
        assert!(equal < 5, "prompt and answer are drawn apart: {lengths:?}");
        let first = lengths.iter().filter(|pair| **pair == lengths[0]).count();
        assert_eq!(first, 1, "requests are drawn apart: {lengths:?}");
        assert_eq!(laws.constant(), None);
    }

    #[test]
    fn fixed_lengths_are_those_of_every_request() {
        let lengths = Lengths { prompt_tokens: 634, output_tokens: 1184 };
        let laws = LengthLaws::from(lengths);
        assert_eq!(laws.constant(), Some(lengths));
        assert_eq!(laws.draw(RequestKey { seed: 1, level: 2, user: 3, request: 4 }), lengths);
    }
}
