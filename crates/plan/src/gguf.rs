//! A shape from the header of any GGUF file, whether this engine computes with it or not.

use std::ops::RangeInclusive;

use model::gguf::Outline;

use crate::error::{PlanError, bad};
use crate::shape::{Experts, Shape, ShapeSizes, Style, Weights, bounds};

/// What is read, as messages call it.
const WHAT: &str = "the GGUF file";

/// Keys of an architecture that change the sums and are not modelled.
const NOT_MODELLED: [(&str, &str); 3] = [
    ("attention.kv_lora_rank", "latent attention is"),
    ("ssm.state_size", "state-space layers are"),
    ("wkv.head_size", "recurrent layers are"),
];

/// The shape of a model whose header is `outline`. What its layers are made of is what tensors
/// the first of them has, and its weights take what they take in the file.
pub fn shape(name: &str, outline: &Outline) -> Result<Shape, PlanError> {
    let metadata = &outline.metadata;
    if let Some(parts) = metadata.u32("split.count")?.filter(|&parts| 1 < parts) {
        return Err(PlanError::NotModelled {
            key: "split.count".to_string(),
            value: parts.to_string(),
            what: "files in several parts are",
            instead: "merge them, or give the model's config.json and --weights-dtype",
        });
    }
    let architecture = metadata.text("general.architecture")?;
    let architecture = architecture.ok_or_else(|| missing("general.architecture".to_string()))?;
    refuse_what_is_not_modelled(outline, architecture)?;
    let embedding = outline.tensor("token_embd.weight");
    let embedding = embedding.ok_or_else(|| missing("token_embd.weight".to_string()))?;
    let (sizes, experts) = sizes(outline, architecture, embedding.shape.0[0])?;
    let shape = Shape {
        name: name.to_string(),
        sizes,
        style: style(outline, sizes.ffn),
        experts,
        tied_head: outline.tensor("output.weight").is_none(),
        weights: Weights::Exact {
            bytes: outline.tensors.iter().map(|tensor| tensor.bytes).sum(),
            embedding_bytes: embedding.bytes,
        },
        notes: Vec::new(),
    };
    Ok(noted(shape, outline, architecture))
}

fn refuse_what_is_not_modelled(outline: &Outline, architecture: &str) -> Result<(), PlanError> {
    for (part, what) in NOT_MODELLED {
        let key = format!("{architecture}.{part}");
        if let Some(value) = outline.metadata.u32(&key)?.filter(|&value| 0 < value) {
            return Err(PlanError::NotModelled {
                key,
                value: value.to_string(),
                what,
                instead: "give a dense model with attention in every layer",
            });
        }
    }
    Ok(())
}

fn sizes(
    outline: &Outline,
    architecture: &str,
    vocabulary: u64,
) -> Result<(ShapeSizes, Experts), PlanError> {
    let number = |part: &str, range: RangeInclusive<u64>| -> Result<Option<u64>, PlanError> {
        let key = format!("{architecture}.{part}");
        match outline.metadata.u32(&key)?.map(u64::from) {
            Some(found) if !range.contains(&found) => {
                Err(bad(&key, found, format!("{} to {}", range.start(), range.end())))
            }
            found => Ok(found),
        }
    };
    let need = |part: &str, range| {
        number(part, range)?.ok_or_else(|| missing(format!("{architecture}.{part}")))
    };
    let width = need("embedding_length", bounds::WIDTH)?;
    let heads = need("attention.head_count", bounds::HEADS)?;
    let head_dim = match number("attention.key_length", bounds::HEAD_DIM)? {
        Some(given) => given,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            let key = format!("{architecture}.attention.head_count");
            return Err(bad(&key, heads, format!("a divisor of the width, {width}")));
        }
    };
    let expert_ffn = number("expert_feed_forward_length", bounds::WIDTH)?;
    let ffn = expert_ffn.map_or_else(|| need("feed_forward_length", bounds::WIDTH), Ok)?;
    let any = 0..=*bounds::WIDTH.end();
    let experts = match number("expert_count", any.clone())?.unwrap_or(0) {
        0 => Experts::DENSE,
        count => Experts {
            count,
            used: need("expert_used_count", bounds::EXPERTS)?,
            shared_ffn: number("expert_shared_feed_forward_length", any)?.unwrap_or(0),
        },
    };
    experts.check()?;
    let sizes = ShapeSizes {
        layers: need("block_count", bounds::LAYERS)?,
        width,
        heads,
        kv_heads: number("attention.head_count_kv", bounds::HEADS)?.unwrap_or(heads),
        head_dim,
        ffn,
        vocabulary,
        positions: need("context_length", bounds::POSITIONS)?,
    };
    sizes.check()?;
    Ok((sizes, experts))
}

