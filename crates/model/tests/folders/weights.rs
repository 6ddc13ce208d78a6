//! Weights in other types than the fixtures': what is read is what they stand for.

use half::{bf16, f16};
use model::file::ModelFile;
use serde_json::json;

use crate::spoilt::Copy;

const WEIGHTS: &str = "model.safetensors";
const GATE: &str = "model.layers.0.mlp.gate_proj.weight";

/// A tensor by its name in GGUF files, as floats, and the name of its type.
fn read(file: &mut ModelFile, name: &str) -> (String, Vec<f32>) {
    let mut bytes = Vec::new();
    file.read_tensor(name, &mut bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    let mut values = vec![0.0; (tensor.rows() * tensor.cols()) as usize];
    kernels::blocks::dequantise(tensor.kind, &bytes, &mut values);
    (format!("{:?}", tensor.kind), values)
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
}

#[test]
fn halves_are_read_as_they_are_and_norms_are_made_whole() {
    for (name, kind) in [("mistral", "Bf16"), ("gemma3", "Bf16"), ("gpt2", "F16")] {
        let copy = Copy::of(name);
        let round = |x: f32| match kind {
            "F16" => f16::from_f32(x).to_le_bytes(),
            _ => bf16::from_f32(x).to_le_bytes(),
        };
        let value = |bytes: [u8; 2]| match kind {
            "F16" => f16::from_le_bytes(bytes).to_f32(),
            _ => bf16::from_le_bytes(bytes).to_f32(),
        };
        let original = Copy::of(name);
        let mut whole = original.open();
        copy.weights(WEIGHTS, |weights| {
            weights.rewrite(|_, _, bytes| {
                (kind.to_uppercase(), floats(bytes).flat_map(round).collect())
            });
        });
        let mut halves = copy.open();
        let from_one = name == "gemma3";
        for tensor in whole.tensors().to_vec() {
            let (_, expected) = read(&mut whole, &tensor.name);
            let (found_kind, found) = read(&mut halves, &tensor.name);
            let is_norm = tensor.name.ends_with("norm.weight");
            let expected_kind = if from_one && is_norm { "F32" } else { kind };
            assert_eq!(found_kind, expected_kind, "{name} {}", tensor.name);
            // What is rounded is what the file has.
            let less = if from_one && is_norm { 1.0 } else { 0.0 };
            for (found, expected) in found.iter().zip(&expected) {
                let off = found - less - value(round(expected - less));
                assert!(off.abs() <= 1e-2 * less, "{name} {}: {found} {expected}", tensor.name);
            }
        }
    }
}

/// The scale of an element by its row and column.
type ScaleOf = fn(usize, usize) -> f32;

#[test]
fn fp8_is_multiplied_with_the_scale_of_its_matrix_row_or_block() {
    // 1 in E4M3.
    const ONE: u8 = 0x38;
    let grid: Vec<f32> = (0..6).map(|at| (at + 1) as f32).collect();
    let rows: Vec<f32> = (0..96).map(|row| (row + 1) as f32).collect();
    let scale_of: [(&str, &[usize], &[f32], ScaleOf); 5] = [
        ("weight_scale", &[], &[2.0], |_, _| 2.0),
        ("weight_scale", &[1], &[2.0], |_, _| 2.0),
        ("weight_scale", &[96, 1], &rows, |row, _| (row + 1) as f32),
        ("weight_scale", &[3, 2], &grid, |row, col| (row / 32 * 2 + col / 32 + 1) as f32),
        ("weight_scale_inv", &[3, 2], &grid, |row, col| (row / 32 * 2 + col / 32 + 1) as f32),
    ];
    for (ending, shape, scales, expected) in scale_of {
        let copy = with_fp8(&[ONE; 96 * 64], (ending, shape, "F32"), scales);
        let mut file = copy.open();
        let (kind, values) = read(&mut file, "blk.0.ffn_gate.weight");
        assert_eq!(kind, "Bf16");
        for (index, value) in values.into_iter().enumerate() {
            assert_eq!(value, expected(index / 64, index % 64), "{ending} {shape:?} at {index}");
        }
    }
    let good = [ONE; 96 * 64];
    let copy = with_fp8(&good, ("weight_scale", &[5], "F32"), &[1.0; 5]);
    copy.assert_refused(&["model.layers.0.mlp.gate_proj.weight_scale", "[5]", "one for each row"]);
    let copy = with_fp8(&good, ("weight_scale", &[1], "I32"), &[1.0]);
    copy.assert_refused(&["weight_scale", "I32", "BF16 as scales"]);
    let copy = with_fp8(&good, ("weight_scale", &[1], "F32"), &[f32::NAN]);
    copy.assert_refused(&["weight_scale", "NaN", "a finite number"]);
    let copy = with_fp8(&good, ("scale", &[1], "F32"), &[1.0]);
    copy.assert_refused(&[GATE, "FP8", "weight_scale_inv"]);
}

/// A folder with this matrix in FP8, its scales under that name, and one for activations.
fn with_fp8(codes: &[u8], (ending, shape, dtype): (&str, &[usize], &str), scales: &[f32]) -> Copy {
    let copy = Copy::of("mistral");
    copy.config(|config| {
        config["quantization_config"] =
            json!({"quant_method": "compressed-tensors", "weight_block_size": [32, 32]});
    });
    copy.weights(WEIGHTS, |weights| {
        weights.rewrite(|name, dtype, bytes| match name {
            GATE => ("F8_E4M3".to_string(), codes.to_vec()),
            _ => (dtype.to_string(), bytes.to_vec()),
        });
        let stem = GATE.trim_end_matches("weight");
        let bytes: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        weights.push(&format!("{stem}{ending}"), dtype, shape, &bytes);
        weights.push(&format!("{stem}input_scale"), "F32", &[1], &[0; 4]);
    });
    copy
}

#[test]
fn a_head_of_its_own_beside_a_tied_one_is_not_read() {
    let copy = Copy::of("mistral");
    assert!(!copy.open().config.tied_head());
    copy.config(|config| config["tie_word_embeddings"] = json!(true));
    let file = copy.open();
    assert!(file.config.tied_head() && file.tensor("output.weight").is_none());
    let copy = Copy::of("qwen3");
    copy.config(|config| config["tie_word_embeddings"] = json!(false));
    copy.assert_refused(&["lm_head.weight", "is missing"]);
}
