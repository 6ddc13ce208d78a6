//! Adapters in GGUF, as llama.cpp's converter writes them: `blk.0.attn_q.weight.lora_a` and so on.

use std::fs::File;
use std::path::Path;

use kernels::rope::Pairing;

use super::{Half, Header, Scale, Stored, TensorSource};
use crate::architecture::Positions;
use crate::config::{ModelConfig, bad, require};
use crate::error::LoadError;
use crate::gguf::Gguf;

/// Keys of the format that say what updates are.
const TYPE: &str = "adapter.type";
const ALPHA: &str = "adapter.lora.alpha";

pub(super) fn open(path: &Path, config: &ModelConfig) -> Result<Header, LoadError> {
    let file =
        File::open(path).map_err(|source| LoadError::Open { path: path.to_path_buf(), source })?;
    header(Gguf::parse(file)?, config)
}

fn header(gguf: Gguf<File>, config: &ModelConfig) -> Result<Header, LoadError> {
    let metadata = gguf.metadata();
    for (key, expected) in [
        ("general.type", "adapter"),
        (TYPE, "lora"),
        ("general.architecture", config.architecture.name),
    ] {
        let found = require(metadata.text(key)?, key)?;
        if found != expected {
            return Err(bad(key, format!("`{found}`"), format!("`{expected}`")));
        }
    }
    for (key, value) in metadata.iter() {
        // Such as the tokens after which an adapter begins to count.
        if key.starts_with("adapter.") && ![TYPE, ALPHA].contains(&key) {
            let (key, value) = (key.to_string(), value.to_string());
            return Err(LoadError::UnsupportedKey { key, value });
        }
    }
    let alpha = require(metadata.f32(ALPHA)?, ALPHA)?;
    // In llama.cpp 0 means that updates are not scaled, which no file in use asks for.
    if !(alpha.is_finite() && 0.0 < alpha) {
        return Err(bad(ALPHA, alpha, "a number above 0".to_string()));
    }
    let mut tensors = Vec::with_capacity(gguf.tensors().len());
    for tensor in gguf.tensors() {
        let name = tensor.name.clone();
        let (target, half) = match (name.strip_suffix(".lora_a"), name.strip_suffix(".lora_b")) {
            (Some(target), _) => (target, Half::A),
            (_, Some(target)) => (target, Half::B),
            _ => {
                let why = "is neither .lora_a nor .lora_b of a matrix".to_string();
                return Err(LoadError::AdapterTensor { name, why });
            }
        };
        let target = target.strip_suffix(".weight").unwrap_or(target).to_string();
        let stored = Stored { kind: tensor.kind, shape: tensor.shape.clone(), name };
        tensors.push((target, half, stored));
    }
    // As the converter has them in files of the family's models.
    let order = match config.architecture.positions {
        Positions::Rotary(pairing) => pairing,
        Positions::Learned => Pairing::Halves,
    };
    let scale = Scale::ByRank(alpha);
    Ok(Header { source: Box::new(gguf), tensors, scale, order })
}

impl TensorSource for Gguf<File> {
    fn read(&mut self, name: &str, bytes: &mut Vec<u8>) -> Result<(), LoadError> {
        self.read_tensor(name, bytes)
    }
}
