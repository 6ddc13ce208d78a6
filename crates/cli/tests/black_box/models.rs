//! `check`, `pull`, `models`, `generate` and `perplexity`: models by themselves.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::process::{Process, REAL, TINY, millrace};

/// The default model's file, fetched if need be.
fn default_model() -> PathBuf {
    PathBuf::from(millrace(["pull"]).output().trim_end())
}

#[test]
fn a_good_model_is_described() {
    let checked = millrace(["check"]);
    for line in [
        "format         GGUF 3\n",
        "architecture   llama\n",
        "layers         30\n",
        "context        8192 tokens\n",
        "tokenizer      gpt2 / smollm, 48900 merges, 49152 tokens\n",
        "end tokens     2 `<|im_end|>`\n",
        "chat           template works: \"Hello\" from a user is a prompt of 31 tokens\n",
    ] {
        assert!(checked.output().contains(line), "no {line:?} in {}", checked.stdout);
    }
    let path = default_model();
    let by_path = millrace(["check", path.to_str().expect("it is text")]);
    assert_eq!(by_path.output(), checked.stdout);
}

/// Checks a file that holds `bytes`; gives what was said.
#[track_caller]
fn assert_unusable(path: &Path, bytes: &[u8]) -> String {
    fs::write(path, bytes).expect("the folder is ours");
    let checked = millrace(["check", path.to_str().expect("it is text")]);
    assert_eq!((checked.code(), checked.stdout.as_str()), (Some(2), ""), "{}", checked.stderr);
    let (line, rest) = checked.stderr.split_once('\n').expect("a whole line");
    assert_eq!(rest, "");
    assert!(line.starts_with(&format!("millrace: cannot load {}: ", path.display())), "{line}");
    checked.stderr
}

#[test]
fn a_bad_model_ends_with_code_2_and_one_line_of_cause() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let path = folder.path().join("bad.gguf");
    let good = fs::read(default_model()).expect("it was fetched");
    for (length, part) in [(0, "bytes"), (3, "bytes"), (20, "bytes"), (100_000, "bytes")] {
        let said = assert_unusable(&path, &good[..length]);
        assert!(said.contains(part), "cut to {length}: {said}");
    }
    let weights_missing = assert_unusable(&path, &good[..good.len() / 2]);
    assert!(weights_missing.contains("tensor"), "{weights_missing}");
    let garbage: Vec<u8> = (0..10_000_u32).map(|i| (i * i % 251) as u8).collect();
    assert!(assert_unusable(&path, &garbage).contains("not a GGUF file"));
    let mut other = good;
    // The value stands behind its key, type and length.
    let key = b"general.architecture";
    let key_at = other.windows(key.len()).position(|part| part == key).expect("it is there");
    let at = key_at + key.len() + 12;
    assert_eq!(&other[at..at + 5], b"llama");
    other[at..at + 5].copy_from_slice(b"ollam");
    assert!(assert_unusable(&path, &other).contains("`ollam`"));
}

#[test]
fn the_default_model_is_listed_as_it_is() {
    let path = default_model();
    let list: Value = serde_json::from_str(millrace(["models", "--json"]).output()).unwrap();
    let listed = &list["models"][0];
    assert_eq!(listed["name"], "smollm2-135m");
    assert_eq!(listed["path"], path.to_str().expect("it is text"));
    assert_eq!(listed["bytes"], fs::metadata(path).unwrap().len());
    // What the catalogue says of the file, and what the file says itself.
    assert_eq!(listed["weight_types"], json!(["Q4_1", "Q8_0", "F32"]));
    assert_eq!(listed["context"], 8192);
    assert_eq!(listed["licence"], "Apache-2.0");
    let plan = millrace(["plan", "--json"]);
    let plan: Value = serde_json::from_str(&plan.stdout).expect("it is JSON");
    for term in ["weights_bytes", "activation_bytes", "buffer_bytes"] {
        assert_eq!(listed[term], plan[term], "{term}");
    }
    assert_eq!(listed["kv_bytes"], plan["block_bytes"].as_u64().unwrap() * (8192 / 32));

    let table = millrace(["models"]);
    let row = table.output().lines().find(|line| line.starts_with("smollm2-135m ")).unwrap();
    assert!(
        ["  93.81 MiB  ", "  Q4_1 Q8_0 F32  ", "  8,192  "].iter().all(|c| row.contains(c)),
        "{row}"
    );
    assert!(table.stdout.lines().any(|line| line.starts_with("gemma3-270m ")), "{}", table.stdout);
}

