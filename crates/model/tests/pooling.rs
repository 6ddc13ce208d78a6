//! The vector of a prompt: what it is made of, and that it depends on nothing else.

use std::time::Duration;

use engine::{
    CacheSalt, Clock, Engine, EngineConfig, Event, FakeClock, KvGroups, Request, RequestId,
    SchedulingPolicy, Snapshot, Speculation, Tenant, TokenId,
};
use grammar::Guided;
use kernels::blocks::dequantise;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::KvType;
use kernels::share::SequenceRows;
use model::cpu::CpuDevice;
use model::dummy::DummyShape;
use model::file::ModelFile;
use model::transformer::{Batch, Transformer, TransformerSizes};
use model::weights::Weights;
use sampling::{Pool, Pooling, SamplingParams, SamplingRequest};
use text::Tokenizer;

const BLOCK: u32 = 32;

fn tiny() -> ModelFile {
    DummyShape::tiny().open(7).unwrap_or_else(|error| panic!("{error}"))
}

/// Room for everything, whole prompts in one step.
fn roomy() -> EngineConfig {
    EngineConfig {
        block_size: BLOCK,
        block_count: 64,
        kv_groups: KvGroups::ONE,
        max_model_len: 250,
        max_num_seqs: 16,
        max_num_batched_tokens: 1024,
        max_num_queued_reqs: 64,
        prefix_cache: true,
        scheduling_policy: SchedulingPolicy::Fcfs,
        speculation: Speculation::OFF,
    }
}

fn sizes(config: &EngineConfig, kv_type: KvType) -> TransformerSizes {
    TransformerSizes {
        step_tokens_max: config.max_num_batched_tokens as usize,
        logits_rows_max: config.max_num_seqs as usize,
        positions_max: config.max_model_len as usize,
        asked_len: config.max_model_len as usize,
        block_size: config.block_size as usize,
        block_count: config.block_count as usize,
        kv_groups: KvGroups::ONE,
        kv_type,
    }
}

/// A prompt that begins as others do and goes on in its own way.
fn prompt(index: usize, length: usize) -> Vec<u32> {
    let token = |place: usize| if place < 40 { place } else { place * (index + 3) + index };
    (0..length).map(|place| token(place) as u32 % 300).collect()
}

fn request(
    prompt: &[u32],
    params: SamplingParams,
    max_tokens: u32,
) -> Request<Guided<SamplingParams>> {
    Request {
        prompt: prompt.iter().map(|&id| TokenId(id)).collect(),
        max_tokens,
        min_tokens: 0,
        stop_tokens: Vec::new(),
        priority: 0,
        tenant: Tenant::default(),
        use_prefix_cache: params.pool().is_none_or(|pool| !pool.wants(0, prompt.len())),
        cache_salt: CacheSalt::default(),
        adapter: None,
        params: params.into(),
    }
}

/// The vectors of `prompts` asked for at once, beside `others` that generate tokens.
fn vectors(
    file: &mut ModelFile,
    (config, threads): (EngineConfig, usize),
    pooling: Pooling,
    prompts: &[Vec<u32>],
    others: usize,
) -> (Vec<Vec<f32>>, Snapshot) {
    let mut cpu = Cpu::new(threads, Isa::detect());
    let weights = Weights::load(file, &mut cpu).unwrap();
    let sizes = sizes(&config, KvType::Bf16);
    let transformer = Transformer::new(file.config.clone(), weights, sizes, &cpu);
    let mut engine = Engine::new(config, CpuDevice::new(cpu, transformer, None));
    let clock = FakeClock::new();
    let mut next = 0;
    let mut submit = |engine: &mut Engine<CpuDevice>, request| {
        next += 1;
        engine.submit(RequestId(next), request, clock.now()).unwrap();
    };
    for index in 0..others {
        let params = SamplingParams::new(SamplingRequest::default(), 320).unwrap();
        submit(&mut engine, request(&prompt(index + 50, 60), params, 60));
    }
    let pools: Vec<Pool> = prompts.iter().map(|_| Pool::new(pooling)).collect();
    for (prompt, pool) in prompts.iter().zip(&pools) {
        submit(&mut engine, request(prompt, SamplingParams::pooled(pool.clone()), 1));
    }
    while !engine.is_idle() {
        engine.step(&clock).unwrap();
        clock.advance(Duration::from_millis(1));
        engine.check_invariants();
    }
    let failed = |event: &Event<_>| matches!(event, Event::Failed { .. });
    assert!(!engine.drain_events().iter().any(failed));
    (pools.iter().map(Pool::vector).collect(), engine.snapshot())
}

#[test]
fn a_vector_depends_on_its_prompt_alone() {
    let mut file = tiny();
    let prompts: Vec<Vec<u32>> =
        [1, 2, 31, 32, 33, 64, 100, 180].iter().enumerate().map(|(i, n)| prompt(i, *n)).collect();
    for pooling in [Pooling::Mean, Pooling::Last] {
        let alone: Vec<Vec<f32>> = prompts
            .iter()
            .map(|prompt| {
                let one = std::slice::from_ref(prompt);
                vectors(&mut file, (roomy(), 1), pooling, one, 0).0.remove(0)
            })
            .collect();
        let chunks = EngineConfig { max_num_batched_tokens: 17, ..roomy() };
        let scarce = EngineConfig { max_num_batched_tokens: 40, block_count: 8, ..roomy() };
        for (config, threads, others) in
            [(roomy(), 1, 0), (roomy(), 2, 3), (chunks, 1, 2), (chunks, 3, 0), (scarce, 2, 6)]
        {
            let (together, end) = vectors(&mut file, (config, threads), pooling, &prompts, others);
            assert_eq!(together, alone, "{pooling} {config:?}");
            assert!(config != scarce || 0 < end.preemptions_total, "nothing was preempted");
        }
    }
}

