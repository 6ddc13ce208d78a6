//! What guesses the next tokens of a sequence: its own text, or a smaller model.
//!
//! Whatever is guessed, the tokens of an answer are those that the model itself chooses; a guess only
//! decides how many of them a step gives.

use std::collections::BTreeSet;
use std::ops::Range;

use engine::{BlockId, KvGroups, Row, RowOutput, TokenId};
use grammar::Guided;
use kernels::cpu::Cpu;
use sampling::SamplingParams;

use crate::config::ModelConfig;
use crate::step::{FlatStep, SamplingThread, StepRow};
use crate::transformer::{Transformer, TransformerSizes};
use crate::weights::Weights;

/// Most positions of a step with drafts.
///
/// About as many rows take as long to multiply as the weights take to read: the machine of
/// `PERFORMANCE.md` does 13 multiply-adds in the time in which it reads a byte, and a byte is 1.6 weights of
/// 5 bits, each of them a multiply-add a row. Each further position costs what a token costs in a large
/// batch.
pub const STEP_POSITIONS_MAX: usize = 8;

/// Most positions that a draft model computes in a step to follow what it lacks, before it guesses: what
/// others wait for it is bounded, whatever `--max-num-batched-tokens` is.
const CATCH_UP_MAX: usize = 256;

/// Fewest last tokens that must have occurred before for their successors to be guessed.
const LOOKUP_MIN: usize = 2;
/// Most last tokens that are compared: of places with as many in common the latest counts.
const LOOKUP_MAX: usize = 8;

/// What guesses.
pub enum Drafter {
    /// What followed the last tokens when they occurred before.
    PromptLookup,
    /// Another model with the same vocabulary.
    Model(Box<DraftModel>),
}

impl Drafter {
    /// A draft for each of `rows`, of at most `draft_max` tokens.
    pub fn draft(
        &mut self,
        cpu: &mut Cpu,
        threads: &mut [SamplingThread],
        rows: &[Row<'_, Guided<SamplingParams>>],
    ) -> Vec<Vec<TokenId>> {
        match self {
            Drafter::PromptLookup => {
                let draft = |row: &Row<'_, _>| lookup(row.tokens, room(row));
                rows.iter().map(draft).collect()
            }
            Drafter::Model(model) => model.draft(cpu, threads, rows),
        }
    }
}

/// Most tokens of a row's draft; none where something is wanted of its positions beside their tokens.
fn room(row: &Row<'_, Guided<SamplingParams>>) -> usize {
    let params = &row.params.sampling;
    let scored = params.prompt_scores().is_some() && row.compute.start < row.prompt_len;
    if params.pool().is_some() || scored { 0 } else { row.draft_max }
}

/// The blocks of a row where there is one group of layers.
fn table<'a>(row: &Row<'a, Guided<SamplingParams>>) -> &'a [BlockId] {
    &row.blocks[0]
}

/// Up to `most` tokens that may follow `tokens`: those that followed their last ones where most of
/// them, at least [`LOOKUP_MIN`], occurred before. What repeats itself goes on doing so.
///
/// Cost: one comparison for each token, and more where tokens are equal.
fn lookup(tokens: &[TokenId], most: usize) -> Vec<TokenId> {
    let common = |end: usize| {
        let before = tokens[..end].iter().rev().zip(tokens.iter().rev());
        before.take(LOOKUP_MAX).take_while(|(one, other)| one == other).count()
    };
    let (mut best, mut longest) = (0, LOOKUP_MIN - 1);
    for end in (1..tokens.len()).rev().take_while(|_| 0 < most) {
        let length = common(end);
        if longest < length {
            (best, longest) = (end, length);
        }
        if longest == LOOKUP_MAX {
            break;
        }
    }
    if best == 0 {
        return Vec::new();
    }
    let period = tokens.len() - best;
    (0..most).map(|place| tokens[best + place % period]).collect()
}

