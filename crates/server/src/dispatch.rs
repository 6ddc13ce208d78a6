//! Between the engine's thread and the replies: submits, fans reports out, counts.
//!
//! The engine's thread makes one [`Report`] per step and pushes it into one channel ([`channel`]).
//! One task ([`Dispatch::run`]) takes it apart and hands each reply its events. Everything that a
//! scrape of `/metrics` reads changes under one lock, so that figures of one scrape agree.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use engine::{
    AdapterId, Cause, Event, FinishReason, Handle, Nanos, Report, Request, RequestId, RequestTimes,
    Snapshot, SubmitError,
};
use grammar::Guided;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use sampling::{LogProbs, SamplingParams};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::ServerInfo;
use crate::limits::STREAM_BUFFER_BYTES;
use crate::metrics::{AdapterUse, LogDropped, OpenRequests, Outcome, Panics, Progress, Tally};
use crate::openai::error::{ApiError, ENGINE_STOPPED, SHUTTING_DOWN};

/// What the device gives with each token: its log-probabilities, if the request asks for them.
pub type Extra = Option<Box<LogProbs>>;

/// The engine's end of [`channel`]: the sink for [`engine::spawn`].
pub type Sink = Box<dyn FnMut(Report<Extra>) + Send>;

/// The server's end of [`channel`].
#[derive(Debug)]
pub struct Reports(mpsc::UnboundedReceiver<Report<Extra>>);

/// Makes the channel from the engine's thread to the server; its sink never blocks.
///
/// It needs no bound of its own: it can hold no more events than the requests in the engine may
/// still have, and both their number and their lengths are bounded.
pub fn channel() -> (Sink, Reports) {
    let (sender, receiver) = mpsc::unbounded_channel();
    // Nobody listens only once the server has ended, and then nobody wants to know.
    let sink = move |report| drop(sender.send(report));
    (Box::new(sink), Reports(receiver))
}

/// Something that happened to one choice of a reply.
#[derive(Debug)]
pub struct ChoiceEvent {
    /// Which choice.
    pub choice: u16,
    /// A token that was generated.
    pub token: Option<Generated>,
    /// Set in the choice's last event.
    pub end: Option<Box<End>>,
}

/// A token that was generated.
#[derive(Debug)]
pub struct Generated {
    /// The token.
    pub id: u32,
    /// What the device gave with it.
    pub log_probs: Extra,
}

/// How a choice ended.
#[derive(Debug)]
pub enum End {
    /// As it should, or cancelled.
    Finished {
        /// Why.
        reason: FinishReason,
        /// The moments and sums.
        times: RequestTimes,
    },
    /// It could not be finished.
    Failed(Failure),
}

/// Why a request that was accepted has no answer.
#[derive(Debug)]
pub enum Failure {
    /// The engine says so.
    Engine(engine::Failure),
    /// The time to drain is over.
    ShuttingDown,
    /// The engine's thread has ended.
    EngineStopped,
}

impl Failure {
    /// What the client is told; `masked_by` is the field that says which tokens there may be.
    pub fn told(self, masked_by: Option<&'static str>) -> ApiError {
        match self {
            Failure::Engine(engine::Failure { cause: Cause::NoToken, message }) => {
                ApiError::NoTokenLeft { param: masked_by, message }
            }
            Failure::Engine(engine::Failure { cause: Cause::Fault, message }) => {
                ApiError::Failed { message }
            }
            Failure::ShuttingDown => ApiError::Unavailable { reason: SHUTTING_DOWN },
            Failure::EngineStopped => ApiError::Unavailable { reason: ENGINE_STOPPED },
        }
    }
}

/// Events that one choice may leave undelivered; with log-probabilities each is larger.
fn events_per_choice(params: &SamplingParams) -> usize {
    let log_probs = params.log_probs().map_or(0, |count| LogProbs::bytes(count as usize));
    STREAM_BUFFER_BYTES / (size_of::<ChoiceEvent>() + log_probs)
}

/// Whether the engine does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// It does, or there is none.
    Beating,
    /// Requests are open and no report has come for too long.
    Stalled,
    /// Its thread has ended.
    Stopped,
}

