//! A shape from the `config.json` that stands beside a model's weights on hubs.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::dtype::WeightsDtype;
use crate::error::{PlanError, bad};
use crate::shape::{Experts, Shape, ShapeSizes, Style, Weights, bounds};

/// What is read, as messages call it.
const WHAT: &str = "config.json";
/// Names that a number goes by, and what it says.
type Keys = (&'static [&'static str], &'static str);

const LAYERS: Keys =
    (&["num_hidden_layers", "n_layer", "n_layers", "num_layers"], "the number of layers");
const WIDTH: Keys = (&["hidden_size", "n_embd", "d_model"], "the width");
const HEADS: Keys = (&["num_attention_heads", "n_head", "n_heads"], "the number of heads");
const KV_HEADS: Keys =
    (&["num_key_value_heads", "num_kv_heads"], "the number of key and value heads");
const HEAD_DIM: Keys = (&["head_dim"], "the size of a head");
const FFN: Keys = (
    &["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff"],
    "the feed-forward width",
);
const VOCABULARY: Keys = (&["vocab_size"], "the size of the vocabulary");
const POSITIONS: Keys = (
    &["max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length"],
    "the longest sequence",
);

const EXPERTS: Keys = (&["num_local_experts", "num_experts"], "the number of experts");
const EXPERTS_USED: Keys = (&["num_experts_per_tok"], "the number of experts of a token");
const EXPERT_FFN: Keys = (&["moe_intermediate_size"], "the width of an expert");
const SHARED_FFN: Keys =
    (&["shared_expert_intermediate_size"], "the width of the expert that all tokens take");
/// Families whose experts are in every layer and as the keys above say.
const WITH_EXPERTS: [&str; 3] = ["mixtral", "qwen2_moe", "qwen3_moe"];

/// A family of models whose layers are known.
struct Family {
    /// Its `model_type`.
    model_type: &'static str,
    style: Style,
    /// Whether the head is the embedding where the file does not say.
    tied_head: bool,
}

/// Source: the configuration and modelling files of each in the transformers library.
const FAMILIES: [Family; 13] = [
    family("llama", Style::LLAMA, false),
    family("mistral", Style::LLAMA, false),
    family("phi3", Style::LLAMA, false),
    family("qwen2", Style::QWEN2, false),
    family("qwen3", Style::QWEN3, false),
    family("gemma", Style::LLAMA, true),
    family("gemma2", Style::GEMMA2, true),
    family("gemma3_text", Style::GEMMA3, true),
    family("gemma3", Style::GEMMA3, true),
    family("gpt2", Style::GPT2, true),
    family("mixtral", Style::LLAMA, false),
    family("qwen2_moe", Style::QWEN2, false),
    family("qwen3_moe", Style::QWEN3, false),
];

const fn family(model_type: &'static str, style: Style, tied_head: bool) -> Family {
    Family { model_type, style, tied_head }
}

/// What changes the sums and is not modelled: keys, with what they stand for.
const NOT_MODELLED: [(&str, &str); 7] = [
    ("n_routed_experts", "experts of this sort are"),
    ("moe_num_experts", "experts of this sort are"),
    ("kv_lora_rank", "latent attention is"),
    ("state_size", "state-space layers are"),
    ("mamba_d_state", "state-space layers are"),
    ("linear_num_key_heads", "layers with linear attention are"),
    ("is_encoder_decoder", "models of encoder and decoder are"),
];

/// The shape that `text` describes. Numbers that cannot be meant, and keys that would change the
/// sums and are not modelled, are refused by name.
pub fn shape(name: &str, text: &str) -> Result<Shape, PlanError> {
    let what = WHAT;
    let config: Value =
        serde_json::from_str(text).map_err(|cause| PlanError::Json { what, cause })?;
    let Value::Object(outer) = &config else {
        return Err(bad(what, "not an object", "a JSON object"));
    };
    let mut notes = Vec::new();
    let mut config = outer;
    if let (None, Some(Value::Object(inner))) = (find(outer, WIDTH), outer.get("text_config")) {
        notes.push("Only the text part of the model is counted, not what sees or hears.".into());
        config = inner;
    }
    refuse_what_is_not_modelled(config)?;
    let experts = experts(config)?;
    let sizes = sizes(config, experts)?;
    let family = family_of(config, &mut notes)?;
    let tied_head = flag(config, "tie_word_embeddings")?.unwrap_or(family.tied_head);
    let style = Style {
        qkv_bias: family.style.qkv_bias || flag(config, "attention_bias")?.unwrap_or(false),
        output_bias: family.style.output_bias || flag(config, "attention_bias")?.unwrap_or(false),
        ffn_bias: family.style.ffn_bias || flag(config, "mlp_bias")?.unwrap_or(false),
        ..family.style
    };
    note_windows(config, &sizes, &mut notes);
    let weights = Weights::Typed(weights_dtype(outer, config, &mut notes)?);
    Ok(Shape { name: name.to_string(), sizes, style, experts, tied_head, weights, notes })
}

