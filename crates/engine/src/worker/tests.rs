use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::clock::FakeClock;
use crate::config::{EngineConfig, Speculation};
use crate::event::FinishReason;
use crate::ids::TokenId;
use crate::layout::KvGroups;
use crate::policy::{SchedulingPolicy, Tenant};
use crate::request::CacheSalt;
use crate::step::{RowOutput, StepOutput, StepPlan};

/// What the device does in a step; each step waits for one.
enum Turn {
    Compute,
    Break,
    Panic,
}

/// A device whose steps begin when the test says so.
struct Gated {
    entered: Sender<usize>,
    turns: Receiver<Turn>,
}

impl Device for Gated {
    type Params = ();
    type Extra = ();

    fn run(&mut self, plan: &StepPlan<'_, ()>) -> Result<StepOutput<()>, DeviceError> {
        self.entered.send(plan.rows.len()).expect("the test listens");
        match self.turns.recv().expect("the test gives a turn for every step") {
            Turn::Compute => {}
            Turn::Break => return Err(DeviceError("on fire".to_owned())),
            Turn::Panic => panic!("scripted panic"),
        }
        let token = |_| RowOutput::token(TokenId(1), ());
        Ok(StepOutput { rows: plan.rows.iter().map(token).collect() })
    }
}

/// A worker with a gated device; what it tells can be waited for.
struct Trial {
    handle: Handle<()>,
    worker: Worker,
    entered: Receiver<usize>,
    turns: Sender<Turn>,
    reports: Receiver<Report<()>>,
}

/// One sequence runs, one may wait.
fn trial() -> Trial {
    let config = EngineConfig {
        block_size: 4,
        block_count: 8,
        kv_groups: KvGroups::ONE,
        max_model_len: 16,
        max_num_seqs: 1,
        max_num_batched_tokens: 16,
        max_num_queued_reqs: 1,
        prefix_cache: true,
        scheduling_policy: SchedulingPolicy::Fcfs,
        speculation: Speculation::OFF,
    };
    let (entered_sender, entered) = channel();
    let (turns, turns_receiver) = channel();
    let device = Gated { entered: entered_sender, turns: turns_receiver };
    let (sink, reports) = channel();
    let engine = Engine::new(config, device);
    let (handle, worker) = spawn(engine, FakeClock::new(), move |report| {
        // A test that has seen enough does not listen any more.
        let _ = sink.send(report);
    });
    Trial { handle, worker, entered, turns, reports }
}

fn request(max_tokens: u32) -> Request<()> {
    Request {
        prompt: vec![TokenId(5); 3],
        max_tokens,
        min_tokens: 0,
        stop_tokens: Vec::new(),
        priority: 0,
        use_prefix_cache: true,
        cache_salt: CacheSalt::default(),
        adapter: None,
        tenant: Tenant::default(),
        params: (),
    }
}

impl Trial {
    fn submit(&self, max_tokens: u32) -> Result<RequestId, SubmitError> {
        self.handle.submit(request(max_tokens))
    }

    /// Waits until the device is in a step.
    fn wait_for_step(&self) {
        self.entered.recv().expect("a step begins");
    }

    fn turn(&self, turn: Turn) {
        self.turns.send(turn).expect("the device waits for a turn");
    }

    /// Waits for a terminal event; its request and what it says.
    fn end(&self) -> (RequestId, String) {
        loop {
            let report = self.reports.recv().expect("an end is reported");
            let mut ends = report.events.into_iter().filter(|event| event.is_terminal());
            match ends.next() {
                None => {}
                Some(Event::Finished { id, reason, .. }) => return (id, format!("{reason:?}")),
                Some(Event::Failed { id, failure }) => return (id, failure.message),
                Some(Event::Token { .. }) => unreachable!("a token is not terminal"),
            }
        }
    }
}

#[test]
fn a_request_is_answered_and_its_place_is_free_again() {
    let trial = trial();
    let id = trial.submit(1).expect("there is room");
    trial.turn(Turn::Compute);
    assert_eq!(trial.end(), (id, "Length".to_owned()));
    assert_eq!(trial.handle.in_flight(), 0);
}

#[test]
fn a_full_queue_refuses_at_once_and_counts_what_was_not_yet_taken_up() {
    let trial = trial();
    let first = trial.submit(1).expect("there is room");
    trial.wait_for_step();
    // The owner is in a step and cannot take anything up.
    let second = trial.submit(1).expect("one may wait");
    assert_eq!(trial.submit(1), Err(SubmitError::QueueFull { in_flight: 2, limit: 2 }));
    trial.turn(Turn::Compute);
    trial.turn(Turn::Compute);
    assert_eq!([trial.end().0, trial.end().0], [first, second]);
    assert!(trial.submit(1).is_ok(), "an ended request frees its place");
}

