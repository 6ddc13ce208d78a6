//! Folders as the transformers library writes them and hubs have them: `config.json`,
//! `generation_config.json`, weights in one or several safetensors files, `tokenizer.json`,
//! `tokenizer_config.json`, `chat_template.jinja`.
//!
//! What comes of one is what comes of a GGUF file: checked hyper-parameters of a known family, tensors
//! by the names and in the order of GGUF, tokenizer and template as plain data. Which names and orders
//! a family has in folders is data ([`crate::architecture::hub`]).

mod config_json;
mod files;
mod generation;
mod fp8;
mod index;
mod tensors;
mod tokenizer_json;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use sampling::SamplingRequest;
use serde_json::{Map, Value};
use text::TokenizerSpec;

use crate::config::{ModelConfig, OptionalTensors};
use crate::error::{LoadError, Shape};
use crate::gguf::TensorInfo;

use config_json::{Config, Translated};
use files::{Files, SETTINGS_BYTES_MAX};
use tensors::{Finder, Recipe, Shards};

const CONFIG: &str = "config.json";
const TEMPLATE: &str = "chat_template.jinja";
const ADAPTER: &str = "adapter_config.json";

/// Rows and columns that share a scale where the file does not say. Source: the configurations of
/// DeepSeek-V3 and Qwen3, which do.
const SCALE_BLOCK: (usize, usize) = (128, 128);
/// Columns of an embedding with more rows than these: what is kept of a token takes about as much as a row
/// then. Those in use have hundreds, and at most 262,144 rows.
const NARROW: u64 = 64;
const NARROW_ROWS_MAX: u64 = 1 << 20;
/// Ways of quantising whose weights are FP8 with scales, and how files of the last keep FP8.
const FP8_METHODS: [&str; 3] = ["fp8", "fbgemm_fp8", "compressed-tensors"];
const FP8_FORMATS: [&str; 2] = ["float-quantized", "naive-quantized"];
/// What MLX calls its way of quantising.
const MLX_QUANTIZATION: &str = "quantization";

/// Open files of weights, and how the model's tensors are made of them.
pub(crate) struct Folder {
    shards: Shards,
    tensors: Vec<TensorInfo>,
    index: BTreeMap<String, usize>,
    recipes: Vec<Recipe>,
}

/// What a folder holds.
pub(crate) struct Opened {
    pub(crate) config: ModelConfig,
    pub(crate) tokenizer: TokenizerSpec,
    pub(crate) chat_template: Option<String>,
    pub(crate) sampling: SamplingRequest,
    pub(crate) name: Option<String>,
    pub(crate) weights: Folder,
}

/// Opens the folder at `path`, and checks all of it but the weights' numbers.
pub(crate) fn open(path: &Path) -> Result<Opened, LoadError> {
    let files = Files::new(path)?;
    let json = files.object(CONFIG)?.ok_or_else(|| {
        let what = match files.has(ADAPTER) {
            true => "it has an adapter: give the model that this was trained on, and it by --lora",
            false => "give a folder as the transformers library writes it, or a .gguf file",
        };
        files.missing(CONFIG, what)
    })?;
    let in_config = |error: LoadError| error.in_file(CONFIG);
    let settings = Config::new(&json).map_err(in_config)?;
    let scale_block = scale_block(&json).map_err(in_config)?;
    let Translated { metadata, rope_divisors } = settings.translate().map_err(in_config)?;
    let vocabulary = settings.vocabulary().map_err(in_config)?;
    let tied = settings.tied_head().map_err(in_config)?;

    let family = settings.family;
    let mut shards = files.shards()?;
    let mut finder =
        Finder { family, shards: &mut shards, scale_block, has_prefix: true, used: HashSet::new() };
    finder.has_prefix = finder.has("token_embd.weight");
    let is_divisors = |name: &str| rope_divisors.iter().any(|(divisors, _)| *divisors == name);
    let has = |name: &str| finder.has(name) || is_divisors(name);
    let mut optional = OptionalTensors::of(family.architecture, has);
    optional.head = !tied;
    // Before a list of that length is made.
    finder.check_rows("token_embd.weight", u64::from(vocabulary))?;
    let generation = files.object(generation::FILE)?.unwrap_or_default();
    let said = (&json, &generation);
    let tokenizer = tokenizer_json::read(&files, said, vocabulary as usize)?;
    let sampling = generation::sampling(&generation, vocabulary as usize)
        .map_err(|error| error.in_file(generation::FILE))?;
    let checked = (family.architecture, optional);
    let mut config = ModelConfig::from_metadata(&metadata, checked, tokenizer.tokens.len())
        .map_err(in_config)?;
    settings.complete(&mut config).map_err(in_config)?;
    let (tensors, recipes) = finder.recipes(&config, rope_divisors)?;
    let chat_template = template(&files)?;
    let names = tensors.iter().map(|tensor| tensor.name.clone());
    let index = names.zip(0..).collect();
    let weights = Folder { shards, tensors, index, recipes };
    let name = files.name();
    Ok(Opened { config, tokenizer, chat_template, sampling, name, weights })
}

