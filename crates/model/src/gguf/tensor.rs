//! The tensor list of a GGUF file.

use std::io::Read;

use kernels::blocks::BlockKind;

use crate::{
    error::{LoadError, Shape},
    gguf::{
        header::HeaderReader,
        kind::{ggml_type_name, tensor_kind, tensor_kind_name},
    },
};

/// Longest tensor name in bytes. Source: the GGUF specification.
const NAME_BYTES_MAX: u64 = 64;
/// Most dimensions. Source: ggml.h, `GGML_MAX_DIMS`.
const DIMENSIONS_MAX: u32 = 4;

/// What is known of one tensor of a model, checked: the shape is not empty, and rows are whole
/// blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, unique in the file.
    pub name: String,
    /// How elements are stored.
    pub kind: BlockKind,
    /// Elements along each dimension, outermost first: a matrix is `[rows, cols]`, its rows lie
    /// one behind the other. (The file lists dimensions the other way round.)
    pub shape: Shape,
    /// Bytes of data.
    pub size: u64,
}

impl TensorInfo {
    /// A tensor of that shape, outermost dimension first.
    pub(crate) fn new(name: String, kind: BlockKind, shape: Shape) -> Result<Self, LoadError> {
        match tensor_bytes(kind, &shape.0) {
            Ok(size) => Ok(Self { name, kind, shape, size }),
            Err(why) => Err(LoadError::TensorShape { name, shape, why }),
        }
    }

    /// Elements in a row: the innermost dimension.
    pub fn cols(&self) -> u64 {
        *self.shape.0.last().expect("a tensor has at least one dimension")
    }

    /// Rows: the product of all dimensions but the innermost; 1 for a vector.
    pub fn rows(&self) -> u64 {
        let outer = self.shape.0.len() - 1;
        self.shape.0[..outer].iter().product()
    }

    /// Reads one entry of the tensor list, with where the tensor's data starts, in bytes from the start
    /// of the data section.
    pub(crate) fn read<R: Read>(reader: &mut HeaderReader<R>) -> Result<(Self, u64), LoadError> {
        let ListEntry { name, shape, kind_id, offset } = ListEntry::read(reader)?;
        let kind = tensor_kind(kind_id).ok_or_else(|| LoadError::UnsupportedTensorKind {
            name: name.clone(),
            kind: ggml_type_name(kind_id),
        })?;
        Ok((Self::new(name, kind, Shape(shape))?, offset))
    }
}

/// An entry of the tensor list as it stands there, whatever its kind.
pub(crate) struct ListEntry {
    pub(crate) name: String,
    /// Outermost dimension first.
    pub(crate) shape: Vec<u64>,
    /// Number of ggml's type.
    pub(crate) kind_id: u32,
    pub(crate) offset: u64,
}

impl ListEntry {
    /// Reads one; the name is text of bounded length, and there are 1 to 4 dimensions.
    pub(crate) fn read<R: Read>(reader: &mut HeaderReader<R>) -> Result<Self, LoadError> {
        let len = reader.u64()?;
        if !(1..=NAME_BYTES_MAX).contains(&len) {
            let place = reader.place.clone();
            return Err(LoadError::TensorName { place, found: len, limit: NAME_BYTES_MAX });
        }
        let name = String::from_utf8(reader.bytes(len)?)
            .map_err(|_| LoadError::NotText { place: reader.place.clone() })?;
        reader.place = format!("tensor `{name}`");
        let dimensions = reader.u32()?;
        if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
            return Err(LoadError::TensorDimensions { name, found: dimensions });
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(reader.u64()?);
        }
        shape.reverse();
        let kind_id = reader.u32()?;
        Ok(ListEntry { name, shape, kind_id, offset: reader.u64()? })
    }
}

/// Bytes of a tensor of `shape` (outermost dimension first), or what is wrong with the shape.
pub(crate) fn tensor_bytes(kind: BlockKind, shape: &[u64]) -> Result<u64, String> {
    if shape.is_empty() || shape.contains(&0) {
        return Err("has no elements".to_string());
    }
    let block = kind.block_len() as u64;
    let cols = shape[shape.len() - 1];
    if !cols.is_multiple_of(block) {
        return Err(format!(
            "has rows that are not a multiple of {block}, a block of {}",
            tensor_kind_name(kind)
        ));
    }
    let elements = shape.iter().try_fold(1_u64, |product, &n| product.checked_mul(n));
    elements
        .and_then(|elements| (elements / block).checked_mul(kind.block_bytes() as u64))
        .filter(|&bytes| bytes <= i64::MAX as u64)
        .ok_or_else(|| "has more bytes than a file can".to_string())
}

/// Checks that every tensor starts at a multiple of `alignment`, ends within `data_bytes`, and
/// shares no byte with another one (or a small file could ask for any amount of memory). Where each
/// of `tensors` starts stands in `offsets`.
pub(crate) fn check_places(
    (tensors, offsets): (&[TensorInfo], &[u64]),
    alignment: u64,
    data_bytes: u64,
) -> Result<(), LoadError> {
    let mut by_offset: Vec<(u64, &TensorInfo)> = offsets.iter().copied().zip(tensors).collect();
    for &(offset, TensorInfo { name, size, .. }) in &by_offset {
        let (name, size) = (name.clone(), *size);
        if !offset.is_multiple_of(alignment) {
            return Err(LoadError::TensorOffset { name, offset, alignment });
        }
        let inside = offset.checked_add(size).is_some_and(|end| end <= data_bytes);
        if !inside {
            return Err(LoadError::TensorOutside { name, offset, size, data_bytes });
        }
    }
    by_offset.sort_by_key(|&(offset, _)| offset);
    for pair in by_offset.windows(2) {
        if pair[1].0 < pair[0].0 + pair[0].1.size {
            let (first, second) = (pair[0].1.name.clone(), pair[1].1.name.clone());
            return Err(LoadError::TensorOverlap { first, second });
        }
    }
    Ok(())
}
