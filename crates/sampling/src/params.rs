//! What a client may ask for, and the checked form of it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::error::SamplingError;
use crate::pooling::Pool;
use crate::prompt_scores::PromptScores;
use crate::rules::TokenRules;

/// Below this a temperature means greedy choice. Source: vLLM, `_SAMPLING_EPS`.
const GREEDY_BELOW: f32 = 1e-5;
/// OpenAI's range; vLLM has no upper bound, yet beyond 2 text is noise.
const TEMPERATURE: RangeInclusive<f32> = 0.0..=2.0;
/// OpenAI's range of the presence and frequency penalties.
const PENALTY: RangeInclusive<f32> = -2.0..=2.0;
/// Largest repetition penalty; the least is any number above 0, as in vLLM.
const REPETITION_PENALTY_MAX: f32 = 100.0;
/// Most tokens that `min_tokens` may mask.
const BANNED_MAX: usize = 1024;

/// Most logits that [`SamplingParams::top_needed`] asks for.
pub const TOP_MAX: usize = 64;

/// Most likeliest tokens whose log-probabilities a request may ask for. Source: OpenAI, `top_logprobs`.
pub const LOG_PROBS_MAX: u32 = 20;

/// Sampling parameters as asked for, not checked yet.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingRequest {
    /// Divides the logits; 0 to 2, where less than 0.00001 means the most likely token.
    pub temperature: f32,
    /// Keeps the most likely tokens whose probabilities reach this sum; above 0, at most 1.
    pub top_p: f32,
    /// Keeps that many of the most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps tokens at least this fraction as likely as the most likely one; 0 to 1.
    pub min_p: f32,
    /// Divides a positive logit, and multiplies a negative one, of each token of the prompt or the
    /// output; above 0, at most 100.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of each token of the output; −2 to 2.
    pub presence_penalty: f32,
    /// Subtracted once for each time the token occurs in the output; −2 to 2.
    pub frequency_penalty: f32,
    /// Chooses the sequence of random numbers; choices of one request need different seeds.
    pub seed: u64,
    /// Number of output tokens before which no token of `banned_until_min` is chosen.
    pub min_tokens: u32,
    /// End tokens and stop tokens; at most 1024, each below the size of the vocabulary.
    pub banned_until_min: Vec<u32>,
    /// Tokens and what is added to their logits before penalties; −100 to 100, each token once.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that alone may be chosen; empty: all.
    pub allowed_tokens: Vec<u32>,
    /// Sequences of which the last token is not chosen where the output ends with the others; each of
    /// at least one token.
    pub bad_words: Vec<Vec<u32>>,
    /// The log-probability of each chosen token is wanted, and those of so many of the likeliest, 0 to
    /// [`LOG_PROBS_MAX`]. It does not change which tokens are chosen.
    pub log_probs: Option<u32>,
}

/// The values OpenAI's clients expect for what they do not mention. The seed is 0: a server puts
/// a fresh one for each request without a seed of its own.
impl Default for SamplingRequest {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            min_tokens: 0,
            banned_until_min: Vec::new(),
            logit_bias: Vec::new(),
            allowed_tokens: Vec::new(),
            bad_words: Vec::new(),
            log_probs: None,
        }
    }
}

/// Sampling parameters within their ranges; see [`SamplingRequest`] for what each means.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Without what went into `rules`.
    checked: SamplingRequest,
    rules: Arc<TokenRules>,
    pool: Option<Pool>,
    prompt_scores: Option<PromptScores>,
}

