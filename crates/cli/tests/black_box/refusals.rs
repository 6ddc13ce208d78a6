//! What cannot work ends at once, with one line that says why.

use std::net::TcpListener;

use crate::process::{Ended, Process, TINY, millrace, millrace_within};

/// A text of some length: this file.
const THIS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/black_box/refusals.rs");

/// Fails unless the run ends in failure and all it says is one line that contains all of `parts`.
#[track_caller]
fn assert_refused(arguments: &[&str], parts: &[&str]) {
    assert_one_line(&millrace(arguments.iter().copied()), parts);
}

/// Fails unless all that a failed run has said is one line that contains all of `parts`.
#[track_caller]
fn assert_one_line(ended: &Ended, parts: &[&str]) {
    assert!(ended.code().is_some_and(|code| code != 0), "{ended:#?}");
    assert_eq!(ended.stdout, "");
    let (line, rest) = ended.stderr.split_once('\n').expect("a whole line");
    assert_eq!(rest, "");
    assert_eq!(line.rfind("millrace: "), Some(0), "{ended:#?}");
    for part in parts {
        assert!(line.contains(part), "no {part:?} in: {line}");
    }
}

#[test]
fn models_that_are_not_there_are_refused_by_name() {
    for (model, parts) in [
        ("nonsense", ["`nonsense`", "smollm2-135m"]),
        ("no/such.gguf", ["no/such.gguf", "No such file"]),
        ("dummy:nonsense", ["`nonsense`", "tiny"]),
    ] {
        for command in ["serve", "bench", "roofline", "plan"] {
            assert_refused(&[command, "--model", model], &parts);
        }
        assert_refused(&["generate", "hello", "--model", model], &parts);
    }
}

#[test]
fn guesses_that_cannot_be_made_are_refused() {
    let tiny = ["serve", "--model", "dummy:tiny"];
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/families/qwen2.gguf");
    for (options, parts) in [
        (&["--speculative-model", other][..], ["--speculative-model", "same vocabulary"]),
        (&["--speculative-model", "no/such.gguf"], ["no/such.gguf", "No such file"]),
        (&["--speculative-ngram", "8"], ["--speculative-ngram", "1..=7"]),
        (&["--num-speculative-tokens", "2"], ["--speculative-model", "required"]),
        (
            &["--speculative-ngram", "2", "--speculative-model", "dummy:tiny"],
            ["--speculative-ngram", "cannot be used with"],
        ),
    ] {
        assert_refused(&[&tiny[..], options].concat(), &parts);
    }
    assert_refused(&["plan", "--speculative-ngram", "4"], &["--speculative-ngram"]);
}

#[test]
fn a_cause_is_said_once() {
    let ended = millrace(["serve", "--model", "no/such.gguf"]);
    assert_eq!(ended.stderr.matches("No such file").count(), 1, "{}", ended.stderr);
}

#[test]
fn sizes_that_cannot_work_are_refused_with_value_and_limit() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--block-size", "33"], &["--block-size", "33", "32"]),
        (&["--max-model-len", "513"], &["--max-model-len", "513", "512"]),
        (&["--max-num-seqs", "0"], &["--max-num-seqs", "'0'", "1..=1024"]),
        (&["--max-num-batched-tokens", "49"], &["--max-num-batched-tokens", "49", "50"]),
        (&["--kv-cache-memory-bytes", "1KiB"], &["--kv-cache-memory-bytes", "1024", "16384"]),
        (&["--kv-cache-memory-bytes", "1.5G"], &["--kv-cache-memory-bytes", "1.5", "whole"]),
        (&["--kv-cache-memory-bytes", "9999TiB"], &["--kv-cache-memory-bytes", "available"]),
        // 6 blocks of 32 tokens fit, where 16 are needed.
        (
            &["--kv-cache-memory-bytes", "100KiB", "--max-model-len", "512"],
            &["512", "16", "6", "--max-model-len", "192"],
        ),
        (&["--memory-utilization", "0"], &["--memory-utilization is 0", "above 0", "at most 1"]),
        (&["--memory-utilization", "1.5"], &["--memory-utilization is 1.5", "at most 1"]),
        (&["--memory-utilization", "NaN"], &["--memory-utilization is NaN", "at most 1"]),
        (
            &["--memory-utilization", "0.5", "--kv-cache-memory-bytes", "1MiB"],
            &["--memory-utilization", "--kv-cache-memory-bytes"],
        ),
        (&["--kv-cache-dtype", "fp8"], &["--kv-cache-dtype", "fp8", "bf16, f16, int8"]),
        (&["--isa", "abacus"], &["--isa", "abacus", "avx512, avx2, scalar"]),
        (&["--frobnicate"], &["--frobnicate"]),
        (&["--max-num-seq", "3"], &["--max-num-seq'", "'--max-num-seqs'"]),
    ];
    for (options, parts) in cases {
        for command in ["serve", "bench"] {
            let mut arguments = vec![command, "--model", "dummy:tiny"];
            arguments.extend(*options);
            assert_refused(&arguments, parts);
        }
    }
}

