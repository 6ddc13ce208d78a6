//! Random cases for the tests that look for what nobody thought of: so many, or for so long.
//!
//! It does not know what it tests, nor how cases are made: that is proptest's.
#![forbid(unsafe_code)]

use std::panic::Location;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseResult, TestRunner};

/// How long each check takes, in seconds, in place of the cases that it is content with otherwise.
/// `.ci/fuzz` sets it.
const SECONDS: &str = "MILLRACE_FUZZ_SECONDS";

/// Cases between two looks at the clock.
const ROUND: u32 = 64;

/// Holds `test` against `cases` values, or against as many as come within `MILLRACE_FUZZ_SECONDS`.
/// Prints how many there were, and gives it.
///
/// # Panics
///
/// With the smallest value that fails. Its seed is kept beside the caller's file, in one with the ending
/// `seeds`, whose values come first from then on.
#[track_caller]
pub fn check<S: Strategy>(
    cases: u32,
    values: &S,
    test: impl Fn(S::Value) -> TestCaseResult,
) -> u64 {
    let place = Location::caller();
    let round = |cases| {
        let config = ProptestConfig {
            cases,
            failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
            source_file: Some(place.file()),
            ..ProptestConfig::default()
        };
        let outcome = TestRunner::new(config).run(values, &test);
        outcome.unwrap_or_else(|failure| panic!("{place}: {failure}"));
        u64::from(cases)
    };
    let done = match time() {
        None => round(cases),
        Some(time) => {
            let start = Instant::now();
            let mut done = 0;
            while start.elapsed() < time {
                done += round(ROUND);
            }
            done
        }
    };
    println!("{place}: {done} random cases");
    done
}

/// How long to go on, if that was asked for.
fn time() -> Option<Duration> {
    let seconds = std::env::var(SECONDS).ok()?;
    let time = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Some(time.unwrap_or_else(|| panic!("{SECONDS} is `{seconds}`: give a number of seconds")))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_case_is_tested_and_counted() {
        let tested = Cell::new(0);
        let done = check(100, &any::<u64>(), |_| {
            tested.set(tested.get() + 1);
            Ok(())
        });
        assert_eq!(done, tested.get());
        assert!(time().is_some() || done == 100, "{done}");
    }
}
