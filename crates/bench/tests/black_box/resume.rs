//! Runs that are interrupted and continued.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use bench::{BenchConfig, Cancel, Distribution, Lengths, Loads, Outcome, RequestForm};
use serde_json::Value;
use workload::gauges::GaugeSample;
use workload::record::RequestRecord;
use workload::summary::LevelSummary;

use crate::mock_server::{Behaviour, Fault, MockServer};
use crate::{config, run, try_run};

/// Levels of 1, 3 and 4 users with 2 requests each, stopped in the second.
async fn interrupted(server: &MockServer, folder: &Path) -> (BenchConfig, Outcome) {
    let config =
        BenchConfig { out: Some(folder.to_owned()), ..config(server.url(), &[1, 3, 4], 2) };
    let cancel = Cancel::new();
    let (stopper, seen) = (cancel.clone(), server.clone());
    tokio::spawn(async move {
        seen.has_seen(1 + 2 + 3).await; // warm-up, first level, first wave of the second
        stopper.cancel();
    });
    let outcome = bench::run(config.clone(), cancel).await.expect("a report");
    assert!(outcome.summary.interrupted, "{}", outcome.report);
    (BenchConfig { resume: true, ..config }, outcome)
}

/// Slow enough to be stopped in the middle, and for its gauges to be read.
async fn slow_server() -> MockServer {
    let pace = Duration::from_millis(20);
    MockServer::start(Behaviour { pace, ..Behaviour::default() }).await
}

fn lines(folder: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(name)).expect("it was written");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn append(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    let before = std::fs::read_to_string(&path).expect("it was written");
    std::fs::write(path, before + text).expect("it is ours");
}

fn text<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("it has this form")
}

#[tokio::test]
async fn complete_levels_are_kept_and_the_rest_is_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = slow_server().await;
    let (again, first) = interrupted(&server, folder.path()).await;
    // Killed in the middle of a line.
    append(folder.path(), "requests.jsonl", "{\"level\":2,\"us");
    let seen = server.completions().len();
    let outcome = run(again.clone()).await;
    assert!(outcome.is_success(), "{}", outcome.report);
    assert_eq!(server.completions().len() - seen, 1 + 6 + 8, "the warm-up and two levels");
    assert_eq!((outcome.summary.resumes, outcome.summary.counts.ok), (1, 2 + 6 + 8));
    assert_eq!(outcome.summary.levels[0], first.summary.levels[0]);
    let words =
        "The run was interrupted and went on later: concurrency 1 had been measured before.";
    assert!(outcome.report.contains(words), "{}", outcome.report);
    let users: Vec<_> = outcome.summary.levels.iter().map(|level| level.plan.users()).collect();
    assert_eq!(users, [Some(1), Some(3), Some(4)]);

    let seen = server.completions().len();
    let third = run(again).await;
    assert_eq!(server.completions().len(), seen, "nothing is left to be run");
    assert_eq!(third.summary.levels, outcome.summary.levels);
}

#[tokio::test]
async fn the_summary_of_a_continued_run_is_what_its_records_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = slow_server().await;
    let (again, _) = interrupted(&server, folder.path()).await;
    let outcome = run(again).await;
    let requests = lines(folder.path(), "requests.jsonl");
    let gauges = lines(folder.path(), "gauges.jsonl");
    for (number, (level, line)) in
        (1..).zip(outcome.summary.levels.iter().zip(lines(folder.path(), "levels.jsonl")))
    {
        let of_level = |lines: &[Value]| -> Vec<Value> {
            lines.iter().filter(|line| line["level"] == number).cloned().collect()
        };
        let records: Vec<RequestRecord> = of_level(&requests).iter().map(text).collect();
        let samples: Vec<GaugeSample> = of_level(&gauges).iter().map(text).collect();
        assert!(!samples.is_empty() && level.gauges.is_some(), "its gauges were read");
        let expected =
            LevelSummary::of(text(&line["plan"]), text(&line["sent"]), &records, &samples);
        let expected = expected.with_client(text(&line["client"]), &records);
        assert_eq!(*level, expected);
    }
    let ends: Vec<u64> = requests.iter().map(|line| text(&line["done_ns"])).collect();
    let starts: Vec<u64> = requests.iter().map(|line| text(&line["sent_ns"])).collect();
    assert!(ends[1] < starts[2], "the clock goes on where it stood: {starts:?} {ends:?}");
}

