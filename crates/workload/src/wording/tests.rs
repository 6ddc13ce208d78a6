use super::*;
use crate::analysis::{
    DrainTail, Fitness, GaugeSign, LevelBreaches, QueueSign, ScalingStep, StageMeans,
    SteadyFigures, StepFit, StreamSign, TwoGroups,
};
use crate::gaps::ChunkCheck;
use crate::interference::Interference;
use crate::little::Little;
use crate::percentile::Spread;
use crate::slo::{Goodput, Slo};
use crate::steady::{Drift, Metric};
use crate::trend::ArrivalTrend;
use crate::validity::{Breach, Verdict};
use crate::waits::{PromptQueue, WaitShape};

/// A level of so many users.
const fn users(users: u32) -> LevelName {
    LevelName::Users(users)
}

const OPEN: LevelName = LevelName::Schedule(Arrivals::Constant { rate: 12.5 });
const RAMP: LevelName = LevelName::Schedule(Arrivals::Ramp { from: 2.5, to: 9.75 });
const TRACE: LevelName = LevelName::Schedule(Arrivals::Trace { span_s: 61.5, speed: 2.0 });
const POISSON: LevelName = LevelName::Schedule(Arrivals::Poisson { rate: 7.25 });

/// The two groups of the report that this project starts from.
const GROUPS: TwoGroups = TwoGroups {
    shape: WaitShape {
        requests: 320,
        service_ms: 15_340.0,
        waited: 85,
        waited_mean_ms: Some(15_200.0),
        between: 0,
        at_once_p50_ms: Some(96.0),
    },
    ttft_p50_ms: 147.73,
    ttft_p95_ms: 15_390.44,
};

fn cap(groups: Option<TwoGroups>) -> Finding {
    Finding::SequenceCap {
        users: 64,
        cap: 50,
        cap_is_known: true,
        queued: 14,
        signs: Signs {
            gauges: Some(GaugeSign { running: 50, waiting: 14, share: 0.92, samples: 120 }),
            queue: Some(QueueSign { waited: 85, later: 256, max_ms: 15_390.0 }),
            streams: Some(StreamSign { top: 50, share: 0.84 }),
        },
        predicted_wait_ms: 4400.0,
        measured_wait_ms: Some(4080.0),
        groups,
    }
}

#[test]
fn the_chinese_finding_begins_with_the_words_of_the_seed() {
    let seed = include_str!("../../tests/fixtures/seed_report.md");
    let (_, sentence) = seed.rsplit_once('\n').expect("several lines");
    assert!(cap(None).text(Language::Chinese).starts_with(sentence));
}

#[test]
fn the_english_finding_says_level_cap_queue_evidence_and_prediction() {
    assert_eq!(
        cap(None).text(Language::English),
        "At concurrency 64 the cap on concurrent sequences was reached (max_num_seqs=50), so \
         later requests could only queue: 14 requests were waiting at a time. Evidence: the \
         server's gauges showed 50 running and 14 waiting (in 92% of 120 readings); 85 of 256 \
         later requests spent more than a tenth of a service time in the server's queue (at most \
         15.39 s); never more than 50 streams received tokens at once, and just that many for 84% \
         of the time. Mean time in the queue by (C - M) / X: 4.40 s, measured 4.08 s."
    );
}

#[test]
fn the_two_sizes_of_waits_are_explained_with_their_numbers() {
    let text = cap(Some(GROUPS)).text(Language::English);
    let words = "Waits come in two sizes (bimodal), since answers of equal length end together and \
                 their places come free together: of every 50 requests let in, 14 had waited for \
                 about one whole service time (15.34 s), the rest hardly at all. So 85 of 320 \
                 requests waited, 15.20 s on average, and the others had their first token after \
                 96.0 ms (median); the TTFT P50 of 148 ms is that of requests that found a place, \
                 the P95 of 15.39 s that of requests that did not.";
    assert!(text.ends_with(words), "{text}");
}

