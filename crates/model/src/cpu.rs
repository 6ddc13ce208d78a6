//! The model on this machine's processor, as the engine sees it.

use engine::{
    BlockId, Device, DeviceError, Failure, Row, RowOutput, StepOutput, StepPlan, TokenId,
};
use grammar::{Ahead, Guided};
use kernels::cpu::Cpu;
use kernels::isa::Work;
use kernels::kv::RELEASED;
use sampling::{LogProbs, Pool, PromptScores, SampleError, Sampler, SamplingParams};

use crate::config::ModelConfig;
use crate::draft::Drafter;
use crate::step::{FlatStep, SamplingThread, StepRow, failure};
use crate::transformer::Transformer;

pub use crate::step::Extra;

/// Runs steps on the processor and samples their tokens.
pub struct CpuDevice {
    cpu: Cpu,
    transformer: Transformer,
    /// One for each thread.
    threads: Vec<SamplingThread>,
    /// Computes what grammars allow next, while the next step runs.
    ahead: Ahead,
    /// None where nothing is guessed.
    drafter: Option<Drafter>,
}

impl CpuDevice {
    /// Most bytes that so many threads take beside the transformer's, for sequences of up to
    /// `positions_max` tokens.
    pub fn thread_bytes(threads: usize, config: &ModelConfig, positions_max: usize) -> u64 {
        (threads * SamplingThread::bytes(config.vocab_size, positions_max)) as u64
    }

    /// A device that computes `transformer` with the threads of `cpu`, and uses the room for drafts that it
    /// is given if there is a `drafter`.
    pub fn new(cpu: Cpu, transformer: Transformer, drafter: Option<Drafter>) -> CpuDevice {
        let threads = SamplingThread::for_each(&cpu);
        CpuDevice { cpu, transformer, threads, ahead: Ahead::new(), drafter }
    }
}

impl Device for CpuDevice {
    type Params = Guided<SamplingParams>;
    type Extra = Extra;

    fn run(&mut self, plan: &StepPlan<'_, Self::Params>) -> Result<StepOutput<Extra>, DeviceError> {
        let CpuDevice { cpu, transformer, threads, drafter, .. } = self;
        let drafts = match drafter {
            Some(drafter) => drafter.draft(cpu, threads, &plan.rows),
            None => vec![Vec::new(); plan.rows.len()],
        };
        let rows: Vec<_> =
            plan.rows.iter().zip(&drafts).map(|(row, draft)| step_row(row, draft)).collect();
        let step = FlatStep::new(&rows);
        let mut outputs = step.run(cpu, transformer, threads);
        for ((row, &first), output) in plan.rows.iter().zip(&step.firsts).zip(&mut outputs) {
            self.work_ahead(row, output);
            let params = &row.params.sampling;
            if let Some(pool) = params.pool() {
                *output = self.add_states(row, first, pool);
            }
            if let Some(scores) = params.prompt_scores()
                && let Err(failure) = self.score_prompt(row, first, scores)
            {
                *output = RowOutput::Failed(failure);
            }
        }
        Ok(StepOutput { rows: outputs })
    }
}

// A released block is one to the kernels too.
const _: () = assert!(BlockId::RELEASED.0 == RELEASED);

/// A row of a plan with its draft.
fn step_row<'a>(row: &'a Row<'_, Guided<SamplingParams>>, draft: &'a [TokenId]) -> StepRow<'a> {
    let Guided { sampling, constraint } = row.params;
    let chooses = row.sampled() && sampling.pool().is_none();
    StepRow {
        known: row.tokens,
        prompt_len: row.prompt_len,
        draft,
        compute: row.compute.start..row.compute.end + draft.len(),
        choices: if chooses { 1 + draft.len() } else { 0 },
        blocks: row.blocks.iter().flatten().map(|block| block.0).collect(),
        adapter: row.adapter.map(|adapter| adapter.0 as usize),
        params: sampling,
        constraint: constraint.as_ref(),
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
                        Err(error) => thread.failed.push((i, failure(error))),
                    }
                },
            );
            let failed = self.threads.iter_mut().flat_map(|thread| thread.failed.drain(..));
            if let Some((_, failure)) = failed.min_by_key(|(index, _)| *index) {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Has the tokens computed that may follow those of `output`, if a grammar says which.
    fn work_ahead(&self, row: &Row<'_, Guided<SamplingParams>>, output: &RowOutput<Extra>) {
        if let (Some(constraint), RowOutput::Tokens { tokens, .. }) =
            (&row.params.constraint, output)
            && let Some(last) = tokens.last()
        {
            let position = row.tokens.len() - row.prompt_len + tokens.len() - 1;
            self.ahead.prepare(constraint, position, last.token.0);
        }
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
