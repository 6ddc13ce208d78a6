//! A step's tokens, shared out so that threads can take theirs through all layers.
//!
//! With many tokens each thread computes its own share from the first layer to the last, in its
//! own buffers: nothing is waited for but the keys and values of a sequence that is cut, and what a
//! thread writes stays in its caches. The right to write keys and values goes with the share.
//!
//! A share waits for the one before it, never for a later one: shares run at the same time, or one
//! after another in order.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::kv::{KvCache, KvShape, Place, RELEASED, TILE_TOKENS};
use crate::pool::SendPtr;

/// Looks at another share's progress before a waiting thread gives its core away between looks.
const LOOKS: usize = 1_000;
/// The cost of a token's products, in the cost of attending to one position.
const PRODUCTS_COST: usize = 1_400;

/// One sequence's new tokens in a batch.
#[derive(Debug, Clone, Copy)]
pub struct SequenceRows<'a> {
    /// First row of the batch that belongs to the sequence.
    pub row: usize,
    /// Number of rows.
    pub rows: usize,
    /// Position of the first row's token in the sequence.
    pub position: usize,
    /// A table of blocks for each group of layers, one after another; each covers `position + rows` tokens.
    /// Of blocks that no query of these rows sees it may have [`RELEASED`]. Shape: [groups, blocks].
    pub blocks: &'a [u32],
}

/// Part of a step's tokens, and the right to write their keys and values.
pub struct Share<'a> {
    shape: KvShape,
    /// Of each layer.
    places: &'a [Place],
    group_count: usize,
    store: SendPtr<u8>,
    rows: Range<usize>,
    /// Rows count from the share's first.
    sequences: Vec<SequenceRows<'a>>,
    layers_begun: usize,
    /// Whether the next share has later tokens of our last sequence.
    continued: bool,
    stored: Arc<LayersStored>,
    /// Of the share with the earlier tokens of our first sequence.
    before: Option<Arc<LayersStored>>,
    cache: PhantomData<&'a mut KvCache>,
}

/// Layers whose keys and values are stored, by a share and those of the earlier tokens, and where
/// none of them reads from a tile any more that the next share writes to.
#[derive(Default)]
struct LayersStored(AtomicUsize);

/// In place of the layers stored: the share ended before its last layer.
const CUT_OFF: usize = usize::MAX;

/// Shares the tokens of `sequences` out in up to `count` parts of about the same cost, in order.
///
/// The sequences stand one after another from row 0. Each block that is written must be in one
/// table only.
pub fn share_out<'a>(
    cache: &'a mut KvCache,
    sequences: &[SequenceRows<'a>],
    count: usize,
) -> Vec<Share<'a>> {
    let shape = *cache.shape();
    let store = SendPtr(cache.store.as_mut_ptr());
    let (places, group_count) = cache.places();
    check(&shape, group_count, sequences);
    let mut shares: Vec<Share<'a>> = Vec::with_capacity(count);
    for (rows, continues) in cuts(sequences, count) {
        let before = shares.last_mut().filter(|_| continues).map(|share| {
            share.continued = true;
            Arc::clone(&share.stored)
        });
        shares.push(Share {
            shape,
            places,
            group_count,
            store,
            sequences: part(sequences, &rows),
            rows,
            layers_begun: 0,
            continued: false,
            stored: Arc::default(),
            before,
            cache: PhantomData,
        });
    }
    shares
}

