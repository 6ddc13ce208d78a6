//! The load test against a server of known behaviour: what goes in, what comes out.

use std::collections::HashSet;
use std::time::Duration;

use bench::{
    Assertion, BenchConfig, BenchError, Cancel, Counts, Distribution, Language, Lengths, Loads,
    Outcome, Preset, RequestForm, Sampling, Trust,
};
use serde_json::Value;
use workload::analysis::Finding;
use workload::record::RequestRecord;

mod forms;
mod mock_server;
mod open_loop;
mod prompts;
mod resume;
mod tls;
use mock_server::{Behaviour, Close, Fault, MockServer};

fn config(url: String, levels: &[u32], requests_per_user: u32) -> BenchConfig {
    BenchConfig {
        url,
        loads: Loads::Closed {
            levels: levels.to_vec(),
            requests_per_user,
            think_time_s: Distribution::fixed(0.0),
        },
        lengths: Lengths { prompt_tokens: 12, output_tokens: 6 }.into(),
        dataset: None,
        form: RequestForm::default(),
        sampling: Sampling::GREEDY,
        seed: 7,
        slo: None,
        server_pid: None,
        language: Language::English,
        out: None,
        resume: false,
        assertions: Vec::new(),
        failures_allowed: false,
        command: "millrace bench --levels 1,3".to_owned(),
        api_key: None,
        trust: Trust::System,
    }
}

async fn try_run(config: BenchConfig) -> Result<Outcome, BenchError> {
    bench::run(config, Cancel::new()).await
}

async fn run(config: BenchConfig) -> Outcome {
    try_run(config).await.expect("there is something to report")
}

/// Runs levels of 1 and 3 users with 2 requests each.
async fn run_small(behaviour: Behaviour) -> (Outcome, MockServer) {
    let server = MockServer::start(behaviour).await;
    (run(config(server.url(), &[1, 3], 2)).await, server)
}

fn assert_all_ok(outcome: &Outcome, requests: usize) {
    let expected = Counts { sent: requests, ok: requests, ..Counts::default() };
    assert_eq!(outcome.summary.counts, expected, "{}", outcome.report);
    assert!(outcome.is_success());
}

#[tokio::test]
async fn a_good_server_gives_a_whole_report() {
    let (outcome, server) = run_small(Behaviour::default()).await;
    assert_all_ok(&outcome, 8);
    let head = "# Basics\nMock, 2 cores\ngpu_memory_utilization = 0.5\nMaximum concurrency: 3x\n\
                max_num_seqs = 1000\n\n## Concurrency Level: 1\n\n*   **Total Requests:** 2\n\
                *   **Total Time:** ";
    assert!(outcome.report.starts_with(head), "{}", outcome.report);
    let tokens = "| Num Generated Tokens   | 6        | 6         | 6.00      | 6         | 6         | 6         |";
    assert_eq!(outcome.report.matches(tokens).count(), 2, "{}", outcome.report);
    assert!(outcome.report.contains("\n\n\n\n# Analysis\n\n"), "{}", outcome.report);
    assert_eq!(server.completions().len(), 9, "the warm-up and eight requests");
}

#[tokio::test]
async fn prompts_are_distinct_and_have_exactly_the_length_asked_for() {
    let (outcome, server) = run_small(Behaviour::default()).await;
    let completions = server.completions();
    let prompts: HashSet<_> = completions.iter().map(|body| body["prompt"].to_string()).collect();
    assert_eq!(prompts.len(), completions.len());
    for level in &outcome.summary.levels {
        let tokens = level.prompt_tokens.expect("the server counts");
        assert_eq!((tokens.min, tokens.max), (12.0, 12.0));
    }
    assert!(outcome.summary.setup.exact_prompts);
    assert!(!outcome.report.contains("approximate"));
}

