//! One level summed up in numbers.

use serde::{Deserialize, Serialize};

use crate::gauges::{GaugeDigest, GaugeSample};
use crate::load::{LevelPlan, Load};
use crate::percentile::{Spread, percentile};
use crate::record::{RequestRecord, Status, milliseconds};
use crate::streams::{StreamDigest, Window, delivered_concurrency};

/// How many requests ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that were sent, tried to be or should have been.
    pub sent: usize,
    /// Answered to the end.
    pub ok: usize,
    /// Refused or broken off.
    pub failed: usize,
    /// Stopped by the user while on their way.
    pub cancelled: usize,
    /// Due in an open loop, but not sent: as many were on their way as were allowed to be.
    pub dropped: usize,
}

impl Counts {
    /// Whether every request sent has an end.
    pub fn balance(self) -> bool {
        self.sent == self.ok + self.failed + self.cancelled + self.dropped
    }

    /// The sum of both.
    pub fn plus(self, other: Counts) -> Counts {
        Counts {
            sent: self.sent + other.sent,
            ok: self.ok + other.ok,
            failed: self.failed + other.failed,
            cancelled: self.cancelled + other.cancelled,
            dropped: self.dropped + other.dropped,
        }
    }

    fn of(sent: usize, records: &[RequestRecord]) -> Counts {
        let count = |is: fn(&Status) -> bool| records.iter().filter(|r| is(&r.status)).count();
        Counts {
            sent,
            ok: count(|status| matches!(status, Status::Ok)),
            failed: count(|status| matches!(status, Status::Failed(_))),
            cancelled: count(|status| matches!(status, Status::Cancelled)),
            dropped: count(|status| matches!(status, Status::Dropped)),
        }
    }
}

/// What the server's own queue times show.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueDigest {
    /// Mean over the requests with a queue time, milliseconds.
    pub mean_ms: f64,
    /// Largest, milliseconds.
    pub max_ms: f64,
    /// Requests looked at for long waits: all but each user's first (all, if each sent one), since
    /// the first ones arrive together and are let in step by step on any server.
    pub later: usize,
    /// Those of them that waited longer than [`LONG_WAIT`] of a typical service time.
    pub later_waited: usize,
}

/// A wait counts from this share of the median service time (latency less queue time) on: what is
/// shorter is the way into the running batch.
pub const LONG_WAIT: f64 = 0.1;

/// A level in numbers. Figures of time and tokens are of the successful requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelSummary {
    /// What was meant.
    pub plan: LevelPlan,
    /// How the requests ended.
    pub counts: Counts,
    /// What the first failed request said.
    pub first_failure: Option<String>,
    /// From the first byte sent to the last token read, seconds.
    pub total_time_s: Option<f64>,
    /// Generated tokens of successful requests over that time.
    pub tokens_per_second: Option<f64>,
    /// Time to first token.
    pub ttft_ms: Option<Spread>,
    /// From the first byte sent to the last token read.
    pub latency_ms: Option<Spread>,
    /// Generated tokens of a request.
    pub tokens: Option<Spread>,
    /// Time per output token after the first, one value a request.
    pub tpot_ms: Option<Spread>,
    /// Prompt tokens by the server's usage.
    pub prompt_tokens: Option<Spread>,
    /// Successful requests whose generated tokens had to be counted by chunks.
    pub without_usage: usize,
    /// Successful requests whose usage gives another number of generated tokens than asked for; 0
    /// where answers may end early.
    pub other_length: usize,
    /// Successful requests whose usage gives another number of prompt tokens than asked for.
    pub other_prompt_length: usize,
    /// Share of the prompt tokens that came from the server's prefix cache, 0..=1, if it says.
    pub cached_share: Option<f64>,
    /// Requests on their way at a time, averaged.
    pub delivered_concurrency: Option<f64>,
    /// From the first user's first byte to the last user's first byte, milliseconds.
    pub start_spread_ms: Option<f64>,
    /// Queue times, if the server gives them.
    pub queue: Option<QueueDigest>,
    /// Gauges, if the server has them.
    pub gauges: Option<GaugeDigest>,
    /// Streams that received tokens at once.
    pub streams: Option<StreamDigest>,
}

