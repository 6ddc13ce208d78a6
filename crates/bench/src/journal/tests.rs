//! Journals that are written, torn, damaged and read back.

use std::fs::OpenOptions;

use workload::lengths::Lengths;
use workload::load::Load;
use workload::record::Status;

use super::*;
use crate::setup::tests::setup;

fn record(level: u32, user: u32) -> RequestRecord {
    let line = format!(
        r#"{{"level":{level},"user":{user},"index":0,"due_ns":1,"sent_ns":2,"first_token_ns":30,
        "last_token_ns":40,"client_delay_ns":0,"done_ns":50,"prompt_tokens":5,"completion_tokens":2,"asked_tokens":2,
        "chunks":[],"finish_reason":"length","status":"ok","timings":null}}"#
    );
    serde_json::from_str(&line).expect("a good example")
}

fn measured(level: u32, users: u32) -> Measured {
    let lengths = Lengths { prompt_tokens: 5, output_tokens: 2 };
    let plan = LevelPlan { load: Load::closed(users, 1), lengths: lengths.into() };
    let sample =
        GaugeSample { at_ns: 60, running: 1, waiting: 0, kv_usage: Some(0.5), preemptions: None };
    let records: Vec<_> = (0..users).map(|user| record(level, user)).collect();
    let client = ClientReadings { thread_cpu_share: Some(0.25), ..ClientReadings::default() };
    Measured { level, plan, sent: records.len(), records, samples: vec![sample; 2], client }
}

/// A journal with two complete levels of 1 and 2 users, and one request of a third.
fn written() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = Journal::begin(folder.path(), &setup(), 0, &[]).expect("it is ours");
    for level in [measured(1, 1), measured(2, 2)] {
        for record in &level.records {
            journal.record(record).expect("there is room");
        }
        journal.end_level(&level).expect("there is room");
    }
    journal.record(&record(3, 0)).expect("there is room");
    folder
}

fn read_back(folder: &Path) -> Recorded {
    read(folder).expect("it is whole").expect("there is one")
}

fn append(folder: &Path, name: &str, text: &[u8]) {
    let file = OpenOptions::new().append(true).open(folder.join(name));
    file.and_then(|mut file| file.write_all(text)).expect("it is ours");
}

#[test]
fn complete_levels_are_read_back_as_they_were() {
    let folder = written();
    let recorded = read_back(folder.path());
    assert_eq!(recorded.levels, [measured(1, 1), measured(2, 2)]);
    assert_eq!((recorded.setup.clone(), recorded.resumes), (setup(), 0));
    assert_eq!(recorded.notes, [""; 0]);
    assert_eq!(recorded.end_ns(), 60);
}

#[test]
fn a_torn_last_line_is_dropped_with_a_note() {
    let folder = written();
    append(folder.path(), REQUESTS, b"{\"level\":3,\"user\":1,\"ind\xc3");
    append(folder.path(), LEVELS, b"{\"level\":3");
    let recorded = read_back(folder.path());
    assert_eq!(recorded.levels.len(), 2);
    assert_eq!(recorded.notes.len(), 2, "{:?}", recorded.notes);
    assert!(recorded.notes[0].contains("levels.jsonl ends in the middle of line 3"));
    assert!(recorded.notes[1].contains("requests.jsonl ends in the middle of line 5"));
}

#[test]
fn a_damaged_line_is_refused_with_its_place() {
    let folder = written();
    append(folder.path(), REQUESTS, b"nonsense\n");
    let error = read(folder.path()).expect_err("it is damaged").to_string();
    assert!(error.contains("requests.jsonl") && error.contains("line 5"), "{error}");
    let folder = written();
    append(folder.path(), REQUESTS, &lines([record(2, 7)]));
    let error = read(folder.path()).expect_err("one request too many").to_string();
    assert!(error.contains("level 2 has 3 requests, and 2 were begun"), "{error}");
}

#[test]
fn a_folder_without_a_run_has_none() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(read(folder.path()).expect("it is empty"), None);
    assert_eq!(read(&folder.path().join("nowhere")).expect("there is none"), None);
}

#[test]
fn what_is_kept_begins_the_next_journal() {
    let folder = written();
    let kept = [measured(2, 2)];
    drop(Journal::begin(folder.path(), &setup(), 1, &kept).expect("it is ours"));
    let recorded = read_back(folder.path());
    assert_eq!((recorded.levels.as_slice(), recorded.resumes), (kept.as_slice(), 1));
    let requests = fs::read_to_string(folder.path().join(REQUESTS)).expect("it is ours");
    assert_eq!(requests.lines().count(), 2, "nothing of other levels is left");
}

#[test]
fn a_level_read_back_has_the_same_summary() {
    let mut level = measured(1, 3);
    level.records[1].status = Status::Failed("HTTP 500".to_owned());
    let folder = tempfile::tempdir().expect("a folder");
    let kept = [level];
    drop(Journal::begin(folder.path(), &setup(), 0, &kept).expect("it is ours"));
    assert_eq!(read_back(folder.path()).levels[0].summary(None), kept[0].summary(None));
}
