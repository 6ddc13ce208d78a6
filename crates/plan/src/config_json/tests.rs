//! Parameters are those that the makers publish; hostile files are refused by name.

use std::slice;

use super::*;

/// A configuration of only the keys that count.
fn config(model_type: &str, numbers: &[(&str, u64)], others: &[(&str, Value)]) -> String {
    let mut config = Map::new();
    config.insert("model_type".into(), model_type.into());
    config.insert("torch_dtype".into(), "bfloat16".into());
    config.extend(numbers.iter().map(|&(key, value)| (key.to_string(), value.into())));
    config.extend(others.iter().map(|(key, value)| (key.to_string(), value.clone())));
    Value::Object(config).to_string()
}

/// Numbers in the order of Llama's keys: width, feed-forward, layers, heads, key heads,
/// vocabulary, positions.
fn llama_like(model_type: &str, numbers: [u64; 7], others: &[(&str, Value)]) -> String {
    let keys = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "max_position_embeddings",
    ];
    let numbers: Vec<(&str, u64)> = keys.into_iter().zip(numbers).collect();
    config(model_type, &numbers, others)
}

fn llama_8b(others: &[(&str, Value)]) -> String {
    llama_like("llama", [4096, 14336, 32, 32, 8, 128_256, 131_072], others)
}

fn gpt2() -> String {
    let numbers = [
        ("n_embd", 768),
        ("n_layer", 12),
        ("n_head", 12),
        ("vocab_size", 50_257),
        ("n_positions", 1024),
        ("n_ctx", 1024),
    ];
    config("gpt2", &numbers, &[("n_inner", Value::Null)])
}

/// Fails unless each configuration has the parameters that were published.
#[track_caller]
fn check_published(models: &[(&str, String, u64)]) {
    for (name, text, published) in models {
        let shape = shape(name, text).unwrap();
        assert_eq!(shape.parameters(), *published, "{name}");
        assert_eq!(shape.weight_bytes(), 2 * published, "{name}");
        assert_eq!(shape.notes, [""; 0], "{name}");
    }
}

/// Each model's own config.json gives the numbers; the counts are those in the metadata of its
/// safetensors files, as its page on the Hugging Face hub shows them (gpt2's without the buffers
/// for masks that its file holds).
#[test]
fn parameters_are_those_that_were_published() {
    let yes = Value::Bool(true);
    let tied = ("tie_word_embeddings", yes.clone());
    let head = |size: u64| ("head_dim", Value::from(size));
    let models = [
        (
            "SmolLM2-135M",
            llama_like("llama", [576, 1536, 30, 9, 3, 49_152, 8192], slice::from_ref(&tied)),
            134_515_008,
        ),
        ("Llama-3.1-8B", llama_8b(&[]), 8_030_261_248),
        (
            "Llama-3.2-1B",
            llama_like("llama", [2048, 8192, 16, 32, 8, 128_256, 131_072], slice::from_ref(&tied)),
            1_235_814_400,
        ),
        ("gpt2", gpt2(), 124_439_808),
        (
            "Qwen2.5-7B",
            llama_like("qwen2", [3584, 18_944, 28, 28, 4, 152_064, 131_072], &[]),
            7_615_616_512,
        ),
        (
            "Qwen2.5-0.5B",
            llama_like("qwen2", [896, 4864, 24, 14, 2, 151_936, 32_768], slice::from_ref(&tied)),
            494_032_768,
        ),
        (
            "Qwen3-0.6B",
            llama_like("qwen3", [1024, 3072, 28, 16, 8, 151_936, 40_960], &[tied, head(128)]),
            596_049_920,
        ),
        (
            "Mistral-7B-v0.1",
            llama_like("mistral", [4096, 14336, 32, 32, 8, 32_000, 32_768], &[]),
            7_241_732_096,
        ),
        (
            "Phi-3-mini-4k",
            llama_like("phi3", [3072, 8192, 32, 32, 32, 32_064, 4096], &[]),
            3_821_079_552,
        ),
        (
            "gemma-2b",
            llama_like("gemma", [2048, 16_384, 18, 8, 1, 256_000, 8192], &[head(256)]),
            2_506_172_416,
        ),
        (
            "gemma-2-2b",
            llama_like("gemma2", [2304, 9216, 26, 8, 4, 256_000, 8192], &[head(256)]),
            2_614_341_888,
        ),
        (
            "gemma-3-1b-it",
            llama_like("gemma3_text", [1152, 6912, 26, 4, 1, 262_144, 32_768], &[head(256)]),
            999_885_952,
        ),
    ];
    check_published(&models);
}

