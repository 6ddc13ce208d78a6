//! One level of load, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Barrier, mpsc};
use tokio::task::JoinSet;
use workload::record::Status;

use crate::alarm::Alarm;
use crate::cancel::Cancel;
use crate::client::{Call, Client, Connection, RawAnswer};
use crate::conversation::{Ask, Conversation};
use crate::pool::Pool;
use crate::vitals::{self, ThreadReadings};

/// A request that is to be sent.
#[derive(Debug)]
pub(crate) struct Request {
    /// What it says.
    pub(crate) ask: Ask,
    /// What it asks for.
    pub(crate) asked: Asked,
    /// In a closed loop, how long after the user's answer before it it is due, nanoseconds.
    pub(crate) think_time_ns: u64,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Tokens that its prompt was cut to; a given text has what it has.
    pub(crate) prompt_tokens: Option<u32>,
    /// Tokens of its answer.
    pub(crate) output_tokens: u32,
}

/// The requests of a level and what decides when each is sent.
#[derive(Debug)]
pub(crate) enum Requests {
    /// Those of each user, who waits for every answer before the next.
    Closed(Vec<Vec<Request>>),
    /// Each with the time at which it is due, nanoseconds after the level's beginning, ascending.
    Open {
        /// Times and requests.
        requests: Vec<(u64, Request)>,
        /// Most that may be on their way; what is due beyond is dropped.
        max_connections: u32,
    },
}

impl Requests {
    /// Tokens of all answers, as asked for.
    pub(crate) fn output_tokens(&self) -> u64 {
        let tokens = |request: &Request| u64::from(request.asked.output_tokens);
        match self {
            Requests::Closed(users) => users.iter().flatten().map(tokens).sum(),
            Requests::Open { requests, .. } => requests.iter().map(|(_, r)| tokens(r)).sum(),
        }
    }
}

/// What a level is to send, and what everything that sends has in common.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    /// Makes connections.
    pub(crate) client: Client,
    /// Stops it early.
    pub(crate) cancel: Cancel,
    /// Told while it runs.
    pub(crate) live: Arc<Live>,
    /// Told of each request as soon as it is over; holds at most the requests of the level.
    pub(crate) finished: mpsc::UnboundedSender<Finished>,
}

/// Running totals of a level, for the display and for the books.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Requests begun, or due and dropped.
    pub(crate) sent: AtomicUsize,
    /// Pieces of answers that came: about one a token.
    pub(crate) pieces: Arc<AtomicU64>,
}

/// A request that is over.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Whose it was; in an open loop its number.
    pub(crate) user: u32,
    /// Which of the user's it was.
    pub(crate) index: u32,
    /// What it asked for.
    pub(crate) asked: Asked,
    /// When it should have been sent.
    pub(crate) due_ns: u64,
    /// What came back.
    pub(crate) answer: RawAnswer,
    /// How it ended, if not by its answer: dropped, or cancelled as the run was stopped.
    pub(crate) ended: Option<Status>,
}

/// Starts the level; the thread ends when all its requests are over, with what it
/// read of itself.
///
/// One thread is enough: at 64 users it handles some thousand chunks a second, and nothing else
/// runs on it that could delay a time stamp. Answers are read elsewhere.
pub(crate) fn start(requests: Requests, sender: Sender) -> io::Result<JoinHandle<ThreadReadings>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let thread = thread::Builder::new().name("bench-load".to_owned());
    match requests {
        Requests::Closed(users) => {
            let context = runtime.enter();
            let start = Arc::new(Barrier::new(users.len()));
            let users = (0..).zip(users).map(|(number, requests)| {
                User::new(number, requests, sender.clone(), Arc::clone(&start))
            });
            let users = users.collect::<io::Result<Vec<_>>>()?;
            drop(context);
            thread.spawn(move || run_users(&runtime, users))
        }
        Requests::Open { requests, max_connections } => {
            let context = runtime.enter();
            let alarm = Alarm::new(sender.client.clock())?;
            drop(context);
            let pool = Pool::new(sender.client.clone(), &sender.live.pieces, max_connections);
            thread
                .spawn(move || vitals::watch(&runtime, sender.send_when_due(requests, pool, alarm)))
        }
    }
}

fn run_users(runtime: &Runtime, users: Vec<User>) -> ThreadReadings {
    vitals::watch(runtime, async {
        let mut running = JoinSet::new();
        for user in users {
            running.spawn(user.run());
        }
        running.join_all().await;
    })
}

/// One user: sends, waits for the whole answer, thinks, sends the next.
struct User {
    number: u32,
    requests: Vec<Request>,
    connection: Connection,
    /// Only for users who think.
    alarm: Option<Alarm>,
    sender: Sender,
    /// Where all users wait until each has its connection.
    start: Arc<Barrier>,
}