#[test]
fn an_unfit_client_is_stamped_in_the_first_word() {
    let finding = |verdict| Finding::ClientUnfit { verdict, levels: vec![], same_host: false };
    for language in [Language::English, Language::Chinese] {
        assert!(finding(Verdict::Invalid).text(language).starts_with("INVALID"));
        assert!(finding(Verdict::Warning).text(language).starts_with("WARNING"));
    }
}

#[test]
fn times_have_about_three_digits() {
    let texts = [15_390.44, 999.6, 999.4, 147.73, 99.96, 12.34, 9.996, 0.25].map(time);
    let expected =
        ["15.39 s", "1.00 s", "999 ms", "148 ms", "100 ms", "12.3 ms", "10.0 ms", "0.25 ms"];
    assert_eq!(texts, expected);
}

#[test]
fn levels_are_named_together() {
    let mixed = [users(1), OPEN, users(4)];
    let finding = Finding::ChunksCounted { levels: mixed.to_vec() };
    let text = finding.text(Language::English);
    assert!(text.starts_with("At concurrency 1, 4, a constant 12.50 requests/s the"), "{text}");
}

fn spread(p50: f64, p99: f64) -> Spread {
    Spread { count: 9, min: 0.0, max: p99, mean: p50, p50, p95: p99, p99, std: None }
}

/// Every kind of finding about limits, with and without the parts that may be missing.
fn of_limits() -> Vec<Finding> {
    let one_sign = Signs { streams: Some(StreamSign { top: 50, share: 0.84 }), ..Signs::default() };
    let queue = QueueSign { waited: 85, later: 256, max_ms: 15_390.0 };
    let undecided = |max_num_seqs, signs| Finding::CapUndecided { users: 64, max_num_seqs, signs };
    let kv = |preemptions, queue| Finding::KvLimit {
        level: users(64),
        running: 30,
        kv_usage: 0.99,
        preemptions,
        queue,
    };
    let nothing = |max_num_seqs, gauges, queue_times| Finding::NothingLimited {
        users: 32,
        max_num_seqs,
        gauges,
        queue_times,
    };
    let prompts = |correlation, max_num_batched_tokens| Finding::QueuedForPrompts {
        level: users(32),
        queue: PromptQueue {
            waited: 12,
            mean_ms: 456.0,
            covered: 0.97,
            covered_by_chance: 0.31,
            correlation,
            open_prompt_tokens: Some(3200),
        },
        max_num_batched_tokens,
    };
    vec![
        cap(None),
        cap(Some(GROUPS)),
        undecided(None, one_sign),
        undecided(Some(50), Signs::default()),
        Finding::QueuedBelowCap { users: 32, max_num_seqs: 50, queue },
        prompts(Some(0.93), Some(2048)),
        prompts(None, None),
        kv(None, Some(queue)),
        kv(Some(7), None),
        Finding::KvUndecided { level: users(64), kv_usage: 0.99 },
        Finding::Preempted { level: OPEN, preemptions: 7 },
        nothing(Some(50), true, true),
        nothing(Some(50), true, false),
        nothing(Some(20), true, false),
        nothing(None, false, true),
        nothing(None, false, false),
    ]
}

