//! What can be found, with the numbers that show it.

use serde::{Deserialize, Serialize};

use crate::gaps::ChunkCheck;
use crate::interference::Interference;
use crate::level::LevelName;
use crate::little::Little;
use crate::percentile::Spread;
use crate::slo::Goodput;
use crate::steady::Drift;
use crate::trend::ArrivalTrend;
use crate::validity::{Breach, Verdict};
use crate::waits::{PromptQueue, WaitShape};

/// Requests waited while the number of running ones stood still.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaugeSign {
    /// Requests that ran.
    pub running: u32,
    /// Requests that waited meanwhile, the median.
    pub waiting: u32,
    /// Share of the readings that showed it, 0..=1.
    pub share: f64,
    /// Number of readings.
    pub samples: usize,
}

/// Later requests spent a long time in the server's queue.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueSign {
    /// Later requests that did.
    pub waited: usize,
    /// Later requests.
    pub later: usize,
    /// The longest time, milliseconds.
    pub max_ms: f64,
}

/// The number of streams receiving tokens stood still below the number of users.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamSign {
    /// That number.
    pub top: u32,
    /// Share of the time in which it held, 0..=1.
    pub share: f64,
}

/// The signs of a cap on sequences, each seen in another place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signs {
    /// Seen in the server's gauges.
    pub gauges: Option<GaugeSign>,
    /// Seen in the server's queue times.
    pub queue: Option<QueueSign>,
    /// Seen by the client alone.
    pub streams: Option<StreamSign>,
}

impl Signs {
    /// How many there are.
    pub fn count(&self) -> usize {
        let seen = [self.gauges.is_some(), self.queue.is_some(), self.streams.is_some()];
        seen.into_iter().filter(|seen| *seen).count()
    }
}

/// Times to first token that fall into two groups, since places come free together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwoGroups {
    /// The two groups.
    pub shape: WaitShape,
    /// Median time to first token, milliseconds.
    pub ttft_p50_ms: f64,
    /// 95th percentile of the time to first token, milliseconds.
    pub ttft_p95_ms: f64,
}

/// How throughput grew from one level to the next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingStep {
    /// Users of the smaller level.
    pub from: u32,
    /// Users of the larger one.
    pub to: u32,
    /// Growth of the generated tokens per second for each doubling of the users; 1 is ideal.
    pub gain_per_doubling: f64,
}

/// `base + per_sequence x n`: the time per output token with n sequences at once, by least squares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepFit {
    /// Levels it rests on, at least three.
    pub levels: usize,
    /// Time of a step without sequences, milliseconds.
    pub base_ms: f64,
    /// What each sequence adds, milliseconds.
    pub per_sequence_ms: f64,
    /// Largest deviation of a level from it, as a share of the level's time.
    pub deviation: f64,
}

/// A level's throughput as a whole and without its beginning and end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SteadyFigures {
    /// The level.
    pub level: LevelName,
    /// Generated tokens per second over the whole level.
    pub whole_tokens_per_second: f64,
    /// The same in the steady part.
    pub tokens_per_second: f64,
    /// 95th percentile of the time to first token over the whole level, milliseconds.
    pub whole_ttft_p95_ms: f64,
    /// The same over the requests sent in the steady part.
    pub ttft_p95_ms: f64,
}

/// What the end of a level cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainTail {
    /// The level.
    pub level: LevelName,
    /// Its share of the level's time, 0..=1.
    pub share: f64,
    /// Generated tokens per second in it.
    pub tokens_per_second: f64,
    /// Generated tokens per second in the steady part.
    pub steady_tokens_per_second: f64,
}

/// Means of the stages of a level's times to first token, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageMeans {
    /// The level.
    pub level: LevelName,
    /// From due to sent.
    pub lag_ms: f64,
    /// On the way and in the server around its engine.
    pub network_ms: f64,
    /// In the server's queue.
    pub queue_ms: f64,
    /// From the first step to the first token.
    pub prefill_ms: f64,
}

/// The limits of the client's fitness that a level breached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevelBreaches {
    /// The level.
    pub level: LevelName,
    /// The limits.
    pub breaches: Vec<Breach>,
}

/// The worst of what the client read of itself, over the levels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fitness {
    /// Largest 99th percentile of the schedule lag, milliseconds.
    pub lag_p99_ms: f64,
    /// Smallest share of the load asked for, 0..=1.
    pub delivered_share: Option<f64>,
    /// Largest share of a core that the load's thread used.
    pub thread_cpu_share: Option<f64>,
    /// Largest 99th percentile of the heartbeat, milliseconds.
    pub heartbeat_p99_ms: Option<f64>,
    /// Whether client and server share a machine.
    pub same_host: bool,
    /// Cores of it that the client used at most.
    pub process_cpus: Option<f64>,
    /// Cores of it that the server used at most.
    pub server_cpus: Option<f64>,
}

