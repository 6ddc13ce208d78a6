//! `--lora`: adapters of `dummy:tiny`, made here from seeds.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kernels::blocks::BlockKind;
use model::gguf::{Entry, GgufWriter};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Server, TINY, millrace};

const COMPLETIONS: &str = "/v1/completions";
/// Of all matrices of `dummy:tiny` that adapters may change: the library's name, GGUF's name, rows
/// and columns.
const MATRICES: [(&str, &str, u64, u64); 4] = [
    ("self_attn.q_proj", "attn_q", 128, 64),
    ("self_attn.v_proj", "attn_v", 64, 64),
    ("self_attn.o_proj", "attn_output", 64, 128),
    ("mlp.up_proj", "ffn_up", 160, 64),
];
const RANK: u64 = 4;

/// Numbers that look random, so large that answers change, as the bytes of 32-bit floats.
fn numbers(seed: u32, count: u64) -> Vec<u8> {
    let number = |i: u32| {
        let mixed = (i ^ seed << 20).wrapping_mul(2_654_435_761).rotate_left(13);
        (mixed.wrapping_mul(2_246_822_519) >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count as u32).flat_map(|i| number(i).to_le_bytes()).collect()
}

/// The tensors of an adapter: layer, matrix, and both halves.
fn tensors(seed: u32) -> Vec<(usize, usize, Vec<u8>, Vec<u8>)> {
    let matrix = |index: usize| {
        let (_, _, rows, cols) = MATRICES[index % MATRICES.len()];
        let seed = seed + 16 * index as u32;
        let (a, b) = (numbers(seed, RANK * cols), numbers(seed + 7, rows * RANK));
        (index / MATRICES.len(), index % MATRICES.len(), a, b)
    };
    (0..2 * MATRICES.len()).map(matrix).collect()
}

fn gguf(folder: &Path, seed: u32) -> PathBuf {
    let float = BlockKind::F32;
    let mut writer = GgufWriter::new();
    writer.entry("general.type", &Entry::Text("adapter"));
    writer.entry("general.architecture", &Entry::Text("llama"));
    writer.entry("adapter.type", &Entry::Text("lora"));
    writer.entry("adapter.lora.alpha", &Entry::F32(8.0));
    for (layer, matrix, a, b) in tensors(seed) {
        let (_, name, rows, cols) = MATRICES[matrix];
        let name = format!("blk.{layer}.{name}.weight");
        writer.tensor(&format!("{name}.lora_a"), float, &[RANK, cols], &a);
        writer.tensor(&format!("{name}.lora_b"), float, &[rows, RANK], &b);
    }
    let path = folder.join(format!("{seed}.gguf"));
    std::fs::write(&path, writer.finish()).expect("the folder can be written to");
    path
}

fn peft(folder: &Path, seed: u32) -> PathBuf {
    let (mut header, mut data) = (json!({}), Vec::new());
    for (layer, matrix, a, b) in tensors(seed) {
        let (name, _, rows, cols) = MATRICES[matrix];
        for (half, shape, bytes) in [("A", [RANK, cols], a), ("B", [rows, RANK], b)] {
            let name = format!("base_model.model.model.layers.{layer}.{name}.lora_{half}.weight");
            let places = [data.len(), data.len() + bytes.len()];
            header[name] = json!({"dtype": "F32", "shape": shape, "data_offsets": places});
            data.extend(bytes);
        }
    }
    let settings = json!({"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "use_dora": false});
    let header = header.to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    let path = folder.join(format!("folder {seed}"));
    std::fs::create_dir(&path).expect("the folder can be written to");
    std::fs::write(path.join("adapter_config.json"), settings.to_string()).expect("as above");
    std::fs::write(path.join("adapter_model.safetensors"), file).expect("as above");
    path
}

/// Options of a server with two adapters, which lie in the folder.
fn options(folder: &TempDir) -> [String; 4] {
    let option = |name: &str, path: PathBuf| format!("{name}={}", path.display());
    let (sql, poem) = (gguf(folder.path(), 1), peft(folder.path(), 2));
    ["--lora".to_owned(), option("sql", sql), "--lora".to_owned(), option("poem", poem)]
}

fn body(model: &str) -> Value {
    json!({
        "model": model, "prompt": "Once upon a time", "max_tokens": 24, "temperature": 0,
        "ignore_eos": true,
    })
}

#[test]
fn adapters_are_chosen_by_name_and_answer_alike_alone_and_beside_each_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = options(&folder);
    let arguments = TINY.iter().copied().chain(options.iter().map(String::as_str));
    let server = Server::start(arguments);
    let models = server.get("/v1/models").json();
    for (place, name) in ["dummy:tiny", "sql", "poem"].into_iter().enumerate() {
        assert_eq!(models["data"][place]["id"], name);
    }
    assert_eq!(models["data"][2]["parent"], "dummy:tiny");
    let text = |model: &str| {
        let reply = server.post(COMPLETIONS, &body(model));
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()["choices"][0]["text"].clone()
    };
    let names = ["dummy:tiny", "sql", "poem"];
    let alone = names.map(text);
    assert!(alone[0] != alone[1] && alone[1] != alone[2] && alone[0] != alone[2], "{alone:?}");
    let plain = Server::start(TINY.iter().copied());
    let reply = plain.post(COMPLETIONS, &body("dummy:tiny")).json();
    assert_eq!(reply["choices"][0]["text"], alone[0], "adapters change the model itself");

    let text = &text;
    let crowd: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..12).map(|i| scope.spawn(move || text(names[i % 3]))).collect();
        asking.into_iter().map(|asking| asking.join().expect("it was answered")).collect()
    });
    for (i, answer) in crowd.iter().enumerate() {
        assert_eq!(*answer, alone[i % 3], "{}", names[i % 3]);
    }
    let mut stream = body("poem");
    stream["stream"] = json!(true);
    let mut streamed = String::new();
    for event in server.open(COMPLETIONS, &stream).events() {
        assert_eq!(event["model"], "poem");
        write!(streamed, "{}", event["choices"][0]["text"].as_str().unwrap_or_default())
            .expect("writing to a String cannot fail");
    }
    assert_eq!(json!(streamed), alone[2]);
    let log = server.stderr();
    assert!(log.contains(" + adapters ") && log.contains("model=\"sql\""), "{log}");
}

