//! A vocabulary in which id `b` is the byte `b`, and two control tokens follow.

use text::{Cutting, Merging, TextRules, TokenKind, Tokenizer, TokenizerSpec};

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
