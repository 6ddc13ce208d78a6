//! Whether the client was fit to measure, and what it delivered.

use super::finding::{Finding, Fitness, LevelBreaches};
use super::{Evidence, name};
use crate::summary::LevelSummary;
use crate::validity::{ClientReadings, Verdict};

/// The limits that were breached. The first thing to be said: figures of an unfit client are no
/// figures of the server.
pub(super) fn unfit(evidence: &Evidence<'_>) -> Option<Finding> {
    let verdict = evidence.levels.iter().map(|level| level.validity.verdict).max()?;
    let breached = evidence.levels.iter().filter(|level| !level.validity.breaches.is_empty());
    let levels = breached.map(|level| LevelBreaches {
        level: name(level),
        breaches: level.validity.breaches.clone(),
    });
    (verdict != Verdict::Valid).then(|| Finding::ClientUnfit {
        verdict,
        levels: levels.collect(),
        same_host: evidence.host.is_some_and(|host| host.same_host),
    })
}

/// What the client read of itself, if it took readings and every limit held.
pub(super) fn fit(evidence: &Evidence<'_>) -> Option<Finding> {
    let host = evidence.host?;
    let validities = || evidence.measured().map(|level| &level.validity);
    if validities().any(|validity| validity.verdict != Verdict::Valid) {
        return None;
    }
    let readings = || validities().filter_map(|validity| validity.client);
    let largest = |value: fn(ClientReadings) -> Option<f64>| {
        readings().filter_map(value).max_by(f64::total_cmp)
    };
    let lags = validities().filter_map(|validity| validity.schedule_lag_ms);
    let delivered = validities().filter_map(|validity| validity.delivered_share);
    Some(Finding::ClientFit {
        fitness: Fitness {
            lag_p99_ms: lags.map(|lag| lag.p99).max_by(f64::total_cmp)?,
            delivered_share: delivered.min_by(f64::total_cmp),
            thread_cpu_share: largest(|client| client.thread_cpu_share),
            heartbeat_p99_ms: largest(|client| Some(client.heartbeat_ms?.p99)),
            same_host: host.same_host,
            process_cpus: largest(|client| client.process_cpus),
            server_cpus: largest(|client| client.server_cpus),
        },
    })
}

pub(super) fn delivered(levels: &[LevelSummary]) -> Option<Finding> {
    let delivered = |level: &LevelSummary| Some((name(level), level.delivered_concurrency?));
    let levels: Vec<_> = levels.iter().filter_map(delivered).collect();
    (!levels.is_empty()).then_some(Finding::Delivered { levels })
}
