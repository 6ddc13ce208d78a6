use super::limits::requests_per_ms;
use super::*;
use crate::gauges::GaugeDigest;
use crate::lengths::Lengths;
use crate::load::{LevelPlan, Load};
use crate::percentile::Spread;
use crate::record::{RequestRecord, ServerTimings};
use crate::streams::tests::capped;

mod rules;

const LENGTHS: Lengths = Lengths { prompt_tokens: 5, output_tokens: 11 };

/// A level of five requests a user on a server with `places` places, seen by the client alone.
fn seen_by_client(users: u32, places: usize) -> LevelSummary {
    let records = capped(users, 5, places);
    let plan = LevelPlan { load: Load::closed(users, 5), lengths: LENGTHS.into() };
    LevelSummary::of(plan, records.len(), &records, &[])
}

/// The same with the server's own queue times.
fn with_queue_times(users: u32, places: usize) -> LevelSummary {
    let timed = |mut record: RequestRecord| {
        record.timings = Some(ServerTimings {
            queue_ms: record.ttft_ms().map(|ttft| ttft - 1.0),
            prefill_ms: Some(1.0),
            decode_ms: None,
            cached_prompt_tokens: Some(0),
        });
        record
    };
    let records: Vec<_> = capped(users, 5, places).into_iter().map(timed).collect();
    let plan = LevelPlan { load: Load::closed(users, 5), lengths: LENGTHS.into() };
    LevelSummary::of(plan, records.len(), &records, &[])
}

fn gauges(running_top: u32, waiting: u32) -> GaugeDigest {
    GaugeDigest {
        samples: 100,
        samples_waiting: if waiting == 0 { 0 } else { 100 },
        samples_at_top: if waiting == 0 { 0 } else { 92 },
        samples_kv_full: 0,
        running_top,
        waiting_at_top: waiting,
        waiting_mean: f64::from(waiting),
        kv_usage_max: Some(0.5),
        preemptions: Some(0),
    }
}

fn with_gauges(mut level: LevelSummary, digest: GaugeDigest) -> LevelSummary {
    level.gauges = Some(digest);
    level
}

fn find(levels: &[LevelSummary], max_num_seqs: Option<u32>) -> Vec<Finding> {
    let has_gauges = levels.iter().any(|level| level.gauges.is_some());
    analyse(&Evidence {
        levels,
        levels_not_run: &[],
        max_num_seqs,
        max_num_batched_tokens: None,
        has_gauges,
        exact_prompts: true,
        host: None,
    })
}

/// The findings about limits.
fn limits_of(levels: &[LevelSummary], max_num_seqs: Option<u32>) -> Vec<Finding> {
    let is_limit = |finding: &Finding| {
        use Finding::*;
        matches!(
            finding,
            SequenceCap { .. }
                | CapUndecided { .. }
                | QueuedBelowCap { .. }
                | QueuedForPrompts { .. }
                | KvUndecided { .. }
                | KvLimit { .. }
                | Preempted { .. }
                | NothingLimited { .. }
        )
    };
    find(levels, max_num_seqs).into_iter().filter(is_limit).collect()
}

#[test]
fn three_signs_show_the_cap_at_the_level_above_it_only() {
    let levels = [
        with_gauges(with_queue_times(32, 50), gauges(0, 0)),
        with_gauges(with_queue_times(64, 50), gauges(50, 14)),
    ];
    let found = limits_of(&levels, Some(50));
    let [Finding::SequenceCap { users, cap, cap_is_known, queued, signs, .. }] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!((*users, *cap, *cap_is_known, *queued, signs.count()), (64, 50, true, 14, 3));
}

#[test]
fn the_predicted_wait_is_near_the_measured_one() {
    let levels = [with_queue_times(64, 50)];
    let found = limits_of(&levels, Some(50));
    let [Finding::SequenceCap { predicted_wait_ms, measured_wait_ms, .. }] = &found[..] else {
        panic!("{found:?}");
    };
    let measured = measured_wait_ms.expect("the server gave queue times");
    // 14 waiting, 50 requests per 102 ms: 28 ms; a run this short begins and ends without a queue.
    assert!((20.0..35.0).contains(predicted_wait_ms), "{predicted_wait_ms}");
    assert!((0.6..1.2).contains(&(measured / predicted_wait_ms)), "{measured}");
}

#[test]
fn gauges_alone_measure_the_wait_by_littles_law() {
    let level = with_gauges(seen_by_client(64, 50), gauges(50, 14));
    let expected = 14.0 / requests_per_ms(&level).expect("requests succeeded");
    assert_eq!(measured_wait_ms(&level), Some(expected));
}

#[test]
fn an_unnamed_cap_is_found_from_gauges_and_streams_that_agree() {
    let levels = [with_gauges(seen_by_client(64, 50), gauges(50, 14))];
    let found = limits_of(&levels, None);
    assert!(
        matches!(found[..], [Finding::SequenceCap { cap: 50, cap_is_known: false, .. }]),
        "{found:?}"
    );
}