/// As above, for mixtures of experts.
#[test]
fn parameters_of_all_experts_are_counted() {
    let head = |size: u64| ("head_dim", Value::from(size));
    let models = [
        (
            "Mixtral-8x7B-v0.1",
            llama_like(
                "mixtral",
                [4096, 14_336, 32, 32, 8, 32_000, 32_768],
                &[("num_local_experts", 8.into()), ("num_experts_per_tok", 2.into())],
            ),
            46_702_792_704,
        ),
        (
            "Qwen3-30B-A3B",
            llama_like(
                "qwen3_moe",
                [2048, 6144, 48, 32, 4, 151_936, 40_960],
                &[
                    ("num_experts", 128.into()),
                    ("num_experts_per_tok", 8.into()),
                    ("moe_intermediate_size", 768.into()),
                    ("mlp_only_layers", Value::from([0_u8; 0].as_slice())),
                    ("decoder_sparse_step", 1.into()),
                    head(128),
                ],
            ),
            30_532_122_624,
        ),
        (
            "Qwen1.5-MoE-A2.7B",
            llama_like(
                "qwen2_moe",
                [2048, 5632, 24, 16, 16, 151_936, 8192],
                &[
                    ("num_experts", 60.into()),
                    ("num_experts_per_tok", 4.into()),
                    ("moe_intermediate_size", 1408.into()),
                    ("shared_expert_intermediate_size", 5632.into()),
                ],
            ),
            14_315_784_192,
        ),
    ];
    check_published(&models);
}

