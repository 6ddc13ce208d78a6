//! The owner of the engine, which serves on one thread, and the handle that others hold.
//!
//! Bounds: at most `max_num_seqs + max_num_queued_reqs` requests are in flight; a submit beyond
//! that is refused at once with [`SubmitError::QueueFull`]. The command channel needs no bound of
//! its own: it carries at most one submit and one cancel for each request in flight, and one drain.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use crate::clock::{Clock, Nanos};
use crate::config::EngineConfig;
use crate::device::{Device, DeviceError};
use crate::engine::Engine;
use crate::event::{Event, Failure};
use crate::ids::RequestId;
use crate::places::Places;
use crate::policy::Tenant;
use crate::request::{Limits, Request, SubmitError};
use crate::stats::Snapshot;

/// What the owner thread tells: after every step, and after commands that came between steps.
#[derive(Debug)]
pub struct Report<E> {
    /// What happened since the last report, in order; may be empty.
    pub events: Vec<Event<E>>,
    /// The state now.
    pub snapshot: Snapshot,
}

/// Why the owner thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerExit {
    /// Everything accepted was answered, and the handle was drained or nobody held one any more.
    Drained,
    /// The device as a whole broke; every request in flight failed.
    DeviceFailed(String),
    /// The device, the engine or the sink panicked; every request in flight failed.
    Panicked,
}

/// Starts the owner thread.
///
/// `sink` is called on that thread and must not block: it holds up every request.
pub fn spawn<D: Device + Send + 'static>(
    engine: Engine<D>,
    clock: impl Clock + 'static,
    sink: impl FnMut(Report<D::Extra>) + Send + 'static,
) -> (Handle<D::Params>, Worker) {
    let (handle, owner) = open(engine, clock, sink);
    let thread = thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || owner.run())
        .expect("the operating system can start one thread");
    (handle, Worker { thread })
}

/// As [`spawn`], but on the thread of whoever runs the owner: as a whole, or turn by turn.
pub fn open<D: Device, S: FnMut(Report<D::Extra>)>(
    engine: Engine<D>,
    clock: impl Clock + 'static,
    sink: S,
) -> (Handle<D::Params>, Owner<D, S>) {
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let config = *engine.config();
    let door = Arc::new(Door {
        limits: config.limits(),
        clock: Arc::clone(&clock),
        state: Mutex::new(DoorState::new(&config)),
    });
    let (sender, commands) = channel();
    let owner = Owner { engine, clock, door: Arc::clone(&door), commands, sink };
    (Handle { door, commands: sender }, owner)
}

/// The owner thread, to wait for.
#[derive(Debug)]
pub struct Worker {
    thread: JoinHandle<WorkerExit>,
}

impl Worker {
    /// Waits until the owner thread ends: when every handle is dropped or one was drained and all
    /// requests have ended, or when the engine fails.
    pub fn join(self) -> WorkerExit {
        self.thread.join().unwrap_or(WorkerExit::Panicked)
    }
}

/// Submits and cancels requests from any thread. Clones reach the same engine. No call blocks.
pub struct Handle<P> {
    door: Arc<Door>,
    commands: Sender<Command<P>>,
}

impl<P> Clone for Handle<P> {
    fn clone(&self) -> Self {
        Handle { door: Arc::clone(&self.door), commands: self.commands.clone() }
    }
}

impl<P> Handle<P> {
    /// Takes a request, or refuses it at once.
    ///
    /// The place is reserved before this returns and is free again when the request's terminal
    /// event is reported. Every accepted request gets exactly one terminal event. Requests are
    /// served in the order of their ids.
    pub fn submit(&self, request: Request<P>) -> Result<RequestId, SubmitError> {
        self.door.limits.check(&request)?;
        let mut state = self.door.lock();
        let id = state.reserve(request.tenant)?;
        // Sent under the lock, so that ids, arrivals and the queue have one order.
        let submit = Command::Submit { id, request, arrived: self.door.clock.now() };
        self.commands.send(submit).map_err(|_| SubmitError::Stopped)?;
        Ok(id)
    }

