//! Whether a level measured the server or the client.
//!
//! A client that sends late, reads late or holds fewer requests than asked makes a server look other
//! than it is. So each level is held to limits: one that is breached is a warning, and with two the
//! level is invalid, since then it is no single accident.

use serde::{Deserialize, Serialize};

use crate::load::LevelPlan;
use crate::percentile::Spread;
use crate::record::RequestRecord;
use crate::streams::{Window, mean_in_flight, mean_open};

/// What the client found out about itself while it ran a level. What the system does not tell is
/// `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientReadings {
    /// Share of one core that the thread with the load used; of several threads the busiest.
    pub thread_cpu_share: Option<f64>,
    /// Share of the time in which that thread could have run and waited for a core.
    pub thread_cpu_wait_share: Option<f64>,
    /// Cores that the whole client used.
    pub process_cpus: Option<f64>,
    /// Cores that the server used, if its process can be seen.
    pub server_cpus: Option<f64>,
    /// How much later than due a small task of the load's thread ran each time, milliseconds.
    pub heartbeat_ms: Option<Spread>,
    /// Files that the client may still open when every connection is, below 0 if there are too few.
    pub fd_headroom: Option<i64>,
}

/// Facts about the client's machine that hold for a whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Whether the server runs on the same machine, by its address: the two then share its cores.
    pub same_host: bool,
    /// Cores of the machine.
    pub cores: Option<usize>,
    /// What the system's monotonic clock counts with, such as `tsc`.
    pub clock_source: Option<String>,
}

/// What is known about a level's worth as a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// The verdict.
    pub verdict: Verdict,
    /// The limits that were breached.
    pub breaches: Vec<Breach>,
    /// How much later than due requests were sent, milliseconds.
    pub schedule_lag_ms: Option<Spread>,
    /// Limit of the 99th percentile of that: 1 ms or 2 % of the median time to first token,
    /// whichever is more.
    pub schedule_lag_limit_ms: f64,
    /// In a closed loop the mean number of requests on their way over the number that were due and
    /// not over; in an open one the achieved rate over the rate asked for.
    pub delivered_share: Option<f64>,
    /// The client's readings of itself, if it took any.
    pub client: Option<ClientReadings>,
}

/// How far a level can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every limit held.
    Valid,
    /// One did not.
    Warning,
    /// Two or more did not.
    Invalid,
}

/// A limit that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "breach", rename_all = "snake_case")]
pub enum Breach {
    /// Requests were sent late.
    ScheduleLag {
        /// 99th percentile, milliseconds.
        p99_ms: f64,
        /// Its limit, milliseconds.
        limit_ms: f64,
    },
    /// Fewer requests were on their way, or were sent a second, than asked for.
    Delivered {
        /// Share of what was asked for.
        share: f64,
        /// Its limit.
        limit: f64,
    },
    /// The load's thread was near the end of what a core gives.
    ClientCpu {
        /// Share of a core.
        share: f64,
        /// Its limit.
        limit: f64,
    },
    /// The load's thread came late to what it had to do, so it may have read late too.
    Heartbeat {
        /// 99th percentile, milliseconds.
        p99_ms: f64,
        /// Its limit, milliseconds.
        limit_ms: f64,
    },
    /// The system lets the client open too few files for its connections.
    OpenFiles {
        /// How many are missing.
        missing: u64,
    },
}

/// Least limit of the 99th percentile of the schedule lag, milliseconds.
const LAG_MS: f64 = 1.0;
/// Least limit of the 99th percentile of the heartbeat, milliseconds: timers count in whole ones.
const HEARTBEAT_MS: f64 = 2.0;
/// The same where the kernel noted when answers arrived: a thread that reads late then makes no time
/// stamp wrong, and what it sends late is in the schedule lag. It is only no good sign.
const HEARTBEAT_NOTED_MS: f64 = 5.0;
/// Share of the median time to first token by which the thread may be late in that case.
const HEARTBEAT_NOTED_SHARE: f64 = 0.1;
/// Share of the median time to first token by which a time stamp may be wrong.
const SHARE_OF_TTFT: f64 = 0.02;
/// Least share of the load asked for.
const DELIVERED: f64 = 0.95;
/// Largest share of a core for a thread that must never be late.
const THREAD_CPU: f64 = 0.8;

