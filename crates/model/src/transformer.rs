//! The forward pass: tokens in, logits of the rows asked for out. A layer is in `layer`, what adapters
//! add to it in `adapted`.

mod adapted;
mod layer;

use engine::KvGroups;
use kernels::attention::AttentionScratch;
use kernels::buffer::Buffer;
use kernels::cpu::Cpu;
use kernels::kv::{KvCache, KvShape, KvType};
use kernels::matmul::{Top, matmul, matmul_top};
use kernels::norm::normalise;
use kernels::quantise::Activations;
use kernels::rope::RopeTable;
use kernels::share::{SequenceRows, Share, share_out};
use sampling::TOP_MAX;

use crate::config::{ModelConfig, RopeConfig};
use crate::mixture::Mixture;
use crate::rope::{RopeScaling, rotation};
use crate::weights::Weights;

use adapted::{Adapted, AdaptedWork};

/// How much one step may hold, and where keys and values go.
#[derive(Debug, Clone, Copy)]
pub struct TransformerSizes {
    /// Most tokens of one step.
    pub step_tokens_max: usize,
    /// Most rows of one step whose logits are asked for.
    pub logits_rows_max: usize,
    /// Longest sequence.
    pub positions_max: usize,
    /// The length that was asked for, or the model's, before memory bounded it to `positions_max`: which of
    /// LongRoPE's lists is taken must not depend on memory.
    pub asked_len: usize,
    /// Tokens per KV block; a multiple of 32.
    pub block_size: usize,
    /// KV blocks.
    pub block_count: usize,
    /// The groups of layers, each with blocks of its own: [`ModelConfig::kv_groups`], or one that keeps
    /// everything.
    pub kv_groups: KvGroups,
    /// Element type of keys and values.
    pub kv_type: KvType,
}

/// The tokens of one step.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Token ids, all sequences one after another; each below `vocab_size`.
    pub tokens: &'a [u32],
    /// Which rows belong to which sequence.
    pub sequences: &'a [SequenceRows<'a>],
    /// The adapter of each sequence, by its place in [`Weights::adapters`]; empty if none has one.
    pub adapters: &'a [Option<usize>],
    /// Rows whose logits are wanted, ascending.
    pub logits_rows: &'a [usize],
    /// Rows of which only the greatest logits are wanted, ascending.
    pub top_rows: &'a [TopRow],
}

/// A row of which only the greatest logits are wanted.
#[derive(Debug, Clone, Copy)]
pub struct TopRow {
    /// The row, of the step's tokens.
    pub row: usize,
    /// How many; 1 to [`TOP_MAX`].
    pub count: usize,
}

impl TopRow {
    /// A row of which the greatest logit is wanted.
    pub const fn greatest(row: usize) -> TopRow {
        TopRow { row, count: 1 }
    }
}

/// What a step gives.
pub struct Outputs<'a> {
    /// `[logits_rows, vocab_size]`.
    pub logits: &'a mut [f32],
    /// Tokens and logits of each of `top_rows`, the greatest first, of equals the lowest token first;
    /// none if a logit of the row is not a finite number.
    pub top: Vec<TopLogits>,
}

/// The greatest logits of a row; none if a logit is not a finite number.
pub type TopLogits = Option<Vec<(u32, f32)>>;

/// Steps of fewer rows per thread are computed by all threads together, layer by layer: they share
/// the reading of weights. With more rows each thread takes its own rows through all layers.
const SHARE_ROWS_MIN: usize = 3;

/// A model with its working memory.
pub struct Transformer {
    model: Model,
    cache: KvCache,
    /// One for each thread.
    lanes: Vec<Lane>,
    /// `[logits_rows_max, vocab_size]`.
    logits: Buffer<f32>,
    /// The first row of each lane's share of the last step.
    share_starts: Vec<usize>,
}

