//! The GGUF file format, versions 2 and 3, little-endian.
//!
//! A file is: magic, version, two counts, the metadata entries, the tensor list, padding, and
//! the tensors' bytes. Nothing is trusted: a count or a length is compared with the bytes that
//! are left before memory is taken for it, sums and products are checked, and every tensor lies
//! inside the file and apart from the others, so memory is bounded by the file's size.
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod header;
mod kind;
mod metadata;
pub(crate) mod split;
mod outline;
mod tensor;
mod writer;

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
};

pub use header::HEADER_BYTES_MAX;
pub use kind::{ValueKind, tensor_kind_id, tensor_kind_name};
pub use metadata::{Metadata, Value};
pub use outline::{Outline, TensorOutline};
pub use tensor::TensorInfo;
pub use writer::{Entry, GgufWriter};

use crate::error::LoadError;
use header::HeaderReader;

/// Most metadata entries accepted; files in use have fewer than 100.
const ENTRIES_MAX: u64 = 65_536;
/// Most tensors accepted; the largest files in use have a few thousand.
const TENSORS_MAX: u64 = 65_536;
/// Fewest bytes of a metadata entry: key length, one letter, type, one byte.
const ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 1;
/// Fewest bytes of a tensor entry: name length, one letter, dimensions, one size, type, offset.
const TENSOR_BYTES_MIN: u64 = 8 + 1 + 4 + 8 + 4 + 8;
/// Alignment of tensor data in a file that does not say. Source: the GGUF specification.
const ALIGNMENT_DEFAULT: u64 = 32;
/// Greatest alignment accepted: the largest page size in use.
const ALIGNMENT_MAX: u64 = 1 << 30;

/// An open GGUF file, or several that are one model: metadata and tensor list in memory, data where it was.
#[derive(Debug)]
pub struct Gguf<R> {
    sources: Vec<R>,
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    places: Vec<Place>,
    index: BTreeMap<String, usize>,
}

/// Where a tensor's bytes are.
#[derive(Debug, Clone, Copy)]
struct Place {
    source: usize,
    /// In bytes from the start of the file.
    start: u64,
}

impl<R: Read + Seek> Gguf<R> {
    /// Reads and checks everything but the tensors' bytes. `source` may be at any position.
    pub fn parse(mut source: R) -> Result<Self, LoadError> {
        let file_bytes = measure(&mut source)?;
        let mut reader = HeaderReader::new(&mut source, file_bytes);
        let Front { version, tensor_count, metadata, alignment } = read_front(&mut reader)?;
        let TensorList { tensors, offsets, index } = read_tensor_list(&mut reader, tensor_count)?;
        // At most HEADER_BYTES_MAX + ALIGNMENT_MAX: no overflow.
        let data_start = reader.position().next_multiple_of(alignment);
        let data_bytes = file_bytes.saturating_sub(data_start);
        tensor::check_places((&tensors, &offsets), alignment, data_bytes)?;
        // At most the file's length, by the check before.
        let place = |offset| Place { source: 0, start: data_start + offset };
        let places = offsets.into_iter().map(place).collect();
        Ok(Self { sources: vec![source], version, metadata, tensors, places, index })
    }

    /// Takes the tensors of another part of a model; its metadata is dropped.
    pub(crate) fn append(&mut self, part: Self) -> Result<(), LoadError> {
        let first = self.sources.len();
        self.sources.extend(part.sources);
        for (tensor, place) in part.tensors.into_iter().zip(part.places) {
            if self.index.insert(tensor.name.clone(), self.tensors.len()).is_some() {
                return Err(LoadError::DuplicateTensor { name: tensor.name });
            }
            self.tensors.push(tensor);
            self.places.push(Place { source: first + place.source, ..place });
        }
        Ok(())
    }

    /// In how many files the model is.
    pub fn file_count(&self) -> usize {
        self.sources.len()
    }

    /// Version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The metadata, so that large arrays can be taken out of it.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// All tensors in the order of the file's list.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&index| &self.tensors[index])
    }

    /// Reads the tensor `name` as stored: rows one behind the other, each row
    /// `cols / kind.block_len()` blocks. `bytes` is overwritten and then holds `size` bytes.
    ///
    /// # Panics
    /// If there is no such tensor: look it up with [`Gguf::tensor`] first.
    pub fn read_tensor(&mut self, name: &str, bytes: &mut Vec<u8>) -> Result<(), LoadError> {
        let index = *self.index.get(name).unwrap_or_else(|| panic!("no tensor `{name}`"));
        let info = &self.tensors[index];
        let place = format!("tensor `{name}`");
        let Place { source, start } = self.places[index];
        let source = &mut self.sources[source];
        seek(source, SeekFrom::Start(start), &place)?;
        bytes.clear();
        let read = source.take(info.size).read_to_end(bytes);
        read.map_err(|source| LoadError::Read { place: place.clone(), source })?;
        if bytes.len() as u64 != info.size {
            let (needed, left) = (info.size, bytes.len() as u64);
            let cause = " (the file became shorter while it was read)".to_string();
            return Err(LoadError::Truncated { place, needed, left, cause });
        }
        Ok(())
    }
}

