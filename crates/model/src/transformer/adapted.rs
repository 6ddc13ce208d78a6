//! Which rows of a share take which adapter, and what that adds to their products.

use std::ops::Range;

use kernels::buffer::Buffer;
use kernels::cpu::Cpu;
use kernels::low_rank::add_low_rank;
use kernels::quantise::Activations;

use super::Batch;
use crate::architecture::FeedForwardKind;
use crate::config::ModelConfig;
use crate::lora::{Adapter, Site};

/// The rows of a share that take an adapter.
pub(super) struct Adapted<'a> {
    /// Each adapter with its rows, ascending, counted from the share's first.
    groups: Vec<(&'a Adapter, Vec<usize>)>,
}

/// The same in one layer.
#[derive(Clone, Copy)]
pub(super) struct AdaptedLayer<'a> {
    adapted: &'a Adapted<'a>,
    layer: usize,
}

/// Working memory of one step.
pub(super) struct AdaptedWork {
    /// Sums of the first halves of updates `[ranks, tokens]`.
    pub(super) sums: Buffer<f32>,
    /// Gates and ups before they are bent `[tokens, 2 intermediate_size]`; empty in models without gates.
    pub(super) gates_and_ups: Buffer<f32>,
}

impl<'a> Adapted<'a> {
    /// Those of `rows`, of the step's.
    pub(super) fn new(adapters: &'a [Adapter], batch: &Batch<'_>, rows: Range<usize>) -> Self {
        let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
        for (sequence, adapter) in batch.sequences.iter().zip(batch.adapters) {
            let Some(adapter) = *adapter else { continue };
            let start = sequence.row.max(rows.start);
            let own = start..(sequence.row + sequence.rows).min(rows.end);
            let own = own.map(|row| row - rows.start);
            match groups.iter_mut().find(|(known, _)| *known == adapter) {
                Some((_, rows)) => rows.extend(own),
                None => groups.push((adapter, own.collect())),
            }
        }
        groups.retain(|(_, rows)| !rows.is_empty());
        let groups = groups.into_iter().map(|(adapter, rows)| (&adapters[adapter], rows));
        Adapted { groups: groups.collect() }
    }

    pub(super) fn layer(&'a self, layer: usize) -> AdaptedLayer<'a> {
        AdaptedLayer { adapted: self, layer }
    }
}

impl AdaptedLayer<'_> {
    /// Whether anything is added at `site`.
    pub(super) fn changes(self, site: Site) -> bool {
        let changes = |(adapter, _): &(&Adapter, _)| adapter.update(self.layer, site).is_some();
        self.adapted.groups.iter().any(changes)
    }

    /// Adds to the rows of `out`, the product of `x` at `site`, what their adapters say. `sums` are those
    /// of [`AdaptedWork`].
    pub(super) fn add(
        self,
        cpu: &mut Cpu,
        site: Site,
        x: &Activations,
        sums: &mut [f32],
        out: &mut [f32],
    ) {
        for (adapter, rows) in &self.adapted.groups {
            if let Some(update) = adapter.update(self.layer, site) {
                add_low_rank(cpu, x, (update, rows), sums, out);
            }
        }
    }
}

impl AdaptedWork {
    /// Room for steps of so many tokens; empty if there are no adapters.
    pub(super) fn new(config: &ModelConfig, tokens: usize, adapters: &[Adapter]) -> AdaptedWork {
        let scratch = adapters.iter().map(Adapter::scratch).max();
        let gates_and_ups = scratch.map_or(0, |_| gates_and_ups(config));
        AdaptedWork {
            sums: Buffer::zeroed(tokens * scratch.unwrap_or(0)),
            gates_and_ups: Buffer::zeroed(tokens * gates_and_ups),
        }
    }

    /// Bytes that [`AdaptedWork::new`] reserves where the adapters' scratch is so much at most.
    pub(super) fn bytes(config: &ModelConfig, tokens: usize, scratch: usize) -> usize {
        tokens * (scratch + gates_and_ups(config)) * size_of::<f32>()
    }
}

/// Gates and ups of a token.
fn gates_and_ups(config: &ModelConfig) -> usize {
    let has_gates = config.architecture.feed_forward != FeedForwardKind::Plain;
    if has_gates && config.experts.is_none() { 2 * config.intermediate_size } else { 0 }
}