impl Validity {
    /// Judges a level by its records, whose median time to first token is `ttft_p50_ms`, and by what
    /// the client read of itself.
    pub fn of(
        plan: &LevelPlan,
        records: &[RequestRecord],
        ttft_p50_ms: Option<f64>,
        client: Option<ClientReadings>,
    ) -> Validity {
        let sent = || records.iter().filter(|record| record.was_sent());
        let tolerance_ms = ttft_p50_ms.map_or(0.0, |ms| SHARE_OF_TTFT * ms);
        let mut validity = Validity {
            verdict: Verdict::Valid,
            breaches: Vec::new(),
            schedule_lag_ms: Spread::of(sent().map(RequestRecord::lag_ms).collect()),
            schedule_lag_limit_ms: tolerance_ms.max(LAG_MS),
            delivered_share: delivered_share(plan, records),
            client,
        };
        // A stamp that is the reader's own has no delay.
        let noted = records.iter().any(|record| 0 < record.client_delay_ns);
        let heartbeat_limit_ms = if noted {
            ttft_p50_ms.map_or(0.0, |ms| HEARTBEAT_NOTED_SHARE * ms).max(HEARTBEAT_NOTED_MS)
        } else {
            tolerance_ms.max(HEARTBEAT_MS)
        };
        validity.breaches = validity.find_breaches(heartbeat_limit_ms);
        validity.verdict = match validity.breaches.len() {
            0 => Verdict::Valid,
            1 => Verdict::Warning,
            _ => Verdict::Invalid,
        };
        validity
    }

