//! A sequence's tokens depend on its request alone: not on who shares the batch, on how the prompt
//! is cut, on the number of threads, on a prefix found in the cache, or on a preemption.
//!
//! All on the default model, half of the requests greedy, the other half drawn from a seed with the
//! parameters of the load test's seed preset.

use std::time::Duration;

use engine::{
    CacheSalt, Clock, Engine, EngineConfig, Event, FakeClock, KvGroups, Request, RequestId,
    SchedulingPolicy, Snapshot, Speculation, Tenant, TokenId,
};
use grammar::Guided;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::KvType;
use kernels::share::SequenceRows;
use model::cpu::CpuDevice;
use model::file::ModelFile;
use model::transformer::{Batch, Outputs, TopRow, Transformer, TransformerSizes};
use model::weights::Weights;
use sampling::{SamplingParams, SamplingRequest};
use text::{ControlTokens, Tokenizer};

const BLOCK: usize = 32;

/// What prompts are cut from: the licence, since its text stays as it is.
const TEXT: &str = include_str!("../../../LICENSE");

fn default_model() -> ModelFile {
    let path = catalogue::fetch("smollm2-135m", &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    ModelFile::open(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// The tokens of [`TEXT`].
fn text_tokens() -> Vec<u32> {
    let tokenizer = Tokenizer::new(default_model().tokenizer).unwrap();
    let tokens = tokenizer.encode(TEXT, ControlTokens::AsText).unwrap();
    assert!(1200 <= tokens.len(), "the text has only {} tokens", tokens.len());
    tokens
}

/// A request as the tests write it; nothing ends it before `max_tokens`.
#[derive(Debug, Clone)]
struct Ask {
    prompt: Vec<u32>,
    max_tokens: u32,
    /// The step before which it comes.
    arrives: usize,
    sampling: SamplingRequest,
}

impl Ask {
    /// Asks number `index`: greedy if it is even, drawn from a seed if it is odd.
    fn new(index: usize, prompt: &[u32], max_tokens: u32) -> Ask {
        let greedy = SamplingRequest { temperature: 0.0, ..SamplingRequest::default() };
        let drawn = SamplingRequest {
            temperature: 1.0,
            top_p: 0.8,
            top_k: 30,
            repetition_penalty: 10.0,
            seed: index as u64,
            ..SamplingRequest::default()
        };
        let sampling = if index.is_multiple_of(2) { greedy } else { drawn };
        Ask { prompt: prompt.to_vec(), max_tokens, arrives: 0, sampling }
    }

    /// As it is, but coming later.
    fn arriving(self, step: usize) -> Ask {
        Ask { arrives: step, ..self }
    }

    fn request(&self, vocabulary: usize) -> Request<Guided<SamplingParams>> {
        Request {
            prompt: self.prompt.iter().map(|&id| TokenId(id)).collect(),
            max_tokens: self.max_tokens,
            min_tokens: 0,
            stop_tokens: Vec::new(),
            priority: 0,
            use_prefix_cache: true,
            cache_salt: CacheSalt::default(),
            adapter: None,
            tenant: Tenant::default(),
            params: SamplingParams::new(self.sampling.clone(), vocabulary).unwrap().into(),
        }
    }
}

/// How an engine is set up.
#[derive(Debug, Clone, Copy)]
struct Setup {
    threads: usize,
    max_num_seqs: u32,
    max_num_batched_tokens: u32,
    block_count: u32,
    prefix_cache: bool,
    kv_type: KvType,
}

/// Room for every test's requests at once, and whole prompts in one step.
///
/// One thread, since tests run beside each other; those that vary something else than the number
/// of threads vary that too.
const ROOMY: Setup = Setup {
    threads: 1,
    max_num_seqs: 32,
    max_num_batched_tokens: 512,
    block_count: 192,
    prefix_cache: false,
    kv_type: KvType::Bf16,
};

const TWO_THREADS: Setup = Setup { threads: 2, ..ROOMY };

/// One request after the other.
const ALONE: Setup = Setup { max_num_seqs: 1, ..ROOMY };

fn sizes(setup: &Setup) -> TransformerSizes {
    TransformerSizes {
        step_tokens_max: setup.max_num_batched_tokens as usize,
        logits_rows_max: setup.max_num_seqs as usize,
        positions_max: 1024,
        asked_len: 1024,
        block_size: BLOCK,
        block_count: setup.block_count as usize,
        kv_groups: KvGroups::ONE,
        kv_type: setup.kv_type,
    }
}

fn transformer(setup: &Setup, cpu: &mut Cpu) -> Transformer {
    let mut file = default_model();
    let weights = Weights::load(&mut file, cpu).unwrap();
    Transformer::new(file.config.clone(), weights, sizes(setup), cpu)
}

/// What an engine made of some asks.
struct Served {
    /// The tokens of each ask.
    tokens: Vec<Vec<u32>>,
    /// The engine's state at the end.
    end: Snapshot,
    /// The largest number of sequences in one step.
    rows_max: u32,
}

impl Served {
    /// Serves `asks` on a new engine.
    fn run(setup: Setup, asks: &[Ask]) -> Served {
        let mut cpu = Cpu::new(setup.threads, Isa::detect());
        let transformer = transformer(&setup, &mut cpu);
        let vocabulary = transformer.config().vocab_size;
        let config = EngineConfig {
            block_size: BLOCK as u32,
            block_count: setup.block_count,
            kv_groups: KvGroups::ONE,
            max_model_len: 1024,
            max_num_seqs: setup.max_num_seqs,
            max_num_batched_tokens: setup.max_num_batched_tokens,
            max_num_queued_reqs: 64,
            prefix_cache: setup.prefix_cache,
            scheduling_policy: SchedulingPolicy::Fcfs,
            speculation: Speculation::OFF,
        };
        let mut engine = Engine::new(config, CpuDevice::new(cpu, transformer, None));
        let clock = FakeClock::new();
        let mut tokens = vec![Vec::new(); asks.len()];
        let (mut step, mut ended, mut rows_max) = (0, 0, 0);
        while ended < asks.len() {
            for (id, ask) in (0..).zip(asks).filter(|(_, ask)| ask.arrives == step) {
                engine.submit(RequestId(id), ask.request(vocabulary), clock.now()).unwrap();
            }
            engine.step(&clock).unwrap();
            clock.advance(Duration::from_millis(1));
            step += 1;
            rows_max = rows_max.max(engine.snapshot().last_step_rows);
            for event in engine.drain_events() {
                match event {
                    Event::Token { id, token, .. } => tokens[id.0 as usize].push(token.0),
                    Event::Finished { .. } => ended += 1,
                    Event::Failed { id, failure } => panic!("{id:?}: {failure:?}"),
                }
            }
        }
        engine.check_invariants();
        for (ask, tokens) in asks.iter().zip(&tokens) {
            assert_eq!(tokens.len(), ask.max_tokens as usize);
        }
        Served { tokens, end: engine.snapshot(), rows_max }
    }
}

/// Fails unless `served` gave the first of `asks`, as many as there are in `expected`, its tokens.
#[track_caller]
fn assert_same(served: &Served, expected: &[Vec<u32>], asks: &[Ask], what: &str) {
    for (index, (got, expected)) in served.tokens.iter().zip(expected).enumerate() {
        let Ask { prompt, sampling, .. } = &asks[index];
        assert_eq!(
            got,
            expected,
            "ask {index}, {what}: prompt of {} tokens, temperature {}",
            prompt.len(),
            sampling.temperature
        );
    }
}

/// So many asks with distinct prompts of 1 to 97 tokens and answers of 15 to 17.
fn distinct_asks(count: usize) -> Vec<Ask> {
    let text = text_tokens();
    let ask = |index: usize| {
        let (start, length) = (37 * index, 1 + 59 * index % 97);
        Ask::new(index, &text[start..start + length], 15 + index as u32 % 3)
    };
    (0..count).map(ask).collect()
}

#[test]
fn a_sequence_in_a_batch_has_the_tokens_it_has_alone() {
    let asks = distinct_asks(32);
    let alone = Served::run(ALONE, &asks[..8]);
    assert_eq!(alone.rows_max, 1);
    for count in [2, 8, 32] {
        // They come mixed, and the last comes before the first is done.
        let staggered: Vec<Ask> =
            (0..count).map(|index| asks[index].clone().arriving(5 * index % 8)).collect();
        let together = Served::run(TWO_THREADS, &staggered);
        assert_eq!(together.rows_max as usize, count);
        assert_same(&together, &alone.tokens, &staggered, &format!("one of {count}"));
    }
}

#[test]
fn a_chunked_prompt_has_the_tokens_of_a_whole_one() {
    let text = text_tokens();
    let lengths = [64, 200, 33, 100, 7, 32];
    let asks: Vec<Ask> =
        (0..lengths.len()).map(|i| Ask::new(i, &text[200 * i..200 * i + lengths[i]], 16)).collect();
    let whole = Served::run(ROOMY, &asks);
    assert_eq!(whole.end.steps_total, 16, "each step gives every ask a token");
    for budget in [33, 64] {
        let chunked = Setup { max_num_batched_tokens: budget, ..TWO_THREADS };
        let served = Served::run(chunked, &asks);
        assert!(16 < served.end.steps_total);
        assert_same(&served, &whole.tokens, &asks, &format!("{budget} tokens a step"));
    }
}

#[test]
fn two_threads_give_the_tokens_of_one() {
    let asks: Vec<Ask> = (distinct_asks(9).into_iter().enumerate())
        .map(|(index, ask)| ask.arriving(index))
        .collect();
    let one = Served::run(ROOMY, &asks);
    let two = Served::run(TWO_THREADS, &asks);
    assert_same(&two, &one.tokens, &asks, "two threads");
}

#[test]
fn a_cached_prefix_gives_the_tokens_of_a_computed_one() {
    let text = text_tokens();
    // All begin with the same 96 tokens, three blocks; two have nothing else.
    let with_end = |end: &[u32]| [&text[..96], end].concat();
    let prompts = [&text[600..630], &text[700..701], &[], &[], &text[800..860], &text[900..932]];
    let asks: Vec<Ask> = (prompts.iter().enumerate())
        .map(|(index, end)| Ask::new(index, &with_end(end), 16))
        .zip([0, 3, 5, 20, 21, 40])
        .map(|(ask, step)| ask.arriving(step))
        .collect();
    let uncached = Served::run(ROOMY, &asks);
    assert_eq!(uncached.end.prefix_hits_total, 0);
    let cached = Served::run(Setup { prefix_cache: true, ..TWO_THREADS }, &asks);
    // All but the first find the three blocks, or two where the third holds the last token.
    assert_eq!(cached.end.prefix_hits_total, 3 * 96 + 2 * 64);
    assert_same(&cached, &uncached.tokens, &asks, "cached");
}

#[test]
fn a_preempted_sequence_has_the_tokens_of_an_uninterrupted_one() {
    let text = text_tokens();
    let asks: Vec<Ask> =
        (0..6).map(|i| Ask::new(i, &text[64 * i..64 * i + 44 + 4 * i], 24).arriving(i)).collect();
    let uninterrupted = Served::run(ROOMY, &asks);
    assert_eq!(uninterrupted.end.preemptions_total, 0);
    for prefix_cache in [false, true] {
        // Each needs two blocks to begin and three to end.
        let tight = Setup { block_count: 7, prefix_cache, ..TWO_THREADS };
        let served = Served::run(tight, &asks);
        assert!(0 < served.end.preemptions_total);
        assert_same(&served, &uninterrupted.tokens, &asks, "preempted");
    }
}

/// One forward after another for a sequence of its own blocks: its last row's logits, as bits.
struct LogitBits {
    transformer: Transformer,
    cpus: [Cpu; 2],
    tokens: Vec<u32>,
}

impl LogitBits {
    /// The sequence's tokens, cut after each of `ends`, with the keys and values in `blocks`.
    fn chunked(&mut self, threads: usize, ends: &[usize], blocks: &[u32]) -> Vec<u32> {
        let mut logits = Vec::new();
        let mut position = 0;
        for &end in ends {
            let rows = end - position;
            let sequence = SequenceRows { row: 0, rows, position, blocks };
            let batch = Batch {
                tokens: &self.tokens[position..end],
                sequences: &[sequence],
                adapters: &[],
                logits_rows: &[rows - 1],
                top_rows: &[],
            };
            logits = bits(self.transformer.forward(&mut self.cpus[threads - 1], batch).logits);
            position = end;
        }
        logits
    }

    /// The sequence after and before strangers, all in one forward.
    fn in_company(&mut self, strangers: &[&[u32]]) -> Vec<u32> {
        let own = self.tokens.clone();
        let (before, after) = strangers.split_at(strangers.len() / 2);
        let all: Vec<&[u32]> =
            before.iter().copied().chain([&own[..]]).chain(after.iter().copied()).collect();
        let blocks: Vec<Vec<u32>> = (0..all.len() as u32)
            .map(|sequence| (0..8).map(|block| 8 * sequence + block).collect())
            .collect();
        let mut sequences = Vec::new();
        let mut row = 0;
        for (tokens, blocks) in all.iter().zip(&blocks) {
            sequences.push(SequenceRows { row, rows: tokens.len(), position: 0, blocks });
            row += tokens.len();
        }
        let last_rows: Vec<usize> = sequences.iter().map(|s| s.row + s.rows - 1).collect();
        let counts = [1, 2, 30, 64].into_iter().cycle();
        let top_rows: Vec<TopRow> =
            last_rows.iter().zip(counts).map(|(&row, count)| TopRow { row, count }).collect();
        let batch = Batch {
            tokens: &all.concat(),
            sequences: &sequences,
            adapters: &[],
            logits_rows: &last_rows,
            top_rows: &top_rows,
        };
        let vocabulary = self.transformer.config().vocab_size;
        let Outputs { logits, top } = self.transformer.forward(&mut self.cpus[1], batch);
        for (logits, (top, row)) in logits.chunks_exact(vocabulary).zip(top.iter().zip(&top_rows)) {
            let mut expected: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
            expected.sort_by(|a, b| b.1.partial_cmp(&a.1).expect("no NaN"));
            expected.truncate(row.count);
            assert_eq!(top.as_ref(), Some(&expected), "both heads give the same logits");
        }
        bits(&logits[before.len() * vocabulary..][..vocabulary])
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// Sharper than equal tokens, which forgive a difference in the last bit.
#[test]
fn logits_have_the_same_bits_whatever_is_computed_beside_and_before_them() {
    let text = text_tokens();
    for kv_type in KvType::OFFERED {
        assert_logits_have_the_same_bits(&text, kv_type);
    }
}

#[track_caller]
fn assert_logits_have_the_same_bits(text: &[u32], kv_type: KvType) {
    let mut cpus = [1, 2].map(|threads| Cpu::new(threads, Isa::detect()));
    let transformer = transformer(&Setup { kv_type, ..ROOMY }, &mut cpus[1]);
    let mut sequence = LogitBits { transformer, cpus, tokens: text[..100].to_vec() };
    let whole = sequence.chunked(2, &[100], &[0, 1, 2, 3]);
    let scattered = [9, 170, 3, 41];
    let one_by_one: Vec<usize> = (88..=100).collect();
    for ends in [&[100][..], &[99, 100], &[33, 66, 100], &[1, 32, 65, 97, 100], &one_by_one] {
        for threads in [1, 2] {
            let chunked = sequence.chunked(threads, ends, &scattered);
            assert!(chunked == whole, "{kv_type}, {threads} threads, chunks that end at {ends:?}");
        }
    }
    let strangers: Vec<&[u32]> = (0..10).map(|i| &text[200 + 50 * i..][..1 + 4 * i]).collect();
    for count in [1, 2, 5, 10] {
        let in_company = sequence.in_company(&strangers[..count]);
        assert!(in_company == whole, "{kv_type}, beside {count} other sequences");
    }
}

/// A share that is cut off must not leave the others, and with them the server, waiting.
#[test]
fn a_step_that_panics_in_one_thread_ends_in_all() {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut cpu = Cpu::new(2, Isa::detect());
        let mut transformer = transformer(&ROOMY, &mut cpu);
        let blocks: Vec<u32> = (0..8).collect();
        // The first token is none of the vocabulary: whoever has the earlier rows panics.
        let mut tokens = text_tokens()[..200].to_vec();
        tokens[0] = u32::MAX;
        let sequence = SequenceRows { row: 0, rows: 200, position: 0, blocks: &blocks };
        let batch = Batch {
            tokens: &tokens,
            sequences: &[sequence],
            adapters: &[],
            logits_rows: &[],
            top_rows: &[TopRow::greatest(199)],
        };
        let step = std::panic::AssertUnwindSafe(|| drop(transformer.forward(&mut cpu, batch)));
        sender.send(std::panic::catch_unwind(step).is_err())
    });
    let panicked = receiver.recv_timeout(std::time::Duration::from_secs(60));
    assert_eq!(panicked, Ok(true), "the step ends, with the panic");
}

/// AVX-512 alone has an order of its own for the sums of attention over floats.
#[test]
fn logits_have_the_bits_of_the_scalar_tier_without_avx512() {
    // Few, since the scalar tier is slow.
    let tokens = &text_tokens()[..9];
    let logits = |isa| {
        let mut cpus = [1, 2].map(|threads| Cpu::new(threads, isa));
        let transformer = transformer(&ROOMY, &mut cpus[1]);
        let mut sequence = LogitBits { transformer, cpus, tokens: tokens.to_vec() };
        sequence.chunked(2, &[7, 8, 9], &[0])
    };
    let scalar = logits(Isa::Scalar);
    for isa in Isa::all_available().filter(|isa| !matches!(isa, Isa::Avx512 | Isa::Scalar)) {
        assert!(logits(isa) == scalar, "{isa}");
    }
}