/// What a step reads and never writes.
struct Model {
    config: ModelConfig,
    weights: Weights,
    /// Of layers that see everything, or of all.
    rope: Option<RopeTable>,
    /// Of layers with a window, if those are rotated in another way.
    window_rope: Option<RopeTable>,
}

/// What computes one share of a step.
struct Lane {
    work: Work,
    /// This thread alone.
    cpu: Cpu,
}

/// One share of a step, and what is asked of its rows.
struct Task<'a> {
    share: Share<'a>,
    batch: Batch<'a>,
    /// `[batch.logits_rows, vocab_size]`.
    logits: &'a mut [f32],
}

/// A lane while a step runs: what it is to do, then what came of it.
struct Turn<'a> {
    lane: &'a mut Lane,
    task: Option<Task<'a>>,
    top: Vec<TopLogits>,
}

/// Buffers of one step. Shapes in rows of the step's tokens, or of the logits' rows.
struct Work {
    /// The residual stream `[tokens, hidden_size]`.
    hidden: Buffer<f32>,
    /// Normalised input of a product `[tokens, hidden_size]`.
    normed: Activations,
    /// Queries, keys and values `[tokens, query_size + 2 kv_size]`.
    qkv: Buffer<f32>,
    attended: Activations,
    attention_scratch: AttentionScratch,
    /// Ups times their activated gates `[tokens, intermediate_size]`.
    gated: Buffer<f32>,
    inner: Activations,
    /// What goes through a norm before it is added `[tokens, hidden_size]`; empty in models
    /// without such norms.
    branch: Buffer<f32>,
    mixture: Option<Mixture>,
    adapted: AdaptedWork,
    /// Rows of `hidden` that go on to the head.
    last: Buffer<f32>,
    last_normed: Activations,
    tops: Vec<Top>,
}

/// Base, scaling and divisors of rotary frequencies.
type Frequencies<'a> = (f32, RopeScaling, Option<&'a [f32]>);