impl SamplingParams {
    /// Checks all ranges; `vocabulary_len` is the number of token ids.
    pub fn new(mut request: SamplingRequest, vocabulary_len: usize) -> Result<Self, SamplingError> {
        let r = &request;
        check("temperature", r.temperature, TEMPERATURE.contains(&r.temperature), "0 to 2")?;
        check("top_p", r.top_p, 0.0 < r.top_p && r.top_p <= 1.0, "above 0, at most 1")?;
        check("min_p", r.min_p, (0.0..=1.0).contains(&r.min_p), "0 to 1")?;
        let penalty = r.repetition_penalty;
        let repetition = 0.0 < penalty && penalty <= REPETITION_PENALTY_MAX;
        check("repetition_penalty", penalty, repetition, "above 0, at most 100")?;
        let presence = PENALTY.contains(&r.presence_penalty);
        check("presence_penalty", r.presence_penalty, presence, "-2 to 2")?;
        let frequency = PENALTY.contains(&r.frequency_penalty);
        check("frequency_penalty", r.frequency_penalty, frequency, "-2 to 2")?;
        if let Some(count) = r.log_probs.filter(|count| LOG_PROBS_MAX < *count) {
            let limit = format!("0 to {LOG_PROBS_MAX}");
            return Err(SamplingError { param: "logprobs", value: count.to_string(), limit });
        }
        let banned = &r.banned_until_min;
        if BANNED_MAX < banned.len() {
            return Err(SamplingError {
                param: "stop_token_ids",
                value: format!("a list of {}", banned.len()),
                limit: format!("at most {BANNED_MAX} tokens"),
            });
        }
        SamplingError::check_ids("stop_token_ids", banned.iter().copied(), vocabulary_len)?;
        let rules = token_rules(&mut request, vocabulary_len)?;
        Ok(Self { checked: request, rules: Arc::new(rules), pool: None, prompt_scores: None })
    }

    /// The same parameters with another seed.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.checked.seed = seed;
        self
    }

    /// The parameters of a request that wants the vector of `pool`, and no token.
    pub fn pooled(pool: Pool) -> Self {
        let (checked, rules) = (SamplingRequest::default(), Arc::default());
        Self { checked, rules, pool: Some(pool), prompt_scores: None }
    }

    /// The same parameters, of a request that wants the log-probabilities of its prompt in `scores`.
    pub fn with_prompt_scores(mut self, scores: PromptScores) -> Self {
        self.prompt_scores = Some(scores);
        self
    }

    /// What takes the log-probabilities of the request's prompt, if it wants them.
    pub fn prompt_scores(&self) -> Option<&PromptScores> {
        self.prompt_scores.as_ref()
    }

    /// What takes the states of the request's positions, if it wants a vector.
    pub fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    /// True if the most likely token is chosen and no random number is used.
    pub fn is_greedy(&self) -> bool {
        self.checked.temperature < GREEDY_BELOW
    }

    /// How many of the greatest logits decide the token, whatever the history; none if more than
    /// [`TOP_MAX`], if penalties, biases or masks may change which are the greatest, or if log-probabilities
    /// need the whole row. Of a row of which a
    /// caller has these, [`Sampler::sample_top`](crate::Sampler::sample_top) needs no others.
    pub fn top_needed(&self) -> Option<usize> {
        let count = if self.is_greedy() { 1 } else { self.top_k() as usize };
        let whole = self.has_penalties()
            || self.masks_end_tokens(0)
            || self.log_probs().is_some()
            || self.has_token_rules();
        (!whole && (1..=TOP_MAX).contains(&count)).then_some(count)
    }

    /// True if the history changes logits.
    pub fn has_penalties(&self) -> bool {
        self.repetition_penalty() != 1.0
            || self.presence_penalty() != 0.0
            || self.frequency_penalty() != 0.0
    }

    /// True if the tokens of `banned_until_min` are masked after `generated` output tokens.
    pub fn masks_end_tokens(&self, generated: usize) -> bool {
        generated < self.checked.min_tokens as usize && !self.checked.banned_until_min.is_empty()
    }

    /// See [`SamplingRequest::temperature`].
    pub fn temperature(&self) -> f32 {
        self.checked.temperature
    }

    /// See [`SamplingRequest::top_p`].
    pub fn top_p(&self) -> f32 {
        self.checked.top_p
    }

    /// See [`SamplingRequest::top_k`].
    pub fn top_k(&self) -> u32 {
        self.checked.top_k
    }

    /// See [`SamplingRequest::min_p`].
    pub fn min_p(&self) -> f32 {
        self.checked.min_p
    }

    /// See [`SamplingRequest::repetition_penalty`].
    pub fn repetition_penalty(&self) -> f32 {
        self.checked.repetition_penalty
    }

    /// See [`SamplingRequest::presence_penalty`].
    pub fn presence_penalty(&self) -> f32 {
        self.checked.presence_penalty
    }

    /// See [`SamplingRequest::frequency_penalty`].
    pub fn frequency_penalty(&self) -> f32 {
        self.checked.frequency_penalty
    }

    /// See [`SamplingRequest::seed`].
    pub fn seed(&self) -> u64 {
        self.checked.seed
    }

    /// See [`SamplingRequest::min_tokens`].
    pub fn min_tokens(&self) -> u32 {
        self.checked.min_tokens
    }

    /// See [`SamplingRequest::banned_until_min`].
    pub fn banned_until_min(&self) -> &[u32] {
        &self.checked.banned_until_min
    }

    /// True if biases, allowed tokens or banned sequences may change logits.
    pub fn has_token_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// What is said about single tokens.
    pub(crate) fn rules(&self) -> &TokenRules {
        &self.rules
    }

    /// See [`SamplingRequest::log_probs`].
    pub fn log_probs(&self) -> Option<u32> {
        self.checked.log_probs
    }
}

