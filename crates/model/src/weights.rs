//! A model's weights, packed for the kernels.

use kernels::attention::HEAD_DIM_MAX;
use kernels::blocks::{BLOCK, BlockKind, dequantise};
use kernels::cpu::Cpu;
use kernels::norm::Norm;
use kernels::pack::PackedMatrix;

use crate::architecture::{Architecture, FeedForwardKind, NormKind, Positions};
use crate::config::{ModelConfig, bad};
use crate::error::LoadError;
use crate::file::ModelFile;
use crate::lora::Adapter;

/// Everything that is read from the file's tensors.
pub struct Weights {
    /// Token embeddings `[vocab_size, hidden_size]`; the output head too where it is tied.
    pub embedding: PackedMatrix,
    /// A vector for each position `[context_length, hidden_size]`, where positions are learned.
    pub positions: Option<PackedMatrix>,
    /// Divisors of the rotary frequencies, if the file has them.
    pub rope_divisors: Option<RopeDivisors>,
    /// Transformer blocks in order.
    pub layers: Vec<LayerWeights>,
    /// Norm before the head.
    pub output_norm: Norm,
    /// Output head `[vocab_size, hidden_size]` if it is not the embedding.
    pub output: Option<PackedMatrix>,
    /// Adapters that sequences may take, each of these weights' shapes.
    pub adapters: Vec<Adapter>,
}

/// Divisors of the rotary frequencies, one for each pair.
pub struct RopeDivisors {
    /// For sequences within the context of the training.
    pub short: Vec<f32>,
    /// For longer ones, if the file has others for them.
    pub long: Option<Vec<f32>>,
}

impl RopeDivisors {
    /// Those for long sequences or for short ones.
    pub fn of(&self, is_long: bool) -> &[f32] {
        self.long.as_deref().filter(|_| is_long).unwrap_or(&self.short)
    }
}

/// One transformer block.
pub struct LayerWeights {
    /// Norm before attention.
    pub attention_norm: Norm,
    /// Queries, keys and values: `[query_size, hidden_size]` and twice `[kv_size, hidden_size]`, or
    /// all rows in one.
    pub qkv: Vec<PackedMatrix>,
    /// Norms of queries and of keys, each of a head.
    pub head_norms: Option<[Norm; 2]>,
    /// `[hidden_size, query_size]`.
    pub attention_output: PackedMatrix,
    /// Norm behind attention.
    pub attention_post_norm: Option<Norm>,
    /// Norm before the feed-forward part.
    pub feed_forward_norm: Norm,
    /// What follows it.
    pub feed_forward: FeedForward,
    /// Norm behind the feed-forward part.
    pub feed_forward_post_norm: Option<Norm>,
}

/// A feed-forward part.
pub enum FeedForward {
    /// With a gate.
    Gated(Gated),
    /// Without one.
    Plain {
        /// `[intermediate_size, hidden_size]`.
        up: PackedMatrix,
        /// `[hidden_size, intermediate_size]`.
        down: PackedMatrix,
    },
    /// Several, of which each token takes some.
    Mixture {
        /// Says which: `[experts, hidden_size]`.
        router: PackedMatrix,
        /// All of them.
        experts: Vec<Gated>,
    },
}

/// A feed-forward part with a gate.
pub struct Gated {
    /// `[intermediate_size, hidden_size]`.
    pub gate: PackedMatrix,
    /// `[intermediate_size, hidden_size]`.
    pub up: PackedMatrix,
    /// `[hidden_size, intermediate_size]`.
    pub down: PackedMatrix,
}

impl LayerWeights {
    fn matrices(&self) -> impl Iterator<Item = &PackedMatrix> {
        let (single, experts) = match &self.feed_forward {
            FeedForward::Gated(gated) => (vec![], std::slice::from_ref(gated)),
            FeedForward::Plain { up, down } => (vec![up, down], &[][..]),
            FeedForward::Mixture { router, experts } => (vec![router], &experts[..]),
        };
        let experts = experts.iter().flat_map(|Gated { gate, up, down }| [gate, up, down]);
        self.qkv.iter().chain([&self.attention_output]).chain(single).chain(experts)
    }
}

impl Weights {
    /// Reads and packs every tensor as the file stores it, or matrices of floats as
    /// [`ModelFile::quantization`] says. Holds the packed weights and one tensor's bytes at a time.
    pub fn load(file: &mut ModelFile, cpu: &mut Cpu) -> Result<Weights, LoadError> {
        Loader { file, cpu, bytes: Vec::new(), form: Form::AsStored }.weights()
    }

    /// Reads every tensor as 32-bit floats: a reference to compare with, several times the size.
    pub fn load_float32(file: &mut ModelFile, cpu: &mut Cpu) -> Result<Weights, LoadError> {
        Loader { file, cpu, bytes: Vec::new(), form: Form::Float32 }.weights()
    }