/// The experts of each layer. Refused are those of families whose layers differ in more than
/// that, and files in which some layers have none.
fn experts(config: &Map<String, Value>) -> Result<Experts, PlanError> {
    let count = number(config, EXPERTS, 0..=*bounds::EXPERTS.end())?.unwrap_or(0);
    if count <= 1 {
        return Ok(Experts::DENSE);
    }
    let model_type = text(config, "model_type")?.unwrap_or("none");
    let sparse_step = config.get("decoder_sparse_step").and_then(Value::as_u64).unwrap_or(1);
    let dense_layers = config.get("mlp_only_layers").and_then(Value::as_array);
    let everywhere = sparse_step == 1 && dense_layers.is_none_or(Vec::is_empty);
    if !WITH_EXPERTS.contains(&model_type) || !everywhere {
        let (key, _) = find(config, EXPERTS).expect("it was counted");
        return Err(PlanError::NotModelled {
            key: key.to_string(),
            value: count.to_string(),
            what: "experts but those in every layer of mixtral, qwen2_moe and qwen3_moe are",
            instead: "give one of these, or a dense model",
        });
    }
    let experts = Experts {
        count,
        used: required(config, EXPERTS_USED, bounds::EXPERTS)?,
        shared_ffn: number(config, SHARED_FFN, 0..=*bounds::WIDTH.end())?.unwrap_or(0),
    };
    experts.check()?;
    Ok(experts)
}

fn sizes(config: &Map<String, Value>, experts: Experts) -> Result<ShapeSizes, PlanError> {
    let width = required(config, WIDTH, bounds::WIDTH)?;
    let heads = required(config, HEADS, bounds::HEADS)?;
    let head_dim = match number(config, HEAD_DIM, bounds::HEAD_DIM)? {
        Some(given) => given,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            let limit = format!("a divisor of {}, {width}, or head_dim beside it", WIDTH.1);
            return Err(bad(HEADS.0[0], heads, limit));
        }
    };
    let ffn_keys =
        if 1 < experts.count && find(config, EXPERT_FFN).is_some() { EXPERT_FFN } else { FFN };
    let ffn = match number(config, ffn_keys, bounds::WIDTH)? {
        // GPT-2's files leave it out.
        None if config.contains_key("n_embd") => 4 * width,
        ffn => ffn.ok_or_else(|| missing(FFN))?,
    };
    let sizes = ShapeSizes {
        layers: required(config, LAYERS, bounds::LAYERS)?,
        width,
        heads,
        kv_heads: number(config, KV_HEADS, bounds::HEADS)?.unwrap_or(heads),
        head_dim,
        ffn,
        vocabulary: required(config, VOCABULARY, bounds::VOCABULARY)?,
        positions: required(config, POSITIONS, bounds::POSITIONS)?,
    };
    sizes.check()?;
    Ok(sizes)
}

/// The family of the model; one like Llama, with a note, where the type is unknown.
fn family_of(config: &Map<String, Value>, notes: &mut Vec<String>) -> Result<Family, PlanError> {
    let model_type = text(config, "model_type")?.unwrap_or("none");
    if let Some(known) = FAMILIES.into_iter().find(|known| known.model_type == model_type) {
        return Ok(known);
    }
    let activation = match text(config, "hidden_act")? {
        None => text(config, "activation_function")?,
        given => given,
    };
    let gated = activation.is_none_or(|name| ["silu", "swish", "swiglu"].contains(&name));
    let matrices = if gated { "three matrices" } else { "two matrices" };
    notes.push(format!(
        "The model_type `{model_type}` is not known: it is counted like Llama, with {matrices} in \
         the feed-forward part, as its activation suggests."
    ));
    Ok(Family { model_type: "", style: Style { gated, ..Style::LLAMA }, tied_head: true })
}

