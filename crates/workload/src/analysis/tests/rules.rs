//! Each rule from both sides: it claims when it must, and is silent when one sign only shows.

use super::*;
use crate::gaps::ChunkCheck;
use crate::interference::Interference;
use crate::little::Little;
use crate::load::Arrivals;
use crate::percentile::PercentileBounds;
use crate::record::Status;
use crate::record::tests::answered;
use crate::slo::Slo;
use crate::steady::{Drain, Drift, Metric, Steady};
use crate::streams::{StreamDigest, Window};
use crate::trend::ArrivalTrend;
use crate::validity::{Breach, ClientReadings, HostFacts, Verdict};
use crate::waits::PromptQueue;

fn users(users: u32) -> LevelName {
    LevelName::Users(users)
}

/// Whether a finding of this kind is among `found`.
macro_rules! finds {
    ($found:expr, $kind:pat) => {
        $found.iter().any(|finding| matches!(finding, $kind))
    };
}

/// A level that got so many tokens per second and milliseconds per token, with nothing else to see.
fn point(users: u32, tokens_per_second: f64, tpot_ms: f64) -> LevelSummary {
    let mut level = seen_by_client(users, users as usize);
    level.tokens_per_second = Some(tokens_per_second);
    level.tpot_ms = Spread::of(vec![tpot_ms]);
    let mean = f64::from(users);
    level.streams = Some(StreamDigest { top: users, share_at_top: 0.9, mean });
    level
}

#[test]
fn compute_is_saturated_where_twice_the_users_get_half_each() {
    let levels = [point(8, 500.0, 16.0), point(16, 900.0, 18.0), point(32, 920.0, 35.0)];
    let found = find(&levels, Some(50));
    let Some(Finding::Saturated { step, streams, .. }) =
        found.iter().find(|finding| matches!(finding, Finding::Saturated { .. }))
    else {
        panic!("{found:?}");
    };
    assert_eq!((step.from, step.to, *streams), (16, 32, 32.0));
    assert!((0.02..0.03).contains(&step.gain_per_doubling), "{step:?}");
    assert!(!finds!(found, Finding::NothingLimited { .. }));
}

#[test]
fn a_standstill_without_slower_tokens_is_not_compute() {
    let levels = [point(16, 900.0, 18.0), point(32, 920.0, 20.0)];
    assert!(!finds!(find(&levels, Some(50)), Finding::Saturated { .. }));
}

#[test]
fn slower_tokens_without_a_standstill_are_not_saturation() {
    let levels = [point(16, 900.0, 18.0), point(32, 1100.0, 35.0)];
    assert!(!finds!(find(&levels, Some(50)), Finding::Saturated { .. }));
}

#[test]
fn above_the_cap_or_with_a_plateau_nothing_is_said_about_compute() {
    let levels = [point(16, 900.0, 18.0), point(32, 920.0, 35.0)];
    assert!(!finds!(find(&levels, Some(20)), Finding::Saturated { .. }));
    let mut levels = levels;
    levels[1].streams = Some(StreamDigest { top: 20, share_at_top: 0.9, mean: 19.5 });
    assert!(!finds!(find(&levels, None), Finding::Saturated { .. }));
}

#[test]
fn a_step_of_several_doublings_is_told_for_each() {
    let found = find(&[point(4, 100.0, 10.0), point(16, 225.0, 12.0)], None);
    let Some(Finding::Scaling { steps, .. }) =
        found.iter().find(|finding| matches!(finding, Finding::Scaling { .. }))
    else {
        panic!("{found:?}");
    };
    assert_eq!((steps[0].from, steps[0].to), (4, 16));
    assert!((steps[0].gain_per_doubling - 0.5).abs() < 1e-12);
}

/// The times per token of the report that this project starts from, by number of users.
fn seed_points() -> Vec<LevelSummary> {
    let tpot = |users: u32| (3.2 + 0.2 * f64::from(users)).max(3.66);
    [1, 4, 8, 16, 32].map(|users| point(users, 100.0 * f64::from(users), tpot(users))).to_vec()
}

