//! SentencePiece's BPE: characters are merged by the scores of what comes of them, or, as the
//! tokenizers library has it, by the rank of the pair.
//!
//! Spaces are spelt `▁`. Two neighbours may be merged if a token spells both together; of all such
//! pairs the one whose token has the greatest score goes first, of equal ones the leftmost. What
//! is no token in the end becomes one token for each of its bytes.
//! Source: `bpe_model.cc` of SentencePiece.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use crate::vocabulary::{SpacePrefix, TokenKind, TokenizerError, Vocabulary, parse_merges};

/// What spells a space.
pub(crate) const SPACE: char = '▁';

/// The tokens that text is made of.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    /// Id and score by spelling.
    tokens: HashMap<String, (u32, f32)>,
    /// Ranks of pairs by the id of what comes of them and the bytes of the left one, the lower the
    /// stronger; where there are some they are in place of scores.
    ranks: Option<HashMap<(u32, u32), u32>>,
    /// The token that stands for each byte.
    bytes: Box<[Option<u32>; 256]>,
    /// Where a space is put before a text.
    space_prefix: SpacePrefix,
    /// Whether a token has a space behind something else.
    has_inner_spaces: bool,
}

/// Most pairs: as many as a 32-bit float counts.
const RANKS_MAX: usize = 1 << 24;

/// What stands before a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing but what is put before every prompt.
    First,
    /// A token that was found as a whole.
    BehindAdded,
    /// Other text.
    Within,
}

/// What is left of a text while its characters are merged.
struct Symbols<'a> {
    text: &'a str,
    /// One for each character, in order, also when it was merged into the one before it.
    list: Vec<Symbol>,
}

/// A part of the text that is merged so far. A long text has many, so they are small.
#[derive(Clone, Copy)]
struct Symbol {
    /// Its first byte.
    start: u32,
    /// The index of the symbol before it; means nothing for the first.
    before: u32,
    /// The index of the symbol after it, for the last one the length of the list; its own index once
    /// it was merged into the one before it.
    after: u32,
}

const _: () = assert!(size_of::<Symbol>() == 12 && size_of::<Pair>() == 12);

impl<'a> Symbols<'a> {
    /// The characters of `text`. Panics if it has 4 GiB.
    fn new(text: &'a str) -> Self {
        assert!(u32::try_from(text.len()).is_ok(), "a text of {} bytes is too long", text.len());
        let mut list = Vec::with_capacity(text.chars().count());
        for (index, (start, _)) in (0_u32..).zip(text.char_indices()) {
            let (start, before) = (start as u32, index.saturating_sub(1));
            list.push(Symbol { start, before, after: index + 1 });
        }
        Symbols { text, list }
    }

    fn get(&self, index: u32) -> Option<Symbol> {
        self.list.get(index as usize).copied()
    }

    /// The text of the symbols from `first` to the one before `end`.
    fn text(&self, first: Symbol, end: u32) -> &'a str {
        let end = self.get(end).map_or(self.text.len(), |symbol| symbol.start as usize);
        &self.text[first.start as usize..end]
    }

    /// The text of a symbol and the one after it, if both are there.
    fn both(&self, left: u32) -> Option<&'a str> {
        let symbol = self.get(left).filter(|symbol| symbol.after != left)?;
        Some(self.text(symbol, self.get(symbol.after)?.after))
    }

    /// Whether both of a pair are as they were when it was found.
    fn are_still(&self, pair: &Pair) -> bool {
        self.both(pair.left).is_some_and(|text| text.len() == pair.len as usize)
    }

    /// Merges the symbol after `left` into it.
    fn merge(&mut self, left: u32) {
        let right = self.list[left as usize].after;
        let after = self.list[right as usize].after;
        self.list[right as usize].after = right;
        self.list[left as usize].after = after;
        if let Some(next) = self.list.get_mut(after as usize) {
            next.before = left;
        }
    }

    /// The texts of those that are left.
    fn texts(&self) -> impl Iterator<Item = &'a str> {
        let left = (0_u32..).zip(&self.list).filter(|(index, symbol)| symbol.after != *index);
        left.map(|(_, &symbol)| self.text(symbol, symbol.after))
    }
}

