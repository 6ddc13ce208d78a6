//! Folders as people have them: what other versions and other programs write is read, or refused with what to do.

use std::fs;

use serde_json::{Value, json};

use crate::spoilt::Copy;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer_config.json";
const GENERATION: &str = "generation_config.json";

/// Puts these values into a file of settings; `"-"` takes a key away.
fn put(copy: &Copy, file: &str, values: &Value) {
    copy.json(file, |settings| {
        let settings = settings.as_object_mut().unwrap();
        for (key, value) in values.as_object().unwrap() {
            settings.insert(key.clone(), value.clone());
            settings.retain(|_, value| *value != "-");
        }
    });
}

#[test]
fn what_says_nothing_new_changes_nothing() {
    let long = json!({"rope_type": "default", "rope_theta": 10000.0});
    let decoder = json!({"0": {"content": "<|end|>", "lstrip": false, "normalized": false,
        "rstrip": false, "single_word": false, "special": true}});
    for (name, file, values) in [
        ("mistral", CONFIG, json!({"torch_dtype": "bfloat16", "dtype": "-"})),
        ("mistral", CONFIG, json!({"dtype": null, "torch_dtype": null, "pad_token_id": null})),
        ("mistral", CONFIG, json!({"rope_scaling": null, "quantization_config": null})),
        ("mistral", CONFIG, json!({"rope_parameters": null, "rope_theta": 10000})),
        ("mistral", CONFIG, json!({"rope_parameters": "-", "rope_scaling": {"type": "default"}})),
        ("mistral", CONFIG, json!({"rope_scaling": long, "rope_parameters": long})),
        ("mistral", CONFIG, json!({"tie_word_embeddings": "-", "hidden_act": null})),
        ("mistral", CONFIG, json!({"tie_word_embeddings": null, "layer_types": null})),
        ("mistral", CONFIG, json!({"architectures": null, "auto_map": {"AutoConfig": "x.Y"}})),
        ("mistral", CONFIG, json!({"bos_token_id": null, "eos_token_id": null})),
        ("gemma3", CONFIG, json!({"tie_word_embeddings": "-", "query_pre_attn_scalar": null})),
        ("gemma3", CONFIG, json!({"layer_types": "-", "sliding_window_pattern": 6})),
        ("qwen2", CONFIG, json!({"sliding_window": 4096, "use_sliding_window": false})),
        (
            "qwen2",
            CONFIG,
            json!({"num_experts": null, "head_dim": null, "max_window_layers": null}),
        ),
        ("mistral", TOKENIZER, json!({"added_tokens_decoder": decoder, "model_max_length": 1e30})),
        ("mistral", TOKENIZER, json!({"pad_token": null, "unk_token": null, "bos_token": null})),
        ("mistral", TOKENIZER, json!({"tokenizer_class": "LlamaTokenizerFast", "legacy": false})),
        ("mistral", GENERATION, json!({"temperature": null, "top_p": null, "top_k": null})),
        ("mistral", GENERATION, json!({"pad_token_id": [0, 1], "max_length": 4096})),
    ] {
        let usual = Copy::of(name).open();
        let copy = Copy::of(name);
        put(&copy, file, &values);
        let found = copy.open();
        assert_eq!(found.config, usual.config, "{name} with {values}");
        assert_eq!(found.sampling, usual.sampling, "{name} with {values}");
        assert_eq!(found.tokenizer.end_tokens, usual.tokenizer.end_tokens, "{name} with {values}");
        assert_eq!(found.chat_template, usual.chat_template, "{name} with {values}");
    }
}

