//! `bench`: the load test and its report.

use std::fs;

use serde_json::Value;

use crate::process::{Process, Server, TINY, millrace, wait_for};

/// The report that ours must look like.
const SEED: &str = include_str!("../../../workload/tests/fixtures/seed_report.md");

/// Few and short requests: enough for a report.
const SHORT: &[&str] =
    &["--requests-per-user", "2", "--prompt-tokens", "20", "--output-tokens", "12"];

fn bench<'a>(options: &'a [&'a [&'a str]]) -> impl Iterator<Item = &'a str> {
    ["bench"].into_iter().chain(options.iter().copied().flatten().copied())
}

/// What is the same in every report of this form: in tables each digit and dot as a space, so that
/// the columns show; elsewhere each number as `#`.
fn form(text: &str) -> Vec<String> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let line = |line: &str| match line.starts_with("| ") && !line.starts_with("| Metric") {
        true => line.replace(is_number, " "),
        false => {
            let marked = line.replace(is_number, "#");
            let mut kept: Vec<char> = marked.chars().collect();
            kept.dedup_by(|a, b| (*a, *b) == ('#', '#'));
            kept.into_iter().collect()
        }
    };
    text.lines().map(line).collect()
}

/// The part of a report about so many users.
#[track_caller]
fn level(report: &str, users: u32) -> &str {
    let start = report.find(&format!("## Concurrency Level: {users}\n"));
    let start = start.unwrap_or_else(|| panic!("no level of {users} in {report}"));
    let end = report[start..].find("\n----------------------------------------\n");
    &report[start..end.map_or(report.len(), |end| start + end)]
}

#[test]
fn a_load_test_of_its_own_server_has_the_seeds_form() {
    let ended = millrace(bench(&[TINY, SHORT, &["--levels", "1,4"]]));
    let report = ended.output();
    let basics: Vec<&str> = report.lines().take(7).collect();
    assert_eq!(basics[0], "# Basics");
    assert!(basics[1].contains("core") && basics[1].contains("GiB"), "{report}");
    assert_eq!(basics[2], "kv_cache_memory_bytes = 67108864");
    assert_eq!(
        basics[3],
        "CPU KV cache size: 131,072 tokens, Maximum concurrency for 512 tokens per request: 256.00x"
    );
    assert_eq!(basics[4..], ["max_num_seqs = 50", "", "## Concurrency Level: 1"]);
    for (users, requests) in [(1, 2), (4, 8)] {
        let section = level(report, users);
        assert_eq!(form(section), form(level(SEED, users)), "{section}");
        assert!(section.contains(&format!("*   **Total Requests:** {requests}\n")), "{section}");
        let tokens = "| Num Generated Tokens   | 12       | 12        | 12.00     | 12        |";
        assert!(section.contains(tokens), "{section}");
    }
    let separator = "\n\n----------------------------------------\n\n";
    assert_eq!(report.matches(separator).count(), 2, "{report}");
    let (_, analysis) = report.split_once("\n\n\n\n# Analysis\n\n").expect("there is one");
    assert!(analysis.contains("Percentiles are interpolated linearly"), "{analysis}");
    assert!(!analysis.contains("the cap on concurrent sequences was reached"), "{analysis}");
    assert!(ended.stderr.contains("4 users: 8 requests"), "progress: {}", ended.stderr);
}

