//! Figures that were computed by hand.

use serde_json::json;

use super::*;

/// Sent at `sent` ms, chunks at these times with so many tokens, closed 5 ms after the last one.
fn record(sent: u64, chunks: &[(u64, u32)]) -> RequestRecord {
    let ns = |ms: u64| ms * 1_000_000;
    let tokens: u32 = chunks.iter().map(|chunk| chunk.1).sum();
    let (first, last) = (chunks[0].0, chunks[chunks.len() - 1].0);
    let chunks: Vec<_> =
        chunks.iter().map(|(ms, n)| json!({"at_ns": ns(*ms), "tokens": n})).collect();
    serde_json::from_value(json!({
        "level": 1, "user": 0, "index": 0, "due_ns": ns(sent), "sent_ns": ns(sent),
        "first_token_ns": ns(first), "last_token_ns": ns(last), "client_delay_ns": 0,
        "done_ns": ns(last + 5), "prompt_tokens": 10, "completion_tokens": tokens,
        "asked_tokens": tokens, "chunks": chunks, "finish_reason": "length", "status": "ok",
        "timings": null
    }))
    .expect("a record")
}

/// Three tokens at 100, 140 and 200 ms; two tokens sent at 100 ms that come at 400 and 500 ms; and
/// one that failed at 1,000 ms.
fn records() -> Vec<RequestRecord> {
    let mut failed = record(0, &[(995, 1)]);
    failed.status = workload::record::Status::Failed("HTTP 500".to_owned());
    vec![record(0, &[(100, 1), (140, 1), (200, 1)]), record(100, &[(400, 1), (500, 1)]), failed]
}

fn figures(tool: Tool) -> Figures {
    let records = records();
    Figures::of(tool, &records.iter().collect::<Vec<_>>()).expect("two succeeded")
}

#[track_caller]
fn check(figures: &Figures, name: &str, expected: &[f64]) {
    let whole = figures.whole.iter().find(|found| found.0 == name).map(|found| vec![found.1]);
    let row = figures.rows.iter().find(|found| found.0 == name).map(|found| found.1.clone());
    let found = whole.or(row).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-3, "{name}: {found} is not {expected}");
    }
}

#[test]
fn vllm_pools_chunks_and_ends_with_the_last_request_of_any_outcome() {
    let vllm = figures(Tool::Vllm);
    check(&vllm, "Successful requests", &[2.0]);
    check(&vllm, "Benchmark duration (s)", &[1.0]);
    check(&vllm, "Total input tokens", &[20.0]);
    check(&vllm, "Total generated tokens", &[5.0]);
    check(&vllm, "Output token throughput (tok/s)", &[5.0]);
    check(&vllm, "Total token throughput (tok/s)", &[25.0]);
    // Mean, median, deviation of a population, P99.
    check(&vllm, "TTFT (ms)", &[200.0, 200.0, 100.0, 298.0]);
    check(&vllm, "TPOT (ms)", &[75.0, 75.0, 25.0, 99.5]);
    // Gaps of 40, 60 and 100: deviations of -26.67, -6.67 and 33.33.
    check(&vllm, "ITL (ms)", &[66.667, 60.0, 24.944, 99.2]);
    check(&vllm, "E2EL (ms)", &[300.0, 300.0, 100.0, 398.0]);
}

#[test]
fn aiperf_calls_the_time_per_token_inter_token_latency() {
    let aiperf = figures(Tool::Aiperf);
    // From 0 to the last answer at 500 ms.
    check(&aiperf, "Output Token Throughput (tokens/sec)", &[10.0]);
    check(&aiperf, "Request Throughput (requests/sec)", &[4.0]);
    // avg, min, max, p99, p90, p50, std
    check(&aiperf, "Time to First Token (ms)", &[200.0, 100.0, 300.0, 298.0, 280.0, 200.0, 100.0]);
    check(&aiperf, "Inter Token Latency (ms)", &[75.0, 50.0, 100.0, 99.5, 95.0, 75.0, 25.0]);
    check(
        &aiperf,
        "Output Token Throughput Per User (tokens/sec/user)",
        &[15.0, 10.0, 20.0, 19.9, 19.0, 15.0, 5.0],
    );
    check(&aiperf, "Output Sequence Length (tokens)", &[2.5, 2.0, 3.0, 2.99, 2.9, 2.5, 0.5]);
}

#[test]
fn guidellm_gives_each_token_a_vote_and_takes_the_nearest_rank() {
    let guidellm = figures(Tool::Guidellm);
    // From 0 to the end of the last stream at 505 ms.
    check(&guidellm, "Output tokens per second, mean", &[5.0 / 0.505]);
    // mean, median, p95, p99, std; the stream of 205 ms and the one of 405 ms.
    check(&guidellm, "Request latency (ms)", &[305.0, 205.0, 405.0, 405.0, 100.0]);
    // 50 ms twice and 100 ms once: (100 + 100) / 3.
    check(&guidellm, "ITL (ms)", &[66.667, 50.0, 100.0, 100.0, 23.570]);
    // 200 / 3 ms three times and 400 / 2 ms twice: 600 / 5.
    check(&guidellm, "TPOT (ms)", &[120.0, 66.667, 200.0, 200.0, 65.320]);
}

#[test]
fn tables_are_labelled_and_hold_dashes_where_nothing_is_known() {
    let one = [record(0, &[(30, 1)])];
    let text = Figures::of(Tool::Vllm, &[&one[0]]).expect("it succeeded").to_string();
    assert!(text.contains("| TTFT (ms) | 30.00 | 30.00 | 0.00 | 30.00 |"), "{text}");
    assert!(text.contains("| TPOT (ms) | - | - | - | - |"), "{text}");
    assert!(text.contains("| Metric | Mean | Median | Std | P99 |\n|---|---|---|---|---|\n"));
    assert_eq!(Figures::of(Tool::Aiperf, &[]), None);
    let names = ["vllm", "aiperf", "guidellm"].map(|name| name.parse::<Tool>());
    assert!(names.iter().all(Result::is_ok));
    let unknown = "genai".parse::<Tool>().expect_err("no such tool").to_string();
    assert!(unknown.contains("`genai`") && unknown.contains("aiperf"), "{unknown}");
}
