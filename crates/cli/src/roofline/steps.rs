//! Steps of the model, without scheduler, sampling and HTTP.

use std::time::{Duration, Instant};

use anyhow::Result;
use engine::KvGroups;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::TILE_TOKENS;
use kernels::probe::Measured;
use kernels::share::SequenceRows;
use model::file::ModelFile;
use model::transformer::{Batch, TopRow, Transformer, TransformerSizes};
use model::weights::Weights;

use super::ceiling::{KV_TYPE, Step};

/// How long a step is run again and again, once at least.
const STEP_TIME: Duration = Duration::from_millis(1500);
/// Most runs of a step.
const RUNS_MAX: usize = 100;
/// How long contexts are made; steps of sequences that then have none are left out.
const FILL_TIME: Duration = Duration::from_secs(20);
/// The smallest page of memory.
const PAGE_BYTES: usize = 4 << 10;

/// What is to be run.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepsSizes {
    /// Most sequences that decode together.
    pub(super) sequences: usize,
    /// Tokens that each of them has already.
    pub(super) context: usize,
    /// Tokens of the prompt.
    pub(super) prompt: usize,
}

/// The model, ready to run.
pub(super) struct Steps {
    cpu: Cpu,
    transformer: Transformer,
    sizes: StepsSizes,
    /// KV blocks of each sequence. They interleave, as in a server that has run for a while.
    tables: Vec<Vec<u32>>,
    /// Sequences whose context is in memory.
    filled: usize,
}

impl StepsSizes {
    /// Bytes of memory that [`Steps`] takes with so many threads.
    pub(super) fn bytes(&self, file: &ModelFile, threads: usize) -> u64 {
        let sizes = self.transformer();
        Weights::bytes_of(file)
            + Transformer::activation_bytes(&file.config, &sizes, threads)
            + sizes.block_count as u64 * Transformer::block_bytes(&file.config, &sizes)
    }

    fn blocks_each(&self) -> usize {
        (self.context + 1).max(self.prompt).div_ceil(TILE_TOKENS)
    }

    fn transformer(&self) -> TransformerSizes {
        TransformerSizes {
            step_tokens_max: self.prompt.max(self.sequences),
            logits_rows_max: self.sequences,
            positions_max: self.prompt.max(self.context + 1),
            asked_len: self.prompt.max(self.context + 1),
            block_size: TILE_TOKENS,
            block_count: self.sequences * self.blocks_each(),
            kv_groups: KvGroups::ONE,
            kv_type: KV_TYPE,
        }
    }
}

impl Steps {
    /// Loads the model.
    pub(super) fn load(
        file: &mut ModelFile,
        (threads, isa): (usize, Isa),
        sizes: StepsSizes,
    ) -> Result<Steps> {
        let mut cpu = Cpu::new(threads, isa);
        let weights = Weights::load(file, &mut cpu)?;
        let transformer = Transformer::new(file.config.clone(), weights, sizes.transformer(), &cpu);
        let table = |sequence: usize| {
            (0..sizes.blocks_each()).map(|b| (b * sizes.sequences + sequence) as u32).collect()
        };
        let tables = (0..sizes.sequences).map(table).collect();
        Ok(Steps { cpu, transformer, sizes, tables, filled: 0 })
    }

    /// Puts the contexts of so many sequences into memory, then of so many more, while there is
    /// time: pages that were never written would be read from a cache. The other numbers of a
    /// context stay 0; a step takes the same time whatever they are.
    pub(super) fn fill(&mut self, counts: impl IntoIterator<Item = usize>) {
        // A key has numbers all over its tile, the values of so many tokens lie within a page.
        let tile_bytes = KV_TYPE.tile_bytes(self.transformer.config().head_dim);
        let token_bytes = tile_bytes / (2 * TILE_TOKENS);
        let stride = (PAGE_BYTES / token_bytes).clamp(1, TILE_TOKENS);
        let begin = Instant::now();
        for count in counts {
            let sequences = count - self.filled;
            for position in (0..self.sizes.context).step_by(stride) {
                if FILL_TIME < begin.elapsed() {
                    return;
                }
                self.forward(self.filled, Step { sequences, position, tokens: 1 });
            }
            self.filled = count;
        }
    }

    /// Tokens per second of `step`; none if fewer sequences have their context.
    pub(super) fn measure(&mut self, step: Step) -> Option<Measured> {
        if self.filled < step.sequences {
            return None;
        }
        let mut nanos = Vec::new();
        let begin = Instant::now();
        while nanos.is_empty() || (begin.elapsed() < STEP_TIME && nanos.len() < RUNS_MAX) {
            let start = Instant::now();
            self.forward(0, step);
            nanos.push(start.elapsed().as_nanos() as f64);
        }
        Some(Measured::nanos(nanos).rate((step.sequences * step.tokens) as f64 * 1e9))
    }

    /// Runs `step` with the sequences from `first` on, to the greedy token of each.
    fn forward(&mut self, first: usize, step: Step) {
        let vocabulary = self.transformer.config().vocab_size;
        let count = step.sequences * step.tokens;
        // Ids scattered over the vocabulary.
        let tokens: Vec<u32> =
            (0..count).map(|i| ((i + step.position) * 7919 % vocabulary) as u32).collect();
        let sequence = |(index, blocks)| SequenceRows {
            row: index * step.tokens,
            rows: step.tokens,
            position: step.position,
            blocks,
        };
        let tables = self.tables[first..].iter().map(Vec::as_slice).enumerate();
        let sequences: Vec<SequenceRows<'_>> = tables.take(step.sequences).map(sequence).collect();
        let last = |sequence| TopRow::greatest(sequence * step.tokens - 1);
        let top_rows: Vec<TopRow> = (1..=step.sequences).map(last).collect();
        let batch = Batch {
            tokens: &tokens,
            sequences: &sequences,
            adapters: &[],
            logits_rows: &[],
            top_rows: &top_rows,
        };
        self.transformer.forward(&mut self.cpu, batch);
    }
}
