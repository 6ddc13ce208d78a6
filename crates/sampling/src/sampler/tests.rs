//! The sampler against a naive one that sorts everything, and facts about its draws.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::params::SamplingRequest;

/// What the naive sampler says of a row.
struct Naive {
    /// Survivors by id, with weights.
    survivors: Vec<(u32, f64)>,
    token: u32,
    /// True if a sum comes so close to top_p that rounding may decide.
    close_cut: bool,
    /// True if a sum comes so close to the random number that rounding may decide.
    close_draw: bool,
}

/// What rounding may change of a sum of weights: of each weight 2e-7, and as much again for each
/// power of two that it is below the greatest; of sums of blocks 6e-7.
const CLOSE: f64 = 1e-5;

fn naive(logits: &[f32], params: &SamplingParams, context: &Context<'_>) -> Naive {
    let mut row: BTreeMap<u32, f32> = (0..).zip(logits.iter().copied()).collect();
    for (id, logit) in &mut row {
        let count = context.output().iter().filter(|token| *token == id).count();
        if context.tokens.contains(id) {
            let penalty = params.repetition_penalty();
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
        *logit -= params.frequency_penalty() * count as f32;
        *logit -= if count > 0 { params.presence_penalty() } else { 0.0 };
    }
    if context.output().len() < params.min_tokens() as usize {
        row.retain(|id, _| !params.banned_until_min().contains(id));
    }
    let mut ranked: Vec<(u32, f32)> = row.into_iter().collect();
    ranked.sort_by(|a, b| b.1.partial_cmp(&a.1).expect("no NaN").then(a.0.cmp(&b.0)));
    if params.is_greedy() {
        let (token, _) = ranked[0];
        let survivors = vec![(token, 1.0)];
        return Naive { survivors, token, close_cut: false, close_draw: false };
    }
    let max = ranked[0].1;
    let floor = max + params.min_p().ln() * params.temperature();
    ranked.retain(|(_, logit)| params.min_p() == 0.0 || floor <= *logit);
    if params.top_k() > 0 {
        ranked.truncate(params.top_k() as usize);
    }
    let temperature = f64::from(params.temperature());
    let weight = |logit: f32| ((f64::from(logit) - f64::from(max)) / temperature).exp();
    let mut ranked: Vec<_> = ranked.iter().map(|&(id, logit)| (id, weight(logit))).collect();
    let sums = running_sums(&ranked);
    let total = sums[sums.len() - 1];
    let target = f64::from(params.top_p()) * total;
    let near = |sums: &[f64], number: f64| sums.iter().any(|s| (s - number).abs() < CLOSE * total);
    let close_cut = params.top_p() < 1.0 && near(&sums, target);
    if params.top_p() < 1.0 {
        let kept = sums.iter().position(|sum| target <= *sum).map_or(ranked.len(), |at| at + 1);
        ranked.truncate(kept);
    }
    ranked.sort_by_key(|(id, _)| *id);
    let sums = running_sums(&ranked);
    let number = random::unit(params.seed(), context.tokens.len() as u64) * sums[sums.len() - 1];
    let drawn = sums.iter().position(|sum| number < *sum).expect("below the sum");
    let close_draw = near(&sums, number);
    Naive { token: ranked[drawn].0, survivors: ranked, close_cut, close_draw }
}

fn running_sums(tokens: &[(u32, f64)]) -> Vec<f64> {
    let add = |sum: &mut f64, (_, weight): &(u32, f64)| {
        *sum += weight;
        Some(*sum)
    };
    tokens.iter().scan(0.0, add).collect()
}

/// Compares token and, where the sampler keeps a list, survivors.
fn check(logits: &[f32], request: SamplingRequest, tokens: &[u32], prompt_len: usize) -> u32 {
    let params = SamplingParams::new(request, logits.len()).expect("within ranges");
    let context = Context { tokens, prompt_len, allowed: None };
    let expected = naive(logits, &params, &context);
    let mut sampler = Sampler::new();
    let token = sampler.sample(&mut logits.to_vec(), &params, &context).expect("a token");
    if expected.close_cut {
        return token;
    }
    let (listed, lasting) = (&sampler.candidates, &expected.survivors);
    if !listed.is_empty() {
        let found: Vec<_> = listed.iter().map(|candidate| candidate.id()).collect();
        let ids: Vec<_> = lasting.iter().map(|(id, _)| *id).collect();
        assert_eq!(found, ids, "{params:?}");
        for (candidate, (id, weight)) in listed.iter().zip(lasting) {
            let apart = (f64::from(candidate.weight) - weight).abs();
            assert!(apart <= CLOSE * weight + 1e-37, "{id}: {} for {weight}", candidate.weight);
        }
    }
    if expected.close_draw {
        assert!(lasting.iter().any(|(id, _)| *id == token), "{token} is left: {params:?}");
    } else {
        assert_eq!(token, expected.token, "{params:?}");
    }
    token
}

fn row() -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        // Few distinct values: many ties.
        prop::collection::vec((-3_i8..=3).prop_map(f32::from), 1..400),
        prop::collection::vec(-20.0_f32..20.0, 1..400),
        prop::collection::vec(-1.0_f32..1.0, 1..400),
        prop::collection::vec(any::<i32>().prop_map(|n| n as f32 * 1e27), 1..40),
    ]
}

