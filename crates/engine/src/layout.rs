//! How positions are kept in blocks: groups of layers, and how many blocks a sequence needs.

/// The groups that a model's layers form: those of a group keep their keys and values in the same blocks.
///
/// All have equally many layers, so that a block of the one pool serves any of them. Layers with a sliding
/// window are in groups of their own: what lies behind the window there is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvGroups {
    /// Groups whose layers see all positions; the first ones.
    pub full: u32,
    /// Groups whose layers see the last `window` positions; those behind them.
    pub windowed: u32,
    /// Positions that a layer of the latter sees, the present one included; at least 1 if there are such.
    pub window: u32,
}

impl KvGroups {
    /// All layers in one group that keeps everything.
    pub const ONE: KvGroups = KvGroups { full: 1, windowed: 0, window: 0 };

    /// How many groups there are.
    pub fn count(self) -> usize {
        (self.full + self.windowed) as usize
    }

    /// Whether the layers of a group have a window.
    pub fn is_windowed(self, group: usize) -> bool {
        self.full as usize <= group
    }

    /// The first position that layers with a window read when the positions from `computed` on are computed.
    pub fn first_read(self, computed: usize) -> usize {
        if self.windowed == 0 { 0 } else { (computed + 1).saturating_sub(self.window as usize) }
    }
}

/// Blocks, groups and steps: what decides how many blocks a sequence holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvLayout {
    /// Positions in a block; at least 1.
    pub block_size: u32,
    /// The groups of layers, each with blocks of its own.
    pub groups: KvGroups,
    /// Most positions of a step; at least 1.
    pub step_max: u32,
}

impl KvLayout {
    /// Most blocks that a sequence of so many positions holds at once, all groups together.
    pub fn blocks_of(&self, tokens: u64) -> u64 {
        let KvGroups { full, windowed, .. } = self.groups;
        let blocks = |groups, is_windowed| u64::from(groups) * self.most(is_windowed, tokens);
        blocks(full, false).saturating_add(blocks(windowed, true))
    }

    /// The same of one group.
    pub fn blocks_of_group(&self, group: usize, tokens: usize) -> usize {
        self.most(self.groups.is_windowed(group), tokens as u64) as usize
    }

    /// A step reads `window - 1` positions before its first one; where in a block they begin is open.
    fn most(&self, is_windowed: bool, tokens: u64) -> u64 {
        let size = u64::from(self.block_size);
        let all = tokens.div_ceil(size);
        if !is_windowed {
            return all;
        }
        let seen = u64::from(self.groups.window) + u64::from(self.step_max).min(tokens) - 1;
        all.min((seen + size).saturating_sub(2) / size + 1)
    }

    /// The most positions of a sequence that so many blocks hold, if it is alone.
    pub fn longest(&self, block_count: u32) -> u32 {
        let fits = |tokens| self.blocks_of(tokens) <= u64::from(block_count);
        let (mut fitting, mut beyond) = (0, u64::from(u32::MAX) + 1);
        while fitting + 1 < beyond {
            let middle = fitting.midpoint(beyond);
            if fits(middle) {
                fitting = middle;
            } else {
                beyond = middle;
            }
        }
        fitting as u32
    }

    /// Blocks from the front of a table that layers with a window read no more once the positions
    /// `0..computed` are computed.
    pub fn blocks_behind(&self, computed: usize) -> usize {
        self.groups.first_read(computed) / self.block_size as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(block_size: u32, window: u32, step_max: u32) -> KvLayout {
        KvLayout { block_size, groups: KvGroups { full: 1, windowed: 2, window }, step_max }
    }

    /// The blocks of a windowed group, counted step by step, wherever steps begin and end.
    fn counted(layout: KvLayout, tokens: usize) -> usize {
        let size = layout.block_size as usize;
        let held = |start: usize| {
            let end = tokens.min(start + layout.step_max as usize);
            end.div_ceil(size) - layout.blocks_behind(start)
        };
        (0..tokens).map(held).max().unwrap_or(0)
    }

    #[test]
    fn the_most_blocks_are_those_of_the_worst_step() {
        for size in [1, 2, 3, 4, 8] {
            for window in [1, 2, 3, 4, 5, 8, 9, 30] {
                for step in [1, 2, 4, 7, 40] {
                    let layout = layout(size, window, step);
                    for tokens in 0..60 {
                        let most = layout.blocks_of_group(1, tokens);
                        assert_eq!(most, counted(layout, tokens), "{layout:?}, {tokens} tokens");
                        let all = tokens.div_ceil(size as usize);
                        assert_eq!(layout.blocks_of_group(0, tokens), all);
                        assert_eq!(layout.blocks_of(tokens as u64), (all + 2 * most) as u64);
                    }
                }
            }
        }
    }

    #[test]
    fn a_block_is_behind_the_window_with_its_last_position() {
        let layout = layout(4, 6, 1);
        let behind = [8, 9, 12, 13].map(|computed| layout.blocks_behind(computed));
        assert_eq!(behind, [0, 1, 1, 2]);
        let aligned = KvLayout { groups: KvGroups { window: 8, ..layout.groups }, ..layout };
        assert_eq!([10, 11].map(|computed| aligned.blocks_behind(computed)), [0, 1]);
    }

    #[test]
    fn the_longest_sequence_is_the_last_that_fits() {
        let layouts = [layout(4, 6, 3), layout(32, 512, 256)];
        for layout in layouts {
            for block_count in [1, 7, 60, 1000] {
                let longest = u64::from(layout.longest(block_count));
                assert!(layout.blocks_of(longest) <= u64::from(block_count));
                assert!(u64::from(block_count) < layout.blocks_of(longest + 1));
            }
        }
        let one = KvLayout { groups: KvGroups::ONE, ..layout(4, 1, 3) };
        assert_eq!((one.longest(7), one.longest(u32::MAX)), (28, u32::MAX));
        let all_windowed = KvGroups { full: 0, windowed: 1, window: 6 };
        let endless = KvLayout { groups: all_windowed, ..one };
        assert_eq!((endless.longest(3), endless.longest(2)), (u32::MAX, 8));
    }
}