#[test]
fn ways_of_quantising_that_are_not_computed_are_refused_by_name() {
    let of = |values: Value| json!({"quantization_config": values});
    for (values, parts) in [
        (
            of(json!({"quant_method": "gptq", "bits": 4})),
            ["quant_method`: \"gptq\"", "a GGUF file"],
        ),
        (of(json!({"quant_method": "awq", "bits": 4})), ["quant_method`: \"awq\"", "a GGUF file"]),
        (of(json!({"quant_method": "bitsandbytes"})), ["\"bitsandbytes\"", "a GGUF file"]),
        (
            of(json!({"load_in_4bit": true})),
            ["`quantization_config`: {\"load_in_4bit\":true", "GGUF"],
        ),
        (of(json!({"quant_method": "mxfp4"})), ["\"mxfp4\"", "a GGUF file"]),
        (
            of(json!({"quant_method": "compressed-tensors", "format": "pack-quantized"})),
            ["quantization_config.format`: \"pack-quantized\"", "a GGUF file"],
        ),
        (of(json!("fp8")), ["`quantization_config`: \"fp8\"", "a quant_method"]),
        (json!({"quantization": {"bits": 4}}), ["`quantization`: {\"bits\":4}", "a GGUF file"]),
    ] {
        let copy = Copy::of("mistral");
        put(&copy, CONFIG, &values);
        copy.assert_refused(&parts);
    }
    // As GPTQ wrote them before config.json had a place for that.
    for packed in ["qweight", "weight_packed"] {
        let copy = Copy::of("mistral");
        copy.weights("model.safetensors", |weights| {
            let ours = "model.layers.0.self_attn.q_proj";
            let entry = weights.header.remove(&format!("{ours}.weight")).unwrap();
            weights.header.insert(format!("{ours}.{packed}"), entry);
        });
        copy.assert_refused(&["self_attn.q_proj.weight", packed, "GPTQ", "GGUF"]);
    }
}

#[test]
fn what_would_be_computed_otherwise_is_refused() {
    for (name, file, values, parts) in [
        (
            "gemma3",
            CONFIG,
            json!({"layer_types": "-", "sliding_window_pattern": 2, "_sliding_window_pattern": "-"}),
            ["`sliding_window_pattern`: 2", "6"],
        ),
        (
            "gemma3",
            CONFIG,
            json!({"_sliding_window_pattern": 3}),
            ["`_sliding_window_pattern`: 3", "6"],
        ),
        ("mistral", CONFIG, json!({"model_type": "-"}), ["`model_type`", "missing"]),
        (
            "mistral",
            CONFIG,
            json!({"model_type": "gemma3"}),
            ["`model_type`: \"gemma3\"", "`gemma3_text`"],
        ),
        (
            "mistral",
            CONFIG,
            json!({"tie_word_embeddings": "false"}),
            ["tie_word_embeddings", "true or false"],
        ),
        (
            "mistral",
            CONFIG,
            json!({"rope_parameters": {"rope_type": "mrope", "rope_theta": 1e4}}),
            ["rope_type`: \"mrope\"", "`yarn`"],
        ),
        (
            "mistral",
            CONFIG,
            json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
            ["`rope_scaling`: {\"rope_type\":\"yarn\"", "put it in there"],
        ),
        (
            "mistral",
            GENERATION,
            json!({"eos_token_id": [0, 96]}),
            ["eos_token_id is 96", "below 96"],
        ),
        (
            "mistral",
            GENERATION,
            json!({"eos_token_id": "</s>"}),
            ["eos_token_id is \"</s>\"", "an id"],
        ),
    ] {
        let copy = Copy::of(name);
        put(&copy, file, &values);
        copy.assert_refused(&parts);
    }
}

#[test]
fn templates_in_a_list_are_known_by_their_names() {
    let template = |name: &str, text: &str| json!({"name": name, "template": text});
    for (templates, expected) in [
        (json!([template("tool_use", "x"), template("default", "y")]), Some("y")),
        (json!([template("tool_use", "x")]), None),
        (json!([]), None),
    ] {
        let copy = Copy::of("mistral");
        fs::remove_file(copy.file("chat_template.jinja")).unwrap();
        put(&copy, TOKENIZER, &json!({"chat_template": templates}));
        assert_eq!(copy.open().chat_template.as_deref(), expected, "{templates}");
    }
}

#[test]
fn a_folder_without_a_file_says_where_it_comes_from() {
    for other in ["tokenizer.model", "vocab.json"] {
        let copy = Copy::of("mistral");
        fs::rename(copy.file("tokenizer.json"), copy.file(other)).unwrap();
        copy.assert_refused(&["has no tokenizer.json", "from_pretrained(FOLDER, use_fast=True)"]);
    }
    let copy = Copy::of("mistral");
    fs::rename(copy.file(CONFIG), copy.file("adapter_config.json")).unwrap();
    copy.assert_refused(&["has no config.json", "an adapter", "--lora"]);
}
