//! Blocks behind a sliding window are given back, and no answer is another for it: those of models with
//! windows, in a pool that holds the window and little more, are those with room for everything.

use std::collections::BTreeMap;
use std::path::Path;

use engine::{
    CacheSalt, Clock, Engine, EngineConfig, Event, FakeClock, KvGroups, KvLayout, Request,
    RequestId, SchedulingPolicy, Snapshot, Speculation, Tenant, TokenId,
};
use grammar::Guided;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::KvType;
use model::cpu::{CpuDevice, Extra};
use model::draft::{Drafter, STEP_POSITIONS_MAX};
use model::file::ModelFile;
use model::transformer::{Transformer, TransformerSizes};
use model::weights::Weights;
use sampling::{SamplingParams, SamplingRequest};

const BLOCK: u32 = 32;
const MODEL_LEN: u32 = 640;
/// What a model has of layers with a window of 8 tokens and of others.
const MODELS: [(&str, KvGroups); 2] = [
    ("gemma3.gguf", KvGroups { full: 1, windowed: 6, window: 8 }),
    ("mistral.gguf", KvGroups { full: 0, windowed: 1, window: 8 }),
];

/// Tokens with their log-probabilities, and how the answer ended.
type Answer = (Vec<(u32, Extra)>, String);

fn open(name: &str) -> ModelFile {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families");
    ModelFile::open(&folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// One request at a time, in steps of up to 40 tokens, with room for it in a group that keeps everything.
fn alone() -> EngineConfig {
    EngineConfig {
        block_size: BLOCK,
        block_count: MODEL_LEN / BLOCK,
        kv_groups: KvGroups::ONE,
        max_model_len: MODEL_LEN,
        max_num_seqs: 1,
        max_num_batched_tokens: 40,
        max_num_queued_reqs: 64,
        prefix_cache: false,
        scheduling_policy: SchedulingPolicy::Fcfs,
        speculation: Speculation::OFF,
    }
}

fn device(name: &str, kv_type: KvType, config: &EngineConfig) -> CpuDevice {
    let mut file = open(name);
    let mut cpu = Cpu::new(2, Isa::detect());
    let sizes = TransformerSizes {
        step_tokens_max: config.max_num_batched_tokens as usize,
        logits_rows_max: STEP_POSITIONS_MAX.max(config.max_num_seqs as usize),
        positions_max: MODEL_LEN as usize,
        asked_len: MODEL_LEN as usize,
        block_size: config.block_size as usize,
        block_count: config.block_count as usize,
        kv_groups: config.kv_groups,
        kv_type,
    };
    let weights = Weights::load(&mut file, &mut cpu).unwrap();
    let transformer = Transformer::new(file.config.clone(), weights, sizes, &cpu);
    let drafts = config.speculation != Speculation::OFF;
    CpuDevice::new(cpu, transformer, drafts.then_some(Drafter::PromptLookup))
}

/// A request whose prompt begins as others do and goes on in its own way.
fn request(index: u32, prompt_len: u32, max_tokens: u32) -> Request<Guided<SamplingParams>> {
    let token = |place: u32| if place < 70 { place } else { place * (index + 3) + index };
    let temperature = if index.is_multiple_of(2) { 0.0 } else { 0.8 };
    let asked = SamplingRequest {
        temperature,
        seed: u64::from(index),
        log_probs: Some(3),
        ..SamplingRequest::default()
    };
    Request {
        prompt: (0..prompt_len).map(|place| TokenId(token(place) % 90 + 3)).collect(),
        max_tokens,
        min_tokens: 0,
        stop_tokens: Vec::new(),
        priority: 0,
        use_prefix_cache: true,
        cache_salt: CacheSalt::default(),
        adapter: None,
        tenant: Tenant::default(),
        params: SamplingParams::new(asked, open("gemma3.gguf").config.vocab_size).unwrap().into(),
    }
}

/// Serves the requests, each from its step on.
fn serve(
    (name, kv_type): (&str, KvType),
    config: EngineConfig,
    requests: &[(usize, Request<Guided<SamplingParams>>)],
) -> (Vec<Answer>, Snapshot) {
    let mut engine = Engine::new(config, device(name, kv_type, &config));
    let clock = FakeClock::new();
    let mut answers: BTreeMap<u64, Answer> = BTreeMap::new();
    let mut ended = 0;
    for step in 0.. {
        for (id, (_, request)) in (0..).zip(requests).filter(|(_, (from, _))| *from == step) {
            engine.submit(RequestId(id), request.clone(), clock.now()).unwrap();
        }
        engine.step(&clock).unwrap();
        engine.check_invariants();
        for event in engine.drain_events() {
            let answer = answers.entry(event.id().0).or_default();
            match event {
                Event::Token { token, extra, .. } => answer.0.push((token.0, extra)),
                Event::Finished { reason, .. } => answer.1 = format!("{reason:?}"),
                Event::Failed { failure, .. } => answer.1 = format!("{failure:?}"),
            }
            ended += usize::from(!answer.1.is_empty());
        }
        if ended == requests.len() {
            break;
        }
    }
    (answers.into_values().collect(), engine.snapshot())
}

#[test]
fn layers_are_grouped_by_what_they_see() {
    for (name, groups) in MODELS {
        let kv_groups = |len_max| open(name).config.kv_groups(len_max);
        assert_eq!(kv_groups(MODEL_LEN as usize), groups, "{name}");
        // Nothing ever lies behind a window that a whole sequence fits.
        assert_eq!([kv_groups(9), kv_groups(8)], [groups, KvGroups::ONE], "{name}");
    }
    let gemma = open("gemma3.gguf").config;
    let groups = gemma.group_of_layers(gemma.kv_groups(MODEL_LEN as usize));
    assert_eq!(groups, [1, 2, 3, 4, 5, 0, 6]);
    assert_eq!(gemma.group_of_layers(KvGroups::ONE), [0; 7]);
    assert_eq!(open("llama3.gguf").config.kv_groups(MODEL_LEN as usize), KvGroups::ONE);
}

#[test]
fn a_long_answer_takes_the_window_and_equals_that_with_all_blocks() {
    for (name, kv_groups) in MODELS {
        for kv_type in [KvType::Bf16, KvType::Int8] {
            let asked = [(0, request(0, 150, 480)), (0, request(1, 3, 600))];
            let (expected, _) = serve((name, kv_type), alone(), &asked);
            let layout = KvLayout { groups: kv_groups, ..alone().kv_layout() };
            // The last token is not computed.
            let block_count = layout.blocks_of(629) as u32;
            // Windowed groups: 8 and 40 tokens, from anywhere in a block.
            assert_eq!(block_count, kv_groups.full * 20 + kv_groups.windowed * 3);
            let config = EngineConfig { kv_groups, block_count, ..alone() };
            let (answers, end) = serve((name, kv_type), config, &asked);
            assert_eq!(answers, expected, "{name}, {kv_type}");
            assert_eq!(end.preemptions_total, 0, "{name}, {kv_type}");
            assert_eq!(end.blocks_used, 0);
        }
    }
}

#[test]
fn crowds_with_cached_beginnings_and_drafts_are_answered_as_alone() {
    for (name, kv_groups) in MODELS {
        let lengths =
            [(0, 200, 40), (0, 90, 60), (4, 300, 9), (9, 250, 80), (60, 71, 30), (60, 129, 5)];
        let asked: Vec<_> = (0..)
            .zip(lengths)
            .map(|(index, (step, prompt, answer))| (step, request(index, prompt, answer)))
            .collect();
        let (expected, _) = serve((name, KvType::Bf16), alone(), &asked);
        let layout = KvLayout { groups: kv_groups, ..alone().kv_layout() };
        let config = EngineConfig {
            kv_groups,
            block_count: layout.blocks_of(330) as u32 + 9,
            max_num_seqs: 4,
            prefix_cache: true,
            speculation: Speculation {
                draft_tokens_max: 5,
                step_positions_max: STEP_POSITIONS_MAX as u32,
            },
            ..alone()
        };
        let (answers, end) = serve((name, KvType::Bf16), config, &asked);
        assert_eq!(answers, expected, "{name}");
        let happened = [end.prefix_hits_total, end.draft_tokens_total];
        assert!(happened.iter().all(|&count| 0 < count), "{name}: {end:?}");
    }
}