#[test]
fn the_time_per_token_is_fitted_where_a_line_fits() {
    let fit = |levels: &[LevelSummary]| {
        find(levels, None).into_iter().find_map(|finding| match finding {
            Finding::Scaling { fit, .. } => fit,
            _ => None,
        })
    };
    let line = fit(&seed_points()).expect("a line");
    assert!((3.1..3.5).contains(&line.base_ms), "{line:?}");
    assert!((0.18..0.21).contains(&line.per_sequence_ms), "{line:?}");
    let jump = [point(1, 1.0, 3.0), point(4, 4.0, 3.0), point(8, 8.0, 9.0)];
    assert_eq!(fit(&jump), None, "no line is near these");
    assert_eq!(fit(&seed_points()[..2]), None, "two points are always on a line");
    assert_eq!(fit(&[1, 4, 8].map(|users| point(users, 1.0, 3.0))), None, "it does not grow");
}

const STALLED: Interference = Interference {
    long_gaps: 40,
    long_mean_ms: 90.0,
    median_ms: 10.0,
    longest_p50_ms: 100.0,
    long_with_prompt: 0.9,
    others_with_prompt: 0.1,
};

#[test]
fn prompts_are_blamed_for_long_gaps_that_coincide_with_them() {
    let blamed = |gaps: Interference| {
        let mut level = seen_by_client(8, 8);
        level.interference = Some(gaps);
        finds!(find(&[level], None), Finding::PrefillInterference { .. })
    };
    assert!(blamed(STALLED));
    assert!(!blamed(Interference { long_with_prompt: 0.2, ..STALLED }), "they do not coincide");
    assert!(!blamed(Interference { others_with_prompt: 0.8, ..STALLED }), "nor more than others");
    assert!(!blamed(Interference { longest_p50_ms: 20.0, ..STALLED }), "typical answers have none");
    assert!(!blamed(Interference { long_gaps: 2, ..STALLED }), "two are chance");
}

#[test]
fn the_worst_level_is_told_and_the_others_named() {
    let level = |users, longest_p50_ms| {
        let mut level = seen_by_client(users, users as usize);
        level.interference = Some(Interference { longest_p50_ms, ..STALLED });
        level
    };
    let found = find(&[level(4, 50.0), level(8, 200.0), level(16, 100.0)], None);
    let told = found.iter().find_map(|finding| match finding {
        Finding::PrefillInterference { level, others, .. } => Some((*level, others.clone())),
        _ => None,
    });
    assert_eq!(told, Some((users(8), vec![users(4), users(16)])));
}

const BEHIND_PROMPTS: PromptQueue = PromptQueue {
    waited: 20,
    mean_ms: 300.0,
    covered: 0.95,
    covered_by_chance: 0.3,
    correlation: Some(0.95),
    open_prompt_tokens: Some(3200),
};

fn limits_behind(queue: PromptQueue, max_num_batched_tokens: Option<u32>) -> Vec<Finding> {
    let mut level = with_queue_times(32, 20);
    level.prompt_queue = Some(queue);
    let evidence = Evidence {
        levels: &[level],
        levels_not_run: &[],
        max_num_seqs: Some(50),
        max_num_batched_tokens,
        has_gauges: true,
        exact_prompts: true,
        host: None,
    };
    super::limits::limits(&evidence)
}

