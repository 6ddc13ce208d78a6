//! Settings as other versions of the transformers library write them.

use model::config::ModelConfig;
use model::rope::RopeScaling;
use serde_json::{Value, json};

use crate::spoilt::Copy;

fn config_of(name: &str, change: impl FnOnce(&mut Value)) -> ModelConfig {
    Copy::of(name).config(change).open().config.clone()
}

/// Takes the settings of version 5 away and puts those of version 4.
fn older(config: &mut Value, settings: Value) {
    config.as_object_mut().unwrap().remove("rope_parameters").unwrap();
    for (key, value) in settings.as_object().unwrap() {
        config[key] = value.clone();
    }
}

#[test]
fn rotary_settings_of_version_4_mean_the_same() {
    let scaling = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64, "rope_type": "llama3"});
    let llama3 = json!({"rope_theta": 10000.0, "rope_scaling": scaling});
    let yarn = json!({"rope_theta": 10000, "rope_scaling":
        {"type": "yarn", "factor": 4, "original_max_position_embeddings": 64}});
    let gemma = json!({"rope_theta": 1000000, "rope_local_base_freq": 10000,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}});
    let phi = json!({"rope_theta": 10000.0, "rope_scaling": null, "partial_rotary_factor": 0.75});
    for (name, settings) in [
        ("llama3", llama3),
        ("llama-yarn", yarn),
        ("gemma3", gemma),
        ("phi3", phi),
        ("qwen3moe", json!({"rope_theta": 1000000, "num_local_experts": null, "num_experts": 4})),
        // The default.
        ("mistral", json!({})),
    ] {
        let newer = Copy::of(name).open().config.clone();
        assert_eq!(config_of(name, |config| older(config, settings)), newer, "{name}");
    }
}

#[test]
fn divisors_of_llama_3_are_those_of_the_gguf_file() {
    let read = |path: &std::path::Path| {
        let mut file = model::file::ModelFile::open(path).unwrap();
        let mut bytes = Vec::new();
        file.read_tensor("rope_freqs.weight", &mut bytes).unwrap();
        bytes.chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect()
    };
    let folder: Vec<f32> = read(Copy::of("llama3").path());
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families");
    let file: Vec<f32> = read(&fixtures.join("llama3.gguf"));
    assert_eq!(folder.len(), file.len());
    for (found, expected) in folder.iter().zip(&file) {
        assert!((found / expected - 1.0).abs() < 1e-5, "{folder:?} {file:?}");
    }
    assert!(folder.contains(&1.0) && folder.iter().any(|&divisor| 7.9 < divisor));
}

#[test]
fn an_attention_factor_takes_the_place_of_the_usual_one() {
    let config = config_of("llama-yarn", |config| {
        config["rope_parameters"]["attention_factor"] = json!(1.0);
    });
    let Some(RopeScaling::Yarn { magnitude, .. }) = config.rope.map(|rope| rope.scaling) else {
        panic!("it is YaRN");
    };
    assert!((magnitude * (0.1 * 4.0_f32.ln() + 1.0) - 1.0).abs() < 1e-6, "{magnitude}");
}

#[test]
fn windows_are_those_of_the_layers_that_have_them() {
    let window = |change: Value| {
        let copy = Copy::of("qwen2");
        copy.config(|config| {
            change.as_object().unwrap().iter().for_each(|(k, v)| config[k] = v.clone())
        });
        copy
    };
    let off = window(json!({"sliding_window": 8, "use_sliding_window": false}));
    assert_eq!(off.open().config.window, None);
    let on = window(json!({"sliding_window": 8, "use_sliding_window": true}));
    on.assert_refused(&["`sliding_window`: 8", "use_sliding_window false"]);
    let some = window(json!({"layer_types": ["full_attention", "sliding_attention"]}));
    some.assert_refused(&["`layer_types`", "\"sliding_attention\" for layer 1"]);
    let copy = Copy::of("gemma3");
    copy.config(|config| config["layer_types"][0] = json!("full_attention"));
    copy.assert_refused(&["`layer_types`", "layer 0", "`sliding_attention`"]);
}

#[test]
fn scores_are_scaled_as_gemma_says() {
    let config = config_of("gemma3", |config| config["query_pre_attn_scalar"] = json!(64));
    assert_eq!(config.attention_scale, 0.125);
}

#[test]
fn end_tokens_and_template_come_from_the_first_file_that_has_them() {
    let copy = Copy::of("mistral");
    copy.json("generation_config.json", |file| file["eos_token_id"] = json!([5, 0, 7]));
    let file = copy.open();
    assert_eq!(file.tokenizer.end_tokens, [0, 5, 7]);
    assert!(file.chat_template.unwrap().contains("<|end|>"));

    std::fs::remove_file(copy.file("chat_template.jinja")).unwrap();
    std::fs::remove_file(copy.file("generation_config.json")).unwrap();
    copy.config(|config| config["eos_token_id"] = json!(9));
    let templates =
        json!([{"name": "other", "template": "x"}, {"name": "default", "template": "y"}]);
    copy.json("tokenizer_config.json", |file| {
        file["eos_token"] = json!({"content": "!", "special": true});
        file["bos_token"] = json!("#");
        file["add_bos_token"] = json!(true);
        file["chat_template"] = templates;
    });
    let file = copy.open();
    assert_eq!(file.tokenizer.end_tokens, [2, 9]);
    assert_eq!((file.tokenizer.bos, file.tokenizer.add_bos), (Some(4), true));
    assert_eq!(file.chat_template.as_deref(), Some("y"));
    copy.json("tokenizer_config.json", |file| file["chat_template"] = json!(3));
    copy.assert_refused(&["tokenizer_config.json", "`chat_template`", "3"]);
}

#[test]
fn how_tokens_are_chosen_is_taken_from_the_generation_config() {
    let file = "generation_config.json";
    let copy = Copy::of("mistral");
    assert_eq!(copy.open().sampling, sampling::SamplingRequest::default());
    copy.json(file, |file| {
        file["do_sample"] = json!(true);
        (file["temperature"], file["top_p"], file["top_k"]) = (json!(0.7), json!(0.8), json!(20));
        (file["min_p"], file["repetition_penalty"]) = (json!(0), json!(1.05));
    });
    let found = copy.open().sampling;
    assert_eq!((found.temperature, found.top_p, found.top_k), (0.7, 0.8, 20));
    assert_eq!((found.min_p, found.repetition_penalty), (0.0, 1.05));
    for (key, value, part) in [
        ("temperature", json!(-1), "-1"),
        ("top_p", json!(0), "`top_p` is 0"),
        ("top_k", json!(1.5), "1.5"),
        ("min_p", json!("a"), "a number"),
        ("repetition_penalty", json!(1e40), "inf"),
    ] {
        let copy = Copy::of("mistral");
        copy.json(file, |file| file[key] = value).assert_refused(&[file, key, part]);
    }
}

#[test]
fn a_folder_of_the_bare_model_has_names_without_prefix() {
    let copy = Copy::of("gpt2");
    let before = copy.open().parameter_count();
    copy.weights("model.safetensors", |weights| {
        let header = std::mem::take(&mut weights.header);
        let bare = |name: String| name.trim_start_matches("transformer.").to_string();
        weights.header = header.into_iter().map(|(name, entry)| (bare(name), entry)).collect();
        // A mask that older versions save.
        weights.push("h.0.attn.bias", "U8", &[1, 1, 2, 2], &[1, 0, 1, 1]);
    });
    assert_eq!(copy.open().parameter_count(), before);
}