#[test]
fn lengths_and_think_times_are_drawn_from_distributions() {
    let out = tempfile::tempdir().expect("a folder");
    let values = out.path().join("values.txt");
    fs::write(&values, "4\n9\n").expect("it can be written");
    let output = format!("file:{}", values.display());
    let path = out.path().display().to_string();
    let lengths = ["--prompt-tokens", "uniform:10..40", "--output-tokens", &output];
    let load = ["--levels", "2", "--requests-per-user", "6", "--think-time", "uniform:0.01..0.05"];
    millrace(bench(&[TINY, &lengths, &load, &["--out", &path]])).output();
    let requests = fs::read_to_string(out.path().join("requests.jsonl")).expect("written");
    let records: Vec<Value> =
        requests.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    let all = |name: &str| -> Vec<u64> {
        records.iter().map(|record| record[name].as_u64().expect("a number")).collect()
    };
    let asked = all("asked_prompt_tokens");
    assert!(asked.iter().all(|tokens| (10..=40).contains(tokens)), "{asked:?}");
    assert!(asked.iter().any(|tokens| *tokens != asked[0]), "{asked:?}");
    // A prompt is cut between words, and a word has up to 8 tokens here.
    let prompts = all("prompt_tokens");
    let fits = |(asked, got): (&u64, &u64)| (asked.saturating_sub(7)..=*asked).contains(got);
    assert!(asked.iter().zip(&prompts).all(fits), "{asked:?}, {prompts:?}");
    let answers = all("completion_tokens");
    assert!(answers.contains(&4) && answers.contains(&9), "{answers:?}");
    assert!(answers.iter().all(|tokens| [4, 9].contains(tokens)), "{answers:?}");
    for user in 0..2 {
        let of_user = records.iter().filter(|record| record["user"] == user);
        let mut times: Vec<(u64, u64)> = of_user
            .map(|record| ["due_ns", "done_ns"].map(|name| record[name].as_u64().expect("a time")))
            .map(|[due, done]| (due, done))
            .collect();
        times.sort_unstable();
        for pair in times.windows(2) {
            let thought_ns = pair[1].0 - pair[0].1;
            assert!((10_000_000..=50_000_000).contains(&thought_ns), "{times:?}");
        }
    }
}

#[test]
fn a_load_test_of_a_running_server_writes_its_results() {
    let server = Server::start(TINY.iter().copied());
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let out = folder.path().join("new/results");
    let url = server.url();
    let target = ["--url", &url, "--out", out.to_str().expect("it is text"), "--levels", "1,3"];
    let others = ["--language", "zh", "--seed", "5", "--slo", "ttft=900s,e2e=900s"];
    let ended = millrace(bench(&[SHORT, &target, &others]));
    let report = ended.output();
    assert!(report.starts_with("# 基础信息\n"), "{report}");
    assert!(report.contains("\n\n\n\n# 分析\n\n"), "{report}");
    assert_eq!(form(level(report, 1)), form(level(SEED, 1)));

    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(read("report.md"), report);
    let summary: Value = serde_json::from_str(&read("summary.json")).expect("JSON");
    assert_eq!(summary["counts"]["ok"], 8);
    assert_eq!(summary["levels"][1]["plan"]["load"]["users"], 3);
    assert_eq!(summary["levels"][1]["goodput"]["good"], 6);
    assert!(summary["levels"][1]["stages"]["queue_ms"]["mean"].is_number(), "{summary}");
    let requests = read("requests.jsonl");
    assert_eq!(requests.lines().count(), 8);
    for line in requests.lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(record["completion_tokens"], 12, "{record}");
    }
    let page = read("report.html");
    assert!(
        page.contains("--language zh --seed 5 --slo ttft=900s,e2e=900s</dd>"),
        "the command is in the page"
    );
    assert_eq!(fs::read_dir(&out).expect("it was made").count(), 8);
    // The warm-up too.
    assert_eq!(server.metric("millrace:requests_accepted_total"), 9.0);

    let folder = out.to_str().expect("it is text");
    let compared = millrace(["bench", "compare", folder, folder]);
    let compared = compared.output();
    assert!(compared.contains("\n## 3 users with 2 requests each\n"), "{compared}");
    assert!(compared.contains("| no detectable change (95 % CI "), "{compared}");
    let json = millrace(["bench", "compare", "--json", folder, folder]);
    let json: Value = serde_json::from_str(json.output()).expect("JSON");
    assert_eq!(json["levels"][1]["changes"][0]["percent"], 0.0, "{json}");
}

