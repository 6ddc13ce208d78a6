//! What a header says of any model, computed here or not.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use super::split::{self, Part};
use super::{Front, measure, read_front};
use crate::error::{LoadError, Shape};
use crate::gguf::{header::HeaderReader, metadata::Metadata, tensor::ListEntry};

/// The header of a file whose architecture and tensor kinds need not be known.
#[derive(Debug)]
pub struct Outline {
    /// The metadata.
    pub metadata: Metadata,
    /// All tensors, in the order of their data.
    pub tensors: Vec<TensorOutline>,
}

/// A tensor, as far as the places of all tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorOutline {
    /// The name.
    pub name: String,
    /// Elements along each dimension, outermost first; not empty.
    pub shape: Shape,
    /// From where its data starts to where the next one's does, or the file ends.
    pub bytes: u64,
}

impl TensorOutline {
    /// Elements, at most 2^63.
    pub fn elements(&self) -> u64 {
        self.shape.0.iter().product()
    }
}

impl Outline {
    /// Reads the headers of the file at `path` and, if it is the first part of a split model, of the others.
    pub fn open(path: &Path) -> Result<Outline, LoadError> {
        split::open(path)
    }

    /// Reads the header alone; `source` may be at any position. No tensor is empty, lies outside
    /// the file, or is so short that its elements had less than a bit each.
    pub fn read<R: Read + Seek>(mut source: R) -> Result<Outline, LoadError> {
        let file_bytes = measure(&mut source)?;
        let mut reader = HeaderReader::new(&mut source, file_bytes);
        let Front { tensor_count, metadata, alignment, .. } = read_front(&mut reader)?;
        let mut entries = Vec::new();
        for number in 0..tensor_count {
            reader.place = format!("entry {} of {tensor_count} in the tensor list", number + 1);
            entries.push(ListEntry::read(&mut reader)?);
        }
        let data_start = reader.position().next_multiple_of(alignment);
        let data_bytes = file_bytes.saturating_sub(data_start);
        Ok(Outline { metadata, tensors: outlines(entries, data_bytes)? })
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorOutline> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

impl Part for Outline {
    fn read(file: File) -> Result<Self, LoadError> {
        Outline::read(file)
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn append(&mut self, part: Self) -> Result<(), LoadError> {
        self.tensors.extend(part.tensors);
        Ok(())
    }

    fn tensor_count(&self) -> usize {
        self.tensors.len()
    }
}

fn outlines(mut entries: Vec<ListEntry>, data_bytes: u64) -> Result<Vec<TensorOutline>, LoadError> {
    entries.sort_by_key(|entry| entry.offset);
    let starts = entries.iter().map(|entry| entry.offset).skip(1);
    let ends: Vec<u64> = starts.chain([data_bytes]).collect();
    let outline = |(entry, end): (ListEntry, u64)| {
        let ListEntry { name, shape, offset, .. } = entry;
        let elements = shape.iter().try_fold(1_u64, |product, &n| product.checked_mul(n));
        let elements = elements.filter(|&elements| elements <= i64::MAX as u64);
        let Some(elements) = elements.filter(|&elements| 0 < elements) else {
            let why = "is empty or has more elements than a file can".to_string();
            return Err(LoadError::TensorShape { name, shape: Shape(shape), why });
        };
        let size = elements.div_ceil(8);
        match end.checked_sub(offset).filter(|&bytes| size <= bytes && end <= data_bytes) {
            Some(bytes) => Ok(TensorOutline { name, shape: Shape(shape), bytes }),
            None => Err(LoadError::TensorOutside { name, offset, size, data_bytes }),
        }
    };
    entries.into_iter().zip(ends).map(outline).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::dummy::DummyShape;
    use crate::file::ModelFile;

    fn read(bytes: &[u8]) -> Result<Outline, LoadError> {
        Outline::read(Cursor::new(bytes))
    }

    /// Where the entry of `tensor` says its number of dimensions.
    fn entry_of(file: &[u8], tensor: &str) -> usize {
        let name = tensor.as_bytes();
        let at = file.windows(name.len()).position(|part| part == name).unwrap();
        at + name.len()
    }

    #[test]
    fn places_tell_what_kinds_tell() {
        let bytes = DummyShape::tiny().gguf(0);
        let outline = read(&bytes).unwrap();
        let file = ModelFile::from_bytes(bytes).unwrap();
        assert_eq!(outline.tensors.len(), file.tensors().len());
        for tensor in file.tensors() {
            let found = outline.tensor(&tensor.name).unwrap();
            assert_eq!(found.shape, tensor.shape);
            // The next one starts at a multiple of the alignment.
            assert_eq!(found.bytes, tensor.size.next_multiple_of(32), "{}", tensor.name);
        }
    }

    #[test]
    fn a_kind_that_is_not_computed_with_is_outlined_all_the_same() {
        let mut bytes = DummyShape::tiny().gguf(0);
        let before = read(&bytes).unwrap();
        // Two dimensions, then the kind: 21 is IQ3_S.
        let at = entry_of(&bytes, "blk.0.attn_q.weight") + 4 + 2 * 8;
        bytes[at..at + 4].copy_from_slice(&21_u32.to_le_bytes());
        assert_eq!(read(&bytes).unwrap().tensors, before.tensors);
        let refused = ModelFile::from_bytes(bytes).err().unwrap().to_string();
        assert!(refused.contains("IQ3_S"), "{refused}");
    }

    #[test]
    fn shapes_that_the_file_has_no_room_for_are_refused() {
        let good = DummyShape::tiny().gguf(0);
        let at = entry_of(&good, "token_embd.weight") + 4;
        for (size, part) in [(0, "is empty"), (1 << 40, "lies outside"), (u64::MAX, "is empty")] {
            let mut bytes = good.clone();
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(size));
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains("token_embd.weight"), "{error}");
            assert!(error.contains(part) || part == "lies outside", "{part}: {error}");
        }
        for length in (0..good.len()).step_by(97) {
            // Of the last tensor a part may be missing unnoticed.
            if let Ok(outline) = read(&good[..length]) {
                let bytes: u64 = outline.tensors.iter().map(|tensor| tensor.bytes).sum();
                assert!(good.len() / 2 < length && bytes < length as u64, "cut to {length}");
            }
        }
    }
}
