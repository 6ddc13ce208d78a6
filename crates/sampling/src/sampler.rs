//! From a row of logits to a token.
//!
//! Tokens have one order: greater logit first, of equal logits the lower id first. Each of the
//! filters min_p, top_k and top_p keeps a leading part of that order, so a filter is known by the
//! last token it keeps, which is found by selection, without sorting the row. The draw walks the
//! survivors by id.

use thiserror::Error;

use crate::{history::History, numeric, params::SamplingParams, random};

/// Survivors up to this number are sorted rather than searched by halving.
const SORT_MAX: usize = 128;
/// Weights that share one partial sum when no filter leaves a short list.
const BLOCK: usize = 256;

/// The tokens of the sequence that a row belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// All known tokens: the prompt, then the output. Each is below the number of logits.
    pub tokens: &'a [u32],
    /// How many of them are the prompt.
    pub prompt_len: usize,
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
    #[error("no token is left to choose from: all {vocabulary_len} are masked until min_tokens")]
    AllMasked {
        /// Number of logits.
        vocabulary_len: usize,
    },
}

/// The token of the greatest logit; of equal logits the lowest id.
pub fn argmax(logits: &[f32]) -> Result<u32, SampleError> {
    check_finite(logits)?;
    greatest(logits)
}

/// Chooses tokens. Holds only scratch memory, of a size fixed by the vocabulary, so that a call
/// takes none from the allocator after the first; results do not depend on earlier calls.
#[derive(Debug, Default)]
pub struct Sampler {
    history: History,
    maxima: Vec<f32>,
    selection: Vec<f32>,
    weights: Vec<f32>,
    sums: Vec<f64>,
    candidates: Vec<Candidate>,
    ranked: Vec<Candidate>,
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

/// What turns a logit into a weight.
#[derive(Debug, Clone, Copy)]
struct Scale {
    max: f32,
    inverse_temperature: f32,
}

impl Scale {
    #[inline]
    fn weight(self, logit: f32) -> f32 {
        numeric::exp((logit - self.max) * self.inverse_temperature)
    }
}

impl Sampler {
    /// Most bytes that a sampler takes for a vocabulary: history 12, keys and weights 8, and two
    /// lists of candidates that may have grown to twice their length, for each token.
    pub const fn bytes(vocabulary_len: usize) -> usize {
        vocabulary_len * (12 + 8 + 2 * 2 * size_of::<Candidate>())
    }

    /// A sampler for any vocabulary.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next token of the sequence `context`, whose last position gave `logits`, one for each
    /// token of the vocabulary. The logits are changed by penalties and masks.
    ///
    /// # Panics
    /// If a token of the context is not below the number of logits.
    pub fn sample(
        &mut self,
        logits: &mut [f32],
        params: &SamplingParams,
        context: &Context<'_>,
    ) -> Result<u32, SampleError> {
        check_finite(logits)?;
        if params.has_penalties() {
            self.history.penalise(logits, params, context.prompt(), context.output());
        }
        // vLLM masks before it penalises; a penalty leaves negative infinity as it is.
        if params.masks_end_tokens(context.output().len()) {
            for &token in params.banned_until_min() {
                logits[token as usize] = f32::NEG_INFINITY;
            }
        }
        if params.is_greedy() {
            return greatest(logits);
        }
        numeric::chunk_maxima(logits, &mut self.maxima);
        let max = numeric::max(&self.maxima);
        if max == f32::NEG_INFINITY {
            return Err(SampleError::AllMasked { vocabulary_len: logits.len() });
        }
        let scale = Scale { max, inverse_temperature: 1.0 / params.temperature() };
        let floor = min_p_floor(params, max);
        let number = random::unit(params.seed(), context.tokens.len() as u64);
        let top_k = params.top_k() as usize;
        if 0 < top_k && top_k < logits.len() {
            self.keep_top_k(logits, top_k, floor, scale);
            self.keep_top_p(params.top_p(), None);
            return Ok(self.draw_candidate(number));
        }
        let total = self.weigh(logits, floor, scale);
        if 1.0 <= params.top_p() {
            return Ok(self.draw_weighed(number, total));
        }
        // Tokens no heavier than this weigh at most (1 - top_p) · total together, so those above
        // it reach top_p by themselves. The last factor is for rounding.
        let share = total / logits.len() as f64 * 0.999_999;
        let light = (1.0 - f64::from(params.top_p())) * share;
        self.gather_heavier(logits, light as f32);
        self.keep_top_p(params.top_p(), Some(total));
        Ok(self.draw_candidate(number))
    }

