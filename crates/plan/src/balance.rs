//! Where a step stops waiting for memory and begins to wait for arithmetic.

use crate::dtype::WeightsDtype;
use crate::hardware::{Flops, Hardware, HardwareKind};
use crate::shape::{Shape, Weights};

/// What a decode step of many sequences waits for, by how many there are: seconds.
///
/// A step of `n` sequences of `length` tokens reads for `weights + n · kv` and multiplies for
/// `n · arithmetic`; the longer of both is a bound on its speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balance {
    /// Reading the weights once.
    pub weights_s: f64,
    /// Reading the keys and values of one sequence.
    pub kv_s: f64,
    /// Multiplying for one sequence; none if the device's rate is not known.
    pub arithmetic_s: Option<f64>,
}

/// How many sequences it takes until arithmetic binds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turn {
    /// From so many on; not a whole number.
    At(f64),
    /// However many there are, since reading keys and values takes longer than what is done with
    /// them.
    Never,
    /// The device's operations per second are not known.
    Unknown,
}

impl Balance {
    /// Of a model on a device, for sequences of `length` tokens.
    pub fn new(shape: &Shape, hardware: &Hardware, kv_token_bytes: u64, length: u32) -> Balance {
        let length = f64::from(length);
        // A multiply-add is two operations.
        let products = 2.0 * (shape.layer_matrices() + shape.embedding()) as f64;
        let attention = 2.0 * shape.pair_multiply_adds() as f64 * length;
        let arithmetic_s =
            rates(shape, hardware).map(|[matrices, pairs]| products / matrices + attention / pairs);
        Balance {
            weights_s: shape.step_weight_bytes() as f64 / hardware.bandwidth,
            kv_s: kv_token_bytes as f64 * length / hardware.bandwidth,
            arithmetic_s,
        }
    }

    /// How many sequences it takes until arithmetic binds.
    pub fn turn(&self) -> Turn {
        match self.arithmetic_s {
            None => Turn::Unknown,
            Some(arithmetic) if arithmetic <= self.kv_s => Turn::Never,
            Some(arithmetic) => Turn::At(self.weights_s / (arithmetic - self.kv_s)),
        }
    }
}

/// Operations per second of products with weights, and of attention.
///
/// Weights of 4 bits are made floats before they are multiplied; files of ours are multiplied as
/// 8-bit integers on processors and as floats elsewhere.
pub(crate) fn rates(shape: &Shape, hardware: &Hardware) -> Option<[f64; 2]> {
    let Flops { fp16, int8, fp32 } = hardware.flops;
    let half = fp16.or(fp32);
    let matrices = match (shape.weights, hardware.kind) {
        (Weights::Typed(WeightsDtype::F32), _) => return Some([fp32?, fp32?]),
        (Weights::Typed(WeightsDtype::Int8), _) => int8.or(half),
        (Weights::Exact { .. }, HardwareKind::Cpu) => int8.or(half),
        (Weights::Typed(_) | Weights::Exact { .. }, _) => half,
    };
    Some([matrices?, half?])
}

/// What of a serving engine is used up first when users are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The cap on sequences, `max_num_seqs`.
    Cap,
    /// The blocks for keys and values.
    KvCache,
    /// Arithmetic: from there on each sequence makes every step longer.
    Compute,
}

/// The limit that the least number of sequences reaches: the cap, the sequences whose keys and
/// values fit, or the turn of the balance. Of equal ones the first in that order.
pub fn first_limit(cap: u32, kv_concurrency: f64, turn: Turn) -> Limit {
    let cap = f64::from(cap);
    let kv = kv_concurrency.floor();
    match turn {
        Turn::At(turn) if turn < cap.min(kv) => Limit::Compute,
        _ if cap <= kv => Limit::Cap,
        _ => Limit::KvCache,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::KvDtype;

    fn seed_on(device: &str, length: u32) -> Balance {
        let shape = Shape::seed();
        let kv = shape.kv_bytes(KvDtype::F16);
        Balance::new(&shape, &Hardware::named(device).unwrap(), kv, length)
    }

    #[test]
    fn the_seeds_steps_wait_for_memory_however_many_run() {
        let balance = seed_on("rtx-4090", 1818);
        // 965 MB and 223 MB at 1,008 GB/s; 0.965 and 0.223 Gflop at 165.2 Tflop/s.
        assert!((balance.weights_s * 1e6 - 957.8).abs() < 0.5, "{balance:?}");
        assert!((balance.kv_s * 1e6 - 221.6).abs() < 0.1, "{balance:?}");
        assert!((balance.arithmetic_s.unwrap() * 1e6 - 7.19).abs() < 0.01, "{balance:?}");
        assert_eq!(balance.turn(), Turn::Never);
    }

    #[test]
    fn at_the_turn_both_take_as_long() {
        let balance = seed_on("rtx-4090", 10);
        let Turn::At(n) = balance.turn() else { panic!("{balance:?}") };
        let reading = balance.weights_s + n * balance.kv_s;
        let multiplying = n * balance.arithmetic_s.unwrap();
        assert!((reading / multiplying - 1.0).abs() < 1e-9);
        assert!((1.0..1000.0).contains(&n), "{n}");
    }

    #[test]
    fn rates_are_those_of_the_weights() {
        let device = Hardware::named("epyc-9654").unwrap();
        let Flops { fp16, int8, fp32 } = device.flops;
        let of = |weights| rates(&Shape { weights, ..Shape::seed() }, &device);
        let pair = |a: Option<f64>, b: Option<f64>| Some([a.unwrap(), b.unwrap()]);
        assert_eq!(of(Weights::Typed(WeightsDtype::F32)), pair(fp32, fp32));
        assert_eq!(of(Weights::Typed(WeightsDtype::F16)), pair(fp16, fp16));
        assert_eq!(of(Weights::Typed(WeightsDtype::Int8)), pair(int8, fp16));
        assert_eq!(of(Weights::Typed(WeightsDtype::Int4)), pair(fp16, fp16));
        let exact = Weights::Exact { bytes: 1, embedding_bytes: 0 };
        assert_eq!(of(exact), pair(int8, fp16));
        let bare = Hardware { flops: Flops::default(), ..device };
        assert_eq!(rates(&Shape::seed(), &bare), None);
    }

    #[test]
    fn a_device_without_rates_leaves_the_turn_open() {
        assert_eq!(seed_on("m4-max", 100).turn(), Turn::Unknown);
    }

    #[test]
    fn what_the_fewest_sequences_reach_binds_first() {
        let cases = [
            (50, 51.2, Turn::Never, Limit::Cap),
            (51, 51.2, Turn::Unknown, Limit::Cap),
            (52, 51.2, Turn::At(51.0), Limit::KvCache),
            (52, 51.2, Turn::At(50.9), Limit::Compute),
            (50, 51.2, Turn::At(50.0), Limit::Cap),
        ];
        for (cap, kv, turn, limit) in cases {
            assert_eq!(first_limit(cap, kv, turn), limit, "{cap} {kv} {turn:?}");
        }
    }
}
