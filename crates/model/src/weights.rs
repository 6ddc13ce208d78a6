//! A model's weights, packed for the kernels.

use kernels::attention::HEAD_DIM_MAX;
use kernels::blocks::{BLOCK, BlockKind, dequantise};
use kernels::cpu::Cpu;
use kernels::pack::PackedMatrix;

use crate::config::{ModelConfig, bad};
use crate::error::LoadError;
use crate::file::ModelFile;

/// Everything that is read from the file's tensors.
pub struct Weights {
    /// Token embeddings `[vocab_size, hidden_size]`; the output head too where it is tied.
    pub embedding: PackedMatrix,
    /// Transformer blocks in order.
    pub layers: Vec<LayerWeights>,
    /// Norm before the head, `[hidden_size]`.
    pub output_norm: Vec<f32>,
    /// Output head `[vocab_size, hidden_size]` if it is not the embedding.
    pub output: Option<PackedMatrix>,
}

/// One transformer block.
pub struct LayerWeights {
    /// Norm before attention, `[hidden_size]`.
    pub attention_norm: Vec<f32>,
    /// `[query_size, hidden_size]`, rows of a head in adjacent pairs for the rotation.
    pub query: PackedMatrix,
    /// `[kv_size, hidden_size]`, as `query`.
    pub key: PackedMatrix,
    /// `[kv_size, hidden_size]`.
    pub value: PackedMatrix,
    /// `[hidden_size, query_size]`.
    pub attention_output: PackedMatrix,
    /// Norm before the feed-forward part, `[hidden_size]`.
    pub feed_forward_norm: Vec<f32>,
    /// `[intermediate_size, hidden_size]`.
    pub gate: PackedMatrix,
    /// `[intermediate_size, hidden_size]`.
    pub up: PackedMatrix,
    /// `[hidden_size, intermediate_size]`.
    pub down: PackedMatrix,
}

impl LayerWeights {
    fn matrices(&self) -> impl Iterator<Item = &PackedMatrix> {
        let LayerWeights { query, key, value, attention_output, gate, up, down, .. } = self;
        [query, key, value, attention_output, gate, up, down].into_iter()
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
            ("llama.embedding_length", config.hidden_size),
            ("llama.feed_forward_length", config.intermediate_size),
            ("the size of a head", config.head_dim),
        ];
        for (key, value) in blocks {
            if !value.is_multiple_of(BLOCK) {
                return Err(bad(key, value, format!("a multiple of {BLOCK}")));
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
            PackedMatrix::bytes_of(file.packed_kind(tensor), rows, cols) as u64
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
        Ok(Weights {
            embedding: self.matrix("token_embd.weight")?,
            layers: (0..config.layer_count)
                .map(|layer| self.layer(layer))
                .collect::<Result<_, _>>()?,
            output_norm: self.vector("output_norm.weight")?,
            output: self.output(&config)?,
        })
    }

    fn output(&mut self, config: &ModelConfig) -> Result<Option<PackedMatrix>, LoadError> {
        if config.tied_head {
            return Ok(None);
        }
        self.matrix("output.weight").map(Some)
    }

    fn layer(&mut self, layer: usize) -> Result<LayerWeights, LoadError> {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        Ok(LayerWeights {
            attention_norm: self.vector(&name("attn_norm"))?,
            query: self.matrix(&name("attn_q"))?,
            key: self.matrix(&name("attn_k"))?,
            value: self.matrix(&name("attn_v"))?,
            attention_output: self.matrix(&name("attn_output"))?,
            feed_forward_norm: self.vector(&name("ffn_norm"))?,
            gate: self.matrix(&name("ffn_gate"))?,
            up: self.matrix(&name("ffn_up"))?,
            down: self.matrix(&name("ffn_down"))?,
        })
    }

    fn matrix(&mut self, name: &str) -> Result<PackedMatrix, LoadError> {
        let (kind, rows, cols) = self.read(name)?;
        let packed = self.file.packed_kind(self.file.tensor(name).expect("it was read"));
        let pool = &mut self.cpu.pool;
        Ok(match self.form {
            Form::AsStored if packed != kind => {
                let bytes = &self.bytes;
                PackedMatrix::pack_floats(pool, packed, (rows, cols), |row, values| {
                    let row_bytes = kind.bytes_of(cols);
                    dequantise(kind, &bytes[row * row_bytes..(row + 1) * row_bytes], values);
                })
            }
            Form::AsStored => PackedMatrix::pack(pool, kind, (rows, cols), &self.bytes),
            Form::Float32 => {
                let mut values = vec![0.0; rows * cols];
                dequantise(kind, &self.bytes, &mut values);
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                PackedMatrix::pack(pool, BlockKind::F32, (rows, cols), &bytes)
            }
        })
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
