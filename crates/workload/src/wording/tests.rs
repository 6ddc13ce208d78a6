use super::*;
use crate::analysis::{GaugeSign, QueueSign, StreamSign};

fn cap() -> Finding {
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
    }
}

#[test]
fn the_chinese_finding_begins_with_the_words_of_the_seed() {
    let seed = include_str!("../../tests/fixtures/seed_report.md");
    let (_, sentence) = seed.rsplit_once('\n').expect("several lines");
    assert!(cap().text(Language::Chinese).starts_with(sentence));
}

#[test]
fn the_english_finding_says_level_cap_queue_evidence_and_prediction() {
    assert_eq!(
        cap().text(Language::English),
        "At concurrency 64 the cap on concurrent sequences was reached (max_num_seqs=50), so \
         later requests could only queue: 14 requests were waiting at a time. Evidence: the \
         server's gauges showed 50 running and 14 waiting (in 92% of 120 readings); 85 of 256 \
         later requests spent more than a tenth of a service time in the server's queue (at most \
         15.39 s); never more than 50 streams received tokens at once, and just that many for 84% \
         of the time. Mean time in the queue by (C - M) / X: 4.40 s, measured 4.08 s."
    );
}

/// Every kind of finding, with and without the parts that may be missing.
fn every_finding() -> Vec<Finding> {
    let one_sign = Signs { streams: Some(StreamSign { top: 50, share: 0.84 }), ..Signs::default() };
    let undecided = |max_num_seqs, signs| Finding::CapUndecided { users: 64, max_num_seqs, signs };
    let kv = |preemptions| Finding::KvLimit { users: 64, running: 30, kv_usage: 0.99, preemptions };
    let nothing = |max_num_seqs, gauges, queue_times| Finding::NothingLimited {
        users: 32,
        max_num_seqs,
        gauges,
        queue_times,
    };
    vec![
        Finding::Interrupted { level: Some((64, 7, 320)), levels_not_run: vec![] },
        Finding::Interrupted { level: None, levels_not_run: vec![16, 32] },
        Finding::Failures { users: 64, failed: 2, sent: 320, first: "HTTP 429".to_owned() },
        cap(),
        undecided(None, one_sign),
        undecided(Some(50), Signs::default()),
        Finding::QueuedBelowCap {
            users: 32,
            max_num_seqs: 50,
            queue: QueueSign { waited: 85, later: 256, max_ms: 15_390.0 },
        },
        kv(None),
        kv(Some(7)),
        Finding::Preempted { users: 64, preemptions: 7 },
        nothing(Some(50), true, true),
        nothing(Some(50), true, false),
        nothing(None, false, true),
        nothing(None, false, false),
        Finding::OtherLength { users: 64, requests: 3, asked: Some(128), min: 16, max: 99 },
        Finding::ChunksCounted { levels: vec![16, 32] },
        Finding::PromptLength { asked: Some(100), used: Some((98, 103)) },
        Finding::PromptLength { asked: Some(100), used: None },
        Finding::OtherLength { users: 64, requests: 3, asked: None, min: 16, max: 99 },
        Finding::PromptLength { asked: None, used: Some((98, 103)) },
        Finding::PromptLength { asked: None, used: None },
        Finding::PrefixCache { users: 64, share: 0.5 },
        Finding::EvidenceMissing { gauges: true, queue_times: true },
        Finding::EvidenceMissing { gauges: true, queue_times: false },
        Finding::EvidenceMissing { gauges: false, queue_times: true },
        Finding::Delivered { levels: vec![(1, 1.0), (64, 60.25)] },
        Finding::Percentiles { p95: vec![1, 4], p99: vec![1, 4, 64] },
        Finding::Percentiles { p95: vec![], p99: vec![64] },
    ]
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
        assert!(english.ends_with('.') || matches!(finding, Finding::Failures { .. }), "{english}");
        for text in [&english, &chinese] {
            assert!(!text.contains('\n') && !text.contains("  "), "{text:?}");
        }
    }
}