impl<'a> Share<'a> {
    /// The share's rows in the step.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The position of each row's token in its sequence.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        self.sequences.iter().flat_map(|part| part.position..part.position + part.rows)
    }

    pub(crate) fn shape(&self) -> &KvShape {
        &self.shape
    }

    pub(crate) fn store(&self) -> SendPtr<u8> {
        self.store
    }

    pub(crate) fn sequences(&self) -> &[SequenceRows<'a>] {
        &self.sequences
    }

    /// Most tokens that a sequence of the share has after the step.
    pub(crate) fn tokens_max(&self) -> usize {
        self.sequences.iter().map(SequenceRows::tokens).max().unwrap_or(0)
    }

    /// Begins a layer; each is begun once, in order.
    pub(crate) fn next_layer(&mut self) -> Place {
        let layer = self.layers_begun;
        assert!(layer < self.places.len(), "all {layer} layers are done");
        self.layers_begun += 1;
        self.places[layer]
    }

    /// The blocks that a sequence of the share has in a group.
    pub(crate) fn table(&self, sequence: &SequenceRows<'a>, group: usize) -> &'a [u32] {
        sequence.table(group, self.group_count)
    }

    /// Number of rows at the end of the share that attend to a tile that the next share writes to.
    pub(crate) fn rows_of_cut_tile(&self) -> usize {
        let last = self.sequences.last().filter(|_| self.continued);
        last.map_or(0, |last| last.rows.min(last.tokens() % TILE_TOKENS))
    }

    /// Waits until the keys and values of earlier tokens are stored in the layer begun last, and
    /// nobody reads any more from a tile that this share writes to.
    ///
    /// Panics if the share of the earlier tokens ended before this layer.
    pub(crate) fn wait_for_earlier(&self) {
        if let Some(before) = &self.before {
            before.wait_for(self.layers_begun);
        }
    }

    /// Notes that the keys and values of the layer begun last are stored, and that the rows of
    /// [`Share::rows_of_cut_tile`] have attended; earlier tokens were waited for.
    pub(crate) fn stored_layer(&self) {
        self.stored.0.store(self.layers_begun, Ordering::Release);
    }
}

impl LayersStored {
    fn wait_for(&self, layers: usize) {
        let mut looks = 0;
        loop {
            match self.0.load(Ordering::Acquire) {
                CUT_OFF => panic!("the share of the earlier tokens was cut off"),
                stored if stored >= layers => return,
                _ if looks < LOOKS => std::hint::spin_loop(),
                _ => std::thread::yield_now(),
            }
            looks += 1;
        }
    }
}

impl Drop for Share<'_> {
    /// Nobody waits for a share that was cut off, as by a panic of its thread.
    fn drop(&mut self) {
        if self.stored.0.load(Ordering::Relaxed) < self.places.len() {
            self.stored.0.store(CUT_OFF, Ordering::Release);
        }
    }
}

impl<'a> SequenceRows<'a> {
    /// Tokens known after the step.
    fn tokens(&self) -> usize {
        self.position.checked_add(self.rows).expect("a position fits an address")
    }

    /// The blocks of one of `count` groups.
    fn table(&self, group: usize, count: usize) -> &'a [u32] {
        let len = self.blocks.len() / count;
        &self.blocks[group * len..(group + 1) * len]
    }

    /// Of each group the blocks that are only read, and those that this step writes.
    fn tables(
        &self,
        (shape, group_count): (&KvShape, usize),
    ) -> impl Iterator<Item = (&'a [u32], &'a [u32])> {
        let used = self.tokens().div_ceil(shape.block_size);
        let written = self.position / shape.block_size;
        let table = move |group| self.table(group, group_count)[..used].split_at(written);
        (0..group_count).map(table)
    }

    fn end(&self) -> usize {
        self.row + self.rows
    }

    /// Cost of the first `rows` rows.
    fn cost(&self, rows: usize) -> usize {
        rows * (PRODUCTS_COST + self.position) + rows * rows / 2
    }
}

