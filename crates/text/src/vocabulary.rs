//! What a model file says about its tokens, checked once and then relied upon.

use std::collections::{HashMap, HashSet};

use crate::normalization::Normalization;

/// What a token is for, as GGUF numbers it in `tokenizer.ggml.token_type` (1 to 6, in this order).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of ordinary text.
    Normal,
    /// Stands for what the vocabulary cannot spell. Treated as a control token.
    Unknown,
    /// Steers the model (start of a turn, end of text). Message text never yields one.
    Control,
    /// Ordinary text that is always one token, wherever it stands (`<think>`).
    UserDefined,
    /// A free place in the vocabulary.
    Unused,
    /// One byte. In a byte-level vocabulary it is spelt like a normal token.
    Byte,
}

impl TokenKind {
    /// Whether the token steers the model instead of being text.
    fn is_control(self) -> bool {
        matches!(self, Self::Control | Self::Unknown)
    }
}

/// A tokenizer as a model file describes it. Nothing is checked yet.
#[derive(Debug, Clone)]
pub struct TokenizerSpec {
    /// Spelling of each id: normal and unused tokens as [`TokenizerSpec::merging`] has it, control
    /// and user-defined tokens as they are.
    pub tokens: Vec<String>,
    /// Kind of each id; as many as `tokens`.
    pub kinds: Vec<TokenKind>,
    /// How text becomes tokens.
    pub merging: Merging,
    /// What is done to text before.
    pub rules: TextRules,
    /// Token that begins a sequence.
    pub bos: Option<u32>,
    /// Whether a raw prompt begins with `bos`.
    pub add_bos: bool,
    /// Whether a raw prompt ends with the first of `end_tokens`.
    pub add_eos: bool,
    /// Tokens that end an answer. The first one is the `eos_token` of chat templates.
    pub end_tokens: Vec<u32>,
}

/// What is done to text before it becomes tokens. By default nothing.
#[derive(Debug, Clone, Default)]
pub struct TextRules {
    /// Byte-level text is brought into Unicode's normal form C, outside of added tokens.
    pub composes: bool,
    /// Control and user-defined tokens behind which white space is left out.
    pub eats_space: Vec<u32>,
}

/// How byte-level text is cut into the pieces that are merged on their own.
#[derive(Debug, Clone)]
pub enum Cutting {
    /// As GGUF files name it: `gpt-2`, `smollm`, `llama-bpe`, `qwen2` and others.
    Named(String),
    /// As `tokenizer.json` describes it.
    Patterns {
        /// Regular expressions, applied one after the other, each to the pieces of the one before;
        /// what one matches is a piece, and so is what lies between.
        patterns: Vec<String>,
        /// A piece that is a token as a whole is not merged up from its bytes.
        whole_pieces_first: bool,
    },
}

/// Where a space is put before a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpacePrefix {
    /// Nowhere.
    Nowhere,
    /// At the start and behind control and user-defined tokens.
    EachText,
    /// There, unless the text begins with a space.
    EachTextWithoutSpace,
    /// At the very start alone, unless the text begins with a space.
    FirstText,
}

/// How text becomes tokens.
#[derive(Debug, Clone)]
pub enum Merging {
    /// Byte-level BPE. Tokens are spelt in GPT-2's alphabet, one printable character for each byte.
    ByteLevel {
        /// Pairs to merge, `left right` with one space between, the strongest first.
        merges: Vec<String>,
        /// How text is cut before merging.
        pre_tokenizer: Cutting,
    },
    /// BPE over characters as `tokenizer.json` has it. Tokens are spelt as text, with `▁` for a space;
    /// byte tokens `<0x0A>` stand for what no token spells.
    Characters {
        /// Pairs to merge, `left right` with one space between, the strongest first.
        merges: Vec<String>,
        /// Where a space is put before text.
        space_prefix: SpacePrefix,
    },
    /// SentencePiece's BPE. Tokens are spelt as text, with `▁` for a space; byte tokens `<0x0A>`.
    SentencePiece {
        /// Of each id; the pair whose token has the greatest score is merged first.
        scores: Vec<f32>,
        /// Whether a space is put before text at the start and behind control tokens.
        space_prefix: bool,
    },
    /// SentencePiece's unigram model. Tokens are spelt as text, with `▁` for a space; byte tokens `<0x0A>`.
    Unigram(UnigramSpec),
}

