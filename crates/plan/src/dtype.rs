//! How weights, keys and values are stored.

use std::fmt;
use std::str::FromStr;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightsDtype {
    /// 32-bit floats.
    F32,
    /// Half precision or bfloat16.
    F16,
    /// The matrices of the layers in 8 bits, all else in 16.
    Int8,
    /// The matrices of the layers in 4 bits with a scale and a zero point per 128, all else in 16.
    Int4,
}

impl WeightsDtype {
    /// Bits of an element of a layer's matrix, in 128ths, so that they are whole.
    pub(crate) const fn matrix_bits_128(self) -> u64 {
        match self {
            WeightsDtype::F32 => 32 * 128,
            WeightsDtype::F16 => 16 * 128,
            WeightsDtype::Int8 => 8 * 128,
            // A scale of 16 bits and a zero point of 4 for each group.
            WeightsDtype::Int4 => 4 * 128 + 16 + 4,
        }
    }

    /// Bytes of any other parameter.
    pub(crate) const fn other_bytes(self) -> u64 {
        match self {
            WeightsDtype::F32 => 4,
            _ => 2,
        }
    }

    /// Bytes of an activation.
    pub const fn activation_bytes(self) -> u64 {
        self.other_bytes()
    }
}

const WEIGHTS_NAMES: [(&str, WeightsDtype); 8] = [
    ("f32", WeightsDtype::F32),
    ("fp32", WeightsDtype::F32),
    ("f16", WeightsDtype::F16),
    ("fp16", WeightsDtype::F16),
    ("bf16", WeightsDtype::F16),
    ("int8", WeightsDtype::Int8),
    ("fp8", WeightsDtype::Int8),
    ("int4", WeightsDtype::Int4),
];

impl FromStr for WeightsDtype {
    type Err = String;

    fn from_str(text: &str) -> Result<WeightsDtype, String> {
        by_name(&WEIGHTS_NAMES, text, "type of weights")
    }
}

impl fmt::Display for WeightsDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeightsDtype::F32 => "32-bit floats",
            WeightsDtype::F16 => "16-bit floats",
            WeightsDtype::Int8 => "8 bits in layers",
            WeightsDtype::Int4 => "4 bits in layers",
        })
    }
}

/// How keys and values are stored by an engine other than ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvDtype {
    /// 32-bit floats.
    F32,
    /// Half precision or bfloat16.
    F16,
    /// 8-bit floats or integers.
    Int8,
}

const KV_NAMES: [(&str, KvDtype); 7] = [
    ("f32", KvDtype::F32),
    ("fp32", KvDtype::F32),
    ("f16", KvDtype::F16),
    ("fp16", KvDtype::F16),
    ("bf16", KvDtype::F16),
    ("int8", KvDtype::Int8),
    ("fp8", KvDtype::Int8),
];

impl KvDtype {
    /// Bytes of an element.
    pub const fn bytes(self) -> u64 {
        match self {
            KvDtype::F32 => 4,
            KvDtype::F16 => 2,
            KvDtype::Int8 => 1,
        }
    }
}

impl FromStr for KvDtype {
    type Err = String;

    fn from_str(text: &str) -> Result<KvDtype, String> {
        by_name(&KV_NAMES, text, "type of keys and values")
    }
}

fn by_name<T: Copy>(names: &[(&str, T)], text: &str, what: &str) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| *name == text);
    found.map(|&(_, value)| value).ok_or_else(|| {
        let known: Vec<&str> = names.iter().map(|&(name, _)| name).collect();
        format!("unknown {what} \"{text}\"; known: {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_name() {
        assert_eq!("bf16".parse(), Ok(WeightsDtype::F16));
        assert_eq!("fp8".parse(), Ok(KvDtype::Int8));
        let error = "q4".parse::<WeightsDtype>().expect_err("no such type");
        assert!(error.contains("\"q4\"") && error.contains("int4"), "{error}");
    }
}