#[test]
fn waits_below_the_cap_are_for_prompts_if_two_signs_say_so() {
    let claimed = |queue, budget| {
        let found = limits_behind(queue, budget);
        match found[..] {
            [Finding::QueuedForPrompts { max_num_batched_tokens, .. }] => {
                Some(max_num_batched_tokens)
            }
            [Finding::QueuedBelowCap { .. }] => None,
            _ => panic!("{found:?}"),
        }
    };
    assert_eq!(claimed(BEHIND_PROMPTS, Some(2048)), Some(Some(2048)));
    assert_eq!(claimed(BEHIND_PROMPTS, None), Some(None), "the order of the waits is a sign too");
    let unordered = PromptQueue { correlation: Some(0.3), ..BEHIND_PROMPTS };
    assert_eq!(claimed(unordered, Some(2048)), Some(Some(2048)));
    assert_eq!(claimed(unordered, None), None, "that prompts were computed is one sign");
    assert_eq!(claimed(unordered, Some(8192)), None, "all prompts fit into one step");
    let uncovered = PromptQueue { covered: 0.5, ..BEHIND_PROMPTS };
    assert_eq!(claimed(uncovered, Some(2048)), None);
    let always = PromptQueue { covered_by_chance: 0.9, ..BEHIND_PROMPTS };
    assert_eq!(claimed(always, Some(2048)), None, "some prompt is computed at any time");
}

#[test]
fn a_full_cache_alone_is_undecided() {
    let mut digest = gauges(30, 2);
    digest.samples_kv_full = 80;
    digest.kv_usage_max = Some(0.99);
    let found = limits_of(&[with_gauges(seen_by_client(32, 32), digest)], Some(50));
    assert_eq!(found, [Finding::KvUndecided { level: users(32), kv_usage: 0.99 }]);
}

#[test]
fn two_sizes_of_waits_go_with_the_cap_if_lengths_are_equal() {
    let found = limits_of(&[with_gauges(with_queue_times(64, 50), gauges(50, 14))], Some(50));
    let [Finding::SequenceCap { groups: Some(groups), .. }] = &found[..] else {
        panic!("{found:?}");
    };
    assert!(groups.ttft_p50_ms < 0.1 * groups.shape.service_ms, "{groups:?}");
    assert!(0.9 * groups.shape.service_ms < groups.ttft_p95_ms, "{groups:?}");
    let mut level = with_gauges(with_queue_times(64, 50), gauges(50, 14));
    level.wait_shape.as_mut().expect("times").between = 60;
    let found = limits_of(&[level], Some(50));
    assert!(matches!(found[..], [Finding::SequenceCap { groups: None, .. }]), "{found:?}");
    let mut level = with_gauges(with_queue_times(64, 50), gauges(50, 14));
    level.ttft_ms.as_mut().expect("times").p50 = 60.0;
    let found = limits_of(&[level], Some(50));
    assert!(matches!(found[..], [Finding::SequenceCap { groups: None, .. }]), "{found:?}");
}

fn open(trend: ArrivalTrend) -> Vec<Finding> {
    let load = Load::Open { arrivals: Arrivals::Constant { rate: 10.0 }, requests: 40 };
    let records: Vec<_> = (0..40)
        .map(|n| {
            let mut record = answered(n, 0, [100, 110, 200].map(|ms| ms + 100 * u64::from(n)));
            record.due_ns -= 50_000_000;
            record
        })
        .collect();
    let plan = LevelPlan { load, lengths: LENGTHS.into() };
    let mut level = LevelSummary::of(plan, 40, &records, &[]);
    level.trend = Some(trend);
    find(&[level], None)
}

const GROWING: ArrivalTrend = ArrivalTrend {
    sent_per_second: 10.0,
    answered_per_second: 6.0,
    in_flight_first: 4.0,
    in_flight_last: 20.0,
    latency_first_ms: 400.0,
    latency_last_ms: 3000.0,
};

#[test]
fn a_rate_is_too_high_if_requests_pile_up_and_slow_down() {
    assert!(finds!(open(GROWING), Finding::RateExceeded { .. }));
    let steady = ArrivalTrend { in_flight_last: 4.1, latency_last_ms: 410.0, ..GROWING };
    assert!(finds!(open(steady), Finding::RateHeld { .. }));
    for one_sign in [
        ArrivalTrend { in_flight_last: 4.1, ..GROWING },
        ArrivalTrend { latency_last_ms: 410.0, ..GROWING },
    ] {
        let found = open(one_sign);
        assert!(!finds!(found, Finding::RateExceeded { .. } | Finding::RateHeld { .. }));
    }
}