impl LevelSummary {
    /// Sums up one level: `sent` requests were begun, `records` tells their ends, `samples` are
    /// the gauges read meanwhile.
    pub fn of(
        plan: LevelPlan,
        sent: usize,
        records: &[RequestRecord],
        samples: &[GaugeSample],
    ) -> LevelSummary {
        let ok: Vec<_> = records.iter().filter(|record| record.is_ok()).collect();
        let spread = |value: fn(&RequestRecord) -> Option<f64>| {
            Spread::of(ok.iter().filter_map(|record| value(record)).collect())
        };
        let count = |is: &dyn Fn(&RequestRecord) -> bool| ok.iter().filter(|r| is(r)).count();
        let total_time_s = total_time_s(records);
        let generated: u64 = ok.iter().map(|record| u64::from(record.tokens())).sum();
        let window = Window::all_users_active(records);
        let queue = queue_digest(&plan, &ok);
        let exact_output = plan.lengths.ignore_eos;
        LevelSummary {
            plan,
            counts: Counts::of(sent, records),
            first_failure: first_failure(records),
            total_time_s,
            tokens_per_second: total_time_s.map(|time| generated as f64 / time),
            ttft_ms: spread(RequestRecord::ttft_ms),
            latency_ms: spread(RequestRecord::latency_ms),
            tokens: spread(|record| Some(f64::from(record.tokens()))),
            tpot_ms: spread(RequestRecord::tpot_ms),
            prompt_tokens: spread(|record| record.prompt_tokens.map(f64::from)),
            without_usage: count(&|record| record.completion_tokens.is_none()),
            other_length: count(&|record| {
                exact_output && record.completion_tokens.is_some_and(|n| n != record.asked_tokens)
            }),
            other_prompt_length: count(&|record| {
                let asked = record.asked_prompt_tokens;
                record.prompt_tokens.zip(asked).is_some_and(|(used, asked)| used != asked)
            }),
            cached_share: cached_share(&ok),
            delivered_concurrency: delivered_concurrency(records),
            start_spread_ms: start_spread_ms(records),
            queue,
            gauges: window.and_then(|window| GaugeDigest::of(samples, window)),
            streams: window.and_then(|window| StreamDigest::of(records, window)),
        }
    }

    /// Whether every request that was meant has been sent and got its end from the server.
    pub fn is_complete(&self) -> bool {
        let Counts { ok, failed, dropped, .. } = self.counts;
        ok + failed + dropped == self.plan.requests()
    }
}

fn total_time_s(records: &[RequestRecord]) -> Option<f64> {
    let start = records.iter().map(|record| record.sent_ns).min()?;
    let ok = records.iter().filter(|record| record.is_ok());
    let end = ok.filter_map(|record| record.last_token_ns).max()?;
    (start < end).then(|| milliseconds(start, end) / 1000.0)
}

fn start_spread_ms(records: &[RequestRecord]) -> Option<f64> {
    let firsts = || records.iter().filter(|record| record.index == 0).map(|r| r.sent_ns);
    Some(milliseconds(firsts().min()?, firsts().max()?))
}

fn first_failure(records: &[RequestRecord]) -> Option<String> {
    let failed = records.iter().filter_map(|record| match &record.status {
        Status::Failed(message) => Some((record.done_ns, message)),
        Status::Ok | Status::Cancelled | Status::Dropped => None,
    });
    failed.min_by_key(|(done_ns, _)| *done_ns).map(|(_, message)| message.clone())
}

fn cached_share(ok: &[&RequestRecord]) -> Option<f64> {
    let told = ok
        .iter()
        .filter_map(|record| Some((record.timings?.cached_prompt_tokens?, record.prompt_tokens?)));
    let (cached, prompt) = told.fold((0_u64, 0_u64), |(cached, prompt), (c, p)| {
        (cached + u64::from(c), prompt + u64::from(p))
    });
    (0 < prompt).then(|| cached as f64 / prompt as f64)
}