#[tokio::test]
async fn requests_carry_the_preset() {
    let server = MockServer::start(Behaviour::default()).await;
    let preset = Preset::SEED;
    let config = BenchConfig {
        lengths: preset.lengths.into(),
        sampling: preset.sampling,
        ..config(server.url(), &[1], 1)
    };
    assert_all_ok(&run(config).await, 1);
    let body = &server.completions()[1];
    let expected = serde_json::json!({
        "model": "mock", "prompt": body["prompt"], "max_tokens": 1184, "ignore_eos": true,
        "stream": true, "stream_options": {"include_usage": true}, "temperature": 1.0,
        "top_p": 0.8, "top_k": 30, "repetition_penalty": 10.0
    });
    assert_eq!(*body, expected);
}

#[tokio::test]
async fn results_are_written_and_agree_with_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("new/folder");
    let server = MockServer::start(Behaviour::default()).await;
    let outcome = run(BenchConfig {
        out: Some(out.clone()),
        language: Language::Chinese,
        ..config(server.url(), &[1, 3], 2)
    })
    .await;
    assert_all_ok(&outcome, 8);
    let read = |name| std::fs::read_to_string(out.join(name)).expect("it was written");
    assert_eq!(read("report.md"), format!("{}\n", outcome.report));
    assert!(outcome.report.starts_with("# 基础信息\nMock, 2 cores\n"), "{}", outcome.report);
    assert!(
        outcome.report.contains("\n\n\n\n# 分析\n\n")
            && outcome.report.contains("\n\n各档均未触发并发上限"),
        "{}",
        outcome.report
    );
    let summary: Value = serde_json::from_str(&read("summary.json")).expect("JSON");
    assert_eq!(summary["counts"]["ok"], 8);
    assert_eq!(summary["levels"][1]["plan"]["load"]["users"], 3);
    assert!(summary["definitions"]["ttft"].as_str().is_some());
    let level = &summary["levels"][1];
    assert_eq!(level["mean_ttft_ms"], level["ttft_ms"]["mean"]);
    assert_eq!((&level["total_output_tokens"], &level["completed"]), (&36.0.into(), &6.0.into()));
    let table = read("summary.csv");
    let columns: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    let place =
        columns[0].iter().position(|name| *name == "output_throughput").expect("it is there");
    let written: f64 = columns[2][place].parse().expect("a number");
    assert_eq!(Some(written), outcome.summary.levels[1].tokens_per_second);
    let page = read("report.html");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("millrace bench --levels 1,3"));
    assert!(page.contains("id=\"requests-2\"") && page.contains("# 基础信息\nMock, 2 cores\n"));
    let requests = read("requests.jsonl");
    let records: Vec<RequestRecord> =
        requests.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    assert_eq!(records.len(), 8);
    for record in records {
        let first = record.first_token_ns.expect("a first token");
        let last = record.last_token_ns.expect("a last token");
        assert!(record.due_ns <= record.sent_ns && record.sent_ns < first);
        assert!(first <= last && last <= record.done_ns);
        assert_eq!(
            (record.completion_tokens, record.chunks.len(), record.tokens()),
            (Some(6), 6, 6)
        );
        assert_eq!(record.finish_reason.as_deref(), Some("length"));
        assert!(record.queue_ms().is_some() && record.is_ok());
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_refused_before_the_test() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("it is ours");
    let server = MockServer::start(Behaviour::default()).await;
    let config = BenchConfig { out: Some(file.join("in")), ..config(server.url(), &[1], 1) };
    let error = try_run(config).await.expect_err("a file is no folder").to_string();
    assert!(error.contains("cannot write") && error.contains("file/in"), "{error}");
    assert!(server.completions().is_empty());
}

/// Four and eight users at a server with five places, long enough for its gauges to be read.
async fn run_over_cap(behaviour: Behaviour) -> Outcome {
    let pace = Duration::from_millis(25);
    let server = MockServer::start(Behaviour { places: 5, pace, ..behaviour }).await;
    run(config(server.url(), &[4, 8], 4)).await
}

