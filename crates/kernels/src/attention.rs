//! Causal attention of new tokens over the pages of their sequences.
//!
//! Every query attends in spans of [`SPAN`] tokens that start at absolute positions. A span gives
//! a maximum, a sum and a weighted value; spans are merged in order. Keys and values are read as
//! stored, also those of this step. So a token's result depends on its sequence alone: not on the
//! chunk it came in, the batch beside it, or the thread.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod scratch;
#[cfg(target_arch = "x86_64")]
mod vectors;

use crate::cpu::Cpu;
use crate::isa::Isa;
use crate::kv::{self, KvShape, KvType, Place, TILE_TOKENS};
use crate::norm::Norm;
use crate::pool::{Pool, SendPtr};
use crate::quantise::{Activations, Parts};
use crate::rope::RopeTable;
use crate::share::{SequenceRows, Share};

use scratch::{Head, Scratch};

pub use scratch::AttentionScratch;

/// Tokens of one span of the softmax.
pub const SPAN: usize = 256;
const SPAN_TILES: usize = SPAN / TILE_TOKENS;
/// Queries (a token's head each) that one register tile holds.
const TILE_QUERIES: usize = 6;
/// Queries of one unit of work, about.
const UNIT_QUERIES: usize = 12;
/// Largest head the scratch has room for.
pub const HEAD_DIM_MAX: usize = 256;

/// What is done to the heads of a layer before and while they attend.
#[derive(Clone, Copy)]
pub struct HeadRules<'a> {
    /// Of queries and of keys, each `[head_dim]`, before they are rotated.
    pub norms: Option<[&'a Norm; 2]>,
    /// Rotates queries and keys; none where positions are told in another way.
    pub rope: Option<&'a RopeTable>,
    /// What the products of queries and keys are multiplied with.
    pub scale: f32,
    /// Tokens that a query sees, itself included: the last ones. At least 1; none for all.
    pub window: Option<usize>,
}

/// Norms, rotates, stores and attends for the next layer of `share`.
///
/// Shapes: `qkv` [rows, (heads + 2 kv_heads) * head_dim], queries, keys, values of a row one after
/// another, before rotation; `out` takes [rows, heads * head_dim]. Keys and values of all rows of
/// the share are written to its cache. The number of heads follows from `out`.
pub fn attention(
    cpu: &mut Cpu,
    share: &mut Share<'_>,
    (qkv, rules): (&[f32], HeadRules<'_>),
    scratch: &mut AttentionScratch,
    out: &mut Activations,
) {
    let place = share.next_layer();
    let (shape, rows) = (*share.shape(), share.rows().len());
    let heads = out.cols() / shape.head_dim;
    assert!(shape.head_dim <= HEAD_DIM_MAX, "head_dim {} above {HEAD_DIM_MAX}", shape.head_dim);
    if let Some(rope) = rules.rope {
        assert!(rope.dims() <= shape.head_dim, "the rotation is of heads");
        assert!(share.tokens_max() <= rope.positions(), "the rotation knows every position");
    }
    let norms = rules.norms.iter().flatten();
    assert!(norms.clone().all(|norm| norm.cols() == shape.head_dim), "norms are of heads");
    assert!(rules.window != Some(0), "a query sees itself");
    assert_eq!(out.cols(), heads * shape.head_dim, "the output holds whole heads");
    assert!(heads.is_multiple_of(shape.kv_heads), "{heads} heads over {} KV heads", shape.kv_heads);
    assert_eq!(qkv.len(), rows * (heads + 2 * shape.kv_heads) * shape.head_dim, "shape of qkv");
    let parts = out.parts(rows);
    let isa = cpu.isa();
    let step = Step { shape, place, heads, qkv, rules, isa, parts: &parts, share };
    let scratch = scratch.of_threads(cpu.pool.threads());
    step.run(&mut cpu.pool, share.store(), scratch);
}

/// Everything that the units of one layer's attention share.
struct Step<'a> {
    shape: KvShape,
    place: Place,
    heads: usize,
    qkv: &'a [f32],
    rules: HeadRules<'a>,
    isa: Isa,
    parts: &'a Parts,
    share: &'a Share<'a>,
}

