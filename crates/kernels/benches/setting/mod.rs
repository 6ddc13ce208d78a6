//! What the benches share: their arguments, the machine's peaks, and rows of numbers.

use std::fmt::{Debug, Display};
use std::time::Duration;

use kernels::cpu::Cpu;
use kernels::isa::Isa;
use kernels::probe::{self, Arithmetic, Measured};

/// How long each figure is measured.
pub const TIME: Duration = Duration::from_millis(100);
/// Bytes that nothing is read of again before all others were: several times an L3 cache.
pub const COLD_BYTES: usize = 256 << 20;

/// The words of the command line that choose what is measured.
pub struct Arguments {
    isa: Isa,
    words: Vec<String>,
    known: Vec<String>,
}

impl Arguments {
    /// Reads the command line. Of its options only `--isa TIER` counts; cargo adds others.
    pub fn read() -> Arguments {
        let (mut isa, mut words) = (Isa::detect(), Vec::new());
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            if argument == "--isa" {
                let tier = arguments.next().unwrap_or_default();
                isa = tier.parse().unwrap_or_else(|error| refuse(&error));
            } else if !argument.starts_with('-') {
                words.push(argument.to_lowercase());
            }
        }
        if !isa.available() {
            refuse(&format!("this machine lacks the instructions of tier {isa}"));
        }
        Arguments { isa, words, known: Vec::new() }
    }

    /// The tier to measure.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Those of `all` that the command line names, or all if it names none of them.
    pub fn choose<T: Debug + Copy>(&mut self, all: &[T]) -> Vec<T> {
        let name = |one: &T| format!("{one:?}").to_lowercase();
        self.known.extend(all.iter().map(name));
        let named: Vec<T> =
            all.iter().copied().filter(|one| self.words.contains(&name(one))).collect();
        if named.is_empty() { all.to_vec() } else { named }
    }

    /// Ends the program if a word is none of those that were to be chosen from.
    pub fn check(&self) {
        if let Some(word) = self.words.iter().find(|word| !self.known.contains(word)) {
            refuse(&format!("{word:?} is none of {}", self.known.join(" ")));
        }
    }
}

fn refuse(reason: &dyn Display) -> ! {
    eprintln!("{reason}");
    std::process::exit(2)
}

/// 1, and all cores if there are more.
fn threads() -> Vec<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores == 1 { vec![1] } else { vec![1, cores] }
}

/// The peaks of one number of threads; best values, per nanosecond.
pub struct Peaks {
    pub threads: usize,
    pub gigahertz: f64,
    /// Bytes read of the L2 caches, and of memory.
    pub l2: f64,
    pub dram: f64,
    /// In the order of [`Arithmetic::ALL`]; none where the tier has no such instruction.
    arithmetic: [Option<f64>; 3],
}

impl Peaks {
    /// Measures and prints the peaks of each number of threads in [`threads`].
    pub fn measure(isa: Isa) -> Vec<Peaks> {
        let counts = threads();
        let buffer = probe::committed(&mut Cpu::new(counts[counts.len() - 1], isa), COLD_BYTES);
        let gigahertz = probe::clock_ghz(TIME).best;
        println!("tier {isa}, clock {gigahertz:.2} GHz; peaks:");
        println!("threads  int8 bf16 f32 GMAC/s    L2 GB/s  DRAM GB/s");
        let each = counts.into_iter().map(|threads| {
            let mut cpu = Cpu::new(threads, isa);
            let arithmetic = Arithmetic::ALL.map(|kind| {
                probe::multiply_adds_per_ns(&mut cpu, kind, TIME).map(|figure| figure.best)
            });
            let l2 = probe::hot_read_bytes_per_ns(&mut cpu, TIME).best;
            let dram = probe::read_bytes_per_ns(&mut cpu, &buffer, TIME).best;
            let [int8, bf16, f32] = arithmetic.map(|rate| number(rate, 0));
            println!("{threads:>7} {int8:>5} {bf16:>4} {f32:>3} {l2:>18.0} {dram:>10.1}");
            Peaks { threads, gigahertz, l2, dram, arithmetic }
        });
        each.collect()
    }

    /// The columns that [`Peaks::columns`] fills.
    pub const HEAD: &str = "best us  median  GMAC/s  MAC/cycle  % peak   GB/s  % peak";

    /// What runs of these times reach that do `work` multiply-adds of `kind` and read `bytes`, of
    /// which `read_peak` can be read per nanosecond at most. The cycles are those of one thread.
    pub fn columns(
        &self,
        runs: Measured,
        (work, kind): (f64, Arithmetic),
        (bytes, read_peak): (f64, Option<f64>),
    ) -> String {
        let (rate, read) = (work / runs.best, bytes / runs.best);
        let peak = self.arithmetic[kind as usize];
        format!(
            "{:>7.1} {:>7.1} {:>7.1} {:>10.1} {:>7} {:>6.1} {:>7}",
            runs.best / 1e3,
            runs.median / 1e3,
            rate,
            rate / self.gigahertz / self.threads as f64,
            number(peak.map(|peak| 100.0 * rate / peak), 0),
            read,
            number(read_peak.map(|peak| 100.0 * read / peak), 0)
        )
    }
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".to_string(), |value| format!("{value:.decimals$}"))
}

/// Values with a bell-like distribution; none is far above the rest, so none is an outlier.
pub fn values(count: usize) -> Vec<f32> {
    let mut state = 7_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|_| (0..4).map(|_| uniform()).sum()).collect()
}
