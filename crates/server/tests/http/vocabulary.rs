//! A vocabulary in which id `b` is the byte `b`, and two control tokens follow.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use text::{
    Cutting, Merging, Normalization, Parts, SpacePrefix, TextRules, TokenKind, Tokenizer,
    TokenizerSpec, UnigramSpec,
};

/// `<|end|>`: ends an answer.
pub const END: u32 = 256;
/// `<|turn|>`: steers.
pub const TURN: u32 = 257;
/// Number of ids.
pub const LEN: u32 = 258;

/// The tokenizer.
pub fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<String> = alphabet().iter().map(char::to_string).collect();
    let mut kinds = vec![TokenKind::Normal; tokens.len()];
    for control in ["<|end|>", "<|turn|>"] {
        tokens.push(control.to_owned());
        kinds.push(TokenKind::Control);
    }
    let spec = TokenizerSpec {
        tokens,
        kinds,
        merging: Merging::ByteLevel {
            merges: Vec::new(),
            pre_tokenizer: Cutting::Named("gpt-2".to_owned()),
        },
        rules: TextRules::default(),
        bos: None,
        add_bos: false,
        add_eos: false,
        end_tokens: vec![END],
    };
    Tokenizer::new(spec).expect("a complete byte-level vocabulary")
}

/// A tokenizer that brings signs into their usual form, by the table that models of SentencePiece have: one
/// of three bytes may become eighteen letters. All letters are unknown to it.
pub fn normalizing() -> Tokenizer {
    let models = include_str!("../../../../fixtures/tokenizers/unigram.json");
    let models: Value = serde_json::from_str(models).expect("valid");
    let table = models[0]["charsmap"].as_str().expect("a table");
    let table = BASE64_STANDARD.decode(table).expect("valid");
    let spec = TokenizerSpec {
        tokens: ["<unk>", "<|end|>", "▁"].map(str::to_owned).into(),
        kinds: vec![TokenKind::Unknown, TokenKind::Control, TokenKind::Normal],
        merging: Merging::Unigram(UnigramSpec {
            scores: vec![0.0; 3],
            unknown: 0,
            unknown_score: -10.0,
            normalization: vec![Normalization::Charsmap { table, parts: Parts::Longest }],
            space_prefix: SpacePrefix::Nowhere,
            cuts_at_spaces: true,
            bytes_are_text: false,
        }),
        rules: TextRules::default(),
        bos: None,
        add_bos: false,
        add_eos: false,
        end_tokens: vec![1],
    };
    Tokenizer::new(spec).expect("a vocabulary that spells spaces")
}

/// GPT-2's character for each byte: printable Latin-1 bytes stand for themselves, the others for
/// the characters from U+0100 on, in order.
fn alphabet() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let byte = byte as u32;
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable {
            byte
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).expect("below the surrogates")
    })
}