/// Checks the rules for single tokens and takes them out of `request`.
fn token_rules(
    request: &mut SamplingRequest,
    vocabulary_len: usize,
) -> Result<TokenRules, SamplingError> {
    let bias = std::mem::take(&mut request.logit_bias);
    let allowed = std::mem::take(&mut request.allowed_tokens);
    let bad_words = std::mem::take(&mut request.bad_words);
    let rules = TokenRules::new(bias, &allowed, bad_words, vocabulary_len)?;
    let waits = |token| 0 < request.min_tokens && request.banned_until_min.contains(&token);
    if !allowed.is_empty() && allowed.iter().all(|&id| rules.always_bans(id) || waits(id)) {
        return Err(SamplingError {
            param: "allowed_token_ids",
            value: format!("a list of {}", allowed.len()),
            limit: "a token that bad_words and min_tokens leave".to_owned(),
        });
    }
    Ok(rules)
}

fn check(
    param: &'static str,
    value: f32,
    accepted: bool,
    limit: &str,
) -> Result<(), SamplingError> {
    if accepted {
        return Ok(());
    }
    Err(SamplingError { param, value: value.to_string(), limit: limit.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Set = fn(&mut SamplingRequest, f32);

    const FIELDS: [(&str, Set, f32, f32, bool); 6] = [
        ("temperature", |r, v| r.temperature = v, 0.0, 2.0, true),
        ("top_p", |r, v| r.top_p = v, 0.0, 1.0, false),
        ("min_p", |r, v| r.min_p = v, 0.0, 1.0, true),
        ("repetition_penalty", |r, v| r.repetition_penalty = v, 0.0, 100.0, false),
        ("presence_penalty", |r, v| r.presence_penalty = v, -2.0, 2.0, true),
        ("frequency_penalty", |r, v| r.frequency_penalty = v, -2.0, 2.0, true),
    ];

    #[test]
    fn each_number_is_accepted_exactly_within_its_range() {
        let values = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            f32::MIN_POSITIVE / 4.0,
            -f32::MIN_POSITIVE,
            -0.0,
            0.0,
            1.0,
            -2.0,
            2.0,
            2.000_001,
            100.0,
            100.1,
        ];
        for (param, set, low, high, low_included) in FIELDS {
            for value in values {
                let mut request = SamplingRequest::default();
                set(&mut request, value);
                let above = if low_included { low <= value } else { low < value };
                let result = SamplingParams::new(request, 10);
                if above && value <= high {
                    assert!(result.is_ok(), "{param} = {value}");
                } else {
                    let error = result.expect_err("outside the range");
                    assert_eq!((error.param, error.value.clone()), (param, value.to_string()));
                    assert!(error.to_string().contains("expected"), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_banned_token_lies_within_the_vocabulary() {
        let request = |id| SamplingRequest { banned_until_min: vec![3, id], ..Default::default() };
        assert!(SamplingParams::new(request(9), 10).is_ok());
        let error = SamplingParams::new(request(10), 10).expect_err("10 of 10");
        assert_eq!(
            error.to_string(),
            "`stop_token_ids` = 10 is out of range: expected ids below 10, the size of the vocabulary"
        );
        let many = SamplingRequest { banned_until_min: vec![0; 1025], ..Default::default() };
        assert!(SamplingParams::new(many, 10).is_err());
    }

    #[test]
    fn the_greatest_logits_decide_unless_penalties_or_masks_may_change_them() {
        let needed = |change: fn(&mut SamplingRequest)| {
            let mut request = SamplingRequest { temperature: 0.0, ..Default::default() };
            change(&mut request);
            SamplingParams::new(request, 10).expect("within ranges").top_needed()
        };
        assert_eq!(needed(|_| ()), Some(1));
        assert_eq!(needed(|r| r.top_k = 5), Some(1));
        assert_eq!(needed(|r| r.min_tokens = 5), Some(1));
        assert_eq!(needed(|r| r.temperature = 0.5), None);
        assert_eq!(needed(|r| (r.temperature, r.top_k) = (0.5, 64)), Some(64));
        assert_eq!(needed(|r| (r.temperature, r.top_k) = (0.5, 65)), None);
        assert_eq!(needed(|r| r.repetition_penalty = 1.1), None);
        assert_eq!(needed(|r| r.presence_penalty = 0.1), None);
        assert_eq!(needed(|r| r.frequency_penalty = -0.1), None);
        assert_eq!(needed(|r| (r.min_tokens, r.banned_until_min) = (1, vec![2])), None);
        assert_eq!(needed(|r| r.log_probs = Some(0)), None);
        assert_eq!(needed(|r| r.logit_bias = vec![(1, 0.5)]), None);
        assert_eq!(needed(|r| r.allowed_tokens = vec![1]), None);
        assert_eq!(needed(|r| r.bad_words = vec![vec![1, 2]]), None);
    }

    #[test]
    fn some_allowed_token_must_be_left_at_the_start() {
        let request = |allowed: &[u32], bad_words: &[&[u32]], min_tokens| SamplingRequest {
            allowed_tokens: allowed.to_vec(),
            bad_words: bad_words.iter().map(|word| word.to_vec()).collect(),
            min_tokens,
            banned_until_min: vec![2],
            ..Default::default()
        };
        let refused = |request| SamplingParams::new(request, 10).err().map(|error| error.param);
        assert_eq!(refused(request(&[1, 2], &[&[1]], 0)), None);
        assert_eq!(refused(request(&[1, 2], &[&[1, 2]], 1)), None);
        assert_eq!(refused(request(&[1, 2], &[&[1]], 1)), Some("allowed_token_ids"));
        assert_eq!(refused(request(&[2], &[], 1)), Some("allowed_token_ids"));
        assert_eq!(refused(request(&[1], &[&[1]], 0)), Some("allowed_token_ids"));
    }

    #[test]
    fn at_most_twenty_log_probabilities_may_be_asked_for() {
        let request = |count| SamplingRequest { log_probs: Some(count), ..Default::default() };
        assert!(SamplingParams::new(request(20), 10).is_ok());
        let error = SamplingParams::new(request(21), 10).expect_err("more than 20");
        assert_eq!(error.to_string(), "`logprobs` = 21 is out of range: expected 0 to 20");
    }
}
