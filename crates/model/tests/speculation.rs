//! Guessing tokens decides how many a step gives, never which they are: answers with drafts are those
//! without, with all that goes with their tokens, whoever else is served.

use std::collections::BTreeMap;

use engine::{
    CacheSalt, Clock, Engine, EngineConfig, Event, FakeClock, KvGroups, Request, RequestId,
    SchedulingPolicy, Snapshot, Speculation, Tenant, TokenId,
};
use grammar::{Compiler, Constraint, Grammar, Guided, Spec, Vocabulary};
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::KvType;
use model::cpu::{CpuDevice, Extra};
use model::draft::{DraftModel, Drafter, STEP_POSITIONS_MAX};
use model::dummy::DummyShape;
use model::file::ModelFile;
use model::transformer::{Transformer, TransformerSizes};
use model::weights::Weights;
use sampling::{PromptScores, SamplingParams, SamplingRequest};
use text::{ControlTokens, Tokenizer};

const BLOCK: u32 = 32;

/// What is served.
#[derive(Debug, Clone, Copy)]
enum Served {
    /// The default model.
    Real,
    /// A tiny model with the weights of this seed.
    Tiny(u64),
}

impl Served {
    fn open(self) -> ModelFile {
        match self {
            Served::Real => {
                let path = catalogue::fetch("smollm2-135m", &mut |_| {});
                ModelFile::open(&path.unwrap_or_else(|error| panic!("{error}"))).unwrap()
            }
            Served::Tiny(seed) => DummyShape::tiny().open(seed).unwrap(),
        }
    }

    fn tokenizer(self) -> Tokenizer {
        Tokenizer::new(self.open().tokenizer).unwrap()
    }
}

/// What guesses.
#[derive(Debug, Clone, Copy)]
enum Guess {
    Nothing,
    Lookup,
    /// A tiny model with the weights of this seed.
    Tiny(u64),
}

/// Sizes of the engine.
#[derive(Debug, Clone, Copy)]
struct Setup {
    max_num_seqs: u32,
    max_num_batched_tokens: u32,
    block_count: u32,
    prefix_cache: bool,
}

/// Everybody at once, whole prompts in a step.
const ROOMY: Setup =
    Setup { max_num_seqs: 16, max_num_batched_tokens: 256, block_count: 128, prefix_cache: false };

/// A request; more than one of the same prompt are its `n` answers.
#[derive(Clone)]
struct Ask {
    what: &'static str,
    prompt: Vec<u32>,
    max_tokens: u32,
    stop_tokens: Vec<u32>,
    sampling: SamplingRequest,
    grammar: Option<Grammar>,
    /// Whether the tokens of the prompt are scored too.
    scored: bool,
    /// The step before which it comes.
    arrives: usize,
}

impl Ask {
    fn greedy(what: &'static str, prompt: &[u32], max_tokens: u32) -> Ask {
        let sampling = SamplingRequest { temperature: 0.0, ..SamplingRequest::default() };
        let (prompt, stop_tokens) = (prompt.to_vec(), Vec::new());
        Ask {
            what,
            prompt,
            max_tokens,
            stop_tokens,
            sampling,
            grammar: None,
            scored: false,
            arrives: 0,
        }
    }

    fn with(self, what: &'static str, change: impl FnOnce(&mut SamplingRequest)) -> Ask {
        let mut sampling = self.sampling.clone();
        change(&mut sampling);
        Ask { what, sampling, ..self }
    }

    fn params(&self, vocabulary: usize) -> SamplingParams {
        let params = SamplingParams::new(self.sampling.clone(), vocabulary).unwrap();
        match self.scored {
            true => params.with_prompt_scores(PromptScores::new(self.prompt.len(), 0)),
            false => params,
        }
    }

    fn request(&self, vocabulary: usize) -> Request<Guided<SamplingParams>> {
        let ids = |ids: &[u32]| ids.iter().map(|&id| TokenId(id)).collect();
        Request {
            prompt: ids(&self.prompt),
            max_tokens: self.max_tokens,
            min_tokens: self.sampling.min_tokens,
            stop_tokens: ids(&self.stop_tokens),
            priority: 0,
            use_prefix_cache: true,
            cache_salt: CacheSalt::default(),
            adapter: None,
            tenant: Tenant::default(),
            params: Guided {
                sampling: self.params(vocabulary),
                constraint: self.grammar.as_ref().map(Constraint::new),
            },
        }
    }
}

