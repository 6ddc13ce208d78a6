//! The engine's state in numbers, for metrics and plans.

use crate::clock::Nanos;
use crate::config::DRAFT_TOKENS_MAX;

/// Gauges and running totals at one moment between two steps.
///
/// At every moment `requests_accepted_total` = finished + cancelled + failed + running + waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When something last changed.
    pub now: Nanos,
    /// Sequences that hold blocks and take part in steps.
    pub running: u32,
    /// Requests that wait for a place, the preempted included.
    pub waiting: u32,
    /// Blocks that sequences hold; cached blocks that nobody holds are free.
    pub blocks_used: u32,
    /// Blocks in the pool.
    pub blocks_total: u32,
    /// Rows of the last step.
    pub last_step_rows: u32,
    /// Positions computed in the last step.
    pub last_step_tokens: u32,
    /// Steps that the device ran.
    pub steps_total: u64,
    /// Positions computed in all steps, those of drafts and those computed again after a preemption
    /// included.
    pub computed_tokens_total: u64,
    /// Prompt tokens computed; cached ones and those computed again are not counted.
    pub prompt_tokens_total: u64,
    /// Tokens generated.
    pub generation_tokens_total: u64,
    /// Drafts that were computed.
    pub drafts_total: u64,
    /// Tokens of these.
    pub draft_tokens_total: u64,
    /// Tokens of these that were accepted, by their place in the draft.
    pub accepted_draft_tokens_total: [u64; DRAFT_TOKENS_MAX],
    /// Times that a running sequence lost its blocks.
    pub preemptions_total: u64,
    /// Tokens looked up in the prefix cache: those of each request when first
    /// scheduled, unless it asks to compute its whole prompt.
    pub prefix_queries_total: u64,
    /// Tokens of these that were found.
    pub prefix_hits_total: u64,
    /// Cached blocks whose content was dropped to reuse them.
    pub prefix_evictions_total: u64,
    /// Blocks cached although another content had the same hash (harmless: tokens are compared).
    pub prefix_collisions_total: u64,
    /// Requests taken.
    pub requests_accepted_total: u64,
    /// Requests ended by a stop token or by length.
    pub requests_finished_total: u64,
    /// Requests ended by a cancel.
    pub requests_cancelled_total: u64,
    /// Requests that failed.
    pub requests_failed_total: u64,
    /// Requests of these that failed alone by a [`Cause::Fault`](crate::Cause::Fault) of the device.
    pub rows_faulty_total: u64,
}

impl Snapshot {
    /// The share of blocks in use, 0 to 1.
    pub fn kv_usage(&self) -> f64 {
        ratio(u64::from(self.blocks_used), u64::from(self.blocks_total))
    }

    /// The share of looked-up tokens that were found, 0 to 1, since the start.
    pub fn prefix_hit_rate(&self) -> f64 {
        ratio(self.prefix_hits_total, self.prefix_queries_total)
    }
}

/// `part / whole`; zero when there is nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_nothing_are_zero() {
        let snapshot = Snapshot::default();
        assert_eq!((snapshot.kv_usage(), snapshot.prefix_hit_rate()), (0.0, 0.0));
    }

    #[test]
    fn shares_are_parts_of_the_whole() {
        let snapshot = Snapshot {
            blocks_used: 1,
            blocks_total: 4,
            prefix_hits_total: 3,
            prefix_queries_total: 6,
            ..Snapshot::default()
        };
        assert_eq!((snapshot.kv_usage(), snapshot.prefix_hit_rate()), (0.25, 0.5));
    }
}
