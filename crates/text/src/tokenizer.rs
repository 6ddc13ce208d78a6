//! Text to ids: control tokens first, then pieces, then merges.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::Model;
use tokenizers::models::bpe::BPE;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::pre_tokenizer::PreTokenizer;
use crate::sentence_piece::{self, Place, SentencePiece};
use crate::unigram::Unigram;
use crate::vocabulary::{
    Merging, SpacePrefix, TextRules, TokenizerError, TokenizerSpec, Vocabulary, byte_alphabet,
    byte_level, parse_merges,
};

/// Whether spellings of control tokens in a text become control tokens.
///
/// User-defined tokens (`<think>`) are ordinary text that is always one token: they are found
/// either way, as in Hugging Face's tokenizers and in llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlTokens {
    /// They do: raw prompts.
    Parse,
    /// They do not, they are encoded like any other text: message contents.
    AsText,
}

/// A piece of a rendered chat prompt; a prompt is a list of them, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A control token that the chat template itself wrote.
    Control(u32),
    /// Text of the template and of messages, in which nothing becomes a control token.
    Text(String),
}

/// A model's tokenizer: byte-level BPE, or SentencePiece's BPE or unigram. Share it by `Arc`.
///
/// Each thread that encodes keeps the byte-level merges of the first 2,048 different pieces it met.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    merger: Merger,
    rules: TextRules,
    /// Control and user-defined tokens, for [`ControlTokens::Parse`].
    added: AddedTokens,
    /// User-defined tokens alone, for [`ControlTokens::AsText`].
    user_defined: AddedTokens,
    bos: Option<u32>,
    /// What a raw prompt begins and ends with.
    prefix: Option<u32>,
    suffix: Option<u32>,
    end_tokens: Vec<u32>,
    /// Bytes of the longest token if every byte is spelt, so that a text has at least as many
    /// tokens as its length holds this; none where bytes may be left out.
    longest_bytes: Option<usize>,
}

/// What makes tokens of text that holds no added ones.
#[derive(Debug)]
enum Merger {
    ByteLevel { pre_tokenizer: PreTokenizer, merges: Box<BPE>, alphabet: Box<[char; 256]> },
    SentencePiece(SentencePiece),
    Unigram(Box<Unigram>),
}

/// Pieces whose merges a thread keeps; at most about 8 KiB each (255 bytes, 32 bytes a symbol).
const CACHED_PIECES: usize = 2_048;
/// Bytes of the longest piece of byte-level BPE: merging takes the library more than 100 bytes for each.
const PIECE_BYTES: usize = 256 << 10;

impl Tokenizer {
    /// Checks the whole description and builds the tokenizer.
    pub fn new(spec: TokenizerSpec) -> Result<Self, TokenizerError> {
        let vocabulary = match &spec.merging {
            Merging::ByteLevel { .. } => Vocabulary::new(spec.tokens, spec.kinds, byte_level())?,
            Merging::SentencePiece { .. } | Merging::Characters { .. } | Merging::Unigram(_) => {
                Vocabulary::new(spec.tokens, spec.kinds, sentence_piece::token_bytes)?
            }
        };
        if let Some(bos) = spec.bos {
            vocabulary.check_id("the begin token", bos)?;
        }
        for end in &spec.end_tokens {
            vocabulary.check_id("an end token", *end)?;
        }
        for eater in &spec.rules.eats_space {
            vocabulary.check_id("a token that takes the space behind it", *eater)?;
        }
        let prefix = wanted(spec.add_bos, spec.bos, "add_bos_token", "begin token")?;
        let suffix =
            wanted(spec.add_eos, spec.end_tokens.first().copied(), "add_eos_token", "end token")?;
        let merger = Merger::new(&vocabulary, spec.merging)?;
        let added = vocabulary.added();
        let user_defined: Vec<_> =
            added.iter().copied().filter(|(id, _)| !vocabulary.is_control(*id)).collect();
        let longest_bytes = (0..vocabulary.len() as u32)
            .filter_map(|id| vocabulary.bytes(id))
            .map(<[u8]>::len)
            .max();
        let mut tokenizer = Self {
            added: AddedTokens::new(&added)?,
            user_defined: AddedTokens::new(&user_defined)?,
            vocabulary,
            merger,
            rules: spec.rules,
            bos: spec.bos,
            prefix,
            suffix,
            end_tokens: spec.end_tokens,
            longest_bytes: None,
        };
        // A unigram model has steps before that may leave bytes out.
        let is_whole = !matches!(tokenizer.merger, Merger::Unigram(_));
        let is_spelt = is_whole && tokenizer.unspelt_bytes().is_empty();
        tokenizer.longest_bytes = longest_bytes.filter(|_| is_spelt);
        Ok(tokenizer)
    }

