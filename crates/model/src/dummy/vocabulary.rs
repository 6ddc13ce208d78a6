//! A byte-level vocabulary with generated merges, in GPT-2's alphabet.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::gguf::{Entry, GgufWriter};

/// Control tokens, by id; the names are those of ChatML.
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const BEGIN: u32 = 1;
const END: u32 = 2;
/// Fewest tokens: the control tokens and the 256 bytes.
pub const VOCABULARY_MIN: usize = CONTROL.len() + 256;
/// Longest generated token, in letters.
const LETTERS_MAX: usize = 10;

/// Numbers of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const CONTROL_KIND: i32 = 3;

/// Writes the tokenizer's keys for `token_count` tokens: control tokens, bytes, then merges of
/// letters into words.
pub fn write(writer: &mut GgufWriter, token_count: usize, random: &mut ChaCha8Rng) {
    assert!(VOCABULARY_MIN <= token_count, "{token_count} tokens, fewer than {VOCABULARY_MIN}");
    let mut tokens: Vec<String> = CONTROL.iter().map(|name| (*name).to_string()).collect();
    tokens.extend((0..=255).map(|byte| byte_letter(byte).to_string()));
    let merges = add_merges(&mut tokens, token_count, random);
    let kind = |id| if id < CONTROL.len() { CONTROL_KIND } else { NORMAL };
    let kinds: Vec<i32> = (0..tokens.len()).map(kind).collect();
    writer
        .entry("tokenizer.ggml.model", &Entry::Text("gpt2"))
        .entry("tokenizer.ggml.pre", &Entry::Text("smollm"))
        .entry("tokenizer.ggml.tokens", &Entry::Texts(&tokens))
        .entry("tokenizer.ggml.token_type", &Entry::I32s(&kinds))
        .entry("tokenizer.ggml.merges", &Entry::Texts(&merges))
        .entry("tokenizer.ggml.bos_token_id", &Entry::U32(BEGIN))
        .entry("tokenizer.ggml.eos_token_id", &Entry::U32(END))
        .entry("tokenizer.ggml.add_bos_token", &Entry::Bool(false));
}

/// The character that stands for `byte`. Source: GPT-2's `bytes_to_unicode`: printable Latin-1
/// stands for itself, the others are numbered from 256 on.
fn byte_letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count() as u32;
    char::from_u32(256 + before).expect("256 to 323 are characters")
}

/// Adds tokens until there are `token_count`, each of them two earlier ones joined, and gives the
/// merges in order: a space with each letter, all pairs of letters, then longer pieces at random.
fn add_merges(
    tokens: &mut Vec<String>,
    token_count: usize,
    random: &mut ChaCha8Rng,
) -> Vec<String> {
    let letters: Vec<String> = ('a'..='z').map(String::from).collect();
    let space = byte_letter(b' ').to_string();
    let with_each_letter = |left: &String| {
        letters.iter().map(|right| (left.clone(), right.clone())).collect::<Vec<_>>()
    };
    let spaced = with_each_letter(&space);
    let mut pairs: Vec<_> = letters.iter().flat_map(with_each_letter).collect();
    // A small vocabulary gets some of the pairs, so these come in random order.
    for last in (1..pairs.len()).rev() {
        pairs.swap(last, random.next_u32() as usize % (last + 1));
    }
    let mut pieces = Pieces { inner: letters.clone(), leading: Vec::new() };
    let mut first = spaced.into_iter().chain(pairs);
    let mut known = BTreeSet::new();
    let mut merges = Vec::new();
    while tokens.len() < token_count {
        let (left, right) = first.next().unwrap_or_else(|| pieces.two(random));
        let joined = format!("{left}{right}");
        if LETTERS_MAX < joined.chars().count() || !known.insert(joined.clone()) {
            continue;
        }
        merges.push(format!("{left} {right}"));
        tokens.push(joined.clone());
        let list = if left.starts_with(&space) { &mut pieces.leading } else { &mut pieces.inner };
        list.push(joined);
    }
    merges
}

/// What can be joined: pieces inside of words, and pieces with a space before them.
struct Pieces {
    inner: Vec<String>,
    leading: Vec<String>,
}

impl Pieces {
    /// Two pieces to join; half of the time the left one begins a word.
    fn two(&self, random: &mut ChaCha8Rng) -> (String, String) {
        let leads = random.next_u32() & 1 == 0;
        let left = pick(if leads { &self.leading } else { &self.inner }, random);
        (left.to_string(), pick(&self.inner, random).to_string())
    }
}

/// One of the pieces, early and so short ones more often.
fn pick<'a>(from: &'a [String], random: &mut ChaCha8Rng) -> &'a str {
    let mut index = || random.next_u32() as usize % from.len();
    &from[index().min(index())]
}