#[test]
fn a_request_has_from_one_answer_to_128() {
    for number in ["0", "129"] {
        let arguments = ["serve", "--model", "dummy:tiny", "--max-n-sequences", number];
        assert_refused(&arguments, &["--max-n-sequences", &format!("'{number}'"), "1..=128"]);
    }
}

#[test]
fn addresses_that_cannot_be_had_are_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    for (options, parts) in [
        (["--port", &port], ["127.0.0.1", &port, "--port"]),
        (["--host", "256.0.0.1"], ["256.0.0.1", "8000", "--host"]),
    ] {
        assert_refused(&[&["serve"], TINY, &options].concat(), &parts);
    }
}

#[test]
fn load_tests_that_cannot_begin_are_refused() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let nobody = format!("http://{}", free.local_addr().expect("it is bound"));
    drop(free);
    let cases: &[(&[&str], &[&str])] = &[
        (&["--url", &nobody], &[&nobody, "no server answers"]),
        (&["--url", "https://127.0.0.1:1"], &["https://127.0.0.1:1", "no server answers"]),
        (&["--url", "127.0.0.1:1"], &["127.0.0.1:1", "http://"]),
        (&["--model", "dummy:tiny", "--levels", "0"], &["--levels", "[0]", "1"]),
        (&["--model", "dummy:tiny", "--preset", "nonsense"], &["--preset", "nonsense", "seed"]),
        (&["--slo", "ttft=500"], &["--slo", "500", "ms or s"]),
        (&["--slo", "itl=5ms"], &["itl", "ttft, tpot and e2e"]),
        (&["--language", "xx"], &["--language", "xx", "zh"]),
        (&["--url", &nobody, "--max-num-seqs", "5"], &["--url", "--max-num-seqs"]),
        (&["--url", &nobody, "--speculative-ngram", "3"], &["--url", "--speculative-ngram"]),
        (&["--assert", "p95_ttft"], &["--assert", "p95_ttft<500ms"]),
        (&["--assert", "p98_ttft<5ms"], &["`p98_ttft`", "p95, p99", "ttft, tpot, itl, e2el"]),
        (
            &["--model", "dummy:tiny", "--levels", "1,2", "--assert", "failed==0@4"],
            &["--assert failed==0@4", "there are 1, 2"],
        ),
        (&["--rate", "fast"], &["--rate", "fast", "1..10"]),
        (&["--levels", "four"], &["--levels", "four", "auto"]),
        (&["--extra-body", "[1]"], &["--extra-body", "JSON object"]),
        (&["--header", "X Team: a"], &["--header", "X Team"]),
        (&["--prompt-tokens", "many"], &["--prompt-tokens", "many", "uniform:MIN..MAX"]),
        (&["--output-tokens", "file:nowhere"], &["--output-tokens", "cannot read `nowhere`"]),
        (&["--think-time", "9999"], &["--think-time", "9999", "3600"]),
        (&["--rate", "5", "--think-time", "1"], &["--rate", "--think-time"]),
        (&["--rate", "5", "--levels", "2"], &["--rate", "--levels"]),
        (&["--rate", "5", "--requests", "2", "--duration", "3"], &["--requests", "--duration"]),
        (&["--duration", "3"], &["--rate"]),
        (
            &["--model", "dummy:tiny", "--requests", "3"],
            &["--requests is 3", "--requests-per-user"],
        ),
        (&["--compat", "vllm"], &["--out"]),
        (&["--compat", "k6", "--out", "x"], &["k6", "guidellm"]),
        (&["compat", "nowhere"], &["nowhere", "bench --out"]),
        (&["--rate", "5", "--arrivals", "ramp"], &["--arrivals ramp", "FROM..TO"]),
        (&["--rate", "5..6"], &["--rate 5..6", "--arrivals ramp"]),
        (&["--rate", "0"], &["--rate", "more than 0"]),
        // The server refuses the warm-up: the model has room for 512 tokens.
        (
            &["--model", "dummy:tiny", "--prompt-tokens", "510", "--output-tokens", "13"],
            &["13", "512"],
        ),
    ];
    for (options, parts) in cases {
        assert_refused(&[&["bench"], *options].concat(), parts);
    }
}

