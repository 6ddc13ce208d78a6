use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use workload::lengths::{LengthLaws, Lengths};

use super::*;

/// A run of `users` with five requests each, in a folder: the first token of user u comes after
/// `ttft_ms` + u milliseconds, ten more follow at 10 ms each.
fn write_run(folder: &Path, users: u32, ttft_ms: u64, throughput: f64) {
    fs::create_dir_all(folder).expect("a folder");
    let lengths = LengthLaws::fixed(Lengths { prompt_tokens: 5, output_tokens: 11 });
    let load = Load::closed(users, 5);
    let summary = json!({
        "version": "1", "server": {"model": "m"}, "lengths": lengths, "sampling": null,
        "verdict": "valid", "interrupted": false,
        "counts": {"sent": 5 * users, "ok": 5 * users, "failed": 0, "refused": 0, "cancelled": 0,
                   "dropped": 0},
        "levels": [{"plan": {"load": load, "lengths": lengths}, "tokens_per_second": throughput}],
    });
    fs::write(folder.join("summary.json"), summary.to_string()).expect("written");
    let mut lines = String::new();
    for (user, index) in (0..users).flat_map(|user| (0..5).map(move |index| (user, index))) {
        let first = (ttft_ms + u64::from(user)) * 1_000_000;
        let last = first + 100_000_000;
        let record = json!({
            "level": 1, "user": user, "index": index, "due_ns": 0, "sent_ns": 0,
            "first_token_ns": first, "last_token_ns": last, "client_delay_ns": 0, "done_ns": last,
            "prompt_tokens": 5, "completion_tokens": 11, "asked_tokens": 11, "chunks": [],
            "finish_reason": "length", "status": "ok", "timings": null,
        });
        lines.push_str(&format!("{record}\n"));
    }
    fs::write(folder.join("requests.jsonl"), lines).expect("written");
}

fn runs(of: &[(u32, u64, f64)]) -> (TempDir, Vec<PathBuf>) {
    let home = TempDir::new().expect("a folder");
    let folders: Vec<_> = (0..of.len()).map(|index| home.path().join(index.to_string())).collect();
    for (folder, (users, ttft_ms, throughput)) in folders.iter().zip(of) {
        write_run(folder, *users, *ttft_ms, *throughput);
    }
    (home, folders)
}

fn the_change(comparison: &Comparison, metric: Metric) -> Change {
    let changes = &comparison.levels[0].changes;
    *changes.iter().find(|change| change.metric == metric).expect("both sides have it")
}

#[test]
fn a_large_difference_is_told_with_its_interval() {
    let (_home, folders) = runs(&[(8, 100, 50.0), (8, 200, 40.0)]);
    let comparison = compare(&folders[..1], &folders[1..]).expect("two runs");
    let ttft = the_change(&comparison, Metric::TtftMean);
    assert!((ttft.a - 103.5).abs() < 1e-6 && (ttft.b - 203.5).abs() < 1e-6, "{ttft:?}");
    let [low, high] = ttft.percent_interval.expect("eight users");
    assert!(85.0 < low && low < ttft.percent && ttft.percent < high && high < 110.0, "{ttft:?}");
    assert!(ttft.verdict().starts_with("B is 96.6 % longer (95 % CI "), "{}", ttft.verdict());
    let throughput = the_change(&comparison, Metric::Throughput).verdict();
    assert!(throughput.starts_with("B is 20.0 % slower (95 % CI "), "{throughput}");
    assert!(comparison.warnings.is_empty(), "{:?}", comparison.warnings);
}

#[test]
fn the_same_run_twice_shows_no_change() {
    let (_home, folders) = runs(&[(8, 100, 50.0)]);
    let comparison = compare(&folders, &folders).expect("a run");
    for change in &comparison.levels[0].changes {
        assert!(change.verdict().starts_with("no detectable change"), "{}", change.verdict());
    }
    let again = compare(&folders, &folders).expect("a run");
    assert_eq!(comparison.to_string(), again.to_string(), "the draws are seeded");
}

#[test]
fn three_runs_a_side_count_what_differs_between_runs() {
    let sides = [50.0, 60.0, 40.0, 51.0, 61.0, 41.0].map(|rate| (8, 100, rate));
    let (_home, folders) = runs(&sides);
    let comparison = compare(&folders[..3], &folders[3..]).expect("six runs");
    let throughput = the_change(&comparison, Metric::Throughput);
    let [low, high] = throughput.percent_interval.expect("three runs a side");
    assert!(low < -20.0 && 20.0 < high, "{throughput:?}");
    assert!(comparison.to_string().contains("Welch"), "{comparison}");
}

#[test]
fn what_does_not_fit_is_warned_of() {
    let (_home, folders) = runs(&[(8, 100, 50.0), (8, 100, 50.0)]);
    let path = folders[1].join("summary.json");
    let text = fs::read_to_string(&path).expect("written above");
    let text = text.replace(r#""model":"m""#, r#""model":"n""#).replace("\"valid\"", "\"invalid\"");
    fs::write(&path, text.replace(r#""failed":0"#, r#""failed":3"#)).expect("written");
    let comparison = compare(&folders[..1], &folders[1..]).expect("two runs");
    let warnings = comparison.warnings.join("\n");
    for part in ["INVALID", "3 failed", "model differ: \"m\" in "] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
}

#[test]
fn other_levels_cannot_be_compared() {
    let (_home, folders) = runs(&[(8, 100, 50.0), (4, 100, 50.0)]);
    let error = compare(&folders[..1], &folders[1..]).expect_err("no level in common");
    assert!(matches!(error, CompareError::NothingInCommon), "{error}");
}

#[test]
fn a_line_that_is_no_record_is_named() {
    let (_home, folders) = runs(&[(8, 100, 50.0)]);
    fs::write(folders[0].join("requests.jsonl"), "{}\n").expect("written");
    let error = compare(&folders, &folders).expect_err("no record").to_string();
    assert!(error.contains("requests.jsonl, line 1: missing field"), "{error}");
}
