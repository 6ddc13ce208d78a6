//! The peaks of this machine.

use std::time::Duration;

use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::probe::{self, Arithmetic, Measured};

use super::ceiling::Rates;

/// How long each figure is measured.
const TIME: Duration = Duration::from_millis(150);
/// Bytes that are read from memory, by all threads together: at least so many …
const BUFFER_BYTES_MIN: usize = 512 << 20;
/// … and so many per thread, several times its share of any L3 cache.
const BUFFER_BYTES_PER_THREAD: usize = 64 << 20;

/// What was measured.
pub(super) struct Peaks {
    /// In the order of the report.
    pub(super) rows: Vec<PeakRow>,
    /// On all threads; from memory with the number of threads that reads fastest.
    pub(super) rates: Rates,
}

impl Peaks {
    /// How many times faster all threads multiply and add bytes than one; none without
    /// instructions for it or with one thread.
    pub(super) fn speed_up(&self) -> Option<f64> {
        let kind = name_of(Arithmetic::Int8);
        let of_kind = self.rows.iter().filter(|row| row.what.starts_with(kind));
        let bests: Vec<f64> = of_kind.filter_map(|row| Some(row.figure?.best)).collect();
        let [one, all] = bests[..] else { return None };
        Some(all / one)
    }
}

/// A figure of this machine.
pub(super) struct PeakRow {
    /// What it is, with its unit.
    pub(super) what: String,
    pub(super) threads: usize,
    /// None where the tier has no instruction for it.
    pub(super) figure: Option<Measured>,
}

/// Bytes that [`measure`] takes while it measures.
pub(super) fn buffer_bytes(threads: usize) -> usize {
    BUFFER_BYTES_MIN.max(threads * BUFFER_BYTES_PER_THREAD)
}

/// Measures everything, in a few seconds.
pub(super) fn measure(threads: usize, isa: Isa) -> Peaks {
    let mut rows = Vec::new();
    let mut push = |what: &str, threads: usize, figure: Option<Measured>| {
        rows.push(PeakRow { what: what.to_string(), threads, figure });
        figure.map(|figure| figure.best)
    };
    push("clock, GHz", 1, Some(probe::clock_ghz(TIME)));
    let both = if threads == 1 { vec![1] } else { vec![1, threads] };
    let arithmetic = Arithmetic::ALL.map(|kind| {
        let instruction = kind.instruction(isa).map(|(name, _)| format!(" ({name})"));
        let what = format!("{}{}, GMAC/s", name_of(kind), instruction.unwrap_or_default());
        let each = both.iter().map(|&threads| {
            let mut cpu = Cpu::new(threads, isa);
            push(&what, threads, probe::multiply_adds_per_ns(&mut cpu, kind, TIME))
        });
        each.last().flatten()
    });
    for &threads in &both {
        let rate = probe::hot_read_bytes_per_ns(&mut Cpu::new(threads, isa), TIME);
        push("L2 read, GB/s", threads, Some(rate));
    }
    let buffer = probe::committed(&mut Cpu::new(threads, isa), buffer_bytes(threads));
    let mut memory = 0.0_f64;
    for threads in doubling(threads) {
        let rate = probe::read_bytes_per_ns(&mut Cpu::new(threads, isa), &buffer, TIME);
        push("DRAM read, GB/s", threads, Some(rate));
        memory = memory.max(rate.best);
    }
    drop(buffer);
    let region = probe::region_ns(&mut Cpu::new(threads, isa).pool, TIME);
    push("parallel region that all threads join, ns", threads, Some(region));
    let [int8, bf16, f32] = arithmetic;
    // Without an instruction for bf16 attention multiplies in f32.
    let arithmetic = int8.zip(bf16.or(f32)).zip(f32).map(|((int8, bf16), f32)| [int8, bf16, f32]);
    Peaks { rows, rates: Rates { memory, arithmetic } }
}

fn name_of(kind: Arithmetic) -> &'static str {
    match kind {
        Arithmetic::Int8 => "int8",
        Arithmetic::Bf16 => "bf16",
        Arithmetic::F32 => "f32",
    }
}

/// 1, 2, 4, … and `threads` itself.
fn doubling(threads: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |count| Some(2 * count));
    powers.take_while(|&count| count < threads).chain([threads]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_threads_double_up_to_all() {
        assert_eq!(doubling(1), [1]);
        assert_eq!(doubling(2), [1, 2]);
        assert_eq!(doubling(6), [1, 2, 4, 6]);
    }
}
