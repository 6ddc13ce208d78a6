//! Rules for single tokens, against a row to which they were applied by hand.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sampling::{Context, SampleError, Sampler, SamplingParams, SamplingRequest};

/// Few tokens, so that rules meet.
const LEN: u32 = 40;

prop_compose! {
    fn request()(
        temperature in prop_oneof![Just(0.0_f32), 0.1_f32..2.0],
        (top_k, top_p) in (prop_oneof![Just(0_u32), 1_u32..9], prop_oneof![Just(1.0_f32), 0.1_f32..1.0]),
        repetition_penalty in prop_oneof![Just(1.0_f32), 0.2_f32..5.0],
        frequency_penalty in prop_oneof![Just(0.0_f32), -2.0_f32..2.0],
        seed in any::<u64>(),
        (min_tokens, banned_until_min) in (0_u32..4, prop::collection::vec(0..LEN, 0..3)),
        logit_bias in prop::collection::btree_map(0..LEN, -100.0_f32..=100.0, 0..4),
        allowed_tokens in prop_oneof![Just(Vec::new()), prop::collection::vec(0..LEN, 1..6)],
        bad_words in prop::collection::vec(prop::collection::vec(0..LEN, 1..3), 0..6),
    ) -> SamplingRequest {
        SamplingRequest {
            temperature, top_k, top_p, repetition_penalty, frequency_penalty, seed, min_tokens,
            banned_until_min, logit_bias: logit_bias.into_iter().collect(), allowed_tokens, bad_words,
            ..Default::default()
        }
    }
}

/// Whether the rules of `request` let `token` come behind `output`.
fn is_left(request: &SamplingRequest, output: &[u32], token: u32) -> bool {
    let ends = (output.len() as u32) < request.min_tokens;
    let spelt = |word: &Vec<u32>| {
        let all: Vec<u32> = output.iter().copied().chain([token]).collect();
        all.ends_with(word)
    };
    (request.allowed_tokens.is_empty() || request.allowed_tokens.contains(&token))
        && !(ends && request.banned_until_min.contains(&token))
        && !request.bad_words.iter().any(spelt)
}

/// The choice from a row to which the biases are added and of which the other tokens are taken away.
fn by_hand(
    logits: &[f32],
    request: &SamplingRequest,
    context: Context<'_>,
) -> Result<u32, SampleError> {
    let bias: BTreeMap<u32, f32> = request.logit_bias.iter().copied().collect();
    let biased = (0..).zip(logits).map(|(id, logit)| logit + bias.get(&id).unwrap_or(&0.0));
    let mut allowed = vec![0_u32; LEN.div_ceil(32) as usize];
    for token in 0..LEN {
        if is_left(request, &context.tokens[context.prompt_len..], token) {
            allowed[token as usize / 32] |= 1 << (token % 32);
        }
    }
    let plain = SamplingRequest {
        logit_bias: Vec::new(),
        allowed_tokens: Vec::new(),
        bad_words: Vec::new(),
        min_tokens: 0,
        ..request.clone()
    };
    let params = SamplingParams::new(plain, LEN as usize).expect("within ranges");
    let context = Context { allowed: Some(&allowed), ..context };
    Sampler::new().sample(&mut biased.collect::<Vec<_>>(), &params, &context)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn rules_give_the_choice_of_a_row_to_which_they_were_applied(
        logits in prop::collection::vec(-20.0_f32..20.0, LEN as usize),
        request in request(),
        tokens in prop::collection::vec(0..LEN, 0..8),
        prompt_len in 0_usize..8,
    ) {
        let prompt_len = prompt_len.min(tokens.len());
        // Without a token that may come first a request is refused.
        if let Ok(params) = SamplingParams::new(request.clone(), LEN as usize) {
            let context = || Context { tokens: &tokens, prompt_len, allowed: None };
            let token = Sampler::new().sample(&mut logits.clone(), &params, &context());
            prop_assert_eq!(token, by_hand(&logits, &request, context()));
        }
    }
}

#[test]
fn a_grammar_and_rules_leave_what_both_allow() {
    let request = SamplingRequest {
        temperature: 0.0,
        allowed_tokens: vec![1, 2],
        bad_words: vec![vec![2, 2]],
        logit_bias: vec![(2, 5.0), (3, 100.0)],
        ..Default::default()
    };
    let params = SamplingParams::new(request, LEN as usize).expect("within ranges");
    let choice = |output: &[u32], allowed: u32| {
        let context = Context { tokens: output, prompt_len: 0, allowed: Some(&[allowed]) };
        Sampler::new().sample(&mut [0.0; LEN as usize], &params, &context)
    };
    assert_eq!(choice(&[], 0b1110), Ok(2));
    assert_eq!(choice(&[2], 0b1110), Ok(1));
    assert_eq!(choice(&[2], 0b1100), Err(SampleError::AllMasked { vocabulary_len: 40 }));
}

#[test]
fn another_seed_changes_nothing_else() {
    let request = SamplingRequest { seed: 7, bad_words: vec![vec![1]], ..Default::default() };
    let params = SamplingParams::new(request.clone(), 10).expect("within ranges");
    let other = SamplingParams::new(SamplingRequest { seed: 9, ..request }, 10);
    assert_eq!(Ok(params.with_seed(9)), other);
}
