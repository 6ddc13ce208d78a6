//! Whether the prompts of some requests hold up the tokens of the others.
//!
//! A step that computes a prompt takes longer than one that only gives each stream its next token,
//! and all streams of that step wait for it. The client sees it as a few long gaps among many
//! ordinary ones, each at the time of another request's first token.

use serde::{Deserialize, Serialize};

use crate::gaps::chunk_gaps_ms;
use crate::percentile::{Spread, median};
use crate::record::RequestRecord;
use crate::stages::StageTimes;
use crate::waits::{merged, overlap};

/// The long gaps of a level and what happened meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interference {
    /// Gaps between chunks of more than [`LONG_GAP`] medians.
    pub long_gaps: usize,
    /// Mean of those, milliseconds.
    pub long_mean_ms: f64,
    /// Median of all gaps, milliseconds.
    pub median_ms: f64,
    /// Median over the requests of the longest gap of each, milliseconds.
    pub longest_p50_ms: f64,
    /// Share of the long gaps in which another request's prompt was computed, 0..=1.
    pub long_with_prompt: f64,
    /// Share of the other gaps in which one was: what chance would give, 0..=1.
    pub others_with_prompt: f64,
}

/// A gap of more than so many medians is long.
pub const LONG_GAP: f64 = 3.0;

/// A chunk of the step that computed another's prompt may be read a little before that one's first.
const SLACK_NS: u64 = 1_000_000;

impl Interference {
    /// Looks at the successful among `records`. `None` if no gap is long.
    pub fn of(records: &[RequestRecord]) -> Option<Interference> {
        let ok = || records.iter().filter(|record| record.is_ok());
        let median_ms = median(ok().flat_map(chunk_gaps_ms).collect())?;
        let longest = ok().filter_map(|record| chunk_gaps_ms(record).max_by(f64::total_cmp));
        let longest_p50_ms = median(longest.collect())?;
        // A request's own prompt is computed before its first gap, so the union need not leave it out.
        let prompts = merged(records.iter().filter_map(prompt_span).collect());
        let (mut long, mut others) = (Tally::default(), Tally::default());
        let mut long_ms = Vec::new();
        for record in ok() {
            for (pair, gap_ms) in record.chunks.windows(2).zip(chunk_gaps_ms(record)) {
                // Its own first token, which ends the span of its prompt, is not meanwhile.
                let meanwhile = (pair[0].at_ns + SLACK_NS, pair[1].at_ns + SLACK_NS);
                let with_prompt = 0 < overlap(&prompts, meanwhile);
                let is_long = LONG_GAP * median_ms < gap_ms;
                let tally = if is_long { &mut long } else { &mut others };
                tally.add(with_prompt);
                long_ms.extend(is_long.then_some(gap_ms));
            }
        }
        Some(Interference {
            long_gaps: long.all,
            long_mean_ms: Spread::of(long_ms)?.mean,
            median_ms,
            longest_p50_ms,
            long_with_prompt: long.share(),
            others_with_prompt: others.share(),
        })
    }
}

/// When the prompt of `record` was computed: by the server's time if it gives one, else the moment
/// of the first token.
fn prompt_span(record: &RequestRecord) -> Option<(u64, u64)> {
    let first = record.first_token_ns?;
    let prefill_ms = StageTimes::of(record).map_or(0.0, |times| times.prefill_ms);
    Some((first.saturating_sub((prefill_ms * 1e6) as u64), first + 1))
}

#[derive(Default)]
struct Tally {
    all: usize,
    with_prompt: usize,
}

impl Tally {
    fn add(&mut self, with_prompt: bool) {
        self.all += 1;
        self.with_prompt += usize::from(with_prompt);
    }

    fn share(&self) -> f64 {
        self.with_prompt as f64 / self.all.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{answered, chunk};

    /// Streams with a chunk every 10 ms; those of `stalls` come 90 ms later, with all that follow.
    fn stream(user: u32, sent: u64, first: u64, stalls: &[u64]) -> RequestRecord {
        let mut record = answered(user, 0, [sent, first, first + 1]);
        let mut at = first;
        let next = |n: u64| {
            at += if n == 0 { 0 } else { 10 };
            while stalls.iter().any(|stall| (at..at + 10).contains(stall)) {
                at += 90;
            }
            chunk(at * 1_000_000)
        };
        record.chunks = (0..40).map(next).collect();
        record
    }

    #[test]
    fn long_gaps_at_others_first_tokens_are_counted_as_such() {
        let mut records: Vec<_> = (0..4).map(|user| stream(user, 0, 20, &[105])).collect();
        records.push(stream(9, 90, 190, &[])); // its prompt is what the others waited for
        let found = Interference::of(&records).expect("some gaps are long");
        assert_eq!((found.long_gaps, found.median_ms, found.longest_p50_ms), (4, 10.0, 100.0));
        assert_eq!((found.long_with_prompt, found.others_with_prompt), (1.0, 0.0));
    }

    #[test]
    fn long_gaps_at_other_times_are_not() {
        let mut records: Vec<_> = (0..4).map(|user| stream(user, 0, 20, &[105])).collect();
        records.push(stream(9, 90, 300, &[]));
        let found = Interference::of(&records).expect("some gaps are long");
        assert_eq!(found.long_with_prompt, 0.0);
        assert!(0.0 < found.others_with_prompt);
    }

    #[test]
    fn even_streams_have_no_long_gap() {
        let records: Vec<_> = (0..4).map(|user| stream(user, 0, 20, &[])).collect();
        assert_eq!(Interference::of(&records), None);
    }
}
