//! The rules of blocks once more, and what happens with windows: a layer with one keeps no block behind it.

use engine::{EngineConfig, KvGroups, RequestId};

use crate::device::{SeenRow, first_seen};
use crate::model::Model;
use crate::sometimes::Sometimes;

impl Model {
    /// Most blocks that a sequence of so many positions holds at once, wherever its steps begin.
    pub fn blocks_of(&self, tokens: usize) -> usize {
        let groups = 0..self.config.kv_groups.count();
        groups.map(|group| self.blocks_of_group(group, tokens)).sum()
    }

    fn blocks_of_group(&self, group: usize, tokens: usize) -> usize {
        let size = self.config.block_size as usize;
        let most = self.config.max_num_batched_tokens as usize;
        let held = |start: usize| {
            let end = tokens.min(start + most);
            end.div_ceil(size) - self.behind(group, start)
        };
        (0..tokens).map(held).max().unwrap_or(0)
    }

    /// Blocks of a group that positions from `start` on do not see.
    fn behind(&self, group: usize, start: usize) -> usize {
        first_seen(self.config.kv_groups, group, start) / self.config.block_size as usize
    }

    /// Counts a beginning that was found, but not all of its blocks.
    pub fn count_hit_with_window(&self, row: &SeenRow, sometimes: &mut Sometimes) {
        if 0 < row.compute.start && row.has_released() {
            sometimes.happened("window: hit without the blocks behind it");
        }
    }

    /// Counts who loses its blocks after it gave some back by itself.
    pub fn count_preempted_with_window(&self, id: RequestId, sometimes: &mut Sometimes) {
        let KvGroups { full, .. } = self.config.kv_groups;
        let computed = self.client(id).computed;
        if 0 < self.behind(full as usize, computed) {
            sometimes.happened("window: preempted after blocks were given back");
        }
    }

    /// Counts what steps with windows have.
    pub fn count_windows(&self, rows: &[SeenRow], sometimes: &mut Sometimes) {
        let EngineConfig { kv_groups: KvGroups { full, windowed, window }, block_size, .. } =
            self.config;
        if windowed == 0 {
            return;
        }
        if rows.iter().any(SeenRow::has_released) {
            sometimes.happened("window: blocks behind it were given back");
            if full == 0 {
                sometimes.happened("window: all layers have one and gave blocks back");
            }
            let lengths = [
                (window == 1, "window: one position"),
                (window < block_size, "window: shorter than a block"),
                (window == block_size, "window: as long as a block"),
                (window == block_size + 1, "window: a position longer than a block"),
            ];
            for (_, event) in lengths.into_iter().filter(|(is_so, _)| *is_so) {
                sometimes.happened(event);
            }
        }
        if rows.iter().any(|row| window as usize <= row.compute.len()) {
            sometimes.happened("window: a chunk is as long as the window");
        }
    }
}
