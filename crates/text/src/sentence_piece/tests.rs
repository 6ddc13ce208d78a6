use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::{SentencePiece, token_bytes};
use crate::sentence_piece::Place;
use crate::tokenizer::{ControlTokens, Tokenizer};
use crate::vocabulary::{
    Merging, SpacePrefix, TextRules, TokenKind, TokenizerError, TokenizerSpec, Vocabulary,
};

/// A text with its ids.
type Case = (String, Vec<u32>);

/// Of each model of `fixtures/tokenizers/sentence_piece.json` its description, and texts with the ids
/// that the SentencePiece library gives. The file's script says how they were made.
fn models() -> Vec<(TokenizerSpec, Vec<Case>)> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizers/sentence_piece.json");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let models: Value = serde_json::from_str(&text).unwrap();
    models.as_array().unwrap().iter().map(|model| (spec(model), cases(model))).collect()
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(read).collect()
}

fn spec(model: &Value) -> TokenizerSpec {
    TokenizerSpec {
        tokens: list(&model["tokens"], |token| token.as_str().unwrap().to_owned()),
        kinds: list(&model["kinds"], |kind| match kind.as_u64().unwrap() {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            6 => TokenKind::Byte,
            other => panic!("kind {other}"),
        }),
        merging: Merging::SentencePiece {
            scores: list(&model["scores"], |score| score.as_f64().unwrap() as f32),
            space_prefix: model["space_prefix"].as_bool().unwrap(),
        },
        rules: TextRules::default(),
        bos: Some(1),
        add_bos: true,
        add_eos: false,
        end_tokens: vec![2],
    }
}

fn cases(model: &Value) -> Vec<Case> {
    let ids = |case: &Value| list(&case["ids"], |id| id.as_u64().unwrap() as u32);
    list(&model["cases"], |case| (case["text"].as_str().unwrap().to_owned(), ids(case)))
}

#[test]
fn texts_have_the_ids_of_the_library() {
    for (spec, cases) in models() {
        let tokenizer = Tokenizer::new(spec).expect("valid");
        for (text, expected) in cases {
            let ids = tokenizer.encode(&text, ControlTokens::AsText).expect("encodes");
            assert_eq!(ids, expected, "{text:?}");
            let prompt = tokenizer.encode_prompt_within(&text, expected.len() + 1);
            if !text.contains("<s>") {
                assert_eq!(prompt.expect("fits"), [&[1][..], &expected].concat(), "{text:?}");
            }
            let short = tokenizer.encode_within(&text, ControlTokens::AsText, expected.len() - 1);
            assert!(matches!(short, Err(TokenizerError::TextTooLong { .. })), "{text:?}");
        }
    }
}

#[test]
fn a_space_stands_before_text_at_the_start_and_behind_control_tokens_alone() {
    let (spec, _) = models().remove(0);
    let tokenizer = Tokenizer::new(spec).expect("valid");
    let encode = |text: &str| tokenizer.encode(text, ControlTokens::Parse).expect("encodes");
    let word = encode("the");
    assert_eq!(encode("<s>the"), [&[1][..], &word].concat());
    assert_eq!(crate::decode(&tokenizer, &word, true), " the");
}

fn spoiled(change: impl Fn(&mut TokenizerSpec)) -> String {
    let (mut spec, _) = models().remove(1);
    change(&mut spec);
    Tokenizer::new(spec).expect_err("refused").to_string()
}

#[test]
fn hostile_vocabularies_are_refused() {
    let with_scores = |change: fn(&mut Vec<f32>)| {
        move |spec: &mut TokenizerSpec| match &mut spec.merging {
            Merging::SentencePiece { scores, .. } => change(scores),
            _ => unreachable!("the fixture is SentencePiece's"),
        }
    };
    let message = spoiled(with_scores(|scores| scores.truncate(3)));
    assert_eq!(message, "the vocabulary has 640 tokens but 3 scores; they must be equal");
    let message = spoiled(with_scores(|scores| scores[7] = f32::NAN));
    assert_eq!(message, "the score of token 7 is not a number");
    for byte in ["", "<0x>", "<0xGG>", "<0x123>", "<0x+1>", "A"] {
        let message = spoiled(|spec| spec.tokens[4] = byte.to_owned());
        assert!(message.starts_with("token 4 is a byte token spelt"), "{message}");
    }
    let message = spoiled(|spec| spec.kinds.fill(TokenKind::Control));
    assert_eq!(message, "the vocabulary has no token of ordinary text");
}

#[test]
fn infinite_and_equal_scores_make_no_panic() {
    let (mut spec, cases) = models().remove(1);
    if let Merging::SentencePiece { scores, .. } = &mut spec.merging {
        for (id, score) in scores.iter_mut().enumerate() {
            *score = [f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0][id % 4];
        }
    }
    let tokenizer = Tokenizer::new(spec).expect("valid");
    for (text, _) in cases {
        let ids = tokenizer.encode(&text, ControlTokens::AsText).expect("encodes");
        assert_eq!(crate::decode(&tokenizer, &ids, true), text.replace('▁', " "));
    }
}

/// Merges the best pair, the leftmost of equal ones, until there is none: by looking at all each time.
fn merged_slowly(pieces: &SentencePiece, text: &str) -> Vec<String> {
    let mut parts: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let pairs = parts.windows(2).enumerate().filter_map(|(left, pair)| {
            pieces.tokens.get(&pair.concat()).map(|&(_, score)| (score, left))
        });
        let best = pairs.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        let Some((_, left)) = best else { return parts };
        let right = parts.remove(left + 1);
        parts[left].push_str(&right);
    }
}

/// Tokens of three characters, with one more.
fn few_characters(inner: &str) -> SentencePiece {
    let tokens = ["a", "b", "▁", "aa", "ab", "ba", "▁a", "▁▁", "aab", "bab", "▁ab", inner];
    let scores = [0.0, 0.0, 0.0, -1.0, -2.0, -2.0, -1.0, -3.0, -1.5, -0.5, -2.0, -0.5];
    let kinds = vec![TokenKind::Normal; tokens.len()];
    let tokens = tokens.map(str::to_owned).into();
    let vocabulary = Vocabulary::new(tokens, kinds, token_bytes).expect("valid");
    SentencePiece::new(&vocabulary, &scores, SpacePrefix::Nowhere).expect("valid")
}

proptest! {
    #[test]
    fn what_is_merged_is_what_looking_at_all_pairs_merges(text in "[ab▁]{1,40}", crosses: bool) {
        let pieces = few_characters(if crosses { "b▁" } else { "bb" });
        prop_assert_eq!(pieces.has_inner_spaces, crosses);
        let slowly = merged_slowly(&pieces, &text);
        prop_assert_eq!(pieces.merged(&text).texts().collect::<Vec<_>>(), slowly.clone());
        let mut ids = Vec::new();
        pieces.each_token(&text, Place::Within, &mut |id| { ids.push(id); Ok(()) }).expect("encodes");
        let expected: Vec<u32> = slowly.iter().map(|part| pieces.tokens[part].0).collect();
        prop_assert_eq!(ids, expected);
    }

    #[test]
    fn any_text_goes_through_and_back(text in "[ -~éß日🙂\\n\\t]{0,60}") {
        let (spec, _) = models().remove(1);
        let tokenizer = Tokenizer::new(spec).expect("valid");
        let ids = tokenizer.encode(&text, ControlTokens::AsText).expect("encodes");
        prop_assert_eq!(crate::decode(&tokenizer, &ids, true), text);
    }
}
