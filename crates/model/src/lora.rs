//! LoRA adapters: what a folder of the peft library or a GGUF file adds to a model's products.
//!
//! An adapter has two small matrices for some of the model's, `a` `[rank, cols]` and `b` `[rows, rank]`, and
//! adds `scale · x·aᵀ·bᵀ` to the product of `x`, the activations as floats. Everything is checked against
//! the model before a tensor is read: a file can ask for no more memory than the model's shapes and
//! [`RANK_MAX`] allow.

mod gguf;
mod peft;

use std::collections::BTreeMap;
use std::path::Path;

use kernels::blocks::{BlockKind, dequantise};
use kernels::low_rank::{Factors, LowRank};
use kernels::rope::Pairing;

use crate::architecture::FeedForwardKind;
use crate::config::ModelConfig;
use crate::error::{LoadError, Shape};

/// Greatest rank of an update.
pub const RANK_MAX: u64 = 512;

/// An adapter, ready to be computed with.
pub struct Adapter {
    layers: Vec<LayerUpdates>,
    scratch: usize,
}

/// What it adds in one layer, by [`Site`].
#[derive(Default)]
struct LayerUpdates([Option<LowRank>; Site::COUNT]);

/// Products that share their activations, which updates are added to together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// Queries, keys and values, side by side.
    Qkv,
    /// Attention's output.
    AttentionOutput,
    /// Gates and ups side by side, or ups alone where there are no gates.
    Up,
    /// Down.
    Down,
}

impl Site {
    const COUNT: usize = 4;
}

impl Adapter {
    /// Numbers of scratch that a token needs where ranks are greatest.
    pub fn scratch(&self) -> usize {
        self.scratch
    }

    /// What is added in `layer` at `site`, if anything is.
    pub fn update(&self, layer: usize, site: Site) -> Option<&LowRank> {
        self.layers[layer].0[site as usize].as_ref()
    }
}

/// A matrix of the model that adapters may change.
#[derive(Debug, Clone)]
struct Target {
    layer: usize,
    site: Site,
    /// First column of the site's product that is the matrix's.
    column: usize,
    rows: usize,
    cols: usize,
    /// Heads whose numbers are rotated, and the order in which the model has their rows.
    rotated: Option<(usize, Pairing)>,
}

/// One half of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    A,
    B,
}

/// A tensor of an adapter, as far as the header tells.
#[derive(Debug, Clone)]
struct Stored {
    /// Its name in the file.
    name: String,
    kind: BlockKind,
    shape: Shape,
}

/// Where an adapter's bytes are.
trait TensorSource: Send {
    fn read(&mut self, name: &str, bytes: &mut Vec<u8>) -> Result<(), LoadError>;
}

/// What is read of an adapter before its tensors are.
struct Header {
    source: Box<dyn TensorSource>,
    /// Each with the model's matrix that it is for, by its name in GGUF without `.weight`.
    tensors: Vec<(String, Half, Stored)>,
    scale: Scale,
    /// The order of rows that are rotated.
    order: Pairing,
}

/// What updates are multiplied with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    /// A number divided by the rank.
    ByRank(f32),
    /// A number divided by the root of the rank.
    ByRoot(f32),
}

impl Scale {
    fn of(self, rank: usize) -> f32 {
        match self {
            Scale::ByRank(alpha) => alpha / rank as f32,
            Scale::ByRoot(alpha) => alpha / (rank as f32).sqrt(),
        }
    }
}

/// An adapter that is checked against its model, and whose tensors are still to be read.
pub struct AdapterFile {
    source: Box<dyn TensorSource>,
    layer_count: usize,
    /// In the order of layers and sites.
    updates: Vec<Update>,
    scale: Scale,
    order: Pairing,
}

struct Update {
    target: Target,
    rank: usize,
    a: Stored,
    b: Stored,
}

impl AdapterFile {
    /// Opens the adapter at `path`, a folder as the peft library writes them or a GGUF file, for the model
    /// of `config`. Refuses, by name, whatever it would change beside the matrices of attention and
    /// feed-forward parts.
    pub fn open(path: &Path, config: &ModelConfig) -> Result<AdapterFile, LoadError> {
        let header =
            if path.is_dir() { peft::open(path, config)? } else { gguf::open(path, config)? };
        AdapterFile::new(header, config)
    }

