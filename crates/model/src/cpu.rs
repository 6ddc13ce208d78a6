//! The model on this machine's processor, as the engine sees it.

use std::ops::Range;

use engine::{Device, DeviceError, Failure, Row, RowOutput, StepOutput, StepPlan, TokenId};
use grammar::{Ahead, Guided};
use kernels::cpu::Cpu;
use kernels::isa::Work;
use kernels::share::SequenceRows;
use sampling::{
    Context, LogProbs, Pool, PromptScores, SampleError, Sampler, SamplingParams, Scored,
};

use crate::config::ModelConfig;
use crate::transformer::{Batch, Outputs, TopRow, Transformer};

/// What goes with a chosen token: its log-probabilities, if the request asks for them.
pub type Extra = Option<Box<LogProbs>>;

/// Runs steps on the processor and samples their tokens.
pub struct CpuDevice {
    cpu: Cpu,
    transformer: Transformer,
    /// One for each thread.
    threads: Vec<SamplingThread>,
    /// Computes what grammars allow next, while the next step runs.
    ahead: Ahead,
}

/// What one thread samples with, and what it has sampled in this step.
struct SamplingThread {
    sampler: Sampler,
    history: Vec<u32>,
    /// Index among the sampled rows, and what came of the row.
    sampled: Vec<(usize, Result<Scored, Failure>)>,
}

impl CpuDevice {
    /// Most bytes that so many threads take beside the transformer's, for sequences of up to
    /// `positions_max` tokens.
    pub fn thread_bytes(threads: usize, config: &ModelConfig, positions_max: usize) -> u64 {
        let sampling = Sampler::bytes(config.vocab_size) + positions_max * size_of::<u32>();
        (threads * sampling) as u64
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
        CpuDevice { cpu, transformer, threads, ahead: Ahead::new() }
    }
}

impl Device for CpuDevice {
    type Params = Guided<SamplingParams>;
    type Extra = Extra;

    fn run(&mut self, plan: &StepPlan<'_, Self::Params>) -> Result<StepOutput<Extra>, DeviceError> {
        let step = FlatStep::new(plan);
        let sequences = step.sequences();
        let batch = Batch {
            tokens: &step.tokens,
            sequences: &sequences,
            logits_rows: &step.whole_rows,
            top_rows: &step.top_rows,
        };
        let Outputs { logits, top } = self.transformer.forward(&mut self.cpu, batch);
        let sampled = sample(&mut self.cpu, &mut self.threads, (plan, &step.whole), logits);
        let mut rows: Vec<_> = plan.rows.iter().map(|_| RowOutput::Computed).collect();
        for (&row, top) in step.top.iter().zip(top) {
            let (params, position) = (&plan.rows[row].params.sampling, plan.rows[row].tokens.len());
            let sampler = &mut self.threads[0].sampler;
            rows[row] = match top {
                Some(top) => {
                    let token = sampler.sample_top(&top, params, position);
                    output(token.map(|token| (token, None)).map_err(failure))
                }
                None => RowOutput::Failed(Failure::fault("a logit is not a finite number")),
            };
        }
        for (&row, token) in step.whole.iter().zip(sampled) {
            self.work_ahead(&plan.rows[row], &token);
            rows[row] = output(token);
        }
        for ((flat, row), output) in step.rows.iter().zip(&plan.rows).zip(&mut rows) {
            let (first, params) = (flat.tokens.start, &row.params.sampling);
            if let Some(pool) = params.pool() {
                *output = self.add_states(row, first, pool);
            }
            if let Some(scores) = params.prompt_scores()
                && let Err(failure) = self.score_prompt(row, first, scores)
            {
                *output = RowOutput::Failed(failure);
            }
        }
        Ok(StepOutput { rows })
    }
}

impl CpuDevice {
    /// Adds to `pool` what it wants of the states of `row`, whose tokens begin at `first` in the step.
    fn add_states(
        &self,
        row: &Row<'_, Guided<SamplingParams>>,
        first: usize,
        pool: &Pool,
    ) -> RowOutput<<Self as Device>::Extra> {
        let mut state = vec![0.0; self.transformer.config().hidden_size];
        for (place, position) in (first..).zip(row.compute.clone()) {
            if pool.wants(position, row.prompt_len) {
                self.transformer.final_state(&self.cpu, place, &mut state);
                pool.add(position, &state);
            }
        }
        if !row.sampled() {
            return RowOutput::Computed;
        }
        if !pool.is_finite() {
            return RowOutput::Failed(Failure::fault("a number of the vector is not finite"));
        }
        // The engine ends requests with tokens. What was asked for is in the pool; nobody reads this.
        RowOutput::token(TokenId(0), Default::default())
    }

