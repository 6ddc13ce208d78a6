//! One level summed up in numbers.

use serde::{Deserialize, Serialize};

use crate::gaps::{ChunkCheck, Gaps};
use crate::gauges::{GaugeDigest, GaugeSample};
use crate::interference::Interference;
use crate::little::Little;
use crate::load::LevelPlan;
use crate::percentile::{PercentileBounds, Spread};
use crate::record::{RequestRecord, Status, milliseconds};
use crate::slo::{Goodput, Slo};
use crate::stages::Stages;
use crate::steady::{Drain, Steady};
use crate::streams::{StreamDigest, Window, delivered_concurrency};
use crate::trend::ArrivalTrend;
use crate::validity::{ClientReadings, Validity};
use crate::waits::{PromptQueue, QueueDigest, WaitShape};

/// How many requests ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that were begun: sent, tried to be, or due and dropped.
    pub sent: usize,
    /// Answered to the end.
    pub ok: usize,
    /// Refused or broken off.
    pub failed: usize,
    /// Those of the failed that the server refused for now (HTTP 429 or 503).
    pub refused: usize,
    /// Stopped by the user while on their way.
    pub cancelled: usize,
    /// Due in an open loop, but never sent, since too many were on their way.
    pub dropped: usize,
}

impl Counts {
    /// Whether every request begun has an end.
    pub fn balance(self) -> bool {
        self.sent == self.ok + self.failed + self.cancelled + self.dropped
    }

    /// The sum of both.
    pub fn plus(self, other: Counts) -> Counts {
        Counts {
            sent: self.sent + other.sent,
            ok: self.ok + other.ok,
            failed: self.failed + other.failed,
            refused: self.refused + other.refused,
            cancelled: self.cancelled + other.cancelled,
            dropped: self.dropped + other.dropped,
        }
    }

    fn of(sent: usize, records: &[RequestRecord]) -> Counts {
        let count = |is: fn(&Status) -> bool| records.iter().filter(|r| is(&r.status)).count();
        Counts {
            sent,
            ok: count(|status| matches!(status, Status::Ok)),
            failed: count(|status| status.failure().is_some()),
            refused: count(|status| matches!(status, Status::Refused(_))),
            cancelled: count(|status| matches!(status, Status::Cancelled)),
            dropped: count(|status| matches!(status, Status::Dropped)),
        }
    }
}

