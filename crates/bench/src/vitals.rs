//! What the client reads of itself while it sends a level: whether it was fit to measure.
//!
//! Everything comes from Linux' `/proc`; where that is missing, so are the readings.

use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep_until};
use workload::percentile::Spread;
use workload::validity::{ClientReadings, HostFacts};

use crate::endpoint::Endpoint;

/// Time between two beats of the heartbeat: often enough for a 99th percentile in a short level,
/// seldom enough to cost nothing.
const BEAT: Duration = Duration::from_millis(10);

/// How the thread with the load fared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ThreadReadings {
    cpu_share: Option<f64>,
    cpu_wait_share: Option<f64>,
    heartbeat_ms: Option<Spread>,
}

/// Runs `work` on this thread and `runtime` to its end, with a heartbeat beside it.
pub(crate) fn watch(runtime: &Runtime, work: impl Future<Output = ()>) -> ThreadReadings {
    let mut late_ms = Vec::new();
    let start = (Instant::now(), thread_times());
    runtime.block_on(async {
        tokio::select! {
            () = work => {}
            never = beat(&mut late_ms) => match never {}
        }
    });
    let elapsed_ns = start.0.elapsed().as_nanos() as f64;
    let times = start.1.zip(thread_times());
    let share = |part: fn(ThreadTimes) -> u64| {
        times.map(|(start, end)| part(end).saturating_sub(part(start)) as f64 / elapsed_ns)
    };
    ThreadReadings {
        cpu_share: share(|times| times.running_ns),
        cpu_wait_share: share(|times| times.waiting_ns),
        heartbeat_ms: Spread::of(late_ms),
    }
}

/// Notes how late it is each time. Timers count in whole milliseconds, so it is up to one late even
/// when nothing holds it up.
async fn beat(late_ms: &mut Vec<f64>) -> Infallible {
    let mut due = Instant::now();
    loop {
        due += BEAT;
        sleep_until(due).await;
        let late = due.elapsed();
        late_ms.push(late.as_secs_f64() * 1e3);
        // After a long pause it does not catch up: that would count one pause many times.
        due += BEAT * (late.as_nanos() / BEAT.as_nanos()) as u32;
    }
}

/// What a thread has had of a core since it began.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ThreadTimes {
    running_ns: u64,
    /// Ready to run, but without a core.
    waiting_ns: u64,
}

fn thread_times() -> Option<ThreadTimes> {
    parse_schedstat(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// `running waiting slices`, the first two in nanoseconds.
fn parse_schedstat(text: &str) -> Option<ThreadTimes> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let (running_ns, waiting_ns) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(ThreadTimes { running_ns, waiting_ns })
}

/// Measures how many cores the client and the server use from its start on.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    server: Option<u32>,
    started: Instant,
    client_s: Option<f64>,
    server_s: Option<f64>,
    fd_headroom: Option<i64>,
}

impl CpuMeter {
    /// Begins now. `server` is the process of the server, if it is known; `connections` are those
    /// that the level will open beside the files that are open already.
    pub(crate) fn start(server: Option<u32>, connections: u32) -> CpuMeter {
        CpuMeter {
            server,
            started: Instant::now(),
            client_s: cpu_seconds("self"),
            server_s: server.and_then(|pid| cpu_seconds(&pid.to_string())),
            fd_headroom: fd_headroom(connections),
        }
    }

    /// Ends it; `thread` is what the load's thread read.
    pub(crate) fn stop(self, thread: ThreadReadings) -> ClientReadings {
        let elapsed_s = self.started.elapsed().as_secs_f64();
        let cores = |start: Option<f64>, end: Option<f64>| Some((end? - start?) / elapsed_s);
        let server_s = self.server.and_then(|pid| cpu_seconds(&pid.to_string()));
        ClientReadings {
            thread_cpu_share: thread.cpu_share,
            thread_cpu_wait_share: thread.cpu_wait_share,
            process_cpus: cores(self.client_s, cpu_seconds("self")),
            server_cpus: cores(self.server_s, server_s),
            heartbeat_ms: thread.heartbeat_ms,
            fd_headroom: self.fd_headroom,
        }
    }
}

