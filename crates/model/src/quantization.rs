//! What float matrices are packed as, where that is asked for.

use std::fmt;
use std::str::FromStr;

use kernels::blocks::BlockKind;

use crate::gguf::TensorInfo;

/// Matrices in which an error goes straight into the logits, or into every layer.
const ENDS: [&str; 2] = ["token_embd.weight", "output.weight"];

/// What matrices that a file has as floats are packed as. Those that it has quantised stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "these are the names of the formats")]
pub enum Quantization {
    /// All as Q8_0.
    Q8_0,
    /// As Q4_1; embedding and head as Q8_0.
    Q4_1,
    /// As Q4_K, or Q4_1 where rows are not whole blocks of 256; embedding and head as Q8_0.
    Q4_K,
}

impl Quantization {
    /// All of them, with their names.
    const ALL: [(Quantization, &str); 3] =
        [(Quantization::Q8_0, "q8_0"), (Quantization::Q4_1, "q4_1"), (Quantization::Q4_K, "q4_k")];

    /// What `tensor` is packed as.
    pub(crate) fn kind(self, tensor: &TensorInfo) -> BlockKind {
        let whole = |kind: BlockKind| tensor.cols().is_multiple_of(kind.block_len() as u64);
        let is_matrix = tensor.shape.0.len() > 1;
        if tensor.kind.is_quantised() || !is_matrix || !whole(BlockKind::Q8_0) {
            return tensor.kind;
        }
        match self {
            _ if ENDS.contains(&tensor.name.as_str()) => BlockKind::Q8_0,
            Quantization::Q8_0 => BlockKind::Q8_0,
            Quantization::Q4_K if whole(BlockKind::Q4_K) => BlockKind::Q4_K,
            Quantization::Q4_1 | Quantization::Q4_K => BlockKind::Q4_1,
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.iter().find(|(quantization, _)| quantization == self);
        f.write_str(named.expect("every one has a name").1)
    }
}

impl FromStr for Quantization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.iter().find(|(_, name)| *name == text);
        let names = || Self::ALL.map(|(_, name)| name).join(", ");
        named
            .map(|&(quantization, _)| quantization)
            .ok_or_else(|| format!("not one of {}", names()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for (quantization, name) in Quantization::ALL {
            assert_eq!(name.parse(), Ok(quantization));
            assert_eq!(quantization.to_string(), name);
        }
        assert_eq!("q5_0".parse::<Quantization>(), Err("not one of q8_0, q4_1, q4_k".to_string()));
    }
}
