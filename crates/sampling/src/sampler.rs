//! From a row of logits to a token.
//!
//! Tokens have one order: greater logit first, of equal logits the lower id first. Each of the
//! filters min_p, top_k and top_p keeps a leading part of that order, so a filter is known by the
//! last token it keeps, which is found by selection, without sorting the row. The draw walks the
//! survivors by id.

use std::f32::consts::LOG2_E;

use thiserror::Error;

use crate::history::History;
use crate::numeric::{self, BLOCK, LANES, Lanes, Weigher};
use crate::params::SamplingParams;
use crate::random;
use crate::rules::mask_others;

/// Survivors up to this number are sorted rather than searched by halving.
const SORT_MAX: usize = 128;
/// Where at most one of so many lanes passes min_p, its tokens are listed.
const RARE: usize = 16;

/// The tokens of the sequence that a row belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// All known tokens: the prompt, then the output. Each is below the number of logits.
    pub tokens: &'a [u32],
    /// How many of them are the prompt.
    pub prompt_len: usize,
    /// The tokens that may be chosen, one bit for each: token `t` is bit `t % 32` of word `t / 32`, and
    /// those behind the last word may not. None allows all.
    pub allowed: Option<&'a [u32]>,
}

impl<'a> Context<'a> {
    fn prompt(&self) -> &'a [u32] {
        &self.tokens[..self.prompt_len]
    }

    fn output(&self) -> &'a [u32] {
        &self.tokens[self.prompt_len..]
    }
}

/// Why a row gives no token.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SampleError {
    /// The model computed something that is not a finite number.
    #[error("the logit of token {token} is {value}, not a finite number")]
    NonFinite {
        /// The first such token.
        token: u32,
        /// Its logit.
        value: f32,
    },
    /// Every token is masked, or there is none.
    #[error(
        "no token is left to choose from: allowed_token_ids, bad_words, min_tokens and what the answer \
         must look like mask all {vocabulary_len}"
    )]
    AllMasked {
        /// Number of logits.
        vocabulary_len: usize,
    },
}

/// Chooses tokens. Holds only scratch memory, of a size fixed by the vocabulary, so that a call
/// takes none from the allocator after the first; results do not depend on earlier calls.
#[derive(Debug, Default)]
pub struct Sampler {
    history: History,
    maxima: Vec<Lanes>,
    selection: Vec<f32>,
    weights: Vec<f32>,
    sums: Vec<f64>,
    candidates: Vec<Candidate>,
    ranked: Vec<Candidate>,
    /// The row as it was, for log-probabilities.
    unchanged: Vec<f32>,
}

/// A token that may survive the filters.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// Place in the order of the filters, less is better: the logit's bits, so changed that
    /// greater logits give smaller numbers, above the id.
    rank: u64,
    /// Probability times an unknown factor; 1 for the most likely token.
    weight: f32,
}

impl Candidate {
    fn new(id: usize, logit: f32, weight: f32) -> Self {
        // Adding 0 makes -0 the equal of 0.
        let bits = (logit + 0.0).to_bits();
        let descending = if bits >> 31 == 1 { bits } else { bits ^ 0x7fff_ffff };
        Self { rank: u64::from(descending) << 32 | id as u64, weight }
    }

    fn id(self) -> u32 {
        self.rank as u32
    }

    fn rank(&self) -> u64 {
        self.rank
    }
}

impl Sampler {
    /// Most bytes that a sampler takes for a vocabulary: history 12, weight 4, the unchanged row 4,
    /// maxima and sums less than 1, and two lists of candidates that may have grown to twice their length, for each token.
    pub const fn bytes(vocabulary_len: usize) -> usize {
        vocabulary_len * (12 + 4 + 4 + 1 + 2 * 2 * size_of::<Candidate>())
    }