#[test]
fn gauges_and_streams_that_disagree_are_one_sign() {
    let levels = [with_gauges(seen_by_client(64, 50), gauges(40, 24))];
    let found = limits_of(&levels, None);
    let [Finding::CapUndecided { signs, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!((signs.count(), signs.streams), (1, None));
}

#[test]
fn one_sign_concludes_nothing() {
    let found = limits_of(&[seen_by_client(64, 50)], None);
    let [Finding::CapUndecided { users: 64, signs, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(signs.streams.map(|sign| sign.top), Some(50));
}

#[test]
fn a_cap_that_shows_in_nothing_is_undecided_too() {
    let found = limits_of(&[seen_by_client(64, 64)], Some(50));
    let [Finding::CapUndecided { signs, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(signs.count(), 0);
}

#[test]
fn queueing_for_the_step_budget_is_not_a_cap() {
    // All users arrive at once and are let in step by step: some wait while few run.
    let mut digest = gauges(20, 8);
    digest.samples_waiting = 5;
    digest.samples_at_top = 1;
    let levels = [with_gauges(with_queue_times(32, 32), digest)];
    let found = limits_of(&levels, None);
    assert!(matches!(found[..], [Finding::NothingLimited { users: 32, .. }]), "{found:?}");
}

#[test]
fn long_waits_below_the_cap_are_told_without_a_cause() {
    let found = limits_of(&[with_queue_times(32, 20)], Some(50));
    assert!(
        matches!(found[..], [Finding::QueuedBelowCap { users: 32, max_num_seqs: 50, .. }]),
        "{found:?}"
    );
}

#[test]
fn a_full_cache_with_requests_waiting_is_the_kv_limit_and_not_a_cap() {
    let mut digest = gauges(30, 34);
    digest.samples_kv_full = 80;
    digest.kv_usage_max = Some(0.99);
    digest.preemptions = Some(7);
    for known in [None, Some(50)] {
        let levels = [with_gauges(with_queue_times(64, 30), digest)];
        let found = limits_of(&levels, known);
        let [Finding::KvLimit { running: 30, preemptions: Some(7), .. }] = found[..] else {
            panic!("{known:?}: {found:?}");
        };
    }
}

#[test]
fn preemptions_are_told_even_below_every_limit() {
    let mut digest = gauges(0, 0);
    digest.preemptions = Some(3);
    let found = limits_of(&[with_gauges(seen_by_client(8, 8), digest)], Some(50));
    assert_eq!(found, [Finding::Preempted { level: LevelName::Users(8), preemptions: 3 }]);
}

#[test]
fn an_undisturbed_run_says_so() {
    let levels = [with_gauges(with_queue_times(8, 50), gauges(0, 0))];
    let found = find(&levels, Some(50));
    let nothing = Finding::NothingLimited {
        users: 8,
        max_num_seqs: Some(50),
        gauges: true,
        queue_times: true,
    };
    assert_eq!(found[0], nothing);
    assert!(
        matches!(
            found[1..],
            [
                Finding::SteadyState { .. },
                Finding::Stages { .. },
                Finding::Delivered { .. },
                Finding::Percentiles { .. }
            ]
        ),
        "{found:?}"
    );
}

#[test]
fn a_silent_server_is_named_as_such() {
    let found = find(&[seen_by_client(8, 50)], None);
    assert!(found.contains(&Finding::EvidenceMissing { gauges: true, queue_times: true }));
}

#[test]
fn percentiles_without_a_bound_are_marked_by_level() {
    let levels = [1, 4, 8, 16, 32, 64].map(|users| seen_by_client(users, 64));
    let found = find(&levels, Some(64));
    let users = |users: &[u32]| users.iter().map(|n| LevelName::Users(*n)).collect();
    let marks = Finding::Percentiles { p95: users(&[1, 4, 8]), p99: users(&[1, 4, 8, 16, 32]) };
    assert!(found.contains(&marks), "{found:?}");
}

#[test]
fn a_stopped_run_names_what_is_missing() {
    let records = capped(8, 3, 8);
    let plan = LevelPlan { load: Load::closed(8, 5), lengths: LENGTHS.into() };
    let levels = [LevelSummary::of(plan, records.len(), &records, &[])];
    let found = analyse(&Evidence {
        levels: &levels,
        levels_not_run: &[LevelName::Users(16), LevelName::Users(32)],
        max_num_seqs: None,
        max_num_batched_tokens: None,
        has_gauges: false,
        exact_prompts: true,
        host: None,
    });
    let stopped = Finding::Interrupted {
        level: Some((LevelName::Users(8), 24, 40)),
        levels_not_run: vec![LevelName::Users(16), LevelName::Users(32)],
    };
    assert_eq!(found[0], stopped);
}

#[test]
fn failures_come_before_what_the_successes_show() {
    let mut level = seen_by_client(8, 8);
    level.counts.failed = 2;
    level.counts.ok -= 2;
    level.first_failure = Some("HTTP 429".to_owned());
    let found = find(&[level], Some(50));
    let failures = Finding::Failures {
        level: LevelName::Users(8),
        failed: 2,
        sent: 40,
        first: "HTTP 429".to_owned(),
    };
    assert_eq!(found[0], failures);
}

#[test]
fn lengths_that_differ_from_what_was_asked_are_told() {
    let mut level = seen_by_client(8, 8);
    level.other_length = 3;
    level.other_prompt_length = 1;
    level.tokens = Spread::of(vec![4.0, 11.0]);
    level.prompt_tokens = Spread::of(vec![5.0, 7.0]);
    level.without_usage = 1;
    level.cached_share = Some(0.5);
    let found = find(&[level], Some(50));
    let level = LevelName::Users(8);
    let expected = [
        Finding::OtherLength { level, requests: 3, asked: Some(11), min: 4, max: 11 },
        Finding::ChunksCounted { levels: vec![level] },
        Finding::PromptLength { asked: Some(5), used: Some((5, 7)) },
        Finding::PrefixCache { level, share: 0.5, is_meant: false },
    ];
    for finding in expected {
        assert!(found.contains(&finding), "{finding:?} in {found:?}");
    }
}
