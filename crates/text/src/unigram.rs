//! SentencePiece's unigram model: of all ways to cut a text into tokens, the one with the greatest sum of
//! scores.
//!
//! A character that no token spells is unknown, with a score below all others; unknown ones in a row become
//! one token for each of their bytes, or the unknown token. The best way to each place is found from the best
//! ways to those before it, which takes time in proportion to the text and to the tokens found in it.
//! Source: `unigram_model.cc` of SentencePiece, `models/unigram/model.rs` of the tokenizers library.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use aho_corasick::AhoCorasick;

use crate::normalization::Normalizer;
use crate::sentence_piece::{Place, SPACE, byte_tokens, marked};
use crate::vocabulary::{SpacePrefix, TokenKind, TokenizerError, UnigramSpec, Vocabulary};

/// Longest token; those in use have less than 100 bytes.
const TOKEN_BYTES_MAX: usize = 1 << 10;

/// Longest text, before and behind each of the steps that change it: some signs become ten times as long.
/// Spaces are marked after that, with three bytes each.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// How far the score of an unknown character is usually below that of all tokens.
/// Source: `unigram_model.cc` of SentencePiece.
pub const UNKNOWN_PENALTY: f64 = 10.0;

/// The place of an unknown character among the tokens of a path.
const UNKNOWN: u32 = u32::MAX;

/// The tokens that text is made of.
#[derive(Debug)]
pub(crate) struct Unigram {
    tokens: Vec<Token>,
    /// Finds the tokens in a text by their numbers in that list.
    finder: AhoCorasick,
    /// Bytes of the longest token and of the longest character, whichever is more.
    longest: usize,
    unknown: u32,
    unknown_score: f64,
    bytes: Box<[Option<u32>; 256]>,
    normalizer: Normalizer,
    space_prefix: SpacePrefix,
    cuts_at_spaces: bool,
}

#[derive(Debug)]
struct Token {
    id: u32,
    score: f64,
    bytes: usize,
}

/// The best way to a place in a text.
struct Best {
    score: f64,
    /// The last token on it, or [`UNKNOWN`], and where that begins.
    token: u32,
    start: usize,
}

impl Unigram {
    /// Takes the ordinary tokens of `vocabulary`, each with its score.
    pub(crate) fn new(vocabulary: &Vocabulary, spec: UnigramSpec) -> Result<Self, TokenizerError> {
        let (count, scores) = (vocabulary.len(), spec.scores.len());
        if scores != count {
            return Err(TokenizerError::ScoresDiffer { tokens: count, scores });
        }
        if let Some((id, _)) = (0..).zip(&spec.scores).find(|(_, score)| !score.is_finite()) {
            return Err(TokenizerError::ScoreIsNoNumber { id });
        }
        vocabulary.check_id("the unknown token", spec.unknown)?;
        let mut tokens: Vec<Token> = Vec::new();
        let mut spellings: HashMap<&str, usize> = HashMap::new();
        for (id, &score) in (0_u32..).zip(&spec.scores) {
            let spelling = vocabulary.spelling(id).unwrap_or_default();
            let bytes = spelling.len();
            let is_text = match vocabulary.kind(id) {
                Some(TokenKind::Normal) => true,
                Some(TokenKind::Byte) => spec.bytes_are_text,
                _ => false,
            };
            if !is_text || bytes == 0 || id == spec.unknown {
                continue;
            }
            if TOKEN_BYTES_MAX < bytes {
                return Err(TokenizerError::TokenTooLong { id, bytes, most: TOKEN_BYTES_MAX });
            }
            let token = Token { id, score, bytes };
            // Of two with one spelling the later one counts, as in the libraries.
            match spellings.entry(spelling) {
                Entry::Occupied(found) => tokens[*found.get()] = token,
                Entry::Vacant(place) => {
                    place.insert(tokens.len());
                    tokens.push(token);
                }
            }
        }
        let longest = tokens.iter().map(|token| token.bytes).max();
        let longest = longest.ok_or(TokenizerError::NoTextTokens)?.max(char::MAX.len_utf8());
        let texts = tokens.iter().map(|token| vocabulary.spelling(token.id).unwrap_or_default());
        let finder =
            AhoCorasick::new(texts).map_err(|error| TokenizerError::Library(error.to_string()))?;
        let normalizer = Normalizer::new(spec.normalization)
            .map_err(|reason| TokenizerError::MalformedCharsmap { reason })?;
        Ok(Self {
            tokens,
            finder,
            longest,
            unknown: spec.unknown,
            unknown_score: spec.unknown_score,
            bytes: byte_tokens(vocabulary)?,
            normalizer,
            space_prefix: spec.space_prefix,
            cuts_at_spaces: spec.cuts_at_spaces,
        })
    }