/// Checks the tables: the threads of a step share blocks without any other care.
fn check(shape: &KvShape, group_count: usize, sequences: &[SequenceRows<'_>]) {
    let mut row = 0;
    for sequence in sequences {
        assert_eq!(sequence.row, row, "sequences stand one after another");
        assert!(sequence.rows > 0, "a sequence has a row");
        let tokens = sequence.tokens();
        let blocks = sequence.blocks.len();
        assert!(blocks.is_multiple_of(group_count), "a table for each of {group_count} groups");
        assert!(blocks / group_count * shape.block_size >= tokens, "a table covers the tokens");
        row += sequence.rows;
    }
    let tables = || sequences.iter().flat_map(|sequence| sequence.tables((shape, group_count)));
    let mut written: Vec<u32> = tables().flat_map(|(_, written)| written).copied().collect();
    written.sort_unstable();
    assert!(written.is_sorted_by(|a, b| a < b), "a block is written twice");
    let known = |block: &u32| (*block as usize) < shape.block_count;
    assert!(written.iter().all(known), "a block is not one of {}", shape.block_count);
    let read = tables().flat_map(|(read, _)| read);
    for block in read.filter(|block| **block != RELEASED) {
        assert!(known(block), "block {block} of {}", shape.block_count);
        assert!(written.binary_search(block).is_err(), "block {block} is read and written");
    }
}

/// The rows of each share, and whether its first sequence began in the share before.
fn cuts(sequences: &[SequenceRows<'_>], count: usize) -> Vec<(Range<usize>, bool)> {
    let total: usize = sequences.iter().map(|sequence| sequence.cost(sequence.rows)).sum();
    let rows = sequences.last().map_or(0, SequenceRows::end);
    let mut cuts = Vec::with_capacity(count);
    let (mut start, mut continues) = (0, false);
    for share in 1..count {
        let (cut, inside) = cut_at(sequences, total * share / count);
        if start < cut && cut < rows {
            cuts.push((start..cut, continues));
            (start, continues) = (cut, inside);
        }
    }
    cuts.push((start..rows, continues));
    cuts
}

/// The row whose rows before it cost nearest to this, and whether it is inside a sequence.
fn cut_at(sequences: &[SequenceRows<'_>], cost: usize) -> (usize, bool) {
    let mut before = 0;
    for sequence in sequences {
        let whole = sequence.cost(sequence.rows);
        if cost < before + whole {
            let far = |rows: &usize| cost.abs_diff(before + sequence.cost(*rows));
            let rows = (0..=sequence.rows).min_by_key(far).expect("the range has a number");
            return (sequence.row + rows, 0 < rows && rows < sequence.rows);
        }
        before += whole;
    }
    (sequences.last().map_or(0, SequenceRows::end), false)
}

/// The parts of `sequences` that lie in `rows`.
fn part<'a>(sequences: &[SequenceRows<'a>], rows: &Range<usize>) -> Vec<SequenceRows<'a>> {
    let inside = |sequence: &SequenceRows<'a>| {
        let (start, end) = (sequence.row.max(rows.start), sequence.end().min(rows.end));
        (start < end).then(|| SequenceRows {
            row: start - rows.start,
            rows: end - start,
            position: sequence.position + (start - sequence.row),
            blocks: sequence.blocks,
        })
    };
    sequences.iter().filter_map(inside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(row: usize, rows: usize, position: usize) -> SequenceRows<'static> {
        SequenceRows { row, rows, position, blocks: &[] }
    }

    #[test]
    fn steps_are_cut_in_parts_of_like_cost() {
        let decode: Vec<_> = (0..50).map(|row| sequence(row, 1, 100)).collect();
        assert_eq!(cuts(&decode, 2), [(0..25, false), (25..50, false)]);
        assert_eq!(cuts(&decode, 1), [(0..50, false)]);
        assert_eq!(cuts(&[sequence(0, 1, 7)], 2), [(0..1, false)]);
        // Those that came first have more tokens, so the half lies a little before the fourth's end.
        let decode: Vec<_> = (0..8).map(|row| sequence(row, 1, 1300 - 20 * row)).collect();
        assert_eq!(cuts(&decode, 2), [(0..4, false), (4..8, false)]);
        let ends: Vec<_> = cuts(&decode, 4).iter().map(|(rows, _)| rows.end).collect();
        assert_eq!(ends, [2, 4, 6, 8]);
        let prompt = cuts(&[sequence(0, 256, 40)], 2);
        let (first, second) = (&prompt[0], &prompt[1]);
        assert_eq!(
            (first.0.end, second.0.end, first.1, second.1),
            (second.0.start, 256, false, true)
        );
        // The second half attends to more tokens.
        assert!((129..150).contains(&first.0.end), "{first:?}");
    }

    #[test]
    fn parts_keep_positions() {
        let parts = part(&[sequence(0, 3, 5), sequence(3, 64, 0)], &(35..67));
        assert_eq!((parts[0].row, parts[0].rows, parts[0].position), (0, 32, 32));
        assert_eq!(parts.len(), 1);
    }
}
