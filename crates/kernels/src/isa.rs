//! Which instructions the kernels use.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// A tier of instructions. Integer products give the same bits in every tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, the reference that the other tiers are compared with.
    Scalar,
    /// AVX2 with FMA and F16C (Haswell, Zen and later).
    Avx2,
    /// AVX-512 F, BW, VL, DQ with VNNI and BF16, GFNI, F16C and FMA (Zen 4 and later, Sapphire
    /// Rapids and later).
    Avx512,
}

/// Plain Rust that [`Isa::run`] compiles once for each tier.
pub trait Work {
    /// What comes of it.
    type Output;

    /// Does it. Only what is inlined gains by the tier's instructions, so implementations, and the
    /// functions with the loops that they call, are `#[inline(always)]`.
    fn run(self) -> Self::Output;
}

impl Isa {
    /// Every tier, the best first.
    pub const ALL: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Scalar];

    /// The best tier of this machine, detected once.
    pub fn detect() -> Isa {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(|| Isa::all_available().next().expect("plain Rust runs anywhere"))
    }

    /// The tiers that this machine can run, the best first.
    pub fn all_available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.available())
    }

    /// Does `work` with the tier's registers, as far as the compiler makes vectors of its loops.
    /// Nothing is fused, so results have the same bits in every tier.
    ///
    /// Panics if this machine lacks the tier.
    pub fn run<W: Work>(self, work: W) -> W::Output {
        assert!(self.available(), "this machine lacks the instructions of tier {self}");
        match self {
            Isa::Scalar => work.run(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the tier is available.
            Isa::Avx2 => unsafe { run_avx2(work) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the tier is available.
            Isa::Avx512 => unsafe { run_avx512(work) },
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => unreachable!("the tier needs x86-64"),
        }
    }

    /// True if this machine can run the tier.
    pub fn available(self) -> bool {
        match self {
            Isa::Scalar => true,
            Isa::Avx2 => avx2_available(),
            Isa::Avx512 => avx512_available(),
        }
    }
}

/// # Safety
/// The machine has the instructions named.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn run_avx2<W: Work>(work: W) -> W::Output {
    work.run()
}

/// # Safety
/// The machine has the instructions named.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn run_avx512<W: Work>(work: W) -> W::Output {
    work.run()
}

#[cfg(target_arch = "x86_64")]
fn avx2_available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

#[cfg(not(target_arch = "x86_64"))]
fn avx2_available() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn avx512_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("gfni")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
}

#[cfg(not(target_arch = "x86_64"))]
fn avx512_available() -> bool {
    false
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        })
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(text: &str) -> Result<Isa, String> {
        Isa::ALL.into_iter().find(|isa| isa.to_string() == text).ok_or_else(|| {
            let known = Isa::ALL.map(|isa| isa.to_string()).join(", ");
            format!("unknown instruction tier \"{text}\"; known: {known}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tier_is_read_by_its_name() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        let error = "abacus".parse::<Isa>().unwrap_err();
        assert_eq!(error, "unknown instruction tier \"abacus\"; known: avx512, avx2, scalar");
    }

    /// A sum whose bits change if it is fused or reordered.
    struct SumOfSquares<'a>(&'a [f32]);

    impl Work for SumOfSquares<'_> {
        type Output = f32;

        #[inline(always)]
        fn run(self) -> f32 {
            self.0.iter().fold(0.0, |sum, value| sum + value * value)
        }
    }

    #[test]
    fn work_has_the_same_bits_in_every_tier() {
        let values: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
        let expected = Isa::Scalar.run(SumOfSquares(&values));
        for isa in Isa::all_available() {
            assert_eq!(isa.run(SumOfSquares(&values)), expected, "{isa}");
        }
    }

    #[test]
    fn the_best_available_tier_is_detected() {
        assert!(Isa::detect().available());
        let better = Isa::ALL.into_iter().take_while(|isa| *isa != Isa::detect());
        assert_eq!(better.filter(|isa| isa.available()).count(), 0);
    }
}
