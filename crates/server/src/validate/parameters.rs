//! The sampling parameters of a body.

use sampling::{SamplingError, SamplingParams, SamplingRequest};

use super::StopRules;
use crate::openai::error::ApiError;
use crate::openai::types::GenerationBody;

/// Checked parameters, which differ between the choices of a prompt in their seed only.
#[derive(Debug)]
pub struct Parameters {
    checked: SamplingParams,
}

impl Parameters {
    /// The parameters of `body`; `rules` say what is not chosen before `min_tokens`, and `request` has what
    /// was checked elsewhere, log-probabilities and rules for single tokens, and what counts where the body
    /// says nothing.
    ///
    /// Without a seed the operating system gives one; greedy requests need none.
    pub fn new(
        body: &GenerationBody,
        rules: &StopRules,
        request: SamplingRequest,
        vocabulary_len: usize,
    ) -> Result<Self, ApiError> {
        // A value beyond f32 becomes infinite and is out of every range.
        let number = |value: Option<f64>, default: f32| value.map_or(default, |v| v as f32);
        let (_, repetition_penalty) = repetition_penalty(body);
        let mut request = SamplingRequest {
            temperature: number(body.temperature, request.temperature),
            top_p: number(body.top_p, request.top_p),
            top_k: top_k(body.top_k.map(i64::from), request.top_k)?,
            min_p: number(body.min_p, request.min_p),
            repetition_penalty: number(repetition_penalty, request.repetition_penalty),
            presence_penalty: number(body.presence_penalty, request.presence_penalty),
            frequency_penalty: number(body.frequency_penalty, request.frequency_penalty),
            seed: body.seed.map_or(0, |seed| i64::from(seed).cast_unsigned()),
            min_tokens: rules.min_tokens,
            ..request
        };
        if 0 < rules.min_tokens {
            request.banned_until_min = rules.tokens.iter().map(|token| token.0).collect();
        }
        let outer = SamplingRequest {
            temperature: beyond(body.temperature, request.temperature),
            top_p: beyond(body.top_p, request.top_p),
            min_p: beyond(body.min_p, request.min_p),
            repetition_penalty: beyond(repetition_penalty, request.repetition_penalty),
            presence_penalty: beyond(body.presence_penalty, request.presence_penalty),
            frequency_penalty: beyond(body.frequency_penalty, request.frequency_penalty),
            ..request.clone()
        };
        let check = |request: SamplingRequest| {
            SamplingParams::new(request, vocabulary_len).map_err(|e| out_of_range(body, &e))
        };
        check(outer)?;
        let checked = check(request)?;
        if body.seed.is_none() && !checked.is_greedy() {
            let seed = getrandom::u64().expect("the operating system gives random numbers");
            return Ok(Parameters { checked: checked.with_seed(seed) });
        }
        Ok(Parameters { checked })
    }

    /// The parameters of the `index`-th choice of a prompt.
    ///
    /// Choice 0 has the client's seed, so that it equals a request for one choice; the others have
    /// seeds that depend on it and the index alone (the step is that of splitmix64).
    pub fn choice(&self, index: usize) -> SamplingParams {
        let step = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.checked.clone().with_seed(self.checked.seed().wrapping_add(step))
    }
}

/// The number of f32 on the other side of `value` than `near`, to which it was rounded. Every bound is a
/// number of f32, so a value that was rounded into its range is seen to be outside by this one.
fn beyond(value: Option<f64>, near: f32) -> f32 {
    match value {
        Some(value) if f64::from(near) < value => near.next_up(),
        Some(value) if value < f64::from(near) => near.next_down(),
        _ => near,
    }
}

/// vLLM writes "all" as -1 or 0, the sampler as 0.
fn top_k(top_k: Option<i64>, default: u32) -> Result<u32, ApiError> {
    match top_k {
        None => Ok(default),
        Some(-1) => Ok(0),
        // More than any vocabulary has is as good as all.
        Some(top_k) if 0 <= top_k => Ok(u32::try_from(top_k).unwrap_or(0)),
        Some(top_k) => {
            let message = format!("`top_k` = {top_k} is out of range: expected 1 or more, 0 or -1");
            Err(ApiError::invalid("top_k", message))
        }
    }
}

/// What the penalty of repetition is, and the field that says it.
fn repetition_penalty(body: &GenerationBody) -> (&'static str, Option<f64>) {
    match body.repetition_penalty {
        None if body.repeat_penalty.is_some() => ("repeat_penalty", body.repeat_penalty),
        said => ("repetition_penalty", said),
    }
}

/// Says the field and the value as the client wrote them, not as the sampler has them.
fn out_of_range(body: &GenerationBody, error: &SamplingError) -> ApiError {
    let penalty = repetition_penalty(body);
    let written = match error.param {
        "temperature" => body.temperature,
        "top_p" => body.top_p,
        "min_p" => body.min_p,
        "repetition_penalty" => penalty.1,
        "presence_penalty" => body.presence_penalty,
        "frequency_penalty" => body.frequency_penalty,
        _ => None,
    };
    let SamplingError { param, value, limit } = error;
    let param = if *param == "repetition_penalty" { penalty.0 } else { *param };
    let value = written.map_or_else(|| value.clone(), |written| written.to_string());
    ApiError::invalid(param, format!("`{param}` = {value} is out of range: expected {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::integer::Integer;
    use crate::validate::Shown;

    fn parameters(body: &GenerationBody) -> Parameters {
        let shown = Shown::default();
        let (tokens, strings, masked_by) = (Vec::new(), None, None);
        let rules = StopRules { tokens, min_tokens: 0, strings, shown, masked_by };
        Parameters::new(body, &rules, SamplingRequest::default(), 10).expect("a valid body")
    }

    #[test]
    fn the_first_choice_has_the_clients_seed_and_the_others_have_their_own() {
        let body = GenerationBody { seed: Some(Integer(-5)), ..GenerationBody::default() };
        let seeds: Vec<u64> = (0..4).map(|i| parameters(&body).choice(i).seed()).collect();
        assert_eq!(seeds[0], (-5_i64).cast_unsigned());
        let distinct: std::collections::BTreeSet<u64> = seeds.iter().copied().collect();
        assert_eq!(distinct.len(), 4);
        let again: Vec<u64> = (0..4).map(|i| parameters(&body).choice(i).seed()).collect();
        assert_eq!(seeds, again);
    }

    #[test]
    fn without_a_seed_each_sampled_request_gets_a_fresh_one() {
        let body = GenerationBody::default();
        assert_ne!(parameters(&body).choice(0).seed(), parameters(&body).choice(0).seed());
    }

    #[test]
    fn a_greedy_request_needs_no_seed() {
        let body = GenerationBody { temperature: Some(0.0), ..GenerationBody::default() };
        assert_eq!(parameters(&body).choice(0).seed(), 0);
    }
}