    fn new(header: Header, config: &ModelConfig) -> Result<AdapterFile, LoadError> {
        let targets = targets(config);
        let mut halves: BTreeMap<String, [Option<Stored>; 2]> = BTreeMap::new();
        for (target, half, stored) in header.tensors {
            if !targets.contains_key(&target) {
                let why = what_may_change(config);
                return Err(LoadError::AdapterTensor { name: stored.name, why });
            }
            let place = &mut halves.entry(target).or_default()[half as usize];
            if place.is_some() {
                return Err(LoadError::DuplicateTensor { name: stored.name });
            }
            *place = Some(stored);
        }
        if halves.is_empty() {
            let (name, why) = ("lora_A".to_string(), "the adapter has no tensors".to_string());
            return Err(LoadError::AdapterTensor { name, why });
        }
        let update = |(name, halves): (String, [Option<Stored>; 2])| {
            Update::new(targets[&name].clone(), halves)
        };
        let mut updates: Vec<_> = halves.into_iter().map(update).collect::<Result<_, _>>()?;
        updates.sort_by_key(|Update { target, .. }| (target.layer, target.site, target.column));
        let Header { source, scale, order, .. } = header;
        Ok(AdapterFile { source, layer_count: config.layer_count, updates, scale, order })
    }

    /// The updates that are added together.
    fn by_site(&self) -> impl Iterator<Item = &[Update]> {
        self.updates.chunk_by(is_same_site)
    }

    /// Bytes that the adapter takes once it is loaded.
    pub fn bytes(&self) -> u64 {
        let site = |updates: &[Update]| {
            let sizes = updates.iter().map(|update| (update.rank, update.target.rows));
            LowRank::bytes_of(updates[0].target.cols, sizes) as u64
        };
        self.by_site().map(site).sum()
    }

    /// [`Adapter::scratch`] of the adapter once it is loaded.
    pub fn scratch(&self) -> usize {
        let site = |updates: &[Update]| LowRank::scratch_of(updates.iter().map(|one| one.rank));
        self.by_site().map(site).max().unwrap_or(0)
    }

    /// Reads the tensors, those of one site at a time.
    pub fn load(mut self) -> Result<Adapter, LoadError> {
        let mut layers: Vec<LayerUpdates> = Vec::new();
        layers.resize_with(self.layer_count, LayerUpdates::default);
        let mut bytes = Vec::new();
        for updates in self.updates.chunk_by(is_same_site) {
            let mut halves = Vec::with_capacity(updates.len());
            for Update { target, rank, a, b } in updates {
                let a = a.read(&mut *self.source, &mut bytes)?;
                let mut b = b.read(&mut *self.source, &mut bytes)?;
                let scale = self.scale.of(*rank);
                b.iter_mut().for_each(|value| *value *= scale);
                if let Some((heads, order)) = target.rotated.filter(|own| own.1 != self.order) {
                    b = reordered(&b, (heads, target.rows / heads), (*rank, order));
                }
                halves.push((a, b));
            }
            let Target { layer, site, cols, .. } = updates[0].target;
            let factors: Vec<_> = (updates.iter().zip(&halves))
                .map(|(Update { rank, target, .. }, (a, b))| Factors {
                    a,
                    b,
                    rank: *rank,
                    column: target.column,
                })
                .collect();
            layers[layer].0[site as usize] = Some(LowRank::new(cols, &factors));
        }
        let scratch = self.scratch();
        Ok(Adapter { layers, scratch })
    }
}

fn is_same_site(one: &Update, other: &Update) -> bool {
    (one.target.layer, one.target.site) == (other.target.layer, other.target.site)
}

impl Update {
    /// Of both halves, whose shapes must be those of `target` and of one rank.
    fn new(target: Target, halves: [Option<Stored>; 2]) -> Result<Update, LoadError> {
        let (a, b) = match halves {
            [Some(a), Some(b)] => (a, b),
            [Some(one), None] | [None, Some(one)] => {
                let why = "the other half of the update is missing".to_string();
                return Err(LoadError::AdapterTensor { name: one.name, why });
            }
            [None, None] => unreachable!("an entry is made for a tensor"),
        };
        let rank = a.shape.0[0];
        if RANK_MAX < rank {
            let place = format!("tensor `{}`: its rank", a.name);
            return Err(LoadError::TooMany { place, found: rank, limit: RANK_MAX });
        }
        let (rows, cols) = (target.rows as u64, target.cols as u64);
        for (half, expected) in [(&a, [rank, cols]), (&b, [rows, rank])] {
            if half.shape.0 != expected {
                let (name, shape) = (half.name.clone(), half.shape.clone());
                let expected = Shape(expected.to_vec());
                return Err(LoadError::TensorMismatch { name, shape, expected });
            }
        }
        Ok(Update { target, rank: rank as usize, a, b })
    }
}

