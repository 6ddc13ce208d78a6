//! The one clock of a run.

use std::time::Instant;

/// Nanoseconds since the beginning of a run, on the monotonic clock. Copies show the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// What it showed then.
    start_ns: u64,
}

impl Clock {
    /// A clock that shows `start_ns` now: 0, or where that of a run to be continued stood.
    pub(crate) fn start_at(start_ns: u64) -> Clock {
        Clock { origin: Instant::now(), start_ns }
    }

    /// Nanoseconds since its beginning.
    pub(crate) fn now_ns(self) -> u64 {
        self.start_ns + u64::try_from(self.origin.elapsed().as_nanos()).expect("584 years fit")
    }
}
