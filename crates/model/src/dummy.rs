//! Models with random weights, made in memory from a seed: for tests, and for measuring without a
//! download. What is made is a GGUF file, which is then loaded like any other.

mod vocabulary;

use std::io::Cursor;

use half::{bf16, f16};
use kernels::blocks::{BLOCK, BlockKind, dequantise};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::{
    architecture::{Architecture, Positions},
    config::{ExpectedTensor, ModelConfig, OptionalTensors},
    error::LoadError,
    file::ModelFile,
    gguf::{Entry, Gguf, GgufWriter},
};

pub use vocabulary::VOCABULARY_MIN;

/// Standard deviation of the logits, about. Large enough that some tokens are clearly more likely
/// than others; small enough that, with a tied head, a token does not simply predict itself.
const LOGIT_DEVIATION: f32 = 2.0;

/// Turns of a dialogue in ChatML, the form of the default model.
const CHAT_TEMPLATE: &str = "\
{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// The shape of a model with random weights.
#[derive(Debug, Clone)]
pub struct DummyShape {
    /// What the file calls itself.
    pub name: String,
    /// The family, by its name in files.
    pub architecture: &'static str,
    /// Further keys of the family with their values.
    pub keys: Vec<(&'static str, u32)>,
    /// Number of tokens, at least [`VOCABULARY_MIN`].
    pub vocab_size: u32,
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Width inside the feed-forward part.
    pub intermediate_size: u32,
    /// Number of transformer blocks.
    pub layer_count: u32,
    /// Query heads in a layer.
    pub head_count: u32,
    /// Key and value heads in a layer, a divisor of `head_count`.
    pub kv_head_count: u32,
    /// Elements of a head, even.
    pub head_dim: u32,
    /// Longest sequence.
    pub context_length: u32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// How the embedding, and the head if it is not tied, are stored.
    pub embedding_kind: BlockKind,
    /// How all other matrices are stored. Norms and biases are always F32.
    pub linear_kind: BlockKind,
    /// True if the embedding serves as the head.
    pub tied_head: bool,
}

/// The model that follows `dummy:` on the command line, made from `seed`.
pub fn open(name: &str, seed: u64) -> Result<ModelFile, LoadError> {
    DummyShape::named(name)?.open(seed)
}

impl DummyShape {
    /// The names that [`DummyShape::named`] knows.
    pub const NAMES: [&'static str; 4] = ["smollm2-135m", "tiny", "seed", "seed-bf16"];

    /// The shape of that name.
    pub fn named(name: &str) -> Result<Self, LoadError> {
        match name {
            "smollm2-135m" => Ok(Self::smollm2_135m()),
            "tiny" => Ok(Self::tiny()),
            "seed" => Ok(Self::seed("dummy:seed", BlockKind::Q8_0)),
            "seed-bf16" => Ok(Self::seed("dummy:seed-bf16", BlockKind::Bf16)),
            _ => Err(LoadError::UnknownDummy {
                name: name.to_string(),
                known: Self::NAMES.join(", "),
            }),
        }
    }

    /// The default model's shape, tensor types included. Source: the header of
    /// `SmolLM2-135M-Instruct.Q4_1.gguf`.
    pub fn smollm2_135m() -> Self {
        Self {
            name: "dummy:smollm2-135m".to_string(),
            architecture: "llama",
            keys: Vec::new(),
            vocab_size: 49_152,
            hidden_size: 576,
            intermediate_size: 1536,
            layer_count: 30,
            head_count: 9,
            kv_head_count: 3,
            head_dim: 64,
            context_length: 8192,
            rope_theta: 100_000.0,
            embedding_kind: BlockKind::Q8_0,
            linear_kind: BlockKind::Q4_1,
            tied_head: true,
        }
    }

    /// A model of about 0.1 million parameters, for tests.
    pub fn tiny() -> Self {
        Self {
            name: "dummy:tiny".to_string(),
            architecture: "llama",
            keys: Vec::new(),
            vocab_size: 320,
            hidden_size: 64,
            intermediate_size: 160,
            layer_count: 2,
            head_count: 4,
            kv_head_count: 2,
            head_dim: 32,
            context_length: 512,
            rope_theta: 10_000.0,
            embedding_kind: BlockKind::Q8_0,
            linear_kind: BlockKind::Q4_1,
            tied_head: true,
        }
    }

    /// The model of the seed report (`bench --preset seed`): GPT-2's layers. Its report says
    /// neither vocabulary nor positions; these go with its length limit and its size.
    pub fn seed(name: &str, kind: BlockKind) -> Self {
        Self {
            name: name.to_string(),
            architecture: "gpt2",
            keys: Vec::new(),
            vocab_size: 8194,
            hidden_size: 1280,
            intermediate_size: 5120,
            layer_count: 24,
            head_count: 20,
            kv_head_count: 20,
            head_dim: 64,
            context_length: 1818,
            rope_theta: 10_000.0,
            embedding_kind: kind,
            linear_kind: kind,
            tied_head: true,
        }
    }

    /// Makes the model and opens it. The errors are those of a file: a shape whose numbers do not
    /// fit together is refused like one.
    pub fn open(&self, seed: u64) -> Result<ModelFile, LoadError> {
        ModelFile::from_bytes(self.gguf(seed))
    }

    /// The model as the bytes of a GGUF file; equal shapes and seeds give equal bytes.
    ///
    /// # Panics
    /// If `vocab_size` is less than [`VOCABULARY_MIN`], or a row is not a whole number of blocks.
    pub fn gguf(&self, seed: u64) -> Vec<u8> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut writer = GgufWriter::new();
        self.write_metadata(&mut writer);
        vocabulary::write(&mut writer, self.vocab_size as usize, &mut random);
        writer.entry("tokenizer.chat_template", &Entry::Text(CHAT_TEMPLATE));
        self.write_tensors(&mut writer, &mut random);
        writer.finish()
    }

