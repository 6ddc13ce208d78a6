//! A decoder's shape: what its size in memory and the work of its steps follow from.

use std::ops::RangeInclusive;

use model::architecture::{FeedForwardKind, NormKind, Positions};
use model::config::ModelConfig;
use model::file::ModelFile;

use crate::dtype::{KvDtype, WeightsDtype};
use crate::error::{PlanError, bad};

/// Bounds of a shape's numbers: generous for every model in use, and small enough that no sum of
/// products overflows 64 bits.
pub mod bounds {
    use std::ops::RangeInclusive;

    /// Transformer blocks.
    pub const LAYERS: RangeInclusive<u64> = 1..=1024;
    /// Width of the residual stream, and of the feed-forward part.
    pub const WIDTH: RangeInclusive<u64> = 1..=1 << 18;
    /// Heads of a layer.
    pub const HEADS: RangeInclusive<u64> = 1..=4096;
    /// Elements of a head.
    pub const HEAD_DIM: RangeInclusive<u64> = 1..=1024;
    /// Feed-forward parts of a layer.
    pub const EXPERTS: RangeInclusive<u64> = 1..=1024;
    /// Token ids.
    pub const VOCABULARY: RangeInclusive<u64> = 1..=1 << 24;
    /// Longest sequence.
    pub const POSITIONS: RangeInclusive<u64> = 1..=1 << 24;
}

/// The shape of a decoder with attention in every layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// What it is called.
    pub name: String,
    /// Its numbers.
    pub sizes: ShapeSizes,
    /// What its layers are made of.
    pub style: Style,
    /// The feed-forward parts of each layer.
    pub experts: Experts,
    /// True if the embedding serves as the output head too.
    pub tied_head: bool,
    /// What the weights take.
    pub weights: Weights,
    /// What whoever reads the sums must know, in sentences.
    pub notes: Vec<String>,
}

/// The numbers of a shape, each within its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapeSizes {
    /// Transformer blocks.
    pub layers: u64,
    /// Width of the residual stream.
    pub width: u64,
    /// Query heads of a layer.
    pub heads: u64,
    /// Key and value heads of a layer, a divisor of `heads`.
    pub kv_heads: u64,
    /// Elements of a head.
    pub head_dim: u64,
    /// Width inside the feed-forward part; inside one of them where there are several.
    pub ffn: u64,
    /// Token ids.
    pub vocabulary: u64,
    /// Longest sequence, in tokens.
    pub positions: u64,
}

/// What the layers of a family of models are made of, beside their sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Three matrices in the feed-forward part (gate, up, down) and not two.
    pub gated: bool,
    /// Biases on queries, keys and values.
    pub qkv_bias: bool,
    /// A bias on attention's output.
    pub output_bias: bool,
    /// Biases in the feed-forward part.
    pub ffn_bias: bool,
    /// Biases on norms (LayerNorm, not RMSNorm).
    pub norm_bias: bool,
    /// Norms of the whole width in each layer.
    pub layer_norms: u64,
    /// Norms of queries and keys in each layer, each of a head's size.
    pub head_norms: bool,
    /// A learned vector for each position.
    pub learned_positions: bool,
}

impl Style {
    /// Llama, Mistral, Phi-3, Gemma 1 and many others.
    pub const LLAMA: Style = Style {
        gated: true,
        qkv_bias: false,
        output_bias: false,
        ffn_bias: false,
        norm_bias: false,
        layer_norms: 2,
        head_norms: false,
        learned_positions: false,
    };
    /// Qwen2 and Qwen2.5.
    pub const QWEN2: Style = Style { qkv_bias: true, ..Style::LLAMA };
    /// Qwen3.
    pub const QWEN3: Style = Style { head_norms: true, ..Style::LLAMA };
    /// Gemma 2.
    pub const GEMMA2: Style = Style { layer_norms: 4, ..Style::LLAMA };
    /// Gemma 3.
    pub const GEMMA3: Style = Style { head_norms: true, ..Style::GEMMA2 };
    /// GPT-2.
    pub const GPT2: Style = Style {
        gated: false,
        qkv_bias: true,
        output_bias: true,
        ffn_bias: true,
        norm_bias: true,
        layer_norms: 2,
        head_norms: false,
        learned_positions: true,
    };
}