/// The tokens of an answer with what goes with them, and how it ended.
type Answer = (Vec<(u32, Extra)>, String);

struct Outcome {
    answers: Vec<Answer>,
    end: Snapshot,
}

fn device(served: Served, guess: Guess, setup: &Setup) -> CpuDevice {
    let mut cpu = Cpu::new(2, Isa::detect());
    let sizes = TransformerSizes {
        step_tokens_max: setup.max_num_batched_tokens as usize,
        logits_rows_max: STEP_POSITIONS_MAX.max(setup.max_num_seqs as usize),
        positions_max: 512,
        asked_len: 512,
        block_size: BLOCK as usize,
        block_count: setup.block_count as usize,
        kv_groups: KvGroups::ONE,
        kv_type: KvType::Bf16,
    };
    let mut file = served.open();
    let weights = Weights::load(&mut file, &mut cpu).unwrap();
    let transformer = Transformer::new(file.config.clone(), weights, sizes, &cpu);
    let drafter = match guess {
        Guess::Nothing => None,
        Guess::Lookup => Some(Drafter::PromptLookup),
        Guess::Tiny(seed) => {
            let mut file = DummyShape::tiny().open(seed).unwrap();
            let weights = Weights::load(&mut file, &mut cpu).unwrap();
            let sizes = DraftModel::sizes(&file.config, sizes);
            let model = DraftModel::new(file.config.clone(), weights, sizes, &cpu);
            Some(Drafter::Model(Box::new(model)))
        }
    };
    CpuDevice::new(cpu, transformer, drafter)
}

/// Serves `asks` on a new engine, with drafts of up to 5 tokens.
fn serve(served: Served, guess: Guess, setup: Setup, asks: &[Ask]) -> Outcome {
    let config = EngineConfig {
        block_size: BLOCK,
        block_count: setup.block_count,
        kv_groups: KvGroups::ONE,
        max_model_len: 512,
        max_num_seqs: setup.max_num_seqs,
        max_num_batched_tokens: setup.max_num_batched_tokens,
        max_num_queued_reqs: 64,
        prefix_cache: setup.prefix_cache,
        scheduling_policy: SchedulingPolicy::Fcfs,
        speculation: match guess {
            Guess::Nothing => Speculation::OFF,
            _ => Speculation { draft_tokens_max: 5, step_positions_max: STEP_POSITIONS_MAX as u32 },
        },
    };
    let vocabulary = served.open().config.vocab_size;
    let mut engine = Engine::new(config, device(served, guess, &setup));
    let clock = FakeClock::new();
    let mut answers: BTreeMap<u64, Answer> = BTreeMap::new();
    let mut ended = 0;
    for step in 0.. {
        for (id, ask) in (0..).zip(asks).filter(|(_, ask)| ask.arrives == step) {
            engine.submit(RequestId(id), ask.request(vocabulary), clock.now()).unwrap();
        }
        engine.step(&clock).unwrap();
        for event in engine.drain_events() {
            let answer = answers.entry(event.id().0).or_default();
            match event {
                Event::Token { token, extra, .. } => answer.0.push((token.0, extra)),
                Event::Finished { reason, .. } => answer.1 = format!("{reason:?}"),
                Event::Failed { failure, .. } => answer.1 = format!("{failure:?}"),
            }
            ended += usize::from(!answer.1.is_empty());
        }
        if ended == asks.len() {
            break;
        }
    }
    engine.check_invariants();
    Outcome { answers: answers.into_values().collect(), end: engine.snapshot() }
}

#[track_caller]
fn assert_same(got: &Outcome, expected: &Outcome, asks: &[Ask], how: &str) {
    for (index, ask) in asks.iter().enumerate() {
        let (got, expected) = (&got.answers[index], &expected.answers[index]);
        assert_eq!(got, expected, "ask {index}, {}, {how}", ask.what);
    }
}

fn accepted(outcome: &Outcome) -> u64 {
    outcome.end.accepted_draft_tokens_total.iter().sum()
}

fn grammar(served: Served, spec: Spec) -> Grammar {
    let tokenizer = served.tokenizer();
    let bytes = |id| match tokenizer.token_bytes(id) {
        Some(bytes) if !tokenizer.is_control(id) => bytes.to_vec(),
        _ => Vec::new(),
    };
    let tokens = (0..tokenizer.vocabulary_len() as u32).map(bytes).collect();
    let end_tokens = tokenizer.end_tokens().to_vec();
    Compiler::new(Vocabulary { tokens, end_tokens }).compile(&spec).unwrap()
}