    /// Ends a request as soon as the running step is over; its `Finished` with `Cancelled`
    /// follows, unless it had ended before. Once or often is the same.
    pub fn cancel(&self, id: RequestId) {
        if self.door.lock().request_cancel(id) {
            self.send(Command::Cancel { id });
        }
    }

    /// Refuses requests from now on; the accepted ones go on, then the owner thread ends.
    pub fn drain(&self) {
        if self.door.lock().request_drain() {
            self.send(Command::Drain);
        }
    }

    /// What a request must keep to.
    pub fn limits(&self) -> Limits {
        self.door.limits
    }

    /// Requests accepted whose terminal event was not reported yet.
    pub fn in_flight(&self) -> usize {
        self.door.lock().in_flight.len()
    }

    fn send(&self, command: Command<P>) {
        // Nobody listens only when the owner has ended, and then every request has ended too.
        let _ = self.commands.send(command);
    }
}

/// What handles ask of the owner.
enum Command<P> {
    Submit { id: RequestId, request: Request<P>, arrived: Nanos },
    Cancel { id: RequestId },
    Drain,
}

/// Shared by the handles and the owner: who is in flight and who may come in.
struct Door {
    limits: Limits,
    clock: Arc<dyn Clock>,
    state: Mutex<DoorState>,
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, DoorState> {
        self.state.lock().expect("nothing panics while it holds the door's lock")
    }
}

struct DoorState {
    last_id: u64,
    in_flight: BTreeMap<RequestId, InFlight>,
    places: Places,
    draining: bool,
    stopped: bool,
}

/// A request that was accepted and whose end was not reported.
struct InFlight {
    tenant_id: u64,
    intent: Intent,
}

/// What the clients want of a request in flight.
#[derive(PartialEq, Eq)]
enum Intent {
    Answer,
    Cancel,
}

impl DoorState {
    fn new(config: &EngineConfig) -> Self {
        DoorState {
            last_id: 0,
            in_flight: BTreeMap::new(),
            places: Places::new(config),
            draining: false,
            stopped: false,
        }
    }

    fn reserve(&mut self, tenant: Tenant) -> Result<RequestId, SubmitError> {
        if self.stopped {
            return Err(SubmitError::Stopped);
        }
        if self.draining {
            return Err(SubmitError::Draining);
        }
        self.places.reserve(tenant)?;
        self.last_id += 1;
        let id = RequestId(self.last_id);
        let in_flight = InFlight { tenant_id: tenant.id, intent: Intent::Answer };
        self.in_flight.insert(id, in_flight);
        Ok(id)
    }

    /// Forgets a request whose end is reported.
    fn release(&mut self, id: RequestId) {
        if let Some(ended) = self.in_flight.remove(&id) {
            self.places.release(ended.tenant_id);
        }
    }

    /// Whether this is the first cancel of a request in flight.
    fn request_cancel(&mut self, id: RequestId) -> bool {
        match self.in_flight.get_mut(&id) {
            Some(request) if request.intent == Intent::Answer => {
                request.intent = Intent::Cancel;
                true
            }
            _ => false,
        }
    }

    /// Whether this is the first drain.
    fn request_drain(&mut self) -> bool {
        !std::mem::replace(&mut self.draining, true)
    }
}

/// Owns the engine and serves the handles, in turns: it obeys what they ask, then makes one step.
pub struct Owner<D: Device, S> {
    engine: Engine<D>,
    clock: Arc<dyn Clock>,
    door: Arc<Door>,
    commands: Receiver<Command<D::Params>>,
    sink: S,
}

impl<D: Device, S: FnMut(Report<D::Extra>)> Owner<D, S> {
    /// Serves to the end.
    pub fn run(mut self) -> WorkerExit {
        loop {
            let turn = match self.obey() {
                ControlFlow::Continue(()) => self.step(),
                end => end,
            };
            if let ControlFlow::Break(exit) = turn {
                return exit;
            }
        }
    }