/// Two neighbours that may be merged. The greatest is merged first.
struct Pair {
    score: f32,
    left: u32,
    /// Bytes of both when the pair was found: of a pair with others it is out of date.
    len: u32,
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
        space_prefix: SpacePrefix,
    ) -> Result<Self, TokenizerError> {
        if scores.len() != vocabulary.len() {
            return Err(TokenizerError::ScoresDiffer {
                tokens: vocabulary.len(),
                scores: scores.len(),
            });
        }
        let mut tokens = HashMap::new();
        for (id, &score) in (0_u32..).zip(scores) {
            if score.is_nan() {
                return Err(TokenizerError::ScoreIsNoNumber { id });
            }
            let spelling = vocabulary.spelling(id).unwrap_or_default();
            let kind = vocabulary.kind(id);
            let is_text = matches!(kind, Some(TokenKind::Normal | TokenKind::UserDefined));
            if is_text && !spelling.is_empty() {
                tokens.entry(spelling.replace(' ', "▁")).or_insert((id, score));
            }
        }
        let bytes = byte_tokens(vocabulary)?;
        if tokens.is_empty() {
            return Err(TokenizerError::NoTextTokens);
        }
        let has_inner_space = |token: &String| token.trim_start_matches(SPACE).contains(SPACE);
        let has_inner_spaces = tokens.keys().any(has_inner_space);
        Ok(Self { tokens, ranks: None, bytes, space_prefix, has_inner_spaces })
    }

    /// Takes the ordinary tokens of `vocabulary`, and the pairs that are merged, the strongest first.
    pub(crate) fn with_merges(
        vocabulary: &Vocabulary,
        merges: &[String],
        space_prefix: SpacePrefix,
    ) -> Result<Self, TokenizerError> {
        let pairs = parse_merges(merges, &vocabulary.ordinary())?;
        if RANKS_MAX < pairs.len() {
            return Err(TokenizerError::TooManyMerges { merges: pairs.len(), most: RANKS_MAX });
        }
        let mut pieces = Self::new(vocabulary, &vec![0.0; vocabulary.len()], space_prefix)?;
        let mut ranks = HashMap::with_capacity(pairs.len());
        for (rank, (left, right)) in (0_u32..).zip(pairs) {
            let joined = pieces.tokens.get(&format!("{left}{right}"));
            // Merges that give a byte token are for texts that spell one out.
            let Some(&(id, _)) = joined else { continue };
            ranks.entry((id, left.len() as u32)).or_insert(rank);
        }
        pieces.ranks = Some(ranks);
        Ok(pieces)
    }

    /// Whether a byte that no longer token spells has a token of its own.
    pub(crate) fn has_byte(&self, byte: u8) -> bool {
        self.bytes[usize::from(byte)].is_some()
    }

    /// Calls `visit` with the ids of `text`, in order, until it fails. A byte without a token is left
    /// out.
    ///
    /// Time grows with `n log n` of what lies between spaces, or of the whole text if a token has a space
    /// inside; memory by 27 bytes for each character of that: 12 of itself, and 15 of pairs that wait.
    pub(crate) fn each_token(
        &self,
        text: &str,
        place: Place,
        visit: &mut dyn FnMut(u32) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        let marked = marked(text, place, self.space_prefix);
        let mut rest = marked.as_str();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(self.piece_len(rest));
            self.each_token_of(piece, visit)?;
            rest = behind;
        }
        Ok(())
    }

    /// Bytes of the first part of `text` that is merged by itself: up to a space behind something else,
    /// if no token goes across such a place.
    fn piece_len(&self, text: &str) -> usize {
        if self.has_inner_spaces {
            return text.len();
        }
        let spaces = text.len() - text.trim_start_matches(SPACE).len();
        text[spaces..].find(SPACE).map_or(text.len(), |end| spaces + end)
    }

    fn each_token_of(
        &self,
        piece: &str,
        visit: &mut dyn FnMut(u32) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        self.merged(piece).texts().try_for_each(|spelling| match self.tokens.get(spelling) {
            Some(&(id, _)) => visit(id),
            None => {
                let bytes = spelling.bytes().map(|byte| self.bytes[usize::from(byte)]);
                bytes.flatten().try_for_each(&mut *visit)
            }
        })
    }

    /// What is left of `text` when nothing can be merged any more.
    fn merged<'a>(&self, text: &'a str) -> Symbols<'a> {
        let mut symbols = Symbols::new(text);
        let mut pairs = self.pairs(&symbols);
        while let Some(pair) = pairs.pop() {
            let left = pair.left;
            if !symbols.are_still(&pair) {
                continue;
            }
            symbols.merge(left);
            if pairs.capacity() < pairs.len() + 2 {
                pairs.retain(|pair| symbols.are_still(pair));
            }
            if 0 < left {
                pairs.extend(self.pair(&symbols, symbols.list[left as usize].before));
            }
            pairs.extend(self.pair(&symbols, left));
        }
        symbols
    }

    /// All that may be merged at first, in a heap that need not grow if it is cleared of what is out of
    /// date: of n symbols fewer than n pairs are not. With room for a quarter more that takes no more than
    /// three times, since each merge adds one pair at most and leaves one symbol less.
    fn pairs(&self, symbols: &Symbols<'_>) -> BinaryHeap<Pair> {
        let count = symbols.list.len();
        let mut pairs = Vec::with_capacity(count + count / 4 + 2);
        pairs.extend((0..count as u32).filter_map(|left| self.pair(symbols, left)));
        pairs.into()
    }

    /// The symbol `left` with the one after it, if a token spells both.
    fn pair(&self, symbols: &Symbols, left: u32) -> Option<Pair> {
        let both = symbols.both(left)?;
        let (id, mut score) = *self.tokens.get(both)?;
        if let Some(ranks) = &self.ranks {
            let symbol = symbols.get(left)?;
            let left_len = symbols.text(symbol, symbol.after).len() as u32;
            // Exact: there are fewer ranks than a float has numbers without gaps.
            score = -(*ranks.get(&(id, left_len))? as f32);
        }
        Some(Pair { score, left, len: both.len() as u32 })
    }
}

