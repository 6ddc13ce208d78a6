//! `plan`: the numbers of the seed report, of `serve`, and of files and shapes of all sorts.

use std::fs;

use serde_json::{Value, json};

use crate::process::{Ended, Server, millrace};

/// The JSON of a plan with these options, whether it fits or not.
#[track_caller]
fn plan(options: &[&str]) -> Value {
    let ended = planned(options, "--json");
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:#?}"))
}

#[track_caller]
fn planned(options: &[&str], last: &str) -> Ended {
    millrace(["plan"].iter().chain(options).chain([&last]).copied())
}

/// Llama-3.1-8B, in the keys of its config.json.
fn llama_8b() -> Value {
    json!({
        "model_type": "llama", "torch_dtype": "bfloat16", "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 131_072,
        "tie_word_embeddings": false,
    })
}

#[test]
fn the_seeds_line_is_found_within_a_percent() {
    let ended = millrace(["plan", "--preset", "seed"]);
    let report = ended.output();
    let (_, line) = report
        .split_once("Maximum concurrency for 1,818 tokens per request: ")
        .unwrap_or_else(|| panic!("no such line in {report}"));
    let concurrency: f64 = line.split_once('x').expect("a factor").0.parse().expect("a number");
    assert!((concurrency / 51.20 - 1.0).abs() < 0.01, "{concurrency}");
    for part in [
        "| device | RTX 4090, 23.52 GiB (NVIDIA",
        "485,076,480 parameters",
        "| keys and values of a token | 2 x 24 layers x 20 heads x 64 x 2 bytes | 122,880 bytes |",
        "| blocks of a request | 1,818 tokens / 16, rounded up | 114 |",
        "GPU KV cache size: ",
        "**Does it fit?** Yes",
        "**How many at this length?** 51 requests of 1,818 tokens at once",
        "**What would 50 users need?** With 1,818 tokens each",
        "**What binds first?** The cap on sequences: `max_num_seqs` lets 50",
        "no number of sequences makes a step wait for it",
    ] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
    let more = plan(&["--preset", "seed", "--users", "64", "--memory-utilization", "0.7"]);
    assert_eq!((&more["users"], &more["binds_first"]), (&json!(64), &json!("max_num_seqs")));
    assert!(more["max_concurrency"].as_f64() > Some(64.0), "{more}");
}

#[test]
fn a_plan_has_the_blocks_that_serve_takes() {
    let sets: [&[&str]; 3] = [
        &["--memory-utilization", "0.05"],
        &["--memory-utilization", "0.06", "--threads", "3", "--kv-cache-dtype", "int8"],
        &["--kv-cache-memory-bytes", "3MiB", "--max-num-seqs", "7", "--max-model-len", "99"],
    ];
    for set in sets {
        let options: Vec<&str> = ["--model", "dummy:tiny"].iter().chain(set).copied().collect();
        let planned = plan(&options);
        let line = millrace(["plan"].into_iter().chain(options.iter().copied())).stdout;
        let server = Server::start(options);
        let info: Value = serde_json::from_str(&server.get("/server_info").body).expect("JSON");
        let served = find(&info, "block_count").expect("it is told");
        assert_eq!(planned["block_count"], *served, "{set:?}");
        let said = find(&info, "concurrency_line").and_then(Value::as_str).expect("it is told");
        assert!(line.contains(said), "no {said:?} in {line}");
        assert_eq!(planned["is_estimate"], json!(false));
    }
}

/// The value of `key` anywhere in `value`.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    object.get(key).or_else(|| object.values().find_map(|inner| find(inner, key)))
}