prop_compose! {
    fn request(vocabulary_len: usize)(
        (temperature, top_p, min_p) in (
            prop_oneof![Just(0.0_f32), Just(1.0), 0.01_f32..2.0],
            prop_oneof![Just(1.0_f32), 0.01_f32..1.0],
            prop_oneof![Just(0.0_f32), Just(1.0), 1e-6_f32..0.5],
        ),
        top_k in prop_oneof![Just(0_u32), 1_u32..20, 1_u32..500],
        (repetition_penalty, presence_penalty, frequency_penalty) in (
            prop_oneof![Just(1.0_f32), Just(10.0), 0.05_f32..20.0],
            prop_oneof![Just(0.0_f32), -2.0_f32..2.0],
            prop_oneof![Just(0.0_f32), -2.0_f32..2.0],
        ),
        (seed, min_tokens) in (any::<u64>(), 0_u32..4),
        banned_until_min in prop::collection::vec(0..vocabulary_len as u32, 0..3),
    ) -> SamplingRequest {
        SamplingRequest {
            temperature, top_p, top_k, min_p, repetition_penalty, presence_penalty,
            frequency_penalty, seed, min_tokens, banned_until_min, ..Default::default()
        }
    }
}

fn case() -> impl Strategy<Value = (Vec<f32>, SamplingRequest, Vec<u32>, usize)> {
    row().prop_flat_map(|row| {
        let len = row.len();
        let tokens = prop::collection::vec(0..len as u32, 0..12);
        (Just(row), request(len), tokens, 0_usize..12)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_filter_keeps_and_draws_what_the_naive_sampler_does(
        (logits, mut request, tokens, prompt_len) in case()
    ) {
        let prompt_len = prompt_len.min(tokens.len());
        let mut banned = request.banned_until_min.clone();
        banned.sort_unstable();
        banned.dedup();
        if banned.len() == logits.len() {
            request.min_tokens = 0;
        }
        check(&logits, request, &tokens, prompt_len);
    }

    #[test]
    fn the_greatest_logits_alone_give_the_token_of_the_row(
        (logits, request, tokens, _) in case(), top_k in 1_u32..=64,
    ) {
        let request = SamplingRequest {
            top_k,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            min_tokens: 0,
            ..request
        };
        let params = SamplingParams::new(request, logits.len()).expect("within ranges");
        let mut top: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        top.sort_by(|a, b| b.1.partial_cmp(&a.1).expect("no NaN").then(a.0.cmp(&b.0)));
        top.truncate(params.top_needed().expect("few logits decide"));
        let context = Context { tokens: &tokens, prompt_len: 0, allowed: None };
        let token = Sampler::new().sample(&mut logits.clone(), &params, &context);
        prop_assert_eq!(Sampler::new().sample_top(&top, &params, tokens.len()), token);
    }

    #[test]
    fn earlier_calls_leave_no_trace(
        (logits, request, tokens, prompt_len) in case(),
        (other_logits, other, other_tokens, _) in case(),
    ) {
        let prompt_len = prompt_len.min(tokens.len());
        let params = SamplingParams::new(request, logits.len()).expect("within ranges");
        let other = SamplingParams::new(other, other_logits.len()).expect("within ranges");
        let context = Context { tokens: &tokens, prompt_len, allowed: None };
        let fresh = Sampler::new().sample(&mut logits.clone(), &params, &context);
        let mut used = Sampler::new();
        let other_context = Context { tokens: &other_tokens, prompt_len: 0, allowed: None };
        for _ in 0..3 {
            let _ = used.sample(&mut other_logits.clone(), &other, &other_context);
            prop_assert_eq!(&used.sample(&mut logits.clone(), &params, &context), &fresh);
        }
    }
}

/// A row of the default model's size: `spread` 1 is flat, 12 is peaked.
fn large_row(spread: f32) -> Vec<f32> {
    let unit = |id: u64| random::unit(99, id) as f32;
    (0..49_152)
        .map(|id| (unit(id) + unit(id + 49_152) + unit(id + 98_304) - 1.5) * spread)
        .collect()
}

#[test]
fn a_row_of_49152_tokens_gives_the_naive_choice_whether_flat_or_peaked() {
    let tokens: Vec<u32> = (0..700).map(|n| n * 61 % 49_152).collect();
    for (spread, seed) in [0.0, 1.0, 12.0, 30.0].into_iter().zip(0..) {
        let row = large_row(spread);
        let filters = [
            (30, 0.8, 0.0),
            (1, 1.0, 0.0),
            (2000, 0.5, 0.0),
            (40, 1.0, 0.0),
            (0, 1.0, 0.0),
            (0, 0.9, 0.0),
            (0, 0.3, 0.01),
            (0, 1.0, 0.2),
        ];
        for (top_k, top_p, min_p) in filters {
            let request = SamplingRequest {
                top_k,
                top_p,
                min_p,
                repetition_penalty: 10.0,
                seed,
                ..Default::default()
            };
            check(&row, request, &tokens, 500);
        }
    }
}

#[test]
fn top_p_of_a_large_flat_row_keeps_the_leading_tokens_that_reach_it() {
    for (spread, top_p) in [(0.0, 0.8), (1.0, 0.8), (1.0, 0.999), (12.0, 0.95), (40.0, 0.3)] {
        let row = large_row(spread);
        let request = SamplingRequest { top_p, ..Default::default() };
        let params = SamplingParams::new(request, row.len()).expect("within ranges");
        let mut sampler = Sampler::new();
        let context = Context { tokens: &[], prompt_len: 0, allowed: None };
        sampler.sample(&mut row.clone(), &params, &context).expect("a token");
        let kept = &sampler.candidates;
        let total: f64 = sampler.weights.iter().map(|&w| f64::from(w)).sum();
        let target = f64::from(top_p) * total;
        let last = kept.iter().max_by_key(|c| c.rank).expect("at least one");
        assert!(target <= mass(kept) * (1.0 + 2e-6), "{spread} {top_p}: too few");
        let before = (mass(kept) - f64::from(last.weight)) * (1.0 - 2e-6);
        assert!(before < target, "{spread} {top_p}: too many");
        let before_last = (0_u32..).zip(&row).filter(|&(id, &logit)| {
            let cut = row[last.id() as usize];
            cut < logit || (cut == logit && id <= last.id())
        });
        assert_eq!(before_last.count(), kept.len(), "{spread} {top_p}: a leading part");
    }
}

fn greedy() -> SamplingRequest {
    SamplingRequest { temperature: 0.0, ..Default::default() }
}

#[test]
fn greedy_takes_the_lowest_id_of_equal_logits() {
    assert_eq!(check(&[0.0, 2.0, 2.0, 1.0], greedy(), &[], 0), 1);
    assert_eq!(check(&[-0.0, 0.0], greedy(), &[], 0), 0);
    assert_eq!(check(&[-5.0, -4.0, -4.0], greedy(), &[], 0), 1);
    let top_1 = SamplingRequest { top_k: 1, ..Default::default() };
    assert_eq!(check(&[0.0, 2.0, 2.0, 1.0], top_1, &[], 0), 1);
}

#[test]
fn repetition_penalty_lowers_a_seen_token_whatever_the_sign_of_its_logit() {
    let request = || SamplingRequest { repetition_penalty: 2.0, ..greedy() };
    // 4 / 2 < 3 and −1 · 2 < −1.5; tokens of prompt and output alike.
    assert_eq!(check(&[4.0, 3.0], request(), &[0], 1), 1);
    assert_eq!(check(&[4.0, 3.0], request(), &[0], 0), 1);
    assert_eq!(check(&[-1.0, -1.5], request(), &[0], 1), 1);
    // Once, however often the token occurred.
    assert_eq!(check(&[4.0, 1.5], request(), &[0, 0, 0, 0], 2), 0);
}

#[test]
fn presence_counts_once_and_frequency_each_time_and_only_in_the_output() {
    let presence = || SamplingRequest { presence_penalty: 1.0, ..greedy() };
    assert_eq!(check(&[1.5, 1.0], presence(), &[0, 0], 2), 0);
    assert_eq!(check(&[1.5, 1.0], presence(), &[0], 0), 1);
    assert_eq!(check(&[2.5, 1.0], presence(), &[0, 0, 0], 0), 0);
    let frequency = || SamplingRequest { frequency_penalty: 1.0, ..greedy() };
    assert_eq!(check(&[2.5, 1.0], frequency(), &[0, 0, 0], 2), 0);
    assert_eq!(check(&[2.5, 1.0], frequency(), &[0, 0, 0], 1), 1);
}

#[test]
fn end_tokens_are_masked_until_min_tokens_are_generated() {
    let request =
        || SamplingRequest { min_tokens: 2, banned_until_min: vec![1, 1], ..Default::default() };
    for seed in 0..50 {
        let sampled = SamplingRequest { seed, ..request() };
        assert_eq!(check(&[0.0, 50.0], sampled, &[0], 0), 0, "one generated");
    }
    assert_eq!(check(&[0.0, 50.0], request(), &[0, 0], 0), 1, "two generated");
    assert_eq!(check(&[0.0, 50.0], request(), &[0, 0], 2), 0, "a prompt does not count");
    let params =
        SamplingParams::new(SamplingRequest { banned_until_min: vec![0, 1], ..request() }, 2)
            .expect("within ranges");
    let context = Context { tokens: &[], prompt_len: 0, allowed: None };
    let error = Sampler::new().sample(&mut [1.0, 2.0], &params, &context);
    assert_eq!(error, Err(SampleError::AllMasked { vocabulary_len: 2 }));
}

#[test]
fn a_logit_that_is_not_finite_is_an_error_that_names_it() {
    let context = Context { tokens: &[], prompt_len: 0, allowed: None };
    for request in [greedy(), SamplingRequest::default()] {
        let params = SamplingParams::new(request, 3).expect("within ranges");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = Sampler::new().sample(&mut [0.0, value, 0.0], &params, &context);
            let message = error.expect_err("not finite").to_string();
            assert_eq!(message, format!("the logit of token 1 is {value}, not a finite number"));
        }
        let empty = Sampler::new().sample(&mut [], &params, &context);
        assert_eq!(empty, Err(SampleError::AllMasked { vocabulary_len: 0 }));
    }
}

#[test]
fn the_largest_logits_and_penalties_still_give_a_token() {
    let request = SamplingRequest {
        repetition_penalty: 0.01,
        frequency_penalty: -2.0,
        temperature: 1.1e-5,
        ..Default::default()
    };
    assert_eq!(check_runs(&[f32::MAX, f32::MIN, 0.0], &request, &[0, 1]), 0);
    let harsh = SamplingRequest { repetition_penalty: 100.0, ..greedy() };
    assert_eq!(check_runs(&[f32::MIN, f32::MIN, f32::MIN], &harsh, &[0, 1, 2]), 0);
}

fn check_runs(logits: &[f32], request: &SamplingRequest, tokens: &[u32]) -> u32 {
    let params = SamplingParams::new(request.clone(), logits.len()).expect("within ranges");
    let context = Context { tokens, prompt_len: 0, allowed: None };
    Sampler::new().sample(&mut logits.to_vec(), &params, &context).expect("a token")
}

#[test]
fn a_draw_depends_on_seed_and_position_alone() {
    let row = large_row(2.0);
    let draw = |seed, tokens: &[u32]| {
        let request = SamplingRequest { seed, ..Default::default() };
        check_runs(&row, &request, tokens)
    };
    assert_eq!(draw(1, &[5, 6, 7]), draw(1, &[1, 2, 3]));
    assert_ne!(draw(1, &[5, 6, 7]), draw(1, &[5, 6]));
    assert_ne!(draw(1, &[5, 6, 7]), draw(2, &[5, 6, 7]));
}

#[test]
fn tokens_are_drawn_as_often_as_their_probabilities_say() {
    let row: Vec<f32> = [0.5_f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
    let frequencies = |request: SamplingRequest| {
        let mut counts = [0_u32; 4];
        for seed in 0..20_000 {
            let request = SamplingRequest { seed, ..request.clone() };
            counts[check_runs(&row, &request, &[]) as usize] += 1;
        }
        counts.map(|count| f64::from(count) / 20_000.0)
    };
    // Standard deviation of a frequency: at most 0.0036.
    let near = |found: [f64; 4], expected: [f64; 4]| {
        let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f64::max) < 0.015, "{found:?}, expected {expected:?}");
    };
    near(frequencies(SamplingRequest::default()), [0.5, 0.3, 0.15, 0.05]);
    let top_k = SamplingRequest { top_k: 2, ..Default::default() };
    near(frequencies(top_k), [0.625, 0.375, 0.0, 0.0]);
    let top_p = SamplingRequest { top_p: 0.9, ..Default::default() };
    near(frequencies(top_p), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]);
    let min_p = SamplingRequest { min_p: 0.5, ..Default::default() };
    near(frequencies(min_p), [0.625, 0.375, 0.0, 0.0]);
    let cold = SamplingRequest { temperature: 0.5, ..Default::default() };
    near(frequencies(cold), [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]);
}

