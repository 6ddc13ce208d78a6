//! The default model's tokenizer, as its file describes it, against llama.cpp's.
//!
//! `fixtures/reference/README.md` says how the reference was made.

use std::path::Path;

use model::file::ModelFile;
use serde_json::Value;
use text::{ControlTokens, Tokenizer};

fn ids(list: &Value) -> Vec<u32> {
    let number = |id: &Value| id.as_u64().expect("an id") as u32;
    list.as_array().expect("a list of ids").iter().map(number).collect()
}

#[test]
fn every_reference_text_gives_the_reference_ids() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/reference/smollm2_tokens.json");
    let json = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let reference: Value = serde_json::from_str(&json).expect("the fixture is JSON");
    let model = catalogue::fetch("smollm2-135m", &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let file = ModelFile::open(&model).unwrap_or_else(|error| panic!("{error}"));
    let tokenizer = Tokenizer::new(file.tokenizer).expect("the default model's tokenizer");
    let cases = reference["cases"].as_array().expect("a list of cases");
    assert_eq!(cases.len(), 140);
    for case in cases {
        let text = case["text"].as_str().expect("a text");
        for (control, key) in
            [(ControlTokens::AsText, "ids"), (ControlTokens::Parse, "ids_with_special")]
        {
            let found = tokenizer.encode(text, control).expect("a text that can be encoded");
            assert_eq!(found, ids(&case[key]), "{key} of {text:?}");
        }
    }
}

#[test]
fn the_default_models_file_says_what_its_makers_published() {
    let model = catalogue::fetch("smollm2-135m", &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let mut file = ModelFile::open(&model).unwrap_or_else(|error| panic!("{error}"));
    let config = &file.config;
    assert_eq!((config.layer_count, config.hidden_size, config.intermediate_size), (30, 576, 1536));
    assert_eq!((config.head_count, config.kv_head_count, config.head_dim), (9, 3, 64));
    assert_eq!((config.vocab_size, config.context_length), (49_152, 8192));
    assert_eq!(config.rope.as_ref().map(|rope| rope.theta), Some(1e5));
    assert_eq!((config.norm_eps, config.tied_head()), (1e-5, true));
    assert_eq!((file.tokenizer.bos, file.tokenizer.add_bos), (Some(1), false));
    assert_eq!(file.tokenizer.end_tokens, [2]);
    assert_eq!(file.parameter_count(), 134_515_008);
    assert!(file.chat_template.as_ref().expect("a template").contains("<|im_start|>"));
    assert!(file.description().contains("210 Q4_1 (66.4 MB)"), "{}", file.description());
    let names: Vec<String> = file.tensors().iter().map(|tensor| tensor.name.clone()).collect();
    let mut bytes = Vec::new();
    for name in names {
        file.read_tensor(&name, &mut bytes).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(bytes.len() as u64, file.tensor(&name).expect("listed").size);
    }
}