#[test]
fn a_config_json_is_planned_for_by_file_or_folder() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let path = folder.path().join("config.json");
    fs::write(&path, llama_8b().to_string()).expect("the folder is ours");
    let (path, folder) = (path.to_str().expect("text"), folder.path().to_str().expect("text"));
    let options = ["--device", "h100-sxm", "--max-model-len", "8192"];
    let by_file = plan(&[&["--model", path], &options[..]].concat());
    assert_eq!(by_file["model"]["parameters"], json!(8_030_261_248_u64));
    assert_eq!(by_file["weights_bytes"], json!(2 * 8_030_261_248_u64));
    assert_eq!(by_file["block_bytes"], json!(16 * 131_072));
    assert_eq!(by_file, plan(&[&["--model", folder], &options[..]].concat()));
    // The same by its numbers.
    let numbers = "--layers 32 --width 4096 --heads 32 --kv-heads 8 --ffn 14336 --vocab 128256 \
                   --tied-head false";
    let numbers: Vec<&str> = numbers.split_whitespace().chain(options).collect();
    let by_numbers = plan(&numbers);
    for key in ["block_count", "weights_bytes", "max_concurrency", "utilization_for_users"] {
        assert_eq!(by_numbers[key], by_file[key], "{key}");
    }
    // Shorter requests: more of them, until arithmetic binds.
    let short = plan(&[&["--model", path, "--length", "100"], &options[..]].concat());
    assert!(short["concurrency_at_length"].as_f64() > by_file["max_concurrency"].as_f64());
    assert_eq!(short["binds_first"], json!("max_num_seqs"));
    let many = [&["--model", path, "--length", "100", "--max-num-seqs", "4000"], &options[..]];
    assert_eq!(plan(&many.concat())["binds_first"], json!("compute"));
}

#[test]
fn a_model_that_does_not_fit_is_told_what_would() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let path = folder.path().join("config.json");
    fs::write(&path, llama_8b().to_string()).expect("the folder is ours");
    let path = path.to_str().expect("text");
    let options = ["--model", path, "--device", "rtx-4090", "--max-model-len", "131072"];
    let ended = millrace(["plan"].into_iter().chain(options));
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(1), ""), "{ended:#?}");
    assert!(ended.stdout.contains("**Does it fit?** No"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("binds first"), "{}", ended.stdout);
    let long = plan(&options);
    assert_eq!(long["binds_first"], Value::Null);
    assert_eq!((&long["fits"], &long["block_count"]), (&json!(false), &Value::Null));
    // What is said to fit fits, and a token more does not.
    let fits = long["max_model_len_that_fits"].as_u64().expect("some length fits");
    for (len, expected) in [(fits, true), (fits + 1, false)] {
        let len = len.to_string();
        let options = ["--model", path, "--device", "rtx-4090", "--max-model-len", &len];
        assert_eq!(plan(&options)["fits"], json!(expected), "{len}");
    }
    // Without a length the context is cut, and that is said.
    let cut = planned(&["--model", path], "--device=rtx-4090");
    assert!(cut.output().contains("context of 131,072 tokens does not fit"), "{}", cut.stdout);
    // In 4 bits it fits an L4, whose 16-bit weights would not even leave room for blocks.
    for (dtype, expected) in [("f32", false), ("int4", true)] {
        let options = ["--model", path, "--device", "l4", "--weights-dtype", dtype];
        assert_eq!(plan(&options)["fits"], json!(expected), "{dtype}");
    }
}

#[test]
fn a_file_of_ours_on_a_card_is_estimated_from_its_header() {
    let plan = plan(&["--model", "dummy:smollm2-135m", "--device", "rtx-4090"]);
    assert_eq!(plan["model"]["parameters"], json!(134_515_008));
    assert_eq!((&plan["is_estimate"], &plan["block_size"]), (&json!(true), &json!(16)));
    // Four bits and more for each parameter, eight for the embedding.
    let weights = plan["weights_bytes"].as_u64().expect("a number");
    assert!((67_000_000..135_000_000).contains(&weights), "{weights}");
}

#[test]
fn a_file_that_millrace_does_not_serve_is_planned_for_from_its_header() {
    let mut bytes = model::dummy::DummyShape::tiny().gguf(0);
    // The value stands behind its key, type and length: `llama` becomes another architecture, and
    // its keys with it.
    let at: Vec<usize> =
        (0..bytes.len() - 5).filter(|&at| bytes[at..].starts_with(b"llama")).collect();
    at.into_iter().for_each(|at| bytes[at..at + 5].copy_from_slice(b"lhama"));
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let path = folder.path().join("other.gguf");
    fs::write(&path, bytes).expect("the folder is ours");
    let plan = plan(&["--model", path.to_str().expect("text")]);
    let tiny = json!(131_392);
    assert_eq!((&plan["model"]["parameters"], &plan["is_estimate"]), (&tiny, &json!(true)));
    let note = plan["notes"][0].as_str().unwrap_or_default();
    assert!(note.contains("does not serve") && note.contains("`lhama`"), "{plan}");
}

