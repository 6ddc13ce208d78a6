//! Where each tensor of a model lies in a folder's files, and how it becomes what GGUF files have.

use std::collections::HashSet;
use std::fs::File;

use half::{bf16, f16};
use kernels::blocks::BlockKind;

use super::config_json::Divisors;
use super::fp8::{self, Scales};
use crate::architecture::hub::HubFamily;
use crate::config::{ExpectedTensor, ModelConfig, bad};
use crate::error::{LoadError, Shape};
use crate::gguf::TensorInfo;
use crate::safetensors::{Dtype, Safetensors, StoredTensor};

/// What files may have beside the weights: what is computed anew, or is for activations in 8 bits.
const NOT_NEEDED: [&str; 6] = [
    ".rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".input_scale",
    ".k_scale",
    ".v_scale",
];

/// What stands in place of `weight` where GPTQ and AWQ, or compressed-tensors, packed it.
const PACKED: [&str; 2] = ["qweight", "weight_packed"];

/// Open files of weights with their names.
pub(super) type Shards = Vec<(String, Safetensors<File>)>;

/// How one tensor is made.
pub(super) enum Recipe {
    /// Of tensors of the files, one behind the other.
    Stored { parts: Vec<Part>, columns_first: bool, from_one: bool },
    /// Of numbers that follow from the settings.
    Computed(Vec<f32>),
}

/// A tensor of a file.
pub(super) struct Part {
    shard: usize,
    name: String,
    dtype: Dtype,
    /// Rows and columns as the file has them.
    shape: (usize, usize),
    scales: Option<Scales>,
}

/// Finds what the model needs, and refuses what it does not know.
pub(super) struct Finder<'a> {
    pub(super) family: &'static HubFamily,
    pub(super) shards: &'a mut Shards,
    /// Rows and columns that share a scale.
    pub(super) scale_block: (usize, usize),
    /// Whether names begin with the family's prefix.
    pub(super) has_prefix: bool,
    pub(super) used: HashSet<String>,
}

