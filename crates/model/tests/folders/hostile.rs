//! Folders that lie, lack something or lead elsewhere: each is refused with file and value.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;

use model::file::ModelFile;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::spoilt::Copy;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const FIRST: &str = "model-00001-of-00003.safetensors";

#[test]
fn numbers_that_cannot_be_meant_are_refused_by_their_name_in_the_file() {
    for (key, value, parts) in [
        ("hidden_size", json!(0), ["`hidden_size`: 0", "1 to 1048576"]),
        ("hidden_size", json!(-64), ["`hidden_size`: -64", "0 to 4294967295"]),
        ("hidden_size", json!(1e30), ["`hidden_size`", "a whole number"]),
        ("hidden_size", json!("64"), ["`hidden_size`", "a whole number"]),
        (
            "num_hidden_layers",
            json!(1_000_000_000),
            ["`num_hidden_layers`: 1000000000", "1 to 1024"],
        ),
        ("num_hidden_layers", json!(3), ["model.layers.2.", "is missing"]),
        ("num_attention_heads", json!(3), ["`num_key_value_heads`: 2", "num_attention_heads, 3"]),
        ("head_dim", json!(31), ["the size of a head", "31"]),
        ("vocab_size", json!(1_u64 << 40), ["`vocab_size`: 1099511627776", "1 to 16777216"]),
        ("vocab_size", json!(0), ["`vocab_size`: 0", "1 to 16777216"]),
        ("vocab_size", json!(97), ["model.embed_tokens.weight", "[97, 64]"]),
        ("vocab_size", Value::Null, ["`vocab_size`", "missing"]),
        (
            "max_position_embeddings",
            json!(u64::MAX),
            ["`max_position_embeddings`", "18446744073709551615"],
        ),
        ("rms_norm_eps", json!(0), ["`rms_norm_eps`: 0", "above 0"]),
        ("intermediate_size", json!(128), ["mlp.gate_proj.weight", "[128, 64]"]),
        ("sliding_window", json!(1.5), ["`sliding_window`", "1.5"]),
        ("model_type", json!("mamba"), ["`model_type`: \"mamba\"", "`qwen3_moe`"]),
        ("model_type", json!("`llama`"), ["`model_type`: \"`llama`\"", "`llama`"]),
        ("model_type", json!(7), ["`model_type`: 7", "`llama`"]),
        ("tie_word_embeddings", json!("no"), ["`tie_word_embeddings`", "true or false"]),
        ("hidden_act", json!("gelu"), ["`hidden_act`: \"gelu\"", "\"silu\""]),
        ("is_encoder_decoder", json!(true), ["`is_encoder_decoder`: true", "false"]),
        ("layer_types", json!(["full_attention"]), ["`layer_types`", "a list of 1"]),
        ("eos_token_id", json!([0, 96]), ["`eos_token_id`", "96"]),
        (
            "quantization_config",
            json!({"quant_method": "gptq"}),
            ["quant_method`: \"gptq\"", "GGUF"],
        ),
        (
            "quantization_config",
            json!({"quant_method": "fp8", "weight_block_size": [0, 128]}),
            ["weight_block_size`: [0,128]", "1 to"],
        ),
    ] {
        let copy = Copy::of("mistral");
        copy.json("generation_config.json", |file| file["eos_token_id"] = Value::Null);
        copy.config(|config| config[key] = value);
        if key == "eos_token_id" {
            copy.assert_refused(&["config.json: eos_token_id is 96", "below 96"]);
        } else {
            copy.assert_refused(&parts);
        }
    }
}