#[test]
fn an_open_level_tells_its_times_both_ways_and_a_closed_one_does_not() {
    let found = open(GROWING);
    let both = found.iter().find_map(|finding| match finding {
        Finding::FromDue { ttft_ms: (sent, due), .. } => Some((sent.p50, due.p50)),
        _ => None,
    });
    assert_eq!(both, Some((10.0, 60.0)));
    assert!(!finds!(find(&[seen_by_client(8, 8)], None), Finding::FromDue { .. }));
}

#[test]
fn a_long_and_slow_end_is_told() {
    let tail = |share, tokens_per_second| {
        let mut level = seen_by_client(8, 8);
        level.drain = Some(Drain { time_s: 1.0, share, tokens_per_second });
        level.steady.as_mut().expect("a steady part").tokens_per_second = 100.0;
        finds!(find(&[level], None), Finding::DrainTail { .. })
    };
    assert!(tail(0.2, 30.0));
    assert!(!tail(0.05, 30.0), "it is short");
    assert!(!tail(0.2, 95.0), "it is as fast as before");
}

#[test]
fn a_level_that_changes_says_what_changed() {
    let mut level = seen_by_client(8, 8);
    let drift = Drift { metric: Metric::Ttft, first_ms: 10.0, last_ms: 20.0, z: 5.0 };
    level.steady.as_mut().expect("a steady part").drifts = vec![drift];
    let expected = Finding::Drifts { level: users(8), drifts: vec![drift] };
    assert!(find(&[level], None).contains(&expected));
    assert!(!finds!(find(&[seen_by_client(8, 8)], None), Finding::Drifts { .. }));
}

#[test]
fn littles_law_is_told_where_it_breaks() {
    let found = |residual, by_gauges| {
        let mut level = seen_by_client(64, 64);
        level.little = Some(Little {
            in_flight: 64.0,
            in_flight_by_gauges: by_gauges,
            requests_per_second: 1.0,
            mean_time_s: 64.0,
            residual,
        });
        find(&[level], None)
    };
    let holds = found(0.02, Some(62.0));
    assert!(!finds!(holds, Finding::NotSteady { .. } | Finding::GaugesDisagree { .. }));
    assert!(finds!(found(0.06, None), Finding::NotSteady { .. }));
    assert!(finds!(found(0.0, Some(50.0)), Finding::GaugesDisagree { .. }));
}

#[test]
fn a_steady_part_stands_beside_the_whole() {
    let mut level = seen_by_client(8, 8);
    level.steady = Some(Steady {
        window: Window { start_ns: 0, end_ns: 1 },
        requests: 9,
        tokens_per_second: 123.0,
        ttft_ms: Spread::of(vec![7.0]),
        latency_ms: None,
        tpot_ms: None,
        drifts: vec![],
    });
    let found = find(&[level], None);
    let steady = found.iter().find_map(|finding| match finding {
        Finding::SteadyState { levels } => {
            Some((levels[0].tokens_per_second, levels[0].ttft_p95_ms))
        }
        _ => None,
    });
    assert_eq!(steady, Some((123.0, 7.0)));
}

#[test]
fn answers_that_the_server_ended_early_are_told_by_both_signs() {
    let found = |stopped_early, other_length| {
        let mut level = seen_by_client(8, 8);
        level.stopped_early = stopped_early;
        level.other_length = other_length;
        finds!(find(&[level], None), Finding::StoppedEarly { .. })
    };
    assert!(found(3, 3));
    assert!(!found(0, 3));
}

#[test]
fn chunks_that_are_not_tokens_are_told_unless_they_say_how_many() {
    let found = |mismatch, is_told| {
        let mut level = seen_by_client(8, 8);
        level.chunk_check =
            Some(ChunkCheck { requests: 40, usage_tokens: 440, chunks: 400, mismatch, is_told });
        finds!(find(&[level], None), Finding::ChunkMismatch { .. })
    };
    assert!(found(0.09, false));
    assert!(!found(0.009, false));
    assert!(!found(0.09, true));
}