fn refuse_what_is_not_modelled(config: &Map<String, Value>) -> Result<(), PlanError> {
    let refuse = |key: &str, value: &Value, what| PlanError::NotModelled {
        key: key.to_string(),
        value: value.to_string(),
        what,
        instead: "give a dense model with attention in every layer",
    };
    for (key, what) in NOT_MODELLED {
        let Some(value) = config.get(key) else { continue };
        let is_off = matches!(value, Value::Null | Value::Bool(false))
            || value.as_u64().is_some_and(|number| number <= 1);
        if !is_off {
            return Err(refuse(key, value, what));
        }
    }
    let kinds = config.get("layer_types").and_then(Value::as_array);
    let attends = |kind: &&Value| {
        kind.as_str().is_some_and(|kind| ["full_attention", "sliding_attention"].contains(&kind))
    };
    match kinds.into_iter().flatten().find(|kind| !attends(kind)) {
        Some(kind) => Err(refuse("layer_types", kind, "layers without attention are")),
        None => Ok(()),
    }
}

/// Says so if some layers keep less than all keys and values.
fn note_windows(config: &Map<String, Value>, sizes: &ShapeSizes, notes: &mut Vec<String>) {
    let off = config.get("use_sliding_window") == Some(&Value::Bool(false));
    let window = config.get("sliding_window").and_then(Value::as_u64);
    if let Some(window) = window.filter(|&window| !off && window < sizes.positions) {
        notes.push(format!(
            "Layers with a sliding window of {window} tokens are counted as if they kept all keys \
             and values: an engine that drops the others has room for more than is said here."
        ));
    }
}

/// How weights are stored: by `quantization_config`, else by the type, as vLLM loads it.
fn weights_dtype(
    outer: &Map<String, Value>,
    config: &Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<WeightsDtype, PlanError> {
    let find = |key| outer.get(key).or_else(|| config.get(key));
    if let Some(Value::Object(quantised)) = find("quantization_config") {
        return quantised_dtype(quantised);
    }
    let name = find("torch_dtype").or_else(|| find("dtype")).and_then(Value::as_str);
    match name {
        Some("float16" | "bfloat16") => {}
        Some("float32") => notes.push(
            "The file has 32-bit floats, which engines load as 16-bit ones unless told otherwise; \
             so they are counted."
                .to_string(),
        ),
        Some(other) => {
            let limit = "float16, bfloat16 or float32, or --weights-dtype";
            return Err(bad("torch_dtype", other, limit));
        }
        None => notes.push("The file does not say its type; 16-bit floats are assumed.".into()),
    }
    Ok(WeightsDtype::F16)
}

fn quantised_dtype(quantised: &Map<String, Value>) -> Result<WeightsDtype, PlanError> {
    let method = text(quantised, "quant_method")?.unwrap_or("none");
    let is_on = |key: &str| quantised.get(key) == Some(&Value::Bool(true));
    let bits = match method {
        "gptq" | "awq" => quantised.get("bits").and_then(Value::as_u64),
        "bitsandbytes" if is_on("load_in_8bit") || is_on("_load_in_8bit") => Some(8),
        "bitsandbytes" if is_on("load_in_4bit") || is_on("_load_in_4bit") => Some(4),
        "fp8" | "fbgemm_fp8" => Some(8),
        _ => None,
    };
    match bits {
        Some(4) => Ok(WeightsDtype::Int4),
        Some(8) => Ok(WeightsDtype::Int8),
        _ => Err(bad(
            "quantization_config",
            Value::Object(quantised.clone()),
            "gptq or awq with 4 or 8 bits, bitsandbytes or fp8, or give --weights-dtype",
        )),
    }
}

fn find(config: &Map<String, Value>, (names, _): Keys) -> Option<(&'static str, &Value)> {
    names.iter().find_map(|&name| match config.get(name) {
        None | Some(Value::Null) => None,
        Some(value) => Some((name, value)),
    })
}

fn number(
    config: &Map<String, Value>,
    keys: Keys,
    range: RangeInclusive<u64>,
) -> Result<Option<u64>, PlanError> {
    let Some((name, value)) = find(config, keys) else { return Ok(None) };
    let found = value.as_u64().filter(|found| range.contains(found));
    let limit = || format!("a whole number from {} to {}", range.start(), range.end());
    found.map(Some).ok_or_else(|| bad(name, value, limit()))
}

fn required(
    config: &Map<String, Value>,
    keys: Keys,
    range: RangeInclusive<u64>,
) -> Result<u64, PlanError> {
    number(config, keys, range)?.ok_or_else(|| missing(keys))
}

fn missing((names, meaning): Keys) -> PlanError {
    PlanError::MissingKey { what: WHAT, keys: names.join(" or "), meaning }
}

fn flag(config: &Map<String, Value>, key: &str) -> Result<Option<bool>, PlanError> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(bad(key, other, "true or false")),
    }
}

fn text<'a>(config: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, PlanError> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(other) => Err(bad(key, other, "a text")),
    }
}

#[cfg(test)]
mod tests;
