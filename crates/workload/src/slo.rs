//! What users expect of a request, and how many requests meet it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::record::{RequestRecord, Status};

/// Upper limits of a request's times, all of which must hold. One without a limit always holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// Of the time to first token, milliseconds.
    pub ttft_ms: Option<f64>,
    /// Of the time per output token after the first, milliseconds.
    pub tpot_ms: Option<f64>,
    /// Of the time to the last token, milliseconds.
    pub e2e_ms: Option<f64>,
}

/// A text that does not say what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SloError {
    /// A part has another form.
    #[error("`{0}` is no limit: write one like ttft=500ms, tpot=50ms or e2e=10s")]
    Form(String),
    /// Something else is limited.
    #[error("`{0}` cannot be limited: ttft, tpot and e2e can")]
    Metric(String),
    /// The same is limited twice.
    #[error("`{0}` is limited twice")]
    Twice(String),
    /// The limit is not a time.
    #[error("`{0}` is no time: write a number above 0 with its unit, ms or s")]
    Time(String),
}

impl FromStr for Slo {
    type Err = SloError;

    /// Reads a text like `ttft=500ms,tpot=50ms,e2e=10s`.
    fn from_str(text: &str) -> Result<Slo, SloError> {
        let mut slo = Slo::default();
        for part in text.split(',') {
            let form = || SloError::Form(part.to_owned());
            let (metric, limit) = part.split_once('=').ok_or_else(form)?;
            let metric = metric.trim();
            let field = match metric {
                "ttft" => &mut slo.ttft_ms,
                "tpot" => &mut slo.tpot_ms,
                "e2e" => &mut slo.e2e_ms,
                other => return Err(SloError::Metric(other.to_owned())),
            };
            if field.replace(milliseconds(limit.trim())?).is_some() {
                return Err(SloError::Twice(metric.to_owned()));
            }
        }
        Ok(slo)
    }
}

fn milliseconds(text: &str) -> Result<f64, SloError> {
    let (number, factor) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1.0),
        (None, Some(number)) => (number, 1000.0),
        (None, None) => return Err(SloError::Time(text.to_owned())),
    };
    let value = number.trim().parse::<f64>().ok();
    let value = value.filter(|value| value.is_finite() && 0.0 < *value);
    value.map(|value| factor * value).ok_or_else(|| SloError::Time(text.to_owned()))
}

/// How many requests met what was expected of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goodput {
    /// What was expected.
    pub slo: Slo,
    /// Requests that met it all.
    pub good: usize,
    /// Requests that could: all but those that were cancelled. A failed, refused or dropped one is
    /// bad, and so is one that lacks a limited figure.
    pub requests: usize,
    /// Successful requests that missed the limit of TTFT.
    pub missed_ttft: usize,
    /// Successful requests that missed the limit of TPOT.
    pub missed_tpot: usize,
    /// Successful requests that missed the limit of the latency.
    pub missed_e2e: usize,
    /// `good / requests`, 0..=1.
    pub share: f64,
    /// Good requests over the level's total time, if it has one.
    pub per_second: Option<f64>,
}

impl Goodput {
    /// Compares `records` with `slo`; times count from when a request was due if `from_due`, as they
    /// must in an open loop, else from when it was sent. `None` without requests.
    pub fn of(
        slo: Slo,
        records: &[RequestRecord],
        from_due: bool,
        total_time_s: Option<f64>,
    ) -> Option<Goodput> {
        let judged = records.iter().filter(|record| record.status != Status::Cancelled);
        let requests = judged.count();
        let (mut good, mut missed) = (0, [0; 3]);
        for record in records.iter().filter(|record| record.is_ok()) {
            let late = missed_limits(slo, record, from_due);
            good += usize::from(late == [false; 3]);
            for (count, late) in missed.iter_mut().zip(late) {
                *count += usize::from(late);
            }
        }
        let [missed_ttft, missed_tpot, missed_e2e] = missed;
        (0 < requests).then(|| Goodput {
            slo,
            good,
            requests,
            missed_ttft,
            missed_tpot,
            missed_e2e,
            share: good as f64 / requests as f64,
            per_second: total_time_s.map(|time| good as f64 / time),
        })
    }
}

/// Whether `record` missed the limits of TTFT, TPOT and latency.
fn missed_limits(slo: Slo, record: &RequestRecord, from_due: bool) -> [bool; 3] {
    let (ttft, e2e) = match from_due {
        true => (record.ttft_user_ms(), record.latency_user_ms()),
        false => (record.ttft_ms(), record.latency_ms()),
    };
    let missed = |limit: Option<f64>, value: Option<f64>| {
        limit.is_some_and(|limit| value.is_none_or(|value| limit < value))
    };
    [missed(slo.ttft_ms, ttft), missed(slo.tpot_ms, record.tpot_ms()), missed(slo.e2e_ms, e2e)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::answered;

    fn slo(text: &str) -> Slo {
        text.parse().expect("a good example")
    }

    #[test]
    fn limits_are_read_with_their_units() {
        let all = Slo { ttft_ms: Some(500.0), tpot_ms: Some(2.5), e2e_ms: Some(10_000.0) };
        assert_eq!(slo("ttft=500ms,tpot=2.5ms,e2e=10s"), all);
        assert_eq!(slo("e2e = 1 s"), Slo { e2e_ms: Some(1000.0), ..Slo::default() });
    }

    #[test]
    fn what_is_no_limit_is_refused_with_the_reason() {
        let message = |text: &str| text.parse::<Slo>().expect_err(text).to_string();
        assert!(message("").contains("write one like ttft=500ms"));
        assert!(message("itl=5ms").contains("ttft, tpot and e2e"));
        assert!(message("ttft=5ms,ttft=6ms").contains("twice"));
        for time in ["500", "ms", "-1ms", "0s", "infs", "nans"] {
            assert!(message(&format!("ttft={time}")).contains("is no time"), "{time}");
        }
    }

    #[test]
    fn a_good_request_meets_every_limit_and_failures_are_bad() {
        let mut records = vec![
            answered(0, 0, [0, 100, 200]),  // TPOT 10
            answered(0, 1, [0, 101, 201]),  // TTFT too late
            answered(0, 2, [0, 100, 1100]), // TPOT 100, 1100 in all
            answered(0, 3, [0, 10, 20]),
            answered(0, 4, [0, 10, 20]),
            answered(0, 5, [0, 10, 20]),
        ];
        records[3].status = Status::Refused("HTTP 429".to_owned());
        records[4].status = Status::Cancelled;
        records[5].completion_tokens = Some(1); // no time per later token
        let goodput = Goodput::of(slo("ttft=100ms,tpot=10ms,e2e=1s"), &records, false, Some(2.0));
        let goodput = goodput.expect("there are requests");
        assert_eq!((goodput.good, goodput.requests), (1, 5));
        let missed = (goodput.missed_ttft, goodput.missed_tpot, goodput.missed_e2e);
        assert_eq!(missed, (1, 2, 1));
        assert_eq!((goodput.share, goodput.per_second), (0.2, Some(0.5)));
    }

    #[test]
    fn an_open_loop_counts_from_when_a_request_was_due() {
        let mut record = answered(0, 0, [100, 150, 200]);
        record.due_ns = 0;
        let good = |from_due| {
            let records = std::slice::from_ref(&record);
            Goodput::of(slo("ttft=100ms"), records, from_due, None).expect("a request").good
        };
        assert_eq!((good(false), good(true)), (1, 0));
    }
}
