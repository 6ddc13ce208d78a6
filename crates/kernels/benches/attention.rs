//! Attention by case and type of keys and values:
//! `cargo bench -p kernels --bench attention -- [hot|cold|prompt] [bf16|f16|int8|f32] [1|16|64] [--isa TIER]`,
//! about twenty seconds; words narrow it, such as `cold bf16 64`.
//!
//! - `hot`: one sequence, one new token, one thread; keys and values stay in its L2 cache.
//! - `cold`: 1, 16 or 64 sequences of 900 tokens, one new token each; always others, until 256 MiB
//!   were read, so that each comes from memory.
//! - `prompt`: one sequence computes 512 tokens, after none and after 512 others.
//!
//! Heads (query heads, heads of keys, elements) are those of the default model, then those of larger
//! ones; f32, which only tests use, has the former. A run is one layer: rotation, storing the new keys
//! and values, and attention itself. `cycles` are those of one thread for one position that one query
//! head sees: 64 elements need 4 in bf16 where a cycle does one VDPBF16PS, for score and value
//! together. Multiply-adds are compared with the peak of bf16 (of f32 for f32 keys), bytes of keys and
//! values with that of the L2 cache (hot) or the memory (cold). All figures are of the best run; a
//! median far above it says that the machine was busy.

mod setting;

use kernels::attention::{AttentionScratch, HeadRules, attention};
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::{KvCache, KvShape, KvType, TILE_TOKENS};
use kernels::probe::{self, Arithmetic};
use kernels::quantise::Activations;
use kernels::rope::{Pairing, RopeTable, Rotation};
use kernels::share::{SequenceRows, share_out};

use setting::{Arguments, COLD_BYTES, Peaks, TIME, values};

/// Query heads, heads of keys and values, elements of a head.
type Heads = (usize, usize, usize);

const HEADS: [Heads; 3] = [(9, 3, 64), (20, 20, 64), (32, 8, 128)];
const KV_TYPES: [KvType; 4] = [KvType::Bf16, KvType::F16, KvType::Int8, KvType::F32];
/// Tokens of a hot sequence, with the new one.
const HOT_TOKENS: [usize; 3] = [64, 256, 512];
/// Bytes of hot keys and values at most; sequences with more are left out.
const HOT_BYTES: usize = 512 << 10;
/// Tokens of a cold sequence, with the new one.
const COLD_TOKENS: usize = 900;
/// Cold sequences of one run.
const SEQUENCES: [usize; 3] = [1, 16, 64];
/// Tokens of a prompt's step, and those before it.
const PROMPT_TOKENS: usize = 512;
const PROMPT_POSITIONS: [usize; 2] = [0, 512];
/// Of so many tokens of a context one is computed. Values of 8 tokens take at most 4 KiB here, and a
/// key has numbers all over its tile, so every page is written.
const FILL_STRIDE: usize = 8;

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum Case {
    Hot,
    Cold,
    Prompt,
}

fn main() {
    let mut arguments = Arguments::read();
    let cases = arguments.choose(&[Case::Hot, Case::Cold, Case::Prompt]);
    let types = arguments.choose(&KV_TYPES);
    let counts = arguments.choose(&SEQUENCES);
    arguments.check();
    let isa = arguments.isa();
    let peaks = Peaks::measure(isa);
    println!("\ncase   keys  heads     sequences new tokens threads  cycles  {}", Peaks::HEAD);
    for case in cases {
        for kind in &types {
            let shapes = if *kind == KvType::F32 { &HEADS[..1] } else { &HEADS[..] };
            for &heads in shapes {
                match case {
                    Case::Hot => hot((heads, *kind), (isa, &peaks[0])),
                    Case::Cold => cold((heads, *kind), &counts, (isa, &peaks)),
                    Case::Prompt => prompt((heads, *kind), (isa, &peaks)),
                }
            }
        }
    }
}

fn hot((heads, kind): (Heads, KvType), (isa, peaks): (Isa, &Peaks)) {
    for tokens in HOT_TOKENS {
        let mut layer = Layer::new((heads, kind), (1, tokens), (1, Cpu::new(1, isa)));
        if tokens * layer.token_bytes() <= HOT_BYTES {
            layer.fill(tokens);
            let step = Step { sequences: 1, position: tokens - 1, rows: 1 };
            layer.measure("hot", step, (peaks, Some(peaks.l2)));
        }
    }
}

fn cold((heads, kind): (Heads, KvType), counts: &[usize], (isa, peaks): (Isa, &[Peaks])) {
    let most = counts.iter().copied().max().expect("there are some");
    let all = Cpu::new(peaks[peaks.len() - 1].threads, isa);
    let (_, kv_heads, dim) = heads;
    let bytes = COLD_TOKENS / TILE_TOKENS * kv_heads * kind.tile_bytes(dim);
    let sequences = COLD_BYTES.div_ceil(bytes).max(most);
    let mut layer = Layer::new((heads, kind), (sequences, COLD_TOKENS), (sequences, all));
    layer.fill(COLD_TOKENS);
    for &sequences in counts {
        for peaks in peaks {
            layer.cpu = Cpu::new(peaks.threads, isa);
            let step = Step { sequences, position: COLD_TOKENS - 1, rows: 1 };
            layer.measure("cold", step, (peaks, Some(peaks.dram)));
        }
    }
}

