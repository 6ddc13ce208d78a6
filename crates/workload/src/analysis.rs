//! What limited the server at each level, as far as the evidence goes.
//!
//! A finding is drawn from numbers by a rule and carries those numbers; how it is said is the
//! business of [`crate::wording`]. A limit is only claimed if two independent signs agree.

use serde::{Deserialize, Serialize};

use crate::percentile::sample_size_with_bound;
use crate::summary::LevelSummary;

/// Everything the rules may look at.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The levels that ran, the last one possibly not to its end.
    pub levels: &'a [LevelSummary],
    /// Users of the levels that were meant but never began.
    pub levels_not_run: &'a [u32],
    /// The server's cap on sequences that run at once, if it says.
    pub max_num_seqs: Option<u32>,
    /// Whether the server has gauges of running and waiting requests.
    pub has_gauges: bool,
    /// Whether prompts were cut to length with the server's own tokenizer.
    pub exact_prompts: bool,
}

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

/// One thing that the evidence shows, with the numbers that show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// The run was stopped before its end.
    Interrupted {
        /// The level that broke off: users, requests answered or failed, requests meant.
        level: Option<(u32, usize, usize)>,
        /// Users of the levels that never began.
        levels_not_run: Vec<u32>,
    },
    /// Requests failed.
    Failures {
        /// Users of the level.
        users: u32,
        /// Requests that failed.
        failed: usize,
        /// Requests sent.
        sent: usize,
        /// What the first one said.
        first: String,
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
        /// Mean time in the queue as measured; see [`measured_wait_ms`].
        measured_wait_ms: Option<f64>,
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
    /// Requests waited because the KV cache was full.
    KvLimit {
        /// Users of the level.
        users: u32,
        /// Most requests that ran while others waited.
        running: u32,
        /// Largest share of the KV cache in use, 0..=1.
        kv_usage: f64,
        /// Preemptions during the level, if the server counts them.
        preemptions: Option<u64>,
    },
    /// Running requests lost their place and were computed again.
    Preempted {
        /// Users of the level.
        users: u32,
        /// How often.
        preemptions: u64,
    },
    /// No level shows a limit.
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
    /// Answers were longer or shorter than asked for.
    OtherLength {
        /// Users of the level.
        users: u32,
        /// Requests concerned.
        requests: usize,
        /// Tokens asked for, if every request asked for the same number.
        asked: Option<u32>,
        /// Fewest tokens that came.
        min: u32,
        /// Most tokens that came.
        max: u32,
    },
    /// The server gave no usage, so tokens are chunks.
    ChunksCounted {
        /// Users of the levels concerned.
        levels: Vec<u32>,
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
        /// Users of the level.
        users: u32,
        /// Share of the prompt tokens, 0..=1.
        share: f64,
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
        /// Users of each level and the mean number of requests on their way.
        levels: Vec<(u32, f64)>,
    },
    /// Percentiles that the sample does not bound.
    Percentiles {
        /// Users of the levels whose 95th percentile has no bound.
        p95: Vec<u32>,
        /// Users of the levels whose 99th percentile has no bound.
        p99: Vec<u32>,
    },
}

/// Readings or requests that show something must be this share of all to count.
const NOTICEABLE: f64 = 0.1;
/// A number of running requests is a plateau if it stood in this share of the readings with a
/// queue; the rest are the moments in which finished requests give way to new ones.
const GAUGE_HOLDS: f64 = 0.5;
/// A number of streams is a plateau if it stood for this share of the time; new requests are
/// computed before they stream, which takes the rest.
const STREAMS_HOLD: f64 = 0.3;
/// Fewer readings or requests than this are chance.
const LEAST: usize = 2;
/// The prefix cache is worth a word from this share of the prompt tokens on.
const CACHE_NOTICEABLE: f64 = 0.01;

/// Draws every finding that `evidence` supports, the gravest first.
pub fn analyse(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(interrupted(evidence));
    findings.extend(evidence.levels.iter().filter_map(failures));
    findings.extend(limits(evidence));
    findings.extend(evidence.levels.iter().filter_map(other_length));
    findings.extend(chunks_counted(evidence.levels));
    findings.extend(prompt_length(evidence));
    findings.extend(evidence.levels.iter().filter_map(prefix_cache));
    findings.extend(evidence_missing(evidence));
    findings.extend(delivered(evidence.levels));
    findings.extend(percentiles(evidence.levels));
    findings
}