    fn write_metadata(&self, writer: &mut GgufWriter) {
        let architecture = self.family();
        let mut number = |part: &str, value: u32| {
            writer.entry(&architecture.key(part), &Entry::U32(value));
        };
        number("vocab_size", self.vocab_size);
        number("context_length", self.context_length);
        number("embedding_length", self.hidden_size);
        number("feed_forward_length", self.intermediate_size);
        number("block_count", self.layer_count);
        number("attention.head_count", self.head_count);
        number("attention.head_count_kv", self.kv_head_count);
        number("attention.key_length", self.head_dim);
        number("attention.value_length", self.head_dim);
        self.keys.iter().for_each(|&(part, value)| number(part, value));
        if architecture.positions != Positions::Learned {
            number("rope.dimension_count", self.head_dim);
            writer.entry(&architecture.key("rope.freq_base"), &Entry::F32(self.rope_theta));
        }
        writer
            .entry(&architecture.key(architecture.norm_eps_key()), &Entry::F32(1e-5))
            .entry("general.architecture", &Entry::Text(architecture.name))
            .entry("general.name", &Entry::Text(&self.name));
    }

    fn family(&self) -> &'static Architecture {
        Architecture::named(self.architecture).expect("shapes are of families that are known")
    }

    /// The hyper-parameters of the file, if its numbers fit together.
    fn config(&self) -> Result<ModelConfig, LoadError> {
        let mut writer = GgufWriter::new();
        self.write_metadata(&mut writer);
        let gguf = Gguf::parse(Cursor::new(writer.finish()))?;
        let optional = OptionalTensors {
            head: !self.tied_head,
            ..OptionalTensors::of(self.family(), |_| false)
        };
        ModelConfig::from_metadata(
            gguf.metadata(),
            (self.family(), optional),
            self.vocab_size as usize,
        )
    }

    fn write_tensors(&self, writer: &mut GgufWriter, random: &mut ChaCha8Rng) {
        // Of numbers that do not fit together no tensors follow, and the file is refused for them.
        let tensors = self.config().map_or(Vec::new(), |config| config.expected_tensors());
        let mut bytes = Vec::new();
        for ExpectedTensor { name, shape } in tensors {
            let is_norm = name.contains("norm");
            if shape.0.len() == 1 {
                let middle = if is_norm && name.ends_with("weight") { 1.0 } else { 0.0 };
                let mut number = || (middle + 0.1 * signed(random)).to_le_bytes();
                let bytes: Vec<u8> = (0..shape.0[0]).flat_map(|_| number()).collect();
                writer.tensor(&name, BlockKind::F32, &shape.0, &bytes);
                continue;
            }
            let (kind, deviation) = self.matrix(&name, *shape.0.last().expect("a matrix") as f32);
            let values: u64 = shape.0.iter().product();
            let blocks = values as usize / kind.block_len();
            random_blocks(kind, blocks, deviation, random, &mut bytes);
            writer.tensor(&name, kind, &shape.0, &bytes);
        }
    }

    /// Kind and deviation of a matrix. An input row has a mean square of 1, so each product's
    /// deviation is that of the weights times the root of the columns.
    fn matrix(&self, name: &str, cols: f32) -> (BlockKind, f32) {
        let head_deviation = LOGIT_DEVIATION / cols.sqrt();
        match name {
            "token_embd.weight" if !self.tied_head => (self.embedding_kind, 1.0),
            "token_embd.weight" | "output.weight" => (self.embedding_kind, head_deviation),
            "position_embd.weight" => (self.linear_kind, head_deviation),
            _ => (self.linear_kind, cols.sqrt().recip()),
        }
    }
}

