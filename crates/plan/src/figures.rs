//! The figures of a level that a calibration compares.

use workload::percentile::Spread;
use workload::record::{RequestRecord, TokenChunk};

/// A level in the figures that a calibration compares, of its successful requests. `None` where
/// nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// From the first byte sent to the last token read, seconds.
    pub total_time_s: Option<f64>,
    /// Generated tokens over that time.
    pub tokens_per_second: Option<f64>,
    /// Time to first token, milliseconds.
    pub ttft_ms: Option<Spread>,
    /// From the first byte sent to the last token read, milliseconds.
    pub latency_ms: Option<Spread>,
    /// Generated tokens of a request, the mean.
    pub tokens_mean: Option<f64>,
    /// Requests on their way at a time, averaged over [`Figures::total_time_s`].
    pub concurrency: Option<f64>,
    /// The median of what the time to first token has beside the queue and the prefill that the
    /// server told, milliseconds: the client and the way.
    pub front_ms: Option<f64>,
    /// The median time per token in the last quarter of all answers over that in their first
    /// quarter. What grows while an answer grows is its context, so this tells what reading it
    /// costs. Medians, since a step that also computes somebody's prompt is no measure.
    pub pace_growth: Option<f64>,
}

impl Figures {
    /// The figures of a level whose requests are known one by one.
    pub fn of(records: &[RequestRecord]) -> Figures {
        let ok: Vec<_> = records.iter().filter(|record| record.is_ok()).collect();
        let spread = |value: fn(&RequestRecord) -> Option<f64>| {
            Spread::of(ok.iter().filter_map(|record| value(record)).collect())
        };
        let latency_ms = spread(RequestRecord::latency_ms);
        let start_ns = records.iter().map(|record| record.sent_ns).min();
        let end_ns = ok.iter().filter_map(|record| record.last_token_ns).max();
        let span_ns = start_ns.zip(end_ns).map(|(start, end)| end.saturating_sub(start));
        let total_time_s = span_ns.filter(|ns| 0 < *ns).map(|ns| ns as f64 / 1e9);
        let tokens: u64 = ok.iter().map(|record| u64::from(record.tokens())).sum();
        let over_time = |sum: f64| total_time_s.map(|time| sum / time);
        Figures {
            total_time_s,
            tokens_per_second: over_time(tokens as f64),
            ttft_ms: spread(RequestRecord::ttft_ms),
            latency_ms,
            tokens_mean: (!ok.is_empty()).then(|| tokens as f64 / ok.len() as f64),
            concurrency: latency_ms
                .and_then(|latency| over_time(latency.mean / 1e3 * ok.len() as f64)),
            front_ms: median(ok.iter().filter_map(|record| front_ms(record)).collect()),
            pace_growth: pace_growth(&ok),
        }
    }
}

fn front_ms(record: &RequestRecord) -> Option<f64> {
    let timings = record.timings?;
    Some(record.ttft_ms()? - timings.queue_ms? - timings.prefill_ms?)
}

fn pace_growth(ok: &[&RequestRecord]) -> Option<f64> {
    let (mut early, mut late) = (Vec::new(), Vec::new());
    for record in ok {
        let pairs = record.chunks.windows(2);
        let quarter = pairs.len() / 4;
        let pace = |pair: &[TokenChunk]| {
            let tokens = pair[1].tokens.unwrap_or(1).max(1);
            pair[1].at_ns.saturating_sub(pair[0].at_ns) as f64 / f64::from(tokens)
        };
        early.extend(pairs.clone().take(quarter).map(pace));
        late.extend(pairs.rev().take(quarter).map(pace));
    }
    let (early, late) = (median(early)?, median(late)?);
    (0.0 < early).then(|| late / early)
}

/// The upper median.
fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use workload::record::{ServerTimings, Status};

    use super::*;

    /// Sent at 0, its first token at 5 ms, the others after `gaps_ns`.
    fn record(gaps_ns: &[u64]) -> RequestRecord {
        let mut chunks = vec![TokenChunk { at_ns: 5_000_000, tokens: Some(1) }];
        for gap in gaps_ns {
            let at_ns = chunks[chunks.len() - 1].at_ns + gap;
            chunks.push(TokenChunk { at_ns, tokens: Some(1) });
        }
        let tokens = chunks.len() as u32;
        RequestRecord {
            level: 1,
            user: 0,
            index: 0,
            due_ns: 0,
            sent_ns: 0,
            first_token_ns: chunks.first().map(|chunk| chunk.at_ns),
            last_token_ns: chunks.last().map(|chunk| chunk.at_ns),
            done_ns: 9_000_000,
            prompt_tokens: Some(10),
            completion_tokens: Some(tokens),
            asked_tokens: tokens,
            asked_prompt_tokens: Some(10),
            chunks,
            finish_reason: None,
            status: Status::Ok,
            timings: Some(ServerTimings {
                queue_ms: Some(1.0),
                prefill_ms: Some(3.5),
                decode_ms: None,
                cached_prompt_tokens: None,
            }),
            client_delay_ns: 0,
        }
    }

    #[test]
    fn figures_are_of_successful_requests() {
        let mut failed = record(&[9_000_000]);
        failed.status = Status::Failed("HTTP 500".to_owned());
        let figures = Figures::of(&[record(&[1_000_000; 3]), failed, record(&[1_000_000; 4])]);
        assert_eq!(figures.total_time_s, Some(0.009));
        assert_eq!(figures.tokens_mean, Some(4.5));
        assert_eq!(figures.tokens_per_second.map(f64::round), Some(1000.0));
        assert_eq!(figures.ttft_ms.map(|ttft| ttft.max), Some(5.0));
        assert_eq!(figures.latency_ms.map(|latency| latency.mean), Some(8.5));
        assert_eq!(figures.front_ms, Some(0.5), "5 ms less 1 and 3.5");
        assert_eq!(Figures::of(&[]), Figures::default());
    }

    #[test]
    fn the_pace_is_that_of_the_last_quarter_over_the_first() {
        let growth = |record: RequestRecord| Figures::of(&[record]).pace_growth;
        let record = record(&[100, 100, 900, 1, 1, 1, 1, 1, 1, 120, 7, 120]);
        assert_eq!(growth(record.clone()), Some(1.2));
        let mut double = record;
        for chunk in &mut double.chunks[10..] {
            chunk.tokens = Some(2);
        }
        assert_eq!(growth(double), Some(0.6));
    }
}
