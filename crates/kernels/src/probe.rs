//! What this machine can do at most, measured: the ceilings that kernels are compared with.
//!
//! Everything is run again and again for a given time. A shared machine only ever adds time, so the
//! best run is what the machine can do, and the median beside it shows how busy it was otherwise.
//! Runs are short, about a millisecond, so that some of them are not interrupted.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::buffer::Buffer;
use crate::cpu::Cpu;
use crate::isa::Isa;
use crate::pool::Pool;

/// Bytes that a thread takes at once from what all read together.
const READ_CHUNK_BYTES: usize = 1 << 20;
/// A run reads this part of a buffer, the next run the next part: the last one is in no cache when
/// its turn comes again.
const READ_PARTS: usize = 8;
/// Bytes that a thread reads again and again: more than an L1 data cache has, less than an L2.
const HOT_BYTES: usize = 256 << 10;
/// Times that a thread reads them in one chunk.
const HOT_READS: usize = 32;
/// Chunks per thread of one run, so that a thread that comes late does less.
const CHUNKS_PER_THREAD: usize = 4;
/// Chains of instructions: at two per cycle, of which each takes up to 6, 12 are under way at once.
/// (With more the 16 registers of AVX2 would not do.)
const CHAINS: usize = 12;
/// Instructions of one chain in one chunk: with all chains about 0.2 ms.
const ROUNDS: usize = 50_000;
/// Regions of one run.
const REGIONS: usize = 10;
/// Looks before a thread that waits for others gives its core away between looks.
const LOOKS: usize = 1_000;

/// A figure that was measured several times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// That of the fastest run.
    pub best: f64,
    /// That of the run in the middle.
    pub median: f64,
}

impl Measured {
    /// The times of runs, in nanoseconds; there is one at least.
    pub fn nanos(mut runs: Vec<f64>) -> Measured {
        assert!(!runs.is_empty(), "nothing was measured");
        runs.sort_by(f64::total_cmp);
        Measured { best: runs[0], median: runs[runs.len() / 2] }
    }

    /// Times in nanoseconds as a rate: `amount` is what one run does.
    pub fn rate(self, amount: f64) -> Measured {
        Measured { best: amount / self.best, median: amount / self.median }
    }
}

/// What numbers are multiplied and added as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Bytes, summed in 32 bits: products with quantised weights.
    Int8,
    /// bfloat16, summed in f32: attention.
    Bf16,
    /// f32: products with weights that are stored as floats.
    F32,
}

impl Arithmetic {
    /// All of them.
    pub const ALL: [Arithmetic; 3] = [Arithmetic::Int8, Arithmetic::Bf16, Arithmetic::F32];

    /// The instruction that a tier multiplies with, and its multiply-adds; none where the tier has
    /// no such instruction.
    pub const fn instruction(self, isa: Isa) -> Option<(&'static str, usize)> {
        match (isa, self) {
            (Isa::Scalar, _) | (Isa::Avx2, Arithmetic::Bf16) => None,
            (Isa::Avx2, Arithmetic::Int8) => Some(("VPMADDUBSW", 32)),
            (Isa::Avx2, Arithmetic::F32) => Some(("VFMADD", 8)),
            (Isa::Avx512, Arithmetic::Int8) => Some(("VPDPBUSD", 64)),
            (Isa::Avx512, Arithmetic::Bf16) => Some(("VDPBF16PS", 32)),
            (Isa::Avx512, Arithmetic::F32) => Some(("VFMADD", 16)),
        }
    }
}

/// Cycles per nanosecond, by a chain of operations that each wait for the one before.
pub fn clock_ghz(duration: Duration) -> Measured {
    const STEPS: usize = 1_600_000;
    let run = || {
        let mut x = black_box(1_u64);
        for _ in 0..STEPS / 16 {
            for _ in 0..16 {
                // Two cycles: one to rotate, one to add.
                x = x.rotate_left(13).wrapping_add(0x9e37_79b9);
            }
        }
        black_box(x);
    };
    time(duration, run).rate(2.0 * STEPS as f64)
}

/// Multiply-adds per nanosecond on all threads of `cpu`, with operands in registers; none where
/// the tier has no instruction for it.
pub fn multiply_adds_per_ns(
    cpu: &mut Cpu,
    kind: Arithmetic,
    duration: Duration,
) -> Option<Measured> {
    let isa = cpu.isa();
    let (_, multiply_adds) = kind.instruction(isa)?;
    let chunks = CHUNKS_PER_THREAD * cpu.pool.threads();
    let run = || cpu.pool.for_each_chunk(chunks, |_, _| run_chains(isa, kind));
    Some(time(duration, run).rate((chunks * ROUNDS * CHAINS * multiply_adds) as f64))
}

