//! Requests that are due by a schedule, whatever has become of those before.

use std::time::Duration;

use bench::{Arrivals, BenchConfig, Counts, Extent, Loads, Outcome};
use workload::record::{RequestRecord, Status};

use crate::mock_server::{Behaviour, MockServer};
use crate::{config, run};

fn open(arrivals: &[Arrivals], extent: Extent, max_connections: u32) -> Loads {
    Loads::Open { arrivals: arrivals.to_vec(), extent, max_connections }
}

/// Runs `loads` against a server of this behaviour; gives the records in order of their due times.
async fn run_open(loads: Loads, behaviour: Behaviour) -> (Outcome, Vec<RequestRecord>) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = MockServer::start(behaviour).await;
    let out = Some(folder.path().to_owned());
    let outcome = run(BenchConfig { loads, out, ..config(server.url(), &[], 1) }).await;
    let requests = std::fs::read_to_string(folder.path().join("requests.jsonl")).expect("written");
    let records = requests.lines().map(|line| serde_json::from_str(line).expect("a record"));
    let mut records: Vec<RequestRecord> = records.collect();
    records.sort_by_key(|record| (record.level, record.due_ns));
    (outcome, records)
}

#[tokio::test]
async fn requests_are_due_by_the_schedule_and_sent_no_earlier() {
    let arrivals = Arrivals::Poisson { rate: 400.0 };
    let loads = open(&[arrivals], Extent::Requests(50), 64);
    let (outcome, records) = run_open(loads, Behaviour::default()).await;
    let expected = Counts { sent: 50, ok: 50, ..Counts::default() };
    assert_eq!(outcome.summary.counts, expected);
    assert!(outcome.is_success());
    let schedule = arrivals.schedule_ns(50, 7, 1).expect("it is no trace");
    for (number, (record, after_ns)) in (0..).zip(records.iter().zip(&schedule)) {
        assert_eq!((record.user, record.index), (number, 0));
        assert_eq!(record.due_ns - records[0].due_ns, after_ns - schedule[0]);
        assert!(record.due_ns <= record.sent_ns, "{record:?}");
    }
    assert!(
        outcome.report.contains("\n## Poisson Rate: 400.00 requests/s\n"),
        "{}",
        outcome.report
    );
}

#[tokio::test]
async fn a_slow_server_does_not_slow_the_schedule() {
    // Each answer takes 60 ms, one at a time: a closed loop would need 600 ms for ten.
    let pace = Duration::from_millis(10);
    let loads = open(&[Arrivals::Constant { rate: 200.0 }], Extent::Requests(10), 64);
    let (outcome, records) =
        run_open(loads, Behaviour { places: 1, pace, ..Default::default() }).await;
    assert!(outcome.is_success(), "{}", outcome.report);
    let first_done = records.iter().map(|record| record.done_ns).min().expect("some");
    let sent_before = records.iter().filter(|record| record.sent_ns < first_done).count();
    assert!(2 <= sent_before, "only {sent_before} were sent before the first answer");
    assert_eq!(records[9].due_ns - records[0].due_ns, 45_000_000);
}

#[tokio::test]
async fn what_is_due_beyond_the_connections_is_dropped_and_counted() {
    let pace = Duration::from_millis(50);
    let loads = open(&[Arrivals::Constant { rate: 1000.0 }], Extent::Requests(20), 3);
    let (outcome, records) = run_open(loads, Behaviour { pace, ..Behaviour::default() }).await;
    let counts = outcome.summary.counts;
    assert!(counts.balance() && counts.failed == 0, "{counts:?}");
    assert!(3 <= counts.ok && 1 <= counts.dropped, "{counts:?}");
    assert_eq!(counts.sent, 20);
    assert!(!outcome.is_success() && !outcome.summary.interrupted);
    assert_eq!(records.len(), 20);
    let dropped = records.iter().filter(|record| record.status == Status::Dropped);
    for record in dropped.clone() {
        assert!(record.first_token_ns.is_none() && record.sent_ns == record.done_ns);
    }
    assert_eq!(dropped.count(), counts.dropped);
}

#[tokio::test]
async fn a_level_may_end_after_a_time_and_a_run_have_several() {
    let levels = [Arrivals::Constant { rate: 100.0 }, Arrivals::Ramp { from: 50.0, to: 150.0 }];
    let (outcome, records) =
        run_open(open(&levels, Extent::Seconds(0.1), 64), Behaviour::default()).await;
    let sent: Vec<_> = outcome.summary.levels.iter().map(|level| level.counts.sent).collect();
    assert_eq!(sent, [10, 10]);
    let gap = |a: usize, b: usize| records[b].due_ns - records[a].due_ns;
    assert!(gap(18, 19) < gap(10, 11), "the second level grows faster");
    assert!(outcome.report.contains("## Ramp: 50.00 to 150.00 requests/s"), "{}", outcome.report);
}

#[tokio::test]
async fn schedules_that_cannot_be_kept_are_refused() {
    for (arrivals, extent, connections, part) in [
        (Arrivals::Constant { rate: 0.0 }, Extent::Requests(1), 1, "--rate"),
        (Arrivals::Ramp { from: 0.0, to: 0.0 }, Extent::Requests(1), 1, "--rate"),
        (Arrivals::Poisson { rate: 1.0 }, Extent::Requests(0), 1, "--requests"),
        (Arrivals::Poisson { rate: 1.0 }, Extent::Seconds(-1.0), 1, "--duration"),
        (Arrivals::Poisson { rate: 1.0 }, Extent::Requests(1), 0, "--max-connections"),
        (Arrivals::Constant { rate: 1e5 }, Extent::Seconds(1e5), 1, "at most 1000000"),
    ] {
        let loads = open(&[arrivals], extent, connections);
        let config = BenchConfig { loads, ..config("http://127.0.0.1:1".to_owned(), &[], 1) };
        let error = crate::try_run(config).await.expect_err("it is refused").to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}
