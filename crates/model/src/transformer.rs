//! The forward pass: tokens in, logits of the rows asked for out.

use kernels::attention::{AttentionScratch, SequenceRows, attention};
use kernels::buffer::Buffer;
use kernels::cpu::Cpu;
use kernels::kv::{KvCache, KvShape, KvType};
use kernels::matmul::{matmul, matmul_add, matmul_swiglu};
use kernels::norm::rms_norm;
use kernels::quantise::Activations;
use kernels::rope::RopeTable;

use crate::config::ModelConfig;
use crate::weights::{LayerWeights, Weights};

/// How much one step may hold, and where keys and values go.
#[derive(Debug, Clone, Copy)]
pub struct TransformerSizes {
    /// Most tokens of one step.
    pub step_tokens_max: usize,
    /// Most rows of one step whose logits are asked for.
    pub logits_rows_max: usize,
    /// Longest sequence.
    pub positions_max: usize,
    /// Tokens per KV block; a multiple of 32.
    pub block_size: usize,
    /// KV blocks.
    pub block_count: usize,
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
    /// Rows whose logits are wanted, ascending.
    pub logits_rows: &'a [usize],
}

/// A model with its working memory.
pub struct Transformer {
    config: ModelConfig,
    weights: Weights,
    rope: RopeTable,
    cache: KvCache,
    work: Work,
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
    /// Rows of `hidden` whose logits are wanted.
    last: Buffer<f32>,
    last_normed: Activations,
    logits: Buffer<f32>,
}

impl Transformer {
    /// Reserves the working memory and the KV cache.
    pub fn new(config: ModelConfig, weights: Weights, sizes: TransformerSizes) -> Transformer {
        let cache = KvCache::new(kv_shape(&config, &sizes));
        let rope = RopeTable::new(sizes.positions_max, config.head_dim, config.rope_theta);
        let work = Work::new(&config, &sizes, weights.any_float());
        Transformer { config, weights, rope, cache, work }
    }

    /// Bytes of working memory that [`Transformer::new`] reserves beside weights and KV blocks.
    pub fn activation_bytes(config: &ModelConfig, sizes: &TransformerSizes) -> u64 {
        let (tokens, rows) = (sizes.step_tokens_max, sizes.logits_rows_max);
        let qkv = config.query_size() + 2 * config.kv_size();
        let floats = tokens * (config.hidden_size + qkv + config.intermediate_size)
            + rows * (config.hidden_size + config.vocab_size);
        let activations = Activations::bytes(tokens, config.hidden_size)
            + Activations::bytes(tokens, config.query_size())
            + Activations::bytes(tokens, config.intermediate_size)
            + Activations::bytes(rows, config.hidden_size);
        let rope = RopeTable::bytes(sizes.positions_max, config.head_dim);
        (floats * size_of::<f32>() + activations + rope) as u64
    }

    /// Bytes of one KV block over all layers.
    pub fn block_bytes(config: &ModelConfig, sizes: &TransformerSizes) -> u64 {
        kv_shape(config, sizes).block_bytes() as u64
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Computes a step: stores keys and values of every token, and gives the logits of the rows
    /// asked for, `[logits_rows, vocab_size]`.
    pub fn forward(&mut self, cpu: &mut Cpu, batch: Batch<'_>) -> &mut [f32] {
        let width = self.config.hidden_size;
        let work = &mut self.work;
        let hidden = &mut work.hidden[..batch.tokens.len() * width];
        let embedding = &self.weights.embedding;
        let mut threads = vec![(); cpu.pool.threads()];
        cpu.pool.for_each_row(&mut threads, hidden, width, |(), row, values| {
            embedding.read_row(batch.tokens[row] as usize, values);
        });
        for layer in 0..self.weights.layers.len() {
            self.layer(cpu, layer, batch);
        }
        self.logits(cpu, batch)
    }

    fn layer(&mut self, cpu: &mut Cpu, layer: usize, batch: Batch<'_>) {
        let LayerWeights {
            attention_norm,
            query,
            key,
            value,
            attention_output,
            feed_forward_norm,
            gate,
            up,
            down,
        } = &self.weights.layers[layer];
        let tokens = batch.tokens.len();
        let eps = self.config.rms_norm_eps;
        let work = &mut self.work;
        let hidden = &mut work.hidden[..tokens * self.config.hidden_size];
        let qkv_width = query.rows() + key.rows() + value.rows();
        let qkv = &mut work.qkv[..tokens * qkv_width];
        let gated = &mut work.gated[..tokens * self.config.intermediate_size];

        rms_norm(cpu, hidden, (attention_norm, eps), &mut work.normed);
        matmul(cpu, &work.normed, &[query, key, value], qkv);
        attention(
            cpu,
            (&mut self.cache, layer),
            batch.sequences,
            (qkv, &self.rope),
            &mut work.attention_scratch,
            &mut work.attended,
        );
        matmul_add(cpu, &work.attended, attention_output, hidden);
        rms_norm(cpu, hidden, (feed_forward_norm, eps), &mut work.normed);
        matmul_swiglu(cpu, &work.normed, (gate, up), gated);
        work.inner.quantise(cpu, gated);
        matmul_add(cpu, &work.inner, down, hidden);
    }

    fn logits(&mut self, cpu: &mut Cpu, batch: Batch<'_>) -> &mut [f32] {
        let (width, rows) = (self.config.hidden_size, batch.logits_rows.len());
        let work = &mut self.work;
        let last = &mut work.last[..rows * width];
        for (out, &row) in last.chunks_exact_mut(width).zip(batch.logits_rows) {
            out.copy_from_slice(&work.hidden[row * width..(row + 1) * width]);
        }
        let logits = &mut work.logits[..rows * self.config.vocab_size];
        if rows > 0 {
            let norm = (&self.weights.output_norm[..], self.config.rms_norm_eps);
            rms_norm(cpu, last, norm, &mut work.last_normed);
            matmul(cpu, &work.last_normed, &[self.weights.head()], logits);
        }
        logits
    }
}

impl Work {
    fn new(config: &ModelConfig, sizes: &TransformerSizes, floats: bool) -> Work {
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
            last: Buffer::zeroed(rows * config.hidden_size),
            last_normed: Activations::new(rows, config.hidden_size).with_floats(floats),
            logits: Buffer::zeroed(rows * config.vocab_size),
        }
    }
}

fn kv_shape(config: &ModelConfig, sizes: &TransformerSizes) -> KvShape {
    KvShape {
        layers: config.layer_count,
        kv_heads: config.kv_head_count,
        head_dim: config.head_dim,
        block_size: sizes.block_size,
        block_count: sizes.block_count,
        kind: sizes.kv_type,
    }
}