/// Submits requests and hands out what becomes of them.
pub struct Dispatch {
    handle: Handle<Guided<SamplingParams>>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    routes: HashMap<RequestId, Route>,
    tally: Tally,
    snapshot: Snapshot,
    /// When the last report came, or the first request after a time without any.
    last_sign: Instant,
    stopped: bool,
}

/// Where the events of one engine request go; kept until its terminal event.
#[derive(Debug)]
struct Route {
    /// None once nobody listens.
    sender: Option<mpsc::Sender<ChoiceEvent>>,
    choice: u16,
    adapter: Option<AdapterId>,
    accepted: Instant,
    last_token: Option<Nanos>,
    /// Whether the reply cancelled it since it had found a stop string.
    stop_string: bool,
}

impl Dispatch {
    /// A dispatch for the engine behind `handle`; it tells of `panics` and `log_dropped` and counts none
    /// itself.
    pub fn new(
        handle: Handle<Guided<SamplingParams>>,
        panics: Panics,
        log_dropped: LogDropped,
    ) -> Self {
        let state = State {
            routes: HashMap::new(),
            tally: Tally::new(handle.limits().max_model_len, panics, log_dropped),
            snapshot: Snapshot::default(),
            last_sign: Instant::now(),
            stopped: false,
        };
        Dispatch { handle, state: Arc::new(Mutex::new(state)) }
    }

    /// Submits the requests of one reply, all or none: if one is refused, those before it are
    /// cancelled.
    pub fn submit(
        self: &Arc<Self>,
        requests: Vec<Request<Guided<SamplingParams>>>,
    ) -> Result<Submitted, SubmitError> {
        let room = requests.iter().map(|request| events_per_choice(&request.params.sampling)).sum();
        let (sender, events) = mpsc::channel(room);
        let mut submitted = Submitted { dispatch: Arc::clone(self), ids: Vec::new(), events };
        // Held until every route is known, so that no event can come before its route.
        let mut state = self.lock();
        for (choice, request) in (0..).zip(requests) {
            let (max_tokens, adapter) = (request.max_tokens, request.adapter);
            match self.handle.submit(request) {
                Ok(id) => {
                    state.open(id, (choice, adapter), max_tokens, sender.clone());
                    submitted.ids.push(Some(id));
                }
                Err(refusal) => {
                    if matches!(
                        refusal,
                        SubmitError::QueueFull { .. } | SubmitError::ShareFull { .. }
                    ) {
                        state.tally.rejected();
                    }
                    drop(state);
                    return Err(refusal);
                }
            }
        }
        drop(state);
        Ok(submitted)
    }

    /// Hands out what the engine reports until its thread ends.
    pub async fn run(self: Arc<Self>, mut reports: Reports) {
        while let Some(report) = reports.0.recv().await {
            self.deliver(report);
        }
        self.lock().stopped = true;
        self.end_all(|| Failure::EngineStopped);
    }

    /// Ends every open reply with an error and cancels what it waits for.
    pub fn cut_off(&self) {
        self.end_all(|| Failure::ShuttingDown);
    }

    /// Ends every open reply with an error: the engine does not come back from its step. What it
    /// was doing goes into the log.
    pub fn give_up(&self) {
        let state = self.lock();
        let (snapshot, open) = (state.snapshot, state.routes.len());
        let silence = state.last_sign.elapsed().as_secs();
        drop(state);
        tracing::error!(open, silence, ?snapshot, "the engine is stuck in a step: giving up");
        self.end_all(|| Failure::EngineStopped);
    }

    /// Refuses requests from now on; the accepted ones go on.
    pub fn drain(&self) {
        self.handle.drain();
    }

    /// Whether the engine works; `stall_limit` is the longest time without a report.
    pub fn pulse(&self, stall_limit: Duration) -> Pulse {
        let state = self.lock();
        if state.stopped {
            Pulse::Stopped
        } else if !state.routes.is_empty() && stall_limit < state.last_sign.elapsed() {
            Pulse::Stalled
        } else {
            Pulse::Beating
        }
    }