/// Some tokens of one sequence.
#[derive(Clone, Copy)]
struct Unit<'a> {
    sequence: &'a SequenceRows<'a>,
    /// First token of the unit within the sequence's rows, and how many.
    first: usize,
    tokens: usize,
}

/// A unit's queries of the heads that share one head of keys and values.
#[derive(Clone, Copy)]
struct Visit<'a> {
    unit: &'a Unit<'a>,
    /// Of the keys and values.
    head: usize,
}

impl Step<'_> {
    fn run(&self, pool: &mut Pool, store: SendPtr<u8>, scratch: SendPtr<Scratch>) {
        let kv_heads = self.shape.kv_heads;
        let group = self.heads / kv_heads;
        let tokens_per_unit = (UNIT_QUERIES / group).max(1);
        let mut units = Vec::new();
        for sequence in self.share.sequences() {
            for first in (0..sequence.rows).step_by(tokens_per_unit) {
                let tokens = tokens_per_unit.min(sequence.rows - first);
                units.push(Unit { sequence, first, tokens });
            }
        }
        self.share.wait_for_earlier();
        // Tokens of a sequence attend to each other, so all keys are stored before a query runs.
        pool.for_each_range(units.len(), |_, indices| {
            for unit in &units[indices] {
                (0..kv_heads).for_each(|head| self.store_in_tier(unit, head, store));
            }
        });
        let first_of_cut = self.share.rows().len() - self.share.rows_of_cut_tile();
        let end = |unit: &Unit<'_>| unit.sequence.row + unit.first + unit.tokens;
        let (others, of_cut) =
            units.split_at(units.partition_point(|unit| end(unit) <= first_of_cut));
        self.attend_units(pool, of_cut, store, scratch);
        self.share.stored_layer();
        self.attend_units(pool, others, store, scratch);
    }

    fn attend_units(
        &self,
        pool: &mut Pool,
        units: &[Unit<'_>],
        store: SendPtr<u8>,
        scratch: SendPtr<Scratch>,
    ) {
        let kv_heads = self.shape.kv_heads;
        pool.for_each_range(units.len() * kv_heads, |thread, indices| {
            // SAFETY: there is one scratch per thread, and a thread runs one range at a time.
            let scratch = unsafe { &mut *scratch.get().add(thread) };
            for index in indices.clone() {
                let visit =
                    |index: usize| Visit { unit: &units[index / kv_heads], head: index % kv_heads };
                let next = (index + 1 < indices.end).then(|| visit(index + 1));
                self.attend_in_tier(visit(index), next, store, scratch);
            }
        });
    }

    fn store_in_tier(&self, unit: &Unit<'_>, head: usize, store: SendPtr<u8>) {
        match self.isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the tier is only chosen where its instructions exist.
            Isa::Avx2 => unsafe { avx2::store(self, unit, head, store) },
            _ => self.store(unit, head, store),
        }
    }

    fn attend_in_tier(
        &self,
        visit: Visit<'_>,
        next: Option<Visit<'_>>,
        store: SendPtr<u8>,
        scratch: &mut Scratch,
    ) {
        match self.isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the tier is only chosen where its instructions exist.
            Isa::Avx2 => unsafe { avx2::attend(self, visit, next, store, scratch) },
            _ => self.attend(visit, next, store, scratch),
        }
    }

    /// Rotates and writes the keys and values of one KV head.
    #[inline(always)]
    fn store(&self, unit: &Unit<'_>, head: usize, store: SendPtr<u8>) {
        let dim = self.shape.head_dim;
        let mut key = [0.0; HEAD_DIM_MAX];
        let key = &mut key[..dim];
        let table = self.share.table(unit.sequence, self.place.group);
        for token in unit.first..unit.first + unit.tokens {
            let position = unit.sequence.position + token;
            let row = self.row(unit.sequence.row + token);
            key.copy_from_slice(&row[(self.heads + head) * dim..][..dim]);
            self.turn(position, self.rules.norms.map(|[_, key]| key), key);
            let value = &row[(self.heads + self.shape.kv_heads + head) * dim..][..dim];
            let tile = self.shape.tile_of(table, position);
            let slot = position % TILE_TOKENS;
            let start = self.shape.tile_start(self.place.layer, tile, head);
            // SAFETY: `tile_of` checked the block, so the tile lies in the store. Each token and
            // head is written by one unit, and nobody reads the tile meanwhile: the share made sure
            // that written blocks are in one sequence's table only, our own queries run later, and
            // those of earlier tokens that read this tile have run.
            unsafe {
                kv::store(self.shape.kind, store.get().add(start), slot, (key, value));
            }
        }
    }

    /// Norms and rotates one head.
    #[inline(always)]
    fn turn(&self, position: usize, norm: Option<&Norm>, head: &mut [f32]) {
        if let Some(norm) = norm {
            norm.apply(self.isa, head);
        }
        if let Some(rope) = self.rules.rope {
            rope.rotate(position, head);
        }
    }

    /// First position that a query at `position` sees.
    #[inline(always)]
    fn first_visible(&self, position: usize) -> usize {
        self.rules.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Attends for the query heads of one KV head; the first keys of `next` are asked for meanwhile.
    #[inline(always)]
    fn attend(
        &self,
        visit: Visit<'_>,
        next: Option<Visit<'_>>,
        store: SendPtr<u8>,
        scratch: &mut Scratch,
    ) {
        let Visit { unit, head } = visit;
        let group = self.heads / self.shape.kv_heads;
        let queries = unit.tokens * group;
        let tiles = queries.div_ceil(TILE_QUERIES);
        for tile in 0..tiles {
            let (first, end) = (tile * queries / tiles, (tile + 1) * queries / tiles);
            let position = |query: usize| unit.sequence.position + unit.first + query / group;
            scratch.count = end - first;
            for (slot, query) in (first..end).enumerate() {
                scratch.positions[slot] = position(query);
                scratch.firsts[slot] = self.first_visible(position(query));
                self.load_query(unit, (head, query), &mut scratch.queries[slot]);
            }
            let next = if tile + 1 < tiles { Some(visit) } else { next };
            self.attend_tile(visit, next, store, scratch);
            for (slot, query) in (first..end).enumerate() {
                self.write_output(unit, (head, query), scratch, slot);
            }
        }
    }

    /// Copies, norms, rotates and scales one query, and turns it as the stored keys are turned.
    #[inline(always)]
    fn load_query(&self, unit: &Unit<'_>, (head, query): (usize, usize), out: &mut Head) {
        let (dim, group) = (self.shape.head_dim, self.heads / self.shape.kv_heads);
        let token = unit.first + query / group;
        let row = self.row(unit.sequence.row + token);
        let out = &mut out.0[..dim];
        out.copy_from_slice(&row[(head * group + query % group) * dim..][..dim]);
        let norm = self.rules.norms.map(|[query, _]| query);
        self.turn(unit.sequence.position + token, norm, out);
        out.iter_mut().for_each(|x| *x *= self.rules.scale);
        kv::turn_query(self.shape.kind, out);
    }

    #[inline(always)]
    fn write_output(
        &self,
        unit: &Unit<'_>,
        (head, query): (usize, usize),
        scratch: &Scratch,
        slot: usize,
    ) {
        let (dim, group) = (self.shape.head_dim, self.heads / self.shape.kv_heads);
        let row = unit.sequence.row + unit.first + query / group;
        let column = (head * group + query % group) * dim;
        let inverse = 1.0 / scratch.sums[slot];
        let mut out = [0.0; HEAD_DIM_MAX];
        let out = &mut out[..dim];
        for (out, value) in out.iter_mut().zip(&scratch.outputs[slot].0) {
            *out = value * inverse;
        }
        // SAFETY: each row and head belongs to one unit.
        unsafe { self.parts.quantise(self.isa, (row, column), out) };
    }

    /// Runs the spans of up to six queries and merges them in order.
    #[inline(always)]
    fn attend_tile(
        &self,
        visit: Visit<'_>,
        next: Option<Visit<'_>>,
        store: SendPtr<u8>,
        scratch: &mut Scratch,
    ) {
        let (first, last) = scratch.seen();
        let tokens = last + 1;
        let dim = self.shape.head_dim;
        scratch.begin();
        let spans = tokens.div_ceil(SPAN);
        for span in first / SPAN..spans {
            let start = span * SPAN;
            let count = SPAN.min(tokens - start);
            let tiles = self.tiles(visit, start, store);
            let ahead = if span + 1 < spans {
                self.tiles(visit, start + SPAN, store)
            } else {
                next.map_or([std::ptr::null(); SPAN_TILES], |next| {
                    self.tiles(next, self.first_of(next) / SPAN * SPAN, store)
                })
            };
            let span = Span {
                tiles: &tiles,
                ahead: &ahead,
                start,
                first: first.saturating_sub(start) / TILE_TOKENS,
                count,
                dim,
                kind: self.shape.kind,
            };
            // SAFETY: the tiles hold keys and values of `count` tokens at least, written before.
            unsafe { span_of_tier(self.isa, &span, scratch) };
            if scratch.is_spoiled(dim) {
                // SAFETY: as above.
                unsafe { attend_one_by_one(self.isa, &span, scratch) };
            }
            scratch.merge(start, dim);
        }
    }

    /// First position that a query of the visit sees.
    #[inline(always)]
    fn first_of(&self, visit: Visit<'_>) -> usize {
        self.first_visible(visit.unit.sequence.position + visit.unit.first)
    }

    /// The tiles of the span that begins at `start`, as far as the unit sees it.
    #[inline(always)]
    fn tiles(&self, visit: Visit<'_>, start: usize, store: SendPtr<u8>) -> SpanTiles {
        let Visit { unit, head } = visit;
        let tokens = unit.sequence.position + unit.first + unit.tokens;
        let first = self.first_of(visit);
        let table = self.share.table(unit.sequence, self.place.group);
        let mut tiles = [std::ptr::null(); SPAN_TILES];
        for (tile, position) in tiles.iter_mut().zip((start..tokens).step_by(TILE_TOKENS)) {
            if position + TILE_TOKENS <= first {
                continue;
            }
            let number = self.shape.tile_of(table, position);
            let at = self.shape.tile_start(self.place.layer, number, head);
            // SAFETY: `tile_of` checked the block, so the tile lies in the store.
            *tile = unsafe { store.get().add(at) }.cast_const();
        }
        tiles
    }

    #[inline(always)]
    fn row(&self, row: usize) -> &[f32] {
        let len = (self.heads + 2 * self.shape.kv_heads) * self.shape.head_dim;
        &self.qkv[row * len..(row + 1) * len]
    }
}