#[test]
fn rotary_settings_that_cannot_be_meant_are_refused() {
    for (rope, parts) in [
        (json!({"rope_type": "default", "rope_theta": 0.0}), ["`rope_theta`: 0", "1 to 1e12"]),
        (json!({"rope_type": "dynamic", "factor": 2.0}), ["rope_type`: \"dynamic\"", "`yarn`"]),
        (json!({"rope_type": "linear"}), ["rope_parameters.factor", "missing"]),
        (json!({"rope_type": "linear", "factor": 0.5}), ["rope_parameters.factor`: 0.5", "1 to"]),
        (json!({"rope_type": "yarn", "factor": 2.0, "beta_fast": 16}), ["beta_fast`: 16", "32"]),
        (json!({"rope_type": "llama3", "factor": 8.0}), ["low_freq_factor", "missing"]),
        (json!({"rope_type": "longrope"}), ["original_max_position_embeddings", "whole number"]),
        (
            json!({"rope_type": "longrope", "original_max_position_embeddings": 64,
                "short_factor": [1.0, "x"], "long_factor": [1.0]}),
            ["short_factor", "a list of numbers"],
        ),
        (
            json!({"rope_type": "longrope", "original_max_position_embeddings": 64,
                "short_factor": [1.0], "long_factor": [1.0]}),
            ["rope_factors_short.weight", "a list of 1"],
        ),
        (json!([]), ["`rope_parameters`", "an object"]),
        (
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
                "high_freq_factor": 1.0, "original_max_position_embeddings": 64}),
            ["high_freq_factor`: 1", "low_freq_factor, 4"],
        ),
        (
            json!({"rope_type": "default", "partial_rotary_factor": 1.5}),
            ["`partial_rotary_factor`: 1.5", "at most 1"],
        ),
    ] {
        let copy = Copy::of("mistral");
        copy.config(|config| config["rope_parameters"] = rope).assert_refused(&parts);
    }
    // JSON has no NaN, though Python writes it.
    let copy = Copy::of("mistral");
    let text = fs::read_to_string(copy.file("config.json")).unwrap();
    fs::write(copy.file("config.json"), text.replace("10000.0", "NaN")).unwrap();
    copy.assert_refused(&["config.json", "line"]);
}

