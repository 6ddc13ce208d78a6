//! What reading hostile text takes beside the text, in a process of its own: resident memory is looked at.

use text::{
    ControlTokens, Cutting, Merging, Normalization, SpacePrefix, TextRules, TokenKind, Tokenizer,
    TokenizerError, TokenizerSpec, UnigramSpec,
};

const KIB: usize = 1 << 10;

fn tokenizer(tokens: Vec<String>, merging: Merging) -> Tokenizer {
    let kinds = vec![TokenKind::Normal; tokens.len()];
    let rules = TextRules::default();
    let spec = TokenizerSpec {
        tokens,
        kinds,
        merging,
        rules,
        bos: None,
        add_bos: false,
        add_eos: false,
        end_tokens: Vec::new(),
    };
    Tokenizer::new(spec).expect("valid")
}

/// One to 32 of `first` and "b" in turn. Of them those go first that are twice as long as the ones before,
/// so that pairs that are out of date wait for the end.
fn sentence_piece(first: char) -> Tokenizer {
    let pairs = |count: usize| format!("{first}b").repeat(count);
    let mut tokens = vec![first.to_string(), "b".to_owned(), format!("b{first}")];
    let mut scores = vec![0.0, 0.0, -99.0];
    for count in 1..=16 {
        tokens.extend([pairs(count), pairs(count) + &first.to_string()]);
        let score = if count.is_power_of_two() { -(count as f32) } else { -99.0 };
        scores.extend([score, -99.0]);
    }
    tokenizer(tokens, Merging::SentencePiece { scores, space_prefix: false })
}

/// Two letters, and 16 pairs of them, so that ids take little.
fn unigram(normalization: Vec<Normalization>) -> Tokenizer {
    let tokens = ["<unk>".to_owned(), "a".to_owned(), "b".to_owned(), "ab".repeat(16)].to_vec();
    let spec = UnigramSpec {
        scores: vec![-1.0; tokens.len()],
        unknown: 0,
        unknown_score: -11.0,
        normalization,
        space_prefix: SpacePrefix::Nowhere,
        cuts_at_spaces: false,
        bytes_are_text: false,
    };
    tokenizer(tokens, Merging::Unigram(spec))
}

/// Letters that are never merged.
fn byte_level() -> Tokenizer {
    let letters = ('a'..='z').map(String::from).collect();
    let pre_tokenizer = Cutting::Named("gpt-2".to_owned());
    tokenizer(letters, Merging::ByteLevel { merges: Vec::new(), pre_tokenizer })
}

/// A figure of this process's memory, in bytes.
fn memory(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a figure");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * KIB
}

/// The most bytes that were resident while `text` was read, beyond those before, for each of its bytes.
fn bytes_each(tokenizer: &Tokenizer, text: &str) -> f64 {
    // What was freed before may be used again; a second reading would not show it.
    let before = memory("VmRSS:");
    // The peak begins anew.
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux takes it");
    let read = tokenizer.encode_within(text, ControlTokens::AsText, text.len());
    let most = memory("VmHWM:");
    drop(read.expect("it is read"));
    (most.saturating_sub(before)) as f64 / text.len() as f64
}

/// `crates/server/src/limits.rs` counts with these figures.
#[test]
fn what_reading_takes_is_bounded_for_each_byte_of_the_text() {
    let taken = bytes_each(&sentence_piece('a'), &"ab".repeat(256 * KIB));
    // 27 of merging and 1 of the text as it is merged.
    assert!((20.0..30.0).contains(&taken), "{taken:.1} bytes for each letter");
    let taken = bytes_each(&sentence_piece('▁'), &" b".repeat(256 * KIB));
    // Spaces are spelt with three bytes.
    assert!(
        (20.0..31.0).contains(&taken),
        "{taken:.1} bytes for each letter, every other one a space"
    );
    // 4 of the best ways, and 1 of each text that a step leaves.
    let taken = bytes_each(&unigram(Vec::new()), &"ab".repeat(256 * KIB));
    assert!((4.0..6.0).contains(&taken), "{taken:.1} bytes for each letter of a unigram model");
    // Eleven times as long as written, which goes on to 16 MiB: 111 MiB of a text of 1.5.
    let nfkc = unigram(vec![Normalization::Nfkc]);
    let taken = bytes_each(&nfkc, &"\u{FDFA}".repeat(128 * KIB));
    assert!((65.0..90.0).contains(&taken), "{taken:.1} bytes for each byte that becomes eleven");
    let letters = "a".repeat(512 * KIB);
    let taken = bytes_each(&byte_level(), &letters[..256 * KIB]);
    assert!((60.0..128.0).contains(&taken), "{taken:.1} bytes for each byte of one piece");
    let pieces = "aaaaaaa ".repeat(64 * KIB);
    let taken = bytes_each(&byte_level(), &pieces);
    assert!(taken < 8.0, "{taken:.1} bytes for each byte of short pieces");
    let error = byte_level().encode(&letters, ControlTokens::AsText).expect_err("one piece");
    assert!(matches!(error, TokenizerError::PieceTooLong { .. }), "{error}");
}