    fn find_breaches(&self, heartbeat_limit_ms: f64) -> Vec<Breach> {
        let client = self.client.unwrap_or_default();
        let lag = self.schedule_lag_ms.map(|lag| lag.p99);
        let lag = lag.filter(|p99_ms| self.schedule_lag_limit_ms < *p99_ms);
        let delivered = self.delivered_share.filter(|share| *share < DELIVERED);
        let cpu = client.thread_cpu_share.filter(|share| THREAD_CPU < *share);
        let heartbeat = client.heartbeat_ms.map(|heartbeat| heartbeat.p99);
        let heartbeat = heartbeat.filter(|p99_ms| heartbeat_limit_ms < *p99_ms);
        let missing = client.fd_headroom.filter(|headroom| *headroom < 0);
        let limit_ms = self.schedule_lag_limit_ms;
        [
            lag.map(|p99_ms| Breach::ScheduleLag { p99_ms, limit_ms }),
            delivered.map(|share| Breach::Delivered { share, limit: DELIVERED }),
            cpu.map(|share| Breach::ClientCpu { share, limit: THREAD_CPU }),
            heartbeat.map(|p99_ms| Breach::Heartbeat { p99_ms, limit_ms: heartbeat_limit_ms }),
            missing.map(|headroom| Breach::OpenFiles { missing: headroom.unsigned_abs() }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// See [`Validity::delivered_share`]. What was meant by chance, as in a Poisson process, is in the
/// times at which requests were due, so the achieved rate is compared with those.
fn delivered_share(plan: &LevelPlan, records: &[RequestRecord]) -> Option<f64> {
    if plan.users().is_some() {
        let window = Window::all_users_active(records)?;
        let open = mean_open(records, window, |record| record.due_ns);
        return (0.0 < open).then(|| mean_in_flight(records, window) / open);
    }
    let due = || records.iter().map(|record| record.due_ns);
    let sent = || records.iter().filter(|r| r.was_sent()).map(|r| r.sent_ns);
    let due_span = due().max()? - due().min()?;
    // From the first due time: a schedule that begins late as a whole is late all the same.
    let sent_span = sent().max()?.saturating_sub(due().min()?);
    let sent_share = sent().count() as f64 / records.len() as f64;
    let on_time = due_span as f64 / sent_span.max(due_span) as f64;
    (0 < due_span).then_some(sent_share * on_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lengths::{LengthLaws, Lengths};
    use crate::load::{Arrivals, Load};
    use crate::record::Status;
    use crate::record::tests::answered;

    const LENGTHS: LengthLaws = LengthLaws::fixed(Lengths { prompt_tokens: 5, output_tokens: 11 });
    const CLOSED: LevelPlan = LevelPlan { load: Load::closed(2, 10), lengths: LENGTHS };
    const OPEN: LevelPlan = LevelPlan {
        load: Load::Open { arrivals: Arrivals::Constant { rate: 100.0 }, requests: 20 },
        lengths: LENGTHS,
    };

    /// Two users with ten requests each, sent `lag` ms late.
    fn closed(lag: u64) -> Vec<RequestRecord> {
        let request = |n: u64| {
            let due = 100 * (n / 2);
            let mut record =
                answered((n % 2) as u32, (n / 2) as u32, [due + lag, due + 20, due + 100]);
            record.due_ns = due * 1_000_000;
            record
        };
        (0..20).map(request).collect()
    }

    fn judge(records: &[RequestRecord], client: ClientReadings) -> Validity {
        Validity::of(&CLOSED, records, Some(20.0), Some(client))
    }

    #[test]
    fn a_client_that_keeps_up_is_valid() {
        let validity = judge(&closed(0), ClientReadings::default());
        assert_eq!((validity.verdict, validity.breaches), (Verdict::Valid, vec![]));
        assert_eq!(validity.schedule_lag_limit_ms, 1.0);
        assert_eq!(validity.delivered_share, Some(1.0));
    }

    #[test]
    fn one_limit_is_a_warning_and_two_are_invalid() {
        let late = judge(&closed(2), ClientReadings::default());
        assert_eq!(late.verdict, Verdict::Warning);
        assert_eq!(late.breaches, [Breach::ScheduleLag { p99_ms: 2.0, limit_ms: 1.0 }]);
        let busy = ClientReadings { thread_cpu_share: Some(0.9), ..ClientReadings::default() };
        assert_eq!(judge(&closed(0), busy).verdict, Verdict::Warning);
        assert_eq!(judge(&closed(2), busy).verdict, Verdict::Invalid);
    }

    #[test]
    fn slow_first_tokens_forgive_a_late_client() {
        let validity = Validity::of(&CLOSED, &closed(2), Some(150.0), None);
        assert_eq!((validity.verdict, validity.schedule_lag_limit_ms), (Verdict::Valid, 3.0));
    }

    #[test]
    fn a_late_heartbeat_and_missing_files_are_breaches() {
        let client = ClientReadings {
            heartbeat_ms: Spread::of(vec![0.5; 50].into_iter().chain([9.0; 50]).collect()),
            fd_headroom: Some(-3),
            ..ClientReadings::default()
        };
        let expected =
            [Breach::Heartbeat { p99_ms: 9.0, limit_ms: 2.0 }, Breach::OpenFiles { missing: 3 }];
        assert_eq!(judge(&closed(0), client).breaches, expected);
    }

    #[test]
    fn a_late_heartbeat_counts_for_less_where_the_kernel_noted_arrivals() {
        let late = |ms: f64| ClientReadings {
            heartbeat_ms: Spread::of(vec![ms; 50]),
            ..ClientReadings::default()
        };
        let mut noted = closed(0);
        noted[0].client_delay_ns = 40_000;
        let verdict = |records: &[RequestRecord], ms| {
            Validity::of(&CLOSED, records, Some(100.0), Some(late(ms))).verdict
        };
        assert_eq!(verdict(&closed(0), 4.0), Verdict::Warning);
        assert_eq!(verdict(&noted, 4.0), Verdict::Valid);
        assert_eq!(verdict(&noted, 9.9), Verdict::Valid, "a tenth of the time to first token");
        assert_eq!(verdict(&noted, 10.1), Verdict::Warning);
    }

    #[test]
    fn users_that_pause_deliver_less_than_asked() {
        let validity = judge(&closed(10), ClientReadings::default());
        let breach = validity.breaches.last().copied();
        let Some(Breach::Delivered { share, .. }) = breach else { panic!("{validity:?}") };
        assert!((0.89..0.91).contains(&share), "{share}");
    }

    /// Twenty requests due every 10 ms and sent every `step` ms.
    fn open(step: u64) -> Vec<RequestRecord> {
        let request = |n: u64| {
            let mut record = answered(n as u32, 0, [step * n, step * n + 5, step * n + 50]);
            record.due_ns = 10_000_000 * n;
            record
        };
        (0..20).map(request).collect()
    }

    #[test]
    fn an_open_loop_must_reach_its_rate() {
        let share = |records: &[RequestRecord]| {
            Validity::of(&OPEN, records, None, None).delivered_share.expect("a rate")
        };
        assert_eq!((share(&open(10)), share(&open(20))), (1.0, 0.5));
        let mut dropped = open(10);
        for record in dropped.iter_mut().step_by(4) {
            record.status = Status::Dropped;
        }
        assert_eq!(share(&dropped), 0.75);
    }
}