#[test]
fn a_mean_does_not_use_the_cache_and_a_last_state_does() {
    let mut file = tiny();
    let prompts = vec![prompt(1, 100); 2];
    // One after the other, so that the second could find what the first computed.
    let config = EngineConfig { max_num_seqs: 1, ..roomy() };
    for (pooling, hits) in [(Pooling::Mean, 0), (Pooling::Last, 96)] {
        let (vectors, end) = vectors(&mut file, (config, 1), pooling, &prompts, 0);
        assert_eq!(vectors[0], vectors[1]);
        assert_eq!(end.prefix_hits_total, hits, "{pooling}");
    }
}

#[test]
fn the_mean_is_that_of_the_last_states_of_all_beginnings() {
    let mut file = tiny();
    let whole = prompt(1, 45);
    let beginnings: Vec<Vec<u32>> = (1..=whole.len()).map(|n| whole[..n].to_vec()).collect();
    let (states, _) = vectors(&mut file, (roomy(), 1), Pooling::Last, &beginnings, 0);
    let (mean, _) = vectors(&mut file, (roomy(), 1), Pooling::Mean, &[whole], 0);
    for (index, mean) in mean[0].iter().enumerate() {
        let sum: f64 = states.iter().map(|state| f64::from(state[index])).sum();
        assert_eq!(*mean, (sum / states.len() as f64) as f32);
    }
    assert!(mean[0].iter().any(|value| *value != states[0][0]));
}

/// The head's product with the state must give the logits, which `reference.rs` checks.
#[test]
fn the_state_is_what_the_head_reads() {
    let mut file = tiny();
    let mut cpu = Cpu::new(1, Isa::detect());
    let weights = Weights::load_float32(&mut file, &mut cpu).unwrap();
    let mut transformer =
        Transformer::new(file.config.clone(), weights, sizes(&roomy(), KvType::F32), &cpu);
    let (vocabulary, width) = (file.config.vocab_size, file.config.hidden_size);
    let name = if file.config.tied_head() { "token_embd.weight" } else { "output.weight" };
    let kind = file.tensor(name).unwrap().kind;
    let (mut bytes, mut head) = (Vec::new(), vec![0.0; vocabulary * width]);
    file.read_tensor(name, &mut bytes).unwrap();
    dequantise(kind, &bytes, &mut head);
    let tokens = prompt(1, 50);
    let blocks = [3, 5];
    let sequence = SequenceRows { row: 0, rows: tokens.len(), position: 0, blocks: &blocks };
    let rows: Vec<usize> = (0..tokens.len()).collect();
    let rows = &rows[rows.len() - 8..];
    let batch = Batch {
        tokens: &tokens,
        sequences: &[sequence],
        adapters: &[],
        logits_rows: rows,
        top_rows: &[],
    };
    let logits = transformer.forward(&mut cpu, batch).logits.to_vec();
    let mut state = vec![0.0; width];
    for (row, logits) in rows.iter().zip(logits.chunks_exact(vocabulary)) {
        transformer.final_state(&cpu, *row, &mut state);
        for (weights, logit) in head.chunks_exact(width).zip(logits) {
            let product: f64 =
                weights.iter().zip(&state).map(|(w, s)| f64::from(*w) * f64::from(*s)).sum();
            assert!((product - f64::from(*logit)).abs() < 1e-3, "{product} {logit}");
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn the_default_model_puts_similar_sentences_closer_than_others() {
    let path = catalogue::fetch("smollm2-135m", &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let mut file = ModelFile::open(&path).unwrap_or_else(|error| panic!("{error}"));
    let tokenizer = Tokenizer::new(file.tokenizer.clone()).unwrap();
    let triples = [
        (
            "The cat sleeps on the sofa.",
            "A kitten naps on the couch.",
            "The bank raised its rates.",
        ),
        (
            "How do I bake bread at home?",
            "A recipe for home-made bread.",
            "The train leaves at nine.",
        ),
        (
            "The doctor treated her patient.",
            "The nurse cared for the sick man.",
            "Rust has no null.",
        ),
    ];
    let texts: Vec<&str> = triples.iter().flat_map(|(a, b, c)| [*a, *b, *c]).collect();
    let prompts: Vec<Vec<u32>> =
        texts.iter().map(|text| tokenizer.encode_prompt(text).unwrap()).collect();
    let (vectors, _) = vectors(&mut file, (roomy(), 2), Pooling::Mean, &prompts, 0);
    for (texts, vectors) in texts.chunks(3).zip(vectors.chunks(3)) {
        let (similar, other) = (cosine(&vectors[0], &vectors[1]), cosine(&vectors[0], &vectors[2]));
        println!("{similar:.4} {other:.4} {texts:?}");
        assert!(other < similar, "{texts:?}: {similar} {other}");
    }
}
