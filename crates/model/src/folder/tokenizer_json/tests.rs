use std::path::Path;

use proptest::prelude::*;
use serde_json::json;
use text::{ControlTokens, Tokenizer, decode};

use super::*;

/// The forms of `fixtures/tokenizers/hub.json`.
fn forms() -> Map<String, Value> {
    fixture("hub.json")
}

fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizers").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The number of ids of a file.
fn vocabulary(file: &Value) -> usize {
    let listed = match &file["model"]["vocab"] {
        // A list has ids by place.
        Value::Array(list) => list.len(),
        vocab => vocab.as_object().unwrap().len(),
    };
    let added = file["added_tokens"].as_array().unwrap().iter();
    let added = added.map(|token| token["id"].as_u64().unwrap() as usize + 1);
    added.chain([listed]).max().unwrap()
}

fn read_spec(file: &Value) -> Result<TokenizerSpec, LoadError> {
    // A few free places, as embeddings have them.
    spec(parse(&file.to_string())?, vocabulary(file) + 3)
}

fn ids(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn texts_have_the_ids_of_the_library() {
    for (name, form) in forms() {
        let tokenizer = Tokenizer::new(read_spec(&form["tokenizer"]).unwrap()).unwrap();
        let tokenizer = std::sync::Arc::new(tokenizer);
        for case in form["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let found = tokenizer.encode(text, ControlTokens::Parse).unwrap();
            assert_eq!(found, ids(&case["ids"]), "{name}: {text:?}");
            assert_eq!(
                tokenizer.encode_prompt(text).unwrap(),
                ids(&case["prompt"]),
                "{name}: {text:?}"
            );
            let decoded = case["decoded"].as_str().unwrap();
            assert_eq!(decode(&tokenizer, &found, true), decoded, "{name}: {text:?}");
        }
    }
}

#[test]
fn between_added_tokens_texts_have_the_ids_of_the_library() {
    let added: Value = fixture("added.json");
    for (name, form) in forms() {
        let tokenizer = Tokenizer::new(read_spec(&form["tokenizer"]).unwrap()).unwrap();
        let texts = added["texts"].as_array().unwrap();
        for (text, expected) in texts.iter().zip(added["ids"][&name].as_array().unwrap()) {
            let found = tokenizer.encode(text.as_str().unwrap(), ControlTokens::Parse).unwrap();
            assert_eq!(found, ids(expected), "{name}: {text}");
        }
    }
}

#[test]
fn a_pattern_is_the_text_or_the_expression_that_it_is_said_to_be() {
    for change in fixture::<Vec<Value>>("replace.json") {
        let mut file =
            forms().remove(change["form"].as_str().unwrap()).unwrap()["tokenizer"].take();
        *file.pointer_mut(change["place"].as_str().unwrap()).unwrap() = change["steps"].clone();
        let spec = read_spec(&file);
        if change["is_same"] == false {
            let error = spec.expect_err("other ids").to_string();
            assert!(error.contains("normalizer"), "{error}");
            continue;
        }
        let tokenizer = Tokenizer::new(spec.unwrap()).unwrap();
        for case in change["cases"].as_array().unwrap() {
            let found = tokenizer.encode(case["text"].as_str().unwrap(), ControlTokens::Parse);
            assert_eq!(found.unwrap(), ids(&case["ids"]), "{}: {case}", change["steps"]);
        }
    }
}

#[test]
fn control_tokens_in_messages_stay_text() {
    for (name, form) in forms() {
        let tokenizer = Tokenizer::new(read_spec(&form["tokenizer"]).unwrap()).unwrap();
        let text = "a<|end|>b <s>";
        let found = tokenizer.encode(text, ControlTokens::AsText).unwrap();
        let is_text =
            |&id: &u32| !tokenizer.is_control(id) || form["tokenizer"]["model"]["unk_id"] == id;
        assert!(found.iter().all(is_text), "{name}: {found:?}");
        // Without bytes signs may be unknown.
        if name != "unigram" {
            assert_eq!(decode(&tokenizer, &found, true).trim_start(), text, "{name}");
        }
    }
}

/// Changes a good file of the form `name` and gives the refusal.
fn refused(name: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut file = forms().remove(name).unwrap()["tokenizer"].take();
    let vocabulary = vocabulary(&file) + 3;
    change(&mut file);
    let spec = parse(&file.to_string()).and_then(|described| spec(described, vocabulary));
    match spec.map(Tokenizer::new) {
        Ok(Ok(_)) => panic!("{name} is accepted"),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let steps = |part: &'static str, steps: Value| move |file: &mut Value| file[part] = steps;
    let many: Vec<Value> = (0..20).map(|_| json!({"type": "NFC"})).collect();
    let lower = json!({"type": "Lowercase"});
    let cases: [(String, &[&str]); 14] = [
        (refused("gpt2", steps("normalizer", lower.clone())), &["normalizer", "Lowercase", "NFC"]),
        (refused("gemma", steps("normalizer", lower)), &["normalizer", "Lowercase"]),
        (refused("gemma", steps("normalizer", Value::Null)), &["pre_tokenizer", "Split"]),
        (
            refused("qwen2", steps("normalizer", json!({"type": "Sequence", "normalizers": many}))),
            &["normalizer", "at most 16"],
        ),
        (
            refused("gpt2", steps("pre_tokenizer", json!({"type": "ByteLevel"}))),
            &["pre_tokenizer", "add_prefix_space false"],
        ),
        (refused("gpt2", steps("decoder", json!({"type": "CTC"}))), &["decoder", "CTC"]),
        (
            refused("gpt2", steps("post_processor", json!({"type": "BertProcessing"}))),
            &["post_processor", "BertProcessing"],
        ),
        (
            refused("gpt2", |f| f["model"]["type"] = json!("WordPiece")),
            &["model.type", "WordPiece"],
        ),
        (refused("gpt2", |f| f["model"]["dropout"] = json!(0.1)), &["model.dropout", "0.1"]),
        (refused("gpt2", |f| f["model"]["vocab"]["a"] = json!(1 << 30)), &["\"a\"", "1073741824"]),
        (refused("gpt2", |f| f["model"]["vocab"]["a"] = json!(3)), &["id of its own"]),
        (
            refused("gpt2", |f| f["added_tokens"][0]["lstrip"] = json!(true)),
            &["\"<s>\"", "lstrip true"],
        ),
        (refused("gpt2", |f| f["model"]["merges"][0] = json!(["q", "\u{3b1}"])), &["merge 0"]),
        (
            refused("qwen2", |f| {
                f["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("(")
            }),
            &["pattern", "\"(\""],
        ),
    ];
    for (error, parts) in cases {
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
    }
}

#[test]
fn what_is_not_understood_of_a_unigram_model_is_refused_by_name() {
    let cases: [(String, &[&str]); 7] = [
        (refused("unigram", |f| f["model"]["unk_id"] = Value::Null), &["model.unk_id", "none"]),
        (refused("unigram", |f| f["model"]["unk_id"] = json!(1 << 30)), &["1073741824"]),
        (
            refused("unigram", |f| {
                f["normalizer"]["normalizers"][0]["precompiled_charsmap"] = json!("AAAB")
            }),
            &["precompiled_charsmap", "less than 4 bytes"],
        ),
        (
            refused("unigram", |f| {
                f["normalizer"]["normalizers"][2]["pattern"]["Regex"] = json!(" +")
            }),
            &["normalizer", " +"],
        ),
        (
            refused("llm-jp", |f| {
                drop(f["normalizer"]["normalizers"].as_array_mut().unwrap().remove(1))
            }),
            &["normalizer", "taken away again"],
        ),
        (
            refused("llm-jp", |f| {
                f["normalizer"]["normalizers"].as_array_mut().unwrap().push(json!({"type": "NFKC"}))
            }),
            &["normalizer", "before those that put"],
        ),
        (
            refused("mistral", |f| f["pre_tokenizer"]["split"] = json!(true)),
            &["pre_tokenizer", "without split"],
        ),
    ];
    for (error, parts) in cases {
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
    }
}

#[test]
fn a_pattern_that_steps_back_for_ever_fails_a_text_and_nothing_else() {
    let mut file = forms().remove("qwen2").unwrap()["tokenizer"].take();
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] =
        json!(r"(?:(a|b|ab)*(?=c))|\s+");
    let tokenizer = Tokenizer::new(read_spec(&file).unwrap()).unwrap();
    let long = "ab".repeat(20_000);
    let error = tokenizer.encode(&long, ControlTokens::AsText).unwrap_err();
    assert!(error.to_string().contains("run"), "{error}");
    assert_eq!(tokenizer.encode("d", ControlTokens::AsText).unwrap().len(), 1);
}

#[test]
fn tokens_beyond_the_embedding_are_left_out_and_free_places_spell_nothing() {
    let mut file = forms().remove("gpt2").unwrap()["tokenizer"].take();
    let count = vocabulary(&file) + 3;
    file["added_tokens"].as_array_mut().unwrap().push(json!({"id": count, "content": "<image>"}));
    let spec = spec(parse(&file.to_string()).unwrap(), count).unwrap();
    assert_eq!(spec.tokens.len(), count);
    assert_eq!(spec.kinds[count - 3..], [TokenKind::Unused; 3]);
    let tokenizer = Tokenizer::new(spec).unwrap();
    assert_eq!(tokenizer.token_bytes(count as u32 - 1), Some(&[][..]));
}

#[test]
fn spoiled_files_never_panic() {
    let wholes = ["mistral", "llm-jp", "unigram"]
        .map(|name| forms().remove(name).unwrap()["tokenizer"].to_string().into_bytes());
    let whole = prop::sample::select(wholes.to_vec());
    let byte = prop::sample::select(b"0a\"{}[],:\\n\xff".to_vec());
    let changes = prop::collection::vec((any::<prop::sample::Index>(), byte), 1..=3);
    fuzz::check(900, &(whole, changes).prop_map(Spoiled::new), |Spoiled(bytes)| {
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        let Ok(spec) = parse(&text).and_then(|described| spec(described, 905)) else {
            return Ok(());
        };
        if let Ok(tokenizer) = Tokenizer::new(spec) {
            let ids = tokenizer.encode("Hello w\u{f6}rld", ControlTokens::Parse).unwrap();
            prop_assert!(ids.iter().all(|&id| id < 905));
        }
        Ok(())
    });
}

/// A file, shown as text.
struct Spoiled(Vec<u8>);

impl Spoiled {
    fn new((mut bytes, changes): (Vec<u8>, Vec<(prop::sample::Index, u8)>)) -> Spoiled {
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        Spoiled(bytes)
    }
}

impl std::fmt::Debug for Spoiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}