/// A unigram model.
#[derive(Debug, Clone)]
pub struct UnigramSpec {
    /// Of each id; the tokens of a text are those with the greatest sum.
    pub scores: Vec<f64>,
    /// The token for what neither tokens nor their bytes spell.
    pub unknown: u32,
    /// The score of a character that no token spells.
    pub unknown_score: f64,
    /// What is done to text before, outside of added tokens.
    pub normalization: Vec<Normalization>,
    /// Where a space is put before text, after that.
    pub space_prefix: SpacePrefix,
    /// Whether text is cut before each space, so that no token goes across.
    pub cuts_at_spaces: bool,
    /// Whether byte tokens also stand for their spellings in text, as in the tokenizers library.
    pub bytes_are_text: bool,
}

/// Why a tokenizer cannot be built, or why a text cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A vocabulary without tokens.
    #[error("the vocabulary has no tokens")]
    Empty,
    /// Ids are 32 bits wide.
    #[error("the vocabulary has {tokens} tokens, the limit is {}", u32::MAX)]
    TooManyTokens {
        /// Tokens given.
        tokens: usize,
    },
    /// Tokens and kinds are parallel lists.
    #[error("the vocabulary has {tokens} tokens but {kinds} token kinds; they must be equal")]
    KindsDiffer {
        /// Tokens given.
        tokens: usize,
        /// Kinds given.
        kinds: usize,
    },
    /// Tokens and scores are parallel lists.
    #[error("the vocabulary has {tokens} tokens but {scores} scores; they must be equal")]
    ScoresDiffer {
        /// Tokens given.
        tokens: usize,
        /// Scores given.
        scores: usize,
    },
    /// Scores are compared with each other.
    #[error("the score of token {id} is not a number")]
    ScoreIsNoNumber {
        /// The token.
        id: u32,
    },
    /// A byte token names its byte.
    #[error("token {id} is a byte token spelt {spelling:?}; it must be spelt like \"<0x0A>\"")]
    MalformedByte {
        /// The token.
        id: u32,
        /// Its spelling.
        spelling: String,
    },
    /// Long tokens are found in long texts again and again.
    #[error("token {id} has {bytes} bytes, the limit is {most}")]
    TokenTooLong {
        /// The token.
        id: u32,
        /// Its bytes.
        bytes: usize,
        /// Most bytes.
        most: usize,
    },
    /// A table of replacements that is none.
    #[error("the table of replacements (precompiled_charsmap) is malformed: {reason}")]
    MalformedCharsmap {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No text at all could be encoded.
    #[error("the vocabulary has no token of ordinary text")]
    NoTextTokens,
    /// An empty control token would be found everywhere.
    #[error("token {id} is a control or user-defined token with an empty spelling")]
    EmptySpelling {
        /// The token.
        id: u32,
    },
    /// An id that the vocabulary does not have.
    #[error("{field} is {id}, but the vocabulary has only {tokens} tokens (ids from 0)")]
    IdOutOfRange {
        /// Where the id was given.
        field: &'static str,
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        tokens: usize,
    },
    /// A prompt shall begin or end with a token that the file does not name.
    #[error("{flag} is set, but the file names no {token}")]
    MissingToken {
        /// The setting.
        flag: &'static str,
        /// What it needs.
        token: &'static str,
    },
    /// A merge is two tokens with one space between.
    #[error("merge {index} is {merge:?}; it must be two tokens with one space between")]
    MalformedMerge {
        /// Position in the list, from 0.
        index: usize,
        /// The entry.
        merge: String,
    },
    /// Both sides of a merge and its result must be ordinary tokens.
    #[error("merge {index} needs {token:?}, which is not an ordinary token of the vocabulary")]
    MergeOutsideVocabulary {
        /// Position in the list, from 0.
        index: usize,
        /// The missing token.
        token: String,
    },
    /// Ranks of merges are compared as floats.
    #[error("the vocabulary has {merges} merges, the limit is {most}")]
    TooManyMerges {
        /// Merges given.
        merges: usize,
        /// Most merges.
        most: usize,
    },
    /// The text has more tokens than were asked for.
    #[error("the text has more than {most} tokens")]
    TextTooLong {
        /// Most tokens.
        most: usize,
    },
    /// No text at all could be encoded.
    #[error("no token of the vocabulary spells a single byte; this is not a byte-level vocabulary")]
    NoByteTokens,
    /// A pattern that is no regular expression, or one that would take too much memory.
    #[error("the pattern {pattern:?}, by which text is cut, is refused: {cause}")]
    MalformedPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A way of cutting text that this crate does not know.
    #[error("pre-tokenizer {name:?} is not known; known are: {known}")]
    UnknownPreTokenizer {
        /// The name given.
        name: String,
        /// The names that would do.
        known: String,
    },
    /// Text that the pre-tokenizer cannot cut. The text is to blame, not the model.
    #[error("the text has a run of about a million spaces, which is too long to encode: {0}")]
    RunTooLong(String),
    /// Text that is too long once signs are put into their usual form. The text is to blame, too.
    #[error("the text has more than {most} bytes in its usual form; send less")]
    NormalizedTooLong {
        /// Bytes of the longest that is read.
        most: usize,
    },
    /// Text with a piece that is too long to be merged. The text is to blame, too.
    #[error(
        "the text has a word or a run of signs of {bytes} bytes, which is too long to encode; put something \
         between that divides it into parts of at most {most}"
    )]
    PieceTooLong {
        /// Bytes of the piece.
        bytes: usize,
        /// Bytes of the longest that is merged.
        most: usize,
    },
    /// A library underneath refused or panicked.
    #[error("the tokenizer failed: {0}")]
    Library(String),
}