/// One thing that the evidence shows, with the numbers that show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// The client breached limits of its fitness.
    ClientUnfit {
        /// The worst verdict of a level: a warning, or invalid.
        verdict: Verdict,
        /// The levels that breached limits.
        levels: Vec<LevelBreaches>,
        /// Whether client and server share a machine.
        same_host: bool,
    },
    /// The run was stopped before its end.
    Interrupted {
        /// The level that broke off: its name, requests answered or failed, requests meant.
        level: Option<(LevelName, usize, usize)>,
        /// The levels that never began.
        levels_not_run: Vec<LevelName>,
    },
    /// The run was interrupted and went on later.
    Continued {
        /// The levels that were measured before, at least one.
        levels: Vec<LevelName>,
    },
    /// Requests failed, refused ones aside.
    Failures {
        /// The level.
        level: LevelName,
        /// Requests that failed.
        failed: usize,
        /// Requests sent.
        sent: usize,
        /// What the first one said.
        first: String,
    },
    /// The server refused requests for the time being.
    Refusals {
        /// The level.
        level: LevelName,
        /// Requests that it refused.
        refused: usize,
        /// Requests sent.
        sent: usize,
        /// What it said to the first one.
        first: String,
    },
    /// Requests were due, but never sent.
    Dropped {
        /// The level.
        level: LevelName,
        /// Requests concerned.
        dropped: usize,
        /// Requests due.
        due: usize,
    },
    /// More users asked than the server runs at once, so the rest queued.
    SequenceCap {
        /// Users of the level.
        users: u32,
        /// Sequences that ran at once.
        cap: u32,
        /// Whether the server itself names that number.
        cap_is_known: bool,
        /// Requests that waited at a time.
        queued: u32,
        /// What it is concluded from.
        signs: Signs,
        /// Mean time in the queue that follows from throughput: `(users - cap) / (requests / s)`.
        predicted_wait_ms: f64,
        /// Mean time in the queue as measured; see [`super::measured_wait_ms`].
        measured_wait_ms: Option<f64>,
        /// The two groups of times to first token, if they are two.
        groups: Option<TwoGroups>,
    },
    /// One sign of a cap, or none where the cap says there must be: nothing is concluded.
    CapUndecided {
        /// Users of the level.
        users: u32,
        /// The server's cap, if it says.
        max_num_seqs: Option<u32>,
        /// What was seen.
        signs: Signs,
    },
    /// Requests waited for long although the cap was not reached: for what, nothing shows.
    QueuedBelowCap {
        /// Users of the level.
        users: u32,
        /// The server's cap.
        max_num_seqs: u32,
        /// Who waited.
        queue: QueueSign,
    },
    /// Requests waited while other requests' prompts were computed, though there were places.
    QueuedForPrompts {
        /// The level.
        level: LevelName,
        /// Who waited, and what was computed meanwhile.
        queue: PromptQueue,
        /// Tokens that the server computes in a step at most, if it says.
        max_num_batched_tokens: Option<u32>,
    },
    /// Requests waited because the KV cache was full.
    KvLimit {
        /// The level.
        level: LevelName,
        /// Most requests that ran while others waited.
        running: u32,
        /// Largest share of the KV cache in use, 0..=1.
        kv_usage: f64,
        /// Preemptions during the level, if the server counts them.
        preemptions: Option<u64>,
        /// Later requests that waited for long, if the server gives queue times.
        queue: Option<QueueSign>,
    },
    /// The KV cache was full, and nothing else shows that requests waited for it.
    KvUndecided {
        /// The level.
        level: LevelName,
        /// Largest share of the KV cache in use, 0..=1.
        kv_usage: f64,
    },
    /// Running requests lost their place and were computed again.
    Preempted {
        /// The level.
        level: LevelName,
        /// How often.
        preemptions: u64,
    },
    /// No closed level shows a limit.
    NothingLimited {
        /// The largest level.
        users: u32,
        /// The server's cap, if it says.
        max_num_seqs: Option<u32>,
        /// Whether gauges were read.
        gauges: bool,
        /// Whether queue times were given.
        queue_times: bool,
    },
    /// More users bring no more tokens per second: each gets them as much slower.
    Saturated {
        /// The step between levels that shows it.
        step: ScalingStep,
        /// Generated tokens per second at both levels.
        tokens_per_second: (f64, f64),
        /// Median time per output token at both levels, milliseconds.
        tpot_p50_ms: (f64, f64),
        /// Streams that received tokens at a time at the larger level.
        streams: f64,
    },
    /// How throughput and the time per output token grow with the users.
    Scaling {
        /// Growth of throughput from level to level.
        steps: Vec<ScalingStep>,
        /// The line through the times per output token, if one fits.
        fit: Option<StepFit>,
    },
    /// The prompts of some requests held up the tokens of others.
    PrefillInterference {
        /// The level that shows it most.
        level: LevelName,
        /// Its long gaps.
        gaps: Interference,
        /// The other levels that show it.
        others: Vec<LevelName>,
    },
    /// More requests came than the server can answer.
    RateExceeded {
        /// The level.
        level: LevelName,
        /// How requests piled up.
        trend: ArrivalTrend,
    },
    /// As many requests were answered as came.
    RateHeld {
        /// The level.
        level: LevelName,
        /// That they did not pile up.
        trend: ArrivalTrend,
    },
    /// The times of an open level from when requests were sent and from when they were due.
    FromDue {
        /// The level.
        level: LevelName,
        /// Time to first token since sent and since due, milliseconds.
        ttft_ms: (Spread, Spread),
        /// Latency since sent and since due, milliseconds.
        latency_ms: (Spread, Spread),
        /// How late requests were sent, milliseconds.
        lag_ms: Spread,
    },
    /// Levels without their beginning and end, beside the whole.
    SteadyState {
        /// Those that have a steady part.
        levels: Vec<SteadyFigures>,
    },
    /// Figures that changed in the course of a level.
    Drifts {
        /// The level.
        level: LevelName,
        /// The figures.
        drifts: Vec<Drift>,
    },
    /// Levels whose end took a noticeable part of their time.
    DrainTail {
        /// Those levels.
        levels: Vec<DrainTail>,
    },
    /// Little's law does not hold within the client's own stamps.
    NotSteady {
        /// The level.
        level: LevelName,
        /// Both sides.
        little: Little,
    },
    /// The server's gauges count other requests than the client's stamps.
    GaugesDisagree {
        /// The level.
        level: LevelName,
        /// By the client's stamps.
        in_flight: f64,
        /// By the server's gauges.
        by_gauges: f64,
    },
    /// How many requests met what was expected of them.
    Goodput {
        /// Each level with requests that could.
        levels: Vec<(LevelName, Goodput)>,
    },
    /// Where the time to first token went.
    Stages {
        /// Each level whose server gave its times.
        levels: Vec<StageMeans>,
    },
    /// The server ended answers before the length asked for.
    StoppedEarly {
        /// The level.
        level: LevelName,
        /// Answers that ended with `stop`.
        stopped: usize,
        /// Answers.
        answers: usize,
    },
    /// Answers were longer or shorter than asked for.
    OtherLength {
        /// The level.
        level: LevelName,
        /// Requests concerned.
        requests: usize,
        /// Tokens asked for, if every request asked for the same number.
        asked: Option<u32>,
        /// Fewest tokens that came.
        min: u32,
        /// Most tokens that came.
        max: u32,
    },
    /// Fewer or more chunks came than the server counts tokens.
    ChunkMismatch {
        /// The levels concerned, with both counts.
        levels: Vec<(LevelName, ChunkCheck)>,
    },
    /// The server gave no usage, so tokens are chunks.
    ChunksCounted {
        /// The levels concerned.
        levels: Vec<LevelName>,
    },
    /// Prompts could not be cut to the exact length.
    PromptLength {
        /// Tokens asked for, if every request asked for the same number.
        asked: Option<u32>,
        /// Fewest and most tokens by the server's usage, if it gives any.
        used: Option<(u32, u32)>,
    },
    /// The prefix cache spared the server work.
    PrefixCache {
        /// The level.
        level: LevelName,
        /// Share of the prompt tokens, 0..=1.
        share: f64,
        /// Whether prompts were meant to have beginnings in common.
        is_meant: bool,
    },
    /// The server keeps back what the rules need.
    EvidenceMissing {
        /// Its gauges.
        gauges: bool,
        /// Its queue times.
        queue_times: bool,
    },
    /// How many requests were really on their way.
    Delivered {
        /// Each level and the mean number of requests on their way.
        levels: Vec<(LevelName, f64)>,
    },
    /// The client kept to the limits of its fitness, and how.
    ClientFit {
        /// The worst it did.
        fitness: Fitness,
    },
    /// Percentiles that the sample does not bound.
    Percentiles {
        /// The levels whose 95th percentile has no bound.
        p95: Vec<LevelName>,
        /// The levels whose 99th percentile has no bound.
        p99: Vec<LevelName>,
    },
}
