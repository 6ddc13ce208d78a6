//! The handle that stops a run early.

use tokio::sync::watch;

/// Stops a run early: what is complete is reported, what is on its way is cancelled.
///
/// Clones are the same handle.
#[derive(Clone, Debug)]
pub struct Cancel {
    sender: watch::Sender<bool>,
}

impl Cancel {
    /// A handle that nobody has pulled yet.
    pub fn new() -> Cancel {
        Cancel { sender: watch::Sender::new(false) }
    }

    /// Stops the run; a second time does nothing more.
    pub fn cancel(&self) {
        self.sender.send_replace(true);
    }

    /// Whether the run has been told to stop.
    pub fn is_cancelled(&self) -> bool {
        *self.sender.borrow()
    }

    /// Returns once the run has been told to stop.
    pub async fn cancelled(&self) {
        let mut receiver = self.sender.subscribe();
        receiver.wait_for(|cancelled| *cancelled).await.expect("`self` holds the sender");
    }
}

impl Default for Cancel {
    fn default() -> Cancel {
        Cancel::new()
    }
}
