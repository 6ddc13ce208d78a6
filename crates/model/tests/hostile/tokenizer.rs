//! What a well-formed file says of the tokenizer: kinds, lengths and ranges of its keys.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use model::gguf::ValueKind;
use serde_json::{Value, json};
use text::{ControlTokens, Merging, SpacePrefix, Tokenizer};

use crate::pieces::{accepted, any_value, array, number, refusal, refused, value, word, words};

#[test]
fn tokenizer_keys_are_refused_when_of_another_type_length_or_range() {
    use ValueKind::{Bool, Text};
    let integers = |kind: ValueKind| kind.name().contains(['u', 'i']) && kind.name().len() < 4;
    type Accepts = fn(ValueKind) -> bool;
    let scalars: [(&str, Accepts); 7] = [
        ("tokenizer.ggml.model", |kind| kind == Text),
        ("tokenizer.ggml.pre", |kind| kind == Text),
        ("tokenizer.chat_template", |kind| kind == Text),
        ("general.name", |kind| kind == Text),
        ("tokenizer.ggml.add_bos_token", |kind| kind == Bool),
        ("tokenizer.ggml.tokens", |_| false),
        ("tokenizer.ggml.token_type", |_| false),
    ];
    for kind in ValueKind::ALL {
        for (key, _) in scalars.iter().filter(|(_, right)| !right(kind)) {
            let message = refusal(|p| p.set(key, any_value(kind)));
            assert!(
                message.starts_with(&format!("metadata key `{key}`: the value is ")),
                "{message}"
            );
        }
        for name in ["bos", "eos", "eot", "eom"].into_iter().filter(|_| !integers(kind)) {
            let key = format!("tokenizer.ggml.{name}_token_id");
            let message = refusal(|p| p.set(&key, any_value(kind)));
            assert!(message.ends_with("expected an integer"), "{message}");
        }
        for key in ["tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type"] {
            let wanted = if key.ends_with("type") { ValueKind::I32 } else { Text };
            if kind == wanted || kind == ValueKind::Array {
                continue;
            }
            let items = vec![0; 4 * kind.min_bytes() as usize];
            let message = refusal(|p| p.set(key, array(kind, 4, &items)));
            assert!(
                message.starts_with(&format!("metadata key `{key}`: the value is ")),
                "{message}"
            );
        }
    }
    for count in [0, 3, 5] {
        let message = format!(
            "metadata key `tokenizer.ggml.token_type`: an array of {count} is refused, expected 4 \
             entries, one for each token"
        );
        let kinds = [1, 0, 0, 0].repeat(count);
        refused("kinds of another length", &message, |p| {
            p.set("tokenizer.ggml.token_type", array(ValueKind::I32, count as u64, &kinds));
        });
    }
    refused(
        "a kind that does not exist",
        "metadata key `tokenizer.ggml.token_type`: 7 for token 0 is refused, expected 1 to 6",
        |p| p.set("tokenizer.ggml.token_type", array(ValueKind::I32, 4, &[7, 0, 0, 0].repeat(4))),
    );
    for name in ["bos", "eos", "eot", "eom"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let message =
            format!("metadata key `{key}`: 4 is refused, expected below 4, the number of tokens");
        refused("an id beyond the vocabulary", &message, |p| p.set(&key, number(4)));
    }
}

#[test]
fn end_tokens_are_those_the_file_names_each_once() {
    let file = accepted("three names, two tokens", |p| {
        p.set("tokenizer.ggml.eot_token_id", number(3));
        p.set("tokenizer.ggml.eom_token_id", number(1));
    });
    assert_eq!(file.tokenizer.end_tokens, [1, 3]);
}

#[test]
fn a_begin_token_is_put_before_prompts_where_the_file_or_its_pre_tokenizer_says_so() {
    let add_bos = |pre: &str, key: Option<bool>| {
        accepted(pre, |p| {
            p.set("tokenizer.ggml.pre", word(pre));
            if let Some(add) = key {
                p.set("tokenizer.ggml.add_bos_token", value(ValueKind::Bool, &[u8::from(add)]));
            }
        })
        .tokenizer
        .add_bos
    };
    assert!(!add_bos("smollm", None));
    assert!(add_bos("smollm", Some(true)));
    assert!(add_bos("llama-bpe", None));
    assert!(!add_bos("llama-bpe", Some(false)));
    let message = refusal(|p| {
        p.remove("tokenizer.ggml.bos_token_id");
        p.set("tokenizer.ggml.add_bos_token", value(ValueKind::Bool, &[1]));
    });
    assert!(message.ends_with("expected tokenizer.ggml.bos_token_id beside it"), "{message}");
}