fn queue_digest(plan: &LevelPlan, ok: &[&RequestRecord]) -> Option<QueueDigest> {
    let timed = ok.iter().filter_map(|record| {
        let queue_ms = record.queue_ms()?;
        Some((record.index, queue_ms, record.latency_ms()? - queue_ms))
    });
    let timed: Vec<(u32, f64, f64)> = timed.collect();
    let queue = Spread::of(timed.iter().map(|(_, queue_ms, _)| *queue_ms).collect())?;
    let mut service: Vec<f64> = timed.iter().map(|(_, _, service_ms)| *service_ms).collect();
    service.sort_by(f64::total_cmp);
    let long_ms = LONG_WAIT * percentile(&service, 0.5)?;
    let burst_alone = matches!(plan.load, Load::Closed { requests_per_user: 1, .. });
    let is_closed = plan.users().is_some();
    let is_later = |index: u32| 1 <= index || burst_alone || !is_closed;
    let later = timed.iter().filter(|(index, ..)| is_later(*index));
    Some(QueueDigest {
        mean_ms: queue.mean,
        max_ms: queue.max,
        later: later.clone().count(),
        later_waited: later.filter(|(_, queue_ms, _)| long_ms < *queue_ms).count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lengths::Lengths;
    use crate::record::ServerTimings;
    use crate::record::tests::answered;

    fn plan() -> LevelPlan {
        let lengths = Lengths { prompt_tokens: 5, output_tokens: 11 }.into();
        LevelPlan { load: Load::closed(2, 2), lengths }
    }

    fn level(records: &[RequestRecord]) -> LevelSummary {
        LevelSummary::of(plan(), records.len(), records, &[])
    }

    fn timed(mut record: RequestRecord, queue_ms: f64, cached: u32) -> RequestRecord {
        record.timings = Some(ServerTimings {
            queue_ms: Some(queue_ms),
            prefill_ms: None,
            decode_ms: None,
            cached_prompt_tokens: Some(cached),
        });
        record
    }

    #[test]
    fn throughput_is_tokens_over_first_send_to_last_token() {
        let level = level(&[
            answered(0, 0, [1000, 1010, 1500]),
            answered(1, 0, [1002, 1020, 1500]),
            answered(0, 1, [1500, 1510, 2000]),
            answered(1, 1, [1500, 1510, 3000]),
        ]);
        assert_eq!(level.total_time_s, Some(2.0));
        assert_eq!(level.tokens_per_second, Some(22.0));
        assert_eq!(level.start_spread_ms, Some(2.0));
        assert_eq!(level.ttft_ms.map(|ttft| (ttft.min, ttft.max)), Some((10.0, 18.0)));
        assert_eq!(level.latency_ms.map(|latency| latency.max), Some(1500.0));
        assert!(level.is_complete() && level.counts.balance());
    }

    #[test]
    fn failed_and_cancelled_requests_are_counted_but_not_measured() {
        let mut records = vec![answered(0, 0, [0, 10, 1000]), answered(1, 0, [0, 1, 2])];
        records[1].status = Status::Failed("HTTP 500".to_owned());
        records.push(answered(0, 1, [1000, 1001, 9000]));
        records[2].status = Status::Cancelled;
        let level = level(&records);
        assert_eq!(level.counts, Counts { sent: 3, ok: 1, failed: 1, cancelled: 1, dropped: 0 });
        assert_eq!(level.first_failure.as_deref(), Some("HTTP 500"));
        assert_eq!(level.tokens_per_second, Some(11.0));
        assert_eq!(level.ttft_ms.map(|ttft| ttft.min), Some(10.0));
        assert!(!level.is_complete());
    }

    #[test]
    fn a_request_without_an_end_breaks_the_balance() {
        let records = [answered(0, 0, [0, 10, 1000])];
        assert!(!LevelSummary::of(plan(), 2, &records, &[]).counts.balance());
    }

    #[test]
    fn dropped_requests_have_an_end_and_no_figures() {
        let mut dropped = answered(1, 0, [500, 500, 500]);
        dropped.status = Status::Dropped;
        let level = level(&[answered(0, 0, [0, 10, 1000]), dropped]);
        let expected = Counts { sent: 2, ok: 1, failed: 0, cancelled: 0, dropped: 1 };
        assert_eq!(level.counts, expected);
        assert!(level.counts.balance());
        assert_eq!(level.latency_ms.map(|latency| latency.min), Some(1000.0));
    }

    #[test]
    fn a_level_without_success_has_no_figures() {
        let mut record = answered(0, 0, [0, 10, 1000]);
        record.status = Status::Failed("HTTP 503".to_owned());
        let level = level(&[record]);
        assert_eq!((level.total_time_s, level.tokens_per_second), (None, None));
        assert_eq!((level.ttft_ms, level.latency_ms, level.tokens), (None, None, None));
    }

    #[test]
    fn only_later_requests_with_a_long_wait_count_as_queued() {
        let level = level(&[
            timed(answered(0, 0, [0, 60, 110]), 50.0, 0), // the burst at the start
            timed(answered(1, 0, [0, 10, 100]), 1.0, 1),
            timed(answered(0, 1, [110, 200, 300]), 80.0, 0),
            timed(answered(1, 1, [100, 110, 200]), 2.0, 4),
        ]);
        let queue = level.queue.expect("the server gave times");
        assert_eq!((queue.later, queue.later_waited, queue.max_ms), (2, 1, 80.0));
        assert_eq!(level.cached_share, Some(0.25));
    }

    #[test]
    fn missing_usage_and_other_lengths_are_counted() {
        let mut records = [answered(0, 0, [0, 1, 2]), answered(1, 0, [0, 1, 2])];
        records[0].completion_tokens = Some(7);
        records[1].completion_tokens = None;
        records[0].asked_prompt_tokens = Some(6);
        let summary = level(&records);
        assert_eq!((summary.other_length, summary.without_usage), (1, 1));
        assert_eq!(summary.other_prompt_length, 1);
        let mut early = plan();
        early.lengths.ignore_eos = false;
        assert_eq!(LevelSummary::of(early, 2, &records, &[]).other_length, 0, "it may be shorter");
    }
}
