//! The clock of connections: what came in by a deadline is read before the deadline is over.
//!
//! The runtime asks the kernel for at most 1,024 sockets that have something to read, and then looks at
//! its timers. When it could not run for a while (the machine is busy, or was asleep), more of them
//! may have something, so that timers would end connections whose requests came in time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

/// How often the kernel is asked once a deadline is over.
const ROUNDS: usize = 16;

/// Tokio's timers, each of which ends some rounds of the runtime later than it should.
#[derive(Debug, Clone, Copy)]
pub struct PatientTimer;

impl Timer for PatientTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until((Instant::now() + duration).into())
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(PatientSleep(Box::pin(async move {
            sleep_until(deadline.into()).await;
            for _ in 0..ROUNDS {
                yield_now().await;
            }
        })))
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

struct PatientSleep(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Future for PatientSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl Sleep for PatientSleep {}