/// A checked vocabulary: ids to spellings, kinds and bytes.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    spellings: Vec<String>,
    kinds: Vec<TokenKind>,
    bytes: Vec<Box<[u8]>>,
}

impl Vocabulary {
    /// Checks lengths, kinds and spellings, and works out the bytes of each token: `bytes_of` gives
    /// those of one that is not a control token.
    pub(crate) fn new(
        spellings: Vec<String>,
        kinds: Vec<TokenKind>,
        bytes_of: impl Fn(&str, TokenKind) -> Box<[u8]>,
    ) -> Result<Self, TokenizerError> {
        if spellings.is_empty() {
            return Err(TokenizerError::Empty);
        }
        if u32::try_from(spellings.len()).is_err() {
            return Err(TokenizerError::TooManyTokens { tokens: spellings.len() });
        }
        if spellings.len() != kinds.len() {
            return Err(TokenizerError::KindsDiffer {
                tokens: spellings.len(),
                kinds: kinds.len(),
            });
        }
        for (id, (spelling, kind)) in (0u32..).zip(spellings.iter().zip(&kinds)) {
            if spelling.is_empty() && is_added(*kind) {
                return Err(TokenizerError::EmptySpelling { id });
            }
        }
        let bytes = (spellings.iter().zip(&kinds))
            .map(|(spelling, &kind)| match kind.is_control() {
                true => spelling.as_bytes().into(),
                false => bytes_of(spelling, kind),
            })
            .collect();
        Ok(Self { spellings, kinds, bytes })
    }

    /// Number of ids.
    pub(crate) fn len(&self) -> usize {
        self.spellings.len()
    }

    /// Fails if `id`, given as `field`, is not in the vocabulary.
    pub(crate) fn check_id(&self, field: &'static str, id: u32) -> Result<(), TokenizerError> {
        if (id as usize) < self.len() {
            return Ok(());
        }
        Err(TokenizerError::IdOutOfRange { field, id, tokens: self.len() })
    }

    /// Spelling of an id as the file has it.
    pub(crate) fn spelling(&self, id: u32) -> Option<&str> {
        self.spellings.get(id as usize).map(String::as_str)
    }

    /// Kind of an id.
    pub(crate) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// Whether an id is found in text as a whole.
    pub(crate) fn is_added(&self, id: u32) -> bool {
        self.kind(id).is_some_and(is_added)
    }

    /// Bytes that an id stands for in text.
    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(id as usize).map(|bytes| &**bytes)
    }

    /// Whether an id is a control token; an unknown id is not.
    pub(crate) fn is_control(&self, id: u32) -> bool {
        self.kinds.get(id as usize).is_some_and(|kind| kind.is_control())
    }

    /// Tokens that are found in text as a whole, before any merging: control and user-defined
    /// ones, in order of id. Of two with one spelling the lower id is kept.
    pub(crate) fn added(&self) -> Vec<(u32, &str)> {
        let mut seen = HashSet::new();
        (0u32..)
            .zip(self.spellings.iter().zip(&self.kinds))
            .filter(|(_, (_, kind))| is_added(**kind))
            .map(|(id, (spelling, _))| (id, spelling.as_str()))
            .filter(|(_, spelling)| seen.insert(*spelling))
            .collect()
    }

    /// Spelling to id of the tokens that merging works with: all but control tokens, so that
    /// no merge can yield one. Of two with one spelling the lower id is kept.
    pub(crate) fn ordinary(&self) -> HashMap<String, u32> {
        let mut ids = HashMap::new();
        for (id, (spelling, kind)) in (0u32..).zip(self.spellings.iter().zip(&self.kinds)) {
            if !kind.is_control() && !spelling.is_empty() {
                ids.entry(spelling.clone()).or_insert(id);
            }
        }
        ids
    }
}

