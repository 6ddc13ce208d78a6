//! Time as a value: a real clock for serving, a fake one for tests and planning.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A moment, in nanoseconds since its clock began. Only differences mean something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Gives the present moment; never runs backwards.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Nanos;
}

/// The operating system's monotonic clock, counted from its creation. Copies agree.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock that reads zero now.
    #[expect(clippy::new_without_default, reason = "a clock that begins now is no default value")]
    pub fn new() -> Self {
        SystemClock { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Nanos {
        let nanos = self.origin.elapsed().as_nanos();
        Nanos(u64::try_from(nanos).expect("584 years have not passed since the start"))
    }
}

/// A clock that moves only when told. Clones share the time.
#[derive(Debug, Clone, Default)]
pub struct FakeClock {
    nanos: Arc<AtomicU64>,
}

impl FakeClock {
    /// A clock that reads zero.
    pub fn new() -> Self {
        FakeClock::default()
    }

    /// Moves the time on by `duration`.
    pub fn advance(&self, duration: Duration) {
        let nanos =
            u64::try_from(duration.as_nanos()).expect("a test advances less than 584 years");
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Nanos {
        Nanos(self.nanos.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_fake_clock_share_the_time() {
        let clock = FakeClock::new();
        let twin = clock.clone();
        clock.advance(Duration::from_micros(3));
        assert_eq!(twin.now(), Nanos(3_000));
    }

    #[test]
    fn the_system_clock_never_runs_backwards() {
        let clock = SystemClock::new();
        let first = clock.now();
        assert!(first <= clock.now());
    }

    #[test]
    fn a_difference_is_never_negative() {
        assert_eq!(Nanos(5).since(Nanos(9)), Duration::ZERO);
        assert_eq!(Nanos(9).since(Nanos(5)), Duration::from_nanos(4));
    }
}
