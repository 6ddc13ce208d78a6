use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use proptest::prelude::*;
use serde_json::Value;

use super::Unigram;
use crate::normalization::{Normalization, Parts};
use crate::sentence_piece::{Place, token_bytes};
use crate::tokenizer::{ControlTokens, Tokenizer};
use crate::vocabulary::{
    Merging, SpacePrefix, TextRules, TokenKind, TokenizerError, TokenizerSpec, UnigramSpec,
    Vocabulary,
};

/// A text with its ids.
type Case = (String, Vec<u32>);

/// Of each model of `fixtures/tokenizers/unigram.json` its description, and texts with the ids that the
/// SentencePiece library gives. The file's script says how they were made.
fn models() -> Vec<(TokenizerSpec, Vec<Case>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizers/unigram.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let models: Value = serde_json::from_str(&text).unwrap();
    models.as_array().unwrap().iter().map(|model| (spec(model), cases(model))).collect()
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(read).collect()
}

fn spec(model: &Value) -> TokenizerSpec {
    use TokenKind::{Byte, Control, Normal, Unknown, Unused, UserDefined};
    let table = BASE64_STANDARD.decode(model["charsmap"].as_str().unwrap()).unwrap();
    let mut normalization = Vec::new();
    if !table.is_empty() {
        normalization.push(Normalization::Charsmap { table, parts: Parts::Longest });
    }
    if model["remove_extra_whitespaces"].as_bool().unwrap() {
        normalization.push(Normalization::OneSpace);
    }
    let kinds = list(&model["kinds"], |kind| {
        [Normal, Unknown, Control, UserDefined, Unused, Byte][kind.as_u64().unwrap() as usize - 1]
    });
    let scores = list(&model["scores"], |score| score.as_f64().unwrap());
    let normal = scores.iter().zip(&kinds).filter(|(_, kind)| **kind == Normal);
    let least = normal.map(|(score, _)| *score).fold(f64::INFINITY, f64::min);
    let has_prefix = model["space_prefix"].as_bool().unwrap();
    TokenizerSpec {
        tokens: list(&model["tokens"], |token| token.as_str().unwrap().to_owned()),
        merging: Merging::Unigram(UnigramSpec {
            scores,
            unknown: kinds.iter().position(|kind| *kind == Unknown).unwrap() as u32,
            unknown_score: least - 10.0,
            normalization,
            space_prefix: if has_prefix { SpacePrefix::EachText } else { SpacePrefix::Nowhere },
            cuts_at_spaces: false,
            bytes_are_text: false,
        }),
        kinds,
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
        assert!(tokenizer.unspelt_bytes().is_empty());
        for (text, expected) in cases {
            let ids = tokenizer.encode(&text, ControlTokens::AsText).expect("encodes");
            assert_eq!(ids, expected, "{text:?}");
            let fits = tokenizer.encode_within(&text, ControlTokens::AsText, expected.len());
            assert_eq!(fits.expect("fits"), expected, "{text:?}");
            if let Some(less) = expected.len().checked_sub(1) {
                let short = tokenizer.encode_within(&text, ControlTokens::AsText, less);
                assert!(matches!(short, Err(TokenizerError::TextTooLong { .. })), "{text:?}");
            }
        }
    }
}

#[test]
fn control_tokens_in_messages_stay_text() {
    for (spec, _) in models() {
        let unknown = spec.kinds.iter().position(|kind| *kind == TokenKind::Unknown).unwrap();
        let tokenizer = Tokenizer::new(spec).expect("valid");
        let ids = tokenizer.encode("a</s>b <s>", ControlTokens::AsText).expect("encodes");
        let is_text = |&id: &u32| id as usize == unknown || !tokenizer.is_control(id);
        assert!(ids.iter().all(is_text), "{ids:?}");
        let ids = tokenizer.encode("a</s>b", ControlTokens::Parse).expect("encodes");
        assert!(ids.contains(&2), "{ids:?}");
    }
}

/// As llama.cpp and the tokenizers library have it. SentencePiece puts and merges spaces over the whole text, and gives
/// `▁a ▁ <think> ▁b` and `▁ x <think> y`.
#[test]
fn text_is_cut_at_user_defined_tokens_before_spaces_are_put_and_merged() {
    let (mut spec, _) = models().remove(0);
    (spec.tokens[400], spec.kinds[400]) = ("<think>".to_owned(), TokenKind::UserDefined);
    let tokenizer = Tokenizer::new(spec).expect("valid");
    let encode = |text: &str| tokenizer.encode(text, ControlTokens::AsText).expect("encodes");
    for (text, parts) in [
        ("a <think> b", ["a", "b"]),
        ("x<think>y", ["x", "y"]),
        ("  the  of <think>   of  the  ", ["the of", "of the"]),
        ("<think>", ["", ""]),
        (" <think> ", ["", ""]),
    ] {
        let [before, behind] = parts.map(encode);
        assert_eq!(encode(text), [before, vec![400], behind].concat(), "{text:?}");
    }
}

fn unigram(change: impl FnOnce(&mut TokenizerSpec, &mut UnigramSpec)) -> TokenizerSpec {
    let (mut spec, _) = models().remove(1);
    let Merging::Unigram(mut model) = spec.merging else { panic!("the fixture is unigram") };
    spec.merging = Merging::Unigram(model.clone());
    change(&mut spec, &mut model);
    spec.merging = Merging::Unigram(model);
    spec
}