/// Checks `merges` against the ordinary tokens and splits each entry into its two sides.
///
/// Of a pair that is listed twice only the first, stronger entry is kept.
pub(crate) fn parse_merges(
    merges: &[String],
    ordinary: &HashMap<String, u32>,
) -> Result<Vec<(String, String)>, TokenizerError> {
    let mut seen = HashSet::with_capacity(merges.len());
    let mut pairs = Vec::with_capacity(merges.len());
    for (index, merge) in merges.iter().enumerate() {
        let malformed = || TokenizerError::MalformedMerge { index, merge: merge.clone() };
        let (left, right) = merge.split_once(' ').ok_or_else(malformed)?;
        if left.is_empty() || right.is_empty() || right.contains(' ') {
            return Err(malformed());
        }
        let joined = format!("{left}{right}");
        for token in [left, right, &joined] {
            if !ordinary.contains_key(token) {
                let token = token.to_owned();
                return Err(TokenizerError::MergeOutsideVocabulary { index, token });
            }
        }
        if seen.insert(merge.as_str()) {
            pairs.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(pairs)
}

/// GPT-2's alphabet: the character that spells each byte.
///
/// Printable bytes of Latin-1 stand for themselves, the other 68 take the characters from
/// U+0100 on, in order of byte. Source: `bytes_to_unicode` in openai/gpt-2, `src/encoder.py`.
pub(crate) fn byte_alphabet() -> [char; 256] {
    let mut next = 0x100u32;
    std::array::from_fn(|byte| match byte as u8 {
        printable @ (b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) => char::from(printable),
        _ => {
            let spelt = char::from_u32(next).expect("U+0100 to U+0143 are characters");
            next += 1;
            spelt
        }
    })
}

/// Whether tokens of this kind are found in text as a whole.
fn is_added(kind: TokenKind) -> bool {
    kind.is_control() || kind == TokenKind::UserDefined
}

/// What gives the bytes of byte-level tokens: those that the spelling's characters stand for; of an
/// added token, and of one with a character outside the alphabet, the spelling itself (as Hugging
/// Face's byte-level decoder has it).
pub(crate) fn byte_level() -> impl Fn(&str, TokenKind) -> Box<[u8]> {
    let alphabet: HashMap<char, u8> = byte_alphabet().into_iter().zip(0..=u8::MAX).collect();
    move |spelling, kind| {
        let spelt: Option<Box<[u8]>> =
            spelling.chars().map(|c| alphabet.get(&c).copied()).collect();
        match spelt {
            Some(bytes) if !is_added(kind) => bytes,
            _ => spelling.as_bytes().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_has_one_printable_character_for_each_byte() {
        let alphabet = byte_alphabet();
        assert_eq!(alphabet.iter().collect::<HashSet<_>>().len(), 256);
        assert_eq!(alphabet[b' ' as usize], 'Ġ');
        assert_eq!(alphabet[b'\n' as usize], 'Ċ');
        assert_eq!(alphabet[0xAD], 'Ń');
        assert!(alphabet.iter().all(|c| !c.is_control() && !c.is_whitespace()));
    }

    #[test]
    fn lower_id_wins_among_equal_spellings_and_control_tokens_are_not_ordinary() {
        let spellings = ["a", "<x>", "a", "<x>", "<y>", ""].map(String::from).to_vec();
        use TokenKind::*;
        let kinds = vec![Normal, Control, Normal, Control, UserDefined, Unused];
        let vocabulary = Vocabulary::new(spellings, kinds, byte_level()).expect("valid");
        assert_eq!(vocabulary.added(), [(1, "<x>"), (4, "<y>")]);
        let ordinary = vocabulary.ordinary();
        assert_eq!(ordinary.get("a"), Some(&0));
        assert_eq!(ordinary.get("<y>"), Some(&4));
        assert_eq!(ordinary.len(), 2);
    }
}