#[test]
fn a_measured_machine_is_planned_for_with_its_speed() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let path = folder.path().join("here.json");
    let path = path.to_str().expect("text");
    let measure = ["roofline", "--model", "dummy:tiny", "--context", "1", "--threads", "1"];
    let ended = millrace(measure.into_iter().chain(["--json", path]));
    assert!(ended.output().contains("# Roofline"), "{ended:#?}");
    let device: Value =
        serde_json::from_str(&fs::read_to_string(path).expect("it was written")).expect("JSON");
    assert!(device["bandwidth"].as_f64() > Some(1e6), "{device}");
    let plan = plan(&["--model", "dummy:tiny", "--device", path, "--threads", "1"]);
    assert_eq!(plan["device"]["memory_bytes"], device["memory_bytes"]);
    assert!(plan["step"]["weights_s"].as_f64() > Some(0.0), "{plan}");
    let nowhere = folder.path().join("no/here.json");
    let ended = millrace(["roofline", "--json", nowhere.to_str().expect("text")]);
    assert_eq!(ended.code(), Some(1));
    assert!(ended.stderr.lines().last().is_some_and(|line| line.contains("no/here.json")));
}

#[test]
fn the_table_of_devices_is_that_of_the_docs() {
    let ended = millrace(["plan", "--list-devices"]);
    let document = include_str!("../../../../docs/devices.md");
    assert!(document.contains(ended.output()), "{}", ended.stdout);
}

#[test]
fn what_cannot_be_planned_is_refused_with_value_and_limit() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let file = |name: &str, value: &Value| {
        let path = folder.path().join(name);
        fs::write(&path, value.to_string()).expect("the folder is ours");
        path.to_str().expect("text").to_string()
    };
    let mut experts = llama_8b();
    experts["num_local_experts"] = json!(8);
    let (experts, good) = (file("experts.json", &experts), file("good.json", &llama_8b()));
    let huge = json!({ "hidden_size": u64::MAX });
    let huge = file("huge.json", &huge);
    let large = file("large.json", &json!(" ".repeat(1 << 20)));
    let cases: &[(&str, &[&str])] = &[
        (&format!("--model {experts}"), &["experts.json", "num_local_experts is 8", "mixtral"]),
        (&format!("--model {huge}"), &["hidden_size is 18446744073709551615", "1 to 262144"]),
        (&format!("--model {large}"), &["large.json", "1048576 bytes"]),
        ("--model no/such.json", &["no/such.json", "No such file"]),
        ("--preset sprout", &["--preset", "sprout", "seed"]),
        ("--preset seed --model x.gguf", &["--preset", "--model"]),
        ("--preset seed --device abacus", &["--device", "`abacus`", "rtx-4090", "roofline"]),
        ("--preset seed --device no/such.json", &["no/such.json", "No such file"]),
        (&format!("--preset seed --device {good}"), &["--device", "good.json", "line 1"]),
        ("--preset seed --max-model-len 1819", &["--max-model-len is 1819", "1818"]),
        ("--preset seed --length 1819", &["--length is 1819", "1818", "--max-model-len"]),
        ("--preset seed --users 0", &["--users", "'0'"]),
        ("--preset seed --kv-cache-dtype q4", &["--kv-cache-dtype", "\"q4\"", "fp8"]),
        ("--preset seed --weights-dtype q4", &["--weights-dtype", "\"q4\"", "int4"]),
        ("--preset seed --threads 2", &["--threads counts only", ".gguf"]),
        ("--preset seed --max-num-queued-reqs 2", &["--max-num-queued-reqs counts only"]),
        ("--model dummy:tiny --weights-dtype f16", &["--weights-dtype", "leave it out"]),
        ("--model dummy:tiny --block-size 33", &["--block-size", "33", "32"]),
        ("--model dummy:tiny --max-num-seqs 1025", &["--max-num-seqs", "1025", "1..=1024"]),
        ("--model dummy:tiny --kv-cache-dtype fp8", &["fp8", "bf16, f16, int8"]),
        ("--layers 2 --width 64", &["--heads is missing", "--vocab"]),
        ("--width 64", &["--layers"]),
        (
            "--layers 2 --width 64 --heads 3 --ffn 9 --vocab 9 --max-model-len 9",
            &["--heads is 3", "a divisor of --width, 64", "--head-dim"],
        ),
        (
            "--layers 0 --width 64 --heads 4 --ffn 9 --vocab 9 --max-model-len 9",
            &["layers is 0", "1 to 1024"],
        ),
        (
            "--layers 2 --width 64 --heads 4 --ffn 9 --vocab 9 --max-model-len 9 --style rnn",
            &["--style", "\"rnn\"", "gpt2"],
        ),
    ];
    for (options, parts) in cases {
        let ended = millrace(["plan"].into_iter().chain(options.split(' ')));
        assert!(ended.code().is_some_and(|code| code != 0), "{options}: {ended:#?}");
        assert_eq!(ended.stdout, "", "{options}");
        assert_eq!(ended.stderr.lines().count(), 1, "{options}: {}", ended.stderr);
        for part in *parts {
            assert!(ended.stderr.contains(part), "{options}: no {part:?} in {}", ended.stderr);
        }
    }
}

