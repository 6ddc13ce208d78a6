//! Connections that break off, hang or wait, and what was there before.

use super::*;

#[test]
fn a_connection_that_ends_is_taken_up_where_it_ended() {
    let bench = Bench::new();
    bench.hub.spoil("signed=yes", 1, Fault::Cut(1_000_000));
    bench.hub.spoil("signed=yes", 1, Fault::Shorter(7));
    let mut seen = Vec::new();
    let path = bench.pull_with("org/tiny", &[], &mut |step| seen.push(step)).unwrap();
    assert_eq!(fs::read(path).unwrap(), model());
    let (sent, ranges) = bench.sent();
    assert_eq!(sent, model().len(), "no byte came twice");
    let from = |first: usize| Some(format!("bytes={first}-"));
    let last = model().len() - 7;
    assert_eq!(ranges, [None, from(1_000_000), from(last)]);
    let retries = seen.iter().filter(|step| matches!(step, Progress::Retrying { .. })).count();
    assert_eq!(retries, 2, "{seen:?}");
}

#[test]
fn a_connection_that_says_nothing_is_given_up_and_taken_up() {
    let bench = Bench { patience: Duration::from_millis(500), ..Bench::new() };
    bench.hub.spoil("signed=yes", 1, Fault::Stall(500_000));
    assert_eq!(fs::read(bench.pull("org/tiny").unwrap()).unwrap(), model());
    assert!(bench.sent().1.contains(&Some("bytes=500000-".to_owned())));
}

#[test]
fn a_pull_that_failed_is_taken_up_by_the_next_one() {
    let bench = Bench::new();
    bench.hub.spoil("signed=yes", 1, Fault::Cut(1_000_000));
    bench.hub.spoil("signed=yes", 4, Fault::Status(503, "retry-after", "0"));
    let said = bench.refused("org/tiny");
    assert!(said.contains("503") && said.contains("tried 5 times"), "{said}");
    let incomplete = format!("{}.incomplete", sha256(&model()));
    assert_eq!(names(&bench.repository().join("blobs")), [incomplete.as_str()]);
    assert!(!bench.repository().join("refs").exists() && bench.find("org/tiny").is_none());
    bench.hub.asked();
    let mut seen = Vec::new();
    let path = bench.pull_with("org/tiny", &[], &mut |step| seen.push(step)).unwrap();
    assert_eq!(fs::read(path).unwrap(), model());
    assert_eq!(bench.sent(), (model().len() - 1_000_000, vec![Some("bytes=1000000-".to_owned())]));
    assert!(
        seen.contains(&Progress::Downloading { bytes: 1_000_000, total: 2_400_000 }),
        "{seen:?}"
    );
}

#[test]
fn a_server_that_cannot_skip_sends_all_and_one_that_only_breaks_off_is_given_up() {
    let bench = Bench::new();
    bench.hub.spoil("signed=yes", 1, Fault::Cut(1_000_000));
    bench.hub.spoil("signed=yes", 1, Fault::Whole);
    let path = bench.pull("org/tiny").unwrap();
    assert_eq!(fs::read(path).unwrap(), model());

    let bench = Bench::new();
    bench.hub.spoil("signed=yes", 100, Fault::Cut(0));
    let said = bench.refused("org/tiny");
    assert!(said.contains("0 of 2400000 bytes of tiny.gguf"), "{said}");
    assert_eq!(bench.sent().1.len(), 5);
}

#[test]
fn a_wrong_beginning_on_the_disk_costs_one_more_download() {
    let bench = Bench::new();
    let blobs = bench.repository().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let incomplete = blobs.join(format!("{}.incomplete", sha256(&model())));
    fs::write(&incomplete, [0; 1000]).unwrap();
    assert_eq!(fs::read(bench.pull("org/tiny").unwrap()).unwrap(), model());
    assert_eq!(bench.sent().1, [Some("bytes=1000-".to_owned()), None]);

    // One that is too long, and a blob that is too short.
    let blob = blobs.join(sha256(&model()));
    fs::write(&incomplete, vec![0; 3_000_000]).unwrap();
    fs::write(&blob, "short").unwrap();
    fs::remove_dir_all(bench.repository().join("snapshots")).unwrap();
    assert_eq!(fs::read(bench.pull("org/tiny").unwrap()).unwrap(), model());
    assert_eq!(bench.sent().1, [None]);
}

#[test]
fn a_hub_that_is_busy_is_asked_again() {
    let bench = Bench::new();
    for part in ["api/models", "HEAD", "signed=yes"] {
        bench.hub.spoil(part, 1, Fault::Status(429, "retry-after", "0"));
        bench.hub.spoil(part, 1, Fault::Status(500, "x", "y"));
    }
    // A link to a large file that has expired.
    bench.hub.spoil("signed=yes", 1, Fault::Status(403, "x", "y"));
    bench.pull("org/tiny").unwrap();
    assert_eq!(bench.sent().1.len(), 4);
}

#[test]
fn nobody_there_is_said_after_some_tries() {
    let bench = Bench::new();
    let error = bench.pull_with("org/tiny", &[("HF_ENDPOINT", "http://127.0.0.1:1")], &mut |_| {});
    let said = error.unwrap_err().to_string();
    assert!(
        said.contains("127.0.0.1:1, tried 5 times") && said.contains("check the network"),
        "{said}"
    );
}

#[test]
fn several_pulls_at_once_fetch_once() {
    let bench = Bench::new();
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                let path = bench.pull("org/tiny").unwrap();
                assert_eq!(fs::read(path).unwrap(), model());
            });
        }
    });
    assert_eq!(bench.sent(), (model().len(), vec![None]));
}

#[test]
fn whoever_waits_for_another_process_says_so() {
    let bench = Bench::new();
    let locks = bench.folder.path().join(".locks/models--org--tiny");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join(format!("{}.lock", sha256(&model())))).unwrap();
    lock.lock().unwrap();
    let mut lock = Some(lock);
    let path = bench.pull_with("org/tiny", &[], &mut |step| {
        if step == Progress::Waiting {
            drop(lock.take());
        }
    });
    assert_eq!((fs::read(path.unwrap()).unwrap(), lock.is_none()), (model(), true));
}
