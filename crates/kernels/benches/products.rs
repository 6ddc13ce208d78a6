//! Products by kind, rows and shape: `cargo bench -p kernels --bench products [KIND]`.
//!
//! One thread, weights hot where they fit the caches. Prints the best of many runs, since a shared
//! machine only ever adds time: multiply-adds per nanosecond and per cycle, and weight bytes per
//! nanosecond. The clock comes from a chain of dependent additions, one per cycle.

use std::hint::black_box;
use std::time::{Duration, Instant};

use half::f16;
use kernels::blocks::BlockKind;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::matmul::matmul;
use kernels::pack::PackedMatrix;
use kernels::probe::clock_ghz;
use kernels::quantise::Activations;

const SHAPES: [(usize, usize); 3] = [(1536, 576), (576, 1536), (16384, 576)];
const ROWS: [usize; 7] = [1, 2, 4, 6, 8, 16, 64];

fn main() {
    let only = std::env::args().nth(1).filter(|name| !name.starts_with('-'));
    let gigahertz = clock_ghz(Duration::from_millis(200)).best;
    println!("clock {gigahertz:.2} GHz, tier {}", Isa::detect());
    println!("kind   outputs inputs  rows  MAC/ns  MAC/cycle   GB/s");
    for kind in BlockKind::ALL {
        if only.as_ref().is_some_and(|only| !format!("{kind:?}").eq_ignore_ascii_case(only)) {
            continue;
        }
        for (n, k) in SHAPES {
            for rows in ROWS {
                measure(kind, (n, k), rows, gigahertz);
            }
        }
    }
}

fn measure(kind: BlockKind, (n, k): (usize, usize), rows: usize, gigahertz: f64) {
    let mut cpu = Cpu::new(1, Isa::detect());
    let weight = PackedMatrix::pack(&mut cpu.pool, kind, (n, k), &tensor(kind, n * k));
    let mut x = Activations::new(rows, k).with_floats(true);
    x.quantise(&mut cpu, &values(rows * k));
    let mut out = vec![0.0; rows * n];
    let work = rows * n * k;
    let repeats = (20_000_000 / work).max(1);
    let best = (0..60)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..repeats {
                matmul(&mut cpu, &x, &[&weight], black_box(&mut out));
            }
            start.elapsed().as_nanos() as f64 / repeats as f64
        })
        .fold(f64::INFINITY, f64::min);
    let rate = work as f64 / best;
    println!(
        "{:<6} {n:>7} {k:>6} {rows:>5} {rate:>7.1} {:>10.1} {:>6.1}",
        format!("{kind:?}"),
        rate / gigahertz,
        weight.bytes() as f64 / best
    );
}

/// Values with a bell-like distribution.
fn values(count: usize) -> Vec<f32> {
    let mut state = 7_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|_| (0..4).map(|_| uniform()).sum()).collect()
}

fn tensor(kind: BlockKind, values: usize) -> Vec<u8> {
    let mut state = 3_u32;
    let mut bytes: Vec<u8> = (0..kind.bytes_of(values))
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    for block in bytes.chunks_exact_mut(kind.block_bytes()) {
        let half = f16::from_f32(0.01).to_le_bytes();
        match kind {
            BlockKind::F32 => block.copy_from_slice(&0.01_f32.to_le_bytes()),
            BlockKind::F16 => block.copy_from_slice(&half),
            BlockKind::Bf16 => block.copy_from_slice(&[0x80, 0x3c]),
            _ => {
                block[..2].copy_from_slice(&half);
                if kind.has_minimum() {
                    block[2..4].copy_from_slice(&half);
                }
            }
        }
    }
    bytes
}
