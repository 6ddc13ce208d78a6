//! The token does not depend on the instructions that the sampler is compiled for.

use kernels::isa::{Isa, Work};
use sampling::{Context, Sampler, SamplingParams, SamplingRequest};

const WORDS: usize = 5_003;

struct Choice<'a>(&'a mut [f32], &'a SamplingParams);

impl Work for Choice<'_> {
    type Output = u32;

    #[inline(always)]
    fn run(self) -> u32 {
        let context = Context { tokens: &[7, 8, 8, 9], prompt_len: 1, allowed: None };
        Sampler::new().sample(self.0, self.1, &context).expect("finite logits")
    }
}

/// Logits of a bell, `spread` wide, from a congruential generator.
fn logits(seed: u64, spread: f32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0
    };
    (0..WORDS).map(|_| spread * ((0..4).map(|_| next()).sum::<f32>() - 2.0)).collect()
}

#[test]
fn every_tier_chooses_the_same_tokens() {
    let plain = SamplingRequest::default();
    let requests = [
        SamplingRequest { temperature: 0.0, ..plain.clone() },
        plain.clone(),
        SamplingRequest { temperature: 0.3, ..plain.clone() },
        SamplingRequest { top_p: 0.9, ..plain.clone() },
        SamplingRequest { min_p: 0.05, ..plain.clone() },
        SamplingRequest { top_k: 30, top_p: 0.8, ..plain.clone() },
        SamplingRequest { repetition_penalty: 1.5, top_p: 0.5, ..plain },
    ];
    for (seed, spread) in (0..60).zip([0.1, 2.0, 8.0, 20.0].into_iter().cycle()) {
        for request in &requests {
            let request = SamplingRequest { seed, ..request.clone() };
            let params = SamplingParams::new(request, WORDS).expect("within the ranges");
            let row = logits(seed, spread);
            let expected = Isa::Scalar.run(Choice(&mut row.clone(), &params));
            for isa in Isa::all_available() {
                let token = isa.run(Choice(&mut row.clone(), &params));
                assert_eq!(token, expected, "{isa}, seed {seed}, spread {spread}: {params:?}");
            }
        }
    }
}
