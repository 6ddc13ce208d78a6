//! What a model's files give: hyper-parameters, tokenizer, chat template, tensor bytes.

use std::{
    fmt::Write as _,
    fs::File,
    io::{Cursor, Read, Seek},
    path::Path,
};

use kernels::blocks::BlockKind;
use sampling::SamplingRequest;
use text::{
    Cutting, Merging, Normalization, Parts, SpacePrefix, TextRules, TokenKind, TokenizerSpec,
    UnigramSpec,
};

use crate::{
    config::{ModelConfig, bad, require},
    error::LoadError,
    folder::{self, Folder},
    gguf::{
        Gguf, Metadata, TensorInfo,
        split::{self, Part},
        tensor_kind_name,
    },
    quantization::Quantization,
    rope::RopeScaling,
};

/// The kinds of tokenizers that are implemented, by the names files give them: byte-level BPE, and
/// SentencePiece's BPE and unigram model.
const BYTE_LEVEL: &str = "gpt2";
const SENTENCE_PIECE: &str = "llama";
const UNIGRAM: &str = "t5";
/// Control tokens that end a turn in some family, for files that name none. Source: llama-vocab.cpp,
/// where `special_eot_id` is looked for.
const TURN_ENDS: [&str; 4] = ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>"];
const SCORES: &str = "tokenizer.ggml.scores";
const SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
/// Whether spaces in a row are one, and those at the ends none.
const ONE_SPACE: &str = "tokenizer.ggml.remove_extra_whitespaces";
/// Where a file's bytes come from: the disk, or memory for a dummy model.
trait Source: Read + Seek + Send {}
impl<T: Read + Seek + Send> Source for T {}

impl Part for Gguf<Box<dyn Source>> {
    fn read(file: File) -> Result<Self, LoadError> {
        Gguf::parse(Box::new(file))
    }

    fn metadata(&self) -> &Metadata {
        Gguf::metadata(self)
    }

    fn append(&mut self, part: Self) -> Result<(), LoadError> {
        Gguf::append(self, part)
    }

    fn tensor_count(&self) -> usize {
        self.tensors().len()
    }
}

/// What the weights are read from.
enum Store {
    Gguf(Gguf<Box<dyn Source>>),
    Folder(Folder),
}

/// A model's file or folder, checked as far as can be without reading the weights.
pub struct ModelFile {
    /// Hyper-parameters.
    pub config: ModelConfig,
    /// The tokenizer as the file describes it; the `text` crate checks what it means.
    pub tokenizer: TokenizerSpec,
    /// The chat template's source, if there is one.
    pub chat_template: Option<String>,
    /// How its makers choose tokens where nobody says otherwise; checked.
    pub sampling: SamplingRequest,
    /// The model's name by its maker, if the file gives one.
    pub name: Option<String>,
    /// What matrices of float types are packed as; none keeps them.
    pub quantization: Option<Quantization>,
    store: Store,
}

