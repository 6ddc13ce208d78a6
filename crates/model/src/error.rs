//! Why a model file is refused.

use std::{fmt, io, path::PathBuf};

use thiserror::Error;

/// A situation in which a model file cannot be loaded. Each message gives the place, the value
/// found and what would have been accepted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be opened.
    #[error("cannot open model file {path}: {source}", path = path.display())]
    Open {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could be opened but not read.
    #[error("cannot read {place}: {source}")]
    Read {
        /// What was being read.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something is wrong with one of the files of a folder.
    #[error("{name}: {source}")]
    InFile {
        /// The file's name.
        name: String,
        /// What is wrong.
        source: Box<LoadError>,
    },
    /// A file that a folder must have is not there.
    #[error("{path} has no {name}; {what}", path = path.display())]
    MissingFile {
        /// The folder.
        path: PathBuf,
        /// The file.
        name: &'static str,
        /// What it is needed for, and what to do.
        what: &'static str,
    },
    /// A folder has no weights that can be read.
    #[error(
        "{path} has neither model.safetensors nor model.safetensors.index.json{}", beside(found),
        path = path.display()
    )]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// Some files that might be weights.
        found: Vec<String>,
    },
    /// A part of the weights that the index names is not there.
    #[error("{index} names `{name}`, which is not in the folder: fetch it, or the model anew")]
    MissingShard {
        /// The file.
        name: String,
        /// The index.
        index: &'static str,
    },
    /// A model that is split into several files was given by another than the first.
    #[error(
        "this is part {found} of a model in {count} files: give the path of the first, {first}"
    )]
    NotFirstPart {
        /// Which part it is, from 1.
        found: u32,
        /// How many there are.
        count: u32,
        /// What the first is called.
        first: String,
    },
    /// A part of a model that is split into several files is not there.
    #[error(
        "the model is in {count} files, of which `{name}` is not beside the first: fetch it, or \
         the model anew"
    )]
    MissingPart {
        /// The file.
        name: String,
        /// How many there are.
        count: u32,
    },
    /// A file of a folder is a link to somewhere else, or no regular file.
    #[error(
        "`{name}` is {real}, which is no regular file of the folder: a model's files lie in its \
         folder, or in the blobs of the hub cache that it is in", real = real.display()
    )]
    FileElsewhere {
        /// The file's name.
        name: String,
        /// What it really is.
        real: PathBuf,
    },
    /// Something that was found is not what is expected.
    #[error("{place} is {found}; expected {expected}")]
    Unfit {
        /// What it is about.
        place: String,
        /// What was found.
        found: String,
        /// What would do.
        expected: String,
    },
    /// There is no built-in shape of that name.
    #[error("there is no dummy model `{name}`; known: {known}")]
    UnknownDummy {
        /// The name as given, without `dummy:`.
        name: String,
        /// The names that exist.
        known: String,
    },

    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: it starts with {found:02x?} and not with the letters `GGUF`")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The version of the format is not one that can be read.
    #[error("GGUF version {found} is not supported; versions 2 and 3 are")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The numbers in the file are stored with the most significant byte first.
    #[error("the GGUF file is big-endian; only little-endian files are supported")]
    BigEndian,
    /// Something needs more bytes than are left in the file, or in the part kept for the header.
    #[error("{place}: needs {needed} bytes, but only {left} are left{cause}")]
    Truncated {
        /// What was being read.
        place: String,
        /// Bytes needed, at the least.
        needed: u64,
        /// Bytes left.
        left: u64,
        /// Empty, or a remark on the header's limit.
        cause: String,
    },
    /// A count or a length is beyond what is accepted.
    #[error("{place}: {found} is too many, at most {limit} are accepted")]
    TooMany {
        /// What is counted.
        place: String,
        /// The count found.
        found: u64,
        /// The greatest count accepted.
        limit: u64,
    },
    /// Bytes that must be text are not UTF-8.
    #[error("{place}: is not UTF-8 text")]
    NotText {
        /// What was being read.
        place: String,
    },

    /// Bytes that must be JSON of a certain form are not.
    #[error("{place}: {cause}")]
    Json {
        /// What was being read.
        place: String,
        /// What is wrong with it, and where.
        cause: serde_json::Error,
    },

    /// A metadata key has no letters.
    #[error("{place}: the key is empty")]
    EmptyKey {
        /// Which entry.
        place: String,
    },
    /// A metadata key occurs twice.
    #[error("metadata key `{key}` occurs twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A metadata value has a type id that the format does not define.
    #[error("metadata key `{key}`: value type {id} does not exist (0 to 12 do)")]
    UnknownValueKind {
        /// The key.
        key: String,
        /// The type id found.
        id: u32,
    },
    /// A metadata value is an array of arrays.
    #[error("metadata key `{key}`: arrays of arrays are not supported")]
    NestedArray {
        /// The key.
        key: String,
    },
    /// A boolean is stored as something else than 0 or 1.
    #[error("metadata key `{key}`: {found} is not a boolean (0 or 1)")]
    NotBoolean {
        /// The key.
        key: String,
        /// The byte found.
        found: u8,
    },
    /// A metadata value has another type than its key asks for.
    #[error("metadata key `{key}`: the value is {found}, expected {expected}")]
    WrongKind {
        /// The key.
        key: String,
        /// The type found.
        found: String,
        /// The type that is needed.
        expected: &'static str,
    },
    /// A metadata key that is needed is not there.
    #[error("metadata key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A metadata value lies outside what is accepted.
    #[error("metadata key `{key}`: {value} is refused, expected {limit}")]
    BadValue {
        /// The key.
        key: String,
        /// The value found.
        value: String,
        /// What is accepted.
        limit: String,
    },
    /// A hyper-parameter that changes the computation in a way that is not implemented.
    #[error(
        "metadata key `{key}` = {value} is not supported: \
         the model would give wrong text without it"
    )]
    UnsupportedKey {
        /// The key.
        key: String,
        /// Its value, shortened.
        value: String,
    },

    /// A tensor's name is empty or longer than the format allows.
    #[error("{place}: a name of {found} bytes, expected 1 to {limit}")]
    TensorName {
        /// Which tensor, by number.
        place: String,
        /// Length found.
        found: u64,
        /// Longest name.
        limit: u64,
    },
    /// A tensor's name occurs twice.
    #[error("tensor `{name}` occurs twice")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// A tensor has no dimension or more than the format allows.
    #[error("tensor `{name}`: {found} dimensions, expected 1 to 4")]
    TensorDimensions {
        /// The name.
        name: String,
        /// Number of dimensions found.
        found: u32,
    },
    /// A tensor's shape is empty, overflows, or does not fit its type's blocks.
    #[error("tensor `{name}`: shape {shape} {why}")]
    TensorShape {
        /// The name.
        name: String,
        /// The shape, outermost dimension first.
        shape: Shape,
        /// What is wrong with it.
        why: String,
    },
    /// A tensor's type is not one that can be computed with.
    #[error(
        "tensor `{name}`: type {kind} is not supported; \
         F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4 are"
    )]
    UnsupportedTensorKind {
        /// The name.
        name: String,
        /// The type's name, or its number if ggml has no such type.
        kind: String,
    },
    /// A tensor's type is not one that can be computed with.
    #[error("tensor `{name}`: type {kind} is not supported; {known} are")]
    UnsupportedDtype {
        /// The name.
        name: String,
        /// The type's name.
        kind: &'static str,
        /// What would do.
        known: &'static str,
    },
    /// A tensor that is there as integers of a few bits alone.
    #[error(
        "tensor `{name}` is missing, and `{packed}` beside it is of a quantisation that is not computed \
         (GPTQ, AWQ and the like): give the model in BF16, F16 or FP8, or a GGUF file"
    )]
    PackedTensor {
        /// The name.
        name: String,
        /// What there is.
        packed: String,
    },
    /// An FP8 tensor without its scales.
    #[error("tensor `{name}` is of FP8, but `{scales}` (or `weight_scale`) is missing beside it")]
    MissingScales {
        /// The name.
        name: String,
        /// The name of its scales.
        scales: String,
    },
    /// A tensor's data does not start at a multiple of the file's alignment.
    #[error("tensor `{name}`: data offset {offset} is not a multiple of the alignment {alignment}")]
    TensorOffset {
        /// The name.
        name: String,
        /// The offset found, from the start of the data.
        offset: u64,
        /// The file's alignment in bytes.
        alignment: u64,
    },
    /// A tensor's data reaches beyond the end of the file.
    #[error(
        "tensor `{name}`: {size} bytes at data offset {offset} reach beyond the end of the file \
         ({data_bytes} bytes of data); is the file complete?"
    )]
    TensorOutside {
        /// The name.
        name: String,
        /// The offset found, from the start of the data.
        offset: u64,
        /// Bytes of the tensor.
        size: u64,
        /// Bytes of data in the file.
        data_bytes: u64,
    },
    /// A tensor of a safetensors file does not start where the one before it ends.
    #[error(
        "tensor `{name}`: its data starts at {offset}, but what stands before it ends at {end}; \
         the format has neither gaps nor overlaps"
    )]
    TensorGap {
        /// The name.
        name: String,
        /// The offset found, from the start of the data.
        offset: u64,
        /// The offset it should have.
        end: u64,
    },
    /// A safetensors file has bytes that belong to no tensor.
    #[error("the file has {data_bytes} bytes of data, but its tensors are the first {end}")]
    DataLeftOver {
        /// Where the last tensor ends.
        end: u64,
        /// Bytes of data in the file.
        data_bytes: u64,
    },
    /// Two tensors share bytes of the file.
    #[error("tensors `{first}` and `{second}` overlap in the file")]
    TensorOverlap {
        /// The tensor that starts first.
        first: String,
        /// The tensor that starts inside it.
        second: String,
    },

    /// A setting of an adapter asks for what is not implemented.
    #[error("adapter_config.json: `{key}` = {value} is not supported, expected {limit}")]
    AdapterSetting {
        /// The setting.
        key: String,
        /// Its value, shortened.
        value: String,
        /// What is accepted.
        limit: String,
    },
    /// A tensor of an adapter is for something that adapters may not change here.
    #[error("tensor `{name}`: {why}")]
    AdapterTensor {
        /// The name.
        name: String,
        /// Why, and what they may change.
        why: String,
    },

    /// A tensor that the architecture needs is not there.
    #[error("tensor `{name}` of shape {expected} is missing")]
    MissingTensor {
        /// The name.
        name: String,
        /// The shape it should have.
        expected: Shape,
    },
    /// A tensor that the architecture does not know.
    #[error(
        "tensor `{name}` of shape {shape} is not part of a `{architecture}` model as supported \
         here: the model would give wrong text without it"
    )]
    UnknownTensor {
        /// The name.
        name: String,
        /// The shape found.
        shape: Shape,
        /// The architecture.
        architecture: &'static str,
    },
    /// A tensor has another shape than the hyper-parameters say.
    #[error("tensor `{name}`: shape {shape}, expected {expected}")]
    TensorMismatch {
        /// The name.
        name: String,
        /// The shape found.
        shape: Shape,
        /// The shape that follows from the hyper-parameters.
        expected: Shape,
    },
}

impl LoadError {
    /// The error with the name of the file that it is about.
    pub(crate) fn in_file(self, name: &str) -> LoadError {
        LoadError::InFile { name: name.to_string(), source: Box::new(self) }
    }
}

/// What else a folder has.
fn beside(found: &[String]) -> String {
    match found {
        [] => String::new(),
        [gguf] if gguf.to_ascii_lowercase().ends_with(".gguf") => {
            format!(", but {gguf}: give the path of that file")
        }
        found => {
            format!(", but {}; only safetensors and single GGUF files are read", found.join(", "))
        }
    }
}

/// A tensor's shape, outermost dimension first: `[rows, cols]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(pub Vec<u64>);

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