impl Transformer {
    /// Reserves the working memory and the KV cache for the threads of `cpu`.
    pub fn new(
        config: ModelConfig,
        weights: Weights,
        sizes: TransformerSizes,
        cpu: &Cpu,
    ) -> Transformer {
        let groups = config.group_of_layers(sizes.kv_groups);
        let cache = KvCache::with_groups(kv_shape(&config, &sizes), &groups);
        let table = |rope: &RopeConfig, (theta, scaling, divisors): Frequencies<'_>| {
            let rotation = rotation((rope.dims, rope.pairing), theta, scaling, divisors);
            RopeTable::new(sizes.positions_max, &rotation)
        };
        let rope = config.rope.as_ref().map(|rope| {
            let is_long = rope.scaling.is_long(sizes.asked_len);
            let divisors = weights.rope_divisors.as_ref().map(|lists| lists.of(is_long));
            table(rope, (rope.theta, rope.scaling, divisors))
        });
        let window_rope = config.rope.as_ref().and_then(|rope| {
            rope.window_theta.map(|theta| table(rope, (theta, RopeScaling::None, None)))
        });
        let lane =
            |_| Lane { work: Work::new(&config, &weights, &sizes), cpu: Cpu::new(1, cpu.isa()) };
        let lanes = (0..cpu.pool.threads()).map(lane).collect();
        let logits = Buffer::zeroed(sizes.logits_rows_max * config.vocab_size);
        let model = Model { config, weights, rope, window_rope };
        Transformer { model, cache, lanes, logits, share_starts: Vec::new() }
    }

    /// Bytes of working memory that [`Transformer::new`] reserves for so many threads, beside
    /// weights and KV blocks.
    pub fn activation_bytes(config: &ModelConfig, sizes: &TransformerSizes, threads: usize) -> u64 {
        let (tokens, rows) = (sizes.step_tokens_max, sizes.logits_rows_max);
        let qkv = config.query_size() + 2 * config.kv_size();
        let branch = branch_size(config);
        let floats = tokens * (config.hidden_size + qkv + config.intermediate_size + branch)
            + rows * config.hidden_size;
        let activations = Activations::bytes(tokens, config.hidden_size)
            + Activations::bytes(tokens, config.query_size())
            + Activations::bytes(tokens, config.intermediate_size)
            + Activations::bytes(rows, config.hidden_size);
        let lane = floats * size_of::<f32>() + activations + Mixture::bytes(config, tokens);
        // The first lane's are of all threads, the others' of one.
        let scratches = 2 * threads - 1;
        let scratch = AttentionScratch::bytes(scratches) + scratches * rows * Top::bytes(TOP_MAX);
        let tables = |rope: &RopeConfig| 1 + usize::from(rope.window_theta.is_some());
        let rope = config
            .rope
            .as_ref()
            .map_or(0, |rope| tables(rope) * RopeTable::bytes(sizes.positions_max, rope.dims));
        let logits = rows * config.vocab_size * size_of::<f32>();
        (threads * lane + scratch + rope + logits) as u64
    }

    /// Bytes of working memory that [`Transformer::new`] reserves for adapters beside that, where
    /// [`Adapter::scratch`](crate::lora::Adapter::scratch) is so much at most.
    pub fn adapted_bytes(
        config: &ModelConfig,
        sizes: &TransformerSizes,
        threads: usize,
        scratch: usize,
    ) -> u64 {
        (threads * AdaptedWork::bytes(config, sizes.step_tokens_max, scratch)) as u64
    }

    /// Bytes of one KV block, over the layers of a group.
    pub fn block_bytes(config: &ModelConfig, sizes: &TransformerSizes) -> u64 {
        kv_shape(config, sizes).block_bytes() as u64
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    /// Computes a step: stores keys and values of every token, and gives what is asked of rows.
    pub fn forward(&mut self, cpu: &mut Cpu, batch: Batch<'_>) -> Outputs<'_> {
        let vocabulary = self.model.config.vocab_size;
        let logits = &mut self.logits[..batch.logits_rows.len() * vocabulary];
        let many = batch.tokens.len() >= SHARE_ROWS_MIN * self.lanes.len();
        let count = if many { self.lanes.len() } else { 1 };
        let shares = share_out(&mut self.cache, batch.sequences, count);
        let (mut rest, mut rest_logits) = (batch, &mut logits[..]);
        self.share_starts = shares.iter().map(|share| share.rows().start).collect();
        let mut turns = Vec::with_capacity(shares.len());
        for (share, lane) in shares.into_iter().zip(&mut self.lanes) {
            let (batch, later) = rest.split_rows(share.rows().end);
            let (logits, others) = rest_logits.split_at_mut(batch.logits_rows.len() * vocabulary);
            (rest, rest_logits) = (later, others);
            turns.push(Turn { lane, task: Some(Task { share, batch, logits }), top: Vec::new() });
        }
        self.model.take_turns(cpu, &mut turns);
        let top = turns.into_iter().flat_map(|turn| turn.top).collect();
        Outputs { logits, top }
    }
}

impl Transformer {
    /// Most rows whose logits can be asked for at once.
    pub fn logits_rows_max(&self) -> usize {
        self.logits.len() / self.model.config.vocab_size
    }

    /// The logits of more rows of the last step, at most [`Transformer::logits_rows_max`]. They take the
    /// place of those that [`Transformer::forward`] gave; of a row they would be the same.
    ///
    /// Shape: `[rows, vocab_size]`.
    pub fn more_logits(&mut self, cpu: &mut Cpu, rows: &[usize]) -> &mut [f32] {
        let width = self.model.config.hidden_size;
        for (index, &row) in rows.iter().enumerate() {
            let (lane, at) = self.place(row);
            let out = index * width..(index + 1) * width;
            let (first, others) = self.lanes.split_first_mut().expect("there is a thread");
            let Work { hidden, last, .. } = &mut first.work;
            let hidden = match lane {
                0 => &*hidden,
                lane => &others[lane - 1].work.hidden,
            };
            last[out].copy_from_slice(&hidden[at..at + width]);
        }
        let Work { last, last_normed, .. } = &mut self.lanes[0].work;
        let last = &mut last[..rows.len() * width];
        normalise(cpu, last, &self.model.weights.output_norm, last_normed);
        let logits = &mut self.logits[..rows.len() * self.model.config.vocab_size];
        matmul(cpu, last_normed, &[self.model.weights.head()], logits);
        logits
    }

    /// The state of a row of the last step behind the last norm: what the head reads, as floats.
    ///
    /// Shape: `out` `[hidden_size]`.
    pub fn final_state(&self, cpu: &Cpu, row: usize, out: &mut [f32]) {
        let (lane, at) = self.place(row);
        let width = self.model.config.hidden_size;
        out.copy_from_slice(&self.lanes[lane].work.hidden[at..at + width]);
        self.model.weights.output_norm.apply(cpu.isa(), out);
    }

    /// Where a row of the last step lies: which lane, and where in its residual stream.
    fn place(&self, row: usize) -> (usize, usize) {
        let lane = self.share_starts.partition_point(|&start| start <= row);
        let lane = lane.checked_sub(1).expect("a step was computed");
        (lane, (row - self.share_starts[lane]) * self.model.config.hidden_size)
    }
}

impl Batch<'_> {
    /// The rows asked for below `end`, and the others.
    fn split_rows(self, end: usize) -> (Self, Self) {
        let split = self.logits_rows.partition_point(|&row| row < end);
        let (logits, logits_later) = self.logits_rows.split_at(split);
        let split = self.top_rows.partition_point(|top| top.row < end);
        let (top, top_later) = self.top_rows.split_at(split);
        let of = |logits_rows, top_rows| Batch { logits_rows, top_rows, ..self };
        (of(logits, top), of(logits_later, top_later))
    }
}