#[test]
fn shares_of_memory_that_are_none_do_not_fit() {
    for share in ["0", "1.5", "NaN"] {
        let answer = plan(&["--preset", "seed", "--memory-utilization", share]);
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains("above 0 and at most 1"), "{share}: {answer}");
    }
}

#[test]
fn the_preset_prints_the_report_of_a_load_test() {
    let ended =
        millrace(["plan", "--preset", "seed", "--levels", "4,64", "--requests-per-user", "2"]);
    let report = ended.output();
    for part in [
        "**Does it fit?** Yes",
        "# Basics\nRTX 4090 (modelled)\ngpu_memory_utilization = 0.5\nGPU KV cache size: ",
        "\nmax_num_seqs = 50\n\n## Concurrency Level: 4\n\n*   **Total Requests:** 8\n",
        "## Concurrency Level: 64\n\n*   **Total Requests:** 128\n",
        "| Num Generated Tokens   | 1184     | 1184      | 1184.00   |",
        "the cap on concurrent sequences was reached (max_num_seqs=50)",
    ] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
}

#[test]
fn a_predicted_run_can_be_calibrated_from_and_planned_with() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("plain letters").to_owned();
    let (run, model) = (path("run"), path("model.json"));
    let short = ["--prompt-tokens", "300", "--output-tokens", "60"];
    let seed = ["plan", "--preset", "seed", "--levels", "1,8,24,48", "--out", &run];
    millrace(seed.into_iter().chain(short)).output();
    let calibrate = ["plan", "calibrate", &run, "--fit-levels", "1,8,24", "--out", &model];
    let ended = millrace(calibrate);
    let table = ended.output();
    let predicted = table.lines().find(|line| line.contains("| users: 48 | predicted |"));
    let cells: Vec<f64> = predicted
        .unwrap_or_else(|| panic!("no level is predicted: {table}"))
        .split('(')
        .skip(1)
        .filter_map(|cell| cell.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(cells.len(), 4, "{table}");
    assert!(cells[..2].iter().all(|percent| percent.abs() < 3.0), "{table}");
    let planned = ["plan", "--preset", "seed", "--device-model", &model, "--levels", "2"];
    let ended = millrace(planned.into_iter().chain(short).chain(["--language", "zh"]));
    assert!(ended.output().contains("# 基础信息\nRTX 4090"), "{ended:#?}");
}

#[test]
fn a_search_shows_its_trials_and_the_answer() {
    let short = ["--prompt-tokens", "50", "--output-tokens", "40", "--requests", "200"];
    let search = |goal: &str, slo: &str| {
        let options = ["plan", "--preset", "seed", "--find", goal, "--slo", slo];
        millrace(options.into_iter().chain(short)).output().to_owned()
    };
    let users = search("max-users", "p95_latency<400ms");
    assert!(users.contains("| users: 1 | passed: p95_latency<400ms"), "{users}");
    assert!(users.contains("**Up to ") && users.contains(" users** meets"), "{users}");
    let rate = search("max-rate", "p95_ttft<100ms");
    assert!(rate.contains(" requests/s** meets p95_ttft<100ms"), "{rate}");
    let share = search("min-utilization", "failed==0");
    assert!(share.contains("**From a utilisation of 0."), "{share}");
    let never = search("max-users", "p95_latency<1ms");
    assert!(never.contains("**Nothing that was tried** meets"), "{never}");
}

