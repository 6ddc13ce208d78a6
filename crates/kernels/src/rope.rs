//! Rotary position embedding on adjacent pairs, as GGUF stores llama's queries and keys.

use crate::buffer::Buffer;

/// Cosines and sines of every position and frequency.
pub struct RopeTable {
    /// `[position][pair]` of (cos, sin).
    values: Buffer<f32>,
    pairs: usize,
}

impl RopeTable {
    /// Angles `position * theta^(-2 pair / head_dim)` for `positions` positions.
    ///
    /// Frequencies and angles are rounded to f32 as Hugging Face's llama does; their cosine and
    /// sine are taken in f64.
    pub fn new(positions: usize, head_dim: usize, theta: f32) -> RopeTable {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "pairs need an even head, {head_dim}");
        let pairs = head_dim / 2;
        let frequencies: Vec<f32> = (0..pairs)
            .map(|pair| 1.0 / f64::from(theta).powf(2.0 * pair as f64 / head_dim as f64))
            .map(|frequency| frequency as f32)
            .collect();
        let mut values = Buffer::zeroed(positions * head_dim);
        for (position, row) in values.chunks_exact_mut(head_dim).enumerate() {
            for (value, frequency) in row.chunks_exact_mut(2).zip(&frequencies) {
                let angle = f64::from(position as f32 * frequency);
                value[0] = angle.cos() as f32;
                value[1] = angle.sin() as f32;
            }
        }
        RopeTable { values, pairs }
    }

    /// Elements of the heads that it rotates.
    pub fn head_dim(&self) -> usize {
        2 * self.pairs
    }

    /// Positions that it knows.
    pub fn positions(&self) -> usize {
        self.values.len() / self.head_dim()
    }

    /// Bytes of a table of this shape.
    pub fn bytes(positions: usize, head_dim: usize) -> usize {
        positions * head_dim * size_of::<f32>()
    }

    /// Rotates every head of `x`, `[heads][head_dim]`, to `position`.
    #[inline(always)]
    pub fn rotate(&self, position: usize, x: &mut [f32]) {
        let angles = &self.values[position * 2 * self.pairs..(position + 1) * 2 * self.pairs];
        for head in x.chunks_exact_mut(2 * self.pairs) {
            for (pair, angle) in head.chunks_exact_mut(2).zip(angles.chunks_exact(2)) {
                let (a, b) = (pair[0], pair[1]);
                pair[0] = a * angle[0] - b * angle[1];
                pair[1] = a * angle[1] + b * angle[0];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_lengths_and_depends_on_position_difference_only() {
        let table = RopeTable::new(64, 8, 10_000.0);
        let q = [0.3, -0.7, 1.1, 0.2, -0.4, 0.9, 0.5, -1.2];
        let k = [1.0, 0.1, -0.6, 0.8, 0.2, -0.3, 0.7, 0.4];
        let product = |at_q: usize, at_k: usize| {
            let (mut q, mut k) = (q, k);
            table.rotate(at_q, &mut q);
            table.rotate(at_k, &mut k);
            q.iter().zip(k).map(|(a, b)| a * b).sum::<f32>()
        };
        assert!((product(5, 3) - product(40, 38)).abs() < 1e-5);
        assert!((product(5, 3) - product(5, 4)).abs() > 1e-3);
        let mut unmoved = q;
        table.rotate(0, &mut unmoved);
        assert_eq!(unmoved, q);
    }
}