/// A level in numbers. Figures of time and tokens are of the successful requests; where they depend
/// on a request's start, that is its first byte sent, unless a name says `user`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelSummary {
    /// What was meant.
    pub plan: LevelPlan,
    /// How the requests ended.
    pub counts: Counts,
    /// What the first failed request said, refused ones aside.
    pub first_failure: Option<String>,
    /// What the first refused request was told.
    pub first_refusal: Option<String>,
    /// From the first byte sent to the last token read, seconds.
    pub total_time_s: Option<f64>,
    /// Generated tokens of successful requests over that time.
    pub tokens_per_second: Option<f64>,
    /// Successful requests over that time.
    pub requests_per_second: Option<f64>,
    /// Prompt tokens of successful requests over that time, if the server counts them all.
    pub input_tokens_per_second: Option<f64>,
    /// Time to first token.
    pub ttft_ms: Option<Spread>,
    /// From the first byte sent to the last token read (E2E).
    pub latency_ms: Option<Spread>,
    /// Time to first token from when a request was due. `None` in a closed loop, which has no
    /// schedule that could be missed.
    pub ttft_user_ms: Option<Spread>,
    /// From when a request was due to the last token read. `None` in a closed loop.
    pub latency_user_ms: Option<Spread>,
    /// Generated tokens of a request.
    pub tokens: Option<Spread>,
    /// Time per output token after the first, one value a request.
    pub tpot_ms: Option<Spread>,
    /// Gaps between chunks and between tokens.
    pub gaps: Option<Gaps>,
    /// Tokens per second of a user while tokens come: 1 / TPOT, one value a request.
    pub user_decode_rate: Option<Spread>,
    /// Tokens per second of a user, the wait for the first one included: tokens / latency.
    pub user_rate: Option<Spread>,
    /// Requests that met what was expected of them, if anything was.
    pub goodput: Option<Goodput>,
    /// Which of P95 and P99 over the successful requests have an upper bound.
    pub bounds: PercentileBounds,
    /// Prompt tokens by the server's usage.
    pub prompt_tokens: Option<Spread>,
    /// Successful requests whose generated tokens had to be counted by chunks.
    pub without_usage: usize,
    /// Generated tokens by usage beside the chunks that came.
    pub chunk_check: Option<ChunkCheck>,
    /// Successful requests whose usage gives another number of generated tokens than asked for; 0
    /// where answers may end early.
    pub other_length: usize,
    /// Successful requests whose usage gives another number of prompt tokens than asked for.
    pub other_prompt_length: usize,
    /// Successful requests that the server ended itself: shorter than asked for, with the reason
    /// `stop`.
    pub stopped_early: usize,
    /// Share of the prompt tokens that came from the server's prefix cache, 0..=1, if it says.
    pub cached_share: Option<f64>,
    /// Requests on their way at a time, averaged.
    pub delivered_concurrency: Option<f64>,
    /// From the first user's first byte to the last user's first byte, milliseconds. `None` in an
    /// open loop.
    pub start_spread_ms: Option<f64>,
    /// Where the time to first token went, if the server gives its times.
    pub stages: Option<Stages>,
    /// Queue times, if the server gives them.
    pub queue: Option<QueueDigest>,
    /// What was computed while requests waited, if any did.
    pub prompt_queue: Option<PromptQueue>,
    /// The shape of the times to first token.
    pub wait_shape: Option<WaitShape>,
    /// Long gaps between chunks and other requests' prompts, if any gap is long.
    pub interference: Option<Interference>,
    /// Gauges, if the server has them.
    pub gauges: Option<GaugeDigest>,
    /// Streams that received tokens at once.
    pub streams: Option<StreamDigest>,
    /// The level without its beginning and end.
    pub steady: Option<Steady>,
    /// Little's law over that part, if enough requests were sent in it.
    pub little: Option<Little>,
    /// Its end.
    pub drain: Option<Drain>,
    /// Whether requests piled up, in an open loop.
    pub trend: Option<ArrivalTrend>,
    /// Whether the client was fit to measure it.
    pub validity: Validity,
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
        let per_second = |sum: u64| total_time_s.map(|time| sum as f64 / time);
        let prompts: Option<u64> = ok.iter().map(|r| r.prompt_tokens.map(u64::from)).sum();
        let window = Window::under_load(&plan, records);
        let is_open = plan.users().is_none();
        let exact_output = plan.lengths.ignore_eos;
        let ttft_ms = spread(RequestRecord::ttft_ms);
        LevelSummary {
            plan: plan.clone(),
            counts: Counts::of(sent, records),
            first_failure: first_said(records, |status| matches!(status, Status::Failed(_))),
            first_refusal: first_said(records, |status| matches!(status, Status::Refused(_))),
            total_time_s,
            tokens_per_second: per_second(ok.iter().map(|r| u64::from(r.tokens())).sum()),
            requests_per_second: per_second(ok.len() as u64),
            input_tokens_per_second: prompts.and_then(per_second),
            ttft_ms,
            latency_ms: spread(RequestRecord::latency_ms),
            ttft_user_ms: spread(RequestRecord::ttft_user_ms).filter(|_| is_open),
            latency_user_ms: spread(RequestRecord::latency_user_ms).filter(|_| is_open),
            tokens: spread(|record| Some(f64::from(record.tokens()))),
            tpot_ms: spread(RequestRecord::tpot_ms),
            gaps: Gaps::of(records),
            user_decode_rate: spread(|record| {
                record.tpot_ms().filter(|ms| 0.0 < *ms).map(|ms| 1000.0 / ms)
            }),
            user_rate: spread(RequestRecord::user_rate),
            goodput: None,
            bounds: PercentileBounds::of(ok.len()),
            prompt_tokens: spread(|record| record.prompt_tokens.map(f64::from)),
            without_usage: count(&|record| record.completion_tokens.is_none()),
            chunk_check: ChunkCheck::of(records),
            other_length: count(&|record| {
                exact_output && record.completion_tokens.is_some_and(|n| n != record.asked_tokens)
            }),
            other_prompt_length: count(&|record| {
                let asked = record.asked_prompt_tokens;
                record.prompt_tokens.zip(asked).is_some_and(|(used, asked)| used != asked)
            }),
            stopped_early: count(&|record| {
                record.completion_tokens.is_some_and(|n| n < record.asked_tokens)
                    && record.finish_reason.as_deref() == Some("stop")
            }),
            cached_share: cached_share(&ok),
            delivered_concurrency: delivered_concurrency(records),
            start_spread_ms: start_spread_ms(records).filter(|_| !is_open),
            stages: Stages::of(records),
            queue: QueueDigest::of(&plan, records),
            prompt_queue: PromptQueue::of(records),
            wait_shape: WaitShape::of(records),
            interference: Interference::of(records),
            gauges: window.and_then(|window| GaugeDigest::of(samples, window)),
            streams: window.and_then(|window| StreamDigest::of(records, window)),
            steady: Steady::of(&plan, records),
            little: Little::of(&plan, records, samples),
            drain: Drain::of(&plan, records),
            trend: ArrivalTrend::of(&plan, records),
            validity: Validity::of(&plan, records, ttft_ms.map(|ttft| ttft.p50), None),
        }
    }

    /// The same, with the requests of `records` held to `slo`.
    pub fn with_goodput(mut self, slo: Slo, records: &[RequestRecord]) -> LevelSummary {
        let is_open = self.plan.users().is_none();
        self.goodput = Goodput::of(slo, records, is_open, self.total_time_s);
        self
    }

    /// The same, with what the client read of itself while it sent `records`.
    pub fn with_client(
        mut self,
        client: ClientReadings,
        records: &[RequestRecord],
    ) -> LevelSummary {
        let ttft_p50_ms = self.ttft_ms.map(|ttft| ttft.p50);
        self.validity = Validity::of(&self.plan, records, ttft_p50_ms, Some(client));
        self
    }

    /// Whether every request that was meant has been sent and got its end from the server.
    pub fn is_complete(&self) -> bool {
        self.counts.ok + self.counts.failed + self.counts.dropped == self.plan.requests()
    }
}

