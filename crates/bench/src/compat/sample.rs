//! A sample of values, each with a weight, summed up as the tools do it.

use workload::percentile::percentile;

/// Values in ascending order with their weights. An empty one has NaN for everything.
pub(super) struct Sample {
    values: Vec<f64>,
    weights: Vec<f64>,
}

impl Sample {
    /// Every value counts once.
    pub(super) fn of(values: Vec<f64>) -> Sample {
        Sample::weighted(values.into_iter().map(|value| (value, 1.0)).collect())
    }

    /// Values with their weights; those without weight are left out.
    pub(super) fn weighted(mut pairs: Vec<(f64, f64)>) -> Sample {
        pairs.retain(|(_, weight)| 0.0 < *weight);
        pairs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (values, weights) = pairs.into_iter().unzip();
        Sample { values, weights }
    }

    fn total(&self) -> f64 {
        self.weights.iter().sum()
    }

    /// The weighted mean.
    pub(super) fn mean(&self) -> f64 {
        let sum: f64 = self.values.iter().zip(&self.weights).map(|(value, w)| value * w).sum();
        sum / self.total()
    }

    /// The standard deviation of a population.
    pub(super) fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares = self.values.iter().zip(&self.weights);
        let squares: f64 = squares.map(|(value, w)| w * (value - mean).powi(2)).sum();
        (squares / self.total()).sqrt()
    }

    /// The percentile by linear interpolation, which knows no weights.
    pub(super) fn linear(&self, q: f64) -> f64 {
        percentile(&self.values, q).unwrap_or(f64::NAN)
    }

    /// The least value whose share of the weight, with all smaller ones, is at least `q`.
    pub(super) fn nearest_rank(&self, q: f64) -> f64 {
        let needed = q * self.total();
        let mut weight = 0.0;
        let reached = self.values.iter().zip(&self.weights).find(|(_, w)| {
            weight += **w;
            needed <= weight
        });
        reached.map(|(value, _)| *value).or(self.values.last().copied()).unwrap_or(f64::NAN)
    }
}