#[test]
fn of_64_users_14_wait_for_50_places() {
    let lengths = ["--requests-per-user", "2", "--prompt-tokens", "20", "--output-tokens", "300"];
    let ended = millrace(bench(&[TINY, &lengths, &["--levels", "64", "--max-num-seqs", "50"]]));
    let report = ended.output();
    assert_eq!(form(level(report, 64)), form(level(SEED, 64)), "{report}");
    let (_, analysis) = report.split_once("# Analysis").expect("there is one");
    for part in [
        "At concurrency 64 the cap on concurrent sequences was reached (max_num_seqs=50)",
        "14 requests were waiting at a time",
        "50 running and 14 waiting",
    ] {
        assert!(analysis.contains(part), "no {part:?} in {analysis}");
    }
}

#[test]
fn assertions_decide_the_exit_code_and_are_told() {
    let levels = ["--levels", "1,2"];
    let held = ["--assert", "throughput>0", "--assert", "completed==4@2"];
    let ended = millrace(bench(&[TINY, SHORT, &levels, &held]));
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    assert!(ended.stderr.contains("millrace: passed: completed==4@2 (4.00 at 2)"), "{ended:#?}");
    let ended = millrace(bench(&[TINY, SHORT, &levels, &["--assert", "completed==4"]]));
    assert_eq!(ended.code(), Some(1), "{ended:#?}");
    assert!(ended.stderr.contains("millrace: FAILED: completed==4 (2 at 1)"), "{ended:#?}");
    assert!(ended.stdout.contains("## Concurrency Level: 2"), "the report is whole: {ended:#?}");
}

#[test]
fn failed_requests_decide_the_exit_code_unless_they_are_allowed() {
    // One request runs, one waits, the third is refused.
    let crowded = ["--levels", "3", "--max-num-seqs", "1", "--max-num-queued-reqs", "1"];
    let long = ["--requests-per-user", "1", "--output-tokens", "300"];
    let ended = millrace(bench(&[TINY, &crowded, &long]));
    assert_eq!(ended.code(), Some(1), "{ended:#?}");
    assert!(ended.stderr.contains("1 FAILED"), "{ended:#?}");
    let ended = millrace(bench(&[TINY, &crowded, &long, &["--allow-failures"]]));
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    assert!(ended.stderr.contains("1 FAILED"), "{ended:#?}");
}

#[test]
fn limits_given_beside_a_preset_hold() {
    let own = ["--max-num-seqs", "3", "--max-model-len", "400", "--levels", "1"];
    let ended = millrace(bench(&[TINY, SHORT, &["--preset", "seed"], &own]));
    let report = ended.output();
    assert!(report.contains("\nmax_num_seqs = 3\n"), "{report}");
    assert!(report.contains("for 400 tokens per request"), "{report}");
}

#[test]
fn a_rate_loads_the_server_by_a_schedule() {
    let lengths = ["--prompt-tokens", "20", "--output-tokens", "12"];
    let load = ["--rate", "50,80", "--arrivals", "constant", "--duration", "0.1"];
    let ended = millrace(bench(&[TINY, &lengths, &load]));
    let report = ended.output();
    for (rate, requests) in [(50, 5), (80, 8)] {
        let head = format!(
            "## Constant Rate: {rate}.00 requests/s\n\n*   **Total Requests:** {requests}\n"
        );
        assert!(report.contains(&head), "{report}");
    }
    assert!(ended.stderr.contains("80 requests/s: 8 requests"), "progress: {}", ended.stderr);
}

