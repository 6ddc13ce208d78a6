//! A matcher shared by the device, which needs a set for each token, and a thread that works ahead.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::MatchError;
use crate::matcher::{Grammar, Matcher};
use crate::token_set::TokenSet;

/// Sets that may wait to be computed ahead; beyond that the device computes them when it needs them.
const JOBS: usize = 4096;

/// How a device chooses the tokens of a request: by `sampling`, among those that `constraint` allows.
#[derive(Debug, Clone)]
pub struct Guided<S> {
    /// Parameters of the choice.
    pub sampling: S,
    /// None allows every token.
    pub constraint: Option<Constraint>,
}

impl<S> From<S> for Guided<S> {
    fn from(sampling: S) -> Self {
        Guided { sampling, constraint: None }
    }
}

/// The grammar of one answer, and how far it was followed. Clones share that.
#[derive(Debug, Clone)]
pub struct Constraint {
    matcher: Arc<Mutex<Matcher>>,
}

impl Constraint {
    /// For an answer that has not begun.
    pub fn new(grammar: &Grammar) -> Self {
        Constraint { matcher: Arc::new(Mutex::new(grammar.matcher())) }
    }

    /// The tokens that may follow `answer`; computed here unless they were computed ahead.
    pub fn allowed_after(&self, answer: &[u32]) -> Result<Arc<TokenSet>, MatchError> {
        self.lock().mask_after(answer)
    }

    /// Computes the set of the position behind `token`, which is the answer's `position`-th from 0.
    /// Nothing happens unless just the tokens before it were taken.
    fn work_ahead(&self, position: usize, token: u32) {
        let mut matcher = self.lock();
        if matcher.taken().len() == position {
            matcher.advance(token);
            // An error is told to whoever asks for the set.
            let _ = matcher.mask();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Matcher> {
        self.matcher.lock().expect("the library's panics are caught while it is locked")
    }
}

/// A thread that computes sets as soon as a token is known, while its device computes the next step.
/// Ends when it is dropped.
#[derive(Debug)]
pub struct Ahead {
    jobs: SyncSender<Job>,
}

#[derive(Debug)]
struct Job {
    constraint: Constraint,
    position: usize,
    token: u32,
}

impl Ahead {
    /// Starts the thread.
    pub fn new() -> Self {
        let (jobs, queue) = sync_channel(JOBS);
        let thread = std::thread::Builder::new().name("grammar-ahead".to_owned());
        // Without it sets are computed when they are needed.
        let _ = thread.spawn(move || work(&queue));
        Ahead { jobs }
    }

    /// Says that `token` was chosen as the answer's `position`-th, from 0. Never waits.
    pub fn prepare(&self, constraint: &Constraint, position: usize, token: u32) {
        let job = Job { constraint: constraint.clone(), position, token };
        // If there is no place, the set is computed when it is needed.
        let _ = self.jobs.try_send(job);
    }
}

impl Default for Ahead {
    fn default() -> Self {
        Ahead::new()
    }
}

fn work(queue: &Receiver<Job>) {
    for Job { constraint, position, token } in queue {
        constraint.work_ahead(position, token);
    }
}
