//! A compiled grammar, and an answer that follows it.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::error::{MatchError, first_line};
use crate::token_set::TokenSet;

/// A compiled grammar. Clones share it.
#[derive(Clone)]
pub struct Grammar {
    compiled: Arc<Compiled>,
}

struct Compiled {
    /// At the beginning of an answer, with the first set computed. Cloned for each matcher, never
    /// changed.
    start: Mutex<llguidance::Matcher>,
    first: Arc<TokenSet>,
    bytes: usize,
}

impl Grammar {
    /// Of a library's matcher at the beginning of an answer, the tokens that may come first, and
    /// about how many bytes it takes.
    pub(crate) fn new(start: llguidance::Matcher, first: TokenSet, bytes: usize) -> Self {
        let compiled = Compiled { start: Mutex::new(start), first: Arc::new(first), bytes };
        Grammar { compiled: Arc::new(compiled) }
    }

    /// A matcher for one answer.
    pub fn matcher(&self) -> Matcher {
        let mask = Some(Ok(Arc::clone(&self.compiled.first)));
        Matcher { grammar: self.clone(), state: None, taken: Vec::new(), mask }
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.compiled.bytes
    }

    /// A matcher of the library with caches of its own: with shared ones, what an answer costs would
    /// depend on which others follow the same grammar.
    fn start(&self) -> llguidance::Matcher {
        self.compiled.start.lock().expect("cloning does not panic").deep_clone()
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// Follows one answer. Its state is a function of the tokens taken alone.
pub struct Matcher {
    grammar: Grammar,
    /// None until the first token is taken: a request that waits holds no copy of the caches.
    state: Option<llguidance::Matcher>,
    taken: Vec<u32>,
    /// Of the next position, once computed.
    mask: Option<Result<Arc<TokenSet>, MatchError>>,
}

impl Matcher {
    /// The tokens taken so far.
    pub fn taken(&self) -> &[u32] {
        &self.taken
    }

    /// Takes the answer's next token. One that the grammar does not allow makes every later
    /// [`Matcher::mask`] an error; after an end token anything may come and nothing is looked at.
    pub fn advance(&mut self, token: u32) {
        self.taken.push(token);
        let failed = matches!(self.mask, Some(Err(_)));
        let state = self.state.get_or_insert_with(|| self.grammar.start());
        if failed || (state.is_stopped() && !state.is_error()) {
            return;
        }
        let taken = state.consume_token(token);
        self.mask = taken.err().map(|error| Err(MatchError(first_line(&error))));
    }

    /// The tokens that may come next: end tokens only where the grammar may end, and nothing else
    /// where it must.
    pub fn mask(&mut self) -> Result<Arc<TokenSet>, MatchError> {
        if let Some(mask) = &self.mask {
            return mask.clone();
        }
        let state = self.state.as_mut().expect("a matcher at its beginning has its mask");
        let mask = match state.compute_mask_or_eos() {
            Ok(set) => Ok(Arc::new(TokenSet::new(set))),
            Err(error) => Err(MatchError(first_line(&error))),
        };
        self.mask.insert(mask).clone()
    }

    /// The tokens that may follow `answer`: takes what it has not taken yet, and begins anew if it has
    /// taken something else.
    pub fn mask_after(&mut self, answer: &[u32]) -> Result<Arc<TokenSet>, MatchError> {
        if !answer.starts_with(&self.taken) {
            *self = self.grammar.matcher();
        }
        for &token in &answer[self.taken.len()..] {
            self.advance(token);
        }
        self.mask()
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher").field("taken", &self.taken.len()).finish_non_exhaustive()
    }
}