fn of_the_client() -> Vec<Finding> {
    let breaches = vec![
        Breach::ScheduleLag { p99_ms: 12.0, limit_ms: 1.0 },
        Breach::Delivered { share: 0.912, limit: 0.95 },
        Breach::ClientCpu { share: 0.97, limit: 0.8 },
        Breach::Heartbeat { p99_ms: 33.0, limit_ms: 2.0 },
        Breach::OpenFiles { missing: 17 },
    ];
    let unfit = |verdict, same_host| Finding::ClientUnfit {
        verdict,
        levels: vec![LevelBreaches { level: users(64), breaches: breaches.clone() }],
        same_host,
    };
    let fitness = Fitness {
        lag_p99_ms: 0.31,
        delivered_share: Some(0.998),
        thread_cpu_share: Some(0.11),
        heartbeat_p99_ms: Some(1.23),
        same_host: true,
        process_cpus: Some(0.21),
        server_cpus: Some(1.87),
    };
    let unread = Fitness {
        delivered_share: None,
        thread_cpu_share: None,
        heartbeat_p99_ms: None,
        process_cpus: None,
        ..fitness
    };
    vec![
        unfit(Verdict::Invalid, true),
        unfit(Verdict::Warning, false),
        Finding::Interrupted { level: Some((users(64), 7, 320)), levels_not_run: vec![] },
        Finding::Interrupted { level: None, levels_not_run: vec![users(16), POISSON] },
        Finding::Continued { levels: vec![users(1), POISSON] },
        Finding::Failures { level: OPEN, failed: 2, sent: 320, first: "HTTP 500".to_owned() },
        Finding::Refusals { level: users(9), refused: 3, sent: 45, first: "HTTP 429".to_owned() },
        Finding::Dropped { level: POISSON, dropped: 3, due: 45 },
        Finding::Delivered { levels: vec![(users(1), 1.0), (users(64), 60.25), (OPEN, 3.5)] },
        Finding::ClientFit { fitness },
        Finding::ClientFit { fitness: unread },
        Finding::ClientFit { fitness: Fitness { same_host: false, ..unread } },
    ]
}

fn of_the_course() -> Vec<Finding> {
    let step = ScalingStep { from: 16, to: 32, gain_per_doubling: 0.03 };
    let fit = StepFit { levels: 5, base_ms: 3.2, per_sequence_ms: 0.195, deviation: 0.04 };
    let gaps = Interference {
        long_gaps: 41,
        long_mean_ms: 88.0,
        median_ms: 6.5,
        longest_p50_ms: 95.0,
        long_with_prompt: 0.93,
        others_with_prompt: 0.05,
    };
    let interference = |others| Finding::PrefillInterference { level: users(8), gaps, others };
    let little = Little {
        in_flight: 8.0,
        in_flight_by_gauges: None,
        requests_per_second: 4.0,
        mean_time_s: 2.5,
        residual: 0.25,
    };
    let drift = |metric| Drift { metric, first_ms: 20.0, last_ms: 31.0, z: 4.0 };
    vec![
        Finding::Saturated {
            step,
            tokens_per_second: (900.0, 927.0),
            tpot_p50_ms: (17.0, 33.5),
            streams: 31.2,
        },
        Finding::Scaling { steps: vec![step, step], fit: Some(fit) },
        Finding::Scaling { steps: vec![step], fit: None },
        interference(vec![]),
        interference(vec![users(4), users(16)]),
        Finding::SteadyState {
            levels: vec![SteadyFigures {
                level: users(64),
                whole_tokens_per_second: 3758.67,
                tokens_per_second: 3990.12,
                whole_ttft_p95_ms: 15_390.0,
                ttft_p95_ms: 15_410.0,
            }],
        },
        Finding::Drifts {
            level: users(8),
            drifts: [Metric::Ttft, Metric::Tpot, Metric::Latency].map(drift).to_vec(),
        },
        Finding::DrainTail {
            levels: vec![DrainTail {
                level: users(64),
                share: 0.17,
                tokens_per_second: 1200.5,
                steady_tokens_per_second: 3990.12,
            }],
        },
        Finding::NotSteady { level: users(8), little },
        Finding::GaugesDisagree { level: users(64), in_flight: 63.9, by_gauges: 50.0 },
        Finding::Stages {
            levels: vec![StageMeans {
                level: users(64),
                lag_ms: 0.12,
                network_ms: 1.34,
                queue_ms: 4080.0,
                prefill_ms: 61.0,
            }],
        },
    ]
}