#[test]
fn a_killed_load_test_is_continued() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let out = folder.path().to_str().expect("it is text");
    let long = ["--levels", "1,2,3", "--requests-per-user", "2", "--output-tokens", "300"];
    let options = [TINY, &long, &["--out", out]];
    let process = Process::start(bench(&options), "");
    let levels = folder.path().join("levels.jsonl");
    wait_for("the first level", || {
        fs::read_to_string(&levels).is_ok_and(|text| text.contains('\n')).then_some(())
    });
    process.signal("KILL");
    process.end();
    let ended = millrace(bench(&[options.as_slice(), &[&["--resume"]]].concat()));
    let report = ended.output();
    let note = format!("millrace: the run in {out} goes on; complete levels: 1");
    assert!(ended.stderr.contains(&note), "{}", ended.stderr);
    assert!(!ended.stderr.contains("1 user: 2 requests"), "it ran again: {}", ended.stderr);
    for users in [1, 2, 3] {
        assert_eq!(form(level(report, users)), form(level(SEED, 1)));
    }
    let other = ["--requests-per-user", "3", "--levels", "1,2,3", "--output-tokens", "300"];
    let ended = millrace(bench(&[TINY, &other, &["--out", out, "--resume"]]));
    assert_eq!(ended.code(), Some(1), "{ended:#?}");
    let refusal = "its `loads.requests_per_user` is 2, now it is 3";
    assert!(ended.stderr.contains(refusal), "{}", ended.stderr);
}

#[test]
fn ctrl_c_prints_what_is_complete() {
    let levels = ["--levels", "1,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2"];
    let process = Process::start(bench(&[TINY, &levels, &["--output-tokens", "300"]]), "");
    wait_for("the first level", || process.stderr().contains("1 user: ").then_some(()));
    process.signal("INT");
    let ended = process.end();
    assert_eq!(ended.code(), Some(1), "{ended:#?}");
    let section = level(&ended.stdout, 1);
    assert_eq!(form(section), form(level(SEED, 1)), "{section}");
    assert!(ended.stdout.contains("The run was stopped before its end."), "{}", ended.stdout);
}

/// The process that `parent` has started, as long as there is one.
fn child_of(parent: u32) -> Option<String> {
    let processes = fs::read_dir("/proc").expect("this is Linux");
    processes.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).find(|id| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}"))
    })
}

#[test]
fn the_server_of_a_load_test_that_is_killed_ends_too() {
    let options = ["--requests-per-user", "1000", "--output-tokens", "300"];
    let process = Process::start(bench(&[TINY, &options]), "");
    let server = wait_for("its server", || child_of(process.id()));
    process.signal("KILL");
    assert_eq!(process.end().code(), None);
    wait_for("the end of its server", || {
        let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap_or_default();
        // Who adopts it may let it lie.
        let is_gone = status.is_empty() || status.contains("\nState:\tZ");
        is_gone.then_some(())
    });
}

#[test]
fn recorded_requests_and_traces_are_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("requests.jsonl");
    let text = "{\"timestamp\": 5000, \"prompt\": \"hello\", \"output_tokens\": 5}\n\
                {\"timestamp\": 5040, \"prompt_tokens\": 30, \"output_tokens\": 4}\n";
    fs::write(&path, text).expect("it is ours");
    let file = path.to_str().expect("plain");
    let dataset = ["--dataset", file, "--levels", "1", "--requests-per-user", "2"];
    let sent = millrace(bench(&[TINY, &dataset]));
    let report = sent.output();
    assert!(report.contains("*   **Total Requests:** 2\n"), "{report}");
    let sent = millrace(bench(&[TINY, &["--trace", file, "--trace-speed", "2"]]));
    let report = sent.output();
    assert!(report.contains("## Trace: 0.02 s at speed 2.00\n"), "{report}");
    fs::write(&path, "{\"prompt\": \"a\"}\n{\"prompt\": 5}\n").expect("it is ours");
    let refused = millrace(bench(&[TINY, &dataset]));
    assert!(refused.stderr.contains("requests.jsonl` cannot be used: line 2"), "{refused:#?}");
    assert!(!refused.status.success());
}

#[test]
fn conversations_find_what_was_said_before_in_the_cache() {
    let talk =
        ["--levels", "2", "--requests-per-user", "4", "--turns", "2", "--prefix-tokens", "64"];
    let lengths = ["--prompt-tokens", "20", "--output-tokens", "6", "--endpoint", "chat"];
    let sent = millrace(bench(&[TINY, &talk, &lengths]));
    let report = sent.output();
    assert!(report.contains("since prompts begin as others do"), "{report}");
}