/// Asks of every kind that changes how tokens are chosen or ended, all of a text that repeats itself.
fn every_kind(served: Served) -> Vec<Ask> {
    let tokenizer = served.tokenizer();
    let verse = "The quick brown fox jumps over the lazy dog. One, two, three, four, five, six. ";
    let prompt = tokenizer.encode(&verse.repeat(2), ControlTokens::AsText).unwrap();
    let plain = Ask::greedy("greedy", &prompt, 28);
    let drawn = plain.clone().with("drawn", |s| {
        (s.temperature, s.top_p, s.top_k, s.seed) = (0.8, 0.9, 20, 7);
    });
    let rhyme = Spec::Regex("(one two three ){6}done".to_owned());
    let stop_tokens = prompt[prompt.len() / 2 - 3..][..1].to_vec();
    let end_tokens = tokenizer.end_tokens().to_vec();
    let mut asks = vec![
        plain.clone(),
        drawn.clone(),
        // The second of n = 2.
        drawn.clone().with("drawn, another seed", |s| s.seed = 8),
        plain.clone().with("repetition penalty", |s| s.repetition_penalty = 1.05),
        drawn.clone().with("penalties", |s| {
            (s.presence_penalty, s.frequency_penalty, s.min_p) = (0.4, 0.2, 0.02);
        }),
        plain.clone().with("log-probabilities", |s| s.log_probs = Some(3)),
        Ask { what: "stop token", stop_tokens, ..plain.clone() },
        plain.clone().with("min_tokens", |s| (s.min_tokens, s.banned_until_min) = (9, end_tokens)),
        plain.clone().with("bad words", |s| s.bad_words = vec![prompt[3..6].to_vec()]),
        drawn.clone().with("bias", |s| s.logit_bias = vec![(prompt[5], -3.0)]),
        Ask { what: "grammar", grammar: Some(grammar(served, rhyme.clone())), ..plain.clone() },
        Ask { what: "drawn, grammar", grammar: Some(grammar(served, rhyme)), ..drawn },
        Ask { what: "scored prompt", scored: true, ..plain.clone() },
        Ask { what: "a short answer", max_tokens: 2, ..plain },
    ];
    // They do not all end at once: of many some are few in the end.
    let longer = asks.iter_mut().rev().step_by(4).zip([4, 8, 12]);
    longer.for_each(|(ask, more)| ask.max_tokens += more);
    asks
}

/// Alone, a few at a time, all at once, in chunks, preempted, with shared beginnings.
const SETUPS: [(&str, Setup); 5] = [
    ("alone", Setup { max_num_seqs: 1, ..ROOMY }),
    ("three at a time, in chunks", Setup { max_num_seqs: 3, max_num_batched_tokens: 33, ..ROOMY }),
    ("all at once", ROOMY),
    ("preempted", Setup { max_num_seqs: 3, block_count: 7, ..ROOMY }),
    ("cached", Setup { max_num_seqs: 2, prefix_cache: true, ..ROOMY }),
];

#[test]
fn looked_up_drafts_leave_every_answer_as_it_is() {
    let asks = every_kind(Served::Real);
    let expected = serve(Served::Real, Guess::Nothing, ROOMY, &asks);
    assert_eq!(expected.end.drafts_total, 0);
    let mut wrong = 0;
    // The next test has one alone.
    for &(how, setup) in &SETUPS[1..] {
        let got = serve(Served::Real, Guess::Lookup, setup, &asks);
        assert_same(&got, &expected, &asks, how);
        assert!(0 < accepted(&got), "{how}: no guess was right");
        wrong += got.end.draft_tokens_total - accepted(&got);
        assert_eq!(0 < got.end.preemptions_total, how == "preempted", "{how}");
        assert_eq!(0 < got.end.prefix_hits_total, how == "cached", "{how}");
    }
    assert!(0 < wrong, "no guess was wrong");
}

#[test]
fn a_text_that_repeats_itself_takes_a_fraction_of_the_steps() {
    let asks = &every_kind(Served::Real)[..1];
    let alone = Setup { max_num_seqs: 1, ..ROOMY };
    let [without, with] =
        [Guess::Nothing, Guess::Lookup].map(|guess| serve(Served::Real, guess, alone, asks));
    assert_eq!(without.end.steps_total, 28);
    assert!(with.end.steps_total <= 14, "{} steps", with.end.steps_total);
}