fn of_open_levels() -> Vec<Finding> {
    let trend = ArrivalTrend {
        sent_per_second: 12.4,
        answered_per_second: 9.3,
        in_flight_first: 4.2,
        in_flight_last: 31.6,
        latency_first_ms: 410.0,
        latency_last_ms: 3300.0,
    };
    vec![
        Finding::RateExceeded { level: OPEN, trend },
        Finding::RateHeld { level: RAMP, trend },
        Finding::RateHeld { level: TRACE, trend },
        Finding::FromDue {
            level: OPEN,
            ttft_ms: (spread(51.0, 53.0), spread(61.0, 73.0)),
            latency_ms: (spread(510.0, 530.0), spread(610.0, 730.0)),
            lag_ms: spread(10.0, 22.0),
        },
    ]
}

fn of_answers() -> Vec<Finding> {
    let slo = Slo { ttft_ms: Some(500.0), tpot_ms: Some(50.0), e2e_ms: Some(10_000.0) };
    let goodput = Goodput {
        slo,
        good: 30,
        requests: 40,
        missed_ttft: 6,
        missed_tpot: 0,
        missed_e2e: 4,
        share: 0.75,
        per_second: Some(1.25),
    };
    let all_good = Goodput { missed_ttft: 0, missed_e2e: 0, per_second: None, ..goodput };
    let check = ChunkCheck {
        requests: 40,
        usage_tokens: 5120,
        chunks: 4000,
        mismatch: 0.21875,
        is_told: false,
    };
    vec![
        Finding::Goodput { levels: vec![(users(8), goodput), (OPEN, all_good)] },
        Finding::StoppedEarly { level: users(64), stopped: 3, answers: 320 },
        Finding::OtherLength { level: users(64), requests: 3, asked: Some(128), min: 16, max: 99 },
        Finding::OtherLength { level: OPEN, requests: 3, asked: None, min: 16, max: 99 },
        Finding::ChunkMismatch { levels: vec![(users(8), check), (OPEN, check)] },
        Finding::ChunksCounted { levels: vec![users(16), users(32)] },
        Finding::PromptLength { asked: Some(100), used: Some((98, 103)) },
        Finding::PromptLength { asked: Some(100), used: None },
        Finding::PromptLength { asked: None, used: Some((98, 103)) },
        Finding::PromptLength { asked: None, used: None },
        Finding::PrefixCache { level: users(64), share: 0.5, is_meant: false },
        Finding::PrefixCache { level: users(64), share: 0.5, is_meant: true },
        Finding::EvidenceMissing { gauges: true, queue_times: true },
        Finding::EvidenceMissing { gauges: true, queue_times: false },
        Finding::EvidenceMissing { gauges: false, queue_times: true },
        Finding::Percentiles { p95: vec![users(1), users(4)], p99: vec![users(1), users(64)] },
        Finding::Percentiles { p95: vec![], p99: vec![users(64)] },
    ]
}

/// Every kind of finding.
fn every_finding() -> Vec<Finding> {
    [of_the_client(), of_limits(), of_the_course(), of_open_levels(), of_answers()].concat()
}

/// The numbers in a text, in ascending order.
fn numbers(text: &str) -> Vec<String> {
    let pieces = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    let pieces = pieces.map(|piece| piece.trim_matches('.').to_owned());
    let mut numbers: Vec<_> = pieces.filter(|piece| !piece.is_empty()).collect();
    numbers.sort();
    numbers
}

#[test]
fn both_languages_say_the_same_numbers_in_one_paragraph() {
    for finding in every_finding() {
        let english = finding.text(Language::English);
        let chinese = finding.text(Language::Chinese);
        assert_eq!(numbers(&english), numbers(&chinese), "{english}\n{chinese}");
        let quotes = matches!(finding, Finding::Failures { .. } | Finding::Refusals { .. });
        assert!(english.ends_with('.') || quotes, "{english}");
        for text in [&english, &chinese] {
            assert!(!text.contains('\n') && !text.contains("  "), "{text:?}");
        }
    }
}