    /// Calls `visit` with the ids of `text`, in order, until it fails.
    ///
    /// Memory grows by 4 bytes for each byte of the text, as the steps before leave it.
    pub(crate) fn each_token(
        &self,
        text: &str,
        place: Place,
        visit: &mut dyn FnMut(u32) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        let text = self.normalizer.normalize(text, TEXT_BYTES_MAX);
        let text = text.ok_or(TokenizerError::NormalizedTooLong { most: TEXT_BYTES_MAX })?;
        let text = marked(&text, place, self.space_prefix);
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let behind = &rest[first.len_utf8()..];
            let end = behind.find(SPACE).filter(|_| self.cuts_at_spaces);
            let (piece, next) = rest.split_at(end.map_or(rest.len(), |end| first.len_utf8() + end));
            self.each_token_of(piece, visit)?;
            rest = next;
        }
        Ok(())
    }

    fn each_token_of(
        &self,
        piece: &str,
        visit: &mut dyn FnMut(u32) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        let mut tokens = self.path_ends(piece);
        let first = self.trace_back(piece, &mut tokens);
        let (mut end, mut unknown) = (0, 0);
        for &token in &tokens[first..] {
            if token == UNKNOWN {
                let bytes = char_bytes(&piece[end..]);
                (end, unknown) = (end + bytes, unknown + bytes);
                continue;
            }
            self.each_unknown(&piece[end - unknown..end], visit)?;
            let Token { id, bytes, .. } = self.tokens[token as usize];
            visit(id)?;
            (end, unknown) = (end + bytes, 0);
        }
        self.each_unknown(&piece[end - unknown..], visit)
    }

    /// Calls `visit` with what stands for a text that no token spells.
    fn each_unknown(
        &self,
        text: &str,
        visit: &mut dyn FnMut(u32) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        let byte = |byte: u8| self.bytes[usize::from(byte)];
        match text.bytes().all(|of| byte(of).is_some()) {
            true => text.bytes().filter_map(byte).try_for_each(visit),
            false => visit(self.unknown),
        }
    }

    /// Of each place in `text` the last token on the best way to it; between characters nothing of meaning.
    fn path_ends(&self, text: &str) -> Vec<u32> {
        let mut ends = vec![UNKNOWN; text.len() + 1];
        // Scores of the last places alone: no token reaches further back, and none beyond a short text.
        let reach = self.longest.min(text.len());
        let mut scores = vec![0.0; (reach + 1).next_power_of_two()];
        let slot = scores.len() - 1;
        let mut found = self.finder.find_overlapping_iter(text).peekable();
        for (start, character) in text.char_indices() {
            let end = start + character.len_utf8();
            let mut best: Option<Best> = None;
            let mut is_spelt = false;
            while let Some(token) = found.next_if(|token| token.end() <= end) {
                is_spelt |= token.start() == start;
                let number = token.pattern().as_u32();
                let score = scores[token.start() & slot] + self.tokens[number as usize].score;
                Best { score, token: number, start: token.start() }.take_place_of(&mut best);
            }
            if !is_spelt {
                let score = scores[start & slot] + self.unknown_score;
                Best { score, token: UNKNOWN, start }.take_place_of(&mut best);
            }
            let best = best.expect("a token ends here, or the character is unknown");
            (scores[end & slot], ends[end]) = (best.score, best.token);
        }
        ends
    }

    /// Makes the tokens of the best path of its `ends`: they stand at the end of the list, from the index
    /// given.
    fn trace_back(&self, text: &str, ends: &mut [u32]) -> usize {
        let (mut end, mut first) = (text.len(), ends.len());
        while 0 < end {
            // Each token has a byte at least, so none is overwritten before it is read.
            let token = ends[end];
            first -= 1;
            ends[first] = token;
            end -= match token {
                UNKNOWN => text[..end].chars().next_back().map_or(1, char::len_utf8),
                token => self.tokens[token as usize].bytes,
            };
        }
        first
    }
}

impl Best {
    /// Is the best if it has a greater score, or an equal one and a longer last token.
    fn take_place_of(self, best: &mut Option<Self>) {
        let is_better = best.as_ref().is_none_or(|best| {
            best.score < self.score || best.score == self.score && self.start < best.start
        });
        if is_better {
            *best = Some(self);
        }
    }
}

fn char_bytes(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

#[cfg(test)]
mod tests;
