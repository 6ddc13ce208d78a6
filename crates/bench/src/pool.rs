//! The connections of an open loop: some are always open before they are needed, up to a bound.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use crate::client::{Client, Connection};

/// Connections that are kept open and unused, so that the next requests need not wait for one.
const SPARES: usize = 64;

/// Connections to one server. Clones are the same pool.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    client: Client,
    pieces: Arc<AtomicU64>,
    most: u32,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Unused ones; the last one given back is the first to be used.
    unused: Vec<Connection>,
    /// All there are, in use or not.
    all: u32,
    /// Those that are being opened ahead.
    opening: usize,
}

impl Pool {
    /// An empty pool of at most `most` connections, each counting its `pieces`.
    pub(crate) fn new(client: Client, pieces: &Arc<AtomicU64>, most: u32) -> Pool {
        Pool { client, pieces: Arc::clone(pieces), most, state: Arc::default() }
    }

    /// Opens the first spare connections, and returns when they are open or have failed to.
    pub(crate) async fn open_spares(&self) {
        let mut opening = JoinSet::new();
        while let Some(connection) = self.begin_spare() {
            opening.spawn(self.clone().open(connection));
        }
        opening.join_all().await;
    }

    /// A connection, open if there is a spare one. `None` if all that may be are in use.
    pub(crate) fn take(&self) -> Option<Connection> {
        let taken = {
            let mut state = self.state();
            state.unused.pop().or_else(|| state.one_more(self))
        };
        // Whoever takes one sees to it that there are enough for those who follow.
        if let Some(spare) = self.begin_spare() {
            tokio::spawn(self.clone().open(spare));
        }
        taken
    }

    /// Takes back what [`Pool::take`] gave.
    pub(crate) fn give_back(&self, connection: Connection) {
        self.state().unused.push(connection);
    }

    fn begin_spare(&self) -> Option<Connection> {
        let mut state = self.state();
        if SPARES <= state.unused.len() + state.opening {
            return None;
        }
        let spare = state.one_more(self)?;
        state.opening += 1;
        Some(spare)
    }

    async fn open(self, mut connection: Connection) {
        connection.open().await;
        let mut state = self.state();
        state.opening -= 1;
        // Below those that have been used: what is warm stays warm.
        state.unused.insert(0, connection);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn one_more(&mut self, pool: &Pool) -> Option<Connection> {
        if self.all == pool.most {
            return None;
        }
        self.all += 1;
        Some(Connection::new(pool.client.clone(), Arc::clone(&pool.pieces)))
    }
}
