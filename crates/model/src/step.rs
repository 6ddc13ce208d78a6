//! One step of a transformer and the choice of its rows' tokens, drafts verified.

use std::ops::Range;

use engine::{Failure, RowOutput, Sampled, TokenId};
use grammar::{Constraint, MatchError};
use kernels::cpu::Cpu;
use kernels::isa::Work;
use kernels::share::SequenceRows;
use sampling::{Context, LogProbs, SampleError, Sampler, SamplingParams, Scored};

use crate::transformer::{Batch, Outputs, TopLogits, TopRow, Transformer};

/// What goes with a chosen token: its log-probabilities, if the request asks for them.
pub type Extra = Option<Box<LogProbs>>;

/// One sequence's part of a step.
pub struct StepRow<'a> {
    /// All known tokens.
    pub known: &'a [TokenId],
    /// How many of them are the prompt.
    pub prompt_len: usize,
    /// Tokens that may come behind the known ones.
    pub draft: &'a [TokenId],
    /// Positions to compute, of the known tokens and the draft.
    pub compute: Range<usize>,
    /// The last so many of these positions choose the token behind them: all with the same draft.
    pub choices: usize,
    /// The block tables of the groups of layers, one after another.
    pub blocks: Vec<u32>,
    /// Its adapter, by its place in [`Weights::adapters`](crate::weights::Weights::adapters).
    pub adapter: Option<usize>,
    /// How tokens are chosen.
    pub params: &'a SamplingParams,
    /// Which may be chosen.
    pub constraint: Option<&'a Constraint>,
}

impl<'a> StepRow<'a> {
    fn token(&self, position: usize) -> TokenId {
        match position.checked_sub(self.known.len()) {
            None => self.known[position],
            Some(drafted) => self.draft[drafted],
        }
    }

    /// Chooses tokens one after another, as long as each is what the draft has there. `choose` is
    /// given how many were chosen before.
    ///
    /// A token that cannot be chosen ends the request only if it is the first: those before it are
    /// told, and the next step comes to it again.
    fn verify(&self, mut choose: impl FnMut(usize) -> Result<Scored, Failure>) -> RowOutput<Extra> {
        let mut tokens = Vec::with_capacity(self.choices);
        let first = self.compute.end + 1 - self.choices;
        for chosen in 0..self.choices {
            let (token, extra) = match choose(chosen) {
                Ok((token, extra)) => (TokenId(token), extra),
                Err(failure) if chosen == 0 => return RowOutput::Failed(failure),
                Err(_) => break,
            };
            tokens.push(Sampled { token, extra });
            let position = first + chosen;
            if position == self.compute.end || self.token(position) != token {
                break;
            }
        }
        RowOutput::Tokens { tokens, drafted: self.choices - 1 }
    }
}

/// What one thread samples with, and the errors of rows that it scored.
pub struct SamplingThread {
    /// The scratch of the choice.
    pub sampler: Sampler,
    history: Vec<u32>,
    /// Index of a row, and what went wrong.
    pub failed: Vec<(usize, Failure)>,
}

impl SamplingThread {
    /// Most bytes of one, for sequences of up to `positions_max` tokens.
    pub const fn bytes(vocabulary_len: usize, positions_max: usize) -> usize {
        // A vector that grows may have room for twice what it holds.
        Sampler::bytes(vocabulary_len) + 2 * positions_max * size_of::<u32>()
    }

    /// One for each thread of `cpu`.
    pub fn for_each(cpu: &Cpu) -> Vec<SamplingThread> {
        let thread =
            |_| SamplingThread { sampler: Sampler::new(), history: Vec::new(), failed: Vec::new() };
        (0..cpu.pool.threads()).map(thread).collect()
    }
}

/// The rows of a step laid one after another.
pub struct FlatStep<'a> {
    rows: &'a [StepRow<'a>],
    tokens: Vec<u32>,
    /// The first token of each row.
    pub firsts: Vec<usize>,
    /// Tokens whose successor the greatest logits decide, and the rows that they belong to.
    top_rows: Vec<TopRow>,
    top: Vec<usize>,
    /// The same where every logit is needed.
    whole_rows: Vec<usize>,
    whole: Vec<usize>,
}

