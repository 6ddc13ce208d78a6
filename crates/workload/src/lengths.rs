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

/// How long a level's requests are, and what their prompts have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthLaws {
    /// Tokens of the prompts, or of what each turn adds; none if a data set says so.
    pub prompt: Option<Distribution>,
    /// Tokens of the answers; none if a data set says so.
    pub output: Option<Distribution>,
    /// What prompts begin with.
    #[serde(default)]
    pub prefix: SharedPrefix,
    /// Most turns of a conversation, at least 1: the prompt of each turn is the whole conversation
    /// before it, answers included, and what the user says next.
    #[serde(default = "one_turn")]
    pub turns: u32,
    /// Whether end tokens are ignored, so that answers have the length drawn; without, it is the
    /// most that they may have.
    pub ignore_eos: bool,
}

fn one_turn() -> u32 {
    1
}

/// Beginnings that many prompts have in common, as system prompts are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedPrefix {
    /// Tokens of each, on top of the length of a prompt; 0 if there are none.
    pub tokens: u32,
    /// How many different ones there are, at least 1 if they have tokens.
    pub count: u32,
}

impl SharedPrefix {
    /// Which one the prompt of `key` begins with, all equally likely; none without tokens.
    pub fn pick(self, key: RequestKey) -> Option<u32> {
        let pick = || key.random(Purpose::Prefix).below(self.count as usize) as u32;
        (0 < self.tokens).then(pick)
    }

    /// What the words of the prefix `number` are drawn by: the same at every level.
    pub fn key(seed: u64, number: u32) -> RequestKey {
        RequestKey { seed, level: u32::MAX, user: number, request: 0 }
    }
}

impl LengthLaws {
    /// The lengths of the request `key`: the same for whoever asks. The prompt's is that of what is
    /// new in it, without a shared prefix and earlier turns. None if a data set says one of them.
    pub fn draw(&self, key: RequestKey) -> Option<Lengths> {
        let prompt = self.prompt.as_ref()?;
        let prompt_tokens = prompt.draw_count(&mut key.random(Purpose::PromptLength));
        Some(Lengths { prompt_tokens, output_tokens: self.draw_output(key)? })
    }

    /// Tokens of the answer to the request `key`; none if a data set says so.
    pub fn draw_output(&self, key: RequestKey) -> Option<u32> {
        let output = self.output.as_ref()?;
        Some(output.draw_count(&mut key.random(Purpose::OutputLength)))
    }

    /// The lengths that every request has, if they all have the same. The prompt's is the whole.
    pub fn constant(&self) -> Option<Lengths> {
        Some(Lengths {
            prompt_tokens: self.constant_prompt()?,
            output_tokens: self.constant_output()?,
        })
    }

    /// Tokens of every prompt, if they all have as many.
    pub fn constant_prompt(&self) -> Option<u32> {
        let tokens = self.prompt.as_ref()?.constant()?;
        (self.turns == 1).then_some(tokens as u32 + self.prefix.tokens)
    }

    /// Tokens asked for every answer, if they are as many.
    pub fn constant_output(&self) -> Option<u32> {
        self.output.as_ref()?.constant().map(|tokens| tokens as u32)
    }

    /// Whether prompts have anything in common that a prefix cache could find.
    pub fn share_beginnings(&self) -> bool {
        1 < self.turns || 0 < self.prefix.tokens
    }

    /// Whether the `request`th of a user opens a conversation.
    pub fn opens(&self, request: u32) -> bool {
        request.is_multiple_of(self.turns)
    }
}

/// Every request has these lengths, and end tokens are ignored.
impl LengthLaws {
    /// Every request as long as `lengths`.
    pub const fn fixed(lengths: Lengths) -> LengthLaws {
        LengthLaws {
            prompt: Some(Distribution::fixed(lengths.prompt_tokens as f64)),
            output: Some(Distribution::fixed(lengths.output_tokens as f64)),
            prefix: SharedPrefix { tokens: 0, count: 0 },
            turns: 1,
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
    use std::collections::BTreeSet;

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
        let lengths = Lengths { prompt_tokens: 1, output_tokens: 1 };
        let laws = LengthLaws {
            prompt: Some(uniform("uniform:10..500")),
            output: Some(uniform("uniform:10..500")),
            ..LengthLaws::fixed(lengths)
        };
        let key = RequestKey { seed: 3, level: 1, user: 4, request: 2 };
        assert_eq!(laws.draw(key), laws.draw(key));
        let lengths = (0..100).filter_map(|request| laws.draw(RequestKey { request, ..key }));
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
        let key = RequestKey { seed: 1, level: 2, user: 3, request: 4 };
        assert_eq!(laws.draw(key), Some(lengths));
        assert!(!laws.share_beginnings());
    }

    #[test]
    fn a_shared_prefix_is_picked_by_the_request_and_makes_prompts_longer() {
        let lengths = Lengths { prompt_tokens: 10, output_tokens: 5 };
        let prefix = SharedPrefix { tokens: 32, count: 3 };
        let laws = LengthLaws { prefix, ..LengthLaws::fixed(lengths) };
        assert_eq!(laws.constant(), Some(Lengths { prompt_tokens: 42, output_tokens: 5 }));
        let key = |user| RequestKey { seed: 1, level: 2, user, request: 0 };
        let picked: BTreeSet<_> = (0..50).map(|user| prefix.pick(key(user))).collect();
        assert_eq!(picked, BTreeSet::from([Some(0), Some(1), Some(2)]));
        assert_eq!(prefix.pick(key(4)), prefix.pick(key(4)));
        assert_eq!(SharedPrefix::default().pick(key(4)), None);
        assert!(laws.share_beginnings());
    }

    #[test]
    fn prompts_of_later_turns_are_as_long_as_what_was_said() {
        let lengths = Lengths { prompt_tokens: 10, output_tokens: 5 };
        let laws = LengthLaws { turns: 3, ..LengthLaws::fixed(lengths) };
        let opening: Vec<u32> = (0..8).filter(|request| laws.opens(*request)).collect();
        assert_eq!((opening, laws.constant_prompt()), (vec![0, 3, 6], None));
        assert!(laws.share_beginnings());
    }

    #[test]
    fn what_older_runs_wrote_has_one_turn_and_no_prefix() {
        let older = r#"{"prompt": {"distribution": "fixed", "value": 10.0},
            "output": {"distribution": "fixed", "value": 5.0}, "ignore_eos": true}"#;
        let lengths = Lengths { prompt_tokens: 10, output_tokens: 5 };
        assert_eq!(serde_json::from_str::<LengthLaws>(older).unwrap(), lengths.into());
    }
}