#[test]
fn exactly_the_free_places_are_given_to_many_at_once() {
    let trial = trial();
    let handle = &trial.handle;
    let accepted: usize = thread::scope(|scope| {
        let submit = || usize::from(handle.submit(request(2)).is_ok());
        let clients: Vec<_> = (0..16).map(|_| scope.spawn(submit)).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).sum()
    });
    assert_eq!(accepted, 2, "no step has ended, so no place was given back");
}

#[test]
fn a_cancel_takes_effect_after_the_running_step_and_is_told_once() {
    let trial = trial();
    let id = trial.submit(9).expect("there is room");
    trial.wait_for_step();
    trial.handle.cancel(id);
    trial.handle.cancel(id);
    trial.turn(Turn::Compute);
    assert_eq!(trial.end(), (id, "Cancelled".to_owned()));
    trial.handle.cancel(id);
    trial.handle.drain();
    assert_eq!(trial.worker.join(), WorkerExit::Drained);
    assert_eq!(trial.reports.iter().map(|report| report.events.len()).sum::<usize>(), 0);
}

#[test]
fn a_waiting_request_can_be_cancelled() {
    let trial = trial();
    let first = trial.submit(1).expect("there is room");
    trial.wait_for_step();
    let second = trial.submit(1).expect("one may wait");
    trial.handle.cancel(second);
    trial.turn(Turn::Compute);
    assert_eq!([trial.end().0, trial.end().0], [first, second]);
    drop(trial.handle);
    assert_eq!(trial.worker.join(), WorkerExit::Drained);
}

#[test]
fn draining_refuses_the_new_and_finishes_the_accepted() {
    let trial = trial();
    let first = trial.submit(1).expect("there is room");
    trial.wait_for_step();
    let second = trial.submit(1).expect("one may wait");
    trial.handle.drain();
    trial.handle.drain();
    assert_eq!(trial.submit(1), Err(SubmitError::Draining));
    trial.turn(Turn::Compute);
    trial.turn(Turn::Compute);
    assert_eq!([trial.end().0, trial.end().0], [first, second]);
    assert_eq!(trial.worker.join(), WorkerExit::Drained);
    assert_eq!(trial.handle.submit(request(1)), Err(SubmitError::Stopped));
}

#[test]
fn an_idle_worker_ends_when_drained() {
    let trial = trial();
    trial.handle.drain();
    assert_eq!(trial.worker.join(), WorkerExit::Drained);
}

#[test]
fn accepted_requests_are_answered_although_every_handle_is_dropped() {
    let Trial { handle, worker, entered: _entered, turns, reports } = trial();
    handle.submit(request(2)).expect("there is room");
    drop(handle);
    for _ in 0..2 {
        turns.send(Turn::Compute).expect("the device waits for a turn");
    }
    assert_eq!(worker.join(), WorkerExit::Drained);
    let last = reports.iter().flat_map(|report| report.events).last();
    let Some(Event::Finished { reason, .. }) = last else { panic!("{last:?} is no end") };
    assert_eq!(reason, FinishReason::Length);
}

#[test]
fn a_broken_device_fails_everything_that_was_accepted() {
    let trial = trial();
    let first = trial.submit(9).expect("there is room");
    trial.wait_for_step();
    // Not taken up yet: it sits in the channel when the device breaks.
    let second = trial.submit(9).expect("one may wait");
    trial.turn(Turn::Break);
    assert_eq!(trial.end(), (first, "the device failed: on fire".to_owned()));
    let message = "the engine stopped: the device failed: on fire".to_owned();
    assert_eq!(trial.end(), (second, message));
    assert_eq!(trial.worker.join(), WorkerExit::DeviceFailed("on fire".to_owned()));
    assert_eq!(trial.handle.in_flight(), 0);
}

#[test]
fn a_panic_in_the_device_fails_everything_that_was_accepted() {
    let trial = trial();
    let first = trial.submit(9).expect("there is room");
    trial.wait_for_step();
    let second = trial.submit(9).expect("one may wait");
    trial.turn(Turn::Panic);
    let Trial { handle, worker, reports, .. } = trial;
    assert_eq!(worker.join(), WorkerExit::Panicked);
    let message = "the engine stopped: scripted panic".to_owned();
    let failed = |id| Event::Failed { id, failure: Failure::fault(message.as_str()) };
    let events: Vec<_> = reports.iter().flat_map(|report| report.events).collect();
    assert_eq!(events, [failed(first), failed(second)]);
    assert_eq!(handle.in_flight(), 0);
    assert_eq!(handle.submit(request(1)), Err(SubmitError::Stopped));
}