/// Makes the tokenizer of a file a model of `fixtures/tokenizers/unigram.json`, as llama.cpp's converter
/// writes it.
fn trained(p: &mut crate::pieces::Pieces, model: &Value) {
    let list = |key: &str| model[key].as_array().unwrap().iter();
    let tokens: Vec<&str> = list("tokens").map(|token| token.as_str().unwrap()).collect();
    let kinds = list("kinds").flat_map(|kind| (kind.as_i64().unwrap() as i32).to_le_bytes());
    let scores = list("scores").flat_map(|score| (score.as_f64().unwrap() as f32).to_le_bytes());
    let count = tokens.len() as u64;
    p.set("llama.vocab_size", number(count as u32));
    p.tensors.retain(|tensor| tensor.name != b"token_embd.weight");
    p.add("token_embd.weight", vec![32, count]);
    p.set("tokenizer.ggml.model", word("t5"));
    p.set("tokenizer.ggml.tokens", words(&tokens));
    p.set("tokenizer.ggml.token_type", array(ValueKind::I32, count, &kinds.collect::<Vec<_>>()));
    p.set("tokenizer.ggml.scores", array(ValueKind::F32, count, &scores.collect::<Vec<_>>()));
    let table = BASE64_STANDARD.decode(model["charsmap"].as_str().unwrap()).unwrap();
    if !table.is_empty() {
        let table = array(ValueKind::U8, table.len() as u64, &table);
        p.set("tokenizer.ggml.precompiled_charsmap", table);
    }
    for (key, said) in [
        ("add_space_prefix", "space_prefix"),
        ("remove_extra_whitespaces", "remove_extra_whitespaces"),
    ] {
        let is_so = u8::from(model[said].as_bool().unwrap());
        p.set(&format!("tokenizer.ggml.{key}"), value(ValueKind::Bool, &[is_so]));
    }
}

#[test]
fn texts_have_the_ids_of_the_library_that_trained_a_unigram_model() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizers/unigram.json");
    let models: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for model in models.as_array().unwrap() {
        let file = accepted("a trained model", |p| trained(p, model));
        let tokenizer = Tokenizer::new(file.tokenizer).unwrap();
        for case in model["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let ids = tokenizer.encode(text, ControlTokens::AsText).unwrap();
            assert_eq!(json!(ids), case["ids"], "{text:?}");
        }
    }
}

/// Makes the tokenizer of a file a unigram model.
fn unigram(p: &mut crate::pieces::Pieces, scores: &[f32]) {
    let bytes: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    p.set("tokenizer.ggml.model", word("t5"));
    p.set("tokenizer.ggml.scores", array(ValueKind::F32, scores.len() as u64, &bytes));
    p.set("tokenizer.ggml.unknown_token_id", number(0));
}

#[test]
fn a_unigram_model_is_read_and_what_is_wrong_with_it_is_said() {
    let usual = [-1.0, -2.0, -3.0, -4.0];
    let file = accepted("a unigram model", |p| unigram(p, &usual));
    let Merging::Unigram(model) = &file.tokenizer.merging else { panic!("it is unigram") };
    assert_eq!((model.unknown, model.space_prefix), (0, SpacePrefix::Nowhere));
    assert!(model.unknown_score <= -11.0 && model.normalization.is_empty());
    assert!(!file.tokenizer.add_bos && file.tokenizer.add_eos);
    assert!(file.description().contains("unigram"), "{}", file.description());
    let file = accepted("its rules for text", |p| {
        unigram(p, &usual);
        let table = array(ValueKind::I8, 5, &[0; 5]);
        p.set("tokenizer.ggml.precompiled_charsmap", table);
        p.set("tokenizer.ggml.remove_extra_whitespaces", value(ValueKind::Bool, &[1]));
        p.set("tokenizer.ggml.add_space_prefix", value(ValueKind::Bool, &[1]));
        p.set("tokenizer.ggml.add_eos_token", value(ValueKind::Bool, &[0]));
    });
    let Merging::Unigram(model) = &file.tokenizer.merging else { panic!("it is unigram") };
    assert_eq!((model.normalization.len(), model.space_prefix), (2, SpacePrefix::EachText));
    assert!(!file.tokenizer.add_eos);
    for (key, wrong, expected) in [
        ("scores", array(ValueKind::I32, 4, &[0; 16]), "expected an array of f32"),
        ("unknown_token_id", number(4), "expected below 4, the number of tokens"),
        ("precompiled_charsmap", word("x"), "expected an array of u8 or i8"),
        ("remove_extra_whitespaces", number(1), "expected a boolean"),
    ] {
        let message = refusal(|p| {
            unigram(p, &usual);
            p.set(&format!("tokenizer.ggml.{key}"), wrong);
        });
        assert!(message.contains(key) && message.ends_with(expected), "{message}");
    }
}