    /// Refuses sizes that the kernels do not compute: they work in blocks of 32 columns.
    pub fn check(config: &ModelConfig) -> Result<(), LoadError> {
        let blocks = [
            (config.architecture.key("embedding_length"), config.hidden_size),
            ("the width of the feed-forward part".to_string(), config.intermediate_size),
            ("the size of a head".to_string(), config.head_dim),
        ];
        for (key, value) in blocks {
            if !value.is_multiple_of(BLOCK) {
                return Err(bad(&key, value, format!("a multiple of {BLOCK}")));
            }
        }
        if config.head_dim > HEAD_DIM_MAX {
            return Err(bad(
                "the size of a head",
                config.head_dim,
                format!("at most {HEAD_DIM_MAX}"),
            ));
        }
        Ok(())
    }

    /// Bytes that [`Weights::load`] will take, from the header alone.
    pub fn bytes_of(file: &ModelFile) -> u64 {
        let bytes = |tensor: &crate::gguf::TensorInfo| {
            if tensor.shape.0.len() == 1 {
                // Vectors are kept as f32.
                return tensor.cols() * size_of::<f32>() as u64;
            }
            let (rows, cols) = (tensor.rows() as usize, tensor.cols() as usize);
            // Of experts each is packed by itself.
            let parts = if tensor.shape.0.len() == 3 { tensor.shape.0[0] as usize } else { 1 };
            let part = PackedMatrix::bytes_of(file.packed_kind(tensor), rows / parts, cols);
            (parts * part) as u64
        };
        file.tensors().iter().map(bytes).sum()
    }

    /// True if a product has weights of a float kind.
    pub fn any_float(&self) -> bool {
        let float = |matrix: &PackedMatrix| !matrix.kind().is_quantised();
        float(self.head()) || self.layers.iter().any(|layer| layer.matrices().any(float))
    }

    /// The matrix that gives the logits.
    pub fn head(&self) -> &PackedMatrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

#[derive(Clone, Copy)]
enum Form {
    AsStored,
    Float32,
}

struct Loader<'a> {
    file: &'a mut ModelFile,
    cpu: &'a mut Cpu,
    /// One tensor as the file has it; reused.
    bytes: Vec<u8>,
    form: Form,
}

