//! The tokens before and behind a prompt, where `tokenizer.json` and `tokenizer_config.json` both name some.

use serde_json::{Value, json};

use crate::spoilt::Copy;

const SETTINGS: &str = "tokenizer_config.json";

/// A folder whose post-processor puts the token 2, `!`, before a prompt, and behind it if `is_behind`.
fn with_prefix(is_behind: bool) -> Copy {
    let token = json!({"SpecialToken": {"id": "!", "type_id": 0}});
    let mut pieces = vec![token.clone(), json!({"Sequence": {"id": "A", "type_id": 0}})];
    pieces.extend(is_behind.then_some(token));
    let copy = Copy::of("mistral");
    copy.json("tokenizer.json", |file| {
        file["post_processor"] = json!({"type": "TemplateProcessing", "single": pieces, "pair": [],
            "special_tokens": {"!": {"id": "!", "ids": [2], "tokens": ["!"]}}});
    });
    copy
}

fn bos_of(copy: &Copy, settings: &[(&str, Value)]) -> (Option<u32>, bool) {
    copy.json(SETTINGS, |file| settings.iter().for_each(|(key, value)| file[*key] = value.clone()));
    let tokenizer = copy.open().tokenizer;
    (tokenizer.bos, tokenizer.add_bos)
}

#[test]
fn prompts_begin_with_the_token_of_the_post_processor() {
    let copy = with_prefix(false);
    for bos in [Value::Null, json!("!"), json!({"content": "!"}), json!(""), json!("<nobody>")] {
        assert_eq!(bos_of(&copy, &[("bos_token", bos.clone())]), (Some(2), true), "{bos}");
    }
    copy.json(SETTINGS, |file| file["bos_token"] = json!("#"));
    copy.assert_refused(&[SETTINGS, "bos_token is \"#\" (4)", "\"!\" (2)", "tokenizer.json"]);
    // For the template alone.
    assert_eq!(bos_of(&copy, &[("add_bos_token", json!(false))]), (Some(4), false));
    copy.json(SETTINGS, |file| file["add_bos_token"] = json!("yes"));
    copy.assert_refused(&[SETTINGS, "`add_bos_token`", "true or false"]);
}

#[test]
fn a_token_behind_prompts_is_the_post_processors_or_refused() {
    let add = |copy: &Copy| {
        copy.json(SETTINGS, |file| file["add_eos_token"] = json!(true));
    };
    let copy = with_prefix(false);
    add(&copy);
    copy.assert_refused(&[SETTINGS, "add_eos_token is true", "puts none behind"]);
    let copy = with_prefix(true);
    add(&copy);
    assert!(copy.open().tokenizer.add_eos);
}

#[test]
fn an_empty_text_names_no_token() {
    let copy = Copy::of("mistral");
    // A place of the embedding that no token has.
    copy.json("tokenizer.json", |file| {
        let (vocab, last) = (file["model"]["vocab"].as_object_mut().unwrap(), json!(95));
        vocab.retain(|_, id| *id != last);
    });
    copy.json("generation_config.json", |file| file["eos_token_id"] = json!(0));
    let empty = [("bos_token", json!("")), ("eos_token", json!(""))];
    assert_eq!(bos_of(&copy, &empty), (None, false));
    let tokenizer = copy.open().tokenizer;
    assert!(tokenizer.tokens.iter().any(String::is_empty));
    assert_eq!(tokenizer.end_tokens, [0]);
}
