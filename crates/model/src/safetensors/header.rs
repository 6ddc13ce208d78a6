//! The header of a safetensors file.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::{Dtype, StoredTensor};
use crate::error::{LoadError, Shape};

/// The most bytes a header may take. A shard of the largest models in use has some 100 KiB.
pub const HEADER_BYTES_MAX: u64 = 32 << 20;
/// Most tensors in one file.
pub const TENSORS_MAX: usize = 65_536;
/// Longest name of a tensor in bytes; those in use are shorter than 128.
const NAME_BYTES_MAX: usize = 512;
/// Most dimensions; weights have at most 3.
const DIMENSIONS_MAX: usize = 8;
/// What stands beside the tensors: texts that change nothing.
const METADATA: &str = "__metadata__";

/// The entries of a header as they stand there.
struct Entries(Vec<(String, Entry)>);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if entries.len() == TENSORS_MAX {
                        return Err(A::Error::custom(format!("more than {TENSORS_MAX} tensors")));
                    }
                    entries.push((name, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

/// The tensors of a file of `file_bytes` bytes, and where their data starts. `source` stands at the
/// file's first byte.
pub(super) fn read<R: Read>(
    source: &mut R,
    file_bytes: u64,
) -> Result<(BTreeMap<String, StoredTensor>, u64), LoadError> {
    let place = || "the length of the header".to_string();
    let mut length = [0; 8];
    if file_bytes < 8 {
        let cause = String::new();
        return Err(LoadError::Truncated { place: place(), needed: 8, left: file_bytes, cause });
    }
    source.read_exact(&mut length).map_err(|source| LoadError::Read { place: place(), source })?;
    let header_bytes = u64::from_le_bytes(length);
    if HEADER_BYTES_MAX < header_bytes {
        let (found, limit) = (header_bytes, HEADER_BYTES_MAX);
        return Err(LoadError::TooMany { place: place(), found, limit });
    }
    let left = file_bytes - 8;
    if left < header_bytes {
        let (place, cause) = ("the header".to_string(), String::new());
        return Err(LoadError::Truncated { place, needed: header_bytes, left, cause });
    }
    let place = || "the header".to_string();
    let mut text = vec![0; header_bytes as usize];
    source.read_exact(&mut text).map_err(|source| LoadError::Read { place: place(), source })?;
    let Entries(entries) =
        serde_json::from_slice(&text).map_err(|cause| LoadError::Json { place: place(), cause })?;
    Ok((tensors(entries, left - header_bytes)?, 8 + header_bytes))
}

/// Checks every entry by itself, and that their data fills `data_bytes` without gap or overlap.
fn tensors(
    entries: Vec<(String, Entry)>,
    data_bytes: u64,
) -> Result<BTreeMap<String, StoredTensor>, LoadError> {
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries {
        let tensor = checked(&name, entry)?;
        if tensors.contains_key(&name) {
            return Err(LoadError::DuplicateTensor { name });
        }
        tensors.insert(name, tensor);
    }
    let mut by_offset: Vec<(&String, &StoredTensor)> = tensors.iter().collect();
    by_offset.sort_by_key(|(_, tensor)| (tensor.offset, tensor.size));
    let mut end = 0;
    for (name, tensor) in by_offset {
        let (name, offset, size) = (name.clone(), tensor.offset, tensor.size);
        if offset != end {
            return Err(LoadError::TensorGap { name, offset, end });
        }
        // No overflow: both were taken from an offset of the header.
        end = offset + size;
        if data_bytes < end {
            return Err(LoadError::TensorOutside { name, offset, size, data_bytes });
        }
    }
    if end != data_bytes {
        return Err(LoadError::DataLeftOver { end, data_bytes });
    }
    Ok(tensors)
}

fn checked(name: &str, entry: Entry) -> Result<StoredTensor, LoadError> {
    let Entry { dtype, shape, data_offsets: (start, end) } = entry;
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
        let (found, limit) = (name.len() as u64, NAME_BYTES_MAX as u64);
        return Err(LoadError::TensorName { place: "the header".to_string(), found, limit });
    }
    let refuse = |why: String| LoadError::TensorShape {
        name: name.to_string(),
        shape: Shape(shape.iter().copied().take(DIMENSIONS_MAX + 1).collect()),
        why,
    };
    if DIMENSIONS_MAX < shape.len() {
        return Err(refuse(format!("has more than {DIMENSIONS_MAX} dimensions")));
    }
    if shape.contains(&0) {
        return Err(refuse("has a dimension of 0".to_string()));
    }
    let Some(dtype) = Dtype::named(&dtype) else {
        let dtype: String = dtype.chars().take(32).collect();
        return Err(refuse(format!("is of the type `{dtype}`, which the format does not have")));
    };
    let elements = shape.iter().try_fold(1_u64, |product, &n| product.checked_mul(n));
    let bits = elements.and_then(|elements| elements.checked_mul(dtype.bits()));
    let Some(needed) = bits.filter(|bits| bits.is_multiple_of(8)).map(|bits| bits / 8) else {
        return Err(refuse("has more bytes than a file can, or a part of one".to_string()));
    };
    if end.checked_sub(start) != Some(needed) {
        let dtype = dtype.name();
        let why = format!("of {dtype} needs {needed} bytes, but lies from {start} to {end}");
        return Err(refuse(why));
    }
    Ok(StoredTensor { dtype, shape: Shape(shape), offset: start, size: needed })
}
