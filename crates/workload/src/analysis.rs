//! What limited the server at each level, as far as the evidence goes.
//!
//! A finding is drawn from numbers by a rule and carries those numbers; how it is said is the
//! business of [`crate::wording`]. A limit is only claimed if two independent signs agree.

use crate::level::LevelName;
use crate::summary::LevelSummary;
use crate::validity::HostFacts;

mod answers;
mod client;
mod finding;
mod limits;
mod scaling;
mod time;

pub use finding::{
    DrainTail, Finding, Fitness, GaugeSign, LevelBreaches, QueueSign, ScalingStep, Signs,
    StageMeans, SteadyFigures, StepFit, StreamSign, TwoGroups,
};
pub use limits::measured_wait_ms;

/// Everything the rules may look at.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The levels that ran, the last one possibly not to its end.
    pub levels: &'a [LevelSummary],
    /// The levels that were meant but never began.
    pub levels_not_run: &'a [LevelName],
    /// The server's cap on sequences that run at once, if it says.
    pub max_num_seqs: Option<u32>,
    /// Tokens that the server computes in a step at most, if it says.
    pub max_num_batched_tokens: Option<u32>,
    /// Whether the server has gauges of running and waiting requests.
    pub has_gauges: bool,
    /// Whether prompts were cut to length with the server's own tokenizer.
    pub exact_prompts: bool,
    /// The client's machine; `None` for levels that nobody sent, such as simulated ones.
    pub host: Option<&'a HostFacts>,
}

impl<'a> Evidence<'a> {
    /// The levels with at least one success.
    fn measured(&self) -> impl Iterator<Item = &'a LevelSummary> + Clone {
        self.levels.iter().filter(|level| 0 < level.counts.ok)
    }
}

/// Draws every finding that `evidence` supports, the gravest first.
pub fn analyse(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(client::unfit(evidence));
    findings.extend(answers::interrupted(evidence));
    for level in evidence.levels {
        findings.extend(answers::failures(level));
        findings.extend(answers::refusals(level));
        findings.extend(answers::dropped(level));
    }
    let limits = limits::limits(evidence);
    let saturated = scaling::saturated(evidence, &limits);
    let has_limit = saturated.is_some() || !limits.is_empty();
    findings.extend(limits);
    findings.extend(saturated);
    findings.extend((!has_limit).then(|| limits::nothing_limited(evidence)).flatten());
    findings.extend(scaling::scaling(evidence));
    findings.extend(scaling::interference(evidence));
    findings.extend(evidence.levels.iter().flat_map(time::rate));
    findings.extend(time::steady_state(evidence.levels));
    findings.extend(time::drain_tail(evidence.levels));
    findings.extend(evidence.levels.iter().flat_map(time::unsteady));
    findings.extend(time::stages(evidence.levels));
    findings.extend(answers::goodput(evidence.levels));
    findings.extend(evidence.levels.iter().flat_map(answers::lengths));
    findings.extend(answers::chunk_mismatch(evidence.levels));
    findings.extend(answers::chunks_counted(evidence.levels));
    findings.extend(answers::prompt_length(evidence));
    findings.extend(evidence.levels.iter().filter_map(answers::prefix_cache));
    findings.extend(answers::evidence_missing(evidence));
    findings.extend(client::delivered(evidence.levels));
    findings.extend(client::fit(evidence));
    findings.extend(answers::percentiles(evidence.levels));
    findings
}

fn name(level: &LevelSummary) -> LevelName {
    LevelName::of(&level.plan)
}

fn names_where(levels: &[LevelSummary], is: impl Fn(&LevelSummary) -> bool) -> Vec<LevelName> {
    levels.iter().filter(|level| is(level)).map(name).collect()
}

#[cfg(test)]
mod tests;