    /// Ids of `text`. No begin or end token is added.
    ///
    /// A byte that no token spells is left out, as in Hugging Face's tokenizers and llama.cpp
    /// (see [`Tokenizer::unspelt_bytes`]). Time grows with `n log n` of the longest word.
    pub fn encode(&self, text: &str, control: ControlTokens) -> Result<Vec<u32>, TokenizerError> {
        self.encode_within(text, control, usize::MAX)
    }

    /// As [`Tokenizer::encode`], but an error as soon as it is known that the text has more than
    /// `most` tokens: what is far too long costs no more than what just fits.
    pub fn encode_within(
        &self,
        text: &str,
        control: ControlTokens,
        most: usize,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Ids { ids: Vec::with_capacity(most.min(text.len() / 3)), most, start: 0 };
        self.append(text, control, &mut ids)?;
        Ok(ids.ids)
    }

    /// Ids of a raw prompt: control tokens are parsed, and a begin or end token is added where
    /// the model's file says so.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_prompt_within(text, usize::MAX)
    }

    /// As [`Tokenizer::encode_prompt`], with an error for more than `most` tokens.
    pub fn encode_prompt_within(
        &self,
        text: &str,
        most: usize,
    ) -> Result<Vec<u32>, TokenizerError> {
        let start = usize::from(self.prefix.is_some());
        let mut ids = Ids { ids: Vec::new(), most, start };
        ids.extend(self.prefix)?;
        self.append(text, ControlTokens::Parse, &mut ids)?;
        ids.extend(self.suffix)?;
        Ok(ids.ids)
    }

    /// What a raw prompt begins and ends with where the model's file says so.
    pub fn around_prompts(&self) -> (Option<u32>, Option<u32>) {
        (self.prefix, self.suffix)
    }

    /// Ids of a rendered chat. Nothing is added: chat templates write the begin token themselves.
    pub fn encode_segments(&self, segments: &[Segment]) -> Result<Vec<u32>, TokenizerError> {
        self.encode_segments_within(segments, usize::MAX)
    }

    /// As [`Tokenizer::encode_segments`], with an error for more than `most` tokens.
    pub fn encode_segments_within(
        &self,
        segments: &[Segment],
        most: usize,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Ids { ids: Vec::new(), most, start: 0 };
        for segment in segments {
            match segment {
                Segment::Control(id) => {
                    self.vocabulary.check_id("a control token of the prompt", *id)?;
                    ids.extend([*id])?;
                }
                Segment::Text(text) => self.append(text, ControlTokens::AsText, &mut ids)?,
            }
        }
        Ok(ids.ids)
    }

    /// Number of ids; every id below it is in the vocabulary.
    pub fn vocabulary_len(&self) -> usize {
        self.vocabulary.len()
    }

    /// Bytes that an id stands for in text, which may be a part of a character.
    /// `None` for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.vocabulary.bytes(id)
    }

    /// Spelling of an id in the model's file: GPT-2's alphabet or SentencePiece's for ordinary
    /// tokens, plain text for control tokens. `None` for an id outside the vocabulary.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocabulary.spelling(id)
    }

    /// Whether an id is a control token, which answers leave out of their text.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocabulary.is_control(id)
    }

    /// Tokens that end an answer.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// Token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Bytes that can occur in text and that no token spells, so that encoding leaves them out. A unigram
    /// model leaves none out: it has an unknown token.
    pub fn unspelt_bytes(&self) -> Vec<u8> {
        // 0xC0, 0xC1 and those from 0xF5 on occur in no UTF-8 text.
        (0x00..=0xBF)
            .chain(0xC2..=0xF4)
            .filter(|byte| match &self.merger {
                Merger::ByteLevel { merges, alphabet, .. } => {
                    let spelling = alphabet[usize::from(*byte)].to_string();
                    merges.token_to_id(&spelling).is_none()
                }
                Merger::SentencePiece(pieces) => !pieces.has_byte(*byte),
                Merger::Unigram(_) => false,
            })
            .collect()
    }

    /// Control tokens in `text` with their byte ranges, in order and without overlap.
    pub(crate) fn find_control(&self, text: &str) -> Vec<(u32, std::ops::Range<usize>)> {
        self.added.find(text).filter(|(id, _)| self.is_control(*id)).collect()
    }

    /// Every control token's id and spelling.
    pub(crate) fn control_tokens(&self) -> impl Iterator<Item = (u32, &str)> {
        self.vocabulary.added().into_iter().filter(|(id, _)| self.is_control(*id))
    }

    /// Appends the ids of a text, whatever the libraries underneath do.
    fn append(
        &self,
        text: &str,
        control: ControlTokens,
        ids: &mut Ids,
    ) -> Result<(), TokenizerError> {
        // They panic on some inputs; one request must not take others along.
        catch_unwind(AssertUnwindSafe(|| self.encode_into(text, control, ids)))
            .unwrap_or_else(|panic| Err(TokenizerError::Library(panic_text(&*panic))))
    }

    fn encode_into(
        &self,
        text: &str,
        control: ControlTokens,
        ids: &mut Ids,
    ) -> Result<(), TokenizerError> {
        let added = match control {
            ControlTokens::Parse => &self.added,
            ControlTokens::AsText => &self.user_defined,
        };
        let mut done = 0;
        for (id, range) in added.find(text) {
            self.merge_into(&text[done..range.start], ids)?;
            ids.extend([id])?;
            done = range.end;
        }
        self.merge_into(&text[done..], ids)
    }

    /// Appends the ids of text that holds no added tokens.
    fn merge_into(&self, text: &str, ids: &mut Ids) -> Result<(), TokenizerError> {
        let last = ids.ids.last().copied();
        let text = match last.is_some_and(|id| self.rules.eats_space.contains(&id)) {
            true => text.trim_start(),
            false => text,
        };
        let check_room = |piece: &str, ids: &Ids| match self.longest_bytes {
            Some(longest) => ids.check_room(piece.len() / longest),
            None => Ok(()),
        };
        let place = match last {
            _ if ids.ids.len() == ids.start => Place::First,
            Some(id) if self.vocabulary.is_added(id) => Place::BehindAdded,
            _ => Place::Within,
        };
        match &self.merger {
            Merger::ByteLevel { pre_tokenizer, merges, alphabet } => {
                let text = match self.rules.composes && !is_nfc(text) {
                    true => Cow::Owned(text.nfc().collect::<String>()),
                    false => Cow::Borrowed(text),
                };
                let mut spelling = String::new();
                pre_tokenizer.each_piece(&text, &mut |piece| {
                    check_room(piece, ids)?;
                    check_piece(piece)?;
                    spelling.clear();
                    spelling.extend(piece.bytes().map(|byte| alphabet[usize::from(byte)]));
                    let tokens = merges.tokenize(&spelling).map_err(library)?;
                    ids.extend(tokens.iter().map(|token| token.id))
                })
            }
            Merger::SentencePiece(pieces) => {
                check_room(text, ids)?;
                pieces.each_token(text, place, &mut |id| ids.extend([id]))
            }
            Merger::Unigram(model) => model.each_token(text, place, &mut |id| ids.extend([id])),
        }
    }
}

