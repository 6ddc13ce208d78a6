//! A request whose own masks leave no token: it ends by its own doing, and nobody beside it.

use engine::{
    CacheSalt, Cause, Engine, EngineConfig, Event, FakeClock, FinishReason, KvGroups, Nanos,
    Request, RequestId, SchedulingPolicy, Speculation, Tenant, TokenId,
};
use grammar::Guided;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::KvType;
use model::cpu::CpuDevice;
use model::dummy::DummyShape;
use model::transformer::{Transformer, TransformerSizes};
use model::weights::Weights;
use sampling::{SamplingParams, SamplingRequest};

const CONFIG: EngineConfig = EngineConfig {
    block_size: 32,
    block_count: 8,
    kv_groups: KvGroups::ONE,
    max_model_len: 64,
    max_num_seqs: 4,
    max_num_batched_tokens: 64,
    max_num_queued_reqs: 4,
    prefix_cache: true,
    scheduling_policy: SchedulingPolicy::Fcfs,
    speculation: Speculation::OFF,
};

/// The engine, and the size of its model's vocabulary.
fn engine() -> (Engine<CpuDevice>, usize) {
    let mut file = DummyShape::tiny().open(7).unwrap();
    let mut cpu = Cpu::new(2, Isa::detect());
    let weights = Weights::load(&mut file, &mut cpu).unwrap();
    let sizes = TransformerSizes {
        step_tokens_max: CONFIG.max_num_batched_tokens as usize,
        logits_rows_max: CONFIG.max_num_seqs as usize,
        positions_max: CONFIG.max_model_len as usize,
        asked_len: CONFIG.max_model_len as usize,
        block_size: CONFIG.block_size as usize,
        block_count: CONFIG.block_count as usize,
        kv_groups: KvGroups::ONE,
        kv_type: KvType::Bf16,
    };
    let transformer = Transformer::new(file.config.clone(), weights, sizes, &cpu);
    let vocabulary = file.config.vocab_size;
    (Engine::new(CONFIG, CpuDevice::new(cpu, transformer, None)), vocabulary)
}

fn request(params: SamplingParams) -> Request<Guided<SamplingParams>> {
    Request {
        prompt: (1..4).map(TokenId).collect(),
        max_tokens: 9,
        min_tokens: 0,
        stop_tokens: Vec::new(),
        priority: 0,
        use_prefix_cache: true,
        cache_salt: CacheSalt::default(),
        adapter: None,
        tenant: Tenant::default(),
        params: params.into(),
    }
}

#[test]
fn masks_that_leave_no_token_end_their_request_alone_and_are_no_fault() {
    let (mut engine, vocabulary) = engine();
    let params = |allowed_tokens, bad_words| {
        let rules = SamplingRequest { allowed_tokens, bad_words, ..SamplingRequest::default() };
        SamplingParams::new(rules, vocabulary).unwrap()
    };
    // One token alone, which may come twice in a row and not three times.
    let dead = params(vec![7], vec![vec![7, 7, 7]]);
    for (id, params) in [(0, dead), (1, params(vec![7], Vec::new()))] {
        engine.submit(RequestId(id), request(params), Nanos(0)).unwrap();
    }
    while !engine.is_idle() {
        engine.step(&FakeClock::new()).unwrap();
        engine.check_invariants();
    }
    let events = engine.drain_events();
    let of = |id: u64| events.iter().filter(move |event| event.id() == RequestId(id));
    let tokens = |id: u64| of(id).filter(|event| matches!(event, Event::Token { .. })).count();
    assert_eq!([tokens(0), tokens(1)], [2, 9]);
    match of(0).next_back() {
        Some(Event::Failed { failure, .. }) => assert_eq!(failure.cause, Cause::NoToken),
        other => panic!("{other:?}"),
    }
    let end = of(1).next_back();
    assert!(matches!(end, Some(Event::Finished { reason: FinishReason::Length, .. })), "{end:?}");
    assert_eq!(engine.snapshot().rows_faulty_total, 0);
}