fn interrupted(evidence: &Evidence<'_>) -> Option<Finding> {
    let broken = evidence.levels.iter().find(|level| !level.is_complete());
    let level = broken.map(|level| {
        let ended = level.counts.ok + level.counts.failed;
        (level.plan.users().unwrap_or(0), ended, level.plan.requests())
    });
    let levels_not_run = evidence.levels_not_run.to_vec();
    let whole = level.is_none() && levels_not_run.is_empty();
    (!whole).then_some(Finding::Interrupted { level, levels_not_run })
}

fn failures(level: &LevelSummary) -> Option<Finding> {
    Some(Finding::Failures {
        users: level.plan.users()?,
        failed: level.counts.failed,
        sent: level.counts.sent,
        first: level.first_failure.clone().or(level.first_refusal.clone())?,
    })
}

/// What held each level back, or that nothing did.
fn limits(evidence: &Evidence<'_>) -> Vec<Finding> {
    let cap = evidence.max_num_seqs;
    let mut findings = Vec::new();
    for level in evidence.levels.iter().filter(|level| 0 < level.counts.ok) {
        let memory = kv_limit(level, cap);
        // A full cache explains a plateau and a queue as well as a cap would.
        if !matches!(memory, Some(Finding::KvLimit { .. })) {
            findings.extend(sequence_cap(level, cap));
        }
        findings.extend(memory);
    }
    let measured = evidence.levels.iter().filter(|level| 0 < level.counts.ok);
    if findings.is_empty()
        && let Some(users) = measured.clone().filter_map(|level| level.plan.users()).max()
    {
        findings.push(Finding::NothingLimited {
            users,
            max_num_seqs: cap,
            gauges: measured.clone().any(|level| level.gauges.is_some()),
            queue_times: measured.clone().any(|level| level.queue.is_some()),
        });
    }
    findings
}

fn sequence_cap(level: &LevelSummary, known: Option<u32>) -> Option<Finding> {
    let users = level.plan.users()?;
    if let Some(max_num_seqs) = known.filter(|cap| users <= *cap) {
        let queued = |queue| Finding::QueuedBelowCap { users, max_num_seqs, queue };
        return queue_sign(level).map(queued);
    }
    let signs = signs(level, known);
    let seen = signs.gauges.map(|sign| sign.running).or(signs.streams.map(|sign| sign.top));
    let cap = known.or(seen);
    match cap {
        Some(cap) if 2 <= signs.count() => {
            let requests_per_ms = requests_per_ms(level)?;
            Some(Finding::SequenceCap {
                users,
                cap,
                cap_is_known: known.is_some(),
                queued: signs.gauges.map_or(users - cap, |sign| sign.waiting),
                signs,
                predicted_wait_ms: f64::from(users - cap) / requests_per_ms,
                measured_wait_ms: measured_wait_ms(level),
            })
        }
        _ if known.is_some() || 0 < signs.count() => {
            Some(Finding::CapUndecided { users, max_num_seqs: known, signs })
        }
        _ => None,
    }
}

fn signs(level: &LevelSummary, known: Option<u32>) -> Signs {
    let gauges = gauge_sign(level, known);
    let streams = stream_sign(level, known);
    // Without a cap to compare with, the two numbers must at least be the same.
    let streams = match (gauges, streams) {
        (Some(gauges), Some(streams)) if !near(streams.top, gauges.running) => None,
        _ => streams,
    };
    Signs { gauges, queue: queue_sign(level), streams }
}

fn gauge_sign(level: &LevelSummary, known: Option<u32>) -> Option<GaugeSign> {
    let gauges = level.gauges?;
    let holds = enough(gauges.samples_waiting, gauges.samples)
        && GAUGE_HOLDS * gauges.samples_waiting as f64 <= gauges.samples_at_top as f64;
    let is_cap = match known {
        Some(cap) => gauges.running_top == cap,
        None => Some(gauges.running_top) < level.plan.users() && !kv_full(level),
    };
    (holds && is_cap).then(|| GaugeSign {
        running: gauges.running_top,
        waiting: gauges.waiting_at_top,
        share: gauges.samples_at_top as f64 / gauges.samples as f64,
        samples: gauges.samples,
    })
}

fn queue_sign(level: &LevelSummary) -> Option<QueueSign> {
    let queue = level.queue.filter(|queue| LEAST <= queue.later_waited)?;
    Some(QueueSign { waited: queue.later_waited, later: queue.later, max_ms: queue.max_ms })
}

fn stream_sign(level: &LevelSummary, known: Option<u32>) -> Option<StreamSign> {
    let streams = level.streams?;
    let is_cap = known.is_none_or(|cap| near(streams.top, cap));
    let flat = Some(streams.top) < level.plan.users() && STREAMS_HOLD <= streams.share_at_top;
    (flat && is_cap).then_some(StreamSign { top: streams.top, share: streams.share_at_top })
}