fn prompt((heads, kind): (Heads, KvType), (isa, peaks): (Isa, &[Peaks])) {
    for peaks in peaks {
        let cpu = Cpu::new(peaks.threads, isa);
        let tokens = PROMPT_POSITIONS[PROMPT_POSITIONS.len() - 1] + PROMPT_TOKENS;
        let mut layer = Layer::new((heads, kind), (1, tokens), (PROMPT_TOKENS, cpu));
        for position in PROMPT_POSITIONS {
            let step = Step { sequences: 1, position, rows: PROMPT_TOKENS };
            layer.measure("prompt", step, (peaks, None));
        }
    }
}

/// What a run computes.
#[derive(Clone, Copy)]
struct Step {
    sequences: usize,
    /// Tokens that each sequence has already.
    position: usize,
    /// New tokens of each.
    rows: usize,
}

/// One layer's attention over some sequences.
struct Layer {
    cpu: Cpu,
    heads: Heads,
    cache: KvCache,
    /// Blocks of each sequence. They interleave, as in a server that has run for a while.
    tables: Vec<Vec<u32>>,
    rope: RopeTable,
    scratch: AttentionScratch,
    qkv: Vec<f32>,
    out: Activations,
    /// The sequence that the next run begins with.
    next: usize,
}

impl Layer {
    /// Room for so many sequences of so many tokens, and for steps of `rows_max` new tokens.
    fn new(
        (heads, kind): (Heads, KvType),
        (sequences, tokens): (usize, usize),
        (rows_max, cpu): (usize, Cpu),
    ) -> Layer {
        let (query_heads, kv_heads, head_dim) = heads;
        let blocks_each = tokens.div_ceil(TILE_TOKENS);
        let shape = KvShape {
            layers: 1,
            kv_heads,
            head_dim,
            block_size: TILE_TOKENS,
            block_count: sequences * blocks_each,
            kind,
        };
        let table = |s: usize| (0..blocks_each).map(|b| (b * sequences + s) as u32).collect();
        Layer {
            cpu,
            heads,
            cache: KvCache::new(shape),
            tables: (0..sequences).map(table).collect(),
            rope: RopeTable::new(tokens, &Rotation::new(head_dim, 1e5, Pairing::Adjacent)),
            scratch: AttentionScratch::default(),
            qkv: values(rows_max * (query_heads + 2 * kv_heads) * head_dim),
            out: Activations::new(rows_max, query_heads * head_dim),
            next: 0,
        }
    }

    /// Bytes of the keys and values of a token.
    fn token_bytes(&self) -> usize {
        self.cache.shape().block_bytes() / TILE_TOKENS
    }

    /// Puts `tokens` tokens of every sequence into memory. A page that was never written would be
    /// read from a cache; numbers that stay 0 take no less time.
    fn fill(&mut self, tokens: usize) {
        for position in (0..tokens).step_by(FILL_STRIDE) {
            self.run(Step { sequences: self.tables.len(), position, rows: 1 });
        }
    }

    fn run(&mut self, step: Step) {
        let Step { sequences, position, rows } = step;
        let sequence = |index: usize| {
            let blocks = &self.tables[(self.next + index) % self.tables.len()];
            SequenceRows { row: index * rows, rows, position, blocks }
        };
        let parts: Vec<SequenceRows<'_>> = (0..sequences).map(sequence).collect();
        let mut share = share_out(&mut self.cache, &parts, 1).remove(0);
        let (query_heads, kv_heads, head_dim) = self.heads;
        let width = (query_heads + 2 * kv_heads) * head_dim;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let rules = HeadRules { norms: None, rope: Some(&self.rope), scale, window: None };
        let qkv = (&self.qkv[..sequences * rows * width], rules);
        attention(&mut self.cpu, &mut share, qkv, &mut self.scratch, &mut self.out);
        self.next = (self.next + sequences) % self.tables.len();
    }

    /// Runs `step` with one sequence after the other, and prints what is reached.
    fn measure(&mut self, name: &str, step: Step, (peaks, read_peak): (&Peaks, Option<f64>)) {
        let runs = probe::time(TIME, || self.run(step));
        let Step { sequences, position, rows } = step;
        let (query_heads, kv_heads, head_dim) = self.heads;
        let (kind, threads) = (self.cache.shape().kind, peaks.threads);
        // What each query head sees.
        let seen = sequences * (rows * position + rows * (rows + 1) / 2);
        let work = (2 * seen * query_heads * head_dim) as f64;
        let cycles = runs.best * peaks.gigahertz * threads as f64 / (seen * query_heads) as f64;
        let bytes = (sequences * (position + rows) * self.token_bytes()) as f64;
        let arithmetic = match kind {
            KvType::Bf16 => Arithmetic::Bf16,
            KvType::Int8 => Arithmetic::Int8,
            KvType::F16 | KvType::F32 => Arithmetic::F32,
        };
        let columns = peaks.columns(runs, (work, arithmetic), (bytes, read_peak));
        let (kind, tokens) = (format!("{kind:?}").to_lowercase(), position + rows);
        let heads = format!("{query_heads}/{kv_heads}/{head_dim}");
        print!("{name:<7}{kind:<6}{heads:<9}{sequences:>10}{rows:>4}{tokens:>7}");
        println!("{threads:>8}{cycles:>8.1}  {columns}");
    }
}
