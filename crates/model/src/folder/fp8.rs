//! FP8 weights (E4M3) with their scales.

use std::io::{Read, Seek};
use std::sync::LazyLock;

use super::tensors::number;
use crate::error::LoadError;
use crate::safetensors::{Dtype, Safetensors, StoredTensor};

/// What the elements of a matrix are multiplied with.
pub(super) struct Scales {
    values: Vec<f32>,
    /// Rows and columns that share a scale.
    block: (usize, usize),
    /// Scales in a row of them.
    row_len: usize,
}

impl Scales {
    /// Reads the scales `name` of a matrix of `shape` (rows and columns): one, one for each row, or
    /// one for each `block` of rows and columns.
    pub(super) fn read<R: Read + Seek>(
        file: &mut Safetensors<R>,
        (name, tensor): (&str, &StoredTensor),
        shape: (usize, usize),
        block: (usize, usize),
    ) -> Result<Scales, LoadError> {
        let (rows, cols) = shape;
        let grid = (rows.div_ceil(block.0), cols.div_ceil(block.1));
        let found: Vec<usize> = tensor.shape.0.iter().map(|&n| n as usize).collect();
        let (block, row_len) = match found[..] {
            [] | [1] | [1, 1] => ((rows, cols), 1),
            [count] | [count, 1] if count == rows => ((1, cols), 1),
            [down, across] if (down, across) == grid => (block, across),
            _ => {
                let name = name.to_string();
                let why = format!(
                    "does not scale a matrix of {rows} rows and {cols} columns: expected one scale, \
                     one for each row, or {grid:?} of them for blocks of {block:?}"
                );
                return Err(LoadError::TensorShape { name, shape: tensor.shape.clone(), why });
            }
        };
        let size = match tensor.dtype {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            other => {
                let (name, known) = (name.to_string(), "F32, F16 and BF16 as scales");
                return Err(LoadError::UnsupportedDtype { name, kind: other.name(), known });
            }
        };
        let mut bytes = Vec::new();
        file.append_tensor(name, &mut bytes)?;
        let values = bytes.chunks_exact(size).map(|bytes| number(tensor.dtype, bytes)).collect();
        let scales = Scales { values, block, row_len };
        match scales.values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(LoadError::Unfit {
                place: format!("tensor `{name}`: a scale"),
                found: value.to_string(),
                expected: "a finite number".to_string(),
            }),
            None => Ok(scales),
        }
    }

    /// Rows and columns that share a scale.
    pub(super) fn block(&self) -> (usize, usize) {
        self.block
    }

    /// The scale of an element.
    pub(super) fn of(&self, row: usize, col: usize) -> f32 {
        self.values[row / self.block.0 * self.row_len + col / self.block.1]
    }
}

/// What each byte stands for.
static VALUES: LazyLock<[f32; 256]> =
    LazyLock::new(|| std::array::from_fn(|byte| computed(byte as u8)));

/// What a byte stands for in E4M3.
pub(super) fn value(byte: u8) -> f32 {
    VALUES[usize::from(byte)]
}

/// What a byte stands for in E4M3: exponents are less 7, all ones but the sign are no number, and
/// there is no infinity. Source: arXiv 2209.05433, table 1.
fn computed(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f32::from(byte & 7) / 8.0);
    let size = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction * (-6.0_f32).exp2(),
        _ => (1.0 + fraction) * ((exponent - 7) as f32).exp2(),
    };
    if byte < 128 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_numbers_of_the_format() {
        // The greatest and least numbers of the paper's table, and what is around one.
        let known = [(0x7e, 448.0), (0x08, 0.015625), (0x07, 0.013671875), (0x01, 0.001953125)];
        for (byte, expected) in known.into_iter().chain([(0x38, 1.0), (0x39, 1.125), (0, 0.0)]) {
            assert_eq!(value(byte), expected, "{byte:02x}");
            assert_eq!(value(byte | 128), -expected, "{byte:02x}");
        }
        assert!(value(0x7f).is_nan() && value(0xff).is_nan());
        assert!((0..=0x7e).is_sorted_by_key(value));
    }
}
