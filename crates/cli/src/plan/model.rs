//! Which model is planned for.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};
use clap::Args;
use model::error::LoadError;
use model::file::ModelFile;
use model::gguf::Outline;
use plan::config_json;
use plan::dtype::WeightsDtype;
use plan::shape::{Experts, Shape, ShapeSizes, Style, Weights};

use crate::errors;
use crate::source::Source;

/// The model if nothing is said of one, as of `serve`.
const MODEL_DEFAULT: &str = "smollm2-135m";
/// Largest config.json that is read; those in use have a few kilobytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Options that give a shape, for messages.
const SHAPE_OPTIONS: &str = "--layers, --width, --heads, --ffn, --vocab and --max-model-len";

/// Which model.
#[derive(Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelOptions {
    /// The model: a name of the catalogue, a path to any .gguf file, dummy:SHAPE, a config.json or the
    /// folder that it is in, with the weights or without them, or a name of the Hugging Face hub
    /// (hf:ORG/NAME, of which nothing but config.json is fetched, or hf:ORG/NAME:FILE.gguf) [default:
    /// smollm2-135m].
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,

    /// The model, device and settings of a known report: seed.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "layers"])]
    preset: Option<String>,

    #[command(flatten)]
    shape: ShapeOptions,

    /// How weights are stored, in place of what config.json says: f32, f16, bf16; int8, fp8, int4
    /// (the matrices of layers, all else in 16 bits) [default: the model's, else f16].
    #[arg(long, value_name = "TYPE")]
    weights_dtype: Option<WeightsDtype>,
}

/// A shape by its numbers.
#[derive(Args)]
struct ShapeOptions {
    /// Transformer blocks of a model that is given by its numbers.
    #[arg(long, value_name = "N", conflicts_with = "model")]
    layers: Option<u64>,

    /// Width of its residual stream.
    #[arg(long, alias = "hidden-size", value_name = "N", requires = "layers")]
    width: Option<u64>,

    /// Its query heads.
    #[arg(long, value_name = "N", requires = "layers")]
    heads: Option<u64>,

    /// Its heads for keys and values [default: --heads].
    #[arg(long, value_name = "N", requires = "layers")]
    kv_heads: Option<u64>,

    /// Elements of a head [default: --width / --heads].
    #[arg(long, value_name = "N", requires = "layers")]
    head_dim: Option<u64>,

    /// Width inside its feed-forward part.
    #[arg(long, value_name = "N", requires = "layers")]
    ffn: Option<u64>,

    /// Its token ids.
    #[arg(long, value_name = "N", requires = "layers")]
    vocab: Option<u64>,

    /// Whose layers it has: llama, qwen2 (biases on queries, keys and values), qwen3 (norms on
    /// queries and keys), gemma2, gemma3, gpt2 (biases, two matrices, learned positions) [default:
    /// llama].
    #[arg(long, value_name = "NAME", requires = "layers", value_parser = style)]
    style: Option<Style>,

    /// Whether its embedding is the output head too [default: true].
    #[arg(long, value_name = "BOOL", requires = "layers")]
    tied_head: Option<bool>,
}

/// A model, as far as plans need it.
pub(super) struct Model {
    /// Its shape.
    pub(super) shape: Shape,
    /// Its file and the name it was given by, if this engine loads it.
    pub(super) ours: Option<(String, ModelFile)>,
    /// Its longest sequence.
    pub(super) context: u32,
}

impl ModelOptions {
    /// Whether the preset was asked for; there is one.
    pub(super) fn preset(&self) -> Result<bool> {
        match self.preset.as_deref() {
            None => Ok(false),
            Some("seed") => Ok(true),
            Some(other) => bail!("unknown --preset \"{other}\"; known: seed"),
        }
    }

    /// Reads what there is to read of it: a header, a config.json, or options. A model that is
    /// given by its numbers is as long as `max_model_len`.
    pub(super) fn open(&self, max_model_len: Option<u32>) -> Result<Model> {
        let mut model = match self.shape.layers {
            Some(layers) => Model::of(self.shape.shape(layers, max_model_len)?),
            None if self.preset()? => Model::of(Shape::seed()),
            None => self.open_named()?,
        };
        if let Some(dtype) = self.weights_dtype {
            ensure!(
                matches!(model.shape.weights, Weights::Typed(_)),
                "--weights-dtype: the file says how its weights are stored; leave it out"
            );
            model.shape.weights = Weights::Typed(dtype);
        }
        Ok(model)
    }

    fn open_named(&self) -> Result<Model> {
        let name = self.model.as_deref().unwrap_or(MODEL_DEFAULT);
        let source = Source::parse(name)?;
        let path = source.fetch_header()?.unwrap_or_else(|| PathBuf::from(name));
        if let Some(config) = config_path(&path) {
            // A config.json is named by its folder.
            let folder = config.parent().and_then(Path::file_name);
            let called = match (&source, folder) {
                (Source::Hub { .. }, _) => source.served_name(),
                (_, Some(folder)) => folder.to_string_lossy().into_owned(),
                (_, None) => name.to_owned(),
            };
            return configured(name, &path, &config, &called);
        }
        let file = match (source.open(), &source) {
            (Ok(file), _) => file,
            (Err(error), Source::File(_) | Source::Hub { .. }) => return outlined(&path, error),
            (Err(error), _) => return Err(error),
        };
        Model::ours(name, file)
    }
}