    /// A sampler for any vocabulary.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next token of the sequence `context`, whose last position gave `logits`, one for each
    /// token of the vocabulary. The logits are changed by biases, penalties and masks.
    ///
    /// The loops over the row are inlined up to here, and this into its caller, who thereby decides
    /// for which instructions they are compiled; the token is the same with any.
    ///
    /// # Panics
    /// If a token of the context is not below the number of logits.
    #[inline(always)]
    pub fn sample(
        &mut self,
        logits: &mut [f32],
        params: &SamplingParams,
        context: &Context<'_>,
    ) -> Result<u32, SampleError> {
        if !numeric::lane_maxima(logits, &mut self.maxima) {
            return Err(non_finite(logits));
        }
        if self.change(logits, params, context) {
            numeric::lane_maxima(logits, &mut self.maxima);
        }
        let max = numeric::max(&self.maxima);
        if max == f32::NEG_INFINITY {
            return Err(SampleError::AllMasked { vocabulary_len: logits.len() });
        }
        if params.is_greedy() {
            return Ok(first_of(logits, &self.maxima, max));
        }
        let weigher = weigher(params, max);
        let number = random::unit(params.seed(), context.tokens.len() as u64);
        let top_k = params.top_k() as usize;
        let cut = 0 < top_k && top_k < logits.len();
        if cut || self.is_rare(weigher.floor) {
            let top_k = if cut { top_k } else { logits.len() };
            self.keep_top_k(logits, top_k, weigher);
            self.keep_top_p(params.top_p(), None);
            return Ok(self.draw_candidate(number));
        }
        let total = self.weigh(logits, weigher);
        if 1.0 <= params.top_p() {
            return Ok(self.draw_weighed(number, total));
        }
        self.gather_nucleus(logits, (params.top_p(), total), weigher);
        self.keep_top_p(params.top_p(), Some(total));
        Ok(self.draw_candidate(number))
    }

    /// The token that [`Sampler::sample`] would choose of a row whose greatest logits are `top`: as many
    /// as [`SamplingParams::top_needed`] says, or all, the greatest first, of equals the lowest token
    /// first. All logits are finite; `position` is the number of tokens before the one to be chosen.
    pub fn sample_top(
        &mut self,
        top: &[(u32, f32)],
        params: &SamplingParams,
        position: usize,
    ) -> Result<u32, SampleError> {
        let Some(&(first, max)) = top.first() else {
            return Err(SampleError::AllMasked { vocabulary_len: 0 });
        };
        if params.is_greedy() {
            return Ok(first);
        }
        let weigher = weigher(params, max);
        self.candidates.clear();
        for &(id, logit) in top.iter().filter(|(_, logit)| weigher.floor <= *logit) {
            self.candidates.push(Candidate::new(id as usize, logit, weigher.weight(logit)));
        }
        self.candidates.sort_unstable_by_key(|candidate| candidate.id());
        self.keep_top_p(params.top_p(), None);
        Ok(self.draw_candidate(random::unit(params.seed(), position as u64)))
    }

    /// Applies biases, penalties and masks. False if no logit is changed.
    fn change(
        &mut self,
        logits: &mut [f32],
        params: &SamplingParams,
        context: &Context<'_>,
    ) -> bool {
        let masks = params.masks_end_tokens(context.output().len());
        let rules = params.rules();
        rules.add_bias(logits);
        if params.has_penalties() {
            self.history.penalise(logits, params, context.prompt(), context.output());
        }
        // vLLM masks before all else; what follows there leaves negative infinity as it is.
        rules.mask(logits, context.output());
        if let Some(allowed) = context.allowed {
            mask_others(logits, allowed);
        }
        // A grammar that has come to its end allows end tokens alone, at any length.
        if masks && (context.allowed.is_none() || any_but(logits, params.banned_until_min())) {
            for &token in params.banned_until_min() {
                logits[token as usize] = f32::NEG_INFINITY;
            }
        }
        masks || params.has_penalties() || context.allowed.is_some() || !rules.is_empty()
    }

    /// True if few lanes have a token of at least `floor`, so that a list is the shorter way.
    #[inline(always)]
    fn is_rare(&self, floor: f32) -> bool {
        let reached = |lanes: &Lanes| lanes.0.iter().filter(|max| floor <= **max).count();
        self.maxima.iter().map(reached).sum::<usize>() * RARE <= self.maxima.len() * LANES
    }

