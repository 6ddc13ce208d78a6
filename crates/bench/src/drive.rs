//! One level of load, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Barrier, mpsc};

use crate::cancel::Cancel;
use crate::client::{Call, Client, Connection, RawAnswer};

/// What a level is to send.
#[derive(Debug)]
pub(crate) struct Load {
    /// Sends for all users.
    pub(crate) client: Client,
    /// The requests of each user, in order.
    pub(crate) users: Vec<Vec<Call>>,
    /// Stops it early.
    pub(crate) cancel: Cancel,
    /// Told while it runs.
    pub(crate) live: Arc<Live>,
}

/// Running totals of a level, for the display and for the books.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Requests begun.
    pub(crate) sent: AtomicUsize,
    /// Pieces of answers that came: about one a token.
    pub(crate) pieces: Arc<AtomicU64>,
}

/// A request that is over.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Whose it was.
    pub(crate) user: u32,
    /// Which of the user's it was.
    pub(crate) index: u32,
    /// When the user wanted to send it.
    pub(crate) due_ns: u64,
    /// What came back.
    pub(crate) answer: RawAnswer,
    /// Whether it was given up because the run was stopped.
    pub(crate) cancelled: bool,
}

/// Starts the level; each request is told to `finished` as soon as it is over. The thread ends
/// when all are.
///
/// One thread is enough: at 64 users it handles some thousand chunks a second, and nothing else
/// runs on it that could delay a time stamp. Answers are read elsewhere.
pub(crate) fn start(
    load: Load,
    finished: mpsc::UnboundedSender<Finished>, // holds at most the requests of the level
) -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let name = "bench-load".to_owned();
    thread::Builder::new().name(name).spawn(move || send_all(&runtime, load, &finished))
}

fn send_all(runtime: &Runtime, load: Load, finished: &mpsc::UnboundedSender<Finished>) {
    let start = Arc::new(Barrier::new(load.users.len()));
    runtime.block_on(async {
        let mut users = tokio::task::JoinSet::new();
        for (number, calls) in (0..).zip(load.users) {
            let user = User {
                number,
                connection: Connection::new(load.client.clone(), Arc::clone(&load.live.pieces)),
                client: load.client.clone(),
                cancel: load.cancel.clone(),
                live: Arc::clone(&load.live),
                finished: finished.clone(),
            };
            users.spawn(user.run(calls, Arc::clone(&start)));
        }
        users.join_all().await;
    });
}

/// One user: sends, waits for the whole answer, sends the next.
struct User {
    number: u32,
    connection: Connection,
    client: Client,
    cancel: Cancel,
    live: Arc<Live>,
    finished: mpsc::UnboundedSender<Finished>,
}

impl User {
    async fn run(mut self, calls: Vec<Call>, start: Arc<Barrier>) {
        tokio::select! {
            () = self.connection.open() => {}
            () = self.cancel.cancelled() => {}
        }
        start.wait().await;
        let clock = self.client.clock();
        for (index, call) in (0..).zip(&calls) {
            if self.cancel.is_cancelled() {
                return;
            }
            let due_ns = clock.now_ns();
            self.live.sent.fetch_add(1, Relaxed);
            let mut answer = RawAnswer { sent_ns: due_ns, ..RawAnswer::default() };
            let cancelled = tokio::select! {
                () = self.connection.exchange(call, &mut answer) => false,
                () = self.cancel.cancelled() => true,
            };
            if cancelled {
                answer.done_ns = clock.now_ns();
            }
            let user = self.number;
            // A closed channel means that the run itself is gone: nobody is left to tell.
            drop(self.finished.send(Finished { user, index, due_ns, answer, cancelled }));
        }
    }
}