/// Where the tiles of a span begin; null where nobody sees them.
type SpanTiles = [*const u8; SPAN_TILES];

/// Up to [`SPAN`] tokens of one sequence and head.
#[derive(Clone, Copy)]
struct Span<'a> {
    tiles: &'a SpanTiles,
    /// Those that are visited next, as far as they are known.
    ahead: &'a SpanTiles,
    /// Position of the first token.
    start: usize,
    /// The first tile that any query sees.
    first: usize,
    /// Tokens from the start on that any query of the tile may see.
    count: usize,
    dim: usize,
    /// What the tiles hold.
    kind: KvType,
}

/// # Safety
/// The tiles of `span` hold `count` tokens, and nobody writes them now.
#[inline(always)]
unsafe fn span_of_tier(isa: Isa, span: &Span<'_>, scratch: &mut Scratch) {
    // SAFETY: passed on; a tier is only chosen where its instructions exist.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::span(span, scratch),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::span(span, scratch),
            _ => portable::span_portable(span, scratch),
        }
    }
}

/// Visits the span again, each query by itself and no further than it may see.
///
/// A tile's queries share the reading of values, and a value that is not finite does not vanish
/// under the weight of zero that it has for a query before it.
///
/// # Safety
/// As for [`span_of_tier`].
#[cold]
unsafe fn attend_one_by_one(isa: Isa, span: &Span<'_>, scratch: &mut Scratch) {
    let count = scratch.count;
    scratch.count = 1;
    for query in 0..count {
        let visible = scratch.visible(query, span.start);
        let (first, count) = (visible.start / TILE_TOKENS, span.count.min(visible.end));
        if count <= visible.start {
            continue;
        }
        scratch.swap(0, query);
        // SAFETY: passed on; the query sees no more than before.
        unsafe { span_of_tier(isa, &Span { first, count, ..*span }, scratch) };
        scratch.swap(0, query);
    }
    scratch.count = count;
}