#[test]
fn what_cannot_be_simulated_is_refused() {
    for (options, part) in [
        (&["--levels", "4", "--model", "dummy:tiny"][..], "calibrate"),
        (&["--preset", "seed", "--prompt-tokens", "2000"], "1818 tokens"),
        (&["--preset", "seed", "--find", "most"], "max-users, max-rate or min-utilization"),
        (&["--preset", "seed", "--rate", "0"], "more than 0"),
        (&["calibrate", "/nowhere"], "cannot read /nowhere"),
        (&["calibrate", "Cargo.toml"], "--prompt-tokens"),
        (&["calibrate", "/nowhere", "--preset", "seed"], "cannot read /nowhere"),
        (&["calibrate", "x", "--hold", "rows_us=1"], "host_us, step_us"),
    ] {
        let ended = millrace(["plan"].iter().chain(options).copied());
        assert!(ended.stderr.contains(part), "no {part:?} for {options:?}: {ended:#?}");
    }
}

/// A file with this text, and what `plan` says of asking it of the tiny model on a card.
fn recorded(text: &str, options: &[&str]) -> Ended {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let path = folder.path().join("recorded.jsonl");
    fs::write(&path, text).expect("the folder is ours");
    let path = path.to_str().expect("text").to_owned();
    let options = options.iter().map(|option| option.replace("FILE", &path));
    let options: Vec<String> = options.collect();
    millrace(["plan"].into_iter().chain(options.iter().map(String::as_str)))
}

#[test]
fn recorded_requests_are_asked_of_a_modelled_server() {
    let device = ["--model", "dummy:tiny", "--device", "rtx-4090"];
    let trace = "{\"timestamp\": 0, \"input_length\": 40, \"output_length\": 7}\n\
                 {\"timestamp\": 2000, \"input_length\": 20, \"output_length\": 7}\n";
    let ended =
        recorded(trace, &[&device[..], &["--trace", "FILE", "--trace-speed", "1,4"]].concat());
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{ended:#?}");
    // One level at each speed: two requests, the second of them 2 s or half a second later.
    assert_eq!(ended.stdout.matches("**Total Requests:** 2").count(), 2, "{}", ended.stdout);
    assert!(ended.stdout.contains("| Num Generated Tokens   | 7        | 7         |"));
    assert!(ended.stdout.contains("**Total Time:** 2.0"), "{}", ended.stdout);
    assert!(ended.stdout.contains("**Total Time:** 0.5"), "{}", ended.stdout);

    // The tiny model's own tokenizer says how long a text is.
    let texts = "{\"prompt\": \"Why is the sky blue?\", \"output_tokens\": 3}\n";
    let options = ["--dataset", "FILE", "--levels", "2", "--requests-per-user", "1"];
    let ended = recorded(texts, &[&device[..], &options].concat());
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{ended:#?}");
    assert!(ended.stdout.contains("**Total Requests:** 2"), "{}", ended.stdout);
    let ended = recorded(texts, &[&["--preset", "seed"], &options[..]].concat());
    assert_eq!(ended.code(), Some(1));
    assert!(ended.stderr.contains("request 1 is a text"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--model"), "{}", ended.stderr);
}

#[test]
fn a_plan_takes_the_loads_of_a_load_test() {
    let device = ["--preset", "seed", "--output-tokens", "4", "--prompt-tokens", "8"];
    for load in [
        &["--levels", "2", "--think-time", "uniform:1..2"][..],
        &["--rate", "1..9", "--arrivals", "ramp", "--requests", "10"],
        &["--rate", "5", "--arrivals", "constant", "--duration", "2"],
    ] {
        let ended = millrace(["plan"].iter().chain(&device).chain(load).copied());
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{ended:#?}");
        assert!(ended.stdout.contains("**Total Requests:** 10"), "{}", ended.stdout);
    }
    let auto = millrace(["plan"].iter().chain(&device).chain(&["--levels", "auto"]).copied());
    assert!(auto.stdout.contains("## Concurrency Level: 64\n"), "{}", auto.stdout);
    let json = millrace(["plan", "--preset", "seed", "--levels", "2", "--json"]);
    assert_eq!(json.code(), Some(2), "the memory's plan has no load");
}
