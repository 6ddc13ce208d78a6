//! Log-probabilities of a row, with the sampler's scratch memory.

use std::f32::consts::LOG2_E;

use super::{Candidate, Context, SampleError, Sampler, non_finite};
use crate::log_probs::{LogProbs, Scored};
use crate::numeric::{self, Weigher};
use crate::params::SamplingParams;

impl Sampler {
    /// As [`Sampler::sample`], with the log-probabilities that the parameters ask for.
    ///
    /// # Panics
    /// As there.
    #[inline(always)]
    pub fn sample_scored(
        &mut self,
        logits: &mut [f32],
        params: &SamplingParams,
        context: &Context<'_>,
    ) -> Result<Scored, SampleError> {
        let Some(count) = params.log_probs() else {
            return Ok((self.sample(logits, params, context)?, None));
        };
        let mut unchanged = std::mem::take(&mut self.unchanged);
        unchanged.clear();
        unchanged.extend_from_slice(logits);
        let token = self.sample(logits, params, context);
        let log_probs = token.clone().and_then(|token| self.log_probs(&unchanged, token, count));
        self.unchanged = unchanged;
        Ok((token?, Some(Box::new(log_probs?))))
    }

    /// The log-probabilities of `token` and of the `count` likeliest at a position with these logits.
    ///
    /// # Panics
    /// If `token` is not below the number of logits.
    #[inline(always)]
    pub fn log_probs(
        &mut self,
        logits: &[f32],
        token: u32,
        count: u32,
    ) -> Result<LogProbs, SampleError> {
        if !numeric::lane_maxima(logits, &mut self.maxima) {
            return Err(non_finite(logits));
        }
        let max = numeric::max(&self.maxima);
        let weigher = Weigher { max, floor: f32::MIN, scale: LOG2_E };
        let log_total = self.weigh(logits, weigher).ln();
        let log_prob = |logit: f32| (f64::from(logit) - f64::from(max) - log_total) as f32;
        let own = logits[token as usize];
        let mut top = Vec::with_capacity(count as usize);
        if 0 < count {
            self.keep_top_k(logits, count as usize, weigher);
            self.candidates.sort_unstable_by_key(Candidate::rank);
            let scored = |candidate: &Candidate| {
                let id = candidate.id();
                (id, log_prob(logits[id as usize]))
            };
            top.extend(self.candidates.iter().map(scored));
        }
        let rank = numeric::count_before(logits, token as usize);
        Ok(LogProbs { token: log_prob(own), rank: 1 + rank, top })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::params::SamplingRequest;

    /// Log-probability, rank and order by definition, in double precision.
    fn naive(logits: &[f32], token: u32, count: usize) -> (f64, u32, Vec<(u32, f64)>) {
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let mut all: Vec<(u32, f64)> =
            (0..).zip(logits).map(|(id, &logit)| (id, f64::from(logit) - total.ln())).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let at = all.iter().position(|(id, _)| *id == token).expect("a token of the row");
        let own = all[at].1;
        all.truncate(count);
        (own, at as u32 + 1, all)
    }

    proptest! {
        #[test]
        fn log_probabilities_are_those_of_the_definition(
            logits in prop::collection::vec(
                prop_oneof![-20.0_f32..20.0, Just(3.0_f32), Just(-0.0_f32)], 1..1500),
            token in any::<prop::sample::Index>(),
            count in 0_u32..=20,
        ) {
            let token = token.index(logits.len()) as u32;
            let found = Sampler::new().log_probs(&logits, token, count).expect("finite");
            let (own, rank, top) = naive(&logits, token, count as usize);
            let near = |found: f32, expected: f64| (f64::from(found) - expected).abs() < 1e-5;
            prop_assert!(near(found.token, own), "{} is not {own}", found.token);
            prop_assert_eq!(found.rank, rank);
            prop_assert_eq!(found.top.len(), top.len());
            for (found, expected) in found.top.iter().zip(&top) {
                prop_assert_eq!(found.0, expected.0);
                prop_assert!(near(found.1, expected.1), "{found:?} is not {expected:?}");
            }
        }
    }

    fn params(request: SamplingRequest) -> SamplingParams {
        SamplingParams::new(request, 4).expect("within ranges")
    }

    #[test]
    fn they_are_those_of_the_row_before_penalties_and_masks_and_change_no_token() {
        let row = [0.5_f32, 0.25, 0.2, 0.05].map(f32::ln);
        let context = Context { tokens: &[0, 0, 1], prompt_len: 1, allowed: None };
        let mut request = SamplingRequest {
            temperature: 0.0,
            frequency_penalty: 2.0,
            presence_penalty: 2.0,
            min_tokens: 9,
            banned_until_min: vec![2],
            ..Default::default()
        };
        let mut sampler = Sampler::new();
        let plain = sampler.sample(&mut row.clone(), &params(request.clone()), &context);
        let without = sampler.sample_scored(&mut row.clone(), &params(request.clone()), &context);
        assert_eq!(without, Ok((3, None)));
        request.log_probs = Some(2);
        let scored = sampler.sample_scored(&mut row.clone(), &params(request), &context);
        let (token, log_probs) = scored.expect("a token");
        let log_probs = log_probs.expect("asked for");
        assert_eq!((Ok(token), log_probs.rank), (plain, 4));
        assert!((log_probs.token - 0.05_f32.ln()).abs() < 1e-6);
        assert_eq!(log_probs.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_row_with_a_number_that_is_not_finite_has_none() {
        let error = Sampler::new().log_probs(&[0.0, f32::INFINITY], 0, 1).expect_err("infinite");
        assert_eq!(error, SampleError::NonFinite { token: 1, value: f32::INFINITY });
    }
}
