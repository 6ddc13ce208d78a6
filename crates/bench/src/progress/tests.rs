//! What is said about a level under way.

use super::*;

fn record(ttft_ms: u64, status: &str) -> RequestRecord {
    let first = ttft_ms * 1_000_000;
    let line = format!(
        r#"{{"level":1,"user":0,"index":0,"due_ns":0,"sent_ns":0,"first_token_ns":{first},
        "last_token_ns":{first},"client_delay_ns":0,"done_ns":{first},"prompt_tokens":5,
        "completion_tokens":1,"asked_tokens":1,"chunks":[],"finish_reason":"length",
        "status":{status},"timings":null}}"#
    );
    serde_json::from_str(&line).expect("a good example")
}

/// A level of 10 requests and 1000 tokens that began at 5 s, on no terminal.
fn level() -> Progress {
    let mut progress = Progress { screen: None, ..Progress::new() };
    progress.begin_level("4 users", 10, 1000, 5_000_000_000);
    progress
}

fn view(at_s: u64, records: &[RequestRecord], pieces: u64) -> View<'_> {
    View { at_ns: at_s * 1_000_000_000, records, pieces, gauges: None }
}

#[test]
fn the_rate_is_that_of_the_last_second_or_more() {
    let mut rate = Rate::default();
    rate.update(500_000_000, 100);
    assert_eq!(rate.per_second, None, "too short to tell");
    rate.update(2_000_000_000, 300);
    assert_eq!(rate.per_second, Some(150.0));
    rate.update(3_000_000_000, 400);
    assert_eq!(rate.per_second, Some(100.0));
}

#[test]
fn the_time_left_follows_requests_or_tokens_whichever_are_further() {
    let records = [record(5, "\"ok\""), record(9, "\"ok\"")];
    let left = |view: &View<'_>| level().live(view).time_left();
    assert_eq!(left(&view(15, &records, 500)).as_deref(), Some("about 10 s left"));
    assert_eq!(left(&view(15, &records, 0)).as_deref(), Some("about 40 s left"));
    assert_eq!(left(&view(605, &[], 100)).as_deref(), Some("about 90 min left"));
    assert_eq!(left(&view(15, &[], 19)), None, "too little to tell");
    assert_eq!(left(&view(5, &records, 500)), None, "too soon to tell");
    assert_eq!(left(&view(15, &records, 2000)).as_deref(), Some("about 0 s left"));
}

#[test]
fn without_a_terminal_a_line_is_due_every_ten_seconds() {
    let mut progress = level();
    let due: Vec<bool> =
        [6, 14, 15, 16, 24, 25, 40].map(|s| progress.is_line_due(s * 1_000_000_000)).to_vec();
    assert_eq!(due, [false, false, true, false, false, true, true]);
}

#[test]
fn what_is_known_is_said() {
    let records =
        [record(5, "\"ok\""), record(9, "\"ok\""), record(1, "{\"failed\":\"HTTP 500\"}")];
    let live = level().live(&view(15, &records, 0));
    assert_eq!(live.to_string(), "TTFT P50 7 ms, 1 FAILED");
    let gauges = GaugeSample {
        at_ns: 0,
        running: 50,
        waiting: 14,
        kv_usage: Some(0.314),
        preemptions: None,
    };
    let live = Live { tokens_per_second: Some(99.6), gauges: Some(gauges), ..Live::default() };
    assert_eq!(live.to_string(), "100 tokens/s, 50 running, 14 waiting, KV 31 %, 0 failed");
}