    /// Requests accepted and not ended.
    pub fn open(&self) -> u64 {
        self.lock().routes.len() as u64
    }

    /// How the work goes.
    pub fn progress(&self) -> Progress {
        let state = self.lock();
        let OpenRequests { running, waiting } = state.open_requests();
        Progress { snapshot: state.snapshot, running, waiting }
    }

    /// The page `/metrics`, every series labelled with the model of `info`; `others` write the
    /// rest of it.
    pub fn exposition(&self, info: &Arc<ServerInfo>, others: Box<dyn Collector>) -> String {
        let model = info.model.clone();
        let labels = [("model_name".into(), model.into()), ("engine".into(), "0".into())];
        let mut registry = Registry::with_labels(labels.into_iter());
        let (state, info) = (Arc::clone(&self.state), Arc::clone(info));
        registry.register_collector(Box::new(Exposition { state, info }));
        registry.register_collector(others);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry)
            .expect("writing into a String cannot fail");
        page
    }

    fn deliver(&self, report: Report<Extra>) {
        let mut state = self.lock();
        state.last_sign = Instant::now();
        let before = std::mem::replace(&mut state.snapshot, report.snapshot);
        // There is a report after each step, and others between steps.
        if before.steps_total < report.snapshot.steps_total {
            state.tally.step(report.snapshot.last_step_tokens);
        }
        let now = report.snapshot.now;
        let mut events = report.events.into_iter().peekable();
        while let Some(event) = events.next() {
            let id = event.id();
            let (token, end) = match event {
                Event::Token { token, extra, .. } => {
                    state.count_token(id, now);
                    let token = Generated { id: token.0, log_probs: extra };
                    // The last token and the end go together into one event, hence one chunk.
                    (Some(token), events.next_if(|next| next.is_terminal() && next.id() == id))
                }
                end => (None, Some(end)),
            };
            if !state.hand_over(id, token, end.map(end_of)) {
                self.handle.cancel(id);
            }
        }
    }

    fn end_all(&self, failure: impl Fn() -> Failure) {
        let mut state = self.lock();
        for (id, route) in &mut state.routes {
            if let Some(sender) = route.sender.take() {
                let end = Some(Box::new(End::Failed(failure())));
                // A full or closed channel ends with an error without being told.
                let _ = sender.try_send(ChoiceEvent { choice: route.choice, token: None, end });
            }
            self.handle.cancel(*id);
        }
        if state.stopped {
            state.bury();
        }
    }

    /// Cancels `id`: its reply has found a stop string.
    fn stop(&self, id: RequestId) {
        if let Some(route) = self.lock().routes.get_mut(&id) {
            route.stop_string = true;
        }
        self.handle.cancel(id);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the dispatch's lock")
    }
}

impl State {
    fn open_requests(&self) -> OpenRequests {
        OpenRequests::new(self.routes.len(), &self.snapshot)
    }

    fn open(
        &mut self,
        id: RequestId,
        (choice, adapter): (u16, Option<AdapterId>),
        max_tokens: u32,
        sender: mpsc::Sender<ChoiceEvent>,
    ) {
        let accepted = Instant::now();
        if self.routes.is_empty() {
            self.last_sign = accepted;
        }
        self.tally.accepted(max_tokens);
        let sender = Some(sender);
        let stop_string = false;
        let route = Route { sender, choice, adapter, accepted, last_token: None, stop_string };
        self.routes.insert(id, route);
    }

    fn count_token(&mut self, id: RequestId, now: Nanos) {
        let Some(route) = self.routes.get_mut(&id) else { return };
        match route.last_token.replace(now) {
            None => self.tally.first_token(route.accepted.elapsed()),
            Some(before) => self.tally.next_token(now.since(before)),
        }
    }

