//! The state and the result of a level in a few words.

use std::fmt;

use workload::load::{Arrivals, Load};
use workload::summary::LevelSummary;

use super::Live;

/// What a level is called: `8 users`, `10 requests/s`.
pub(crate) fn name(load: &Load) -> String {
    match load {
        Load::Closed { users: 1, .. } => "1 user".to_owned(),
        Load::Closed { users, .. } => format!("{users} users"),
        Load::Open { arrivals, .. } => match arrivals {
            Arrivals::Constant { rate } => format!("{rate} requests/s"),
            Arrivals::Poisson { rate } => format!("{rate} requests/s (Poisson)"),
            Arrivals::Ramp { from, to } => format!("{from} to {to} requests/s"),
            Arrivals::Trace { span_s, speed } => format!("trace of {span_s:.0} s at speed {speed}"),
        },
    }
}

/// `120 tokens/s, 50 running, 14 waiting, KV 31 %, TTFT P50 148 ms, 0 failed`; what is unknown is
/// left out.
impl fmt::Display for Live {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gauges = self.gauges;
        let parts = [
            self.tokens_per_second.map(|rate| format!("{rate:.0} tokens/s")),
            gauges.map(|gauges| format!("{} running, {} waiting", gauges.running, gauges.waiting)),
            gauges.and_then(|gauges| Some(format!("KV {:.0} %", 100.0 * gauges.kv_usage?))),
            self.ttft_p50_ms.map(|ttft_ms| format!("TTFT P50 {ttft_ms:.0} ms")),
            Some(match self.failed {
                0 => "0 failed".to_owned(),
                failed => format!("{failed} FAILED"),
            }),
        ];
        out.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl Live {
    /// `about 14 s left`, if it can be told.
    pub(super) fn time_left(&self) -> Option<String> {
        let seconds = self.seconds_left?.ceil() as u64;
        Some(match seconds {
            0..100 => format!("about {seconds} s left"),
            _ => format!("about {} min left", (seconds + 30) / 60),
        })
    }
}

/// What has come of a level.
pub(super) fn result(level: &LevelSummary) -> String {
    let failed = match level.counts.failed {
        0 => String::new(),
        failed => format!(", {failed} FAILED"),
    };
    let dropped = match level.counts.dropped {
        0 => String::new(),
        dropped => format!(", {dropped} DROPPED"),
    };
    let figures = match (level.total_time_s, level.tokens_per_second, level.ttft_ms) {
        (Some(time), Some(rate), Some(ttft)) => {
            format!("{time:.1} s, {rate:.1} tokens/s, TTFT P50 {:.0} ms", ttft.p50)
        }
        _ => "no request succeeded".to_owned(),
    };
    format!("{} requests: {figures}{failed}{dropped}", level.counts.sent)
}
