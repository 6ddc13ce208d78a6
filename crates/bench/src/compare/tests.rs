use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use workload::lengths::{LengthLaws, Lengths};
use workload::load::Arrivals;
use workload::record::RequestRecord;

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
    let (_home, folders) = runs(&[(12, 100, 50.0)]);
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
    for part in ["INVALID", "3 failed", "the model's served names differ: \"m\" in "] {
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

const USERS: u32 = 8;
const WAVES: u32 = 5;

/// Requests whose times are `scale` times what chance gives them: a part by user, a part by wave and
/// a part of their own, all of the same size.
fn random_records(seed: u64, scale: f64) -> Vec<RequestRecord> {
    let mut random = Random::new(seed, &[]);
    let by_user: Vec<f64> = (0..USERS).map(|_| random.normal()).collect();
    let by_wave: Vec<f64> = (0..WAVES).map(|_| random.normal()).collect();
    let mut records = Vec::new();
    for (user, index) in (0..USERS).flat_map(|user| (0..WAVES).map(move |index| (user, index))) {
        let effect = by_user[user as usize] + by_wave[index as usize] + random.normal();
        let first = (scale * 1e7 * (1.0 + 0.03 * effect)) as u64;
        records.push(record([user, index], 0, first));
    }
    records
}

/// A request that is due at `due_ns`, with its first token `first_ns` later and ten more as slowly.
fn record([user, index]: [u32; 2], due_ns: u64, first_ns: u64) -> RequestRecord {
    let (first, last) = (due_ns + first_ns, due_ns + 11 * first_ns);
    let record = json!({
        "level": 1, "user": user, "index": index, "due_ns": due_ns, "sent_ns": due_ns,
        "first_token_ns": first, "last_token_ns": last, "client_delay_ns": 0, "done_ns": last,
        "prompt_tokens": 5, "completion_tokens": 11, "asked_tokens": 11, "chunks": [],
        "finish_reason": "length", "status": "ok", "timings": null,
    });
    serde_json::from_value(record).expect("a good example")
}

fn table<'a>(records: &'a [RequestRecord], load: &Load) -> [Table<'a>; 1] {
    let records = records.iter().collect();
    [Table::of(side::RunLevel { tokens_per_second: Some(100.0), records }, load)]
}

#[test]
fn intervals_hold_the_true_difference_though_users_and_waves_vary() {
    // 95 % of the intervals should hold the truth. Of 40 more than 5 miss it with a chance of 1.4 %
    // if it were exactly 95 %; when users alone are drawn, every fourth does.
    let (mut missed, mut seen) = (0, 0);
    let load = Load::closed(USERS, WAVES);
    let ttft = Metric::ALL.iter().position(|metric| *metric == Metric::TtftMean);
    let ttft = ttft.expect("it is compared");
    for pair in 0..40 {
        let (a, b) = (random_records(2 * pair, 1.0), random_records(2 * pair + 1, 1.2));
        let (a, b) = (table(&a, &load), table(&b, &load));
        let ratios = resampled_ratios(&a, &b).iter().filter_map(|ratios| ratios[ttft]).collect();
        let wholes = [&a, &b].map(|side| side[0].wholes().expect("there are several"));
        let ends = interval::of_resamples(ratios, &wholes).expect("many ratios");
        missed += usize::from(!(ends.low..=ends.high).contains(&1.2));
        seen += usize::from(1.0 < ends.low);
    }
    assert!(missed <= 5, "{missed} of 40 intervals do not hold the truth");
    assert!(36 <= seen, "a fifth more was seen only {seen} times of 40");
}

#[test]
fn an_open_loop_counts_from_when_due_and_varies_by_blocks_of_time() {
    let load = Load::Open { arrivals: Arrivals::Constant { rate: 10.0 }, requests: 100 };
    let records: Vec<_> = (0..100)
        .map(|number| RequestRecord {
            sent_ns: u64::from(number) * 100_000_000 + 4_000_000, // 4 ms late
            ..record([number, 0], u64::from(number) * 100_000_000, 5_000_000)
        })
        .collect();
    let [table] = table(&records, &load);
    let [_, ttft, ..] = table.measured();
    assert_eq!(ttft, Some(5.0));
    assert_eq!(table.wholes(), Some(20), "blocks of 5 requests");
}

#[test]
fn a_percentile_of_few_requests_is_not_judged() {
    let (_home, folders) =
        runs(&[(8, 100, 50.0), (8, 200, 50.0), (12, 100, 50.0), (12, 200, 50.0)]);
    let verdict = |folders: &[PathBuf]| {
        let comparison = compare(&folders[..1], &folders[1..]).expect("two runs");
        the_change(&comparison, Metric::TtftP95).verdict()
    };
    assert_eq!(verdict(&folders[..2]), "not judged: 40 requests a run, 59 are needed");
    let verdict = verdict(&folders[2..]);
    assert!(verdict.starts_with("B is "), "{verdict}");
}
