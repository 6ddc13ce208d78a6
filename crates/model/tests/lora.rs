//! Adapters of the tiny models against what the peft library computes with them merged, alone and beside
//! each other.
//!
//! `fixtures/adapters/README.md` says how they were made.

use std::path::{Path, PathBuf};

use engine::KvGroups;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::KvType;
use kernels::share::SequenceRows;
use model::file::ModelFile;
use model::lora::{Adapter, AdapterFile};
use model::transformer::{Batch, Transformer, TransformerSizes};
use model::weights::Weights;
use serde_json::Value;

/// Each with the model that it is for.
const ADAPTERS: [(&str, &str); 7] = [
    ("llama-all", "llama3"),
    ("llama-attention", "llama3"),
    ("qwen2-all", "qwen2"),
    ("gemma3-all", "gemma3"),
    ("mixtral-attention", "mixtral"),
    ("phi3-all", "phi3"),
    ("gpt2-all", "gpt2"),
];
/// Those that are there as GGUF too.
const IN_GGUF: [(&str, &str); 2] = [("llama-all", "llama3"), ("qwen2-all", "qwen2")];

/// Off by so much of the largest logit at most.
const TOLERANCE: f32 = 1e-4;

const SIZES: TransformerSizes = TransformerSizes {
    step_tokens_max: 128,
    logits_rows_max: 128,
    positions_max: 64,
    asked_len: 64,
    block_size: 32,
    block_count: 8,
    kv_groups: KvGroups::ONE,
    kv_type: KvType::F32,
};

fn fixture(folder: &str, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(folder).join(name)
}