/// What the first layer is made of, by its tensors' names.
fn style(outline: &Outline, ffn: u64) -> Style {
    let layer = |part: &str| outline.tensor(&format!("blk.0.{part}"));
    let has = |part: &str| layer(part).is_some();
    // Some files have gate and up in one tensor.
    let fused = layer("ffn_up.weight").is_some_and(|up| up.shape.0[0] == 2 * ffn);
    let head_norms = has("attn_q_norm.weight");
    let norms = outline.tensors.iter().filter(|tensor| {
        let part = tensor.name.strip_prefix("blk.0.").unwrap_or_default();
        part.ends_with("_norm.weight")
            && !part.starts_with("attn_q_")
            && !part.starts_with("attn_k_")
    });
    Style {
        gated: has("ffn_gate.weight") || has("ffn_gate_exps.weight") || fused,
        qkv_bias: has("attn_q.bias") || has("attn_qkv.bias"),
        output_bias: has("attn_output.bias"),
        ffn_bias: has("ffn_up.bias"),
        norm_bias: outline.tensor("output_norm.bias").is_some(),
        layer_norms: norms.count() as u64,
        head_norms,
        learned_positions: outline.tensor("position_embd.weight").is_some(),
    }
}

/// Says so if the tensors have more or fewer elements than the shape.
fn noted(mut shape: Shape, outline: &Outline, architecture: &str) -> Shape {
    let elements = outline.tensors.iter().fold(0_u64, |sum, t| sum.saturating_add(t.elements()));
    let parameters = shape.parameters();
    if elements.abs_diff(parameters) > parameters / 100 {
        shape.notes.push(format!(
            "The file's tensors have {elements} elements, where a model of its shape has \
             {parameters}: the architecture `{architecture}` has parts that are not known. Memory \
             is counted from the file, the work of a step from the shape."
        ));
    }
    shape
}