#[test]
fn generate_answers_with_the_one_adapter_that_it_is_given() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [_, sql, _, poem] = options(&folder);
    let run = |more: &[&str]| {
        let common = ["generate", "--raw", "--max-tokens", "12", "Once upon a time"];
        let ended = millrace(common.iter().chain(TINY).chain(more).copied());
        (ended.code(), ended.stdout, ended.stderr)
    };
    let (plain, with_sql) = (run(&[]), run(&["--lora", &sql]));
    assert_eq!((plain.0, with_sql.0), (Some(0), Some(0)), "{}", with_sql.2);
    assert_ne!(plain.1, with_sql.1);
    let (code, _, error) = run(&["--lora", &sql, "--lora", &poem]);
    assert!(code == Some(1) && error.contains("one adapter"), "{error}");
}

#[test]
fn what_is_no_adapter_of_the_model_ends_the_start_with_one_line_that_says_why() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [_, sql, _, poem] = options(&folder);
    let nowhere = format!("sql={}", folder.path().join("none").display());
    let seed = ["--model", "dummy:seed", "--lora", sql.as_str()];
    for (arguments, parts) in [
        (["--lora", "sql"].to_vec(), ["NAME=PATH", "sql"]),
        (["--lora", nowhere.as_str()].to_vec(), ["--lora sql", "cannot open"]),
        (["--lora", sql.as_str(), "--lora", sql.as_str()].to_vec(), ["--lora sql", "this name"]),
        (
            ["--served-model-name", "poem", "--lora", poem.as_str()].to_vec(),
            ["--lora poem", "name"],
        ),
        (seed.to_vec(), ["general.architecture", "`gpt2`"]),
    ] {
        let model: &[&str] = if arguments.contains(&"--model") { &[] } else { TINY };
        let ended =
            millrace(["serve", "--port", "0"].iter().chain(model).chain(&arguments).copied());
        // What cannot be read as options is the command line's.
        let expected = if arguments == ["--lora", "sql"] { 2 } else { 1 };
        assert_eq!(ended.code(), Some(expected), "{arguments:?}: {}", ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "no {part} in {}", ended.stderr);
        }
    }
}
