//! How long requests are and how their tokens are drawn.

use serde::{Deserialize, Serialize};

/// The lengths of every request of a run, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// Tokens of the prompt, at least 1.
    pub prompt_tokens: u32,
    /// Tokens to generate, at least 1; end tokens are ignored so that all of them come.
    pub output_tokens: u32,
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
}