#[test]
fn hostile_vocabularies_are_refused() {
    let refusal = |change: fn(&mut TokenizerSpec, &mut UnigramSpec)| {
        Tokenizer::new(unigram(change)).expect_err("refused").to_string()
    };
    for (change, expected) in [
        (
            (|_, model| model.scores.truncate(3)) as fn(&mut TokenizerSpec, &mut UnigramSpec),
            "the vocabulary has 760 tokens but 3 scores; they must be equal",
        ),
        (|_, model| model.scores[7] = f64::NAN, "the score of token 7 is not a number"),
        (|_, model| model.scores[8] = f64::NEG_INFINITY, "the score of token 8 is not a number"),
        (
            |_, model| model.unknown = 760,
            "the unknown token is 760, but the vocabulary has only 760 tokens (ids from 0)",
        ),
        (
            |spec, _| spec.tokens[500] = "x".repeat(1_025),
            "token 500 has 1025 bytes, the limit is 1024",
        ),
        (
            |spec, _| spec.kinds.fill(TokenKind::Control),
            "the vocabulary has no token of ordinary text",
        ),
        (
            |_, model| {
                let (table, parts) = (vec![9, 0, 0, 0], Parts::Longest);
                model.normalization.push(Normalization::Charsmap { table, parts });
            },
            "the table of replacements (precompiled_charsmap) is malformed: its trie is cut off",
        ),
    ] {
        assert_eq!(refusal(change), expected);
    }
}

#[test]
fn empty_and_repeated_tokens_and_extreme_scores_make_no_panic() {
    let spec = unigram(|spec, model| {
        for (id, score) in model.scores.iter_mut().enumerate() {
            *score = [f64::MAX, f64::MIN, 0.0, -0.0][id % 4];
        }
        for id in (600..700).filter(|&id| spec.kinds[id] == TokenKind::Normal) {
            spec.tokens[id] = ["", "e", "▁"][id % 3].to_owned();
        }
    });
    let tokenizer = Tokenizer::new(spec).expect("valid");
    for (text, _) in models().remove(1).1 {
        let ids = tokenizer.encode(&text, ControlTokens::AsText).expect("encodes");
        assert_eq!(crate::decode(&tokenizer, &ids, true), text.replace('▁', " "));
    }
}

#[test]
fn a_large_vocabulary_and_long_texts_of_one_letter_are_encoded() {
    let spec = unigram(|spec, model| {
        for number in 0..1 << 17 {
            spec.tokens.push(format!("a{number:x}b"));
            spec.kinds.push(TokenKind::Normal);
            model.scores.push(-15.0);
        }
    });
    let tokenizer = Tokenizer::new(spec).expect("valid");
    for (letter, bytes) in [("a", 4 << 20), (" ", 1 << 18), ("☃", 1 << 18), ("e\u{301}", 1 << 18)]
    {
        let text = letter.repeat(bytes / letter.len());
        let ids = tokenizer.encode(&text, ControlTokens::AsText).expect("encodes");
        assert!(crate::decode(&tokenizer, &ids, false) == text, "{letter}");
    }
}

/// The greatest sum of scores of all ways to cut `text`, by trying all tokens at each place.
fn best_sum(tokens: &[(&str, f64)], unknown: f64, text: &str) -> f64 {
    let mut sums = vec![f64::NEG_INFINITY; text.len() + 1];
    sums[0] = 0.0;
    for (start, character) in text.char_indices() {
        let rest = &text[start..];
        let mut reach = |bytes: usize, score: f64| {
            sums[start + bytes] = sums[start + bytes].max(sums[start] + score);
        };
        tokens
            .iter()
            .filter(|(token, _)| rest.starts_with(token))
            .for_each(|(token, score)| reach(token.len(), *score));
        reach(character.len_utf8(), unknown);
    }
    sums[text.len()]
}

proptest! {
    #[test]
    fn no_way_to_cut_a_text_has_a_greater_sum(
        scores in prop::collection::vec(-8i32..0, 10),
        text in "[abé▁x]{1,30}",
    ) {
        // Scores are small integers, whose sums are exact.
        let spellings = ["a", "b", "ab", "ba", "abab", "é", "éa", "▁", "▁a", "bbé▁a"];
        let tokens: Vec<(&str, f64)> =
            spellings.into_iter().zip(scores.iter().map(|&score| f64::from(score))).collect();
        let mut all: Vec<String> = spellings.map(str::to_owned).into();
        all.push("<unk>".to_owned());
        let mut kinds = vec![TokenKind::Normal; spellings.len()];
        kinds.push(TokenKind::Unknown);
        let vocabulary = Vocabulary::new(all, kinds, token_bytes).expect("valid");
        let model = Unigram::new(&vocabulary, UnigramSpec {
            scores: tokens.iter().map(|(_, score)| *score).chain([0.0]).collect(),
            unknown: 10,
            unknown_score: -18.0,
            normalization: Vec::new(),
            space_prefix: SpacePrefix::Nowhere,
            cuts_at_spaces: false,
            bytes_are_text: false,
        }).expect("valid");
        let (mut sum, mut rest) = (0.0, text.as_str());
        model.each_token(&text, Place::Within, &mut |id| {
            if let Some((spelling, score)) = tokens.get(id as usize) {
                sum += score;
                rest = rest.strip_prefix(spelling).expect("the text has these tokens in order");
            } else {
                let known = rest.find(|c| c != 'x').unwrap_or(rest.len());
                sum -= 18.0 * known as f64;
                rest = &rest[known..];
            }
            Ok(())
        }).expect("encodes");
        prop_assert_eq!(rest, "");
        prop_assert_eq!(sum, best_sum(&tokens, -18.0, &text));
    }
}