fn total_time_s(records: &[RequestRecord]) -> Option<f64> {
    let sent = records.iter().filter(|record| record.was_sent());
    let start = sent.map(|record| record.sent_ns).min()?;
    let ok = records.iter().filter(|record| record.is_ok());
    let end = ok.filter_map(|record| record.last_token_ns).max()?;
    (start < end).then(|| milliseconds(start, end) / 1000.0)
}

fn start_spread_ms(records: &[RequestRecord]) -> Option<f64> {
    let firsts = || records.iter().filter(|record| record.index == 0).map(|r| r.sent_ns);
    Some(milliseconds(firsts().min()?, firsts().max()?))
}

/// The message of the request that ended first among those with such a status.
fn first_said(records: &[RequestRecord], is: fn(&Status) -> bool) -> Option<String> {
    let such = records.iter().filter(|record| is(&record.status));
    such.min_by_key(|record| record.done_ns)?.status.failure().map(str::to_owned)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lengths::Lengths;
    use crate::load::{Arrivals, Load};
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
        assert_eq!(
            level.counts,
            Counts { sent: 3, ok: 1, failed: 1, cancelled: 1, ..Counts::default() }
        );
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
        let expected = Counts { sent: 2, ok: 1, dropped: 1, ..Counts::default() };
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
    fn refusals_are_failures_with_a_word_of_their_own() {
        let mut records =
            [answered(0, 0, [0, 1, 2]), answered(1, 0, [0, 1, 3]), answered(0, 1, [3, 4, 9])];
        records[0].status = Status::Refused("HTTP 429: full".to_owned());
        records[1].status = Status::Failed("HTTP 500".to_owned());
        records[2].status = Status::Dropped;
        let level = level(&records);
        let expected = Counts { sent: 3, failed: 2, refused: 1, dropped: 1, ..Counts::default() };
        assert_eq!(level.counts, expected);
        assert!(level.counts.balance());
        assert_eq!(level.first_refusal.as_deref(), Some("HTTP 429: full"));
        assert_eq!(level.first_failure.as_deref(), Some("HTTP 500"));
    }

    #[test]
    fn the_cached_share_is_of_the_prompt_tokens() {
        let cached = |record: RequestRecord, cached| timed(record, 0.0, cached);
        let records = [cached(answered(0, 0, [0, 1, 2]), 1), cached(answered(1, 0, [0, 1, 2]), 4)];
        assert_eq!(level(&records).cached_share, Some(0.5));
    }

    #[test]
    fn rates_are_of_requests_prompts_and_users() {
        let level = level(&[answered(0, 0, [0, 100, 1100]), answered(1, 0, [0, 100, 2000])]);
        assert_eq!(level.requests_per_second, Some(1.0));
        assert_eq!(level.input_tokens_per_second, Some(5.0));
        assert_eq!(level.user_decode_rate.map(|rate| rate.max), Some(10.0), "10 after the first");
        assert_eq!(level.user_rate.map(|rate| rate.max), Some(10.0), "11 in 1.1 s");
    }

    #[test]
    fn an_open_loop_is_measured_both_ways_and_a_closed_one_is_not() {
        let mut record = answered(0, 0, [100, 150, 200]);
        record.due_ns = 0;
        let load = Load::Open { arrivals: Arrivals::Constant { rate: 1.0 }, requests: 1 };
        let plan = LevelPlan { load, ..plan() };
        let open = LevelSummary::of(plan, 1, std::slice::from_ref(&record), &[]);
        assert_eq!(open.ttft_ms.map(|ttft| ttft.max), Some(50.0));
        assert_eq!(open.ttft_user_ms.map(|ttft| ttft.max), Some(150.0));
        assert_eq!(open.latency_user_ms.map(|latency| latency.max), Some(200.0));
        assert_eq!(level(&[record]).ttft_user_ms, None);
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
        assert_eq!(summary.stopped_early, 0, "it ended by length");
        records[0].finish_reason = Some("stop".to_owned());
        assert_eq!(level(&records).stopped_early, 1);
        let mut early = plan();
        early.lengths.ignore_eos = false;
        assert_eq!(LevelSummary::of(early, 2, &records, &[]).other_length, 0, "it may be shorter");
    }
}