/// What stands before the tensor list.
struct Front {
    version: u32,
    tensor_count: u64,
    metadata: Metadata,
    alignment: u64,
}

fn read_front<R: Read>(reader: &mut HeaderReader<R>) -> Result<Front, LoadError> {
    let version = read_version(reader)?;
    reader.place = "the number of tensors".to_string();
    let tensor_count = read_count(reader, TENSORS_MAX, TENSOR_BYTES_MIN)?;
    reader.place = "the number of metadata entries".to_string();
    let entry_count = read_count(reader, ENTRIES_MAX, ENTRY_BYTES_MIN)?;
    let metadata = Metadata::read(reader, entry_count)?;
    let alignment = alignment(&metadata)?;
    Ok(Front { version, tensor_count, metadata, alignment })
}

/// The length of a file, which then stands at its start.
fn measure<R: Seek>(source: &mut R) -> Result<u64, LoadError> {
    let file_bytes = seek(source, SeekFrom::End(0), "the length of the file")?;
    seek(source, SeekFrom::Start(0), "the start of the file")?;
    Ok(file_bytes)
}

fn seek<R: Seek>(source: &mut R, to: SeekFrom, place: &str) -> Result<u64, LoadError> {
    source.seek(to).map_err(|source| LoadError::Read { place: place.to_string(), source })
}

fn read_version<R: Read>(reader: &mut HeaderReader<R>) -> Result<u32, LoadError> {
    reader.place = "the first bytes of the file".to_string();
    let found = reader.array::<4>()?;
    if found != *b"GGUF" {
        return Err(LoadError::Magic { found });
    }
    match reader.u32()? {
        version @ (2 | 3) => Ok(version),
        found if matches!(found.swap_bytes(), 2 | 3) => Err(LoadError::BigEndian),
        found => Err(LoadError::Version { found }),
    }
}

fn read_count<R: Read>(
    reader: &mut HeaderReader<R>,
    limit: u64,
    min_bytes: u64,
) -> Result<u64, LoadError> {
    let found = reader.u64()?;
    if limit < found {
        return Err(LoadError::TooMany { place: reader.place.clone(), found, limit });
    }
    reader.check_count(found, min_bytes)?;
    Ok(found)
}

fn alignment(metadata: &Metadata) -> Result<u64, LoadError> {
    const KEY: &str = "general.alignment";
    let Some(value) = metadata.get(KEY) else { return Ok(ALIGNMENT_DEFAULT) };
    let refuse = |limit: String| LoadError::BadValue {
        key: KEY.to_string(),
        value: value.to_string(),
        limit,
    };
    let Value::Integer(ValueKind::U32, _) = value else {
        return Err(refuse("a number of type u32".to_string()));
    };
    let alignment = u64::from(metadata.u32(KEY)?.expect("the key is there"));
    if alignment.is_power_of_two() && (8..=ALIGNMENT_MAX).contains(&alignment) {
        return Ok(alignment);
    }
    Err(refuse(format!("a power of two from 8 to {ALIGNMENT_MAX}")))
}

/// The tensors with their places, and the number of each by its name.
#[derive(Default)]
struct TensorList {
    tensors: Vec<TensorInfo>,
    offsets: Vec<u64>,
    index: BTreeMap<String, usize>,
}

fn read_tensor_list<R: Read>(
    reader: &mut HeaderReader<R>,
    count: u64,
) -> Result<TensorList, LoadError> {
    let mut list = TensorList::default();
    for number in 0..count {
        reader.place = format!("entry {} of {count} in the tensor list", number + 1);
        let (tensor, offset) = TensorInfo::read(reader)?;
        if list.index.insert(tensor.name.clone(), list.tensors.len()).is_some() {
            return Err(LoadError::DuplicateTensor { name: tensor.name });
        }
        list.tensors.push(tensor);
        list.offsets.push(offset);
    }
    Ok(list)
}