impl ModelFile {
    /// Opens the `.gguf` file at `path`, with the other parts beside it if it is the first of several, or the
    /// folder of `config.json`, safetensors files and `tokenizer.json` that it is. Files stay open until the
    /// `ModelFile` is dropped.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        if path.is_dir() {
            let opened = folder::open(path)?;
            return Ok(Self {
                config: opened.config,
                tokenizer: opened.tokenizer,
                chat_template: opened.chat_template,
                sampling: opened.sampling,
                name: opened.name,
                quantization: None,
                store: Store::Folder(opened.weights),
            });
        }
        Self::of_gguf(split::open(path)?)
    }

    /// Reads a GGUF file that lies in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, LoadError> {
        let source: Box<dyn Source> = Box::new(Cursor::new(bytes));
        let gguf = Gguf::parse(source)?;
        split::check_whole(gguf.metadata())?;
        Self::of_gguf(gguf)
    }

    fn of_gguf(mut gguf: Gguf<Box<dyn Source>>) -> Result<Self, LoadError> {
        let tokenizer = tokenizer_spec(gguf.metadata_mut())?;
        let config = ModelConfig::from_gguf(&gguf, tokenizer.tokens.len())?;
        let owned = |text: Option<&str>| text.map(str::to_string);
        let chat_template = owned(gguf.metadata().text("tokenizer.chat_template")?);
        let name = owned(gguf.metadata().text("general.name")?);
        let (sampling, store) = (SamplingRequest::default(), Store::Gguf(gguf));
        Ok(Self { config, tokenizer, chat_template, sampling, name, quantization: None, store })
    }

    /// The tensors of the model, in the order of its file: exactly those of
    /// [`ModelConfig::expected_tensors`].
    pub fn tensors(&self) -> &[TensorInfo] {
        match &self.store {
            Store::Gguf(gguf) => gguf.tensors(),
            Store::Folder(folder) => folder.tensors(),
        }
    }

    /// What a tensor of the file is packed as.
    pub fn packed_kind(&self, tensor: &TensorInfo) -> BlockKind {
        self.quantization.map_or(tensor.kind, |quantization| quantization.kind(tensor))
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        match &self.store {
            Store::Gguf(gguf) => gguf.tensor(name),
            Store::Folder(folder) => folder.tensor(name),
        }
    }

    /// Overwrites `bytes` with the blocks of the tensor `name` as stored, row after row.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn read_tensor(&mut self, name: &str, bytes: &mut Vec<u8>) -> Result<(), LoadError> {
        match &mut self.store {
            Store::Gguf(gguf) => gguf.read_tensor(name, bytes),
            Store::Folder(folder) => folder.read_tensor(name, bytes),
        }
    }

    /// Number of elements in all tensors.
    pub fn parameter_count(&self) -> u64 {
        self.tensors().iter().map(|tensor| tensor.rows() * tensor.cols()).sum()
    }

    /// Several lines of text for `millrace check`: what the file holds.
    pub fn description(&self) -> String {
        let config = &self.config;
        let mut text = String::new();
        let mut line = |label: &str, value: String| {
            writeln!(text, "{label:<14} {value}").expect("writing to a String cannot fail");
        };
        let format = match &self.store {
            Store::Gguf(gguf) if gguf.file_count() == 1 => format!("GGUF {}", gguf.version()),
            Store::Gguf(gguf) => format!("GGUF {} in {} files", gguf.version(), gguf.file_count()),
            Store::Folder(folder) => folder.format(),
        };
        line("format", format);
        line("name", self.name.clone().unwrap_or_else(|| "(none given)".to_string()));
        line("architecture", config.architecture.name.to_string());
        line("parameters", self.parameter_count().to_string());
        line("layers", config.layer_count.to_string());
        line("hidden size", format!("{}, {} inside", config.hidden_size, config.intermediate_size));
        line(
            "heads",
            format!(
                "{} of {}, {} for keys",
                config.head_count, config.head_dim, config.kv_head_count
            ),
        );
        if let Some(experts) = config.experts {
            line("experts", format!("{} of {} for each token", experts.used, experts.count));
        }
        if let Some(rope) = &config.rope {
            line("rope base", rope.theta.to_string());
            if let RopeScaling::Long { context, .. } = rope.scaling {
                line("rope factors", format!("others where more than {context} tokens are served"));
            }
        }
        if let Some(window) = config.window {
            let layers = (0..config.layer_count).filter(|&layer| config.window_of(layer).is_some());
            line("window", format!("{window} tokens in {} layers", layers.count()));
        }
        line("context", format!("{} tokens", config.context_length));
        let head = if config.tied_head() { "tied to the embedding" } else { "of its own" };
        line("output head", head.to_string());
        line("tensors", self.tensor_summary());
        let spec = &self.tokenizer;
        let kind = match &spec.merging {
            Merging::ByteLevel { merges, pre_tokenizer } => {
                let cutting = match pre_tokenizer {
                    Cutting::Named(name) => name,
                    Cutting::Patterns { .. } => "tokenizer.json",
                };
                format!("{BYTE_LEVEL} / {cutting}, {} merges", merges.len())
            }
            Merging::SentencePiece { .. } => format!("{SENTENCE_PIECE} (SentencePiece)"),
            Merging::Unigram(_) => format!("{UNIGRAM} (SentencePiece, unigram)"),
            Merging::Characters { merges, .. } => {
                format!("characters / tokenizer.json, {} merges", merges.len())
            }
        };
        line("tokenizer", format!("{kind}, {} tokens", spec.tokens.len()));
        let ends = spec.end_tokens.iter().map(|&id| format!("{id} `{}`", spec.tokens[id as usize]));
        line("end tokens", ends.collect::<Vec<_>>().join(", "));
        let template = self.chat_template.as_ref();
        line(
            "chat template",
            template.map_or("none".to_string(), |t| format!("{} bytes", t.len())),
        );
        text
    }

    /// How many tensors of which kind, with their bytes: `210 Q4_1 (66.4 MB), …`.
    fn tensor_summary(&self) -> String {
        let mut kinds: Vec<(&'static str, usize, u64)> = Vec::new();
        for tensor in self.tensors() {
            let name = tensor_kind_name(tensor.kind);
            match kinds.iter_mut().find(|kind| kind.0 == name) {
                Some((_, count, bytes)) => (*count, *bytes) = (*count + 1, *bytes + tensor.size),
                None => kinds.push((name, 1, tensor.size)),
            }
        }
        let words = kinds
            .iter()
            .map(|(name, count, bytes)| format!("{count} {name} ({:.1} MB)", *bytes as f64 / 1e6));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Reads the tokenizer's keys; takes the large arrays out of `metadata`.
fn tokenizer_spec(metadata: &mut Metadata) -> Result<TokenizerSpec, LoadError> {
    let model_key = "tokenizer.ggml.model";
    let model = require(metadata.text(model_key)?, model_key)?;
    let read: fn(&mut Metadata, &[TokenKind]) -> Result<Merging, LoadError> = match model {
        SENTENCE_PIECE => sentence_piece,
        BYTE_LEVEL => byte_level,
        UNIGRAM => unigram,
        _ => {
            let limit = format!(
                "`{BYTE_LEVEL}` (byte-level BPE), `{SENTENCE_PIECE}` (SentencePiece's BPE) or \
                 `{UNIGRAM}` (SentencePiece's unigram model)"
            );
            return Err(bad(model_key, format!("`{model}`"), limit));
        }
    };
    let tokens = take(metadata, "tokenizer.ggml.tokens")?;
    let kinds = token_kinds(metadata, tokens.len())?;
    let merging = read(metadata, &kinds)?;
    let token_id = |key: &str| token_id(metadata, key, tokens.len());
    let bos = token_id("tokenizer.ggml.bos_token_id")?;
    let mut end_tokens = Vec::new();
    for name in ["eos", "eot", "eom"] {
        let id = token_id(&format!("tokenizer.ggml.{name}_token_id"))?;
        end_tokens.extend(id.filter(|id| !end_tokens.contains(id)));
    }
    end_tokens.extend(turn_end(metadata, (&tokens, &kinds)).filter(|id| !end_tokens.contains(id)));
    let bos_key = "tokenizer.ggml.add_bos_token";
    let bos_usual = match &merging {
        Merging::ByteLevel { pre_tokenizer: Cutting::Named(name), .. } => {
            text::begins_prompts(name)
        }
        Merging::Unigram(_) => false,
        _ => bos.is_some(),
    };
    let add_bos = metadata.bool(bos_key)?.unwrap_or(bos_usual);
    if add_bos && bos.is_none() {
        return Err(bad(bos_key, "true", "tokenizer.ggml.bos_token_id beside it".to_string()));
    }
    let eos_key = "tokenizer.ggml.add_eos_token";
    let eos_usual = matches!(merging, Merging::Unigram(_)) && !end_tokens.is_empty();
    let add_eos = metadata.bool(eos_key)?.unwrap_or(eos_usual);
    if add_eos && end_tokens.is_empty() {
        return Err(bad(eos_key, "true", "tokenizer.ggml.eos_token_id beside it".to_string()));
    }
    let rules = TextRules::default();
    Ok(TokenizerSpec { tokens, kinds, merging, rules, bos, add_bos, add_eos, end_tokens })
}

fn byte_level(metadata: &mut Metadata, _: &[TokenKind]) -> Result<Merging, LoadError> {
    let key = "tokenizer.ggml.pre";
    let pre_tokenizer = Cutting::Named(require(metadata.text(key)?, key)?.to_string());
    Ok(Merging::ByteLevel { merges: take(metadata, "tokenizer.ggml.merges")?, pre_tokenizer })
}

fn sentence_piece(metadata: &mut Metadata, _: &[TokenKind]) -> Result<Merging, LoadError> {
    if metadata.bool(ONE_SPACE)? == Some(true) {
        return Err(bad(ONE_SPACE, true, "false".to_string()));
    }
    let scores = require(metadata.f32s(SCORES)?, SCORES)?;
    let space_prefix = metadata.bool(SPACE_PREFIX)?.unwrap_or(true);
    Ok(Merging::SentencePiece { scores, space_prefix })
}

/// Where a file says nothing of spaces, none is put and none merged, as in llama.cpp. An unknown token it must name,
/// or have one of that kind, for which llama.cpp would take token 2.
fn unigram(metadata: &mut Metadata, kinds: &[TokenKind]) -> Result<Merging, LoadError> {
    let scores = require(metadata.f32s(SCORES)?, SCORES)?;
    let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
    let normal = scores.iter().zip(kinds).filter(|(_, kind)| **kind == TokenKind::Normal);
    let least = normal.map(|(&score, _)| score).fold(f64::INFINITY, f64::min);
    let key = "tokenizer.ggml.unknown_token_id";
    let spelt = kinds.iter().position(|&kind| kind == TokenKind::Unknown).map(|id| id as u32);
    let unknown = require(token_id(metadata, key, kinds.len())?.or(spelt), key)?;
    let mut normalization = Vec::new();
    if let Some(table) = metadata.bytes("tokenizer.ggml.precompiled_charsmap")? {
        let (table, parts) = (table.to_vec(), Parts::Longest);
        normalization.push(Normalization::Charsmap { table, parts });
    }
    if metadata.bool(ONE_SPACE)? == Some(true) {
        normalization.push(Normalization::OneSpace);
    }
    let space_prefix = match metadata.bool(SPACE_PREFIX)? {
        Some(true) => SpacePrefix::EachText,
        _ => SpacePrefix::Nowhere,
    };
    Ok(Merging::Unigram(UnigramSpec {
        scores,
        unknown,
        unknown_score: least - text::UNKNOWN_PENALTY,
        normalization,
        space_prefix,
        cuts_at_spaces: false,
        bytes_are_text: false,
    }))
}

/// The control token that ends a turn, of a file that does not name one.
fn turn_end(metadata: &Metadata, (tokens, kinds): (&[String], &[TokenKind])) -> Option<u32> {
    if metadata.get("tokenizer.ggml.eot_token_id").is_some() {
        return None;
    }
    let is_end = |&id: &u32| {
        kinds[id as usize] == TokenKind::Control && TURN_ENDS.contains(&&*tokens[id as usize])
    };
    (0..tokens.len() as u32).find(is_end)
}

fn take(metadata: &mut Metadata, key: &str) -> Result<Vec<String>, LoadError> {
    require(metadata.take_texts(key)?, key)
}

fn token_kinds(metadata: &Metadata, token_count: usize) -> Result<Vec<TokenKind>, LoadError> {
    let key = "tokenizer.ggml.token_type";
    let numbers = require(metadata.i32s(key)?, key)?;
    if numbers.len() != token_count {
        let limit = format!("{token_count} entries, one for each token");
        return Err(bad(key, format!("an array of {}", numbers.len()), limit));
    }
    let kind = |(id, number): (usize, &i32)| match number {
        1 => Ok(TokenKind::Normal),
        2 => Ok(TokenKind::Unknown),
        3 => Ok(TokenKind::Control),
        4 => Ok(TokenKind::UserDefined),
        5 => Ok(TokenKind::Unused),
        6 => Ok(TokenKind::Byte),
        _ => Err(bad(key, format!("{number} for token {id}"), "1 to 6".to_string())),
    };
    numbers.iter().enumerate().map(kind).collect()
}

fn token_id(metadata: &Metadata, key: &str, count: usize) -> Result<Option<u32>, LoadError> {
    match metadata.u32(key)? {
        Some(id) if count <= id as usize => {
            Err(bad(key, id, format!("below {count}, the number of tokens")))
        }
        id => Ok(id),
    }
}
