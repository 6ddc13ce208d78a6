//! What a step must read and multiply, and how fast that can be at most.

use std::fmt;

use kernels::blocks::BlockKind;
use kernels::kv::{KvType, TILE_TOKENS};
use model::file::ModelFile;

/// How keys and values are stored, as `serve` does it.
pub(super) const KV_TYPE: KvType = KvType::Bf16;

/// What the steps of a model cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Demand {
    /// Bytes of weights that each step reads once.
    pub(super) weight_bytes: f64,
    /// Multiply-adds of each token.
    pub(super) token: Products,
    /// Multiply-adds of the output head, for each token that is sampled.
    pub(super) head: Products,
    /// Multiply-adds of attention for each pair of a token and one that it sees.
    pub(super) pair: f64,
    /// Bytes of keys and values of a token.
    pub(super) kv_bytes: f64,
}

/// Multiply-adds by what they are done with.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Products {
    /// With quantised weights.
    pub(super) int8: f64,
    /// With weights that are stored as floats.
    pub(super) f32: f64,
}

/// A step of `sequences` that each have `position` tokens and compute `tokens` more, the last of
/// which is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) sequences: usize,
    pub(super) position: usize,
    pub(super) tokens: usize,
}

/// Peaks of this machine, per nanosecond, on all threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    /// Bytes read from memory.
    pub(super) memory: f64,
    /// Multiply-adds of bytes, of bfloat16 and of f32; none where the tier has no such instructions.
    pub(super) arithmetic: Option<[f64; 3]>,
}

/// Tokens per second at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ceiling {
    /// If only reading took time.
    pub(super) memory: f64,
    /// If only multiplying took time.
    pub(super) compute: Option<f64>,
}

impl Demand {
    /// What steps of the model in `file` cost, from its header.
    pub(super) fn of(file: &ModelFile) -> Demand {
        let config = &file.config;
        let head_name = if config.tied_head() { "token_embd.weight" } else { "output.weight" };
        let mut demand = Demand {
            weight_bytes: 0.0,
            token: Products::default(),
            head: Products::default(),
            // Once for the score, once for the value.
            pair: (2 * config.layer_count * config.query_size()) as f64,
            kv_bytes: (config.layer_count
                * config.kv_head_count
                * KV_TYPE.tile_bytes(config.head_dim)) as f64
                / TILE_TOKENS as f64,
        };
        for tensor in file.tensors() {
            let is_head = tensor.name == head_name;
            // Of positions, and of an embedding that is not the head, a step reads one row per token.
            let of_rows = ["token_embd.weight", "position_embd.weight"];
            if of_rows.contains(&tensor.name.as_str()) && !is_head {
                continue;
            }
            demand.weight_bytes += tensor.size as f64;
            if tensor.rows() == 1 {
                continue;
            }
            let products = if is_head { &mut demand.head } else { &mut demand.token };
            // A token takes some of the experts; all are read, as in steps of many sequences.
            let of_experts = config.experts.filter(|_| tensor.shape.0.len() == 3);
            let taken = of_experts.map_or(1.0, |all| all.used as f64 / all.count as f64);
            products.add(tensor.kind, taken * (tensor.rows() * tensor.cols()) as f64);
        }
        demand
    }

    /// The ceiling of `step` on a machine of these peaks.
    pub(super) fn ceiling(&self, step: Step, rates: Rates) -> Ceiling {
        let sequences = step.sequences as f64;
        let tokens = step.tokens as f64;
        let known = (step.position + step.tokens) as f64;
        let bytes = self.weight_bytes + sequences * known * self.kv_bytes;
        let pairs = tokens * step.position as f64 + tokens * (tokens + 1.0) / 2.0;
        let per_second = |nanos: f64| sequences * tokens / nanos * 1e9;
        let compute = rates.arithmetic.map(|[int8, bf16, f32]| {
            let each = |products: Products| products.int8 / int8 + products.f32 / f32;
            let sequence = tokens * each(self.token) + each(self.head) + pairs * self.pair / bf16;
            per_second(sequences * sequence)
        });
        Ceiling { memory: per_second(bytes / rates.memory), compute }
    }
}