impl Folder {
    /// The model's tensors by the names of GGUF files.
    pub(crate) fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name.
    pub(crate) fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&index| &self.tensors[index])
    }

    /// As [`crate::file::ModelFile::read_tensor`].
    pub(crate) fn read_tensor(&mut self, name: &str, bytes: &mut Vec<u8>) -> Result<(), LoadError> {
        let index = *self.index.get(name).unwrap_or_else(|| panic!("no tensor `{name}`"));
        self.recipes[index].make(&mut self.shards, self.tensors[index].kind, bytes)
    }

    /// What kind of files the model is in.
    pub(crate) fn format(&self) -> String {
        let fp8 = self.shards.iter().any(|(_, shard)| {
            shard.tensors().any(|(_, tensor)| tensor.dtype == crate::safetensors::Dtype::F8E4M3)
        });
        let fp8 = if fp8 { ", FP8 with scales" } else { "" };
        match self.shards.len() {
            1 => format!("safetensors{fp8}"),
            count => format!("safetensors in {count} files{fp8}"),
        }
    }
}

/// Rows and columns that share a scale, of a model whose weights are floats or FP8.
fn scale_block(json: &Map<String, Value>) -> Result<(usize, usize), LoadError> {
    let key = "quantization_config";
    let refuse = |key: String, value: &Value, limit: &str| LoadError::BadValue {
        key,
        value: config_json::shown(value),
        limit: limit.to_string(),
    };
    let said = |key: &str| json.get(key).filter(|value| !value.is_null());
    let fp8 = "`fp8` or `compressed-tensors` with FP8, or a model in BF16 or F16, or a GGUF file";
    if let Some(quantised) = said(MLX_QUANTIZATION) {
        return Err(refuse(MLX_QUANTIZATION.to_string(), quantised, fp8));
    }
    let Some(quantised) = said(key) else { return Ok(SCALE_BLOCK) };
    let Some(method) = quantised.get("quant_method").filter(|method| !method.is_null()) else {
        return Err(refuse(key.to_string(), quantised, &format!("a quant_method of {fp8}")));
    };
    let is_among =
        |value: &Value, names: &[&str]| value.as_str().is_some_and(|n| names.contains(&n));
    if !is_among(method, &FP8_METHODS) {
        return Err(refuse(format!("{key}.quant_method"), method, fp8));
    }
    if let Some(format) = quantised.get("format").filter(|format| !format.is_null())
        && !is_among(format, &FP8_FORMATS)
    {
        return Err(refuse(format!("{key}.format"), format, fp8));
    }
    let part = "weight_block_size";
    match quantised.get(part) {
        None | Some(Value::Null) => Ok(SCALE_BLOCK),
        Some(block) => {
            let number = |at: usize| {
                let size = block.get(at).and_then(Value::as_u64);
                size.filter(|size| (1..=1 << 20).contains(size)).map(|size| size as usize)
            };
            let sizes = number(0).zip(number(1)).filter(|_| block.get(2).is_none());
            let limit = "two numbers from 1 to 1048576";
            sizes.ok_or_else(|| refuse(format!("{key}.{part}"), block, limit))
        }
    }
}

/// The chat template: in a file of its own, else the one that is called `default`, or has no name.
fn template(files: &Files) -> Result<Option<String>, LoadError> {
    if let Some(template) = files.text(TEMPLATE, SETTINGS_BYTES_MAX)? {
        return Ok(Some(template));
    }
    let name = tokenizer_json::SETTINGS;
    let Some(settings) = files.object(name)? else { return Ok(None) };
    let found = settings.get("chat_template").unwrap_or(&Value::Null);
    let named = |list: &[Value]| {
        let default = list.iter().find(|entry| entry.get("name").is_some_and(|n| n == "default"));
        default.and_then(|entry| entry.get("template")?.as_str()).map(str::to_string)
    };
    match found {
        Value::Null => Ok(None),
        Value::String(template) => Ok(Some(template.clone())),
        Value::Array(list) => Ok(named(list)),
        other => Err(LoadError::WrongKind {
            key: "chat_template".to_string(),
            found: config_json::shown(other),
            expected: "a text or a list of templates",
        }
        .in_file(name)),
    }
}

impl Finder<'_> {
    /// Refuses another number of rows than `rows` of our tensor `name`, rows that hold less than is kept of
    /// each token, and files without it.
    fn check_rows(&self, name: &str, rows: u64) -> Result<(), LoadError> {
        let Some((stored, file, shape)) = self.shape_of(name) else {
            let stored =
                self.family.stored_names(name, 1).and_then(|names| names.into_iter().next());
            return Err(LoadError::Unfit {
                place: format!("tensor `{}`", stored.as_deref().unwrap_or(name)),
                found: "missing".to_string(),
                expected: format!("a matrix of {rows} rows, as vocab_size of {CONFIG} says"),
            });
        };
        if shape.0.first() == Some(&rows) {
            let cols = shape.0[1..].iter().product::<u64>();
            return match rows <= NARROW_ROWS_MAX || NARROW <= cols {
                true => Ok(()),
                false => Err(LoadError::Unfit {
                    place: format!("tensor `{stored}`"),
                    found: format!("a matrix of {rows} rows and {cols} columns"),
                    expected: format!(
                        "{NARROW} columns where there are over {NARROW_ROWS_MAX} rows"
                    ),
                }
                .in_file(&file)),
            };
        }
        let mut expected = shape.clone();
        expected.0.splice(..shape.0.len().min(1), [rows]);
        let error = LoadError::TensorMismatch { name: stored, shape, expected: Shape(expected.0) };
        Err(error.in_file(&file))
    }
}