impl User {
    fn new(
        number: u32,
        requests: Vec<Request>,
        sender: Sender,
        start: Arc<Barrier>,
    ) -> io::Result<User> {
        let connection = Connection::new(sender.client.clone(), Arc::clone(&sender.live.pieces));
        let thinks = requests.iter().any(|request| 0 < request.think_time_ns);
        let alarm = thinks.then(|| Alarm::new(sender.client.clock())).transpose()?;
        Ok(User { number, requests, connection, alarm, sender, start })
    }

    async fn run(mut self) {
        let cancel = self.sender.cancel.clone();
        tokio::select! {
            () = self.connection.open() => {}
            () = cancel.cancelled() => {}
        }
        self.start.wait().await;
        let mut due_ns = self.sender.client.clock().now_ns();
        let mut conversation = Conversation::default();
        for (index, request) in (0..).zip(std::mem::take(&mut self.requests)) {
            due_ns += request.think_time_ns;
            if let Some(alarm) = &self.alarm {
                tokio::select! {
                    () = alarm.wait_until(due_ns) => {}
                    () = cancel.cancelled() => {}
                }
            }
            if cancel.is_cancelled() {
                return;
            }
            let Request { ask, asked, .. } = request;
            let is_turn = matches!(ask, Ask::Turn(_));
            let call = match ask {
                Ask::Ready(call) => *call,
                Ask::Turn(turn) => conversation.say(turn),
            };
            let number = self.number;
            let finished =
                self.sender.send(&mut self.connection, &call, due_ns, (number, index, asked)).await;
            due_ns = finished.answer.done_ns;
            if is_turn {
                conversation.hear(&finished.answer);
            }
            self.sender.tell(finished);
        }
    }
}

impl Sender {
    /// Sends each request when it is due, whatever has become of those before.
    async fn send_when_due(self, requests: Vec<(u64, Request)>, pool: Pool, alarm: Alarm) {
        tokio::select! {
            () = pool.open_spares() => {}
            () = self.cancel.cancelled() => return,
        }
        let clock = self.client.clock();
        let start_ns = clock.now_ns();
        let mut on_their_way = JoinSet::new();
        for (number, (after_ns, request)) in (0..).zip(requests) {
            let due_ns = start_ns + after_ns;
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                () = alarm.wait_until(due_ns) => {}
            }
            while on_their_way.try_join_next().is_some() {}
            match pool.take() {
                Some(connection) => {
                    let (sender, pool) = (self.clone(), pool.clone());
                    on_their_way.spawn(sender.send_one(pool, connection, request, due_ns, number));
                }
                None => self.drop_request(&request, due_ns, number),
            }
        }
        on_their_way.join_all().await;
    }

    async fn send_one(
        self,
        pool: Pool,
        mut connection: Connection,
        request: Request,
        due_ns: u64,
        number: u32,
    ) {
        let Request { ask, asked, .. } = request;
        let call = match ask {
            Ask::Ready(call) => *call,
            Ask::Turn(turn) => Conversation::default().say(turn),
        };
        let finished = self.send(&mut connection, &call, due_ns, (number, 0, asked)).await;
        pool.give_back(connection);
        self.tell(finished);
    }

    /// Sends one request and waits for its answer; behind when it was due stand whose it is, which
    /// of its user's, and what it asks for.
    async fn send(
        &self,
        connection: &mut Connection,
        call: &Call,
        due_ns: u64,
        (user, index, asked): (u32, u32, Asked),
    ) -> Finished {
        self.live.sent.fetch_add(1, Relaxed);
        let mut answer = RawAnswer { sent_ns: self.client.clock().now_ns(), ..Default::default() };
        let ended = tokio::select! {
            () = connection.exchange(call, &mut answer) => None,
            () = self.cancel.cancelled() => Some(Status::Cancelled),
        };
        if ended.is_some() {
            answer.done_ns = self.client.clock().now_ns();
        }
        Finished { user, index, asked, due_ns, answer, ended }
    }

    fn drop_request(&self, request: &Request, due_ns: u64, user: u32) {
        self.live.sent.fetch_add(1, Relaxed);
        let now_ns = self.client.clock().now_ns();
        let answer = RawAnswer { sent_ns: now_ns, done_ns: now_ns, ..Default::default() };
        let (asked, ended) = (request.asked, Some(Status::Dropped));
        self.tell(Finished { user, index: 0, asked, due_ns, answer, ended });
    }

    fn tell(&self, finished: Finished) {
        // A closed channel means that the run itself is gone: nobody is left to tell.
        drop(self.finished.send(finished));
    }
}
