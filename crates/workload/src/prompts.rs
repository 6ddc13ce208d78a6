//! Prompts that are all different, and the search for the one that has exactly N tokens.

use crate::random::{Purpose, Random, RequestKey};
use crate::words::WORDS;

/// An endless sequence of words, a function of its key alone.
///
/// Each word is drawn evenly from [`WORDS`], so two texts share their first n words with a chance
/// of 531^-n: no prefix cache finds anything worth keeping.
#[derive(Clone, Debug)]
pub struct WordStream {
    random: Random,
}

impl WordStream {
    /// The words of the prompt `key`.
    pub fn new(key: RequestKey) -> WordStream {
        WordStream { random: key.random(Purpose::Words) }
    }
}

impl Iterator for WordStream {
    type Item = &'static str;

    fn next(&mut self) -> Option<&'static str> {
        Some(WORDS[self.random.below(WORDS.len())])
    }
}

/// `prefix` and behind it the first `words` words of the prompt `key`, with a space between them.
pub fn prompt_text(key: RequestKey, prefix: &str, words: usize) -> String {
    join(prefix, &WordStream::new(key).take(words).collect::<Vec<_>>())
}

/// A prompt that has been cut to length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FittedPrompt {
    /// The text.
    pub text: String,
    /// Its tokens, by the count that was given last.
    pub tokens: u32,
    /// How many words follow its prefix: a good first guess for the next prompt of this length.
    pub words: usize,
}

/// The search for the text of a prompt that has exactly the wanted number of tokens.
///
/// It does not count tokens itself: tokenise [`PromptFit::text`], give the count to
/// [`PromptFit::answer`], repeat until that returns the prompt. With one token a word the first or
/// second count ends it.
#[derive(Debug)]
pub struct PromptFit {
    source: WordStream,
    /// What the text begins with.
    prefix: String,
    words: Vec<&'static str>,
    target: u32,
    /// Words of the text that is asked about.
    asked: usize,
    /// The longest text known to be shorter than the target: words and tokens.
    below: Option<(usize, u32)>,
    /// Words of the shortest text known to be longer than the target.
    above: Option<usize>,
    answers: u32,
}

/// Counts after which the search settles for the nearest text below the target.
const ANSWERS_MAX: u32 = 24;

impl PromptFit {
    /// Looks for `target` tokens (at least 1) in `prefix` and words of `key` behind it, first with
    /// `guess` words.
    pub fn new(key: RequestKey, prefix: &str, target: u32, guess: usize) -> PromptFit {
        let source = WordStream::new(key);
        let mut fit = PromptFit {
            source,
            prefix: prefix.to_owned(),
            words: Vec::new(),
            target,
            asked: 0,
            below: None,
            above: None,
            answers: 0,
        };
        fit.ask(guess);
        fit
    }

    /// The text whose tokens are to be counted.
    pub fn text(&self) -> String {
        join(&self.prefix, &self.words[..self.asked])
    }

    /// Takes the number of tokens of [`PromptFit::text`]; returns the prompt if the search is over.
    ///
    /// The prompt has the target's number of tokens, unless no text made of these words has.
    pub fn answer(&mut self, tokens: u32) -> Option<FittedPrompt> {
        self.answers += 1;
        if tokens == self.target {
            return Some(self.found(self.asked, tokens));
        }
        if tokens < self.target {
            self.below = Some((self.asked, tokens));
        } else {
            self.above = Some(self.asked);
        }
        // A word is at least one token, so a text that is d tokens off is at most d words off.
        let distance = tokens.abs_diff(self.target) as usize;
        let next = if tokens < self.target {
            self.asked + distance
        } else {
            self.asked.saturating_sub(distance)
        };
        let least = self.below.map_or(1, |(words, _)| words + 1);
        match self.above {
            None => self.ask(next.max(least)),
            Some(above) if least < above => {
                let inside = (least..above).contains(&next);
                self.ask(if inside { next } else { least + (above - least) / 2 });
            }
            // Two neighbours: the last word has too many tokens. Another word takes its place.
            Some(above) if self.answers < ANSWERS_MAX => {
                self.words.truncate(above - 1);
                self.ask(above);
            }
            Some(_) => return Some(self.settle(tokens)),
        }
        if self.answers < ANSWERS_MAX { None } else { Some(self.settle(tokens)) }
    }

    fn ask(&mut self, words: usize) {
        self.asked = words.max(1);
        let missing = self.asked.saturating_sub(self.words.len());
        self.words.extend(self.source.by_ref().take(missing));
    }