impl Merger {
    fn new(vocabulary: &Vocabulary, merging: Merging) -> Result<Self, TokenizerError> {
        Ok(match merging {
            Merging::ByteLevel { merges, pre_tokenizer } => {
                let pre_tokenizer = PreTokenizer::new(&pre_tokenizer)?;
                let whole_first = pre_tokenizer.whole_pieces_first();
                let merges = Box::new(build_merges(vocabulary, &merges, whole_first)?);
                Merger::ByteLevel { pre_tokenizer, merges, alphabet: Box::new(byte_alphabet()) }
            }
            Merging::SentencePiece { scores, space_prefix } => {
                let prefix =
                    if space_prefix { SpacePrefix::EachText } else { SpacePrefix::Nowhere };
                Merger::SentencePiece(SentencePiece::new(vocabulary, &scores, prefix)?)
            }
            Merging::Characters { merges, space_prefix } => {
                let pieces = SentencePiece::with_merges(vocabulary, &merges, space_prefix)?;
                Merger::SentencePiece(pieces)
            }
            Merging::Unigram(spec) => Merger::Unigram(Box::new(Unigram::new(vocabulary, spec)?)),
        })
    }
}

/// Ids of a text, up to a limit.
struct Ids {
    ids: Vec<u32>,
    most: usize,
    /// How many stand before the text.
    start: usize,
}