    /// Passes an event to its reply; false when the reply takes no more and `id` should be
    /// cancelled.
    fn hand_over(&mut self, id: RequestId, token: Option<Generated>, end: Option<End>) -> bool {
        let Some(route) = self.routes.get_mut(&id) else { return true };
        let ended = end.is_some();
        if let Some(end) = &end {
            let (outcome, times) = outcome(end, route.stop_string);
            self.tally.ended(outcome, times);
        }
        let event = ChoiceEvent { choice: route.choice, token, end: end.map(Box::new) };
        let delivered = match &route.sender {
            Some(sender) => sender.try_send(event).is_ok(),
            None => true,
        };
        if ended {
            self.routes.remove(&id);
            return true;
        }
        if !delivered {
            // The reply was dropped, or its reader is too slow: it sees the channel close.
            route.sender = None;
        }
        delivered
    }

    /// Counts what can have no terminal event any more, since nobody is left to tell.
    fn bury(&mut self) {
        for _ in self.routes.drain() {
            self.tally.ended(Outcome::Error, None);
        }
        self.snapshot.running = 0;
        self.snapshot.waiting = 0;
        self.snapshot.blocks_used = 0;
    }
}

/// A terminal event of the engine as an end.
fn end_of(event: Event<Extra>) -> End {
    match event {
        Event::Finished { reason, times, .. } => End::Finished { reason, times },
        Event::Failed { failure, .. } => End::Failed(Failure::Engine(failure)),
        Event::Token { .. } => unreachable!("only terminal events are passed here"),
    }
}

/// How an end is counted.
fn outcome(end: &End, stop_string: bool) -> (Outcome, Option<&RequestTimes>) {
    match end {
        End::Finished { times, .. } if stop_string => (Outcome::Stop, Some(times)),
        End::Finished { reason, times } => {
            let outcome = match reason {
                FinishReason::Stop { .. } => Outcome::Stop,
                FinishReason::Length => Outcome::Length,
                FinishReason::Cancelled => Outcome::Abort,
            };
            (outcome, Some(times))
        }
        End::Failed(Failure::Engine(failure)) if failure.cause == Cause::NoToken => {
            (Outcome::NoToken, None)
        }
        End::Failed(_) => (Outcome::Error, None),
    }
}

/// The engine requests of one reply, one per choice. Dropping it cancels those that have not ended.
pub struct Submitted {
    dispatch: Arc<Dispatch>,
    /// By choice; none once the choice has ended.
    ids: Vec<Option<RequestId>>,
    /// What becomes of them. Closed before every choice has ended: the reader was too slow.
    pub events: mpsc::Receiver<ChoiceEvent>,
}

impl Submitted {
    /// How many choices there are.
    pub fn choices(&self) -> usize {
        self.ids.len()
    }

    /// Counts that `samples` answers were asked for to each prompt.
    pub fn count_samples(&self, samples: usize) {
        let state = self.dispatch.lock();
        for _ in 0..self.choices() / samples {
            state.tally.samples(samples);
        }
    }

    /// Counts that a prompt has all its answers, the longest of so many tokens.
    pub fn count_longest(&self, tokens: u32) {
        self.dispatch.lock().tally.longest(tokens);
    }

    /// Notes that `choice` needs no cancel any more.
    pub fn ended(&mut self, choice: usize) {
        self.ids[choice] = None;
    }

    /// Cancels `choice`, whose text is complete.
    pub fn stop(&self, choice: usize) {
        if let Some(id) = self.ids[choice] {
            self.dispatch.stop(id);
        }
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        for id in self.ids.iter().flatten() {
            self.dispatch.handle.cancel(*id);
        }
    }
}

/// Writes the metrics at a scrape.
#[derive(Debug)]
struct Exposition {
    state: Arc<Mutex<State>>,
    info: Arc<ServerInfo>,
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder) -> std::fmt::Result {
        let state = self.state.lock().expect("nothing panics while it holds the dispatch's lock");
        let mut adapters = AdapterUse::default();
        for route in state.routes.values() {
            let users = match route.last_token {
                Some(_) => &mut adapters.running,
                None => &mut adapters.waiting,
            };
            users.extend(route.adapter);
        }
        let open = state.open_requests();
        state.tally.encode(&state.snapshot, open, &adapters, &self.info, encoder)
    }
}
