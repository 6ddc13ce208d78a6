//! Assertions as they are written, and levels that meet them or not.

use workload::lengths::Lengths;
use workload::load::{LevelPlan, Load};
use workload::percentile::Spread;

use super::*;

fn parse(text: &str) -> Result<Assertion, AssertionError> {
    text.parse()
}

#[track_caller]
fn limit_of(text: &str) -> f64 {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).limit
}

/// A level of so many users with a TTFT of `ttft_ms` on average.
fn level(users: u32, ttft_ms: f64) -> LevelSummary {
    let load = Load::closed(users, 5);
    let lengths = Lengths { prompt_tokens: 5, output_tokens: 11 };
    let mut level = LevelSummary::of(LevelPlan { load, lengths: lengths.into() }, 0, &[], &[]);
    level.ttft_ms = Spread::of(vec![ttft_ms]);
    level
}

#[test]
fn valid_means_that_no_level_is_invalid() {
    use workload::validity::{Breach, Verdict};
    let assertion = parse("valid").expect("it is a word");
    let mut breached = level(4, 10.0);
    for (breaches, verdict) in [(0, Verdict::Valid), (1, Verdict::Warning), (2, Verdict::Invalid)] {
        breached.validity.breaches = vec![Breach::ClientCpu { share: 1.0, limit: 0.8 }; breaches];
        let passed = assertion.check(&[level(1, 10.0), breached.clone()]).passed;
        assert_eq!(passed, verdict < Verdict::Invalid, "{breaches} breaches");
    }
    let elsewhere = parse("valid@1").expect("it is a word at a level");
    assert!(elsewhere.check(&[level(1, 10.0), breached]).passed);
    assert!(matches!(parse("valid<3"), Err(AssertionError::Metric { .. })), "it is no number");
}

#[test]
fn values_have_the_unit_of_their_metric() {
    assert_eq!(limit_of("p95_ttft<500ms"), 500.0);
    assert_eq!(limit_of(" p99_e2e <= 10 s "), 10_000.0);
    assert_eq!(limit_of("mean_tpot<=250us"), 0.25);
    assert_eq!(limit_of("median_ttft_ms<1e2"), 100.0);
    assert_eq!(limit_of("duration<90s@all"), 90.0);
    assert_eq!(limit_of("throughput>1000"), 1000.0);
    assert_eq!(limit_of("goodput>=95%"), 0.95);
    assert_eq!(limit_of("p99_itl<80ms"), 80.0);
    assert_eq!(limit_of("failed==0@64"), 0.0);
    assert_eq!(limit_of("cached_input_share<=5%"), 0.05);
    assert_eq!(limit_of("cached_input_share<=0.05"), 0.05);
}

#[test]
fn what_is_no_assertion_is_refused_with_what_there_is() {
    let message = |text: &str| parse(text).expect_err(text).to_string();
    for text in ["", "p95_ttft", "p95_ttft=5ms", "@64"] {
        assert!(message(text).contains("none of < <= > >= =="), "{text}");
    }
    let unknown = message("p98_ttft<5ms");
    for known in ["`p98_ttft`", "mean", "median (p50)", "p95", "ttft", "e2el", "output_throughput"]
    {
        assert!(unknown.contains(known), "no {known} in {unknown}");
    }
    assert!(message("p95_ttft<500").contains("write a time like 500ms"));
    assert!(message("p95_ttft<5min").contains("`5min` is no value of p95_ttft"));
    assert!(message("failed==0ms").contains("a plain number"));
    assert!(message("throughput>").contains("a plain number"));
    assert!(message("throughput>inf").contains("a plain number"));
    assert!(message("throughput>NaN").contains("a plain number"));
}

#[test]
fn every_level_counts_unless_one_is_named() {
    let levels = [level(1, 10.0), level(64, 600.5)];
    let check = |text: &str| parse(text).expect(text).check(&levels);
    let result = check("mean_ttft<500ms");
    assert!(!result.passed);
    assert_eq!(result.to_string(), "FAILED: mean_ttft<500ms (600.5 ms at 64)");
    assert_eq!(result.levels.iter().map(|c| c.passed).collect::<Vec<_>>(), [true, false]);
    let result = check("mean_ttft<500ms@1");
    assert_eq!(result.to_string(), "passed: mean_ttft<500ms@1 (10.00 ms at 1)");
    assert!(check("mean_ttft<=600.5ms").passed && !check("mean_ttft<600.5ms").passed);
    assert!(check("mean_ttft>=10ms").passed && !check("mean_ttft>10ms").passed);
    assert!(check("failed==0").passed);
}

#[test]
fn what_has_no_value_or_did_not_run_fails() {
    let levels = [level(1, 10.0)];
    let check = |text: &str| parse(text).expect(text).check(&levels);
    let result = check("mean_tpot<500ms");
    assert_eq!(result.to_string(), "FAILED: mean_tpot<500ms (no value at 1)");
    let result = check("mean_ttft<500ms@8");
    assert_eq!(result.to_string(), "FAILED: mean_ttft<500ms@8 (no level of it ran)");
    let named = |text: &str| parse(text).expect(text);
    let names = ["1".to_owned(), "2.5/s".to_owned()];
    assert!(named("failed==0").is_about_one_of(&names));
    assert!(named("failed==0@2.5/s").is_about_one_of(&names));
    assert!(!named("failed==0@8").is_about_one_of(&names));
}