impl Style {
    /// What a file that this engine loads says of itself.
    fn of_config(config: &ModelConfig) -> Style {
        let family = config.architecture;
        Style {
            gated: family.feed_forward != FeedForwardKind::Plain,
            qkv_bias: config.optional.qkv_bias,
            output_bias: config.optional.output_bias,
            ffn_bias: family.feed_forward_bias,
            norm_bias: family.norm == NormKind::Layer,
            layer_norms: if family.post_norms { 4 } else { 2 },
            head_norms: family.head_norms,
            learned_positions: family.positions == Positions::Learned,
        }
    }
}

/// The feed-forward parts of a layer: one, or several of which a token takes some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// How many there are.
    pub count: u64,
    /// How many a token takes.
    pub used: u64,
    /// Width inside the part that every token takes beside them; 0 if there is none.
    pub shared_ffn: u64,
}

impl Experts {
    /// A single part that every token takes.
    pub const DENSE: Experts = Experts { count: 1, used: 1, shared_ffn: 0 };

    /// Refuses numbers that do not go with each other.
    pub fn check(&self) -> Result<(), PlanError> {
        let Experts { count, used, shared_ffn } = *self;
        if !bounds::EXPERTS.contains(&count) {
            return Err(bad("the number of experts", count, "1 to 1024"));
        }
        if !(1..=count).contains(&used) {
            return Err(bad("the number of experts of a token", used, format!("1 to {count}")));
        }
        if *bounds::WIDTH.end() < shared_ffn {
            return Err(bad("the width of the shared expert", shared_ffn, bounds::WIDTH.end()));
        }
        Ok(())
    }
}

/// What the weights take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// So much for each parameter.
    Typed(WeightsDtype),
    /// What a file's header says.
    Exact {
        /// All weights, in bytes.
        bytes: u64,
        /// The embedding's part of them.
        embedding_bytes: u64,
    },
}

impl ShapeSizes {
    /// Refuses numbers outside their bounds and heads that do not go with each other.
    pub fn check(&self) -> Result<(), PlanError> {
        let numbers: [(&str, u64, RangeInclusive<u64>); 8] = [
            ("the number of layers", self.layers, bounds::LAYERS),
            ("the width", self.width, bounds::WIDTH),
            ("the number of heads", self.heads, bounds::HEADS),
            ("the number of key and value heads", self.kv_heads, bounds::HEADS),
            ("the size of a head", self.head_dim, bounds::HEAD_DIM),
            ("the feed-forward width", self.ffn, bounds::WIDTH),
            ("the size of the vocabulary", self.vocabulary, bounds::VOCABULARY),
            ("the number of positions", self.positions, bounds::POSITIONS),
        ];
        for (what, value, range) in numbers {
            if !range.contains(&value) {
                return Err(bad(what, value, format!("{} to {}", range.start(), range.end())));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let limit = format!("a divisor of the number of heads, {}", self.heads);
            return Err(bad("the number of key and value heads", self.kv_heads, limit));
        }
        Ok(())
    }

    /// Elements of a token's queries in a layer.
    pub const fn query_width(&self) -> u64 {
        self.heads * self.head_dim
    }

    /// Elements of a token's keys, and of its values, in a layer.
    pub const fn kv_width(&self) -> u64 {
        self.kv_heads * self.head_dim
    }
}

impl Shape {
    /// The seed report's model: GPT-2's layers, 24 of width 1280 with 20 heads, in half precision.
    ///
    /// Its report says neither vocabulary nor positions. 8,194 and 1,818 are what its length
    /// limit and its size of half a billion parameters go with.
    pub fn seed() -> Shape {
        Shape {
            name: "seed".to_string(),
            sizes: ShapeSizes {
                layers: 24,
                width: 1280,
                heads: 20,
                kv_heads: 20,
                head_dim: 64,
                ffn: 4 * 1280,
                vocabulary: 8194,
                positions: 1818,
            },
            style: Style::GPT2,
            experts: Experts::DENSE,
            tied_head: true,
            weights: Weights::Typed(WeightsDtype::F16),
            notes: Vec::new(),
        }
    }