impl Products {
    /// All of them.
    pub(super) fn total(self) -> f64 {
        self.int8 + self.f32
    }

    fn add(&mut self, kind: BlockKind, count: f64) {
        *(if kind.is_quantised() { &mut self.int8 } else { &mut self.f32 }) += count;
    }
}

impl Ceiling {
    /// The lower one of both, and its name; none if only one is known.
    pub(super) fn binding(self) -> Option<(f64, &'static str)> {
        let compute = self.compute?;
        Some(if self.memory < compute { (self.memory, "memory") } else { (compute, "compute") })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.position, self.sequences) {
            (0, _) => write!(f, "prompt of {} tokens", self.tokens),
            (_, 1) => write!(f, "decode, 1 sequence"),
            (_, sequences) => write!(f, "decode, {sequences} sequences"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { memory: 50.0, arithmetic: Some([500.0, 250.0, 100.0]) };

    #[test]
    fn the_default_model_costs_what_its_header_says() {
        let file = model::dummy::open("smollm2-135m", 0).unwrap();
        let demand = Demand::of(&file);
        // 30 layers of 2 · 576² + 2 · 192 · 576 + 3 · 1536 · 576.
        assert_eq!(demand.token, Products { int8: 106_168_320.0, f32: 0.0 });
        assert_eq!(demand.head.total(), 49_152.0 * 576.0);
        assert_eq!(demand.pair, 30.0 * 2.0 * 576.0);
        assert_eq!(demand.kv_bytes, 30.0 * 2.0 * 192.0 * 2.0);
        let norms = 61.0 * 576.0 * 4.0;
        let blocks = demand.token.int8 / 32.0 * 20.0 + demand.head.int8 / 32.0 * 34.0;
        assert_eq!(demand.weight_bytes, blocks + norms);
    }

    #[test]
    fn one_sequence_waits_for_memory_and_many_for_multiplications() {
        let demand = Demand {
            weight_bytes: 100e6,
            token: Products { int8: 100e6, f32: 10e6 },
            head: Products { int8: 50e6, f32: 0.0 },
            pair: 1000.0,
            kv_bytes: 10e3,
        };
        let one = demand.ceiling(Step { sequences: 1, position: 99, tokens: 1 }, RATES);
        // 101 MB at 50 per ns; 150 M at 500, 10 M at 100 and 0.1 M at 250 per ns.
        assert!((one.memory - 1e9 / 2.02e6).abs() < 1e-6, "{one:?}");
        assert!((one.compute.unwrap() - 1e9 / 400_400.0).abs() < 1e-6, "{one:?}");
        assert_eq!(one.binding(), Some((one.memory, "memory")));
        let many = demand.ceiling(Step { sequences: 64, position: 99, tokens: 1 }, RATES);
        assert_eq!(many.compute.map(f64::round), one.compute.map(f64::round));
        assert_eq!(many.binding().map(|(_, name)| name), Some("compute"));
        // Two tokens see three pairs, and only one is sampled.
        let prompt = demand.ceiling(Step { sequences: 1, position: 0, tokens: 2 }, RATES);
        assert!((prompt.compute.unwrap() - 2e9 / 700_012.0).abs() < 1e-6, "{prompt:?}");
    }

    #[test]
    fn without_peaks_of_arithmetic_nothing_is_said_to_bind() {
        let demand = Demand::of(&model::dummy::open("tiny", 0).unwrap());
        let rates = Rates { arithmetic: None, ..RATES };
        let step = Step { sequences: 1, position: 9, tokens: 1 };
        assert_eq!(demand.ceiling(step, rates).binding(), None);
    }
}
