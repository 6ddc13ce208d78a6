//! What a request says about single tokens: biases, which alone may be chosen, what is banned.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::error::SamplingError;

/// OpenAI's range of a bias.
const BIAS: RangeInclusive<f32> = -100.0..=100.0;

/// Rules for single tokens, all of them below the size of the vocabulary.
#[derive(Debug, Default, PartialEq)]
pub struct TokenRules {
    /// Added to logits; each token once.
    bias: Vec<(u32, f32)>,
    /// A set as that of [`Context::allowed`](crate::Context::allowed). None allows all.
    allowed: Option<Vec<u32>>,
    /// Sequences of at least one token, whose last one may not come behind the others.
    bad_words: Vec<Vec<u32>>,
}

impl TokenRules {
    /// Checks ids and ranges. For what the arguments are see
    /// [`SamplingRequest`](crate::SamplingRequest); `allowed` may be empty for all.
    pub fn new(
        bias: Vec<(u32, f32)>,
        allowed: &[u32],
        bad_words: Vec<Vec<u32>>,
        vocabulary_len: usize,
    ) -> Result<Self, SamplingError> {
        let error = |param, value, limit: &str| {
            Err(SamplingError { param, value, limit: limit.to_owned() })
        };
        SamplingError::check_ids("logit_bias", bias.iter().map(|(id, _)| *id), vocabulary_len)?;
        SamplingError::check_ids("allowed_token_ids", allowed.iter().copied(), vocabulary_len)?;
        let words = bad_words.iter().flatten().copied();
        SamplingError::check_ids("bad_words", words, vocabulary_len)?;
        if let Some((_, value)) = bias.iter().find(|(_, value)| !BIAS.contains(value)) {
            return error("logit_bias", value.to_string(), "-100 to 100");
        }
        let mut seen = BTreeSet::new();
        if let Some((id, _)) = bias.iter().find(|(id, _)| !seen.insert(*id)) {
            return error("logit_bias", id.to_string(), "each token once");
        }
        if bad_words.iter().any(Vec::is_empty) {
            return error("bad_words", "no tokens".to_owned(), "at least one token");
        }
        let set = || {
            let mut words = vec![0; vocabulary_len.div_ceil(32)];
            allowed.iter().for_each(|&id| words[id as usize / 32] |= 1 << (id % 32));
            words
        };
        Ok(TokenRules { bias, allowed: (!allowed.is_empty()).then(set), bad_words })
    }

    /// Whether no logit is ever changed.
    pub fn is_empty(&self) -> bool {
        self.bias.is_empty() && self.allowed.is_none() && self.bad_words.is_empty()
    }

    /// Whether `token` is never chosen, whatever came before it.
    pub fn always_bans(&self, token: u32) -> bool {
        self.bad_words.iter().any(|word| *word == [token])
    }

    /// Adds the biases.
    pub fn add_bias(&self, logits: &mut [f32]) {
        for &(token, bias) in &self.bias {
            logits[token as usize] += bias;
        }
    }

    /// Masks what may not come behind `output`.
    #[inline(always)]
    pub fn mask(&self, logits: &mut [f32], output: &[u32]) {
        if let Some(allowed) = &self.allowed {
            mask_others(logits, allowed);
        }
        for word in &self.bad_words {
            let (last, others) = word.split_last().expect("a banned sequence has a token");
            if output.ends_with(others) {
                logits[*last as usize] = f32::NEG_INFINITY;
            }
        }
    }
}

/// Masks every token that is not in the set `allowed`.
#[inline(always)]
pub fn mask_others(logits: &mut [f32], allowed: &[u32]) {
    let (known, behind) = logits.split_at_mut(logits.len().min(32 * allowed.len()));
    for (logits, word) in known.chunks_mut(32).zip(allowed) {
        for (bit, logit) in logits.iter_mut().enumerate() {
            *logit = if word >> bit & 1 == 1 { *logit } else { f32::NEG_INFINITY };
        }
    }
    behind.fill(f32::NEG_INFINITY);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bias: &[(u32, f32)], allowed: &[u32], bad_words: &[&[u32]]) -> Option<&'static str> {
        let bad_words = bad_words.iter().map(|word| word.to_vec()).collect();
        TokenRules::new(bias.to_vec(), allowed, bad_words, 40).err().map(|error| error.param)
    }

    #[test]
    fn ids_and_biases_are_accepted_exactly_within_their_ranges() {
        assert_eq!(refused(&[(0, -100.0), (39, 100.0)], &[0, 39, 39], &[&[39], &[0, 39]]), None);
        for bias in [f32::NAN, f32::INFINITY, 100.0_f32.next_up(), (-100.0_f32).next_down()] {
            assert_eq!(refused(&[(1, bias)], &[], &[]), Some("logit_bias"), "{bias}");
        }
        assert_eq!(refused(&[(40, 1.0)], &[], &[]), Some("logit_bias"));
        assert_eq!(refused(&[(7, 1.0), (7, 2.0)], &[], &[]), Some("logit_bias"));
        assert_eq!(refused(&[], &[3, 40], &[]), Some("allowed_token_ids"));
        assert_eq!(refused(&[], &[], &[&[1], &[2, 40]]), Some("bad_words"));
        assert_eq!(refused(&[], &[], &[&[]]), Some("bad_words"));
    }

    #[test]
    fn a_banned_sequence_masks_its_last_token_behind_the_others_alone() {
        let bad_words = vec![vec![5], vec![1, 2, 3]];
        let rules = TokenRules::new(Vec::new(), &[], bad_words, 40).expect("within ranges");
        let masked = |output: &[u32]| {
            let mut logits = [0.0_f32; 40];
            rules.mask(&mut logits, output);
            (0..40).filter(|id| logits[*id as usize] == f32::NEG_INFINITY).collect::<Vec<u32>>()
        };
        assert_eq!(masked(&[]), [5]);
        assert_eq!(masked(&[2]), [5]);
        assert_eq!(masked(&[9, 1, 2]), [3, 5]);
        assert_eq!(masked(&[1, 2, 9]), [5]);
        assert!(rules.always_bans(5) && !rules.always_bans(3));
    }

    #[test]
    fn tokens_of_a_set_alone_stay() {
        let rules = TokenRules::new(Vec::new(), &[33, 2, 2], Vec::new(), 40).expect("valid");
        let mut logits = [1.0_f32; 40];
        rules.mask(&mut logits, &[]);
        let open: Vec<_> = (0..40).filter(|id| logits[*id] == 1.0).collect();
        assert_eq!(open, [2, 33]);
    }
}
