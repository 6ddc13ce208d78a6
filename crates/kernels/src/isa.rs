//! Which instructions the kernels use.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// A tier of instructions. Integer products give the same bits in every tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, the reference that the other tiers are compared with.
    Scalar,
    /// AVX-512 F, BW, VL, DQ with VNNI and BF16, GFNI, F16C and FMA (Zen 4 and later, Sapphire
    /// Rapids and later).
    Avx512,
}

impl Isa {
    /// The best tier of this machine, detected once.
    pub fn detect() -> Isa {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(|| if avx512_available() { Isa::Avx512 } else { Isa::Scalar })
    }

    /// True if this machine can run the tier.
    pub fn available(self) -> bool {
        match self {
            Isa::Scalar => true,
            Isa::Avx512 => avx512_available(),
        }
    }
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
            Isa::Avx512 => "avx512",
        })
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(text: &str) -> Result<Isa, String> {
        match text {
            "scalar" => Ok(Isa::Scalar),
            "avx512" => Ok(Isa::Avx512),
            _ => Err(format!("unknown instruction tier \"{text}\"; known: scalar, avx512")),
        }
    }
}