impl<'a> FlatStep<'a> {
    /// Lays out `rows`.
    pub fn new(rows: &'a [StepRow<'a>]) -> FlatStep<'a> {
        let mut step = FlatStep {
            rows,
            tokens: Vec::with_capacity(rows.iter().map(|row| row.compute.len()).sum()),
            firsts: Vec::with_capacity(rows.len()),
            top_rows: Vec::new(),
            top: Vec::new(),
            whole_rows: Vec::new(),
            whole: Vec::new(),
        };
        for (index, row) in rows.iter().enumerate() {
            step.firsts.push(step.tokens.len());
            step.tokens.extend(row.compute.clone().map(|position| row.token(position).0));
            let choosing = step.tokens.len() - row.choices..step.tokens.len();
            if row.choices == 0 {
                continue;
            }
            if let (Some(count), None) = (row.params.top_needed(), row.constraint) {
                step.top_rows.extend(choosing.map(|row| TopRow { row, count }));
                step.top.push(index);
            } else {
                step.whole_rows.extend(choosing);
                step.whole.push(index);
            }
        }
        step
    }

    /// Computes the rows with `transformer` and chooses their tokens.
    pub fn run(
        &self,
        cpu: &mut Cpu,
        transformer: &mut Transformer,
        threads: &mut [SamplingThread],
    ) -> Vec<RowOutput<Extra>> {
        let sequence = |(row, &first): (&'a StepRow<'a>, &usize)| SequenceRows {
            row: first,
            rows: row.compute.len(),
            position: row.compute.start,
            blocks: &row.blocks,
        };
        let sequences: Vec<_> = self.rows.iter().zip(&self.firsts).map(sequence).collect();
        let adapters: Vec<_> = self.rows.iter().map(|row| row.adapter).collect();
        let batch = Batch {
            tokens: &self.tokens,
            sequences: &sequences,
            adapters: &adapters,
            logits_rows: &self.whole_rows,
            top_rows: &self.top_rows,
        };
        let Outputs { logits, top } = transformer.forward(cpu, batch);
        let mut outputs: Vec<_> = self.rows.iter().map(|_| RowOutput::Computed).collect();
        self.choose_of_top(top, &mut threads[0].sampler, &mut outputs);
        self.choose_of_whole(cpu, threads, logits, &mut outputs);
        outputs
    }

    fn choose_of_top(
        &self,
        top: Vec<TopLogits>,
        sampler: &mut Sampler,
        outputs: &mut [RowOutput<Extra>],
    ) {
        let mut top = &top[..];
        for &index in &self.top {
            let row = &self.rows[index];
            let (own, others) = top.split_at(row.choices);
            top = others;
            let first = row.compute.end + 1 - row.choices;
            outputs[index] = row.verify(|chosen| {
                let Some(top) = &own[chosen] else {
                    return Err(Failure::fault("a logit is not a finite number"));
                };
                let token = sampler.sample_top(top, row.params, first + chosen);
                token.map(|token| (token, None)).map_err(failure)
            });
        }
    }

    /// Each row by one thread: what a grammar allows behind a token is asked when that is chosen.
    fn choose_of_whole(
        &self,
        cpu: &mut Cpu,
        threads: &mut [SamplingThread],
        mut logits: &mut [f32],
        outputs: &mut [RowOutput<Extra>],
    ) {
        if self.whole.is_empty() {
            return;
        }
        let vocabulary = logits.len() / self.whole_rows.len();
        let mut choices: Vec<_> = (self.whole.iter())
            .map(|&index| {
                let row = &self.rows[index];
                let (own, others) =
                    std::mem::take(&mut logits).split_at_mut(row.choices * vocabulary);
                logits = others;
                (row, own, RowOutput::Computed)
            })
            .collect();
        let isa = cpu.isa();
        cpu.pool.for_each_row(threads, &mut choices, 1, |thread, _, choice| {
            let (row, logits, output) = &mut choice[0];
            let SamplingThread { sampler, history, .. } = thread;
            history.clear();
            *output = row.verify(|chosen| {
                let logits = &mut logits[chosen * vocabulary..][..vocabulary];
                let known = history.len()..row.compute.end + 1 - row.choices + chosen;
                history.extend(known.map(|position| row.token(position).0));
                let answer = &history[row.prompt_len..];
                let allowed = row.constraint.map(|constraint| constraint.allowed_after(answer));
                // A grammar without a next token, or one that takes too long to find, is the request's.
                let none = |error: MatchError| Failure::no_token(error.to_string());
                let allowed = allowed.transpose().map_err(none)?;
                let allowed = allowed.as_ref().map(|set| set.words());
                let context = Context { tokens: history, prompt_len: row.prompt_len, allowed };
                isa.run(Choice { sampler, logits, params: row.params, context }).map_err(failure)
            });
        });
        for (&index, (.., output)) in self.whole.iter().zip(choices) {
            outputs[index] = output;
        }
    }
}

/// Whose doing it is that a row gives no token.
pub fn failure(error: SampleError) -> Failure {
    match error {
        SampleError::NonFinite { .. } => Failure::fault(error.to_string()),
        SampleError::AllMasked { .. } => Failure::no_token(error.to_string()),
    }
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