/// A model that guesses for another one. Its keys and values lie under the same block ids, so that
/// shared prefixes are shared and preempted sequences lose them here too. So the other model keeps all layers
/// in one group: what lies behind its windows may lie before this one's.
///
/// It computes only what it needs: it follows a sequence when there is room for a draft of it, not
/// while steps are large.
pub struct DraftModel {
    transformer: Transformer,
    sizes: TransformerSizes,
    /// How many of a block's positions, from the first, have the keys and values of the tokens that the
    /// other model has there. Shape: `[block_count]`.
    filled: Vec<usize>,
}

/// A row while its draft is made.
struct Drafting {
    /// Place in the step.
    index: usize,
    /// The first position that is not computed.
    start: usize,
    /// Where this step comes to; before the last known token there is no draft yet.
    end: usize,
    draft: Vec<TokenId>,
    most: usize,
}

impl Drafting {
    /// What its model has to compute next.
    fn step_row<'a>(&'a self, row: &'a Row<'_, Guided<SamplingParams>>) -> StepRow<'a> {
        StepRow {
            known: row.tokens,
            prompt_len: row.prompt_len,
            draft: &self.draft,
            compute: self.start..self.end,
            choices: self.most.min(1),
            blocks: table(row).iter().map(|block| block.0).collect(),
            // Those are of the target. Without one guesses are worse, and no token is another.
            adapter: None,
            // With the random numbers of the same positions, like models draw like tokens.
            params: &row.params.sampling,
            // What a grammar forbids is rejected. Asking it would lead it along guesses, and back.
            constraint: None,
        }
    }
}

impl DraftModel {
    /// The sizes that it needs beside a model of these.
    pub fn sizes(config: &ModelConfig, target: TransformerSizes) -> TransformerSizes {
        TransformerSizes {
            logits_rows_max: STEP_POSITIONS_MAX,
            positions_max: target.positions_max.min(config.context_length),
            ..target
        }
    }

    /// Bytes for each KV block beside the transformer's.
    pub const BYTES_PER_BLOCK: u64 = size_of::<usize>() as u64;

    /// Reserves the memory for `sizes`, which are [`DraftModel::sizes`].
    pub fn new(config: ModelConfig, weights: Weights, sizes: TransformerSizes, cpu: &Cpu) -> Self {
        assert_eq!(sizes.kv_groups, KvGroups::ONE, "blocks are those of all layers");
        let transformer = Transformer::new(config, weights, sizes, cpu);
        DraftModel { transformer, sizes, filled: vec![0; sizes.block_count] }
    }

