//! What it takes to choose the tokens of a step: `cargo bench -p sampling --bench sampling -- [CASE]…`,
//! about five seconds; a case is named by any part of its name, such as `penalties`.
//!
//! 64 rows of the default model's 49,152 words, with one thread and with all, each with a sampler of
//! its own, as the server does it. History is 500 tokens of prompt and 500 of output. Rows are written
//! anew before each run, which is not timed, and so come from a cache as far as they fit. `us/row` is
//! the time of the whole run over its rows, so more threads make it smaller.
//!
//! A plain greedy request gets its token from the product of the output head and never comes here; the
//! case `greedy` shows what that saves. To judge a figure: at 50 sequences a step takes tens of
//! milliseconds (`cargo bench -p model --bench forward`).

use std::time::{Duration, Instant};

use kernels::isa::{Isa, Work};
use kernels::pool::Pool;
use kernels::probe::Measured;
use sampling::{Context, Sampler, SamplingParams, SamplingRequest};

const WORDS: usize = 49_152;
const ROWS: usize = 64;
const PROMPT_TOKENS: usize = 500;
const OUTPUT_TOKENS: usize = 500;
/// How long each case is measured, three runs at least.
const TIME: Duration = Duration::from_millis(250);

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let cases = cases();
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    if !cases.iter().any(|(name, _)| chosen(name)) {
        let names: Vec<&str> = cases.iter().map(|(name, _)| *name).collect();
        eprintln!("{wanted:?} is part of none of: {}", names.join("; "));
        std::process::exit(2)
    }
    let rows: Vec<f32> = (0..ROWS).flat_map(logits).collect();
    // Of 700 words, so some come again.
    let history: Vec<u32> = (0..PROMPT_TOKENS + OUTPUT_TOKENS)
        .map(|index| (index * 7919 % 700 * 61 % WORDS) as u32)
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{ROWS} rows of {WORDS} words, {} tokens of history", history.len());
    println!("case                       threads  us/row  median  ms/{ROWS} rows  median");
    for (name, request) in cases.into_iter().filter(|(name, _)| chosen(name)) {
        for threads in if cores == 1 { vec![1] } else { vec![1, cores] } {
            let Measured { best, median } = measure(&request, threads, (&rows, &history));
            let [best_row, median_row] = [best, median].map(|nanos| nanos / 1e3 / ROWS as f64);
            print!("{name:<26} {threads:>7} {best_row:>7.1} {median_row:>7.1}");
            println!(" {:>11.2} {:>7.2}", best / 1e6, median / 1e6);
        }
    }
}

/// What clients ask for, by name.
fn cases() -> Vec<(&'static str, SamplingRequest)> {
    let plain = SamplingRequest::default();
    let greedy = SamplingRequest { temperature: 0.0, ..plain.clone() };
    let usual = SamplingRequest { temperature: 0.7, top_k: 30, top_p: 0.8, ..plain.clone() };
    let penalties = |request: &SamplingRequest| SamplingRequest {
        repetition_penalty: 1.1,
        presence_penalty: 0.5,
        frequency_penalty: 0.5,
        ..request.clone()
    };
    vec![
        ("greedy", greedy.clone()),
        ("greedy, penalties", penalties(&greedy)),
        ("temperature 1", plain.clone()),
        ("top_p 0.8", SamplingRequest { top_p: 0.8, ..plain.clone() }),
        ("min_p 0.05", SamplingRequest { min_p: 0.05, ..plain.clone() }),
        ("top_k 30, top_p 0.8", usual.clone()),
        ("top_k 30, top_p, penalties", penalties(&usual)),
    ]
}

/// One row of a run.
struct Choice<'a> {
    sampler: &'a mut Sampler,
    logits: &'a mut [f32],
    params: &'a SamplingParams,
    context: Context<'a>,
}

impl Work for Choice<'_> {
    type Output = u32;

    #[inline(always)]
    fn run(self) -> u32 {
        self.sampler.sample(self.logits, self.params, &self.context).expect("finite logits")
    }
}

/// Nanoseconds of all rows.
fn measure(
    request: &SamplingRequest,
    threads: usize,
    (rows, history): (&[f32], &[u32]),
) -> Measured {
    let params = SamplingParams::new(request.clone(), WORDS).expect("within the ranges");
    let context = Context { tokens: history, prompt_len: PROMPT_TOKENS, allowed: None };
    let isa = Isa::detect();
    let mut pool = Pool::new(threads);
    let mut samplers: Vec<Sampler> = (0..threads).map(|_| Sampler::new()).collect();
    let mut work = vec![0.0; rows.len()];
    let mut nanos = Vec::new();
    let begin = Instant::now();
    while nanos.len() < 3 || begin.elapsed() < TIME {
        work.copy_from_slice(rows);
        let start = Instant::now();
        pool.for_each_row(&mut samplers, &mut work, WORDS, |sampler, _, logits| {
            std::hint::black_box(isa.run(Choice { sampler, logits, params: &params, context }));
        });
        nanos.push(start.elapsed().as_nanos() as f64);
    }
    Measured::nanos(nanos)
}

/// A row as models give them: a bell, and a few words well above it.
fn logits(row: usize) -> Vec<f32> {
    let mut state = row as u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0
    };
    let mut logits: Vec<f32> =
        (0..WORDS).map(|_| 4.0 * ((0..4).map(|_| next()).sum::<f32>() - 2.0)).collect();
    for rank in 0..20 {
        logits[(next() * WORDS as f32) as usize % WORDS] = 16.0 - 0.5 * rank as f32;
    }
    logits
}