    /// Gives `scores` what it wants of the positions of `row`, whose tokens begin at `first` in the step.
    /// As many at a time as have room for their logits.
    fn score_prompt(
        &mut self,
        row: &Row<'_, Guided<SamplingParams>>,
        first: usize,
        scores: &PromptScores,
    ) -> Result<(), Failure> {
        let wanted: Vec<usize> = row.compute.clone().filter(|p| scores.wants(*p)).collect();
        for positions in wanted.chunks(self.transformer.logits_rows_max()) {
            let rows: Vec<_> = positions.iter().map(|p| first + p - row.compute.start).collect();
            let logits = self.transformer.more_logits(&mut self.cpu, &rows);
            let vocabulary = logits.len() / rows.len();
            let isa = self.cpu.isa();
            self.cpu.pool.for_each_row(
                &mut self.threads,
                logits,
                vocabulary,
                |thread, i, logits| {
                    let position = positions[i];
                    let token = row.tokens[position + 1].0;
                    let (sampler, count) = (&mut thread.sampler, scores.count());
                    match isa.run(Score { sampler, logits, token, count }) {
                        Ok(log_probs) => scores.set(position, log_probs),
                        Err(error) => thread.sampled.push((i, Err(failure(error)))),
                    }
                },
            );
            let failed = self.threads.iter_mut().flat_map(|thread| thread.sampled.drain(..));
            if let Some((_, Err(failure))) = failed.min_by_key(|(index, _)| *index) {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Has the tokens computed that may follow `scored`, if a grammar says which.
    fn work_ahead(&self, row: &Row<'_, Guided<SamplingParams>>, scored: &Result<Scored, Failure>) {
        if let (Some(constraint), Ok((token, _))) = (&row.params.constraint, scored) {
            self.ahead.prepare(constraint, row.tokens.len() - row.prompt_len, *token);
        }
    }
}

/// Whose doing it is that a row gives no token.
fn failure(error: SampleError) -> Failure {
    match error {
        SampleError::NonFinite { .. } => Failure::fault(error.to_string()),
        SampleError::AllMasked { .. } => Failure::no_token(error.to_string()),
    }
}

fn output(scored: Result<Scored, Failure>) -> RowOutput<Extra> {
    match scored {
        Ok((token, extra)) => RowOutput::token(TokenId(token), extra),
        Err(failure) => RowOutput::Failed(failure),
    }
}

/// A plan's rows laid one after another.
struct FlatStep {
    tokens: Vec<u32>,
    /// Block tables of all rows.
    blocks: Vec<u32>,
    rows: Vec<FlatRow>,
    /// Last tokens of the rows whose token the greatest logits decide, and the rows' places in the plan.
    top_rows: Vec<TopRow>,
    top: Vec<usize>,
    /// The same of the rows whose token needs every logit.
    whole_rows: Vec<usize>,
    whole: Vec<usize>,
}

struct FlatRow {
    tokens: Range<usize>,
    position: usize,
    blocks: Range<usize>,
}

impl FlatStep {
    fn new(plan: &StepPlan<'_, Guided<SamplingParams>>) -> FlatStep {
        let mut step = FlatStep {
            tokens: Vec::with_capacity(plan.token_count()),
            blocks: Vec::new(),
            rows: Vec::with_capacity(plan.rows.len()),
            top_rows: Vec::new(),
            top: Vec::new(),
            whole_rows: Vec::new(),
            whole: Vec::new(),
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
            if row.sampled() && row.params.sampling.pool().is_none() {
                let last = step.tokens.len() - 1;
                let Guided { sampling, constraint } = row.params;
                if let (Some(count), None) = (sampling.top_needed(), constraint) {
                    step.top_rows.push(TopRow { row: last, count });
                    step.top.push(index);
                } else {
                    step.whole_rows.push(last);
                    step.whole.push(index);
                }
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

/// Samples every row of `logits` in parallel, those of these rows of the plan; gives the tokens in the order of the rows.
fn sample(
    cpu: &mut Cpu,
    threads: &mut [SamplingThread],
    (plan, rows): (&StepPlan<'_, Guided<SamplingParams>>, &[usize]),
    logits: &mut [f32],
) -> Vec<Result<Scored, Failure>> {
    let count = rows.len();
    if count == 0 {
        return Vec::new();
    }
    let vocabulary = logits.len() / count;
    let isa = cpu.isa();
    cpu.pool.for_each_row(threads, logits, vocabulary, |thread, index, logits| {
        let row = &plan.rows[rows[index]];
        let SamplingThread { sampler, history, sampled } = thread;
        history.clear();
        history.extend(row.tokens.iter().map(|token| token.0));
        let Guided { sampling: params, constraint } = row.params;
        let prompt_len = row.prompt_len;
        let allowed = constraint.as_ref().map(|c| c.allowed_after(&history[prompt_len..]));
        // A grammar without a next token, or one that takes too long to find, is the request's.
        let allowed = allowed.transpose().map_err(|error| Failure::no_token(error.to_string()));
        let token = allowed.and_then(|allowed| {
            let allowed = allowed.as_ref().map(|set| set.words());
            let context = Context { tokens: history, prompt_len, allowed };
            isa.run(Choice { sampler, logits, params, context }).map_err(failure)
        });
        sampled.push((index, token));
    });
    let mut sampled: Vec<_> = threads.iter_mut().flat_map(|t| t.sampled.drain(..)).collect();
    sampled.sort_unstable_by_key(|(index, _)| *index);
    sampled.into_iter().map(|(_, token)| token).collect()
}

/// What is to be sampled from one row.
struct Choice<'a> {
    sampler: &'a mut Sampler,
    logits: &'a mut [f32],
    params: &'a SamplingParams,
    context: Context<'a>,
}

impl Work for Choice<'_> {
    type Output = Result<Scored, SampleError>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        self.sampler.sample_scored(self.logits, self.params, &self.context)
    }
}

/// A token of a prompt that is to be scored.
struct Score<'a> {
    sampler: &'a mut Sampler,
    /// Those of the position before it.
    logits: &'a [f32],
    token: u32,
    count: u32,
}

impl Work for Score<'_> {
    type Output = Result<LogProbs, SampleError>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        self.sampler.log_probs(self.logits, self.token, self.count)
    }
}