#[test]
fn a_draft_model_leaves_every_answer_as_it_is() {
    let served = Served::Tiny(1);
    let asks = every_kind(served);
    let expected = serve(served, Guess::Nothing, ROOMY, &asks);
    let mut right = [0; 2];
    for (how, setup) in SETUPS {
        let [own, other] =
            [Guess::Tiny(1), Guess::Tiny(2)].map(|guess| serve(served, guess, setup, &asks));
        assert_same(&own, &expected, &asks, how);
        assert_same(&other, &expected, &asks, how);
        assert!(0 < own.end.drafts_total && 0 < other.end.drafts_total, "{how}");
        right[0] += accepted(&own);
        right[1] += accepted(&other);
    }
    assert!(2 * right[1] < right[0], "the other model guesses as well: {right:?}");
}

/// The sharpest test of what the draft model keeps: any stale key would make it guess otherwise.
#[test]
fn a_model_that_drafts_for_itself_is_always_right() {
    let served = Served::Tiny(1);
    let asks = every_kind(served);
    let asks: Vec<Ask> = asks.into_iter().filter(|ask| ask.grammar.is_none()).collect();
    for (how, setup) in SETUPS {
        let got = serve(served, Guess::Tiny(1), setup, &asks);
        let of =
            |end: &str| got.answers.iter().filter(|(_, reason)| reason.starts_with(end)).count();
        // Behind a stop token a draft goes on.
        let beyond = 5 * of("Stop") as u64;
        assert!(0 < got.end.draft_tokens_total, "{how}");
        assert!(
            got.end.draft_tokens_total <= accepted(&got) + beyond,
            "{how}: {} of {} guesses",
            accepted(&got),
            got.end.draft_tokens_total
        );
    }
}

/// While steps are large the draft model computes nothing; then it catches up.
#[test]
fn a_draft_model_follows_when_steps_become_small() {
    let served = Served::Tiny(1);
    let text: Vec<u32> = (0..300).map(|i| 3 + i * 7 % 250).collect();
    let mut asks: Vec<Ask> =
        (0..9).map(|i| Ask::greedy("short", &text[10 * i..10 * i + 20], 12)).collect();
    asks.push(Ask::greedy("long", &text[..150], 60));
    let small = Setup { max_num_batched_tokens: 64, ..ROOMY };
    let expected = serve(served, Guess::Nothing, small, &asks);
    let got = serve(served, Guess::Tiny(1), small, &asks);
    assert_same(&got, &expected, &asks, "after a crowd");
    assert!(20 < accepted(&got), "{} guesses", accepted(&got));
    assert_eq!(accepted(&got), got.end.draft_tokens_total);
    assert!(got.end.steps_total < expected.end.steps_total);
}

/// It lacks the prompt and the first token when the first draft is due.
#[test]
fn a_draft_model_follows_at_most_256_positions_in_a_step() {
    let served = Served::Tiny(1);
    let text: Vec<u32> = (0..300).map(|i| 3 + i * 7 % 250).collect();
    let wide = Setup { max_num_batched_tokens: 512, ..ROOMY };
    for (prompt_len, steps) in [(255, 2), (256, 3)] {
        let asks = [Ask::greedy("long", &text[..prompt_len], 7)];
        let got = serve(served, Guess::Tiny(1), wide, &asks);
        assert_eq!(got.end.steps_total, steps, "{prompt_len} tokens and one more");
    }
}

/// Nothing was guessed for the request that computed the shared beginning, so both lack it here.
#[test]
fn two_that_share_a_beginning_may_lack_it_at_once() {
    let served = Served::Tiny(1);
    let prompt: Vec<u32> = (0..100).map(|i| 3 + i * 7 % 250).collect();
    let first = Ask::greedy("first", &prompt, 1);
    let later = Ask { arrives: 2, ..Ask::greedy("later", &prompt, 20) };
    let drawn = later.clone().with("drawn", |s| (s.temperature, s.seed) = (1.0, 3));
    let asks = [first, later, drawn];
    let cached = Setup { prefix_cache: true, ..ROOMY };
    let expected = serve(served, Guess::Nothing, cached, &asks);
    let got = serve(served, Guess::Tiny(1), cached, &asks);
    assert_same(&got, &expected, &asks, "beside each other");
    assert_eq!(got.end.prefix_hits_total, 2 * 96);
    assert!(10 < accepted(&got), "{} guesses", accepted(&got));
    assert_eq!(accepted(&got), got.end.draft_tokens_total);
}
