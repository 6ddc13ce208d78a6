//! Where the time to the first token goes: the server's own times joined with the client's.

use serde::{Deserialize, Serialize};

use crate::percentile::Spread;
use crate::record::RequestRecord;

/// The stages of the requests whose server gave its queue and prefill times. For each of them
/// `lag + network + queue + prefill` is the time to first token counted from when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// How much later than due a request was sent: the client's own part, milliseconds.
    pub lag_ms: Spread,
    /// TTFT less the server's queue and prefill times: the way there and back, the server's reading,
    /// validation and writing, milliseconds. Not below 0.
    pub network_ms: Spread,
    /// In the server's queue, milliseconds.
    pub queue_ms: Spread,
    /// From the first step it took part in to its first token, milliseconds.
    pub prefill_ms: Spread,
    /// From its first token to its last, milliseconds, if the server says.
    pub decode_ms: Option<Spread>,
}

impl Stages {
    /// Sums up the successful among `records`. `None` if none has queue and prefill times.
    pub fn of(records: &[RequestRecord]) -> Option<Stages> {
        let split = records.iter().filter(|record| record.is_ok()).filter_map(StageTimes::of);
        let split: Vec<StageTimes> = split.collect();
        let spread = |stage: fn(&StageTimes) -> f64| Spread::of(split.iter().map(stage).collect());
        Some(Stages {
            lag_ms: spread(|times| times.lag_ms)?,
            network_ms: spread(|times| times.network_ms)?,
            queue_ms: spread(|times| times.queue_ms)?,
            prefill_ms: spread(|times| times.prefill_ms)?,
            decode_ms: Spread::of(split.iter().filter_map(|times| times.decode_ms).collect()),
        })
    }
}

/// The stages of one request, see [`Stages`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageTimes {
    /// The client's own part.
    pub lag_ms: f64,
    /// What neither the client nor the server's stages explain.
    pub network_ms: f64,
    /// In the server's queue.
    pub queue_ms: f64,
    /// From its first step to its first token.
    pub prefill_ms: f64,
    /// From its first token to its last.
    pub decode_ms: Option<f64>,
}

impl StageTimes {
    /// The stages of `record`, if its server gave queue and prefill times.
    pub fn of(record: &RequestRecord) -> Option<StageTimes> {
        let timings = record.timings?;
        let (queue_ms, prefill_ms) = (timings.queue_ms?, timings.prefill_ms?);
        Some(StageTimes {
            lag_ms: record.lag_ms(),
            // Both clocks round, so the rest may come out a little below nothing.
            network_ms: (record.ttft_ms()? - queue_ms - prefill_ms).max(0.0),
            queue_ms,
            prefill_ms,
            decode_ms: timings.decode_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ServerTimings;
    use crate::record::tests::answered;

    fn timed(times_ms: [u64; 3], queue_ms: Option<f64>, prefill_ms: f64) -> RequestRecord {
        let mut record = answered(0, 0, times_ms);
        record.timings = Some(ServerTimings {
            queue_ms,
            prefill_ms: Some(prefill_ms),
            decode_ms: None,
            cached_prompt_tokens: None,
        });
        record
    }

    #[test]
    fn stages_add_up_to_the_time_since_due() {
        let mut record = timed([10, 110, 200], Some(60.0), 37.5);
        record.due_ns = 8_000_000;
        let stages = Stages::of(&[record.clone()]).expect("it has times");
        assert_eq!((stages.lag_ms.mean, stages.network_ms.mean), (2.0, 2.5));
        let sum = [stages.lag_ms, stages.network_ms, stages.queue_ms, stages.prefill_ms];
        let sum: f64 = sum.iter().map(|stage| stage.mean).sum();
        assert_eq!(Some(sum), record.ttft_user_ms());
        assert_eq!(stages.decode_ms, None);
    }

    #[test]
    fn a_server_that_rounds_up_leaves_nothing_to_the_network() {
        let stages = Stages::of(&[timed([0, 100, 200], Some(60.0), 40.5)]).expect("times");
        assert_eq!(stages.network_ms.max, 0.0);
    }

    #[test]
    fn without_queue_times_there_is_no_split() {
        assert_eq!(Stages::of(&[timed([0, 100, 200], None, 40.0)]), None);
        let mut failed = timed([0, 100, 200], Some(60.0), 40.0);
        failed.status = crate::record::Status::Failed("HTTP 500".to_owned());
        assert_eq!(Stages::of(&[failed]), None);
    }
}
