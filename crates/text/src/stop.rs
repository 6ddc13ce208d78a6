//! Stop strings in a stream of text.

use std::collections::HashMap;
use std::sync::Arc;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

/// The stop strings of one request, prepared for searching.
#[derive(Debug)]
pub struct StopStrings {
    strings: Vec<String>,
    /// `None` without strings.
    search: Option<Search>,
}

/// One automaton for all strings.
#[derive(Debug)]
struct Search {
    automaton: NFA,
    start: StateID,
    /// For each state, the bytes of text before it that may begin a stop string.
    held: HashMap<StateID, usize>,
}

impl StopStrings {
    /// Prepares the strings; with none, nothing ever stops.
    ///
    /// The caller bounds their number and size: memory grows with the sum of their bytes.
    ///
    /// # Panics
    /// If a string is empty, or if all together are larger than 1 GiB.
    pub fn new(strings: Vec<String>) -> Self {
        assert!(strings.iter().all(|s| !s.is_empty()), "an empty stop string would stop at once");
        let search = (!strings.is_empty()).then(|| Search::new(&strings));
        Self { strings, search }
    }

    /// The string at `index`, as a [`StopOutput`] has it.
    pub fn get(&self, index: usize) -> &str {
        &self.strings[index]
    }

    /// The strings, in the order given.
    pub fn strings(&self) -> &[String] {
        &self.strings
    }
}

impl Search {
    fn new(strings: &[String]) -> Self {
        let automaton = NFA::builder()
            .match_kind(MatchKind::Standard)
            .build(strings)
            .expect("the automaton holds strings of up to 1 GiB in all");
        let start = automaton
            .start_state(Anchored::No)
            .expect("an automaton of the default start kind can search unanchored");
        // Walking a string from the start leads through the states of its prefixes, and the
        // state of a prefix means: the text ends with it and with nothing longer.
        let mut held = HashMap::from([(start, 0)]);
        for string in strings {
            let mut state = start;
            for (at, byte) in string.bytes().enumerate() {
                state = automaton.next_state(Anchored::No, state, byte);
                held.insert(state, at + 1);
            }
        }
        Self { automaton, start, held }
    }

    /// The stop string that ends in `state`: the longest, which begins first; among equal ones
    /// the first given. Index and length in bytes.
    fn ended(&self, state: StateID, strings: &[String]) -> Option<(usize, usize)> {
        if !self.automaton.is_match(state) {
            return None;
        }
        (0..self.automaton.match_len(state))
            .map(|index| self.automaton.match_pattern(state, index).as_usize())
            .map(|string| (string, strings[string].len()))
            .min_by_key(|(string, length)| (std::cmp::Reverse(*length), *string))
    }
}

/// What one push gives.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct StopOutput {
    /// Text that is safe to show: no stop string begins in it.
    pub emit: String,
    /// Index of the stop string that ended the text; nothing comes after.
    pub stopped: Option<usize>,
}

/// Finds the first stop string in a stream of text.
///
/// The stop string that ends first in the text wins; if several end there, the one that begins
/// first. The text is cut where it begins. This does not depend on how the text is divided.
/// Text is held back only while it may be the beginning of a stop string.
#[derive(Debug)]
pub struct StopMatcher {
    stops: Arc<StopStrings>,
    state: StateID,
    /// The end of the text so far that may begin a stop string; shorter than the longest one.
    held: String,
    stopped: bool,
}

impl StopMatcher {
    /// Starts a stream.
    pub fn new(stops: Arc<StopStrings>) -> Self {
        let state = stops.search.as_ref().map_or(StateID::default(), |search| search.start);
        Self { stops, state, held: String::new(), stopped: false }
    }

    /// Takes more text and gives what can be shown. After a stop everything is swallowed.
    pub fn push(&mut self, text: &str) -> StopOutput {
        if self.stopped {
            return StopOutput::default();
        }
        let Some(search) = &self.stops.search else {
            return StopOutput { emit: text.to_owned(), stopped: None };
        };
        for (at, byte) in text.bytes().enumerate() {
            self.state = search.automaton.next_state(Anchored::No, self.state, byte);
            if let Some((string, length)) = search.ended(self.state, &self.stops.strings) {
                let mut emit = std::mem::take(&mut self.held);
                emit.push_str(&text[..=at]);
                emit.truncate(emit.len() - length);
                self.stopped = true;
                return StopOutput { emit, stopped: Some(string) };
            }
        }
        self.held.push_str(text);
        // Stop strings begin with a whole character, so what may begin one does as well.
        let safe = self.held.len() - search.held[&self.state];
        let held = self.held.split_off(safe);
        StopOutput { emit: std::mem::replace(&mut self.held, held), stopped: None }
    }

    /// The stop strings; [`StopOutput::stopped`] is an index of these.
    pub fn strings(&self) -> &[String] {
        self.stops.strings()
    }

    /// The held text, for a stream that ends without a stop string; empty after a stop.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests;
