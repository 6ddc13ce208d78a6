//! A timer that is exact to some ten microseconds, where the runtime's own is to a millisecond.

use std::io;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock::Clock;

/// A timer of the kernel, which wakes the runtime like a socket does.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    clock: Clock,
}

impl Alarm {
    /// An alarm by `clock`. Needs a runtime around it.
    pub(crate) fn new(clock: Clock) -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that do not own what they name; OwnedFd does"
        )]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Alarm { timer, clock })
    }

    /// Returns at `at_ns`; if that has passed, after other tasks had their turn.
    pub(crate) async fn wait_until(&self, at_ns: u64) {
        loop {
            let left_ns = at_ns.saturating_sub(self.clock.now_ns());
            if left_ns == 0 {
                return tokio::task::yield_now().await;
            }
            self.set(Duration::from_nanos(left_ns));
            let mut guard = self.timer.readable().await.expect("the runtime still runs");
            let expired = guard.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?));
            if let Ok(expired) = expired {
                expired.expect("a timer can be read once it has expired");
            }
        }
    }

    fn set(&self, left: Duration) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).expect("it came from nanoseconds in 64 bits"),
            tv_nsec: left.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: zero, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
            .expect("the time to wait is positive and below the kernel's limit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_rings_when_it_is_due_and_not_before() {
        let clock = Clock::start_at(0);
        let alarm = Alarm::new(clock).expect("descriptors are left");
        for at_ns in [3_000_000, 3_200_000, 1, 4_000_000] {
            alarm.wait_until(at_ns).await;
            assert!(at_ns <= clock.now_ns());
        }
    }

    #[tokio::test]
    async fn an_alarm_given_up_can_be_set_again() {
        let clock = Clock::start_at(0);
        let alarm = Alarm::new(clock).expect("descriptors are left");
        tokio::select! {
            biased;
            () = alarm.wait_until(3_600_000_000_000) => panic!("an hour has not passed"),
            () = tokio::task::yield_now() => {}
        }
        let at_ns = clock.now_ns() + 1_000_000;
        alarm.wait_until(at_ns).await;
        assert!((at_ns..3_600_000_000_000).contains(&clock.now_ns()));
    }
}
