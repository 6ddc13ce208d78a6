//! The server's own gauges, sampled during a level, and what they show.

use serde::{Deserialize, Serialize};

use crate::streams::Window;

/// One reading of the server's gauges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaugeSample {
    /// When it was read, nanoseconds since the origin of the run.
    pub at_ns: u64,
    /// Requests that run.
    pub running: u32,
    /// Requests that wait for a place.
    pub waiting: u32,
    /// Share of the KV cache in use, 0..=1.
    pub kv_usage: Option<f64>,
    /// Preemptions since the server's start.
    pub preemptions: Option<u64>,
}

/// What the gauges showed while every user had a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaugeDigest {
    /// Number of readings in that time.
    pub samples: usize,
    /// Readings with requests waiting.
    pub samples_waiting: usize,
    /// Readings with requests waiting and [`GaugeDigest::running_top`] running.
    pub samples_at_top: usize,
    /// Readings with requests waiting and the KV cache at least [`KV_FULL`] full.
    pub samples_kv_full: usize,
    /// Most requests that ran at once while others waited; 0 if none ever waited.
    pub running_top: u32,
    /// Median number of requests that waited while [`GaugeDigest::running_top`] ran.
    pub waiting_at_top: u32,
    /// Mean number of requests that waited, over all readings.
    pub waiting_mean: f64,
    /// Largest share of the KV cache in use, 0..=1.
    pub kv_usage_max: Option<f64>,
    /// Preemptions during the whole level.
    pub preemptions: Option<u64>,
}

/// From this share on the KV cache counts as full: the last pages seldom fit a whole request.
pub const KV_FULL: f64 = 0.9;

impl GaugeDigest {
    /// Sums up the `samples` of a level; `window` is the time in which all users were active.
    /// `None` if no sample lies in it.
    pub fn of(samples: &[GaugeSample], window: Window) -> Option<GaugeDigest> {
        let inside: Vec<_> = samples.iter().filter(|s| window.contains(s.at_ns)).collect();
        let waiting: Vec<_> = inside.iter().filter(|s| 0 < s.waiting).collect();
        let running_top = waiting.iter().map(|s| s.running).max().unwrap_or(0);
        let at_top = waiting.iter().filter(|s| s.running == running_top);
        let mut at_top: Vec<u32> = at_top.map(|s| s.waiting).collect();
        at_top.sort_unstable();
        let full = |usage: Option<f64>| usage.is_some_and(|usage| KV_FULL <= usage);
        let count = inside.len();
        if count == 0 {
            return None;
        }
        Some(GaugeDigest {
            samples: count,
            samples_waiting: waiting.len(),
            samples_at_top: at_top.len(),
            samples_kv_full: waiting.iter().filter(|s| full(s.kv_usage)).count(),
            running_top,
            waiting_at_top: at_top.get(at_top.len() / 2).copied().unwrap_or(0),
            waiting_mean: inside.iter().map(|s| f64::from(s.waiting)).sum::<f64>() / count as f64,
            kv_usage_max: inside.iter().filter_map(|s| s.kv_usage).max_by(f64::total_cmp),
            preemptions: preemptions(samples),
        })
    }
}

/// By how much the counter of preemptions rose.
fn preemptions(samples: &[GaugeSample]) -> Option<u64> {
    let mut counts = samples.iter().filter_map(|sample| sample.preemptions);
    let first = counts.next()?;
    Some(counts.next_back().unwrap_or(first).saturating_sub(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ns: u64, running: u32, waiting: u32, kv: f64, preempted: u64) -> GaugeSample {
        GaugeSample { at_ns, running, waiting, kv_usage: Some(kv), preemptions: Some(preempted) }
    }

    #[test]
    fn a_plateau_with_a_queue_is_seen() {
        let samples = [
            sample(5, 64, 0, 0.99, 3), // before all users are active
            sample(10, 20, 44, 0.2, 3),
            sample(20, 50, 14, 0.5, 3),
            sample(30, 50, 13, 0.6, 4),
            sample(40, 50, 14, 0.95, 4),
            sample(50, 40, 0, 0.5, 5),
            sample(99, 2, 0, 0.1, 7),
        ];
        let digest = GaugeDigest::of(&samples, Window { start_ns: 10, end_ns: 60 });
        let digest = digest.expect("samples lie inside");
        assert_eq!((digest.samples, digest.samples_waiting, digest.samples_at_top), (5, 4, 3));
        assert_eq!((digest.running_top, digest.waiting_at_top), (50, 14));
        assert_eq!((digest.samples_kv_full, digest.kv_usage_max), (1, Some(0.95)));
        assert_eq!(digest.waiting_mean, 85.0 / 5.0);
        assert_eq!(digest.preemptions, Some(4), "counted over the whole level");
    }

    #[test]
    fn no_sample_in_the_window_is_no_evidence() {
        let samples = [sample(5, 1, 1, 0.1, 0)];
        assert_eq!(GaugeDigest::of(&samples, Window { start_ns: 10, end_ns: 60 }), None);
    }
}