    fn found(&self, words: usize, tokens: u32) -> FittedPrompt {
        FittedPrompt { text: join(&self.prefix, &self.words[..words]), tokens, words }
    }

    /// The longest text below the target or, if one word is already longer, that word.
    fn settle(&self, tokens: u32) -> FittedPrompt {
        let (words, tokens) = self.below.unwrap_or((1, tokens));
        self.found(words, tokens)
    }
}

fn join(prefix: &str, words: &[&str]) -> String {
    let words = words.join(" ");
    if prefix.is_empty() { words } else { format!("{prefix} {words}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn key(level: u32, user: u32, request: u32) -> RequestKey {
        RequestKey { seed: 7, level, user, request }
    }

    #[test]
    fn the_same_key_gives_the_same_text() {
        assert_eq!(prompt_text(key(4, 1, 2), "", 50), prompt_text(key(4, 1, 2), "", 50));
        assert_eq!(prompt_text(key(4, 1, 2), "", 50).split(' ').count(), 50);
    }

    #[test]
    fn no_two_prompts_of_a_sweep_share_their_beginning() {
        let mut beginnings = HashSet::new();
        let mut prompts = 0;
        for seed in [0, 1] {
            for level in [1, 4, 8, 16, 32, 64] {
                for (user, request) in (0..level).flat_map(|u| (0..5).map(move |r| (u, r))) {
                    let key = RequestKey { seed, level, user, request };
                    beginnings.insert(prompt_text(key, "", 4));
                    prompts += 1;
                }
            }
        }
        assert_eq!(beginnings.len(), prompts);
    }

    #[test]
    fn every_word_comes_up() {
        let words: HashSet<_> = WordStream::new(key(1, 0, 0)).take(20_000).collect();
        assert_eq!(words.len(), WORDS.len());
        assert_eq!(WORDS.iter().collect::<HashSet<_>>().len(), WORDS.len(), "no word stands twice");
    }

    /// Runs the search with `count` as the tokenizer; gives the prompt and the number of counts.
    fn fit(target: u32, guess: usize, count: impl Fn(&str) -> u32) -> (FittedPrompt, u32) {
        let mut fit = PromptFit::new(key(8, 3, 1), "", target, guess);
        for calls in 1..=ANSWERS_MAX {
            if let Some(prompt) = fit.answer(count(&fit.text())) {
                assert_eq!(prompt.tokens, count(&prompt.text), "the count belongs to the text");
                assert_eq!(prompt.words, prompt.text.split(' ').count());
                return (prompt, calls);
            }
        }
        panic!("no end after {ANSWERS_MAX} counts");
    }

    #[test]
    fn one_token_a_word_needs_one_count_from_a_right_guess_and_two_from_a_wrong_one() {
        let count = |text: &str| text.split(' ').count() as u32;
        assert_eq!(fit(634, 634, count).1, 1);
        assert_eq!(fit(634, 100, count).1, 2);
        assert_eq!(fit(100, 900, count).1, 2);
        assert_eq!(fit(1, 1, count).0.tokens, 1);
    }

    #[test]
    fn a_beginning_token_is_part_of_the_length() {
        let (prompt, calls) = fit(100, 100, |text| text.split(' ').count() as u32 + 1);
        assert_eq!((prompt.tokens, prompt.words, calls), (100, 99, 2));
    }

    #[test]
    fn a_prefix_is_part_of_the_length() {
        let mut fit = PromptFit::new(key(1, 2, 3), "two words", 10, 8);
        let prompt = fit.answer(fit.text().split(' ').count() as u32).expect("a right guess");
        assert!(prompt.text.starts_with("two words "), "{}", prompt.text);
        assert_eq!((prompt.tokens, prompt.words), (10, 8));
    }

    #[test]
    fn words_of_several_tokens_still_meet_the_target() {
        let by_letters = |text: &str| text.split(' ').map(|w| w.len().div_ceil(4) as u32).sum();
        for target in [2, 3, 17, 100, 101, 634] {
            assert_eq!(fit(target, target as usize, by_letters).0.tokens, target);
        }
    }

    #[test]
    fn an_unreachable_target_gives_the_nearest_below() {
        let (prompt, _) = fit(101, 50, |text| 2 * text.split(' ').count() as u32);
        assert_eq!(prompt.tokens, 100);
        let (prompt, _) = fit(2, 1, |text| 5 * text.split(' ').count() as u32);
        assert_eq!(prompt.tokens, 5, "not even one word is short enough");
    }
}