/// One bit for each of these tokens.
fn set(tokens: &[u32], words: usize) -> Vec<u32> {
    let mut set = vec![0; words];
    tokens.iter().for_each(|token| set[*token as usize / 32] |= 1 << (token % 32));
    set
}

#[test]
fn only_allowed_tokens_are_chosen() {
    let mut sampler = Sampler::new();
    let logits: Vec<f32> = (0..100).map(|token| token as f32 / 10.0).collect();
    let request = |temperature| SamplingRequest { temperature, ..SamplingRequest::default() };
    let mut chosen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let params = SamplingParams::new(SamplingRequest { seed, ..request(2.0) }, 100).unwrap();
        let allowed = set(&[3, 31, 32, 63], 2);
        let context = Context { tokens: &[], prompt_len: 0, allowed: Some(&allowed) };
        chosen.insert(sampler.sample(&mut logits.clone(), &params, &context).unwrap());
    }
    assert_eq!(chosen.into_iter().collect::<Vec<_>>(), [3, 31, 32, 63]);
    let greedy = SamplingParams::new(request(0.0), 100).unwrap();
    let mut best = |allowed: &[u32]| {
        let context = Context { tokens: &[], prompt_len: 0, allowed: Some(allowed) };
        sampler.sample(&mut logits.clone(), &greedy, &context)
    };
    assert_eq!(best(&set(&[3, 31, 32], 4)), Ok(32));
    // A set of fewer words than there are tokens, and of more.
    assert_eq!(best(&set(&[3], 1)), Ok(3));
    assert_eq!(best(&set(&[99, 100], 9)), Ok(99));
    assert_eq!(best(&[]), Err(SampleError::AllMasked { vocabulary_len: 100 }));
}

#[test]
fn end_tokens_wait_for_min_tokens_unless_nothing_else_is_allowed() {
    let request = SamplingRequest {
        temperature: 0.0,
        min_tokens: 5,
        banned_until_min: vec![7, 8],
        ..SamplingRequest::default()
    };
    let params = SamplingParams::new(request, 10).unwrap();
    let best = |allowed: &[u32]| {
        let allowed = set(allowed, 1);
        let context = Context { tokens: &[], prompt_len: 0, allowed: Some(&allowed) };
        let mut logits: Vec<f32> = (0..10_u8).map(f32::from).collect();
        Sampler::new().sample(&mut logits, &params, &context)
    };
    assert_eq!(best(&[1, 7, 8]), Ok(1));
    assert_eq!(best(&[7, 8]), Ok(8));
}
