//! The model on this machine's processor, as the engine sees it.

use std::ops::Range;

use engine::{Device, DeviceError, RowOutput, Sampled, StepOutput, StepPlan, TokenId};
use kernels::attention::AttentionScratch;
use kernels::cpu::Cpu;
use kernels::share::SequenceRows;
use sampling::{Context, SampleError, Sampler, SamplingParams};

use crate::config::ModelConfig;
use crate::transformer::{Batch, Transformer};

/// Runs steps on the processor and samples their tokens.
pub struct CpuDevice {
    cpu: Cpu,
    transformer: Transformer,
    /// One for each thread.
    threads: Vec<SamplingThread>,
}

/// What one thread samples with, and what it has sampled in this step.
struct SamplingThread {
    sampler: Sampler,
    history: Vec<u32>,
    /// Index among the sampled rows, and the token.
    sampled: Vec<(usize, Result<u32, SampleError>)>,
}

impl CpuDevice {
    /// Most bytes that so many threads take beside the transformer's, for sequences of up to
    /// `positions_max` tokens.
    pub fn thread_bytes(threads: usize, config: &ModelConfig, positions_max: usize) -> u64 {
        let sampling = Sampler::bytes(config.vocab_size) + positions_max * size_of::<u32>();
        (AttentionScratch::bytes(threads) + threads * sampling) as u64
    }

    /// A device that computes `transformer` with the threads of `cpu`.
    pub fn new(cpu: Cpu, transformer: Transformer) -> CpuDevice {
        let threads = (0..cpu.pool.threads())
            .map(|_| SamplingThread {
                sampler: Sampler::new(),
                history: Vec::new(),
                sampled: Vec::new(),
            })
            .collect();
        CpuDevice { cpu, transformer, threads }
    }
}

impl Device for CpuDevice {
    type Params = SamplingParams;
    type Extra = ();

    fn run(&mut self, plan: &StepPlan<'_, SamplingParams>) -> Result<StepOutput<()>, DeviceError> {
        let step = FlatStep::new(plan);
        let sequences = step.sequences();
        let batch = Batch {
            tokens: &step.tokens,
            sequences: &sequences,
            logits_rows: &step.sampled_tokens,
        };
        let logits = self.transformer.forward(&mut self.cpu, batch);
        let mut tokens =
            sample(&mut self.cpu, &mut self.threads, (plan, &step), logits).into_iter();
        let rows = plan
            .rows
            .iter()
            .map(|row| match row.sampled().then(|| tokens.next()).flatten() {
                None => RowOutput::Computed,
                Some(Ok(token)) => {
                    RowOutput::Tokens(vec![Sampled { token: TokenId(token), extra: () }])
                }
                Some(Err(error)) => RowOutput::Failed(error.to_string()),
            })
            .collect();
        Ok(StepOutput { rows })
    }
}

/// A plan's rows laid one after another.
struct FlatStep {
    tokens: Vec<u32>,
    /// Block tables of all rows.
    blocks: Vec<u32>,
    rows: Vec<FlatRow>,
    /// Of the sampled rows: the last token's place in `tokens`, and the row's in the plan.
    sampled_tokens: Vec<usize>,
    sampled_rows: Vec<usize>,
}

struct FlatRow {
    tokens: Range<usize>,
    position: usize,
    blocks: Range<usize>,
}

impl FlatStep {
    fn new<P>(plan: &StepPlan<'_, P>) -> FlatStep {
        let mut step = FlatStep {
            tokens: Vec::with_capacity(plan.token_count()),
            blocks: Vec::new(),
            rows: Vec::with_capacity(plan.rows.len()),
            sampled_tokens: Vec::new(),
            sampled_rows: Vec::new(),
        };
        for (index, row) in plan.rows.iter().enumerate() {
            let (tokens, blocks) = (step.tokens.len(), step.blocks.len());
            step.tokens.extend(row.tokens[row.compute.clone()].iter().map(|token| token.0));
            step.blocks.extend(row.blocks.iter().map(|block| block.0));
            step.rows.push(FlatRow {
                tokens: tokens..step.tokens.len(),
                position: row.compute.start,
                blocks: blocks..step.blocks.len(),
            });
            if row.sampled() {
                step.sampled_tokens.push(step.tokens.len() - 1);
                step.sampled_rows.push(index);
            }
        }
        step
    }

    fn sequences(&self) -> Vec<SequenceRows<'_>> {
        let sequence = |row: &FlatRow| SequenceRows {
            row: row.tokens.start,
            rows: row.tokens.len(),
            position: row.position,
            blocks: &self.blocks[row.blocks.clone()],
        };
        self.rows.iter().map(sequence).collect()
    }
}

/// Samples every row of `logits` in parallel; gives the tokens in the order of the rows.
fn sample(
    cpu: &mut Cpu,
    threads: &mut [SamplingThread],
    (plan, step): (&StepPlan<'_, SamplingParams>, &FlatStep),
    logits: &mut [f32],
) -> Vec<Result<u32, SampleError>> {
    let count = step.sampled_rows.len();
    if count == 0 {
        return Vec::new();
    }
    let vocabulary = logits.len() / count;
    cpu.pool.for_each_row(threads, logits, vocabulary, |thread, index, logits| {
        let row = &plan.rows[step.sampled_rows[index]];
        thread.history.clear();
        thread.history.extend(row.tokens.iter().map(|token| token.0));
        let context = Context { tokens: &thread.history, prompt_len: row.prompt_len };
        let token = thread.sampler.sample(logits, row.params, &context);
        thread.sampled.push((index, token));
    });
    let mut sampled: Vec<_> = threads.iter_mut().flat_map(|t| t.sampled.drain(..)).collect();
    sampled.sort_unstable_by_key(|(index, _)| *index);
    sampled.into_iter().map(|(_, token)| token).collect()
}