#[test]
fn weights_that_are_cut_or_lie_are_refused() {
    let whole = fs::read(Copy::of("mistral").file(WEIGHTS)).unwrap();
    for length in [0, 7, 8, 100, 3000, whole.len() / 2, whole.len() - 1] {
        let copy = Copy::of("mistral");
        fs::write(copy.file(WEIGHTS), &whole[..length]).unwrap();
        copy.assert_refused(&["model.safetensors: "]);
    }
    let copy = Copy::of("mistral");
    fs::write(copy.file(WEIGHTS), [&whole[..], &[0]].concat()).unwrap();
    copy.assert_refused(&["model.safetensors: ", "bytes of data"]);
    let norm = "model.norm.weight";
    for (change, parts) in [
        (json!({"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}), ["overlaps", "ends at"]),
        (json!({"dtype": "F16", "shape": [64], "data_offsets": [0, 256]}), [norm, "128 bytes"]),
    ] {
        let copy = Copy::of("mistral");
        copy.weights(WEIGHTS, |weights| weights.header[norm] = change).assert_refused(&parts);
    }
    let copy = Copy::of("mistral");
    copy.weights(WEIGHTS, |weights| {
        let entry = weights.header.remove(norm).unwrap();
        weights.header.insert("model.norm.scale".to_string(), entry);
    });
    copy.assert_refused(&[norm, "[64]", "is missing"]);
    let copy = Copy::of("mistral");
    copy.weights(WEIGHTS, |weights| weights.push("model.extra.weight", "F32", &[1], &[0; 4]));
    copy.assert_refused(&["model.safetensors", "model.extra.weight", "wrong text"]);
    let copy = Copy::of("mistral");
    copy.weights(WEIGHTS, |weights| {
        weights.rewrite(|name, dtype, bytes| {
            (if name == norm { "I32" } else { dtype }.to_string(), bytes.to_vec())
        });
    });
    copy.assert_refused(&["model.safetensors", norm, "I32", "BF16"]);
}

#[test]
fn no_list_of_tokens_is_made_for_an_embedding_that_is_not_there() {
    let embedding = "model.embed_tokens.weight";
    let many = 1 << 24;
    let copy = Copy::of("mistral");
    copy.config(|config| config["vocab_size"] = json!(many));
    copy.weights(WEIGHTS, |weights| {
        let entry = weights.header.remove(embedding).unwrap();
        weights.header.insert("model.embed_tokens.scale".to_string(), entry);
    });
    copy.assert_refused(&[embedding, "missing", "16777216 rows"]);
    let copy = Copy::of("mistral");
    copy.config(|config| config["vocab_size"] = json!(many));
    copy.weights(WEIGHTS, |weights| {
        weights.header[embedding] =
            json!({"dtype": "F32", "shape": [many, 0], "data_offsets": [0, 0]});
    });
    copy.assert_refused(&[WEIGHTS, embedding, "[16777216, 0]", "a dimension of 0"]);
}

#[test]
fn an_index_that_does_not_fit_its_files_is_refused() {
    for (place, part) in [
        ("../other/model.safetensors", "the same folder"),
        ("/etc/passwd", "the same folder"),
        ("..", "the same folder"),
        ("", "the same folder"),
        ("model.bin", "the same folder"),
        ("a\0.safetensors", "the same folder"),
        ("model-00009-of-00003.safetensors", "not in the folder"),
    ] {
        let copy = Copy::of("qwen2");
        copy.json(INDEX, |index| index["weight_map"]["more.weight"] = json!(place));
        copy.assert_refused(&[INDEX, part]);
    }
    let copy = Copy::of("qwen2");
    copy.json(INDEX, |index| index["weight_map"]["more.weight"] = json!(FIRST));
    copy.assert_refused(&[INDEX, "`more.weight`", FIRST]);
    let copy = Copy::of("qwen2");
    copy.json(INDEX, |index| {
        index["weight_map"].as_object_mut().unwrap().remove("model.norm.weight").unwrap();
    });
    copy.assert_refused(&["`model.norm.weight`", "in no file by the index"]);
    for weight_map in [Value::Null, json!([]), json!({"a": 1}), json!({})] {
        let copy = Copy::of("qwen2");
        copy.json(INDEX, |index| index["weight_map"] = weight_map).assert_refused(&[INDEX]);
    }
    let copy = Copy::of("qwen2");
    fs::copy(copy.file(FIRST), copy.file("model-00002-of-00003.safetensors")).unwrap();
    copy.assert_refused(&["model-00002-of-00003.safetensors", FIRST]);
    // Before the next file is opened, so that names of one file are not all parsed.
    fs::remove_file(copy.file("model-00003-of-00003.safetensors")).unwrap();
    copy.assert_refused(&["model-00002-of-00003.safetensors: tensor", FIRST]);
}

#[test]
fn an_index_is_bounded_by_its_tensors_files_and_bytes() {
    let write = |copy: &Copy, count: usize, file: &dyn Fn(usize) -> String| {
        let places: Vec<_> = (0..count).map(|n| format!("\"{n}\":\"{}\"", file(n))).collect();
        fs::write(copy.file(INDEX), format!("{{\"weight_map\":{{{}}}}}", places.join(",")))
            .unwrap();
    };
    let copy = Copy::of("qwen2");
    write(&copy, 513, &|n| format!("{n}.safetensors"));
    copy.assert_refused(&[INDEX, "files: 513 is too many, at most 512"]);
    write(&copy, (1 << 18) + 1, &|_| FIRST.to_string());
    copy.assert_refused(&[INDEX, "more than 262144 tensors"]);
    fs::File::create(copy.file(INDEX)).unwrap().set_len((64 << 20) + 1).unwrap();
    copy.assert_refused(&[INDEX, "67108865 is too many, at most 67108864"]);
    // More than other files of settings may have.
    let copy = Copy::of("qwen2");
    copy.json(INDEX, |index| index["metadata"]["note"] = json!("x".repeat(5 << 20))).open();
}

#[test]
fn links_lead_nowhere_but_to_blobs_of_the_hub_cache() {
    for name in [WEIGHTS, "config.json", "tokenizer.json", "chat_template.jinja"] {
        let (copy, other) = (Copy::of("mistral"), Copy::of("mistral"));
        fs::remove_file(copy.file(name)).unwrap();
        symlink(other.file(name), copy.file(name)).unwrap();
        copy.assert_refused(&[name, "hub cache"]);
        fs::remove_file(copy.file(name)).unwrap();
        fs::create_dir(copy.file(name)).unwrap();
        copy.assert_refused(&[name, "no regular file"]);
    }
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--org--name");
    let (blobs, snapshot) = (model.join("blobs"), model.join("snapshots").join("abc"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    let copy = Copy::of("mistral");
    for (number, entry) in fs::read_dir(copy.path()).unwrap().enumerate() {
        let entry = entry.unwrap();
        let blob = blobs.join(number.to_string());
        if number == 0 {
            // As huggingface_hub keeps what several repositories may have.
            let store = cache.path().join("blobs").join("1f");
            fs::create_dir_all(&store).unwrap();
            fs::copy(entry.path(), store.join("1f00")).unwrap();
            symlink("../../blobs/1f/1f00", &blob).unwrap();
        } else {
            fs::copy(entry.path(), &blob).unwrap();
        }
        let link = format!("../../blobs/{number}");
        symlink(link, snapshot.join(entry.file_name())).unwrap();
    }
    let file = ModelFile::open(&snapshot).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(file.config.architecture.name, "llama");
    // Not that of the commit, but for what is no snapshot the folder's own.
    assert_eq!(file.name.as_deref(), Some("org/name"));
    assert_eq!(copy.open().name.as_deref(), copy.path().file_name().unwrap().to_str());
}

#[test]
fn a_folder_of_something_else_says_what_it_has() {
    let copy = Copy::of("mistral");
    fs::rename(copy.file(WEIGHTS), copy.file("pytorch_model.bin")).unwrap();
    copy.assert_refused(&[
        "neither model.safetensors nor",
        "pytorch_model.bin",
        "only safetensors",
    ]);
    fs::rename(copy.file("pytorch_model.bin"), copy.file("model-Q4_K_M.gguf")).unwrap();
    copy.assert_refused(&["model-Q4_K_M.gguf: give the path of that file"]);
    fs::rename(copy.file("model-Q4_K_M.gguf"), copy.file("MODEL.GGUF")).unwrap();
    copy.assert_refused(&["MODEL.GGUF: give the path of that file"]);
    for (name, part) in [("tokenizer.json", "use_fast"), ("config.json", ".gguf file")] {
        let copy = Copy::of("mistral");
        fs::remove_file(copy.file(name)).unwrap();
        copy.assert_refused(&[&format!("has no {name}"), part]);
    }
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
    {
        for text in ["", "[]", "{", "nonsense", &"[".repeat(100_000)] {
            let copy = Copy::of("mistral");
            fs::write(copy.file(name), text).unwrap();
            copy.assert_refused(&[name]);
        }
        let copy = Copy::of("mistral");
        fs::write(copy.file(name), [b'{', 0xff, b'}']).unwrap();
        copy.assert_refused(&[name, "UTF-8"]);
    }
    let copy = Copy::of("mistral");
    let long = fs::File::create(copy.file("chat_template.jinja")).unwrap();
    long.set_len(5 << 20).unwrap();
    copy.assert_refused(&["chat_template.jinja", "4194305", "4194304"]);
}

#[test]
fn spoilt_settings_never_panic() {
    let copy = Copy::of("gemma3");
    let whole = fs::read(copy.file("config.json")).unwrap();
    let byte = prop::sample::select(b"0129-.e\"{}[],: ".to_vec());
    let changes = prop::collection::vec((0..whole.len(), byte), 1..=2);
    let accepted = Cell::new(0);
    let files = fuzz::check(1000, &changes, |changes| {
        let mut bytes = whole.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        fs::write(copy.file("config.json"), bytes).unwrap();
        accepted.set(accepted.get() + u64::from(ModelFile::open(copy.path()).is_ok()));
        Ok(())
    });
    // What is not read may be anything, and some numbers may be others.
    let accepted = accepted.get();
    let usual = files / 20..files * 7 / 10;
    assert!(usual.contains(&accepted), "{accepted} of {files} spoilt files are accepted");
}

#[test]
fn a_vocabulary_of_millions_in_a_small_file_is_refused_before_it_is_listed() {
    let copy = Copy::of("qwen2-fp8");
    copy.config(|config| config["vocab_size"] = json!(1 << 24));
    // Nor is it looked for a tokenizer with so many tokens.
    fs::remove_file(copy.file("tokenizer.json")).unwrap();
    let name = "model.embed_tokens.weight";
    copy.weights(WEIGHTS, |weights| {
        let tensor =
            json!({"dtype": "F8_E4M3", "shape": [1 << 24, 1], "data_offsets": [0, 1 << 24]});
        weights.header = [(name.to_owned(), tensor)].into_iter().collect();
        weights.data = vec![0; 1 << 24];
    });
    copy.assert_refused(&[WEIGHTS, name, "16777216 rows and 1 columns", "64 columns"]);
}
