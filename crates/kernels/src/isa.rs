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

    /// True if this machine can run the tier.
    pub fn available(self) -> bool {
        match self {
            Isa::Scalar => true,
            Isa::Avx2 => avx2_available(),
            Isa::Avx512 => avx512_available(),
        }
    }
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

    #[test]
    fn the_best_available_tier_is_detected() {
        assert!(Isa::detect().available());
        let better = Isa::ALL.into_iter().take_while(|isa| *isa != Isa::detect());
        assert_eq!(better.filter(|isa| isa.available()).count(), 0);
    }
}