#[test]
fn refused_and_dropped_requests_are_told_apart_from_failed_ones() {
    let mut records = capped(4, 5, 4);
    records[0].status = Status::Refused("HTTP 429: full".to_owned());
    records[1].status = Status::Failed("HTTP 500".to_owned());
    records[2].status = Status::Dropped;
    let plan = LevelPlan { load: Load::closed(4, 5), lengths: LENGTHS.into() };
    let found = find(&[LevelSummary::of(plan, 20, &records, &[])], None);
    let level = users(4);
    let failed = Finding::Failures { level, failed: 1, sent: 20, first: "HTTP 500".to_owned() };
    let refused =
        Finding::Refusals { level, refused: 1, sent: 20, first: "HTTP 429: full".to_owned() };
    let dropped = Finding::Dropped { level, dropped: 1, due: 20 };
    assert_eq!(found[..3], [failed, refused, dropped]);
}

#[test]
fn goodput_is_told_if_it_was_asked_for() {
    let records = capped(4, 5, 4);
    let level =
        seen_by_client(4, 4).with_goodput(Slo { ttft_ms: Some(5.0), ..Slo::default() }, &records);
    let found = find(&[level], None);
    let share = found.iter().find_map(|finding| match finding {
        Finding::Goodput { levels } => Some(levels[0].1.share),
        _ => None,
    });
    assert_eq!(share, Some(1.0));
    assert!(!finds!(find(&[seen_by_client(4, 4)], None), Finding::Goodput { .. }));
}

fn judged(client: ClientReadings) -> Vec<Finding> {
    let records = capped(4, 5, 4);
    let levels = [seen_by_client(4, 4).with_client(client, &records)];
    let host = HostFacts { same_host: true, ..HostFacts::default() };
    analyse(&Evidence {
        levels: &levels,
        levels_not_run: &[LevelName::Users(8)],
        max_num_seqs: Some(50),
        max_num_batched_tokens: None,
        has_gauges: false,
        exact_prompts: true,
        host: Some(&host),
    })
}

#[test]
fn an_unfit_client_is_the_first_thing_said() {
    let busy = ClientReadings { thread_cpu_share: Some(0.9), ..ClientReadings::default() };
    let found = judged(busy);
    let Finding::ClientUnfit { verdict: Verdict::Warning, levels, same_host: true } = &found[0]
    else {
        panic!("{found:?}");
    };
    assert_eq!(levels[0].breaches, [Breach::ClientCpu { share: 0.9, limit: 0.8 }]);
    let late = Spread::of(vec![50.0]);
    let found = judged(ClientReadings { heartbeat_ms: late, ..busy });
    assert!(matches!(found[0], Finding::ClientUnfit { verdict: Verdict::Invalid, .. }));
    assert!(!finds!(found, Finding::ClientFit { .. }));
}

#[test]
fn a_fit_client_says_how_far_it_was_from_its_limits() {
    let client = ClientReadings {
        thread_cpu_share: Some(0.1),
        server_cpus: Some(1.9),
        ..ClientReadings::default()
    };
    let found = judged(client);
    let fitness = found.iter().find_map(|finding| match finding {
        Finding::ClientFit { fitness } => Some(*fitness),
        _ => None,
    });
    let fitness = fitness.expect("it is fit");
    assert_eq!((fitness.thread_cpu_share, fitness.server_cpus), (Some(0.1), Some(1.9)));
    assert!(!finds!(find(&[seen_by_client(4, 4)], None), Finding::ClientFit { .. }), "nobody sent");
}

#[test]
fn percentiles_with_a_bound_are_not_marked() {
    let mut level = seen_by_client(64, 64);
    level.bounds = PercentileBounds { p95: true, p99: true };
    assert!(!finds!(find(&[level], None), Finding::Percentiles { .. }));
}