/// Processor time that a process has used, its ended threads included.
fn cpu_seconds(process: &str) -> Option<f64> {
    parse_stat(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// User and system time of a line of `/proc/PID/stat`, in seconds.
fn parse_stat(text: &str) -> Option<f64> {
    /// What Linux counts processor time in for programs, on every machine it runs on today.
    const TICKS_PER_SECOND: f64 = 100.0;
    // The name of the program stands in brackets and may hold anything.
    let (_, fields) = text.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

/// Files that may still be opened when so many `connections` are, below 0 if they are too few.
fn fd_headroom(connections: u32) -> Option<i64> {
    let limit = parse_limits(&fs::read_to_string("/proc/self/limits").ok()?)?;
    let open = fs::read_dir("/proc/self/fd").ok()?.count() as i64;
    Some(limit - open - i64::from(connections))
}

/// The soft limit of open files.
fn parse_limits(text: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(i64::MAX / 2), // so that no subtraction overflows
        number => number.parse().ok(),
    }
}

/// Facts about this machine and whether `endpoint` is on it.
pub(crate) fn host_facts(endpoint: &Endpoint) -> HostFacts {
    let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    HostFacts {
        same_host: is_this_host(&endpoint.host),
        cores: std::thread::available_parallelism().ok().map(|cores| cores.get()),
        clock_source: fs::read_to_string(clock).ok().map(|name| name.trim().to_owned()),
    }
}

/// Whether a name or an address stands for the machine that asks.
fn is_this_host(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let is_loopback = host
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback() || address.is_unspecified());
    is_loopback || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_understood() {
        let times = parse_schedstat("1500000 250000 42\n");
        assert_eq!(times, Some(ThreadTimes { running_ns: 1_500_000, waiting_ns: 250_000 }));
        assert_eq!(parse_schedstat(""), None);
        let stat = "77 (a ) (b) R 1 77 77 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 3 0 1 2 3";
        assert_eq!(parse_stat(stat), Some(1.75));
        assert_eq!(parse_stat("77 (a) R 1"), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\n\
                      Max open files            1024                 1048576              files\n";
        assert_eq!(parse_limits(limits), Some(1024));
        assert_eq!(parse_limits("Max open files unlimited unlimited files"), Some(i64::MAX / 2));
    }

    #[test]
    fn the_own_process_can_be_read() {
        let meter = CpuMeter::start(Some(std::process::id()), 0);
        let readings = meter.stop(ThreadReadings::default());
        assert!(readings.process_cpus.is_some_and(|cores| 0.0 <= cores));
        assert!(readings.server_cpus.is_some());
        assert!(readings.fd_headroom.is_some_and(|headroom| 0 < headroom));
        let missing = CpuMeter::start(None, u32::MAX).stop(ThreadReadings::default());
        assert_eq!(missing.server_cpus, None);
    }

    #[test]
    fn a_thread_is_watched_while_it_works() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let readings = watch(&runtime.expect("a runtime"), async {
            let end = Instant::now() + 5 * BEAT;
            sleep_until(end).await;
        });
        let beats = readings.heartbeat_ms.expect("some beats");
        assert!(0.0 <= beats.min && 1 <= beats.count, "{beats:?}");
        assert!(readings.cpu_share.is_some_and(|share| 0.0 <= share));
    }

    #[test]
    fn loopback_is_this_host() {
        for host in ["127.0.0.1", "127.8.0.1", "::1", "localhost", "LOCALHOST", "a.localhost"] {
            assert!(is_this_host(host), "{host}");
        }
        for host in ["10.0.0.1", "example.org", "localhost.example.org", "2001:db8::1"] {
            assert!(!is_this_host(host), "{host}");
        }
    }
}
