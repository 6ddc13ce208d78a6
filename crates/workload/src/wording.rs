//! The findings in words, one paragraph each.

use crate::analysis::{Finding, Signs};
use crate::language::Language;
use crate::level::LevelName;
use crate::load::Arrivals;

mod chinese;
mod english;

impl Finding {
    /// The finding as one paragraph.
    pub fn text(&self, language: Language) -> String {
        match language {
            Language::English => english::text(self),
            Language::Chinese => chinese::text(self),
        }
    }
}

/// What a finding is about: the file that has the words for it.
enum Subject {
    /// How requests were sent and ended.
    Client,
    /// What held requests back.
    Limits,
    /// How throughput grew, how levels went, and where time was spent.
    Course,
    /// What came back.
    Answers,
}

impl Subject {
    fn of(finding: &Finding) -> Subject {
        match finding {
            Finding::ClientUnfit { .. }
            | Finding::Interrupted { .. }
            | Finding::Continued { .. }
            | Finding::Failures { .. }
            | Finding::Refusals { .. }
            | Finding::Dropped { .. }
            | Finding::Delivered { .. }
            | Finding::ClientFit { .. } => Subject::Client,
            Finding::SequenceCap { .. }
            | Finding::CapUndecided { .. }
            | Finding::QueuedBelowCap { .. }
            | Finding::QueuedForPrompts { .. }
            | Finding::KvLimit { .. }
            | Finding::KvUndecided { .. }
            | Finding::Preempted { .. }
            | Finding::NothingLimited { .. } => Subject::Limits,
            Finding::Saturated { .. }
            | Finding::Scaling { .. }
            | Finding::PrefillInterference { .. }
            | Finding::RateExceeded { .. }
            | Finding::RateHeld { .. }
            | Finding::FromDue { .. }
            | Finding::SteadyState { .. }
            | Finding::Drifts { .. }
            | Finding::DrainTail { .. }
            | Finding::NotSteady { .. }
            | Finding::GaugesDisagree { .. }
            | Finding::Stages { .. } => Subject::Course,
            Finding::Goodput { .. }
            | Finding::StoppedEarly { .. }
            | Finding::OtherLength { .. }
            | Finding::ChunkMismatch { .. }
            | Finding::ChunksCounted { .. }
            | Finding::PromptLength { .. }
            | Finding::PrefixCache { .. }
            | Finding::EvidenceMissing { .. }
            | Finding::Percentiles { .. } => Subject::Answers,
        }
    }
}

/// `concurrency 1, 4, 8`: the users of closed levels together behind `users`, then the open levels.
fn names(
    levels: &[LevelName],
    separator: &str,
    users: &str,
    schedule: fn(Arrivals) -> String,
) -> String {
    let closed = levels.iter().filter_map(|level| match level {
        LevelName::Users(users) => Some(users.to_string()),
        LevelName::Schedule(_) => None,
    });
    let open = levels.iter().filter_map(|level| match level {
        LevelName::Users(_) => None,
        LevelName::Schedule(arrivals) => Some(schedule(*arrivals)),
    });
    let closed = closed.collect::<Vec<_>>().join(separator);
    let closed = (!closed.is_empty()).then(|| format!("{users}{closed}"));
    closed.into_iter().chain(open).collect::<Vec<_>>().join(separator)
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

/// A share with one digit more, for shares near the ends.
fn fine_percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// A time with about three digits: `15.39 s`, `148 ms`, `12.3 ms`, `0.25 ms`.
fn time(milliseconds: f64) -> String {
    match milliseconds {
        ms if 999.5 <= ms => format!("{:.2} s", ms / 1000.0),
        ms if 99.95 <= ms => format!("{ms:.0} ms"),
        ms if 9.995 <= ms => format!("{ms:.1} ms"),
        ms => format!("{ms:.2} ms"),
    }
}

/// `sign` of each sign that is there, joined by `separator`.
fn signs(signs: &Signs, separator: &str, words: [fn(&Signs) -> Option<String>; 3]) -> String {
    words.iter().filter_map(|word| word(signs)).collect::<Vec<_>>().join(separator)
}

/// `part` of each of `items`, joined by `separator`.
fn each<T>(items: &[T], separator: &str, part: impl Fn(&T) -> String) -> String {
    items.iter().map(part).collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests;
