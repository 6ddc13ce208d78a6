//! Whole steps of the default model, without server or scheduler: `cargo bench -p model --bench
//! forward -- [PART [KV_TYPE]]`.
//!
//! Prints the best and the median of many runs, in milliseconds per step and tokens per second:
//! decode steps of so many sequences at a context, and one prompt from nothing.

use std::time::Instant;

use engine::KvGroups;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::kv::KvType;
use kernels::share::SequenceRows;
use model::file::ModelFile;
use model::transformer::{Batch, TopRow, Transformer, TransformerSizes};
use model::weights::Weights;

const BLOCK: usize = 32;

/// Sequences, tokens each has already, new tokens of each.
const STEPS: [(usize, usize, usize); 10] = [
    (1, 180, 1),
    (4, 180, 1),
    (8, 180, 1),
    (16, 180, 1),
    (32, 180, 1),
    (50, 180, 1),
    (50, 900, 1),
    (1, 0, 100),
    (1, 0, 256),
    (1, 0, 512),
];

fn main() {
    let only: Option<usize> = std::env::args().nth(1).and_then(|arg| arg.parse().ok());
    let kv_type = std::env::args().nth(2).map_or(KvType::Bf16, |arg| arg.parse().expect("a type"));
    let path = catalogue::fetch("smollm2-135m", &mut |_| {}).expect("the default model");
    let mut file = ModelFile::open(&path).expect("the file opens");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut cpu = Cpu::new(threads, Isa::detect());
    let weights = Weights::load(&mut file, &mut cpu).expect("the weights load");
    let sizes = TransformerSizes {
        step_tokens_max: 512,
        logits_rows_max: 64,
        positions_max: 2048,
        asked_len: 2048,
        block_size: BLOCK,
        block_count: 2048,
        kv_groups: KvGroups::ONE,
        kv_type,
    };
    let mut transformer = Transformer::new(file.config.clone(), weights, sizes, &cpu);
    println!("{threads} threads, tier {}, keys and values as {kv_type}", cpu.isa());
    println!("sequences context tokens  best ms  median ms  tokens/s (median)");
    for (index, step) in STEPS.into_iter().enumerate() {
        if only.is_none_or(|only| only == index) {
            measure(&mut transformer, &mut cpu, step);
        }
    }
}

fn measure(
    transformer: &mut Transformer,
    cpu: &mut Cpu,
    (count, context, tokens): (usize, usize, usize),
) {
    let blocks_each = (context + tokens).div_ceil(BLOCK);
    // Blocks of different sequences interleave, as in a server that has run for a while.
    let tables: Vec<Vec<u32>> =
        (0..count).map(|s| (0..blocks_each).map(|b| (b * count + s) as u32).collect()).collect();
    let ids: Vec<u32> = (0..count * tokens).map(|i| (1000 + i * 37 % 20_000) as u32).collect();
    let mut start = 0;
    while start < context {
        let rows = (context - start).min(512 / count.min(512)).max(1);
        let fill: Vec<u32> = (0..count * rows).map(|i| (500 + i * 13 % 30_000) as u32).collect();
        forward(transformer, cpu, &tables, (start, rows), &fill, &[]);
        start += rows;
    }
    let wanted: Vec<usize> = (0..count).map(|s| (s + 1) * tokens - 1).collect();
    let mut times: Vec<f64> = Vec::new();
    let begin = Instant::now();
    while times.len() < 7 || (begin.elapsed().as_secs_f64() < 1.5 && times.len() < 200) {
        let start = Instant::now();
        forward(transformer, cpu, &tables, (context, tokens), &ids, &wanted);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "{count:>9} {context:>7} {tokens:>6} {:>8.2} {median:>10.2} {:>9.0}",
        times[0],
        (count * tokens) as f64 / median * 1e3
    );
}

fn forward(
    transformer: &mut Transformer,
    cpu: &mut Cpu,
    tables: &[Vec<u32>],
    (position, rows): (usize, usize),
    tokens: &[u32],
    wanted: &[usize],
) {
    let sequences: Vec<SequenceRows<'_>> = tables
        .iter()
        .enumerate()
        .map(|(s, blocks)| SequenceRows { row: s * rows, rows, position, blocks })
        .collect();
    let top_rows: Vec<TopRow> = wanted.iter().map(|&row| TopRow::greatest(row)).collect();
    let batch = Batch {
        tokens,
        sequences: &sequences,
        adapters: &[],
        logits_rows: &[],
        top_rows: &top_rows,
    };
    transformer.forward(cpu, batch);
}