    /// Makes the `top_k` first tokens of at least `floor` the candidates, by id.
    fn keep_top_k(&mut self, logits: &[f32], top_k: usize, floor: f32, scale: Scale) {
        // As many chunks as tokens are wanted have a maximum of at least this.
        let mut bound = floor;
        if top_k < self.maxima.len() {
            self.selection.clear();
            self.selection.extend(&self.maxima);
            let (_, least, _) =
                self.selection.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
            bound = least.max(floor);
        }
        self.candidates.clear();
        for (chunk, _) in self.maxima.iter().enumerate().filter(|(_, max)| bound <= **max) {
            let start = chunk * numeric::CHUNK;
            let end = logits.len().min(start + numeric::CHUNK);
            for (offset, &logit) in logits[start..end].iter().enumerate() {
                if bound <= logit {
                    let weight = scale.weight(logit);
                    self.candidates.push(Candidate::new(start + offset, logit, weight));
                }
            }
        }
        if top_k < self.candidates.len() {
            self.ranked.clear();
            self.ranked.extend(&self.candidates);
            let (_, last, _) = self.ranked.select_nth_unstable_by_key(top_k - 1, Candidate::rank);
            let last = last.rank;
            self.candidates.retain(|candidate| candidate.rank <= last);
        }
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
        let target = number * mass(&self.candidates);
        let mut reached = 0.0;
        for candidate in &self.candidates {
            reached += f64::from(candidate.weight);
            if target < reached {
                return candidate.id();
            }
        }
        unreachable!("{target} is below the sum of the same weights in the same order, {reached}")
    }

    /// Computes the weights of the whole row, 0 below `floor`, and their sum.
    fn weigh(&mut self, logits: &[f32], floor: f32, scale: Scale) -> f64 {
        let weight = |&logit: &f32| if logit < floor { 0.0 } else { scale.weight(logit) };
        self.weights.clear();
        self.weights.extend(logits.iter().map(weight));
        self.sums.clear();
        self.sums.extend(self.weights.chunks(BLOCK).map(numeric::sum));
        self.sums.iter().sum()
    }

    /// Makes the tokens whose weight is above `light` the candidates, by id.
    fn gather_heavier(&mut self, logits: &[f32], light: f32) {
        self.candidates.clear();
        for (id, (&logit, &weight)) in logits.iter().zip(&self.weights).enumerate() {
            if light < weight {
                self.candidates.push(Candidate::new(id, logit, weight));
            }
        }
    }

    /// Draws from the weights of the whole row, whose sum is `total`.
    fn draw_weighed(&self, number: f64, total: f64) -> u32 {
        let target = number * total;
        let (mut reached, mut start) = (0.0, 0);
        for sum in &self.sums {
            if target < reached + sum {
                break;
            }
            reached += sum;
            start += BLOCK;
        }
        let mut last = None;
        let rest = (start..).zip(&self.weights[start..]);
        for (id, weight) in rest.filter(|(_, weight)| 0.0 < **weight) {
            reached += f64::from(*weight);
            last = Some(id);
            if target < reached {
                break;
            }
        }
        // Without a break: this walk and the block's sum differ in the last digit.
        last.expect("a block whose sum is not zero has a weight") as u32
    }
}

fn check_finite(logits: &[f32]) -> Result<(), SampleError> {
    match numeric::first_non_finite(logits) {
        None => Ok(()),
        Some(token) => Err(SampleError::NonFinite { token: token as u32, value: logits[token] }),
    }
}

fn greatest(logits: &[f32]) -> Result<u32, SampleError> {
    let max = numeric::max(logits);
    if max == f32::NEG_INFINITY {
        return Err(SampleError::AllMasked { vocabulary_len: logits.len() });
    }
    let token = logits.iter().position(|&logit| logit == max);
    Ok(token.expect("the maximum is one of the logits") as u32)
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

#[cfg(test)]
mod tests;