/// `text` with spaces as `▁`, and with one before it where that is due.
pub(crate) fn marked(text: &str, place: Place, space_prefix: SpacePrefix) -> String {
    let spaces = text.bytes().filter(|byte| *byte == b' ').count();
    let mut marked = String::with_capacity(text.len() + (spaces + 1) * SPACE.len_utf8());
    let is_spaced = text.starts_with([' ', SPACE]);
    let has_prefix = match space_prefix {
        SpacePrefix::Nowhere => false,
        SpacePrefix::EachText => place != Place::Within,
        SpacePrefix::EachTextWithoutSpace => place != Place::Within && !is_spaced,
        SpacePrefix::FirstText => place == Place::First && !is_spaced,
    };
    if has_prefix && !text.is_empty() {
        marked.push(SPACE);
    }
    marked.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
    marked
}

/// The token that stands for each byte. Error: a byte token that does not name its byte.
pub(crate) fn byte_tokens(
    vocabulary: &Vocabulary,
) -> Result<Box<[Option<u32>; 256]>, TokenizerError> {
    let mut bytes = Box::new([None; 256]);
    let ids = 0..vocabulary.len() as u32;
    for id in ids.filter(|&id| vocabulary.kind(id) == Some(TokenKind::Byte)) {
        let spelling = vocabulary.spelling(id).unwrap_or_default();
        let byte = spelt_byte(spelling)
            .ok_or_else(|| TokenizerError::MalformedByte { id, spelling: spelling.to_owned() })?;
        bytes[usize::from(byte)].get_or_insert(id);
    }
    Ok(bytes)
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