fn missing(keys: String) -> PlanError {
    PlanError::MissingKey { what: WHAT, keys, meaning: "what is needed for its shape" }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use kernels::blocks::BlockKind;
    use model::dummy::DummyShape;
    use model::file::ModelFile;
    use model::gguf::{Entry, GgufWriter};

    use super::*;

    /// A GPT-2 of two layers, of width 8 with two heads, and what is put beside it.
    fn small(entries: &[(&str, u32)], extra: &[(&str, &[u64])]) -> Result<Shape, PlanError> {
        let mut writer = GgufWriter::new();
        writer.entry("general.architecture", &Entry::Text("gpt2"));
        let usual = [
            ("gpt2.block_count", 2),
            ("gpt2.embedding_length", 8),
            ("gpt2.attention.head_count", 2),
            ("gpt2.feed_forward_length", 32),
            ("gpt2.context_length", 16),
        ];
        let given = |key: &str| entries.iter().any(|(other, _)| *other == key);
        let usual = usual.into_iter().filter(|(key, _)| !given(key));
        for (key, value) in usual.chain(entries.iter().copied()) {
            writer.entry(key, &Entry::U32(value));
        }
        let mut tensor = |name: &str, shape: &[u64]| {
            let bytes = 4 * shape.iter().product::<u64>() as usize;
            writer.tensor(name, BlockKind::F32, shape, &vec![0; bytes]);
        };
        tensor("token_embd.weight", &[50, 8]);
        tensor("position_embd.weight", &[16, 8]);
        for layer in 0..2 {
            for (part, shape) in [("attn_qkv", [24, 8]), ("attn_output", [8, 8])] {
                tensor(&format!("blk.{layer}.{part}.weight"), &shape);
                tensor(&format!("blk.{layer}.{part}.bias"), &shape[..1]);
            }
            for (part, shape) in [("ffn_up", [32, 8]), ("ffn_down", [8, 32])] {
                tensor(&format!("blk.{layer}.{part}.weight"), &shape);
                tensor(&format!("blk.{layer}.{part}.bias"), &shape[..1]);
            }
            for part in ["attn_norm", "ffn_norm"] {
                tensor(&format!("blk.{layer}.{part}.weight"), &[8]);
                tensor(&format!("blk.{layer}.{part}.bias"), &[8]);
            }
        }
        tensor("output_norm.weight", &[8]);
        tensor("output_norm.bias", &[8]);
        extra.iter().for_each(|(name, shape)| tensor(name, shape));
        shape("small", &Outline::read(Cursor::new(writer.finish())).unwrap())
    }

    #[test]
    fn a_file_that_is_not_ours_has_the_shape_of_its_tensors() {
        let found = small(&[], &[]).unwrap();
        assert_eq!(found.style, Style::GPT2);
        assert!(found.tied_head && found.notes.is_empty(), "{found:?}");
        // 2 · (12 · 8² + 13 · 8) + 2 · 8 + (50 + 16) · 8.
        assert_eq!(found.parameters(), 2288);
        assert_eq!(found.weight_bytes(), 4 * 2288);
        let untied = small(&[], &[("output.weight", &[50, 8])]).unwrap();
        assert!(!untied.tied_head && untied.notes.is_empty());
        assert_eq!(untied.step_weight_bytes(), found.step_weight_bytes());
    }

    #[test]
    fn a_file_of_ours_has_the_same_shape_either_way() {
        let bytes = DummyShape::tiny().gguf(0);
        let read = shape("x", &Outline::read(Cursor::new(&bytes)).unwrap()).unwrap();
        let loaded = Shape::of_file(&ModelFile::from_bytes(bytes).unwrap());
        assert_eq!((read.sizes, read.style), (loaded.sizes, loaded.style));
        assert_eq!(read.tied_head, loaded.tied_head);
    }

    #[test]
    fn experts_are_counted() {
        let keys = [
            ("gpt2.expert_count", 4),
            ("gpt2.expert_used_count", 2),
            ("gpt2.expert_feed_forward_length", 3),
        ];
        let mixture = small(&keys, &[]).unwrap();
        assert_eq!(mixture.experts, Experts { count: 4, used: 2, shared_ffn: 0 });
        assert_eq!(mixture.layer_elements() - mixture.layer_matrices(), 2 * 2 * 2 * 8 * 3);
        // The tensors of the file are still those of a dense model.
        assert_eq!(mixture.notes.len(), 1);
    }

    #[test]
    fn what_is_not_known_is_noted_and_what_is_not_modelled_refused() {
        let more = small(&[], &[("adapter.weight", &[64, 64])]).unwrap();
        assert!(more.notes[0].contains("`gpt2` has parts"), "{:?}", more.notes);
        for (entries, parts) in [
            ([("gpt2.expert_count", 8)], ["gpt2.expert_used_count", "shape"]),
            ([("gpt2.ssm.state_size", 16)], ["gpt2.ssm.state_size is 16", "state-space"]),
            ([("split.count", 3)], ["split.count is 3", "config.json"]),
            ([("gpt2.block_count", 0)], ["gpt2.block_count is 0", "1 to 1024"]),
            ([("gpt2.attention.head_count", 3)], ["head_count is 3", "divisor of the width, 8"]),
            ([("gpt2.attention.key_length", 4096)], ["key_length is 4096", "1 to 1024"]),
        ] {
            let error = small(&entries, &[]).expect_err("refused").to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
        }
        let none = GgufWriter::new().finish();
        let error = shape("x", &Outline::read(Cursor::new(none)).unwrap()).expect_err("empty");
        assert!(error.to_string().contains("general.architecture"), "{error}");
    }
}
