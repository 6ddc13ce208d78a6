//! Which tokens may come next.

use toktrie::SimpleVob;

/// A set of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSet(SimpleVob);

impl TokenSet {
    pub(crate) fn new(set: SimpleVob) -> Self {
        TokenSet(set)
    }

    /// Whether `token` is in it.
    pub fn contains(&self, token: u32) -> bool {
        (token as usize) < self.0.len() && self.0.is_allowed(token)
    }

    /// One bit for each token: token `t` is bit `t % 32` of word `t / 32`. Tokens behind the last
    /// word are not in the set.
    pub fn words(&self) -> &[u32] {
        self.0.as_slice()
    }

    /// How many tokens are in it.
    pub fn len(&self) -> usize {
        self.0.num_set()
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.words())
    }

    /// Whether no token is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_zero()
    }
}
