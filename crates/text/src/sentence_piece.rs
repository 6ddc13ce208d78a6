//! SentencePiece's BPE: characters are merged by the scores of what comes of them.
//!
//! Spaces are spelt `▁`. Two neighbours may be merged if a token spells both together; of all such
//! pairs the one whose token has the greatest score goes first, of equal ones the leftmost. What
//! is no token in the end becomes one token for each of its bytes.
//! Source: `bpe_model.cc` of SentencePiece.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use crate::vocabulary::{TokenKind, TokenizerError, Vocabulary};

/// What spells a space.
pub(crate) const SPACE: char = '▁';

/// The tokens that text is made of.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    /// Id and score by spelling.
    tokens: HashMap<String, (u32, f32)>,
    /// The token that stands for each byte.
    bytes: Box<[Option<u32>; 256]>,
    /// Whether a space is put before a text.
    space_prefix: bool,
}

/// A part of the text that is merged so far.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    /// Equal to `start` once it was merged into the one before it.
    end: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// Two neighbours that may be merged. The greatest is merged first.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when the pair was found: of a pair with others it is out of date.
    len: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = |pair: &Self| Reverse(pair.left);
        self.score.total_cmp(&other.score).then(left(self).cmp(&left(other)))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

impl SentencePiece {
    /// Takes the ordinary tokens of `vocabulary`, each with its score.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        scores: &[f32],
        space_prefix: bool,
    ) -> Result<Self, TokenizerError> {
        if scores.len() != vocabulary.len() {
            return Err(TokenizerError::ScoresDiffer {
                tokens: vocabulary.len(),
                scores: scores.len(),
            });
        }
        let mut bytes = Box::new([None; 256]);
        let mut tokens = HashMap::new();
        for (id, &score) in (0_u32..).zip(scores) {
            if score.is_nan() {
                return Err(TokenizerError::ScoreIsNoNumber { id });
            }
            let spelling = vocabulary.spelling(id).unwrap_or_default();
            match vocabulary.kind(id) {
                Some(TokenKind::Byte) => {
                    let byte = spelt_byte(spelling);
                    let byte = byte.ok_or_else(|| TokenizerError::MalformedByte {
                        id,
                        spelling: spelling.to_owned(),
                    })?;
                    bytes[usize::from(byte)].get_or_insert(id);
                }
                Some(TokenKind::Normal | TokenKind::UserDefined) if !spelling.is_empty() => {
                    tokens.entry(spelling.replace(' ', "▁")).or_insert((id, score));
                }
                _ => {}
            }
        }
        if tokens.is_empty() {
            return Err(TokenizerError::NoTextTokens);
        }
        Ok(Self { tokens, bytes, space_prefix })
    }

    /// Whether a byte that no longer token spells has a token of its own.
    pub(crate) fn has_byte(&self, byte: u8) -> bool {
        self.bytes[usize::from(byte)].is_some()
    }

    /// Calls `visit` with the ids of `text`, in order, until it fails. `at_start`: nothing, or a
    /// token that was found as a whole, stands before it. A byte without a token is left out.
    ///
    /// Time grows with `n log n` of the text.
    pub(crate) fn each_token(
        &self,
        text: &str,
        at_start: bool,
        visit: &mut dyn FnMut(u32) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        if text.is_empty() {
            return Ok(());
        }
        let mut marked = String::with_capacity(text.len() + 2 * SPACE.len_utf8());
        if self.space_prefix && at_start {
            marked.push(SPACE);
        }
        marked.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        for symbol in self.merged(&marked) {
            let spelling = &marked[symbol.start..symbol.end];
            match self.tokens.get(spelling) {
                Some(&(id, _)) => visit(id)?,
                None => {
                    let bytes = spelling.bytes().map(|byte| self.bytes[usize::from(byte)]);
                    bytes.flatten().try_for_each(&mut *visit)?;
                }
            }
        }
        Ok(())
    }

    /// The parts of `text` that are left when nothing can be merged any more.
    fn merged(&self, text: &str) -> impl Iterator<Item = Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (index, (start, c)) in text.char_indices().enumerate() {
            let (before, end) = (index.checked_sub(1), start + c.len_utf8());
            let after = (end < text.len()).then_some(index + 1);
            symbols.push(Symbol { start, end, before, after });
        }
        let mut pairs = BinaryHeap::new();
        for left in 0..symbols.len() {
            pairs.extend(self.pair(text, &symbols, left));
        }
        while let Some(Pair { left, right, len, .. }) = pairs.pop() {
            let (start, end) = (symbols[left].start, symbols[right].end);
            let is_merged = |symbol: Symbol| symbol.start == symbol.end;
            if is_merged(symbols[left]) || is_merged(symbols[right]) || end - start != len {
                continue;
            }
            let after = symbols[right].after;
            symbols[right].end = symbols[right].start;
            (symbols[left].end, symbols[left].after) = (end, after);
            if let Some(after) = after {
                symbols[after].before = Some(left);
            }
            pairs.extend(symbols[left].before.and_then(|left| self.pair(text, &symbols, left)));
            pairs.extend(self.pair(text, &symbols, left));
        }
        symbols.into_iter().filter(|symbol| symbol.start != symbol.end)
    }

    /// The symbol `left` with the one after it, if a token spells both.
    fn pair(&self, text: &str, symbols: &[Symbol], left: usize) -> Option<Pair> {
        let right = symbols[left].after?;
        let (start, end) = (symbols[left].start, symbols[right].end);
        let (_, score) = *self.tokens.get(&text[start..end])?;
        Some(Pair { score, left, right, len: end - start })
    }
}

/// The byte that a spelling like `<0x0A>` stands for.
pub(crate) fn spelt_byte(spelling: &str) -> Option<u8> {
    let digits = spelling.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The bytes of a token: of a byte token that byte, else its spelling with spaces as spaces.
pub(crate) fn token_bytes(spelling: &str, kind: TokenKind) -> Box<[u8]> {
    match spelt_byte(spelling).filter(|_| kind == TokenKind::Byte) {
        Some(byte) => [byte].into(),
        None => spelling.replace(SPACE, " ").into_bytes().into(),
    }
}

#[cfg(test)]
mod tests;
