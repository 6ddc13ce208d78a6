//! Adapters as the peft library writes them: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use kernels::blocks::BlockKind;
use kernels::rope::Pairing;
use serde_json::{Map, Value};

use super::{Half, Header, Scale, Stored, TensorSource, targets, what_may_change};
use crate::architecture::hub::HUB_FAMILIES;
use crate::config::ModelConfig;
use crate::error::LoadError;
use crate::safetensors::{Dtype, Safetensors, StoredTensor};

/// Files of the folder.
const SETTINGS: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
/// The most bytes of settings that are read; those in use are a few kilobytes.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// Settings that say how an adapter was trained, or what its tensors say too.
const WITHOUT_EFFECT: [&str; 18] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "rank_pattern",
    "revision",
    "target_modules",
];
/// First numbers of an adapter that leave the model as it is. Others, by their names, begin with a model
/// that is changed so that both together are the old one.
const FIRST_NUMBERS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// What the library puts before the names of the model's own modules.
const PREFIX: &str = "base_model.model.";

pub(super) fn open(folder: &Path, config: &ModelConfig) -> Result<Header, LoadError> {
    let settings = settings(&folder.join(SETTINGS))?;
    let scale = scale(&settings)?;
    let path = folder.join(TENSORS);
    let file = File::open(&path).map_err(|source| LoadError::Open { path, source })?;
    let file = Safetensors::parse(file)?;
    let known = modules(config);
    let mut tensors = Vec::new();
    for (name, StoredTensor { dtype, shape, .. }) in file.tensors() {
        let (shape, name) = (shape.clone(), name.to_string());
        let Some((target, half)) = target(&known, &name) else {
            let why = refusal(&name).map_or_else(|| what_may_change(config), str::to_string);
            return Err(LoadError::AdapterTensor { name, why });
        };
        let kind = match dtype {
            Dtype::F32 => BlockKind::F32,
            Dtype::F16 => BlockKind::F16,
            Dtype::Bf16 => BlockKind::Bf16,
            Dtype::F8E4M3 | Dtype::Other(_) => {
                let (kind, known) = (dtype.name(), "F32, F16 and BF16");
                return Err(LoadError::UnsupportedDtype { name, kind, known });
            }
        };
        tensors.push((target, half, Stored { name, kind, shape }));
    }
    let (source, order) = (Box::new(file), Pairing::Halves);
    Ok(Header { source, tensors, scale, order })
}

impl TensorSource for Safetensors<File> {
    fn read(&mut self, name: &str, bytes: &mut Vec<u8>) -> Result<(), LoadError> {
        bytes.clear();
        self.append_tensor(name, bytes)
    }
}

/// What folders of the family call the modules whose matrices adapters may change, with the names of
/// these. A bare model's names leave out what the others begin with.
fn modules(config: &ModelConfig) -> BTreeMap<String, String> {
    let families = HUB_FAMILIES.iter().filter(|hub| hub.architecture == config.architecture);
    let mut modules = BTreeMap::new();
    for (family, target) in
        families.flat_map(|hub| targets(config).into_keys().map(move |t| (hub, t)))
    {
        let names = family.stored_names(&format!("{target}.weight"), 1);
        for name in names.iter().flatten().filter_map(|name| name.strip_suffix(".weight")) {
            let bare = name.strip_prefix(family.prefix).unwrap_or(name);
            modules.insert(bare.to_string(), target.clone());
            modules.insert(name.to_string(), target.clone());
        }
    }
    modules
}

fn settings(path: &Path) -> Result<Map<String, Value>, LoadError> {
    let file =
        File::open(path).map_err(|source| LoadError::Open { path: path.to_path_buf(), source })?;
    let mut text = String::new();
    let read = file.take(SETTINGS_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|source| LoadError::Read { place: SETTINGS.to_string(), source })?;
    let found = text.len() as u64;
    if SETTINGS_BYTES_MAX < found {
        let place = format!("bytes of {SETTINGS}");
        return Err(LoadError::TooMany { place, found, limit: SETTINGS_BYTES_MAX });
    }
    serde_json::from_str(&text).map_err(|error| bad("the file", error, "a JSON object"))
}

/// Checks all settings; what updates are multiplied with.
fn scale(settings: &Map<String, Value>) -> Result<Scale, LoadError> {
    let (mut alpha, mut rooted, mut is_lora) = (None, false, false);
    for (key, value) in settings {
        let refuse = |limit: &str| Err(bad(key, value, limit));
        match (key.as_str(), value) {
            ("peft_type", Value::String(kind)) if kind == "LORA" => is_lora = true,
            ("peft_type", _) => return refuse("\"LORA\""),
            ("lora_alpha", _) => match value.as_f64().map(|alpha| alpha as f32) {
                Some(found) if found.is_finite() && found != 0.0 => alpha = Some(found),
                _ => return refuse("a number other than 0"),
            },
            ("r", _) => match value.as_u64() {
                Some(1..) => {}
                _ => return refuse("the rank, 1 or more"),
            },
            ("use_rslora", Value::Bool(wanted)) => rooted = *wanted,
            ("bias", Value::String(kind)) if kind == "none" => {}
            ("bias", _) => return refuse("\"none\""),
            ("task_type", Value::String(kind)) if kind == "CAUSAL_LM" => {}
            ("init_lora_weights", Value::Bool(_)) => {}
            ("init_lora_weights", Value::String(kind)) if FIRST_NUMBERS.contains(&&**kind) => {}
            ("init_lora_weights", _) => {
                return refuse(
                    "an adapter of the model as it is; convert it with the peft library",
                );
            }
            (key, _) if WITHOUT_EFFECT.contains(&key) || asks_for_nothing(value) => {}
            _ => return refuse("it absent: the adapter would give wrong text without it"),
        }
    }
    if !is_lora {
        return Err(bad("peft_type", "absent", "\"LORA\""));
    }
    match (alpha, rooted) {
        (Some(alpha), false) => Ok(Scale::ByRank(alpha)),
        (Some(alpha), true) => Ok(Scale::ByRoot(alpha)),
        (None, _) => Err(bad("lora_alpha", "absent", "a number other than 0")),
    }
}

fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn bad(key: &str, value: impl ToString, limit: &str) -> LoadError {
    let value: String = value.to_string().chars().take(80).collect();
    LoadError::AdapterSetting { key: key.to_string(), value, limit: limit.to_string() }
}

/// The matrix that a tensor is for, and which half it is.
fn target(modules: &BTreeMap<String, String>, name: &str) -> Option<(String, Half)> {
    let name = name.strip_prefix(PREFIX)?;
    let (module, half) = match name.strip_suffix(".lora_A.weight") {
        Some(module) => (module, Half::A),
        None => (name.strip_suffix(".lora_B.weight")?, Half::B),
    };
    Some((modules.get(module)?.clone(), half))
}

/// Why a tensor that is for no such matrix is refused, if its name tells.
fn refusal(name: &str) -> Option<&'static str> {
    let is_in = |part: &&str| name.contains(part);
    if is_in(&"lora_magnitude") {
        Some("belongs to a DoRA adapter, and LoRA alone is supported")
    } else if ["embed_tokens", "lm_head", "wte", "lora_embedding"].iter().any(is_in) {
        Some(
            "changes the embedding or the head; attention and feed-forward parts alone may be changed",
        )
    } else if ["experts", "block_sparse_moe", "mlp.gate."].iter().any(is_in) {
        Some("changes experts or their router; attention alone may be changed beside them")
    } else if !is_in(&".lora_") {
        Some("is a whole tensor of the model; lora_A and lora_B of matrices alone are supported")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(settings: &Value) -> Result<Scale, String> {
        scale(settings.as_object().unwrap()).map_err(|error| error.to_string())
    }

    fn settings() -> Value {
        json!({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "bias": "none",
               "target_modules": ["q_proj"], "modules_to_save": null, "use_dora": false,
               "init_lora_weights": true, "megatron_core": "megatron.core"})
    }

    #[test]
    fn alpha_is_divided_by_the_rank_or_its_root() {
        let mut settings = settings();
        assert_eq!(check(&settings).unwrap().of(8), 2.0);
        settings["use_rslora"] = json!(true);
        assert_eq!(check(&settings).unwrap().of(4), 8.0);
    }

    #[test]
    fn what_would_change_more_is_refused_by_name() {
        for (key, value) in [
            ("use_dora", json!(true)),
            ("bias", json!("all")),
            ("lora_bias", json!(true)),
            ("modules_to_save", json!(["lm_head"])),
            ("alpha_pattern", json!({"q_proj": 4})),
            ("layer_replication", json!([[0, 4]])),
            ("trainable_token_indices", json!([1])),
            ("alora_invocation_tokens", json!([1, 2])),
            ("init_lora_weights", json!("pissa_niter_4")),
            ("task_type", json!("SEQ_CLS")),
            ("peft_type", json!("IA3")),
            ("lora_alpha", json!("16")),
            ("lora_alpha", json!(1e300)),
            ("lora_alpha", json!(0)),
            ("r", json!(0)),
            ("use_what_comes_next", json!(1)),
        ] {
            let mut settings = settings();
            settings[key] = value;
            let error = check(&settings).expect_err(key);
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
        for key in ["peft_type", "lora_alpha"] {
            let mut settings = settings();
            settings.as_object_mut().unwrap().remove(key);
            assert!(check(&settings).expect_err(key).contains(key));
        }
    }

    #[test]
    fn names_of_tensors_are_those_of_the_models_matrices() {
        let llama = crate::dummy::open("tiny", 0).unwrap().config;
        let modules = modules(&llama);
        let of = |name: &str| target(&modules, &format!("{PREFIX}{name}"));
        let expected = Some(("blk.1.attn_q".to_string(), Half::A));
        assert_eq!(of("model.layers.1.self_attn.q_proj.lora_A.weight"), expected);
        assert_eq!(of("layers.1.self_attn.q_proj.lora_A.weight"), expected);
        let found = of("model.layers.0.mlp.down_proj.lora_B.weight");
        assert_eq!(found, Some(("blk.0.ffn_down".to_string(), Half::B)));
        for (name, part) in [
            ("model.layers.0.self_attn.q_proj.lora_magnitude_vector", "DoRA"),
            ("model.embed_tokens.lora_embedding_A", "embedding"),
            ("lm_head.lora_A.weight", "head"),
            ("model.layers.0.block_sparse_moe.experts.0.w1.lora_A.weight", "experts"),
            ("model.layers.0.mlp.experts.3.up_proj.lora_B.weight", "experts"),
            ("model.layers.0.input_layernorm.weight", "whole tensor"),
            ("model.layers.0.self_attn.q_proj.bias", "whole tensor"),
        ] {
            assert_eq!(of(name), None, "{name}");
            assert!(refusal(name).unwrap().contains(part), "{name}");
        }
        for name in ["layers.0.self_attn.w_proj", "layers.2.self_attn.q_proj", "h.0.attn.c_attn"] {
            let name = format!("model.{name}.lora_A.weight");
            assert_eq!((of(&name), refusal(&name)), (None, None));
        }
    }
}