/// Overwrites `bytes` with blocks whose values have mean 0 and, about, that standard deviation.
///
/// Quantised blocks get random codes, all of them equally often, and a random scale around the
/// fitting one. Where codes are not symmetric, the minimum makes them so, or, in kinds without a
/// minimum, the scale's sign does on average.
fn random_blocks(
    kind: BlockKind,
    block_count: usize,
    deviation: f32,
    random: &mut ChaCha8Rng,
    bytes: &mut Vec<u8>,
) {
    bytes.clear();
    bytes.reserve(block_count * kind.block_bytes());
    // Of evenly spread values in [-1, 1] the deviation is 1/√3.
    let even = deviation * 3.0_f32.sqrt();
    for _ in 0..block_count {
        match kind {
            BlockKind::F32 => bytes.extend((even * signed(random)).to_le_bytes()),
            BlockKind::F16 => bytes.extend(f16::from_f32(even * signed(random)).to_le_bytes()),
            BlockKind::Bf16 => bytes.extend(bf16::from_f32(even * signed(random)).to_le_bytes()),
            BlockKind::Q8_0
            | BlockKind::Q4_0
            | BlockKind::Q4_1
            | BlockKind::Q5_0
            | BlockKind::Q5_1 => random_quantised_block(kind, even, random, bytes),
            BlockKind::Mxfp4 => random_mxfp4_block(deviation, random, bytes),
            _ => random_scaled_block(kind, deviation, random, bytes),
        }
    }
}

fn random_quantised_block(
    kind: BlockKind,
    even: f32,
    random: &mut ChaCha8Rng,
    bytes: &mut Vec<u8>,
) {
    // Codes reach this far on both sides of their middle.
    let reach = match kind {
        BlockKind::Q8_0 => 127.5,
        BlockKind::Q5_0 | BlockKind::Q5_1 => 15.5,
        _ => 7.5,
    };
    let size = even / reach * (0.8 + 0.4 * unit(random));
    if kind.has_minimum() {
        bytes.extend(f16::from_f32(size).to_le_bytes());
        bytes.extend(f16::from_f32(-reach * size).to_le_bytes());
    } else {
        let sign = if unit(random) < 0.5 { -1.0 } else { 1.0 };
        bytes.extend(f16::from_f32(sign * size).to_le_bytes());
    }
    let scales = if kind.has_minimum() { 4 } else { 2 };
    let mut codes = [0; BLOCK];
    let codes = &mut codes[..kind.block_bytes() - scales];
    random.fill_bytes(codes);
    bytes.extend_from_slice(codes);
}

/// A block of random codes and factors; its scale and its minimum are what gives just these the mean
/// 0, in kinds with a minimum, and the deviation.
fn random_scaled_block(
    kind: BlockKind,
    deviation: f32,
    random: &mut ChaCha8Rng,
    bytes: &mut Vec<u8>,
) {
    let start = bytes.len();
    bytes.resize(start + kind.block_bytes(), 0);
    let block = &mut bytes[start..];
    random.fill_bytes(block);
    let count = kind.block_len() as f32;
    let mean = |values: &[f32]| values.iter().sum::<f32>() / count;
    let mut values = vec![0.0; kind.block_len()];
    let mut with_scales = |scale: f32, minimum: f32| {
        for (&at, number) in kind.halves().iter().zip([scale, minimum]) {
            block[at..at + 2].copy_from_slice(&f16::from_f32(number).to_le_bytes());
        }
        dequantise(kind, block, &mut values);
        (mean(&values), values.iter().map(|x| x * x).sum::<f32>() / count)
    };
    let mut minimum = 0.0;
    if kind.has_minimum() {
        // Minimums are subtracted, and their factors are not all zero.
        minimum = with_scales(1.0, 0.0).0 / -with_scales(0.0, 1.0).0.min(-1.0);
    }
    let scale = deviation / with_scales(1.0, minimum).1.sqrt().max(1.0);
    with_scales(scale, scale * minimum);
}

/// A block of random codes; its scale is one of two powers of two, so that the mean square is right.
fn random_mxfp4_block(deviation: f32, random: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    // The mean square of E2M1's values.
    let unscaled = deviation * deviation / 8.5625;
    let lower = unscaled.log2().div_euclid(2.0);
    let chance_of_lower = (4.0 - unscaled / (2.0 * lower).exp2()) / 3.0;
    let exponent = lower + f32::from(u8::from(chance_of_lower <= unit(random)));
    let start = bytes.len();
    bytes.resize(start + BlockKind::Mxfp4.block_bytes(), 0);
    random.fill_bytes(&mut bytes[start..]);
    bytes[start] = (127.0 + exponent) as u8;
}

/// A number in [0, 1).
fn unit(random: &mut ChaCha8Rng) -> f32 {
    (random.next_u32() >> 8) as f32 / (1_u32 << 24) as f32
}

/// A number in [-1, 1).
fn signed(random: &mut ChaCha8Rng) -> f32 {
    2.0 * unit(random) - 1.0
}
