//! Log-probabilities of the tokens of a prompt.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::log_probs::LogProbs;

/// Collects the log-probabilities of one prompt's tokens, of all but the first.
///
/// It goes with the request through all steps that compute it; whoever waits for them keeps a clone. A
/// position is scored once, though it may be computed again, or for several requests with one prompt:
/// the numbers would be the same. Holds what was asked for of each position, never its logits.
#[derive(Debug, Clone)]
pub struct PromptScores {
    count: u32,
    /// By position: of the token behind it.
    scores: Arc<Mutex<Vec<Option<LogProbs>>>>,
}

impl PromptScores {
    /// Nothing scored yet of a prompt of `prompt_len` tokens. With each token so many of the likeliest
    /// are wanted, at most [`LOG_PROBS_MAX`](crate::LOG_PROBS_MAX).
    pub fn new(prompt_len: usize, count: u32) -> Self {
        PromptScores {
            count,
            scores: Arc::new(Mutex::new(vec![None; prompt_len.saturating_sub(1)])),
        }
    }

    /// How many of the likeliest tokens are wanted at a position.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether the token behind `position` is one of the prompt and not scored yet.
    pub fn wants(&self, position: usize) -> bool {
        self.lock().get(position).is_some_and(Option::is_none)
    }

    /// Keeps those of the token behind `position`.
    ///
    /// # Panics
    /// If the prompt has none there.
    pub fn set(&self, position: usize, log_probs: LogProbs) {
        self.lock()[position] = Some(log_probs);
    }

    /// Those of the second token and of all behind it, once every position was computed.
    ///
    /// # Panics
    /// If a position was not scored.
    pub fn all(&self) -> Vec<LogProbs> {
        // The lock is free again before the panic, or the device would find it poisoned.
        let scores = self.lock().clone();
        scores.into_iter().map(|score| score.expect("every position was computed")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<LogProbs>>> {
        self.scores.lock().expect("nothing panics while it holds the scores' lock")
    }
}

/// Two are equal if they are one.
impl PartialEq for PromptScores {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.scores, &other.scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_but_the_first_is_wanted_until_it_is_scored() {
        let scores = PromptScores::new(3, 2);
        let wanted = || [0, 1, 2].map(|position| scores.wants(position));
        assert_eq!(wanted(), [true, true, false]);
        let log_probs = |token| LogProbs { token, rank: 1, top: Vec::new() };
        scores.clone().set(1, log_probs(-2.0));
        assert_eq!(wanted(), [true, false, false]);
        scores.set(0, log_probs(-1.0));
        assert_eq!(scores.all(), [log_probs(-1.0), log_probs(-2.0)]);
        assert!(PromptScores::new(1, 0).all().is_empty());
    }
}
