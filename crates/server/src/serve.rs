//! The server as a whole: from the first connection to the last.

use std::sync::Arc;
use std::time::Duration;

use engine::Handle;
use grammar::Guided;
use sampling::SamplingParams;
use text::{ChatTemplate, Tokenizer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::app::App;
use crate::config::{ServerConfig, ServerInfo};
use crate::dispatch::{Dispatch, Pulse, Reports};
use crate::grammars::Grammars;
use crate::listen::{self, Served};
use crate::metrics::{LogDropped, Panics};
use crate::routes::router;
use crate::shutdown::Shutdown;
use crate::traffic::Traffic;
use crate::unix_time::unix_time;

/// How often the log tells how the work goes, while there is any.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// How often the engine is looked at, whether it is stuck.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long replies that were cut off may take to write their last event.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// What a server is made of.
pub struct Parts {
    /// Settings.
    pub config: ServerConfig,
    /// What is served.
    pub info: ServerInfo,
    /// The engine.
    pub handle: Handle<Guided<SamplingParams>>,
    /// What it reports: the other end of the sink that it was started with.
    pub reports: Reports,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The model's chat template; none: chat requests are refused.
    pub template: Option<ChatTemplate>,
    /// Counts the lines that its log loses.
    pub log_dropped: LogDropped,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything accepted was answered.
    Drained,
    /// The time to drain was over; so many requests were cut off with an error.
    CutOff(u64),
    /// It was told to stop at once.
    Stopped,
    /// The engine was stuck in a step; every open reply ended with an error. Its thread may never
    /// end, so nobody should wait for it.
    Hung,
}

/// Serves on `listener` until `shutdown` asks it to end.
///
/// It does not end by itself when the engine's thread ends: `/health` and every new request get
/// 503 then, and whoever waits for [`engine::Worker::join`] should trigger the shutdown.
pub async fn serve(listener: TcpListener, parts: Parts, mut shutdown: Shutdown) -> Ending {
    let Parts { config, info, handle, reports, tokenizer, template, log_dropped } = parts;
    let doors = (config.connections_max, config.tls.clone());
    let (shutdown_timeout, iteration_timeout) = (config.shutdown_timeout, config.iteration_timeout);
    let limits = handle.limits();
    let panics = Panics::default();
    let dispatch = Arc::new(Dispatch::new(handle, panics.clone(), log_dropped));
    let app = Arc::new(App {
        config,
        info: Arc::new(info),
        grammars: Grammars::new(&tokenizer),
        tokenizer,
        template,
        limits,
        dispatch: Arc::clone(&dispatch),
        panics,
        traffic: Traffic::default(),
        shutdown: shutdown.clone(),
        bodies: App::body_room(),
        large_bodies: App::large_body_turns(),
        started: unix_time(),
    });
    let served = Served::new();
    // Dropped, and thereby ended, when this function returns.
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&dispatch).run(reports));
    tasks.spawn(log_progress(Arc::clone(&dispatch)));
    tasks.spawn(listen::accept(listener, router(app), doors, served.clone(), shutdown.clone()));
    tokio::select! {
        () = shutdown.draining() => dispatch.drain(),
        () = stuck(&dispatch, iteration_timeout) => {
            dispatch.drain();
            dispatch.give_up();
            // An error means that some clients do not read the end of their replies.
            let _ = tokio::time::timeout(FLUSH_LIMIT, served.none_left()).await;
            return Ending::Hung;
        }
    }
    tokio::select! {
        ending = finish(&dispatch, &served, shutdown_timeout) => ending,
        () = shutdown.stopping() => {
            // So that the engine's thread has nothing left to wait for.
            dispatch.cut_off();
            Ending::Stopped
        }
    }
}

/// Waits until the engine has not reported for `limit` while requests were open.
async fn stuck(dispatch: &Dispatch, limit: Duration) {
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while dispatch.pulse(limit) != Pulse::Stalled {
        ticks.tick().await;
    }
}

/// Waits for the open replies; after `limit` cuts them off.
async fn finish(dispatch: &Dispatch, served: &Served, limit: Duration) -> Ending {
    if tokio::time::timeout(limit, served.none_left()).await.is_ok() {
        return Ending::Drained;
    }
    let open = dispatch.open();
    tracing::warn!(open, "the time to drain is over; cutting off what still runs");
    dispatch.cut_off();
    if tokio::time::timeout(FLUSH_LIMIT, served.none_left()).await.is_err() {
        tracing::warn!("some clients do not read the end of their replies");
    }
    Ending::CutOff(open)
}

async fn log_progress(dispatch: Arc<Dispatch>) {
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut earlier, mut then) = (dispatch.progress(), Instant::now());
    // The first tick comes at once.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = dispatch.progress();
        if let Some(line) = now.line(&earlier, then.elapsed()) {
            tracing::info!("{line}");
        }
        (earlier, then) = (now, Instant::now());
    }
}
