//! Room for drafts: what a small step may compute beside what is known.
//!
//! Drafts come last, out of what the step has left of positions and blocks: they never keep a sequence
//! from advancing or from beginning, and nobody is preempted for them. Where all free blocks are cached, a
//! draft that crosses the end of a block takes the one of least worth, as any growth does. What they do
//! not need goes back after the step. They are not charged to tenants; what is accepted of them is.

use super::*;
use crate::config::Speculation;

impl<P> Scheduler<P> {
    /// Gives each row that chooses a token the same room for a draft, as far as the step stays small,
    /// blocks are free and its request may still have tokens.
    pub(super) fn make_room_for_drafts(&mut self, rows: &mut [PlannedRow]) {
        let Speculation { draft_tokens_max, step_positions_max } = self.config.speculation;
        let positions: usize = rows.iter().map(|row| row.compute.len()).sum();
        let most = step_positions_max.min(self.config.max_num_batched_tokens) as usize;
        let drafting = rows.iter().filter(|row| 0 < self.draft_max(row)).count();
        let share = most.saturating_sub(positions).checked_div(drafting).unwrap_or(0);
        let share = share.min(draft_tokens_max as usize);
        for row in rows {
            let wanted = share.min(self.draft_max(row));
            if 0 < wanted {
                let table = &mut self.running[row.index].table;
                row.draft_max = self.kv.grow_as_far(table, row.compute.end, wanted);
            }
        }
    }

    /// Most tokens of a row's draft that its request has a use for.
    fn draft_max(&self, row: &PlannedRow) -> usize {
        let sequence = &self.running[row.index];
        if row.compute.end == sequence.tokens.len() { sequence.draft_max() } else { 0 }
    }
}
