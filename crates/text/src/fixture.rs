//! A small vocabulary for tests: control tokens of several model families, all 256 bytes, and a
//! few merges.

use std::sync::Arc;

use crate::tokenizer::Tokenizer;
use crate::vocabulary::{Cutting, Merging, TextRules, TokenKind, TokenizerSpec, byte_alphabet};

/// Control tokens, from id 0.
pub(crate) const CONTROL: [&str; 10] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
];

/// User-defined tokens, after the control tokens.
pub(crate) const USER_DEFINED: [&str; 2] = ["<think>", "</think>"];

/// Id of byte 0; the other bytes follow.
pub(crate) const FIRST_BYTE: u32 = (CONTROL.len() + USER_DEFINED.len()) as u32;

/// Merges, the strongest first. Their results follow the bytes, in this order.
pub(crate) const MERGES: [&str; 8] =
    ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "Ã ©"];

/// A description with `bos` as its begin token and `end` as its end token.
pub(crate) fn spec(pre_tokenizer: &str, bos: &str, end: &str) -> TokenizerSpec {
    let mut tokens: Vec<String> = Vec::new();
    let mut kinds = Vec::new();
    let mut add = |spelling: String, kind| {
        tokens.push(spelling);
        kinds.push(kind);
    };
    CONTROL.iter().for_each(|token| add((*token).to_owned(), TokenKind::Control));
    USER_DEFINED.iter().for_each(|token| add((*token).to_owned(), TokenKind::UserDefined));
    byte_alphabet().iter().for_each(|c| add(c.to_string(), TokenKind::Normal));
    MERGES.iter().for_each(|merge| add(merge.replace(' ', ""), TokenKind::Normal));
    TokenizerSpec {
        bos: Some(id_of(bos)),
        end_tokens: vec![id_of(end)],
        tokens,
        kinds,
        merging: Merging::ByteLevel {
            merges: MERGES.map(String::from).to_vec(),
            pre_tokenizer: Cutting::Named(pre_tokenizer.to_owned()),
        },
        rules: TextRules::default(),
        add_bos: false,
        add_eos: false,
    }
}

/// The merges of [`spec`].
pub(crate) fn merges(spec: &mut TokenizerSpec) -> &mut Vec<String> {
    match &mut spec.merging {
        Merging::ByteLevel { merges, .. } => merges,
        _ => unreachable!("the fixture is byte-level"),
    }
}

/// The tokenizer of [`spec`] in the style of ChatML models.
pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    let spec = spec("smollm", "<|im_start|>", "<|im_end|>");
    Arc::new(Tokenizer::new(spec).expect("the fixture is valid"))
}

/// Id of a control token.
pub(crate) fn id_of(control: &str) -> u32 {
    CONTROL.iter().position(|token| *token == control).expect("in the fixture") as u32
}

/// Id of a single byte.
pub(crate) fn byte_id(byte: u8) -> u32 {
    FIRST_BYTE + u32::from(byte)
}

/// Id of the result of the merge at `index`.
pub(crate) fn merge_id(index: usize) -> u32 {
    FIRST_BYTE + 256 + index as u32
}