/// `ROUNDS` instructions of each of `CHAINS` chains that do not wait for each other.
#[cfg(target_arch = "x86_64")]
fn run_chains(isa: Isa, kind: Arithmetic) {
    // SAFETY: the tier of a `Cpu`, which is only made where its instructions exist.
    unsafe {
        match (isa, kind) {
            (Isa::Avx2, Arithmetic::Int8) => avx2::int8(ROUNDS),
            (Isa::Avx2, Arithmetic::F32) => avx2::f32(ROUNDS),
            (Isa::Avx512, _) => avx512::multiply_adds(kind, ROUNDS),
            (Isa::Scalar | Isa::Avx2, _) => unreachable!("{isa} has no instruction for {kind:?}"),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn run_chains(isa: Isa, _: Arithmetic) {
    unreachable!("{isa} is not available here");
}

/// A buffer of `bytes`, rounded up to whole mebibytes, that lies in memory: every page was written.
pub fn committed(cpu: &mut Cpu, bytes: usize) -> Buffer<u8> {
    let mut buffer = Buffer::zeroed(bytes.next_multiple_of(READ_CHUNK_BYTES));
    let mut threads = vec![(); cpu.pool.threads()];
    cpu.pool.for_each_row(&mut threads, &mut buffer, READ_CHUNK_BYTES, |(), _, row| row.fill(1));
    buffer
}

/// Bytes per nanosecond that all threads of `cpu` read of a buffer made by [`committed`], from one
/// end to the other and again. With a buffer many times the caches this is the memory's bandwidth.
pub fn read_bytes_per_ns(cpu: &mut Cpu, buffer: &Buffer<u8>, duration: Duration) -> Measured {
    let (isa, chunks) = (cpu.isa(), buffer.len() / READ_CHUNK_BYTES);
    assert!(0 < chunks, "{} bytes are too few to be read", buffer.len());
    let part = chunks.div_ceil(READ_PARTS);
    let mut first = 0;
    let run = || {
        cpu.pool.for_each_chunk(part, |_, chunk| {
            let start = (first + chunk) % chunks * READ_CHUNK_BYTES;
            read(isa, &buffer[start..][..READ_CHUNK_BYTES]);
        });
        first = (first + part) % chunks;
    };
    time(duration, run).rate((part * READ_CHUNK_BYTES) as f64)
}

/// Bytes per nanosecond that all threads of `cpu` read of 256 KiB each: the L2 caches' bandwidth.
pub fn hot_read_bytes_per_ns(cpu: &mut Cpu, duration: Duration) -> Measured {
    let isa = cpu.isa();
    let threads = cpu.pool.threads();
    let buffer = committed(cpu, threads * HOT_BYTES);
    let chunks = CHUNKS_PER_THREAD * threads;
    let run = || {
        cpu.pool.for_each_chunk(chunks, |thread, _| {
            for _ in 0..HOT_READS {
                read(isa, black_box(&buffer[thread * HOT_BYTES..][..HOT_BYTES]));
            }
        });
    };
    time(duration, run).rate((chunks * HOT_READS * HOT_BYTES) as f64)
}

/// Nanoseconds of a parallel region that every thread joins and nobody does anything in, where one
/// region follows at once upon the other.
pub fn region_ns(pool: &mut Pool, duration: Duration) -> Measured {
    let threads = pool.threads();
    let (arrived, mut awaited) = (AtomicUsize::new(0), 0);
    let run = || {
        for _ in 0..REGIONS {
            awaited += threads;
            pool.for_each_chunk(threads, |_, _| {
                arrived.fetch_add(1, Ordering::Relaxed);
                wait_until(&|| arrived.load(Ordering::Relaxed) >= awaited);
            });
        }
    };
    let all = time(duration, run);
    let each = |nanos: f64| nanos / REGIONS as f64;
    Measured { best: each(all.best), median: each(all.median) }
}

fn wait_until(is_so: &dyn Fn() -> bool) {
    let mut looks = 0;
    while !is_so() {
        looks += 1;
        if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

/// Times runs for so long, one at least, after one that is not counted.
pub fn time(duration: Duration, mut run: impl FnMut()) -> Measured {
    run();
    let mut nanos = Vec::new();
    let begin = Instant::now();
    while nanos.is_empty() || begin.elapsed() < duration {
        let start = Instant::now();
        run();
        nanos.push(start.elapsed().as_nanos() as f64);
    }
    Measured::nanos(nanos)
}

/// Loads every byte; the length is a multiple of 512.
fn read(isa: Isa, bytes: &[u8]) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            // SAFETY: the tier of a `Cpu`, which is only made where its instructions exist.
            unsafe { avx512::read(bytes) }
        }
        _ => read_words(bytes),
    }
}

fn read_words(bytes: &[u8]) {
    let mut sums = [0_u64; 8];
    let (lines, _) = bytes.as_chunks::<64>();
    for line in lines {
        let (words, _) = line.as_chunks::<8>();
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum ^= u64::from_le_bytes(*word);
        }
    }
    black_box(sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_summed_up_as_best_and_median() {
        let times = Measured::nanos(vec![40.0, 10.0, 20.0]);
        assert_eq!(times, Measured { best: 10.0, median: 20.0 });
        assert_eq!(times.rate(100.0), Measured { best: 10.0, median: 5.0 });
    }

    #[test]
    fn every_tier_and_number_of_threads_can_be_measured() {
        for isa in Isa::all_available() {
            for threads in [1, 3] {
                let mut cpu = Cpu::new(threads, isa);
                let buffer = committed(&mut cpu, 3 * READ_CHUNK_BYTES - 5);
                assert_eq!(buffer.len(), 3 * READ_CHUNK_BYTES);
                let once = Duration::ZERO;
                let mut figures = vec![
                    clock_ghz(once),
                    read_bytes_per_ns(&mut cpu, &buffer, once),
                    hot_read_bytes_per_ns(&mut cpu, once),
                    region_ns(&mut cpu.pool, once),
                ];
                for kind in Arithmetic::ALL {
                    let peak = multiply_adds_per_ns(&mut cpu, kind, once);
                    assert_eq!(peak.is_some(), kind.instruction(isa).is_some());
                    figures.extend(peak);
                }
                for Measured { best, median } in figures {
                    assert!(0.0 < best && best.is_finite() && 0.0 < median, "{best} {median}");
                }
            }
        }
    }
}