impl Finder<'_> {
    /// Whether the files have our tensor `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.shape_of(name).is_some()
    }

    /// What the files call our tensor `name`, in which file it is, and its shape.
    pub(super) fn shape_of(&self, name: &str) -> Option<(String, String, Shape)> {
        let names = self.family.stored_names(name, 1)?;
        let stored = self.called(names.first()?).to_string();
        let (shard, tensor) = self.find(&stored)?;
        let shape = tensor.shape.clone();
        Some((stored, self.shards[shard].0.clone(), shape))
    }

    /// The name as these files have it.
    fn called<'n>(&self, name: &'n str) -> &'n str {
        if self.has_prefix { name } else { name.strip_prefix(self.family.prefix).unwrap_or(name) }
    }

    fn find(&self, name: &str) -> Option<(usize, &StoredTensor)> {
        let mut shards = self.shards.iter().enumerate();
        shards.find_map(|(index, (_, file))| file.tensor(name).map(|tensor| (index, tensor)))
    }

    /// How all tensors of `config` are made, and what they are then.
    pub(super) fn recipes(
        mut self,
        config: &ModelConfig,
        rope_divisors: Divisors,
    ) -> Result<(Vec<TensorInfo>, Vec<Recipe>), LoadError> {
        let (mut infos, mut recipes) = (Vec::new(), Vec::new());
        for expected in config.expected_tensors() {
            let divisors = rope_divisors.iter().find(|(name, _)| *name == expected.name);
            let pairs = expected.shape.0[0];
            let (kind, recipe) = match divisors {
                Some((name, divisors)) if divisors.len() as u64 != pairs => {
                    let found = format!("a list of {}", divisors.len());
                    return Err(bad(name, found, format!("{pairs}, one for each pair")));
                }
                Some((_, divisors)) => (BlockKind::F32, Recipe::Computed(divisors.clone())),
                None => self.stored(&expected, config)?,
            };
            let ExpectedTensor { name, shape } = expected;
            infos.push(TensorInfo::new(name, kind, shape)?);
            recipes.push(recipe);
        }
        self.check_nothing_is_left(config)?;
        Ok((infos, recipes))
    }

    fn stored(
        &mut self,
        expected: &ExpectedTensor,
        config: &ModelConfig,
    ) -> Result<(BlockKind, Recipe), LoadError> {
        let experts = config.experts.map_or(1, |experts| experts.count);
        let names = self.family.stored_names(&expected.name, experts);
        let names = names.ok_or_else(|| LoadError::MissingTensor {
            name: expected.name.clone(),
            expected: expected.shape.clone(),
        })?;
        let mut shape = expected.shape.0.clone();
        if shape.len() == 3 {
            shape.remove(0);
        }
        let is_matrix = shape.len() == 2;
        let columns_first =
            self.family.columns_first && is_matrix && expected.name.starts_with("blk.");
        if columns_first {
            shape.reverse();
        }
        let shape = Shape(shape);
        let parts = names
            .iter()
            .map(|name| self.part(self.called(name).to_string(), &shape))
            .collect::<Result<Vec<Part>, _>>()?;
        let is_norm = expected.name.ends_with("norm.weight");
        let from_one = is_norm && self.family.norms_from_one;
        let first = parts[0].dtype;
        let kind = match first {
            Dtype::F32 => BlockKind::F32,
            Dtype::F16 => BlockKind::F16,
            _ => BlockKind::Bf16,
        };
        // What is computed with on the way is kept as it comes out of that; FP8 as BF16.
        let is_one = parts.iter().all(|part| part.dtype == first) && !from_one;
        let kind = if is_one { kind } else { BlockKind::F32 };
        Ok((kind, Recipe::Stored { parts, columns_first, from_one }))
    }

    fn part(&mut self, name: String, expected: &Shape) -> Result<Part, LoadError> {
        let Some((shard, tensor)) = self.find(&name) else {
            return Err(self.missing(name, expected));
        };
        let (dtype, found) = (tensor.dtype, tensor.shape.clone());
        let file = &self.shards[shard].0;
        if found != *expected {
            let error =
                LoadError::TensorMismatch { name, shape: found, expected: expected.clone() };
            return Err(error.in_file(file));
        }
        if let Dtype::Other(_) = dtype {
            let (kind, known) = (dtype.name(), "F32, F16, BF16 and F8_E4M3 with scales");
            let error = LoadError::UnsupportedDtype { name, kind, known };
            return Err(error.in_file(file));
        }
        let cols = *expected.0.last().expect("tensors have dimensions") as usize;
        let shape = (expected.0[..expected.0.len() - 1].iter().product::<u64>() as usize, cols);
        let scales = match dtype {
            Dtype::F8E4M3 => Some(self.scales(&name, shape)?),
            _ => None,
        };
        self.used.insert(name.clone());
        Ok(Part { shard, name, dtype, shape, scales })
    }

    /// The error for a tensor that is not there, or is in another form.
    fn missing(&self, name: String, expected: &Shape) -> LoadError {
        let stem = name.strip_suffix(".weight").unwrap_or(&name);
        let packed = PACKED.iter().map(|ending| format!("{stem}.{ending}"));
        match packed.into_iter().find(|packed| self.find(packed).is_some()) {
            Some(packed) => LoadError::PackedTensor { name, packed },
            None => LoadError::MissingTensor { name, expected: expected.clone() },
        }
    }

    /// The scales of the FP8 tensor `name`, which stand beside it.
    fn scales(&mut self, name: &str, shape: (usize, usize)) -> Result<Scales, LoadError> {
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        let names = [format!("{stem}.weight_scale_inv"), format!("{stem}.weight_scale")];
        let found = names.iter().find_map(|name| Some((name, self.find(name)?)));
        let Some((scales, (shard, tensor))) = found else {
            let (name, scales) = (name.to_string(), names[0].clone());
            return Err(LoadError::MissingScales { name, scales });
        };
        let (tensor, scales) = (tensor.clone(), scales.clone());
        let (file, shard) = &mut self.shards[shard];
        let read = Scales::read(shard, (&scales, &tensor), shape, self.scale_block);
        self.used.insert(scales);
        read.map_err(|error| error.in_file(file))
    }

    /// Refuses files with tensors that nothing was made of.
    fn check_nothing_is_left(&self, config: &ModelConfig) -> Result<(), LoadError> {
        for (file, shard) in self.shards.iter() {
            for (name, tensor) in shard.tensors() {
                let is_head = name == "lm_head.weight" && config.tied_head();
                let is_known = is_head || NOT_NEEDED.iter().any(|ending| name.ends_with(ending));
                if !is_known && !self.used.contains(name) {
                    let error = LoadError::UnknownTensor {
                        name: name.to_string(),
                        shape: tensor.shape.clone(),
                        architecture: self.family.model_type,
                    };
                    return Err(error.in_file(file));
                }
            }
        }
        Ok(())
    }
}