impl Model {
    /// The model in `file`, which this engine loads and which was given as `name`.
    fn ours(name: &str, file: ModelFile) -> Result<Model> {
        let called = Source::parse(name)?.served_name();
        let shape = Shape { name: called, ..Shape::of_file(&file) };
        Ok(Model { ours: Some((name.to_string(), file)), ..Model::of(shape) })
    }

    fn of(shape: Shape) -> Model {
        let context = u32::try_from(shape.sizes.positions).unwrap_or(u32::MAX);
        Model { shape, ours: None, context }
    }
}

impl ShapeOptions {
    fn shape(&self, layers: u64, max_model_len: Option<u32>) -> Result<Shape> {
        let need = |value: Option<u64>, option| {
            value.with_context(|| format!("{option} is missing: give {SHAPE_OPTIONS}"))
        };
        let width = need(self.width, "--width")?;
        let heads = need(self.heads, "--heads")?;
        ensure!(
            self.head_dim.is_some() || (heads != 0 && width.is_multiple_of(heads)),
            "--heads is {heads}; give a divisor of --width, {width}, or --head-dim"
        );
        let sizes = ShapeSizes {
            layers,
            width,
            heads,
            kv_heads: self.kv_heads.unwrap_or(heads),
            head_dim: self.head_dim.unwrap_or_else(|| width / heads),
            ffn: need(self.ffn, "--ffn")?,
            vocabulary: need(self.vocab, "--vocab")?,
            positions: need(max_model_len.map(u64::from), "--max-model-len")?,
        };
        sizes.check()?;
        Ok(Shape {
            name: "by its numbers".to_string(),
            sizes,
            style: self.style.unwrap_or(Style::LLAMA),
            experts: Experts::DENSE,
            tied_head: self.tied_head.unwrap_or(true),
            weights: Weights::Typed(WeightsDtype::F16),
            notes: Vec::new(),
        })
    }
}

/// The model that was given as `name` and is at `path`: the folder of `config`, or that file alone.
fn configured(name: &str, path: &Path, config: &Path, called: &str) -> Result<Model> {
    let refusal = match path.is_dir().then(|| ModelFile::open(path)) {
        Some(Ok(file)) => return Model::ours(name, file),
        // A folder of config.json alone is one to plan for.
        Some(Err(LoadError::NoWeights { .. })) | None => None,
        Some(Err(refusal)) => Some(Error::from(refusal)),
    };
    let mut shape = config_json::shape(called, &read(config)?)
        .with_context(|| format!("cannot plan for {}", config.display()))?;
    shape.notes.extend(refusal.map(|refusal| not_served("folder", &refusal)));
    Ok(Model::of(shape))
}

/// The model in a file that this engine does not load for the reason of `refusal`, if its header
/// can be read all the same.
fn outlined(path: &Path, refusal: Error) -> Result<Model> {
    let Ok(outline) = Outline::open(path) else { return Err(refusal) };
    let name = Source::File(path.to_path_buf()).served_name();
    let mut shape = plan::gguf::shape(&name, &outline)
        .with_context(|| format!("cannot plan for {}", path.display()))?;
    shape.notes.push(not_served("file", &refusal));
    Ok(Model::of(shape))
}

fn not_served(what: &str, refusal: &Error) -> String {
    format!("Millrace does not serve this {what} ({}); another engine may.", errors::line(refusal))
}

fn style(name: &str) -> Result<Style, String> {
    const STYLES: [(&str, Style); 6] = [
        ("llama", Style::LLAMA),
        ("qwen2", Style::QWEN2),
        ("qwen3", Style::QWEN3),
        ("gemma2", Style::GEMMA2),
        ("gemma3", Style::GEMMA3),
        ("gpt2", Style::GPT2),
    ];
    let found = STYLES.iter().find(|(known, _)| *known == name);
    found.map(|&(_, style)| style).ok_or_else(|| {
        format!("unknown style \"{name}\"; known: {}", STYLES.map(|(known, _)| known).join(", "))
    })
}

/// The config.json that `name` is the path of, or the folder of.
fn config_path(path: &Path) -> Option<PathBuf> {
    if path.extension().is_some_and(|extension| extension == "json") {
        return Some(path.to_path_buf());
    }
    path.is_dir().then(|| path.join("config.json"))
}

fn read(path: &Path) -> Result<String> {
    let said = || format!("cannot read {}", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(said)?;
    let bytes = file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).with_context(said)?;
    ensure!(
        bytes as u64 <= CONFIG_BYTES_MAX,
        "{} has more than {CONFIG_BYTES_MAX} bytes: it is no config.json",
        path.display()
    );
    Ok(text)
}
