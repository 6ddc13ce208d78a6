//! Products by kind of weight, place and rows:
//! `cargo bench -p kernels --bench products -- [KIND] [hot|cold] [ROWS] [--isa TIER]`, about half a
//! minute; words narrow it, such as `q4_1 cold 1 16`.
//!
//! - `hot`: one thread and one matrix again and again, of so many outputs that it fills a part of an
//!   L2 cache; inputs as those of the default model.
//! - `cold`: a walk over matrices of 256 MiB in all, so that each comes from memory, with one thread
//!   and with all that share each product.
//!
//! A run takes a fraction of a millisecond. All figures are of the best run, since a shared machine
//! only ever adds time; a median far above it says that the machine was busy. Multiply-adds are
//! compared with the peak of the instruction (int8 for quantised weights, bfloat16 for BF16 where the tier
//! has it, f32 for the others), bytes
//! of weights with the L2 cache's (hot) or the memory's (cold): the greater share is nearer to what
//! bounds the product. With many rows the bytes count once per product, though they are read again
//! for every few rows. None of these activations is an outlier; in a model about one of 200 is.

mod setting;

use std::hint::black_box;

use half::f16;
use kernels::blocks::BlockKind;
use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::matmul::matmul;
use kernels::pack::{PANEL_ROWS, PackedMatrix};
use kernels::pool::Pool;
use kernels::probe::{self, Arithmetic, Measured};
use kernels::quantise::Activations;

use setting::{Arguments, COLD_BYTES, Peaks, TIME, values};

/// Where the weights are when a product begins.
#[derive(Debug, Clone, Copy)]
enum Place {
    Hot,
    Cold,
}

/// Inputs of hot products, or so many more as make whole blocks.
const INPUTS: [usize; 2] = [576, 1536];
/// Outputs and inputs of cold products, or so many more as make whole blocks.
const COLD_SHAPE: (usize, usize) = (1536, 576);
const ROWS: [usize; 7] = [1, 2, 4, 6, 8, 16, 64];
/// Bytes of a hot matrix at most: what is left of the smallest L2 caches is for the activations.
const HOT_BYTES: usize = 320 << 10;
/// Multiply-adds of a run, about.
const WORK: usize = 20_000_000;

fn main() {
    let mut arguments = Arguments::read();
    let kinds = arguments.choose(&BlockKind::ALL);
    let places = arguments.choose(&[Place::Hot, Place::Cold]);
    let rows = arguments.choose(&ROWS);
    arguments.check();
    let isa = arguments.isa();
    let peaks = Peaks::measure(isa);
    println!("\nkind place outputs inputs rows threads  {}", Peaks::HEAD);
    for kind in kinds {
        for place in &places {
            match place {
                Place::Hot => hot(kind, &rows, (isa, &peaks[0])),
                Place::Cold => cold(kind, &rows, (isa, &peaks)),
            }
        }
    }
}

fn hot(kind: BlockKind, rows: &[usize], (isa, peaks): (Isa, &Peaks)) {
    let mut cpu = Cpu::new(1, isa);
    // Whole groups of four panels, as products share them out.
    let group = 4 * PANEL_ROWS;
    for inputs in INPUTS.map(|inputs| inputs.next_multiple_of(kind.block_len())) {
        let outputs = (HOT_BYTES / kind.bytes_of(inputs) / group).max(1) * group;
        let weight = pack(&mut cpu.pool, kind, (outputs, inputs), 1);
        for &rows in rows {
            measure(&mut cpu, (rows, &weight), (Place::Hot, peaks));
        }
    }
}

fn cold(kind: BlockKind, rows: &[usize], (isa, peaks): (Isa, &[Peaks])) {
    let (outputs, inputs) = (COLD_SHAPE.0, COLD_SHAPE.1.next_multiple_of(kind.block_len()));
    let count = COLD_BYTES.div_ceil(kind.bytes_of(outputs * inputs));
    let mut pool = Pool::new(peaks[peaks.len() - 1].threads);
    let weights = pack(&mut pool, kind, (outputs, inputs), count);
    for peaks in peaks {
        let mut cpu = Cpu::new(peaks.threads, isa);
        for &rows in rows {
            measure(&mut cpu, (rows, &weights), (Place::Cold, peaks));
        }
    }
}

/// So many matrices of one shape, all of the same numbers.
fn pack(
    pool: &mut Pool,
    kind: BlockKind,
    (outputs, inputs): (usize, usize),
    count: usize,
) -> Vec<PackedMatrix> {
    let tensor = tensor(kind, outputs * inputs);
    (0..count).map(|_| PackedMatrix::pack(pool, kind, (outputs, inputs), &tensor)).collect()
}

/// Multiplies `rows` rows with one of `weights` after the other, and prints what is reached.
fn measure(
    cpu: &mut Cpu,
    (rows, weights): (usize, &[PackedMatrix]),
    (place, peaks): (Place, &Peaks),
) {
    let (kind, outputs, inputs) = (weights[0].kind(), weights[0].rows(), weights[0].cols());
    let mut x = Activations::new(rows, inputs).with_floats(true);
    x.quantise(cpu, &values(rows * inputs));
    let mut out = vec![0.0; rows * outputs];
    let work = rows * outputs * inputs;
    let repeats = (WORK / work).max(1);
    let mut next = 0;
    let run = || {
        for _ in 0..repeats {
            matmul(cpu, &x, &[&weights[next]], black_box(&mut out));
            next = (next + 1) % weights.len();
        }
    };
    let Measured { best, median } = probe::time(TIME, run);
    let each = Measured { best: best / repeats as f64, median: median / repeats as f64 };
    let arithmetic = match kind {
        BlockKind::Bf16 if Arithmetic::Bf16.instruction(cpu.isa()).is_some() => Arithmetic::Bf16,
        BlockKind::F32 | BlockKind::F16 | BlockKind::Bf16 => Arithmetic::F32,
        _ => Arithmetic::Int8,
    };
    let (name, read_peak) = match place {
        Place::Hot => ("hot", peaks.l2),
        Place::Cold => ("cold", peaks.dram),
    };
    let bytes = weights[0].bytes() as f64;
    let columns = peaks.columns(each, (work as f64, arithmetic), (bytes, Some(read_peak)));
    let (kind, threads) = (format!("{kind:?}"), peaks.threads);
    println!("{kind:<6}{name:<5}{outputs:>8}{inputs:>7}{rows:>5}{threads:>8}  {columns}");
}

/// A tensor as a file stores it: random codes with moderate scales.
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
            BlockKind::Mxfp4 => block[0] = 120,
            _ => {
                for &at in kind.halves() {
                    block[at..at + 2].copy_from_slice(&half);
                }
            }
        }
    }
    bytes
}
