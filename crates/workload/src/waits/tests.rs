use super::*;
use crate::lengths::{LengthLaws, Lengths};
use crate::record::ServerTimings;
use crate::record::tests::answered;
use crate::streams::tests::capped;

const PLAN: LevelPlan = LevelPlan {
    load: Load::closed(2, 2),
    lengths: LengthLaws::fixed(Lengths { prompt_tokens: 5, output_tokens: 11 }),
};

fn timed(mut record: RequestRecord, queue_ms: f64, prefill_ms: f64) -> RequestRecord {
    record.timings = Some(ServerTimings {
        queue_ms: Some(queue_ms),
        prefill_ms: Some(prefill_ms),
        decode_ms: None,
        cached_prompt_tokens: None,
    });
    record
}

#[test]
fn only_later_requests_with_a_long_wait_count_as_queued() {
    let records = [
        timed(answered(0, 0, [0, 60, 110]), 50.0, 9.0), // the burst at the start
        timed(answered(1, 0, [0, 10, 100]), 1.0, 9.0),
        timed(answered(0, 1, [110, 200, 300]), 80.0, 9.0),
        timed(answered(1, 1, [100, 110, 200]), 2.0, 8.0),
    ];
    let queue = QueueDigest::of(&PLAN, &records).expect("the server gave times");
    assert_eq!((queue.later, queue.later_waited, queue.max_ms), (2, 1, 80.0));
}

#[test]
fn less_than_a_step_is_no_wait() {
    // Two tokens, 100 ms apart: a request comes in at any moment of a step and waits for its end.
    let short = |index, queue_ms| {
        let mut record = timed(answered(0, index, [0, 60, 160]), queue_ms, 10.0);
        record.completion_tokens = Some(2);
        record
    };
    let records = [short(1, 50.0), short(2, 40.0), short(3, 45.0)];
    assert_eq!(QueueDigest::of(&PLAN, &records).expect("times").later_waited, 0);
}

#[test]
fn waits_behind_a_cap_have_two_sizes_if_lengths_are_equal() {
    let shape = WaitShape::of(&capped(64, 5, 50)).expect("times");
    assert!(shape.is_bimodal(), "{shape:?}");
    assert!((0.15..0.35).contains(&(shape.waited as f64 / 320.0)), "{shape:?}");
    assert!((95.0..110.0).contains(&shape.service_ms), "{shape:?}");
    let free = WaitShape::of(&capped(32, 5, 50)).expect("times");
    assert!(!free.is_bimodal() && free.waited == 0, "{free:?}");
}

#[test]
fn waits_of_every_size_are_not_bimodal() {
    let spread = (0..40).map(|n| answered(0, n, [0, 5 * u64::from(n), 5 * u64::from(n) + 100]));
    let shape = WaitShape::of(&spread.collect::<Vec<_>>()).expect("times");
    assert!(!shape.is_bimodal(), "{shape:?}");
}

/// Ten requests that come together and whose prompts are computed one after another, 30 ms each.
fn one_prompt_at_a_time() -> Vec<RequestRecord> {
    let request = |n: u64| {
        let first = 30 * (n + 1);
        timed(answered(n as u32, 0, [0, first, 600]), 30.0 * n as f64, 30.0)
    };
    (0..10).map(request).collect()
}

#[test]
fn waiting_for_prompts_shows_in_what_was_computed_meanwhile() {
    let queue = PromptQueue::of(&one_prompt_at_a_time()).expect("some waited");
    assert!(0.99 < queue.covered, "{queue:?}");
    assert_eq!(queue.covered_by_chance, 0.5);
    assert!(0.95 < queue.correlation.expect("it changes"), "{queue:?}");
    assert_eq!(queue.open_prompt_tokens, Some(50), "all ten at first");
}

#[test]
fn waiting_for_anything_else_is_not_covered_by_prompts() {
    let records: Vec<_> = (0..10)
        .map(|n| timed(answered(n, 0, [0, 530, 600]), 500.0 + f64::from(n % 3), 20.0))
        .collect();
    let queue = PromptQueue::of(&records).expect("all waited");
    assert!(queue.covered < 0.05, "{queue:?}");
}

#[test]
fn without_waits_there_is_nothing_to_explain() {
    let records: Vec<_> = (0..4).map(|n| timed(answered(n, 0, [0, 20, 600]), 1.0, 19.0)).collect();
    assert_eq!(PromptQueue::of(&records), None);
    assert_eq!(PromptQueue::of(&[answered(0, 0, [0, 1, 2])]), None);
}

#[test]
fn spans_are_merged_and_measured() {
    let union = merged(vec![(10, 20), (0, 5), (15, 30), (5, 6)]);
    assert_eq!(union, [(0, 6), (10, 30)]);
    assert_eq!(overlap(&union, (4, 12)), 4);
    assert_eq!(overlap(&union, (6, 10)), 0);
    assert_eq!(overlap(&union, (40, 50)), 0);
}