    /// Carries out the commands that have come; waits for the first one if there is nothing to
    /// compute. Breaks when there is no work and there never will be.
    pub fn obey(&mut self) -> ControlFlow<WorkerExit> {
        self.guard(|owner| Ok(owner.obey_commands()))
    }

    /// Advances by one step, if there is work. Breaks when the device, the engine or the sink fails.
    pub fn step(&mut self) -> ControlFlow<WorkerExit> {
        self.guard(|owner| {
            if !owner.engine.is_idle() {
                let outcome = owner.engine.step(&*owner.clock);
                owner.report();
                outcome?;
            }
            Ok(true)
        })
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &Engine<D> {
        &self.engine
    }

    /// Does a part of a turn, which says whether there may be another one. If it fails, so does
    /// every request in flight.
    fn guard(
        &mut self,
        part: impl FnOnce(&mut Self) -> Result<bool, DeviceError>,
    ) -> ControlFlow<WorkerExit> {
        match catch_unwind(AssertUnwindSafe(|| part(self))) {
            Ok(Ok(true)) => ControlFlow::Continue(()),
            Ok(Ok(false)) => ControlFlow::Break(WorkerExit::Drained),
            Ok(Err(error)) => {
                self.fail_all(&format!("the engine stopped: {error}"));
                ControlFlow::Break(WorkerExit::DeviceFailed(error.0))
            }
            Err(panic) => {
                self.fail_all(&format!("the engine stopped: {}", panic_text(&*panic)));
                ControlFlow::Break(WorkerExit::Panicked)
            }
        }
    }

    /// False when there is no work and there never will be.
    fn obey_commands(&mut self) -> bool {
        let mut obeyed = false;
        loop {
            let command = if self.engine.is_idle() && !obeyed {
                if self.close_if_drained() {
                    return false;
                }
                self.commands.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.commands.try_recv()
            };
            match command {
                Ok(command) => self.carry_out(command),
                Err(TryRecvError::Disconnected) if self.engine.is_idle() && !obeyed => {
                    return false;
                }
                Err(_) => break,
            }
            obeyed = true;
        }
        if obeyed {
            self.report();
        }
        true
    }

    fn carry_out(&mut self, command: Command<D::Params>) {
        match command {
            Command::Submit { id, request, arrived } => self
                .engine
                .submit(id, request, arrived)
                .expect("the handle checked the limits and reserved a place"),
            Command::Cancel { id } => self.engine.cancel(id, self.clock.now()),
            Command::Drain => {}
        }
    }

    /// Stops taking requests for good if draining has come to its end.
    fn close_if_drained(&self) -> bool {
        let mut state = self.door.lock();
        state.stopped = state.draining && state.in_flight.is_empty();
        state.stopped
    }

    /// Frees the places of ended requests, then tells.
    fn report(&mut self) {
        let events = self.engine.drain_events();
        let mut state = self.door.lock();
        for event in events.iter().filter(|event| event.is_terminal()) {
            state.release(event.id());
        }
        drop(state);
        (self.sink)(Report { events, snapshot: self.engine.snapshot() });
    }

    /// Refuses everything from now on and ends what is still in flight, also what sits in the
    /// channel: once `stopped` is set nothing can follow it.
    fn fail_all(&mut self, message: &str) {
        let mut state = self.door.lock();
        state.stopped = true;
        let in_flight = std::mem::take(&mut state.in_flight);
        drop(state);
        if in_flight.is_empty() {
            return;
        }
        let failed = |id| Event::Failed { id, failure: Failure::fault(message) };
        let events = in_flight.into_keys().map(failed).collect();
        (self.sink)(Report { events, snapshot: self.engine.snapshot() });
    }
}

/// The text of a panic, as far as it has one.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a panic without text"
    }
}

#[cfg(test)]
mod tests;