/// Fails unless the configuration is refused with all `parts`.
#[track_caller]
fn assert_refused(text: &str, parts: &[&str]) {
    let error = shape("x", text).expect_err("it is wrong").to_string();
    for part in parts {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
}

#[test]
fn hostile_numbers_are_refused_by_name() {
    for (key, value, limit) in [
        ("hidden_size", Value::from(0), "1 to 262144"),
        ("hidden_size", Value::from(u64::MAX), "1 to 262144"),
        ("num_hidden_layers", Value::from(-1), "1 to 1024"),
        ("num_hidden_layers", Value::from(1e30), "1 to 1024"),
        ("intermediate_size", Value::from(14336.5), "whole number"),
        ("num_attention_heads", Value::from("32"), "1 to 4096"),
        ("num_attention_heads", Value::from(31), "a divisor of the width, 4096"),
        ("num_key_value_heads", Value::from(7), "a divisor of the number of heads, 32"),
        ("vocab_size", Value::from([1, 2].as_slice()), "1 to 16777216"),
        ("head_dim", Value::from(1_u64 << 40), "1 to 1024"),
        ("tie_word_embeddings", Value::from("no"), "true or false"),
        ("model_type", Value::from(7), "a text"),
    ] {
        let value_text = value.to_string();
        let parts = [limit, value_text.as_str()];
        assert_refused(&llama_8b(&[(key, value)]), &parts);
    }
    assert_refused("[1]", &["config.json", "object"]);
    assert_refused("{", &["config.json cannot be read", "line 1"]);
    assert_refused(&"[".repeat(100_000), &["recursion limit"]);
    let missing = llama_8b(&[("vocab_size", Value::Null)]);
    assert_refused(&missing, &["config.json has no vocab_size", "the vocabulary"]);
}

#[test]
fn what_would_change_the_sums_is_refused_and_what_is_switched_off_is_not() {
    for (key, value, part) in [
        ("num_local_experts", Value::from(8), "experts but those"),
        ("n_routed_experts", Value::from(64), "experts of this sort"),
        ("kv_lora_rank", Value::from(512), "latent attention"),
        ("is_encoder_decoder", Value::from(true), "encoder"),
        ("layer_types", Value::from(["full_attention", "mamba"].as_slice()), "without attention"),
    ] {
        let value_text = if key == "layer_types" { "mamba".into() } else { value.to_string() };
        assert_refused(&llama_8b(&[(key, value)]), &[key, part, &value_text, "give", "dense"]);
    }
    let off = [
        ("num_local_experts", Value::from(0)),
        ("kv_lora_rank", Value::Null),
        ("is_encoder_decoder", Value::from(false)),
    ];
    assert_eq!(shape("x", &llama_8b(&off)).unwrap().notes, [""; 0]);
}

#[test]
fn a_token_is_multiplied_with_the_experts_that_it_takes() {
    let numbers = [4096, 14_336, 32, 32, 8, 32_000, 32_768];
    let with = |count: u64, used: u64| {
        let others = [("num_local_experts", count.into()), ("num_experts_per_tok", used.into())];
        shape("x", &llama_like("mixtral", numbers, &others))
    };
    let mixture = with(8, 2).unwrap();
    let expert = 32 * 3 * 4096 * 14_336;
    assert_eq!(mixture.layer_elements() - mixture.layer_matrices(), 6 * expert);
    assert_eq!(with(1, 1).unwrap().parameters(), 7_241_732_096);
    for (count, used, part) in [(8, 9, "1 to 8"), (8, 0, "1 to 1024"), (1 << 20, 2, "0 to 1024")] {
        let error = with(count, used).expect_err("no such mixture").to_string();
        assert!(error.contains(part), "{error}");
    }
    let some_dense = [
        ("num_experts", Value::from(8)),
        ("num_experts_per_tok", Value::from(2)),
        ("mlp_only_layers", Value::from([0].as_slice())),
    ];
    assert_refused(&llama_like("qwen3_moe", numbers, &some_dense), &["num_experts is 8", "every"]);
}

#[test]
fn an_unknown_type_is_counted_like_llama_and_says_so() {
    let numbers = [4096, 14336, 32, 32, 8, 128_256, 131_072];
    let untied = ("tie_word_embeddings", Value::from(false));
    let novel = |activation: &str| {
        let others = [untied.clone(), ("hidden_act", activation.into())];
        shape("x", &llama_like("novel", numbers, &others)).unwrap()
    };
    assert_eq!(novel("silu").parameters(), 8_030_261_248);
    assert!(novel("silu").notes[0].contains("`novel`"), "{:?}", novel("silu").notes);
    let fewer = 32 * 4096 * 14336;
    assert_eq!(novel("gelu_new").parameters(), 8_030_261_248 - fewer);
    assert!(novel("gelu_new").notes[0].contains("two matrices"));
}

#[test]
fn biases_that_are_switched_on_are_counted() {
    let yes = Value::Bool(true);
    let more =
        |key| shape("x", &llama_8b(&[(key, yes.clone())])).unwrap().parameters() - 8_030_261_248;
    assert_eq!(more("attention_bias"), 32 * (4096 + 2 * 1024 + 4096));
    assert_eq!(more("mlp_bias"), 32 * (2 * 14336 + 4096));
}

#[test]
fn quantised_weights_are_counted_as_such() {
    let with = |quantised: Value| {
        shape("x", &llama_8b(&[("quantization_config", quantised)])).map(|shape| shape.weights)
    };
    let method = |name: &str, bits: u64| serde_json::json!({ "quant_method": name, "bits": bits });
    assert_eq!(with(method("awq", 4)).unwrap(), Weights::Typed(WeightsDtype::Int4));
    assert_eq!(with(method("gptq", 8)).unwrap(), Weights::Typed(WeightsDtype::Int8));
    assert_eq!(with(method("fp8", 0)).unwrap(), Weights::Typed(WeightsDtype::Int8));
    let error = with(method("gptq", 3)).expect_err("three bits").to_string();
    assert!(error.contains("quantization_config") && error.contains("--weights-dtype"), "{error}");
}

#[test]
fn windows_and_types_that_are_assumed_are_noted() {
    let notes = |others: &[(&str, Value)]| shape("x", &llama_8b(others)).unwrap().notes.join(" ");
    assert!(notes(&[("sliding_window", 4096.into())]).contains("window of 4096"));
    let off = [("sliding_window", 4096.into()), ("use_sliding_window", false.into())];
    assert_eq!(notes(&off), "");
    assert!(notes(&[("torch_dtype", Value::Null)]).contains("16-bit floats are assumed"));
    assert!(notes(&[("torch_dtype", "float32".into())]).contains("32-bit"));
    assert_refused(&llama_8b(&[("torch_dtype", "float64".into())]), &["float64", "--weights"]);
}

#[test]
fn of_a_model_that_sees_the_text_part_is_read() {
    let inner: Value = serde_json::from_str(&llama_8b(&[])).unwrap();
    let text = serde_json::json!({ "model_type": "sees", "text_config": inner }).to_string();
    let shape = shape("x", &text).unwrap();
    assert_eq!(shape.parameters(), 8_030_261_248);
    assert!(shape.notes[0].contains("Only the text part"), "{:?}", shape.notes);
}
