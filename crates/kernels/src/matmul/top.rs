//! The best outputs of each row of a product, of which the others are not written.

use crate::pack::PANEL_ROWS;

/// The best outputs of one row that one thread has seen.
///
/// Outputs come in any order. Those of at least `bound` are listed; when the list is full it is cut
/// to the best, the last of which is the new bound: of n outputs in random order about
/// `count * ln(n / count)` are ever listed, and the others cost one comparison of vectors.
pub struct Top {
    count: usize,
    /// No output below this is among the best.
    bound: f32,
    /// Ranks of outputs, see [`rank`].
    listed: Vec<u64>,
    /// NaN where an output was not finite, else 0.
    taint: [f32; PANEL_ROWS],
}

impl Top {
    /// Bytes of one that keeps `count` outputs.
    pub const fn bytes(count: usize) -> usize {
        size_of::<Top>() + Top::listed_max(count) * size_of::<u64>()
    }

    const fn listed_max(count: usize) -> usize {
        2 * count + PANEL_ROWS
    }

    pub(super) fn new() -> Top {
        let (bound, taint) = (f32::NEG_INFINITY, [0.0; PANEL_ROWS]);
        Top { count: 1, bound, listed: Vec::new(), taint }
    }

    /// Begins a row of which `count` outputs are wanted.
    pub(super) fn start(&mut self, count: usize) {
        let mut listed = std::mem::take(&mut self.listed);
        listed.clear();
        listed.reserve(Top::listed_max(count));
        *self = Top { count, listed, ..Top::new() };
    }

    /// Takes one panel's outputs in, which begin at `column`.
    #[inline(always)]
    pub(super) fn take(&mut self, column: usize, outputs: &[f32]) {
        let mut reached = 0;
        for (taint, &value) in self.taint.iter_mut().zip(outputs) {
            reached |= u32::from(self.bound <= value);
            *taint += value * 0.0;
        }
        if reached != 0 {
            self.list(column, outputs);
        }
    }

    #[cold]
    #[inline(never)]
    fn list(&mut self, column: usize, outputs: &[f32]) {
        for (lane, &value) in outputs.iter().enumerate().filter(|(_, value)| self.bound <= **value)
        {
            self.listed.push(rank(value, (column + lane) as u32));
        }
        if 2 * self.count <= self.listed.len() {
            let (_, last, _) = self.listed.select_nth_unstable(self.count - 1);
            (_, self.bound) = output(*last);
            self.listed.truncate(self.count);
        }
    }

    /// The best of what several threads have seen of one row, column and value, the best first; none
    /// if an output is not a finite number.
    pub(super) fn best<'a>(
        count: usize,
        of_threads: impl Iterator<Item = &'a Top>,
    ) -> Option<Vec<(u32, f32)>> {
        let (mut listed, mut taint) = (Vec::new(), 0.0);
        for top in of_threads {
            listed.extend_from_slice(&top.listed);
            taint += top.taint.iter().sum::<f32>();
        }
        listed.sort_unstable();
        listed.truncate(count);
        (taint == 0.0).then(|| listed.into_iter().map(output).collect())
    }
}

/// The place of an output among others, less is better: the value's bits, so changed that greater
/// values give smaller numbers, above the column. −0 counts as 0.
fn rank(value: f32, column: u32) -> u64 {
    let bits = (value + 0.0).to_bits();
    let descending = if bits >> 31 == 1 { bits } else { bits ^ 0x7fff_ffff };
    u64::from(descending) << 32 | u64::from(column)
}

/// The column and the value of a rank.
fn output(rank: u64) -> (u32, f32) {
    let descending = (rank >> 32) as u32;
    let bits = if descending >> 31 == 1 { descending } else { descending ^ 0x7fff_ffff };
    (rank as u32, f32::from_bits(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(values: [(usize, f32); 3]) -> [f32; PANEL_ROWS] {
        let mut panel = [-1.0; PANEL_ROWS];
        values.into_iter().for_each(|(lane, value)| panel[lane] = value);
        panel
    }

    #[test]
    fn among_equals_the_lowest_columns_stay_in_whatever_order_a_thread_sees_them() {
        let low = panel([(5, 7.0), (9, 7.0), (2, 6.0)]);
        let high = panel([(5, 7.0), (6, 8.0), (7, 7.0)]);
        let other = panel([(0, 1.0), (1, 2.0), (2, 3.0)]);
        let panels = [(0, low), (160, high), (320, other)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            for (count, expected) in [
                (1, vec![(166, 8.0)]),
                (2, vec![(166, 8.0), (5, 7.0)]),
                (4, vec![(166, 8.0), (5, 7.0), (9, 7.0), (165, 7.0)]),
            ] {
                let mut top = Top::new();
                top.start(count);
                order.iter().for_each(|&i| top.take(panels[i].0, &panels[i].1));
                assert_eq!(Top::best(count, [&top].into_iter()), Some(expected));
            }
        }
    }

    #[test]
    fn ranks_give_outputs_back() {
        for value in [0.0, 1.5, -2.5, f32::MAX, f32::MIN, f32::MIN_POSITIVE] {
            assert_eq!(output(rank(value, 7)), (7, value));
        }
        assert!(rank(1.0, 9) < rank(0.5, 0) && rank(0.0, 1) < rank(-0.0, 2));
        assert!(rank(-1.0, 0) < rank(-2.0, 0));
    }
}