#[tokio::test]
async fn a_level_that_is_run_again_has_other_prompts() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = slow_server().await;
    let (again, _) = interrupted(&server, folder.path()).await;
    run(again).await;
    let completions = server.completions();
    let prompts: HashSet<_> = completions.iter().map(|body| body["prompt"].to_string()).collect();
    assert_eq!(prompts.len(), completions.len(), "a prefix cache finds none of them");
}

#[tokio::test]
async fn a_run_is_not_continued_with_other_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = slow_server().await;
    let (again, _) = interrupted(&server, folder.path()).await;
    let lengths = Lengths { prompt_tokens: 12, output_tokens: 7 };
    let longer = BenchConfig { lengths: lengths.into(), ..again.clone() };
    let error = try_run(longer).await.expect_err("it is another test").to_string();
    let place = folder.path().display();
    let expected = format!(
        "cannot continue the run in {place}: its `lengths.output.value` is 6.0, now it is 7.0"
    );
    assert!(error.starts_with(&expected), "{error}");
    assert_eq!(bench::recorded_seed(folder.path()).expect("it is whole"), Some(again.seed));
    // Without --resume it begins anew.
    let outcome = run(BenchConfig { lengths: lengths.into(), resume: false, ..again }).await;
    assert_eq!((outcome.summary.resumes, outcome.summary.counts.ok), (0, 16));
}

#[tokio::test]
async fn a_sweep_that_doubles_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = MockServer::start(Behaviour::default()).await;
    let config = || BenchConfig {
        loads: Loads::Doubling {
            users_max: 2,
            requests_per_user: 2,
            think_time_s: Distribution::fixed(0.0),
        },
        out: Some(folder.path().to_owned()),
        ..config(server.url(), &[], 2)
    };
    let first = run(config()).await;
    let levels = folder.path().join("levels.jsonl");
    let text = std::fs::read_to_string(&levels).expect("it was written");
    let (one, _) = text.split_once('\n').expect("two levels");
    std::fs::write(&levels, format!("{one}\n")).expect("it is ours");
    let seen = server.completions().len();
    let outcome = run(BenchConfig { resume: true, ..config() }).await;
    assert_eq!(server.completions().len() - seen, 1 + 4, "the warm-up and the second level");
    assert_eq!(outcome.summary.levels[0], first.summary.levels[0]);
    assert_eq!(outcome.summary.levels.len(), 2);
}

#[tokio::test]
async fn keys_and_header_fields_are_not_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let behaviour = Behaviour { api_key: Some("secret"), ..Behaviour::default() };
    let server = MockServer::start(behaviour).await;
    let header = ("x-token".parse().expect("a name"), "opensesame".parse().expect("a value"));
    run(BenchConfig {
        api_key: Some("secret".to_owned()),
        form: RequestForm { headers: vec![header], ..RequestForm::default() },
        out: Some(folder.path().to_owned()),
        ..config(server.url(), &[1], 1)
    })
    .await;
    for file in std::fs::read_dir(folder.path()).expect("it was made") {
        let path = file.expect("it is ours").path();
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(!text.contains("secret") && !text.contains("opensesame"), "{}", path.display());
    }
}

#[tokio::test]
async fn without_an_earlier_run_all_levels_are_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = MockServer::start(Behaviour::default()).await;
    let out = Some(folder.path().join("new"));
    let outcome = run(BenchConfig { out, resume: true, ..config(server.url(), &[1], 2) }).await;
    assert_eq!((outcome.summary.resumes, outcome.summary.counts.ok), (0, 2));
    assert_eq!(bench::recorded_seed(folder.path()).expect("there is none"), None);
}

#[tokio::test]
async fn a_level_without_any_success_is_run_again() {
    let folder = tempfile::tempdir().expect("a folder");
    // After the warm-up, the first level and a request of the second the server is out of order,
    // until it is asked again: the warm-up of the second run is request 9.
    let fault = |number| (4..9).contains(&number).then_some(Fault::Refused);
    let server = MockServer::start(Behaviour { fault, ..Behaviour::default() }).await;
    let out = Some(folder.path().to_owned());
    let config = BenchConfig { out, ..config(server.url(), &[1, 1, 2], 2) };
    let first = run(config.clone()).await;
    let ok: Vec<usize> = first.summary.levels.iter().map(|level| level.counts.ok).collect();
    assert_eq!(ok, [2, 1, 0]);
    let outcome = run(BenchConfig { resume: true, ..config }).await;
    let ok: Vec<usize> = outcome.summary.levels.iter().map(|level| level.counts.ok).collect();
    assert_eq!(ok, [2, 1, 4], "a failure beside successes is a result, and stays");
    assert!(!outcome.is_success());
}