/// Below 40 MiB the binary itself does not fit. At first the stack of a thread is not to be had, then what is
/// planned for is more than the process may have; where that begins depends on the allocator.
#[test]
fn too_little_address_space_is_refused_with_one_line() {
    const MIB: u64 = 1 << 20;
    let generate = [&["generate", "hello", "--max-tokens", "2"], TINY].concat();
    let serve = [&["serve", "--port", "0"], TINY].concat();
    for mib in [40, 100, 200, 300, 420] {
        for arguments in [&generate, &serve] {
            let ended = millrace_within(mib * MIB, arguments);
            assert_one_line(&ended, &[]);
            assert_eq!(ended.code(), Some(1));
            let causes = ["no thread to run it", "--kv-cache-memory-bytes"];
            assert!(causes.iter().any(|cause| ended.stderr.contains(cause)), "{ended:#?}");
        }
    }
    assert!(millrace_within(1024 * MIB, &generate).status.success());
}

#[test]
fn measurements_that_cannot_be_made_are_refused() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--context", "512"], &["--context", "512", "next token"]),
        (&["--context", "0"], &["--context", "'0'"]),
        (&["--isa", "abacus"], &["--isa", "abacus", "scalar"]),
    ];
    for (options, parts) in cases {
        assert_refused(&[&["roofline", "--model", "dummy:tiny"], *options].concat(), parts);
    }
}

#[test]
fn texts_that_have_no_perplexity_are_refused() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["nowhere.txt"], &["nowhere.txt", "No such file"]),
        (&["/dev/null"], &["0 tokens", "--window of 512"]),
        (&["/dev/null", "--window", "4"], &["--window", "'4'", "5.."]),
        (&["/dev/null", "--speculative-ngram", "3"], &["--speculative-ngram", "only scored"]),
        (&[THIS, "--window", "512"], &["512", "maximum context length"]),
    ];
    for (options, parts) in cases {
        assert_refused(&[&["perplexity"], TINY, *options].concat(), parts);
    }
}

#[test]
fn no_command_at_all_is_answered_with_the_commands_there_are() {
    let ended = millrace([]);
    assert_eq!(ended.code(), Some(2));
    for command in ["serve", "bench", "generate", "perplexity", "pull", "check", "roofline", "plan"]
    {
        assert!(ended.stderr.contains(&format!("\n  {command} ")), "{}", ended.stderr);
    }
}

#[test]
fn output_that_cannot_be_written_is_said() {
    let load_test = ["--levels", "1", "--requests-per-user", "1", "--output-tokens", "5"];
    for arguments in [
        [&["bench"], TINY, &load_test].concat(),
        [&["generate", "hello", "--max-tokens", "5"], TINY].concat(),
        [&["perplexity", THIS, "--window", "32"], TINY].concat(),
        vec!["check", "dummy:tiny"],
        vec!["plan", "--preset", "seed"],
        vec!["pull"],
    ] {
        let ended = Process::start_without_room(arguments.iter().copied()).end();
        assert_eq!(ended.code(), Some(1), "{arguments:?}: {}", ended.stderr);
        let line = ended.stderr.lines().last().unwrap_or_default();
        assert!(line.starts_with("millrace: cannot write"), "{arguments:?}: {}", ended.stderr);
        assert!(line.contains("No space left"), "{line}");
    }
}
