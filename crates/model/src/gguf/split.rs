//! Models that are split into several files, as `llama-gguf-split` writes them.
//!
//! Each part is a whole GGUF file with some of the tensors, called `NAME-00001-of-00003.gguf` and so on; all
//! other metadata is the first part's. `split.no` counts parts from 0, `split.count` says how many there are,
//! and `split.tensors.count` how many tensors they have together. In a file that was joined again the count
//! is 0. Source: `tools/gguf-split/gguf-split.cpp` and `src/llama-model-loader.cpp` of llama.cpp.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::TENSORS_MAX;
use super::metadata::Metadata;
use crate::error::LoadError;
use crate::limits::FILES_MAX;

/// Also in capitals.
const ENDING: &[u8] = b".gguf";

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// What is read of each part, and grows by those of the others.
pub(crate) trait Part: Sized {
    /// Reads the header of a file.
    fn read(file: File) -> Result<Self, LoadError>;
    /// What the header says.
    fn metadata(&self) -> &Metadata;
    /// Takes the tensors of another part, which are not too many. Error: one is here already.
    fn append(&mut self, part: Self) -> Result<(), LoadError>;
    /// How many tensors there are.
    fn tensor_count(&self) -> usize;
}

/// What a part says of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split {
    number: u32,
    count: u32,
    tensors: u32,
}

impl Split {
    /// Nothing for a file that is whole.
    fn of(metadata: &Metadata) -> Result<Option<Split>, LoadError> {
        let count = metadata.u32(COUNT)?.unwrap_or(0);
        if count < 2 {
            return Ok(None);
        }
        let refuse = |key: &str, value: u32, limit| LoadError::BadValue {
            key: key.to_string(),
            value: value.to_string(),
            limit,
        };
        if FILES_MAX < count as usize {
            return Err(refuse(COUNT, count, format!("at most {FILES_MAX}")));
        }
        let missing = |key: &'static str| LoadError::MissingKey { key: key.to_string() };
        let number = metadata.u32(NUMBER)?.ok_or_else(|| missing(NUMBER))?;
        if count <= number {
            return Err(refuse(NUMBER, number, format!("below {count}, the number of parts")));
        }
        let tensors = metadata.u32(TENSORS)?.ok_or_else(|| missing(TENSORS))?;
        Ok(Some(Split { number, count, tensors }))
    }

    /// What the part with this number, from 0, is called if `name` is what this one is called.
    fn name(&self, name: &OsStr, number: u32) -> Option<OsString> {
        let (rest, ending) = name.as_bytes().split_last_chunk::<{ ENDING.len() }>()?;
        let place = |number: u32| format!("-{:05}-of-{:05}", number + 1, self.count);
        let stem = rest.strip_suffix(place(self.number).as_bytes())?;
        let other = [stem, place(number).as_bytes(), ending].concat();
        ending.eq_ignore_ascii_case(ENDING).then(|| OsString::from_vec(other))
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Split { number, count, tensors } = self;
        write!(f, "part {} of {count} with {tensors} tensors together", number + 1)
    }
}

/// Refuses a file that is a part of a model and whose others cannot be found.
pub(crate) fn check_whole(metadata: &Metadata) -> Result<(), LoadError> {
    match Split::of(metadata)? {
        None => Ok(()),
        Some(split) => Err(misnamed(split, "a file without a name".as_ref())),
    }
}

/// Reads the file at `path`, and the other parts beside it if it is the first of several.
pub(crate) fn open<P: Part>(path: &Path) -> Result<P, LoadError> {
    let failed = |source| LoadError::Open { path: path.to_path_buf(), source };
    let mut whole = P::read(File::open(path).map_err(failed)?)?;
    let Some(split) = Split::of(whole.metadata())? else { return Ok(whole) };
    let name = path.file_name().unwrap_or_default();
    let called = |number| split.name(name, number).ok_or_else(|| misnamed(split, name));
    if split.number != 0 {
        let (found, first) = (split.number + 1, called(0)?.display().to_string());
        return Err(LoadError::NotFirstPart { found, count: split.count, first });
    }
    for number in 1..split.count {
        let path = path.with_file_name(called(number)?);
        let name = path.file_name().unwrap_or_default().display().to_string();
        let file = File::open(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => {
                LoadError::MissingPart { name: name.clone(), count: split.count }
            }
            _ => LoadError::Open { path, source },
        })?;
        add(&mut whole, file, Split { number, ..split }).map_err(|error| error.in_file(&name))?;
    }
    match whole.tensor_count() {
        count if count as u64 == u64::from(split.tensors) => Ok(whole),
        count => Err(LoadError::BadValue {
            key: TENSORS.to_string(),
            value: split.tensors.to_string(),
            limit: format!("{count}, as many as the parts have"),
        }),
    }
}

/// Adds the part in `file`, which must be the one expected.
fn add<P: Part>(whole: &mut P, file: File, expected: Split) -> Result<(), LoadError> {
    let part = P::read(file)?;
    match Split::of(part.metadata())? {
        Some(found) if found == expected => {
            check_count(whole.tensor_count() + part.tensor_count())?;
            whole.append(part)
        }
        found => Err(LoadError::Unfit {
            place: format!("what {NUMBER}, {COUNT} and {TENSORS} say"),
            found: found
                .map_or_else(|| "a file that is whole".to_string(), |split| split.to_string()),
            expected: expected.to_string(),
        }),
    }
}

/// Refuses more tensors of all parts than of a file that is whole.
fn check_count(count: usize) -> Result<(), LoadError> {
    let (found, limit) = (count as u64, TENSORS_MAX);
    if found <= limit {
        return Ok(());
    }
    let place = "the number of tensors of all parts".to_string();
    Err(LoadError::TooMany { place, found, limit })
}

fn misnamed(split: Split, name: &OsStr) -> LoadError {
    let Split { number, count, .. } = split;
    LoadError::Unfit {
        place: format!("part {} of {count} of a split model", number + 1),
        found: format!("{name:?}"),
        expected: format!("the path of NAME-00001-of-{count:05}.gguf, with the others beside it"),
    }
}