impl Loader<'_> {
    fn weights(&mut self) -> Result<Weights, LoadError> {
        let config = self.file.config.clone();
        Weights::check(&config)?;
        let learned = config.architecture.positions == Positions::Learned;
        Ok(Weights {
            embedding: self.matrix("token_embd", false)?,
            positions: learned.then(|| self.matrix("position_embd", false)).transpose()?,
            rope_divisors: self.rope_divisors(&config)?,
            layers: (0..config.layer_count)
                .map(|layer| self.layer(&config, layer))
                .collect::<Result<_, _>>()?,
            output_norm: self.norm(&config, "output_norm")?,
            output: config.optional.head.then(|| self.matrix("output", false)).transpose()?,
            adapters: Vec::new(),
        })
    }

    fn rope_divisors(&mut self, config: &ModelConfig) -> Result<Option<RopeDivisors>, LoadError> {
        if config.optional.rope_divisors {
            let short = self.divisors("rope_freqs.weight")?;
            return Ok(Some(RopeDivisors { short, long: None }));
        }
        if !config.optional.rope_factors {
            return Ok(None);
        }
        let short = self.divisors("rope_factors_short.weight")?;
        let long = Some(self.divisors("rope_factors_long.weight")?);
        Ok(Some(RopeDivisors { short, long }))
    }

    /// They divide, so zero and numbers that are none are refused.
    fn divisors(&mut self, name: &str) -> Result<Vec<f32>, LoadError> {
        let divisors = self.vector(name)?;
        match divisors.iter().find(|&divisor| !(1e-3..=1e6).contains(divisor)) {
            Some(divisor) => Err(bad(name, divisor, "0.001 to 1e6".to_string())),
            None => Ok(divisors),
        }
    }

    fn layer(&mut self, config: &ModelConfig, layer: usize) -> Result<LayerWeights, LoadError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let Architecture { fused_qkv, head_norms, post_norms, .. } = *config.architecture;
        let qkv: &[&str] = if fused_qkv { &["attn_qkv"] } else { &["attn_q", "attn_k", "attn_v"] };
        let qkv_bias = config.optional.qkv_bias;
        Ok(LayerWeights {
            attention_norm: self.norm(config, &name("attn_norm"))?,
            qkv: (qkv.iter())
                .map(|part| self.matrix(&name(part), qkv_bias))
                .collect::<Result<_, _>>()?,
            head_norms: match head_norms {
                true => Some([
                    self.norm(config, &name("attn_q_norm"))?,
                    self.norm(config, &name("attn_k_norm"))?,
                ]),
                false => None,
            },
            attention_output: self.matrix(&name("attn_output"), config.optional.output_bias)?,
            attention_post_norm: post_norms
                .then(|| self.norm(config, &name("post_attention_norm")))
                .transpose()?,
            feed_forward_norm: self.norm(config, &name("ffn_norm"))?,
            feed_forward: self.feed_forward(config, &name("ffn"))?,
            feed_forward_post_norm: post_norms
                .then(|| self.norm(config, &name("post_ffw_norm")))
                .transpose()?,
        })
    }

    fn feed_forward(
        &mut self,
        config: &ModelConfig,
        prefix: &str,
    ) -> Result<FeedForward, LoadError> {
        let bias = config.architecture.feed_forward_bias;
        let name = |part: &str| format!("{prefix}_{part}");
        if let Some(experts) = config.experts {
            let router = self.matrix(&name("gate_inp"), false)?;
            let mut parts = |part| self.parts(&name(part), experts.count);
            let (gates, ups, downs) = (parts("gate_exps")?, parts("up_exps")?, parts("down_exps")?);
            let experts = gates.into_iter().zip(ups).zip(downs);
            let experts = experts.map(|((gate, up), down)| Gated { gate, up, down }).collect();
            return Ok(FeedForward::Mixture { router, experts });
        }
        Ok(match config.architecture.feed_forward {
            FeedForwardKind::Gated => FeedForward::Gated(Gated {
                gate: self.matrix(&name("gate"), bias)?,
                up: self.matrix(&name("up"), bias)?,
                down: self.matrix(&name("down"), bias)?,
            }),
            FeedForwardKind::FusedGated => {
                let [gate, up] = self.parts(&name("up"), 2)?.try_into().ok().expect("two parts");
                FeedForward::Gated(Gated { gate, up, down: self.matrix(&name("down"), bias)? })
            }
            FeedForwardKind::Plain => FeedForward::Plain {
                up: self.matrix(&name("up"), bias)?,
                down: self.matrix(&name("down"), bias)?,
            },
        })
    }

    fn norm(&mut self, config: &ModelConfig, name: &str) -> Result<Norm, LoadError> {
        let weight = self.vector(&format!("{name}.weight"))?;
        Ok(match config.architecture.norm {
            NormKind::Rms => Norm::rms(weight, config.norm_eps),
            NormKind::Layer => {
                Norm::layer(weight, self.vector(&format!("{name}.bias"))?, config.norm_eps)
            }
        })
    }

    fn matrix(&mut self, name: &str, bias: bool) -> Result<PackedMatrix, LoadError> {
        let matrix = self.parts(name, 1)?.pop().expect("one part");
        if !bias {
            return Ok(matrix);
        }
        Ok(matrix.with_bias(self.vector(&format!("{name}.bias"))?))
    }

    /// The weight of that name, cut into so many parts of equally many rows.
    fn parts(&mut self, name: &str, count: usize) -> Result<Vec<PackedMatrix>, LoadError> {
        let name = format!("{name}.weight");
        let (kind, rows, cols) = self.read(&name)?;
        let packed = self.file.packed_kind(self.file.tensor(&name).expect("it was read"));
        let (rows, pool) = (rows / count, &mut self.cpu.pool);
        let parts = self.bytes.chunks_exact(self.bytes.len() / count);
        Ok(parts
            .map(|bytes| match self.form {
                Form::AsStored if packed != kind => {
                    PackedMatrix::pack_floats(pool, packed, (rows, cols), |row, values| {
                        let row_bytes = kind.bytes_of(cols);
                        dequantise(kind, &bytes[row * row_bytes..(row + 1) * row_bytes], values);
                    })
                }
                Form::AsStored => PackedMatrix::pack(pool, kind, (rows, cols), bytes),
                Form::Float32 => {
                    let mut values = vec![0.0; rows * cols];
                    dequantise(kind, bytes, &mut values);
                    let bytes: Vec<u8> =
                        values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    PackedMatrix::pack(pool, BlockKind::F32, (rows, cols), &bytes)
                }
            })
            .collect())
    }

    fn vector(&mut self, name: &str) -> Result<Vec<f32>, LoadError> {
        let (kind, rows, cols) = self.read(name)?;
        let mut values = vec![0.0; rows * cols];
        dequantise(kind, &self.bytes, &mut values);
        Ok(values)
    }

    /// Reads a tensor's bytes; gives its kind, rows and columns.
    fn read(&mut self, name: &str) -> Result<(BlockKind, usize, usize), LoadError> {
        self.file.read_tensor(name, &mut self.bytes)?;
        let tensor = self.file.tensor(name).expect("the file was checked to have every tensor");
        Ok((tensor.kind, tensor.rows() as usize, tensor.cols() as usize))
    }
}