    /// The shape of a file that this engine loads, with its weights as they are packed.
    pub fn of_file(file: &ModelFile) -> Shape {
        let ModelConfig {
            vocab_size,
            hidden_size,
            intermediate_size,
            layer_count,
            head_count,
            kv_head_count,
            head_dim,
            context_length,
            ref experts,
            ..
        } = file.config;
        let embedding = file.tensor("token_embd.weight").map_or(0, |tensor| tensor.size);
        Shape {
            name: file.name.clone().unwrap_or_default(),
            sizes: ShapeSizes {
                layers: layer_count as u64,
                width: hidden_size as u64,
                heads: head_count as u64,
                kv_heads: kv_head_count as u64,
                head_dim: head_dim as u64,
                ffn: intermediate_size as u64,
                vocabulary: vocab_size as u64,
                positions: context_length as u64,
            },
            style: Style::of_config(&file.config),
            experts: experts.map_or(Experts::DENSE, |experts| Experts {
                count: experts.count as u64,
                used: experts.used as u64,
                shared_ffn: 0,
            }),
            tied_head: file.config.tied_head(),
            weights: Weights::Exact {
                bytes: model::weights::Weights::bytes_of(file),
                embedding_bytes: embedding,
            },
            notes: Vec::new(),
        }
    }

    /// Multiply-adds of a token with the matrices of all layers: elements of those that it takes.
    pub fn layer_matrices(&self) -> u64 {
        self.matrices_with(self.experts.used)
    }

    /// Elements of the matrices of all layers, those of all experts included.
    pub fn layer_elements(&self) -> u64 {
        self.matrices_with(self.experts.count)
    }

    /// Elements of all layers with so many experts each, and with what chooses them.
    fn matrices_with(&self, experts: u64) -> u64 {
        let ShapeSizes { layers, width, ffn, .. } = self.sizes;
        let Experts { count, shared_ffn, .. } = self.experts;
        let attention = 2 * width * (self.sizes.query_width() + self.sizes.kv_width());
        let parts = experts * ffn + shared_ffn;
        let feed_forward = (2 + u64::from(self.style.gated)) * width * parts;
        let router = if 1 < count { width * count } else { 0 };
        let shared_gate = if 0 < shared_ffn { width } else { 0 };
        layers * (attention + feed_forward + router + shared_gate)
    }

    /// Elements of the embedding of tokens, and of the output head.
    pub fn embedding(&self) -> u64 {
        self.sizes.vocabulary * self.sizes.width
    }

    /// Biases, norms and learned positions.
    fn vectors(&self) -> u64 {
        let ShapeSizes { layers, width, ffn, head_dim, positions, .. } = self.sizes;
        let (query, kv) = (self.sizes.query_width(), self.sizes.kv_width());
        let Style { gated, qkv_bias, output_bias, ffn_bias, .. } = self.style;
        let if_true = |condition: bool, elements: u64| if condition { elements } else { 0 };
        let norm = width * (1 + u64::from(self.style.norm_bias));
        let layer = if_true(qkv_bias, query + 2 * kv)
            + if_true(output_bias, width)
            + if_true(ffn_bias, self.experts.count * ((1 + u64::from(gated)) * ffn + width))
            + self.style.layer_norms * norm
            + if_true(self.style.head_norms, 2 * head_dim);
        layers * layer + norm + if_true(self.style.learned_positions, positions * width)
    }

    /// All parameters.
    pub fn parameters(&self) -> u64 {
        let embeddings = self.embedding() * (2 - u64::from(self.tied_head));
        self.layer_elements() + self.vectors() + embeddings
    }

    /// Bytes of the weights.
    pub fn weight_bytes(&self) -> u64 {
        match self.weights {
            Weights::Exact { bytes, .. } => bytes,
            Weights::Typed(dtype) => {
                let matrices = self.layer_elements();
                // Both factors are bounded: 2^60 elements at most, and 2^12.
                let bits = u128::from(matrices) * u128::from(dtype.matrix_bits_128());
                let matrix_bytes = (bits / (128 * 8)) as u64;
                matrix_bytes + (self.parameters() - matrices) * dtype.other_bytes()
            }
        }
    }

    /// Bytes of weights that each step reads: all but an embedding that is not the head, of which
    /// a token reads one row, and learned positions. Of experts all, as steps of many sequences do.
    pub fn step_weight_bytes(&self) -> u64 {
        let (untied, positions) = (!self.tied_head, self.style.learned_positions);
        let (embedding_bytes, other_bytes) = match self.weights {
            Weights::Exact { embedding_bytes, .. } => (embedding_bytes, 2),
            Weights::Typed(dtype) => (self.embedding() * dtype.other_bytes(), dtype.other_bytes()),
        };
        let rows = if untied { embedding_bytes } else { 0 };
        let position_bytes = self.sizes.positions * self.sizes.width * other_bytes;
        self.weight_bytes() - rows - if positions { position_bytes } else { 0 }
    }