fn json(folder: &str, name: &str) -> Value {
    let path = fixture(folder, &format!("{name}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn base(name: &str) -> ModelFile {
    ModelFile::open(&fixture("families", &format!("{name}.gguf"))).unwrap()
}

/// The same model from its file and from its folder, where rows are in other orders.
fn bases(name: &str) -> [ModelFile; 2] {
    [base(name), ModelFile::open(&fixture("families", name)).unwrap()]
}

fn open(path: &Path, base: &ModelFile) -> Result<AdapterFile, String> {
    AdapterFile::open(path, &base.config).map_err(|error| error.to_string())
}

fn load(name: &str, base: &ModelFile) -> Adapter {
    open(&fixture("adapters", name), base).unwrap().load().unwrap()
}

/// The model with these adapters: in 32-bit floats throughout, or as it is served.
fn transformer(
    mut base: ModelFile,
    adapters: Vec<Adapter>,
    shipped: Option<KvType>,
    cpu: &mut Cpu,
) -> Transformer {
    let mut weights = match shipped {
        None => Weights::load_float32(&mut base, cpu).unwrap(),
        Some(_) => Weights::load(&mut base, cpu).unwrap(),
    };
    weights.adapters = adapters;
    let sizes = TransformerSizes { kv_type: shipped.unwrap_or(KvType::F32), ..SIZES };
    Transformer::new(base.config.clone(), weights, sizes, cpu)
}

/// Part of a sequence: which one, with which adapter, from where on.
type Part<'a> = (usize, Option<usize>, usize, &'a [u32]);

/// The logits of all tokens of a step.
fn step(transformer: &mut Transformer, cpu: &mut Cpu, parts: &[Part<'_>]) -> Vec<f32> {
    const TABLES: [[u32; 2]; 4] = [[5, 2], [0, 7], [3, 4], [6, 1]];
    let tokens: Vec<u32> = parts.iter().flat_map(|part| part.3).copied().collect();
    let mut row = 0;
    let sequences: Vec<_> = (parts.iter())
        .map(|&(sequence, _, position, tokens)| {
            let rows = tokens.len();
            row += rows;
            SequenceRows { row: row - rows, rows, position, blocks: &TABLES[sequence] }
        })
        .collect();
    let adapters: Vec<_> = parts.iter().map(|part| part.1).collect();
    let wanted: Vec<usize> = (0..row).collect();
    let batch = Batch {
        tokens: &tokens,
        sequences: &sequences,
        adapters: &adapters,
        logits_rows: &wanted,
        top_rows: &[],
    };
    transformer.forward(cpu, batch).logits.to_vec()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn logits_and_greedy_answers_equal_those_of_the_merged_model() {
    for isa in Isa::all_available() {
        let mut cpu = Cpu::new(2, isa);
        let all =
            ADAPTERS.into_iter().flat_map(|(name, base)| bases(base).map(|of| (name, base, of)));
        for (name, base_name, file) in all {
            let (golden, of_base) = (json("adapters", name), json("families", base_name));
            assert_eq!(golden["base"], base_name);
            let adapters = vec![load(name, &file)];
            let mut transformer = transformer(file, adapters, None, &mut cpu);
            let mut tokens = ids(&of_base["prompt"]);
            let all = step(&mut transformer, &mut cpu, &[(0, Some(0), 0, &tokens)]);
            let vocabulary = all.len() / tokens.len();
            let expected = golden["logits"].as_array().unwrap();
            for (position, expected) in ids(&of_base["positions"]).into_iter().zip(expected) {
                let found = &all[position as usize * vocabulary..][..vocabulary];
                let expected = expected.as_array().unwrap().iter();
                let expected: Vec<f32> = expected.map(|x| x.as_f64().unwrap() as f32).collect();
                let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let off = (found.iter().zip(&expected))
                    .fold(0.0_f32, |most, (found, expected)| most.max((found - expected).abs()));
                println!("{name} {isa} at {position}: off by {} of the largest", off / largest);
                assert!(off <= TOLERANCE * largest, "{name} {isa} at {position}: off by {off}");
            }
            let (mut position, mut logits, mut answer) = (0, all, Vec::new());
            let expected = ids(&golden["answer"]);
            while answer.len() < expected.len() {
                let last = &logits[logits.len() - vocabulary..];
                let best = (0..vocabulary).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
                answer.push(best as u32);
                position += tokens.len();
                tokens = vec![best as u32];
                let part = (0, Some(0), position, &tokens[..]);
                logits = step(&mut transformer, &mut cpu, &[part]);
            }
            assert_eq!(answer, expected, "{name} {isa}");
        }
    }
}

#[test]
fn an_adapter_in_gguf_gives_the_bits_of_the_folder_it_was_made_of() {
    let mut cpu = Cpu::new(1, Isa::detect());
    let all = IN_GGUF.into_iter().flat_map(|(name, base)| bases(base).map(|of| (name, base, of)));
    for (name, base_name, file) in all {
        let prompt = ids(&json("families", base_name)["prompt"]);
        let adapters = vec![load(name, &file), load(&format!("{name}.gguf"), &file)];
        let mut transformer = transformer(file, adapters, None, &mut cpu);
        let logits = [None, Some(0), Some(1)]
            .map(|adapter| step(&mut transformer, &mut cpu, &[(0, adapter, 0, &prompt)]));
        assert_eq!(bits(&logits[1]), bits(&logits[2]), "{name}");
        assert_ne!(bits(&logits[0]), bits(&logits[1]), "{name}");
    }
}

#[test]
fn rows_with_and_without_adapters_have_the_bits_that_they_have_alone_whole_and_in_chunks() {
    let file = || base("llama3");
    let prompt = ids(&json("families", "llama3")["prompt"]);
    let adapters = || vec![load("llama-all", &file()), load("llama-attention", &file())];
    for kv_type in KvType::OFFERED {
        let mut one = Cpu::new(1, Isa::detect());
        let mut without = transformer(file(), Vec::new(), Some(kv_type), &mut one);
        let mut with = transformer(file(), adapters(), Some(kv_type), &mut one);
        let alone: Vec<Vec<f32>> = [None, Some(0), Some(1)]
            .map(|adapter| step(&mut with, &mut one, &[(0, adapter, 0, &prompt)]))
            .into();
        let plain = step(&mut without, &mut one, &[(0, None, 0, &prompt)]);
        assert_eq!(bits(&plain), bits(&alone[0]), "an adapter changes rows without one");
        let vocabulary = plain.len() / prompt.len();

        let mut three = Cpu::new(3, Isa::detect());
        let mut shared = transformer(file(), adapters(), Some(kv_type), &mut three);
        // Two sequences take the second adapter, and steps are of few rows and of many.
        let takes = [None, Some(0), Some(1), Some(1)];
        let cuts: [[usize; 6]; 4] =
            [[0, 9, 10, 10, 35, 40], [0, 17, 18, 20, 39, 40], [0, 1, 2, 30, 31, 40], [0; 6]];
        let mut rows = vec![Vec::new(); 4];
        for index in 0..5 {
            let mut parts: Vec<Part<'_>> = Vec::new();
            for (sequence, cuts) in cuts.iter().enumerate() {
                let (start, end) = match sequence {
                    3 if index == 2 => (0, prompt.len()),
                    _ => (cuts[index], cuts[index + 1]),
                };
                if start < end {
                    parts.push((sequence, takes[sequence], start, &prompt[start..end]));
                }
            }
            let logits = step(&mut shared, &mut three, &parts);
            let mut logits = &logits[..];
            for (sequence, _, _, tokens) in parts {
                let (own, others) = logits.split_at(tokens.len() * vocabulary);
                rows[sequence].extend_from_slice(own);
                logits = others;
            }
        }
        for (sequence, (rows, adapter)) in rows.iter().zip(takes).enumerate() {
            let expected = &alone[adapter.map_or(0, |adapter| adapter + 1)];
            assert_eq!(bits(rows), bits(expected), "sequence {sequence}, {kv_type}");
        }
    }
}

/// A copy of an adapter's folder, changed by `change`.
fn changed(name: &str, change: impl FnOnce(&mut Value, &mut Vec<u8>)) -> tempfile::TempDir {
    let (folder, copy) = (fixture("adapters", name), tempfile::tempdir().unwrap());
    let settings = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    let mut settings: Value = serde_json::from_str(&settings).unwrap();
    let mut tensors = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    change(&mut settings, &mut tensors);
    std::fs::write(copy.path().join("adapter_config.json"), settings.to_string()).unwrap();
    std::fs::write(copy.path().join("adapter_model.safetensors"), tensors).unwrap();
    copy
}

/// Replaces text of the same length in the header.
fn replace(tensors: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let at = tensors.windows(from.len()).position(|part| part == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no `{from}`"));
    tensors[at..at + to.len()].copy_from_slice(to.as_bytes());
}

#[test]
fn what_does_not_fit_the_model_is_refused_with_the_tensor_and_what_was_expected() {
    let refused = |name: &str, base_name: &str, change: &dyn Fn(&mut Value, &mut Vec<u8>)| {
        let copy = changed(name, |settings, tensors| change(settings, tensors));
        open(copy.path(), &base(base_name)).err().expect("it is refused")
    };
    let tensor = |from: &'static str, to: &'static str| {
        move |_: &mut Value, tensors: &mut Vec<u8>| replace(tensors, from, to)
    };
    let cases: [(&str, String, &[&str]); 8] = [
        (
            "another model",
            refused("llama-all", "qwen2", &|_, _| {}),
            &["self_attn.k_proj.lora_B", "[64, 8]", "expected [32, 8]"],
        ),
        (
            "a model with experts",
            refused("llama-all", "mixtral", &|_, _| {}),
            &["mlp.down_proj.lora_A", "attn_q, attn_k, attn_v, attn_output of its 2 layers alone"],
        ),
        (
            "fused tensors",
            refused("phi3-all", "llama3", &|_, _| {}),
            &["mlp.gate_up_proj", "change attn_q, attn_k"],
        ),
        (
            "a layer too many",
            refused("llama-all", "llama3", &tensor("layers.1.self_attn.q", "layers.2.self_attn.q")),
            &["layers.2.self_attn.q_proj", "of its 2 layers"],
        ),
        (
            "one half",
            refused("llama-all", "llama3", &tensor("layers.1.self_attn.q", "layers.0.self_attn.o")),
            &["tensor `"],
        ),
        (
            "another kind of adapter",
            refused("llama-all", "llama3", &|settings, _| settings["use_dora"] = Value::Bool(true)),
            &["adapter_config.json", "`use_dora` = true"],
        ),
        (
            "shapes that lie",
            refused("llama-all", "llama3", &tensor("[8,64]", "[64,8]")),
            &["shape [64, 8]", "expected [64, 64]"],
        ),
        (
            "integers",
            refused("qwen2-all", "qwen2", &tensor("\"F16\"", "\"I16\"")),
            &["type I16", "F32, F16 and BF16 are"],
        ),
    ];
    for (what, error, parts) in cases {
        for part in parts {
            assert!(error.contains(part), "{what}: {part} is not in: {error}");
        }
    }
    let gguf = fixture("adapters", "llama-all.gguf");
    let error = open(&gguf, &base("qwen2")).err().unwrap();
    assert!(error.contains("general.architecture") && error.contains("`qwen2`"), "{error}");
    let error = open(&fixture("families", "llama3.gguf"), &base("llama3")).err().unwrap();
    assert!(error.contains("general.type"), "{error}");
    let error = open(&fixture("adapters", "none"), &base("llama3")).err().unwrap();
    assert!(error.contains("cannot open"), "{error}");
}

#[test]
fn broken_files_are_errors_and_no_panics() {
    let base = base("llama3");
    let folder = fixture("adapters", "llama-attention");
    let tensors = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let gguf = std::fs::read(fixture("adapters", "llama-all.gguf")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("adapter.gguf");
    let attempt = |tensors: Option<&[u8]>, gguf: Option<&[u8]>| {
        let copy = changed("llama-attention", |_, own| {
            if let Some(tensors) = tensors {
                *own = tensors.to_vec();
            }
        });
        let path = match gguf {
            None => copy.path(),
            Some(gguf) => {
                std::fs::write(&file, gguf).unwrap();
                &file
            }
        };
        AdapterFile::open(path, &base.config).and_then(AdapterFile::load).is_ok()
    };
    assert!(attempt(None, None) && attempt(None, Some(&gguf)));
    for length in (0..tensors.len()).step_by(173) {
        assert!(!attempt(Some(&tensors[..length]), None), "cut to {length}");
    }
    for length in (0..gguf.len() - 32).step_by(1_009) {
        assert!(!attempt(None, Some(&gguf[..length])), "cut to {length}");
    }
    // Some of these are adapters with other numbers.
    for at in (0..3_000).step_by(19) {
        let flipped = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1 << (at % 8);
            bytes
        };
        attempt(Some(&flipped(&tensors)), None);
        attempt(None, Some(&flipped(&gguf)));
    }
}
