//! Rotary position embedding of queries and keys.

use crate::buffer::Buffer;

/// Which two numbers of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Neighbours, as GGUF stores llama's queries and keys.
    Adjacent,
    /// Of the numbers that are rotated, each of the first half with its like of the second.
    Halves,
}

/// How heads are rotated.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// Radians per position, for each pair.
    pub frequencies: Vec<f32>,
    /// What rotated numbers are multiplied with; 1 unless a scaling of the context asks for more.
    pub magnitude: f32,
    /// Which numbers are pairs.
    pub pairing: Pairing,
}

impl Rotation {
    /// The frequencies `theta^(-2 pair / dims)` of the first `dims` numbers of a head.
    ///
    /// Frequencies and angles are rounded to f32 as Hugging Face's models do.
    pub fn new(dims: usize, theta: f32, pairing: Pairing) -> Rotation {
        assert!(dims > 0 && dims.is_multiple_of(2), "pairs need an even number, {dims}");
        let frequencies = (0..dims / 2)
            .map(|pair| 1.0 / f64::from(theta).powf(2.0 * pair as f64 / dims as f64))
            .map(|frequency| frequency as f32)
            .collect();
        Rotation { frequencies, magnitude: 1.0, pairing }
    }
}

/// Cosines and sines of every position and frequency.
pub struct RopeTable {
    /// `[position][pair]` of (cos, sin).
    values: Buffer<f32>,
    pairs: usize,
    pairing: Pairing,
}

impl RopeTable {
    /// Angles `position * frequency` for `positions` positions; their cosine and sine are taken in
    /// f64.
    pub fn new(positions: usize, rotation: &Rotation) -> RopeTable {
        let pairs = rotation.frequencies.len();
        assert!(0 < pairs, "a rotation has a pair");
        let mut values = Buffer::zeroed(positions * 2 * pairs);
        let magnitude = f64::from(rotation.magnitude);
        for (position, row) in values.chunks_exact_mut(2 * pairs).enumerate() {
            for (value, frequency) in row.chunks_exact_mut(2).zip(&rotation.frequencies) {
                let angle = f64::from(position as f32 * frequency);
                value[0] = (magnitude * angle.cos()) as f32;
                value[1] = (magnitude * angle.sin()) as f32;
            }
        }
        RopeTable { values, pairs, pairing: rotation.pairing }
    }

    /// Numbers of a head that are rotated: the first ones.
    pub fn dims(&self) -> usize {
        2 * self.pairs
    }

    /// Positions that it knows.
    pub fn positions(&self) -> usize {
        self.values.len() / self.dims()
    }

    /// Bytes of a table of this shape.
    pub fn bytes(positions: usize, dims: usize) -> usize {
        positions * dims * size_of::<f32>()
    }

    /// Rotates one head to `position`; numbers behind [`RopeTable::dims`] stay.
    #[inline(always)]
    pub fn rotate(&self, position: usize, head: &mut [f32]) {
        let angles = &self.values[position * 2 * self.pairs..(position + 1) * 2 * self.pairs];
        let angles = angles.chunks_exact(2);
        let head = &mut head[..2 * self.pairs];
        match self.pairing {
            Pairing::Adjacent => {
                for (pair, angle) in head.chunks_exact_mut(2).zip(angles) {
                    (pair[0], pair[1]) = turned((pair[0], pair[1]), angle);
                }
            }
            Pairing::Halves => {
                let (first, second) = head.split_at_mut(self.pairs);
                for ((a, b), angle) in first.iter_mut().zip(second).zip(angles) {
                    (*a, *b) = turned((*a, *b), angle);
                }
            }
        }
    }
}

#[inline(always)]
fn turned((a, b): (f32, f32), angle: &[f32]) -> (f32, f32) {
    (a * angle[0] - b * angle[1], a * angle[1] + b * angle[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: [f32; 8] = [0.3, -0.7, 1.1, 0.2, -0.4, 0.9, 0.5, -1.2];

    #[test]
    fn rotation_keeps_lengths_and_depends_on_position_difference_only() {
        let k = [1.0, 0.1, -0.6, 0.8, 0.2, -0.3, 0.7, 0.4];
        for pairing in [Pairing::Adjacent, Pairing::Halves] {
            let table = RopeTable::new(64, &Rotation::new(8, 10_000.0, pairing));
            let product = |at_q: usize, at_k: usize| {
                let (mut q, mut k) = (QUERY, k);
                table.rotate(at_q, &mut q);
                table.rotate(at_k, &mut k);
                q.iter().zip(k).map(|(a, b)| a * b).sum::<f32>()
            };
            assert!((product(5, 3) - product(40, 38)).abs() < 1e-5);
            assert!((product(5, 3) - product(5, 4)).abs() > 1e-3);
            let mut unmoved = QUERY;
            table.rotate(0, &mut unmoved);
            assert_eq!(unmoved, QUERY);
        }
    }

    #[test]
    fn halves_are_neighbours_in_another_order_and_the_rest_of_a_head_stays() {
        let of = |pairing| RopeTable::new(9, &Rotation::new(6, 100.0, pairing));
        let mut halves = QUERY;
        of(Pairing::Halves).rotate(7, &mut halves);
        let mut adjacent = [0, 3, 1, 4, 2, 5].map(|i| QUERY[i]);
        of(Pairing::Adjacent).rotate(7, &mut adjacent);
        assert_eq!(halves[..6], [0, 2, 4, 1, 3, 5].map(|i| adjacent[i]));
        assert_eq!(halves[6..], QUERY[6..]);
    }
}