/// Whether two counts of concurrent requests are the same but for one or two per cent.
fn near(one: u32, other: u32) -> bool {
    one.abs_diff(other) <= (other / 50).max(1)
}

fn enough(showing: usize, all: usize) -> bool {
    LEAST <= showing && NOTICEABLE * all as f64 <= showing as f64
}

/// Successful requests per millisecond.
fn requests_per_ms(level: &LevelSummary) -> Option<f64> {
    Some(level.counts.ok as f64 / (1000.0 * level.total_time_s?))
}

/// Mean time in the server's queue: by its own queue times or, without them, the mean number of
/// waiting requests over the throughput in requests (Little's law).
pub fn measured_wait_ms(level: &LevelSummary) -> Option<f64> {
    let by_gauges = || Some(level.gauges?.waiting_mean / requests_per_ms(level)?);
    level.queue.map(|queue| queue.mean_ms).or_else(by_gauges)
}

fn kv_full(level: &LevelSummary) -> bool {
    level.gauges.is_some_and(|gauges| enough(gauges.samples_kv_full, gauges.samples))
}

fn kv_limit(level: &LevelSummary, cap: Option<u32>) -> Option<Finding> {
    let users = level.plan.users()?;
    let gauges = level.gauges?;
    let preemptions = gauges.preemptions.filter(|count| 0 < *count);
    let below_cap = cap.is_none_or(|cap| gauges.running_top < cap);
    if kv_full(level) && below_cap {
        return Some(Finding::KvLimit {
            users,
            running: gauges.running_top,
            kv_usage: gauges.kv_usage_max?,
            preemptions,
        });
    }
    Some(Finding::Preempted { users, preemptions: preemptions? })
}

fn other_length(level: &LevelSummary) -> Option<Finding> {
    let tokens = level.tokens.filter(|_| 0 < level.other_length)?;
    Some(Finding::OtherLength {
        users: level.plan.users()?,
        requests: level.other_length,
        asked: level.plan.lengths.output.constant().map(|tokens| tokens as u32),
        min: tokens.min as u32,
        max: tokens.max as u32,
    })
}

fn chunks_counted(levels: &[LevelSummary]) -> Option<Finding> {
    let levels = users_where(levels, |level| 0 < level.without_usage);
    (!levels.is_empty()).then_some(Finding::ChunksCounted { levels })
}

fn prompt_length(evidence: &Evidence<'_>) -> Option<Finding> {
    let asked = evidence.levels.first()?.plan.lengths.prompt.constant();
    let asked = asked.map(|tokens| tokens as u32);
    let used = evidence.levels.iter().filter_map(|level| level.prompt_tokens);
    let used = used.map(|spread| (spread.min as u32, spread.max as u32));
    let used = used.reduce(|all, level| (all.0.min(level.0), all.1.max(level.1)));
    let as_asked = match used {
        Some(_) => evidence.levels.iter().all(|level| level.other_prompt_length == 0),
        None => evidence.exact_prompts,
    };
    (!as_asked).then_some(Finding::PromptLength { asked, used })
}

fn prefix_cache(level: &LevelSummary) -> Option<Finding> {
    let share = level.cached_share.filter(|share| CACHE_NOTICEABLE <= *share)?;
    Some(Finding::PrefixCache { users: level.plan.users()?, share })
}

fn evidence_missing(evidence: &Evidence<'_>) -> Option<Finding> {
    let mut measured = evidence.levels.iter().filter(|level| 0 < level.counts.ok).peekable();
    measured.peek()?;
    let queue_times = !measured.any(|level| level.queue.is_some());
    let gauges = !evidence.has_gauges;
    (gauges || queue_times).then_some(Finding::EvidenceMissing { gauges, queue_times })
}

fn delivered(levels: &[LevelSummary]) -> Option<Finding> {
    let levels: Vec<_> = levels
        .iter()
        .filter_map(|level| Some((level.plan.users()?, level.delivered_concurrency?)))
        .collect();
    (!levels.is_empty()).then_some(Finding::Delivered { levels })
}

fn percentiles(levels: &[LevelSummary]) -> Option<Finding> {
    let below = |q: f64| {
        let least = sample_size_with_bound(q);
        users_where(levels, |level| (1..least).contains(&level.counts.ok))
    };
    let (p95, p99) = (below(0.95), below(0.99));
    let bounded = p95.is_empty() && p99.is_empty();
    (!bounded).then_some(Finding::Percentiles { p95, p99 })
}

fn users_where(levels: &[LevelSummary], is: impl Fn(&LevelSummary) -> bool) -> Vec<u32> {
    levels.iter().filter(|level| is(level)).filter_map(|level| level.plan.users()).collect()
}

#[cfg(test)]
mod tests;
