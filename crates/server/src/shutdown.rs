//! The end in two steps: first drain, then stop at once.

use std::io;

use tokio::sync::watch;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    Draining,
    Stopping,
}

/// Asks the server to end. Clones ask the same server.
#[derive(Debug, Clone)]
pub struct Trigger(watch::Sender<Stage>);

/// Sees what a [`Trigger`] asks for.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Stage>);

/// Makes a trigger and the sight of it.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Stage::Serving);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Take no new requests, finish the running ones, then end.
    pub fn drain(&self) {
        self.raise(Stage::Draining);
    }

    /// End at once.
    pub fn stop(&self) {
        self.raise(Stage::Stopping);
    }

    fn raise(&self, stage: Stage) {
        self.0.send_modify(|now| *now = stage.max(*now));
    }
}

impl Shutdown {
    /// Whether the server takes no new requests.
    pub fn is_draining(&self) -> bool {
        Stage::Draining <= *self.0.borrow()
    }

    /// Waits until the server is to drain.
    pub async fn draining(&mut self) {
        self.reached(Stage::Draining).await;
    }

    /// Waits until the server is to end at once.
    pub async fn stopping(&mut self) {
        self.reached(Stage::Stopping).await;
    }

    async fn reached(&mut self, stage: Stage) {
        if self.0.wait_for(|now| stage <= *now).await.is_err() {
            // Every trigger is gone: nobody can ask any more.
            std::future::pending().await
        }
    }
}

/// Pulls `trigger` on SIGTERM and SIGINT: the first one drains, the second one stops at once.
///
/// Returns after the second signal, or with an error if the handlers cannot be installed.
pub async fn on_signals(trigger: Trigger) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for last in [false, true] {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if last {
            trigger.stop();
            tracing::warn!(signal = name, "second signal: stopping at once");
        } else {
            trigger.drain();
            tracing::info!(signal = name, "draining: no new requests, running ones finish");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_after_a_stop_changes_nothing() {
        let (trigger, mut shutdown) = channel();
        assert!(!shutdown.is_draining());
        trigger.stop();
        trigger.drain();
        shutdown.draining().await;
        shutdown.stopping().await;
        assert!(shutdown.is_draining());
    }
}