impl Ids {
    fn extend(&mut self, more: impl IntoIterator<Item = u32>) -> Result<(), TokenizerError> {
        self.ids.extend(more);
        self.check_room(0)
    }

    /// An error unless there is room for `more` ids.
    fn check_room(&self, more: usize) -> Result<(), TokenizerError> {
        if self.most.checked_sub(self.ids.len()).is_none_or(|room| room < more) {
            return Err(TokenizerError::TextTooLong { most: self.most });
        }
        Ok(())
    }
}

/// An error for a piece whose merging would take more memory than anybody counts with.
fn check_piece(piece: &str) -> Result<(), TokenizerError> {
    if piece.len() <= PIECE_BYTES {
        return Ok(());
    }
    Err(TokenizerError::PieceTooLong { bytes: piece.len(), most: PIECE_BYTES })
}

/// The token that `flag` asks for, or an error when the file does not name it.
fn wanted(
    flag_set: bool,
    token: Option<u32>,
    flag: &'static str,
    name: &'static str,
) -> Result<Option<u32>, TokenizerError> {
    match (flag_set, token) {
        (true, None) => Err(TokenizerError::MissingToken { flag, token: name }),
        (true, token) => Ok(token),
        (false, _) => Ok(None),
    }
}

/// The library's model over the ordinary tokens. Everything it would panic on is checked before.
fn build_merges(
    vocabulary: &Vocabulary,
    merges: &[String],
    whole_pieces_first: bool,
) -> Result<BPE, TokenizerError> {
    let ordinary = vocabulary.ordinary();
    let mut buffer = [0; 4];
    if !byte_alphabet().iter().any(|c| ordinary.contains_key(&*c.encode_utf8(&mut buffer))) {
        return Err(TokenizerError::NoByteTokens);
    }
    let merges = parse_merges(merges, &ordinary)?;
    let ordinary: Vec<(String, u32)> = ordinary.into_iter().collect();
    BPE::builder()
        .vocab_and_merges(ordinary.into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges)
        .ignore_merges(whole_pieces_first)
        .cache_capacity(CACHED_PIECES)
        .build()
        .map_err(library)
}

fn library(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library(error.to_string())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}

/// Tokens that are found in text as a whole: of those that begin first, the longest.
#[derive(Debug)]
struct AddedTokens {
    /// `None` without tokens.
    automaton: Option<AhoCorasick>,
    /// Id of each pattern of the automaton.
    ids: Vec<u32>,
}

impl AddedTokens {
    fn new(tokens: &[(u32, &str)]) -> Result<Self, TokenizerError> {
        let ids = tokens.iter().map(|(id, _)| *id).collect();
        if tokens.is_empty() {
            return Ok(Self { automaton: None, ids });
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|(_, spelling)| spelling))
            .map_err(|error| TokenizerError::Library(error.to_string()))?;
        Ok(Self { automaton: Some(automaton), ids })
    }

    /// Ids and byte ranges of the tokens in `text`, in order and without overlap.
    fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (u32, std::ops::Range<usize>)> {
        self.automaton
            .iter()
            .flat_map(move |automaton| automaton.find_iter(text))
            .map(|found| (self.ids[found.pattern().as_usize()], found.range()))
    }
}

#[cfg(test)]
mod tests;