    /// Makes the `top_k` first tokens of at least the floor the candidates, by id.
    #[inline(always)]
    fn keep_top_k(&mut self, logits: &[f32], top_k: usize, weigher: Weigher) {
        let bound = self.top_k_bound(top_k).max(weigher.floor);
        self.candidates.clear();
        let blocks = logits.chunks(BLOCK).zip(&self.maxima).enumerate();
        for (block, (logits, _)) in blocks.filter(|(_, (_, max))| max.reaches(bound)) {
            numeric::each_at_least(logits, bound, |index| {
                let (id, logit) = (block * BLOCK + index, logits[index]);
                self.candidates.push(Candidate::new(id, logit, weigher.weight(logit)));
            });
        }
        if top_k < self.candidates.len() {
            self.ranked.clear();
            self.ranked.extend(&self.candidates);
            let (_, last, _) = self.ranked.select_nth_unstable_by_key(top_k - 1, Candidate::rank);
            let last = last.rank;
            self.candidates.retain(|candidate| candidate.rank <= last);
        }
    }

    /// A logit that at least `top_k` tokens reach: as many lanes have a maximum of at least this.
    fn top_k_bound(&mut self, top_k: usize) -> f32 {
        self.selection.clear();
        self.maxima.iter().for_each(|lanes| self.selection.extend_from_slice(&lanes.0));
        if self.selection.len() <= top_k {
            return f32::NEG_INFINITY;
        }
        let (_, bound, _) = self.selection.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
        *bound
    }

    /// Keeps the first candidates whose weights reach `top_p` of `total`, at least one; without
    /// a total it is the sum of the candidates' weights.
    fn keep_top_p(&mut self, top_p: f32, total: Option<f64>) {
        if 1.0 <= top_p {
            return;
        }
        let total = total.unwrap_or_else(|| mass(&self.candidates));
        self.ranked.clear();
        self.ranked.extend(&self.candidates);
        let last = last_within(&mut self.ranked, f64::from(top_p) * total);
        self.candidates.retain(|candidate| candidate.rank <= last.rank);
    }

    fn draw_candidate(&self, number: f64) -> u32 {
        let weights = self.candidates.iter().map(|candidate| candidate.weight);
        self.candidates[draw(number, weights)].id()
    }

    /// Computes the weights of the whole row and their sum.
    #[inline(always)]
    fn weigh(&mut self, logits: &[f32], weigher: Weigher) -> f64 {
        self.weights.resize(logits.len(), 0.0);
        self.sums.clear();
        let mut total = 0.0;
        for (logits, weights) in logits.chunks(BLOCK).zip(self.weights.chunks_mut(BLOCK)) {
            let sum = weigher.weigh(logits, weights);
            self.sums.push(sum);
            total += sum;
        }
        total
    }

    /// Makes tokens that reach top_p of the total, and some that are lighter, the candidates, by id.
    #[inline(always)]
    fn gather_nucleus(&mut self, logits: &[f32], (top_p, total): (f32, f64), weigher: Weigher) {
        let bound = self.nucleus_bound(f64::from(top_p), total, weigher);
        self.candidates.clear();
        numeric::each_at_least(&self.weights, bound, |id| {
            self.candidates.push(Candidate::new(id, logits[id], self.weights[id]));
        });
    }

    /// A weight such that tokens of at least this weight reach `top_p` of `total`: the greatest
    /// power of two, at most a half, of which that is true, or the greatest of which it is true of
    /// the maxima alone.
    #[inline(always)]
    fn nucleus_bound(&mut self, top_p: f64, total: f64, weigher: Weigher) -> f32 {
        // Sums are exact to 1e-6.
        let target = top_p * total * (1.0 + 2e-6);
        // Tokens lighter than this weigh at most (1 - top_p) / 16 · total together, so the others
        // reach top_p by themselves.
        let light = (1.0 - top_p) * total / (16 * self.weights.len()) as f64;
        let least = numeric::exponent(light as f32);
        self.selection.resize(self.maxima.len() * LANES, 0.0);
        for (maxima, weights) in self.maxima.iter().zip(self.selection.chunks_mut(LANES)) {
            weigher.weigh(&maxima.0, weights);
        }
        let of_maxima = greatest_reaching(&self.selection, target, least);
        let exponent = if least < of_maxima {
            of_maxima
        } else {
            greatest_reaching(&self.weights, target, least)
        };
        numeric::power_of_two(exponent)
    }