/// The answer to `arguments`.
#[track_caller]
fn answer(model: &[&str], arguments: &[&str]) -> String {
    let all = ["generate"].iter().chain(arguments).chain(model);
    millrace(all.copied()).output().to_owned()
}

#[test]
fn the_default_model_knows_the_capital_of_france() {
    let question = ["What is the capital of France?", "--max-tokens", "24"];
    let said = answer(REAL, &question);
    assert!(said.contains("Paris") && said.ends_with('\n'), "{said}");
    assert!(!said.contains("<|"), "control tokens are not shown: {said}");
    let raw = answer(REAL, &["The capital of France is", "--raw", "--max-tokens", "4"]);
    assert!(raw.contains("Paris"), "{raw}");
}

#[test]
fn the_same_seed_gives_the_same_answer_and_another_one_another() {
    let drawn = |seed| {
        let options = ["--temperature", "1", "--top-k", "40", "--max-tokens", "40"];
        answer(TINY, &[&["hello", "--seed", seed][..], &options].concat())
    };
    assert_eq!(drawn("7"), drawn("7"));
    assert_ne!(drawn("7"), drawn("8"));
}

#[test]
fn the_prompt_may_come_from_stdin() {
    let arguments = ["generate", "-", "--max-tokens", "20"].iter().chain(TINY).copied();
    let piped = Process::start(arguments, "hello").end();
    assert_eq!(piped.output(), answer(TINY, &["hello", "--max-tokens", "20"]));
}

#[test]
fn prompts_that_do_not_fit_and_parameters_out_of_range_are_refused() {
    let long = "hello ".repeat(600);
    for (arguments, parts) in [
        (["generate", &long, "--seed", "1"], ["max_model_len", "512"]),
        (["generate", "hello", "--temperature", "3"], ["temperature", "0 to 2"]),
        (["generate", "hello", "--top-p", "0"], ["top_p", "above 0"]),
        (["generate", "hello", "--max-tokens", "0"], ["max_tokens", "at least 1"]),
        (["generate", "hello", "--max-tokens", "512"], ["512", "maximum context length"]),
    ] {
        let ended = millrace(arguments.iter().chain(TINY).copied());
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(1), ""), "{ended:#?}");
        assert!(ended.stderr.starts_with("millrace: "), "{ended:#?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
        for part in parts {
            assert!(ended.stderr.contains(part), "no {part} in {}", ended.stderr);
        }
    }
}

/// Text that a model was not told apart from any other.
const LICENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../LICENSE");

/// The first two numbers of a line that `perplexity` wrote, and how many tokens they rest on.
#[track_caller]
fn perplexity(options: &[&str]) -> (f64, f64, u32) {
    let ended = millrace(["perplexity", LICENCE].iter().chain(options).copied());
    let (_, figures) = ended.output().split_once(": perplexity ").expect("a line of that form");
    let words: Vec<&str> = figures.split_whitespace().collect();
    let [value, "±", error, "over", tokens, ..] = words[..] else { panic!("{words:?}") };
    (value.parse().unwrap(), error.parse().unwrap(), tokens.parse().unwrap())
}

#[test]
fn the_perplexity_of_a_text_is_that_of_llama_cpp() {
    let (value, error, tokens) = perplexity(REAL);
    // `llama-perplexity -c 512` of the file's weights in float32, see PERFORMANCE.md: 15.9167.
    assert!((value / 15.9167 - 1.0).abs() < 0.005, "{value}");
    assert!((0.5..2.0).contains(&error), "{error}");
    assert_eq!(tokens, 4 * 255);
}

#[test]
fn a_perplexity_does_not_depend_on_how_windows_are_computed() {
    let options = ["--window", "64", "--max-num-seqs", "3"];
    let whole = perplexity(&[TINY, &options].concat());
    let chunked = ["--max-num-batched-tokens", "33", "--threads", "1"];
    assert_eq!(perplexity(&[TINY, &options, &chunked].concat()), whole);
}