impl<'a> Turn<'a> {
    /// The task, to be owned by the thread that computes it: if that panics, the share ends with
    /// it, and threads that wait for its keys learn of it.
    fn take_task(&mut self) -> Task<'a> {
        self.task.take().expect("a lane has one task")
    }
}

impl Model {
    /// Computes a single share with all threads, or each of several with its lane's own.
    fn take_turns(&self, cpu: &mut Cpu, turns: &mut [Turn<'_>]) {
        if let [turn] = turns {
            let task = turn.take_task();
            turn.top = self.compute(cpu, &mut turn.lane.work, task);
            return;
        }
        // A share may wait for the one before it: each thread begins with its own, and takes
        // another only when all before that are begun.
        let mut threads = vec![(); cpu.pool.threads()];
        cpu.pool.for_each_row(&mut threads, turns, 1, |(), _, turn| {
            let turn = &mut turn[0];
            let task = turn.take_task();
            turn.top = self.compute(&mut turn.lane.cpu, &mut turn.lane.work, task);
        });
    }

    /// Computes a share; gives the logits of its `top_rows`.
    fn compute(&self, cpu: &mut Cpu, work: &mut Work, task: Task<'_>) -> Vec<TopLogits> {
        let Task { mut share, batch, logits } = task;
        let adapted = Adapted::new(&self.weights.adapters, &batch, share.rows());
        self.layers(cpu, work, &mut share, (batch.tokens, &adapted));
        self.head(cpu, work, (share.rows().start, batch), logits)
    }

    /// From the share's tokens to its rows of the residual stream.
    fn layers(
        &self,
        cpu: &mut Cpu,
        work: &mut Work,
        share: &mut Share<'_>,
        (tokens, adapted): (&[u32], &Adapted<'_>),
    ) {
        let width = self.config.hidden_size;
        let tokens = &tokens[share.rows()];
        let hidden = &mut work.hidden[..tokens.len() * width];
        let positions: Vec<usize> = share.positions().collect();
        let mut threads = vec![Vec::new(); cpu.pool.threads()];
        cpu.pool.for_each_row(&mut threads, hidden, width, |position, row, values| {
            self.weights.embedding.read_row(tokens[row] as usize, values);
            if self.config.architecture.scaled_embedding {
                let scale = (width as f32).sqrt();
                values.iter_mut().for_each(|value| *value *= scale);
            }
            if let Some(learned) = &self.weights.positions {
                position.resize(width, 0.0);
                learned.read_row(positions[row], position);
                values.iter_mut().zip(position).for_each(|(value, position)| *value += *position);
            }
        });
        for (layer, weights) in self.weights.layers.iter().enumerate() {
            let adapted = adapted.layer(layer);
            self.attend(cpu, (layer, weights, adapted), share, work);
            self.feed_forward(cpu, (weights, adapted), share.rows().len(), work);
        }
    }

    /// What is asked of the rows of a share that begins at row `first` of the step.
    fn head(
        &self,
        cpu: &mut Cpu,
        work: &mut Work,
        (first, batch): (usize, Batch<'_>),
        logits: &mut [f32],
    ) -> Vec<TopLogits> {
        let head = self.weights.head();
        if !batch.logits_rows.is_empty() {
            self.normalise_last(cpu, work, (first, batch.logits_rows));
            matmul(cpu, &work.last_normed, &[head], logits);
        }
        if batch.top_rows.is_empty() {
            return Vec::new();
        }
        let (rows, counts): (Vec<_>, Vec<_>) =
            batch.top_rows.iter().map(|top| (top.row, top.count)).unzip();
        self.normalise_last(cpu, work, (first, &rows));
        matmul_top(cpu, &work.last_normed, (head, &counts), &mut work.tops)
    }

    fn normalise_last(&self, cpu: &mut Cpu, work: &mut Work, (first, rows): (usize, &[usize])) {
        let width = self.config.hidden_size;
        let last = &mut work.last[..rows.len() * width];
        for (out, &row) in last.chunks_exact_mut(width).zip(rows) {
            let at = (row - first) * width;
            out.copy_from_slice(&work.hidden[at..at + width]);
        }
        normalise(cpu, last, &self.weights.output_norm, &mut work.last_normed);
    }
}

impl Work {
    fn new(config: &ModelConfig, weights: &Weights, sizes: &TransformerSizes) -> Work {
        let floats = weights.any_float() || !weights.adapters.is_empty();
        let (tokens, rows) = (sizes.step_tokens_max, sizes.logits_rows_max);
        let qkv = config.query_size() + 2 * config.kv_size();
        Work {
            hidden: Buffer::zeroed(tokens * config.hidden_size),
            normed: Activations::new(tokens, config.hidden_size).with_floats(floats),
            qkv: Buffer::zeroed(tokens * qkv),
            attended: Activations::new(tokens, config.query_size()).with_floats(floats),
            attention_scratch: AttentionScratch::default(),
            gated: Buffer::zeroed(tokens * config.intermediate_size),
            inner: Activations::new(tokens, config.intermediate_size).with_floats(floats),
            branch: Buffer::zeroed(tokens * branch_size(config)),
            mixture: Mixture::new(config, tokens, floats),
            adapted: AdaptedWork::new(config, tokens, &weights.adapters),
            last: Buffer::zeroed(rows * config.hidden_size),
            last_normed: Activations::new(rows, config.hidden_size).with_floats(floats),
            tops: Vec::new(),
        }
    }
}

/// Numbers of a token that go through a norm before they are added.
fn branch_size(config: &ModelConfig) -> usize {
    if config.architecture.post_norms { config.hidden_size } else { 0 }
}

fn kv_shape(config: &ModelConfig, sizes: &TransformerSizes) -> KvShape {
    KvShape {
        layers: config.layer_count / sizes.kv_groups.count(),
        kv_heads: config.kv_head_count,
        head_dim: config.head_dim,
        block_size: sizes.block_size,
        block_count: sizes.block_count,
        kind: sizes.kv_type,
    }
}