impl Stored {
    fn read(
        &self,
        source: &mut dyn TensorSource,
        bytes: &mut Vec<u8>,
    ) -> Result<Vec<f32>, LoadError> {
        source.read(&self.name, bytes)?;
        let mut values = vec![0.0; self.shape.0.iter().product::<u64>() as usize];
        dequantise(self.kind, bytes, &mut values);
        Ok(values)
    }
}

/// The rows of each head, which are in the other order, in this one.
fn reordered(
    values: &[f32],
    (heads, head_rows): (usize, usize),
    (cols, order): (usize, Pairing),
) -> Vec<f32> {
    let half = head_rows / 2;
    let mut ordered = Vec::with_capacity(values.len());
    for head in 0..heads {
        for row in 0..head_rows {
            let from = match order {
                Pairing::Adjacent => row % 2 * half + row / 2,
                Pairing::Halves => row % half * 2 + row / half,
            };
            let from = head * head_rows + from;
            ordered.extend_from_slice(&values[from * cols..(from + 1) * cols]);
        }
    }
    ordered
}

/// The matrices that adapters may change, by their names in GGUF without `.weight`.
fn targets(config: &ModelConfig) -> BTreeMap<String, Target> {
    let mut targets = BTreeMap::new();
    for layer in 0..config.layer_count {
        for Part { name, site, column, rows, cols, rotated } in parts(config) {
            let target = Target { layer, site, column, rows, cols, rotated };
            targets.insert(format!("blk.{layer}.{name}"), target);
        }
    }
    targets
}

/// A [`Target`] of every layer.
struct Part {
    name: &'static str,
    site: Site,
    column: usize,
    rows: usize,
    cols: usize,
    rotated: Option<(usize, Pairing)>,
}

fn parts(config: &ModelConfig) -> Vec<Part> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (query, kv) = (config.query_size(), config.kv_size());
    let order = config.rope.as_ref().map(|rope| rope.pairing);
    let part =
        |name, site, column, (rows, cols)| Part { name, site, column, rows, cols, rotated: None };
    let rotated = |part: Part, heads| Part { rotated: order.map(|order| (heads, order)), ..part };
    let mut parts = if config.architecture.fused_qkv {
        vec![part("attn_qkv", Site::Qkv, 0, (query + 2 * kv, hidden))]
    } else {
        vec![
            rotated(part("attn_q", Site::Qkv, 0, (query, hidden)), config.head_count),
            rotated(part("attn_k", Site::Qkv, query, (kv, hidden)), config.kv_head_count),
            part("attn_v", Site::Qkv, query + kv, (kv, hidden)),
        ]
    };
    parts.push(part("attn_output", Site::AttentionOutput, 0, (hidden, query)));
    if config.experts.is_some() {
        return parts;
    }
    match config.architecture.feed_forward {
        FeedForwardKind::Gated => {
            parts.push(part("ffn_gate", Site::Up, 0, (inner, hidden)));
            parts.push(part("ffn_up", Site::Up, inner, (inner, hidden)));
        }
        FeedForwardKind::FusedGated => {
            parts.push(part("ffn_up", Site::Up, 0, (2 * inner, hidden)));
        }
        FeedForwardKind::Plain => parts.push(part("ffn_up", Site::Up, 0, (inner, hidden))),
    }
    parts.push(part("ffn_down", Site::Down, 0, (hidden, inner)));
    parts
}

/// What adapters may change, for messages.
fn what_may_change(config: &ModelConfig) -> String {
    let names: Vec<_> = parts(config).iter().map(|part| part.name).collect();
    let (names, layers) = (names.join(", "), config.layer_count);
    format!("adapters of this model change {names} of its {layers} layers alone")
}
