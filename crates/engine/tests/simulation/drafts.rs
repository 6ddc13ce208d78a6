//! The rules of drafts once more: how much room each row of a step has for one.

use std::collections::BTreeSet;

use crate::device::SeenRow;
use crate::model::Model;
use crate::sometimes::Sometimes;

impl Model {
    /// Checks the room for drafts of a step of the policies that go by rank, whose rows are those of
    /// all running sequences if positions are left.
    pub fn check_drafts(&self, rows: &[SeenRow], sometimes: &mut Sometimes) {
        let size = self.config.block_size as usize;
        let without_draft = |row: &SeenRow| row.compute.end.div_ceil(size);
        let held: BTreeSet<_> =
            rows.iter().flat_map(|row| row.held_of_first(without_draft(row))).collect();
        let free = self.config.block_count as usize - held.len();
        for (row, room) in rows.iter().zip(self.draft_rooms(rows, free)) {
            assert_eq!(row.draft_max, room, "{:?} has another room for its draft", row.id);
        }
        let asked = self.config.speculation.draft_tokens_max.min(1) as usize;
        let limited = rows.iter().any(|row| row.draft_max < asked.min(self.wanted(row)));
        if limited && self.share(rows) == 0 {
            sometimes.happened("no drafts in a large step");
        } else if limited {
            sometimes.happened("draft cut by the end of the pool");
        }
        let share = self.share(rows);
        if rows.iter().any(|row| row.draft_max < share && row.draft_max == self.wanted(row)) {
            sometimes.happened("draft cut by max_tokens");
        }
    }

    /// Most tokens of the draft of each row, if so many blocks are free beside those that the rows
    /// must have.
    pub fn draft_rooms(&self, rows: &[SeenRow], mut free: usize) -> Vec<usize> {
        let block_size = self.config.block_size as usize;
        let share = self.share(rows);
        let room = |row: &SeenRow| {
            let mut end = row.compute.end;
            for _ in 0..share.min(self.wanted(row)) {
                if end.is_multiple_of(block_size) {
                    let Some(left) = free.checked_sub(self.config.kv_groups.count()) else { break };
                    free = left;
                }
                end += 1;
            }
            end - row.compute.end
        };
        rows.iter().map(room).collect()
    }

    /// What each row gets of the positions that a step with drafts may have.
    fn share(&self, rows: &[SeenRow]) -> usize {
        let speculation = self.config.speculation;
        let most = speculation.step_positions_max.min(self.config.max_num_batched_tokens) as usize;
        let positions: usize = rows.iter().map(|row| row.compute.len()).sum();
        let drafting = rows.iter().filter(|row| 0 < self.wanted(row)).count();
        let left = most.saturating_sub(positions) / drafting.max(1);
        left.min(speculation.draft_tokens_max as usize)
    }

    /// Tokens that the request of a row may still have beside the next, if this step gives that.
    fn wanted(&self, row: &SeenRow) -> usize {
        let request = &self.client(row.id).request;
        let generated = row.tokens.len() - row.prompt_len;
        let due = row.compute.end == row.tokens.len();
        if due { request.max_tokens as usize - generated - 1 } else { 0 }
    }

    /// Follows what became of a row's draft, before its client is told.
    pub fn follow_draft(&mut self, row: &SeenRow, sometimes: &mut Sometimes) {
        let client = self.client_mut(row.id);
        client.told_of_step = 0;
        if row.drafted == 0 {
            return;
        }
        client.draft_tokens += row.drafted as u64;
        self.computed_tokens += row.drafted as u64;
        self.drafts[0] += 1;
        self.drafts[1] += row.drafted as u64;
        let known = row.tokens.len();
        sometimes.happened(match row.given {
            1 => "draft rejected at its first token",
            given if given == row.drafted + 1 => "draft accepted whole",
            _ => "draft rejected in its middle",
        });
        if row.has_released() && row.given <= row.drafted {
            sometimes.happened("window: draft rejected behind blocks that were given back");
        }
        if known == row.prompt_len {
            sometimes.happened("draft behind the last chunk of a prompt");
        }
        let block_size = self.config.block_size as usize;
        if known / block_size < (known + row.drafted - 1) / block_size {
            sometimes.happened("draft across blocks");
        }
    }
}
