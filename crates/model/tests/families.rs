//! A tiny model of each family against what the transformers library computes with it.
//!
//! `fixtures/families/README.md` says how they were made.

use std::path::PathBuf;

use engine::KvGroups;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::KvType;
use kernels::share::SequenceRows;
use model::architecture::KNOWN;
use model::file::ModelFile;
use model::rope::RopeScaling;
use model::transformer::{Batch, TopRow, Transformer, TransformerSizes};
use model::weights::Weights;
use serde_json::Value;

/// Each model, and the family that it is of.
const MODELS: [(&str, &str); 12] = [
    ("llama3", "llama"),
    ("llama-yarn", "llama"),
    ("mistral", "llama"),
    ("mixtral", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("qwen3moe", "qwen3moe"),
    ("gemma3", "gemma3"),
    ("phi3", "phi3"),
    ("phi3-short", "phi3"),
    ("phi3-long", "phi3"),
    ("gpt2", "gpt2"),
];

/// What there is only a folder of: weights in 8 bits.
const FP8: &str = "qwen2-fp8";

/// Off by so much of the largest logit at most.
const TOLERANCE: f32 = 1e-4;

struct Golden {
    prompt: Vec<u32>,
    positions: Vec<usize>,
    logits: Vec<Vec<f32>>,
    answer: Vec<u32>,
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families").join(name)
}

fn golden(name: &str) -> Golden {
    let path = fixture(&format!("{name}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let json: Value = serde_json::from_str(&text).unwrap();
    let ids = |value: &Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let floats =
        |row: &Value| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    Golden {
        prompt: ids(&json["prompt"]),
        positions: ids(&json["positions"]).into_iter().map(|at| at as usize).collect(),
        logits: json["logits"].as_array().unwrap().iter().map(floats).collect(),
        answer: ids(&json["answer"]),
    }
}

/// The files and folders, each with the name of its golden values.
fn sources() -> Vec<(&'static str, String)> {
    let both =
        |(name, _): (&'static str, _)| [(name, format!("{name}.gguf")), (name, name.to_string())];
    MODELS.into_iter().flat_map(both).chain([(FP8, FP8.to_string())]).collect()
}

fn open(source: &str) -> ModelFile {
    ModelFile::open(&fixture(source)).unwrap_or_else(|error| panic!("{source}: {error}"))
}

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

/// The model in 32-bit floats throughout.
fn exact(name: &str, cpu: &mut Cpu) -> Transformer {
    let mut file = open(name);
    let weights = Weights::load_float32(&mut file, cpu).unwrap();
    Transformer::new(file.config.clone(), weights, SIZES, cpu)
}

/// The model as it is served.
fn shipped(name: &str, kv_type: KvType, cpu: &mut Cpu) -> Transformer {
    let mut file = open(name);
    let weights = Weights::load(&mut file, cpu).unwrap();
    Transformer::new(file.config.clone(), weights, TransformerSizes { kv_type, ..SIZES }, cpu)
}

/// The logits of all tokens of each step, `(sequence, first position, tokens)` for each part.
fn run(
    transformer: &mut Transformer,
    cpu: &mut Cpu,
    steps: &[Vec<(usize, usize, &[u32])>],
) -> Vec<Vec<f32>> {
    const TABLES: [[u32; 2]; 3] = [[5, 2], [0, 7], [3, 4]];
    let step = |parts: &Vec<(usize, usize, &[u32])>| {
        let tokens: Vec<u32> = parts.iter().flat_map(|part| part.2).copied().collect();
        let mut row = 0;
        let sequences: Vec<_> = (parts.iter())
            .map(|&(sequence, position, tokens)| {
                let part =
                    SequenceRows { row, rows: tokens.len(), position, blocks: &TABLES[sequence] };
                row += tokens.len();
                part
            })
            .collect();
        let wanted: Vec<usize> = (0..row).collect();
        let batch = Batch {
            tokens: &tokens,
            sequences: &sequences,
            adapters: &[],
            logits_rows: &wanted,
            top_rows: &[],
        };
        transformer.forward(cpu, batch).logits.to_vec()
    };
    steps.iter().map(step).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_family_has_a_model_here() {
    for known in KNOWN {
        assert!(MODELS.iter().any(|(_, family)| *family == known.name), "{} has none", known.name);
    }
    for (name, family) in MODELS {
        let (file, folder) = (open(&format!("{name}.gguf")), open(name));
        assert_eq!(file.config.architecture.name, family, "{name}");
        assert_eq!(folder.config.architecture.name, family, "{name}");
        assert_eq!(file.parameter_count(), folder.parameter_count(), "{name}");
    }
}

#[test]
fn a_folder_says_what_it_is() {
    for (source, parts) in [
        ("qwen2", ["safetensors in 3 files\n", "27 F32", "byte-level"]),
        (FP8, ["safetensors, FP8 with scales\n", "27 BF16", "0 `<|end|>`"]),
    ] {
        let text = open(source).description().replace("gpt2 / tokenizer.json", "byte-level");
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
    }
}

#[test]
fn logits_equal_those_of_the_transformers_library() {
    for isa in Isa::all_available() {
        let mut cpu = Cpu::new(2, isa);
        for (name, source) in sources() {
            let Golden { prompt, positions, logits, .. } = golden(name);
            let all =
                run(&mut exact(&source, &mut cpu), &mut cpu, &[vec![(0, 0, &prompt)]]).remove(0);
            let vocabulary = all.len() / prompt.len();
            for (position, expected) in positions.into_iter().zip(logits) {
                let found = &all[position * vocabulary..(position + 1) * vocabulary];
                let largest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let off = (found.iter().zip(&expected))
                    .fold(0.0_f32, |most, (found, expected)| most.max((found - expected).abs()));
                println!("{source} {isa} at {position}: off by {} of the largest", off / largest);
                assert!(
                    off <= TOLERANCE * largest,
                    "{source} {isa} at {position}: off by {off}, of logits up to {largest}"
                );
            }
        }
    }
}

#[test]
fn what_is_asked_for_and_not_what_there_is_room_for_says_which_frequencies_count() {
    let mut cpu = Cpu::new(2, Isa::detect());
    let prompt = &golden("phi3-long").prompt[..16];
    let mut logits = |asked_len, positions_max| {
        let mut file = open("phi3-long.gguf");
        let scaling = file.config.rope.as_ref().map(|rope| &rope.scaling);
        let Some(RopeScaling::Long { context, .. }) = scaling else { panic!("{scaling:?}") };
        assert!((16..64).contains(context), "{context}");
        let weights = Weights::load_float32(&mut file, &mut cpu).unwrap();
        let sizes = TransformerSizes { asked_len, positions_max, ..SIZES };
        let mut transformer = Transformer::new(file.config.clone(), weights, sizes, &cpu);
        bits(&run(&mut transformer, &mut cpu, &[vec![(0, 0, prompt)]]).remove(0))
    };
    let long = logits(64, 64);
    assert_eq!(logits(64, 16), long, "less room");
    assert_ne!(logits(16, 64), long, "shorter sequences");
}

#[test]
fn greedy_answers_equal_those_of_the_transformers_library() {
    let mut cpu = Cpu::new(2, Isa::detect());
    for (name, source) in sources() {
        let Golden { prompt, answer, .. } = golden(name);
        let mut transformer = exact(&source, &mut cpu);
        let (mut tokens, mut position) = (prompt, 0);
        let mut found = Vec::new();
        while found.len() < answer.len() {
            let sequence = SequenceRows { row: 0, rows: tokens.len(), position, blocks: &[6, 1] };
            let batch = Batch {
                tokens: &tokens,
                sequences: &[sequence],
                adapters: &[],
                logits_rows: &[],
                top_rows: &[TopRow::greatest(tokens.len() - 1)],
            };
            let top = transformer.forward(&mut cpu, batch).top.remove(0).expect("finite logits");
            position += tokens.len();
            tokens = vec![top[0].0];
            found.push(top[0].0);
        }
        assert_eq!(found, answer, "{source}");
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_beside_others_whole_and_in_chunks() {
    for (name, source) in sources() {
        let prompt = golden(name).prompt;
        let others: Vec<u32> = prompt.iter().rev().copied().collect();
        for kv_type in KvType::OFFERED {
            let mut one = Cpu::new(1, Isa::detect());
            let mut transformer = shipped(&source, kv_type, &mut one);
            let alone = run(&mut transformer, &mut one, &[vec![(0, 0, &prompt)]]).remove(0);
            let vocabulary = alone.len() / prompt.len();
            let mut three = Cpu::new(3, Isa::detect());
            let mut transformer = shipped(&source, kv_type, &mut three);
            let steps = [
                vec![(1, 0, &others[..17]), (0, 0, &prompt[..9])],
                vec![(0, 9, &prompt[9..10]), (2, 0, &others[3..5])],
                vec![(2, 2, &others[5..20]), (0, 10, &prompt[10..35]), (1, 17, &others[17..18])],
                vec![(0, 35, &prompt[35..])],
            ];
            let parts = run(&mut transformer, &mut three, &steps);
            let mut rows = Vec::new();
            for (step, logits) in steps.iter().zip(&parts) {
                let mut row = 0;
                for &(sequence, _, tokens) in step {
                    if sequence == 0 {
                        let part = &logits[row * vocabulary..(row + tokens.len()) * vocabulary];
                        rows.extend_from_slice(part);
                    }
                    row += tokens.len();
                }
            }
            assert_eq!(bits(&alone), bits(&rows), "{source} {kv_type}");
        }
    }
}