impl Recipe {
    /// Overwrites `bytes` with the tensor, elements of `kind`, row after row.
    pub(super) fn make(
        &self,
        shards: &mut Shards,
        kind: BlockKind,
        bytes: &mut Vec<u8>,
    ) -> Result<(), LoadError> {
        bytes.clear();
        let (parts, columns_first, from_one) = match self {
            Recipe::Stored { parts, columns_first, from_one } => (parts, *columns_first, *from_one),
            Recipe::Computed(values) => {
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                return Ok(());
            }
        };
        let mut stored = Vec::new();
        for part in parts {
            let (file, shard) = &mut shards[part.shard];
            let is_as_stored =
                part.scales.is_none() && element_bytes(part.dtype) == kind.block_bytes();
            let is_copy = is_as_stored && !columns_first;
            let out = if is_copy { &mut *bytes } else { &mut stored };
            shard.append_tensor(&part.name, out).map_err(|error| error.in_file(file))?;
            if !is_as_stored {
                stored = part.converted(&stored, kind);
            }
            match columns_first {
                true => transpose(&stored, (part.shape.0, kind.block_bytes()), bytes),
                // Nothing, where the file's bytes went straight on.
                false => bytes.append(&mut stored),
            }
            stored.clear();
        }
        if from_one {
            for value in bytes.chunks_exact_mut(4) {
                let sum = 1.0 + f32::from_le_bytes(value.try_into().expect("four bytes"));
                value.copy_from_slice(&sum.to_le_bytes());
            }
        }
        Ok(())
    }
}

impl Part {
    /// The bytes of the tensor, given as stored, as elements of a float kind.
    fn converted(&self, stored: &[u8], kind: BlockKind) -> Vec<u8> {
        let (size, cols) = (element_bytes(self.dtype), self.shape.1);
        let block_cols = self.scales.as_ref().map_or(cols, |scales| scales.block().1.min(cols));
        let mut out = Vec::with_capacity(self.shape.0 * cols * kind.block_bytes());
        for (row, bytes) in stored.chunks_exact(cols * size).enumerate() {
            for (block, bytes) in bytes.chunks(block_cols * size).enumerate() {
                let scale =
                    self.scales.as_ref().map_or(1.0, |scales| scales.of(row, block * block_cols));
                let values = bytes.chunks_exact(size).map(|x| scale * number(self.dtype, x));
                match kind {
                    BlockKind::F32 => out.extend(values.flat_map(f32::to_le_bytes)),
                    BlockKind::Bf16 => {
                        out.extend(values.flat_map(|x| bf16::from_f32(x).to_le_bytes()));
                    }
                    _ => panic!("{kind:?} is stored as it is"),
                }
            }
        }
        out
    }
}

/// Bytes of an element of a type that is computed with.
fn element_bytes(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 4,
        Dtype::F16 | Dtype::Bf16 => 2,
        Dtype::F8E4M3 | Dtype::Other(_) => 1,
    }
}

/// The number that the bytes of one element stand for.
pub(super) fn number(dtype: Dtype, bytes: &[u8]) -> f32 {
    match (dtype, bytes) {
        (Dtype::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        (Dtype::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
        (Dtype::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
        (Dtype::F8E4M3, &[byte]) => fp8::value(byte),
        _ => panic!("{} bytes of {}", bytes.len(), dtype.name()),
    }
}

/// Appends a matrix of `rows` rows with its columns as rows; elements of `size` bytes.
fn transpose(stored: &[u8], (rows, size): (usize, usize), out: &mut Vec<u8>) {
    let row_bytes = stored.len() / rows;
    for col in (0..row_bytes).step_by(size) {
        for row in 0..rows {
            let at = row * row_bytes + col;
            out.extend_from_slice(&stored[at..at + size]);
        }
    }
}