    /// Bytes of a token's keys and values over all layers.
    pub fn kv_bytes(&self, dtype: KvDtype) -> u64 {
        2 * self.sizes.layers * self.sizes.kv_width() * dtype.bytes()
    }

    /// Multiply-adds of attention for each pair of a token and one that it sees: once for the
    /// score, once for the value.
    pub fn pair_multiply_adds(&self) -> u64 {
        2 * self.sizes.layers * self.sizes.query_width()
    }

    /// Bytes of an activation, in the type in which layers compute.
    pub fn activation_bytes(&self) -> u64 {
        match self.weights {
            Weights::Exact { .. } => WeightsDtype::F16.activation_bytes(),
            Weights::Typed(dtype) => dtype.activation_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_model_has_half_a_billion_parameters() {
        let seed = Shape::seed();
        assert!(seed.sizes.check().is_ok());
        // 24 · (12 · 1280² + 13 · 1280) + 2 · 1280 + (8194 + 1818) · 1280.
        assert_eq!(seed.parameters(), 485_076_480);
        assert_eq!(seed.weight_bytes(), 2 * 485_076_480);
        assert_eq!(seed.kv_bytes(KvDtype::F16), 122_880);
    }

    #[test]
    fn a_file_of_ours_has_the_shape_of_its_header() {
        use model::dummy::DummyShape;
        for name in DummyShape::NAMES {
            // Of few layers, which are made faster.
            let few = DummyShape { layer_count: 2, ..DummyShape::named(name).unwrap() };
            let file = few.open(0).unwrap();
            let shape = Shape::of_file(&file);
            assert_eq!(shape.parameters(), file.parameter_count(), "{name}");
            assert_eq!(shape.weight_bytes(), model::weights::Weights::bytes_of(&file), "{name}");
        }
    }

    #[test]
    fn eight_and_four_bits_are_for_the_matrices_of_layers() {
        let bytes =
            |dtype| Shape { weights: Weights::Typed(dtype), ..Shape::seed() }.weight_bytes();
        let matrices = Shape::seed().layer_matrices();
        assert_eq!(bytes(WeightsDtype::F32), 2 * bytes(WeightsDtype::F16));
        assert_eq!(bytes(WeightsDtype::F16) - bytes(WeightsDtype::Int8), matrices);
        // 4 bits, and 20 more for each 128.
        let saved = bytes(WeightsDtype::Int8) - bytes(WeightsDtype::Int4);
        assert_eq!(saved, matrices / 2 - matrices / 128 * 20 / 8);
    }

    #[test]
    fn a_step_reads_no_embedding_that_is_not_the_head() {
        let seed = Shape::seed();
        assert_eq!(seed.weight_bytes() - seed.step_weight_bytes(), 2 * 1818 * 1280);
        let untied = Shape { tied_head: false, ..seed.clone() };
        assert_eq!(untied.step_weight_bytes(), seed.step_weight_bytes());
        assert_eq!(untied.parameters() - seed.parameters(), seed.embedding());
    }

    #[test]
    fn the_largest_shape_overflows_nothing() {
        let sizes = ShapeSizes {
            layers: *bounds::LAYERS.end(),
            width: *bounds::WIDTH.end(),
            heads: *bounds::HEADS.end(),
            kv_heads: *bounds::HEADS.end(),
            head_dim: *bounds::HEAD_DIM.end(),
            ffn: *bounds::WIDTH.end(),
            vocabulary: *bounds::VOCABULARY.end(),
            positions: *bounds::POSITIONS.end(),
        };
        assert!(sizes.check().is_ok());
        let weights = Weights::Typed(WeightsDtype::F32);
        let experts = Experts { count: 1024, used: 1024, shared_ffn: *bounds::WIDTH.end() };
        assert!(experts.check().is_ok());
        let shape = Shape { sizes, weights, experts, tied_head: false, ..Shape::seed() };
        assert!(shape.step_weight_bytes() < shape.weight_bytes());
        assert!(0 < shape.kv_bytes(KvDtype::F32));
    }

    #[test]
    fn numbers_out_of_bounds_are_refused_with_their_limit() {
        let good = Shape::seed().sizes;
        for (sizes, part) in [
            (ShapeSizes { layers: 0, ..good }, "the number of layers is 0; give 1 to 1024"),
            (ShapeSizes { width: 1 << 21, ..good }, "the width is 2097152"),
            (ShapeSizes { kv_heads: 3, ..good }, "a divisor of the number of heads, 20"),
        ] {
            let error = sizes.check().expect_err("out of bounds").to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
