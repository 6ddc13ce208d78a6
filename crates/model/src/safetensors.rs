//! The safetensors file format: a length, a JSON header of that length, and the tensors' bytes.
//!
//! Nothing is trusted: the header is bounded before it is read, sums and products are checked, and
//! the tensors' bytes follow each other without gap or overlap up to the very end of the file.
//! Source: "Format" in the README of <https://github.com/safetensors/safetensors>.

mod header;

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
};

use crate::error::{LoadError, Shape};

pub use header::{HEADER_BYTES_MAX, TENSORS_MAX};

/// How the elements of a tensor are stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
    /// A sign, 4 bits of exponent, 3 of fraction, no infinities.
    F8E4M3,
    /// Something else, by its name in the file: it can stand there, but is not computed with.
    Other(OtherDtype),
}

/// A type that is not computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherDtype {
    name: &'static str,
    bits: u64,
}

impl Dtype {
    /// The type of that name in headers.
    fn named(name: &str) -> Option<Dtype> {
        let known = [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F8E4M3];
        let others = OTHERS.iter().map(|&(name, bits)| Dtype::Other(OtherDtype { name, bits }));
        known.into_iter().chain(others).find(|dtype| dtype.name() == name)
    }

    /// The name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::F8E4M3 => "F8_E4M3",
            Dtype::Other(other) => other.name,
        }
    }

    /// Bits of an element.
    fn bits(self) -> u64 {
        match self {
            Dtype::F32 => 32,
            Dtype::F16 | Dtype::Bf16 => 16,
            Dtype::F8E4M3 => 8,
            Dtype::Other(other) => other.bits,
        }
    }
}

/// The other types of the format, with the bits of an element. Source: `Dtype` of the safetensors
/// library.
const OTHERS: [(&str, u64); 17] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("I32", 32),
    ("U32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
];

/// What the file says of one tensor, checked: its bytes lie inside the file and are as many as its
/// shape needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// How elements are stored.
    pub dtype: Dtype,
    /// Elements along each dimension, outermost first; none for a single number.
    pub shape: Shape,
    /// Where the data starts, in bytes behind the header.
    offset: u64,
    /// Bytes of data.
    size: u64,
}

/// An open safetensors file: its header in memory, its data where it was.
#[derive(Debug)]
pub struct Safetensors<R> {
    source: R,
    tensors: BTreeMap<String, StoredTensor>,
    data_start: u64,
}

impl<R: Read + Seek> Safetensors<R> {
    /// Reads and checks everything but the tensors' bytes. `source` may be at any position.
    pub fn parse(mut source: R) -> Result<Self, LoadError> {
        let file_bytes = seek(&mut source, SeekFrom::End(0), "the length of the file")?;
        seek(&mut source, SeekFrom::Start(0), "the start of the file")?;
        let (tensors, data_start) = header::read(&mut source, file_bytes)?;
        Ok(Self { source, tensors, data_start })
    }

    /// All tensors, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// Appends the bytes of the tensor `name` to `bytes`.
    ///
    /// # Panics
    /// If there is no such tensor: look it up with [`Safetensors::tensor`] first.
    pub fn append_tensor(&mut self, name: &str, bytes: &mut Vec<u8>) -> Result<(), LoadError> {
        let tensor = self.tensors.get(name).unwrap_or_else(|| panic!("no tensor `{name}`"));
        let (place, size) = (format!("tensor `{name}`"), tensor.size);
        seek(&mut self.source, SeekFrom::Start(self.data_start + tensor.offset), &place)?;
        let before = bytes.len();
        let read = (&mut self.source).take(size).read_to_end(bytes);
        read.map_err(|source| LoadError::Read { place: place.clone(), source })?;
        let left = (bytes.len() - before) as u64;
        if left != size {
            let cause = " (the file became shorter while it was read)".to_string();
            return Err(LoadError::Truncated { place, needed: size, left, cause });
        }
        Ok(())
    }
}

fn seek<R: Seek>(source: &mut R, to: SeekFrom, place: &str) -> Result<u64, LoadError> {
    source.seek(to).map_err(|source| LoadError::Read { place: place.to_string(), source })
}

#[cfg(test)]
mod tests;