#[tokio::test]
async fn the_cap_is_found_at_the_level_above_it_with_all_signs() {
    let outcome = run_over_cap(Behaviour::default()).await;
    assert_all_ok(&outcome, 48);
    let caps: Vec<_> = outcome
        .summary
        .findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::SequenceCap { users, cap, cap_is_known, queued, signs, .. } => {
                Some((*users, *cap, *cap_is_known, *queued, signs.count()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(caps, [(8, 5, true, 3, 3)], "{}", outcome.report);
    let words = "At concurrency 8 the cap on concurrent sequences was reached (max_num_seqs=5), so \
                 later requests could only queue: 3 requests were waiting at a time.";
    assert!(outcome.report.contains(words), "{}", outcome.report);
}

#[tokio::test]
async fn the_cap_of_a_foreign_server_is_found_from_gauges_and_streams() {
    let outcome =
        run_over_cap(Behaviour { info: false, timings: false, ..Behaviour::default() }).await;
    assert!(
        outcome.report.starts_with("# Basics\nmock at http://127.0.0.1:"),
        "{}",
        outcome.report
    );
    let words = "At concurrency 8 the cap on concurrent sequences was reached (5 at a time)";
    assert!(outcome.report.contains(words), "{}", outcome.report);
    assert!(outcome.report.contains("no queue times"), "{}", outcome.report);
}

#[tokio::test]
async fn without_gauges_and_queue_times_no_cap_is_claimed() {
    let outcome = run_over_cap(Behaviour {
        info: false,
        timings: false,
        metrics: false,
        ..Behaviour::default()
    })
    .await;
    let is_cap = |finding: &Finding| matches!(finding, Finding::SequenceCap { .. });
    assert!(!outcome.summary.findings.iter().any(is_cap), "{}", outcome.report);
    assert!(outcome.report.contains("a second one is missing, so nothing is concluded"));
    assert!(
        outcome.report.contains("no gauges of running and waiting requests and no queue times")
    );
}

/// Runs 2 users with 3 requests each; `fault` decides by the number of the completion.
async fn run_with(fault: fn(usize) -> Option<Fault>) -> (Outcome, Vec<RequestRecord>) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = MockServer::start(Behaviour { fault, ..Behaviour::default() }).await;
    let out = Some(folder.path().to_owned());
    let outcome = run(BenchConfig { out, ..config(server.url(), &[2], 3) }).await;
    let requests = std::fs::read_to_string(folder.path().join("requests.jsonl")).expect("written");
    let records = requests.lines().map(|line| serde_json::from_str(line).expect("a record"));
    (outcome, records.collect())
}

fn messages(records: &[RequestRecord]) -> Vec<&str> {
    records.iter().filter_map(|record| record.status.failure()).collect()
}

#[tokio::test]
async fn refused_requests_are_counted_and_the_run_is_no_success() {
    let (outcome, records) = run_with(|number| (number % 3 == 1).then_some(Fault::Refused)).await;
    assert_eq!(
        outcome.summary.counts,
        Counts { sent: 6, ok: 4, failed: 2, refused: 2, ..Counts::default() }
    );
    assert!(!outcome.is_success() && !outcome.summary.interrupted);
    let message = "HTTP 429: {\"error\":{\"message\":\"queue full\"}}";
    assert_eq!(messages(&records), [message; 2]);
    assert!(outcome.report.contains("*   **Total Requests:** 6\n"));
    assert!(outcome.report.contains("refused 2 of 6 requests"), "{}", outcome.report);
    assert!(outcome.report.contains(message));
}

#[tokio::test]
async fn failures_that_are_allowed_leave_a_success() {
    let fault = |number| (number == 2).then_some(Fault::Refused);
    let server = MockServer::start(Behaviour { fault, ..Behaviour::default() }).await;
    let config = BenchConfig { failures_allowed: true, ..config(server.url(), &[2], 3) };
    let outcome = run(config).await;
    assert_eq!(outcome.summary.counts.failed, 1);
    assert!(outcome.is_success());
}

#[tokio::test]
async fn a_run_is_a_success_only_if_its_assertions_hold() {
    let assertion = |text: &str| text.parse::<Assertion>().expect(text);
    let asserting = async |texts: [&str; 2]| {
        let server = MockServer::start(Behaviour::default()).await;
        let assertions = texts.map(assertion).to_vec();
        run(BenchConfig { assertions, ..config(server.url(), &[1, 3], 2) }).await
    };
    let outcome = asserting(["throughput>0", "completed==6@3"]).await;
    assert!(outcome.is_success(), "{:?}", outcome.summary.assertions);
    let outcome = asserting(["throughput>0", "completed==6"]).await;
    assert!(!outcome.is_success());
    let passed: Vec<bool> = outcome.summary.assertions.iter().map(|r| r.passed).collect();
    assert_eq!(passed, [true, false], "{:?}", outcome.summary.assertions);
    let server = MockServer::start(Behaviour::default()).await;
    let assertions = vec![assertion("failed==0@8")];
    let config = BenchConfig { assertions, ..config(server.url(), &[1, 3], 2) };
    let error = try_run(config).await.expect_err("level 8 will not run").to_string();
    assert!(error.contains("failed==0@8") && error.contains("there are 1, 3"), "{error}");
}

#[tokio::test]
async fn requests_are_held_to_limits_and_refused_ones_are_bad() {
    let fault = |number| (number == 2).then_some(Fault::Refused);
    let server = MockServer::start(Behaviour { fault, ..Behaviour::default() }).await;
    let slo = Some("ttft=1000s,e2e=1000s".parse().expect("limits"));
    let assertions = vec!["goodput>=83%".parse().expect("an assertion")];
    let config = BenchConfig { slo, assertions, ..config(server.url(), &[2], 3) };
    let outcome = run(config.clone()).await;
    assert!(outcome.summary.assertions[0].passed, "{:?}", outcome.summary.assertions);
    let error = try_run(BenchConfig { slo: None, ..config }).await.expect_err("nothing is good");
    assert!(error.to_string().contains("goodput>=83%` needs --slo"), "{error}");
    let goodput = outcome.summary.levels[0].goodput.expect("limits were given");
    assert_eq!((goodput.good, goodput.requests), (5, 6));
    assert!(outcome.report.contains("83% at concurrency 2, 5 of 6"), "{}", outcome.report);
}

#[tokio::test]
async fn the_client_reads_itself() {
    let server = MockServer::start(Behaviour::default()).await;
    let server_pid = Some(std::process::id());
    let outcome = run(BenchConfig { server_pid, ..config(server.url(), &[2], 2) }).await;
    let validity = &outcome.summary.levels[0].validity;
    let client = validity.client.expect("it took readings");
    assert!(client.thread_cpu_share.is_some() && client.process_cpus.is_some(), "{client:?}");
    assert!(client.server_cpus.is_some() && client.fd_headroom.is_some(), "{client:?}");
    assert!(outcome.summary.host.same_host);
    assert_eq!(outcome.summary.verdict, validity.verdict);
    assert_eq!(validity.schedule_lag_ms.map(|lag| lag.count), Some(4));
}

#[tokio::test]
async fn gaps_between_tokens_exist_where_chunks_are_tokens() {
    let gaps = |outcome: &Outcome| outcome.summary.levels[0].gaps.expect("several chunks came");
    let (outcome, _) = run_small(Behaviour::default()).await;
    assert_eq!(gaps(&outcome).itl_ms, Some(gaps(&outcome).icl_ms));
    let (outcome, _) = run_small(Behaviour { usage: false, ..Behaviour::default() }).await;
    assert_eq!(gaps(&outcome).itl_ms, None);
}

#[tokio::test]
async fn answers_that_break_off_fail() {
    let (outcome, records) = run_with(|number| (number == 2).then_some(Fault::BrokenOff)).await;
    assert_eq!(outcome.summary.counts, Counts { sent: 6, ok: 5, failed: 1, ..Counts::default() });
    assert!(messages(&records)[0].contains("broke off"), "{records:?}");
}

#[tokio::test]
async fn errors_in_the_stream_fail() {
    let (outcome, records) = run_with(|number| (number == 2).then_some(Fault::ErrorInStream)).await;
    assert_eq!(outcome.summary.counts, Counts { sent: 6, ok: 5, failed: 1, ..Counts::default() });
    assert_eq!(messages(&records), ["error in the stream: bad luck"]);
}

#[tokio::test]
async fn a_level_that_fails_as_a_whole_prints_dashes() {
    let (outcome, _) = run_with(|number| (0 < number).then_some(Fault::Refused)).await;
    assert_eq!(
        outcome.summary.counts,
        Counts { sent: 6, failed: 6, refused: 6, ..Counts::default() }
    );
    assert!(
        outcome.report.contains("*   **Total Throughput:** - tokens/s\n"),
        "{}",
        outcome.report
    );
}

#[tokio::test]
async fn a_refused_warm_up_ends_the_test() {
    let fault = |_| Some(Fault::Refused);
    let server = MockServer::start(Behaviour { fault, ..Behaviour::default() }).await;
    let error = try_run(config(server.url(), &[1], 1)).await.expect_err("nothing to measure");
    assert!(error.to_string().contains("HTTP 429"), "{error}");
}

#[tokio::test]
async fn the_stream_is_understood_however_it_is_written() {
    for (line_end, piece) in [("\r\n", usize::MAX), ("\r\n", 1), ("\n", 7), ("\r", 16)] {
        let behaviour = Behaviour { line_end, piece, role_first: true, ..Behaviour::default() };
        let (outcome, _) = run_small(behaviour).await;
        assert_all_ok(&outcome, 8);
        let tokens = outcome.summary.levels[1].tokens.expect("tokens came");
        assert_eq!((tokens.min, tokens.max), (6.0, 6.0));
    }
}

#[tokio::test]
async fn chunks_before_the_first_token_are_not_the_first_token() {
    let pace = Duration::from_millis(5);
    let (outcome, _) =
        run_small(Behaviour { role_first: true, pace, ..Behaviour::default() }).await;
    let ttft = outcome.summary.levels[0].ttft_ms.expect("tokens came");
    assert!(5.0 <= ttft.min, "the server takes 5 ms for each token: {ttft:?}");
}

#[tokio::test]
async fn without_usage_chunks_are_counted_and_it_is_said() {
    let (outcome, _) = run_small(Behaviour { usage: false, ..Behaviour::default() }).await;
    assert_all_ok(&outcome, 8);
    assert_eq!(outcome.summary.levels[0].tokens.map(|tokens| tokens.max), Some(6.0));
    assert!(outcome.report.contains("At concurrency 1, 3 the server gave no token usage"));
}

#[tokio::test]
async fn answers_of_another_length_are_told() {
    let (outcome, _) = run_small(Behaviour { tokens: Some(4), ..Behaviour::default() }).await;
    assert_all_ok(&outcome, 8);
    assert!(outcome.report.contains("6 answers were not 6 tokens long"), "{}", outcome.report);
}

#[tokio::test]
async fn without_a_tokenizer_lengths_follow_the_warm_up() {
    let (outcome, _) = run_small(Behaviour { tokenize: false, ..Behaviour::default() }).await;
    assert_all_ok(&outcome, 8);
    assert!(!outcome.summary.setup.exact_prompts);
    let tokens = outcome.summary.levels[0].prompt_tokens.expect("the server counts");
    assert_eq!((tokens.min, tokens.max), (12.0, 12.0), "12 words were 13 tokens, so 11 are sent");
}

#[tokio::test]
async fn without_tokenizer_and_usage_lengths_are_called_approximate() {
    let behaviour = Behaviour { tokenize: false, usage: false, ..Behaviour::default() };
    let (outcome, _) = run_small(behaviour).await;
    assert!(outcome.report.contains("Prompt lengths are approximate"), "{}", outcome.report);
}

#[tokio::test]
async fn connections_that_the_server_closes_are_opened_again() {
    for close in [Close::Announced, Close::Silent] {
        let (outcome, _) = run_small(Behaviour { close, ..Behaviour::default() }).await;
        assert_all_ok(&outcome, 8);
    }
}

#[tokio::test]
async fn the_key_is_sent_with_every_request() {
    let behaviour = Behaviour { api_key: Some("secret"), ..Behaviour::default() };
    let server = MockServer::start(behaviour).await;
    let with_key =
        BenchConfig { api_key: Some("secret".to_owned()), ..config(server.url(), &[2], 1) };
    assert_all_ok(&run(with_key).await, 2);
    let error = try_run(config(server.url(), &[2], 1)).await.expect_err("no key");
    assert!(error.to_string().contains("HTTP 401"), "{error}");
    let broken = BenchConfig { api_key: Some("a\nb".to_owned()), ..config(server.url(), &[2], 1) };
    assert!(try_run(broken).await.is_err(), "a line break does not go into a header");
}

#[tokio::test]
async fn a_stopped_run_reports_what_is_complete() {
    let pace = Duration::from_millis(20);
    let server = MockServer::start(Behaviour { pace, ..Behaviour::default() }).await;
    let cancel = Cancel::new();
    let stopper = cancel.clone();
    let seen = server.clone();
    tokio::spawn(async move {
        seen.has_seen(1 + 2 + 4 + 1).await; // warm-up, first level, first wave, one more
        stopper.cancel();
    });
    let outcome = bench::run(config(server.url(), &[1, 4, 8], 2), cancel).await.expect("a report");
    let counts = outcome.summary.counts;
    assert!(outcome.summary.interrupted && !outcome.is_success());
    assert!(counts.balance() && 1 <= counts.cancelled && counts.failed == 0, "{counts:?}");
    let complete: Vec<_> = outcome.summary.levels.iter().map(|level| level.is_complete()).collect();
    assert_eq!(complete, [true, false]);
    assert!(outcome.report.contains("## Concurrency Level: 4\n"), "{}", outcome.report);
    assert!(outcome.report.contains("concurrency 4 is incomplete"), "{}", outcome.report);
    assert!(outcome.report.contains("Not run: concurrency 8."), "{}", outcome.report);
}

#[tokio::test]
async fn a_run_stopped_at_once_says_so() {
    let server = MockServer::start(Behaviour::default()).await;
    let cancel = Cancel::new();
    cancel.cancel();
    let stopped = bench::run(config(server.url(), &[1], 1), cancel).await;
    assert!(matches!(stopped, Err(BenchError::Stopped)));
}

#[tokio::test]
async fn what_cannot_be_tested_is_refused_with_a_reason() {
    let message = async |config| try_run(config).await.expect_err("it is refused").to_string();
    let gone = MockServer::start(Behaviour::default()).await.url();
    assert!(message(config(gone.clone(), &[], 1)).await.contains("--levels"));
    assert!(message(config(gone.clone(), &[0], 1)).await.contains("--levels"));
    assert!(message(config(gone.clone(), &[1], 0)).await.contains("at least 1"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", closed.local_addr().expect("it is bound"));
    drop(closed);
    assert!(message(config(address, &[1], 1)).await.contains("no server answers"));
    let elsewhere = config(format!("{gone}/other"), &[1], 1);
    assert!(message(elsewhere).await.contains("names no model"));
}