    fn draft(
        &mut self,
        cpu: &mut Cpu,
        threads: &mut [SamplingThread],
        rows: &[Row<'_, Guided<SamplingParams>>],
    ) -> Vec<Vec<TokenId>> {
        for row in rows {
            self.forget(row);
        }
        let mut drafting = self.begin(rows);
        let mut drafts = vec![Vec::new(); rows.len()];
        while !drafting.is_empty() {
            self.advance(cpu, threads, rows, &mut drafting);
            let is_done = |row: &mut Drafting| row.draft.len() == row.most;
            for done in drafting.extract_if(.., is_done) {
                drafts[done.index] = done.draft;
            }
        }
        drafts
    }

    /// Forgets what lies where the other model now writes: rejected guesses, and what blocks held for
    /// earlier sequences.
    fn forget(&mut self, row: &Row<'_, Guided<SamplingParams>>) {
        let size = self.sizes.block_size;
        for (index, block) in table(row).iter().enumerate().skip(row.compute.start / size) {
            let kept = row.compute.start.saturating_sub(index * size);
            let filled = &mut self.filled[block.index()];
            *filled = kept.min(*filled);
        }
    }

    /// The rows that have room for drafts, as far as there is room for what they lack. Of those that
    /// lack the same block one goes on, and the others find it filled in the next step.
    fn begin(&self, rows: &[Row<'_, Guided<SamplingParams>>]) -> Vec<Drafting> {
        let mut left = self.sizes.step_tokens_max.min(CATCH_UP_MAX);
        let (mut used, mut written) = (BTreeSet::new(), BTreeSet::new());
        let mut drafting = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let known = row.tokens.len();
            // The last guess is not computed.
            let most = room(row).min((self.sizes.positions_max + 1).saturating_sub(known));
            let start = self.first_missing(row);
            let lacking = &table(row)[start / self.sizes.block_size..];
            let is_shared = table(row).iter().any(|block| written.contains(block))
                || lacking.iter().any(|block| used.contains(block));
            if most == 0 || left == 0 || is_shared {
                continue;
            }
            used.extend(table(row).iter().copied());
            written.extend(lacking.iter().copied());
            let end = known.min(start + left);
            left -= end - start;
            let most = if end == known { most } else { 0 };
            drafting.push(Drafting { index, start, end, draft: Vec::new(), most });
        }
        drafting
    }

    /// The first position whose keys and values are not there.
    fn first_missing(&self, row: &Row<'_, Guided<SamplingParams>>) -> usize {
        let size = self.sizes.block_size;
        let whole = table(row).iter().take_while(|block| self.filled[block.index()] == size);
        let whole = whole.count();
        let rest = table(row).get(whole).map_or(0, |block| self.filled[block.index()]);
        whole * size + rest
    }

    /// Computes what each of `drafting` lacks and guesses one token more of those that come to their
    /// last token.
    fn advance(
        &mut self,
        cpu: &mut Cpu,
        threads: &mut [SamplingThread],
        rows: &[Row<'_, Guided<SamplingParams>>],
        drafting: &mut [Drafting],
    ) {
        let step: Vec<_> = drafting.iter().map(|own| own.step_row(&rows[own.index])).collect();
        let outputs = FlatStep::new(&step).run(cpu, &mut self.transformer, threads);
        for (own, output) in drafting.iter_mut().zip(outputs) {
            self.fill(table(&rows[own.index]), own.start..own.end);
            match output {
                RowOutput::Tokens { tokens, .. } => {
                    own.draft.extend(tokens.iter().map(|t| t.token))
                }
                // Its draft ends here.
                RowOutput::Computed | RowOutput::Failed(_) => own.most = own.draft.len(),
            }
            (own.start, own.end) = (own.end, own.end + 1);
        }
    }

    /// Notes that `positions` are computed, and all before them.
    fn fill(&mut self, blocks: &[BlockId], positions: Range<usize>) {
        let size = self.sizes.block_size;
        let end = positions.end.div_ceil(size);
        for (index, block) in blocks[..end].iter().enumerate().skip(positions.start / size) {
            self.filled[block.index()] = size.min(positions.end - index * size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokens: &[u32], most: usize, expected: &[u32]) {
        let ids = |ids: &[u32]| -> Vec<TokenId> { ids.iter().map(|&id| TokenId(id)).collect() };
        assert_eq!(lookup(&ids(tokens), most), ids(expected), "{tokens:?}");
    }

    #[test]
    fn what_followed_the_last_tokens_is_guessed() {
        check(&[1, 2, 3, 4, 5, 9, 2, 3], 3, &[4, 5, 9]);
    }

    #[test]
    fn the_place_with_most_in_common_counts_and_of_equals_the_latest() {
        check(&[1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3], 1, &[7]);
        check(&[5, 2, 3, 7, 6, 2, 3, 8, 1, 2, 3], 1, &[8]);
    }

    #[test]
    fn what_repeats_itself_goes_on() {
        check(&[4, 4, 4], 5, &[4, 4, 4, 4, 4]);
        check(&[9, 1, 2, 3, 1, 2], 4, &[3, 1, 2, 3]);
        check(&[0, 1, 2, 1, 2, 1], 3, &[2, 1, 2]);
    }

    #[test]
    fn nothing_is_guessed_of_one_token_or_without_room() {
        check(&[1, 2, 3, 4, 3], 4, &[]);
        check(&[1, 2, 1, 2], 0, &[]);
        check(&[1], 4, &[]);
    }
}