    /// Draws from the weights of the whole row, whose sum is `total`: first a block, then a token.
    fn draw_weighed(&self, number: f64, total: f64) -> u32 {
        let target = number * total;
        let (mut reached, mut found) = (0.0, None);
        for (block, &sum) in self.sums.iter().enumerate() {
            if target < reached + sum {
                found = Some((block * BLOCK, sum));
                break;
            }
            reached += sum;
        }
        let (start, sum) = found.expect("the target is below the sum of the same numbers");
        let weights = &self.weights[start..self.weights.len().min(start + BLOCK)];
        (start + draw((target - reached) / sum, weights.iter().copied())) as u32
    }
}

/// The greatest exponent below 0 such that weights of at least 2 to this reach `target`; `least` if
/// none above that does.
#[inline(always)]
fn greatest_reaching(weights: &[f32], target: f64, least: i32) -> i32 {
    let (mut reaching, mut short) = (least, 0);
    while reaching + 1 < short {
        let middle = (reaching + short).div_euclid(2);
        if target <= numeric::sum_at_least(weights, numeric::power_of_two(middle)) {
            reaching = middle;
        } else {
            short = middle;
        }
    }
    reaching
}

/// The index of the weight at which the sum, one weight after the other, exceeds `number` (0 to 1)
/// times that of all.
fn draw(number: f64, weights: impl Iterator<Item = f32> + Clone) -> usize {
    let target = number * weights.clone().map(f64::from).sum::<f64>();
    let (mut reached, mut last) = (0.0, None);
    for (index, weight) in weights.enumerate().filter(|(_, weight)| 0.0 < *weight) {
        reached += f64::from(weight);
        last = Some(index);
        if target < reached {
            break;
        }
    }
    // Without a break `number` was so near to 1 that the product is the sum.
    last.expect("a sum that is not zero has a weight")
}

fn non_finite(logits: &[f32]) -> SampleError {
    let token = logits.iter().position(|logit| !logit.is_finite());
    let token = token.expect("a logit was found not to be finite");
    SampleError::NonFinite { token: token as u32, value: logits[token] }
}

/// The first token whose logit is `max`, the greatest of `maxima`.
#[inline(always)]
fn first_of(logits: &[f32], maxima: &[Lanes], max: f32) -> u32 {
    let block = maxima.iter().position(|lanes| lanes.reaches(max));
    let start = block.expect("the maximum is that of a block") * BLOCK;
    let offset = logits[start..].iter().position(|&logit| logit == max);
    (start + offset.expect("the maximum is one of the block's logits")) as u32
}

/// Whether a token that is not masked is not in `banned`.
fn any_but(logits: &[f32], banned: &[u32]) -> bool {
    let mut open = (0..).zip(logits).filter(|(_, logit)| f32::NEG_INFINITY < **logit);
    open.any(|(token, _)| !banned.contains(&token))
}

fn weigher(params: &SamplingParams, max: f32) -> Weigher {
    Weigher { max, floor: min_p_floor(params, max), scale: LOG2_E / params.temperature() }
}

/// The least logit that `min_p` keeps: `exp((logit - max) / temperature) >= min_p`.
fn min_p_floor(params: &SamplingParams, max: f32) -> f32 {
    if params.min_p() <= 0.0 {
        return f32::MIN;
    }
    let below = params.min_p().ln() * params.temperature();
    (max + below).min(max)
}

/// The sum of the candidates' weights, one after the other.
fn mass(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| f64::from(candidate.weight)).sum()
}

/// The candidate at which the weights, added in order of rank, reach `target`; the last one if
/// they do not. Halves the part where it must lie, so the whole costs a few passes.
fn last_within(mut candidates: &mut [Candidate], mut target: f64) -> Candidate {
    while SORT_MAX < candidates.len() {
        let middle = candidates.len() / 2;
        candidates.select_nth_unstable_by_key(middle, Candidate::rank);
        let (first, second) = candidates.split_at_mut(middle);
        let reached = mass(first);
        if target <= reached {
            candidates = first;
        } else {
            target -= reached;
            candidates = second;
        }
    }
    candidates.sort_unstable_by_key(Candidate::rank);
    let mut reached = 0.0;
    for candidate in candidates.iter() {
        reached += f64::from(candidate.weight);
        if target <= reached {
            return *candidate;
        }
    }
    *candidates.last().expect("the most likely token is a candidate")
}

mod scored;

#[cfg(test)]
mod tests;
