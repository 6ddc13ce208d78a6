//! Percentiles by linear interpolation, and how far a sample can carry them.

use serde::{Deserialize, Serialize};

/// The value below which the fraction `q` of `sorted` lies, by linear interpolation between the
/// two nearest order statistics (Hyndman and Fan's definition 7, the default of numpy and R).
///
/// `sorted` is ascending and free of NaN, `q` in 0..=1. `None` if `sorted` is empty.
pub fn percentile(sorted: &[f64], q: f64) -> Option<f64> {
    assert!((0.0..=1.0).contains(&q), "a fraction between 0 and 1, not {q}");
    let last = sorted.len().checked_sub(1)?;
    let position = q * last as f64;
    let below = (position.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let fraction = position - below as f64;
    Some(sorted[below] + (sorted[above] - sorted[below]) * fraction)
}

/// Smallest, largest and mean value of a sample with its 50th, 95th and 99th percentile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of values.
    pub count: usize,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile, see [`percentile`].
    pub p95: f64,
    /// 99th percentile, see [`percentile`].
    pub p99: f64,
    /// Sample standard deviation, over `count - 1`; none of a single value.
    pub std: Option<f64>,
}

impl Spread {
    /// Sums up `values`, which may be in any order. `None` if there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        Some(Spread {
            count,
            min: *values.first()?,
            max: *values.last()?,
            mean,
            p50: percentile(&values, 0.50)?,
            p95: percentile(&values, 0.95)?,
            p99: percentile(&values, 0.99)?,
            std: standard_deviation(&values, mean),
        })
    }
}

fn standard_deviation(values: &[f64], mean: f64) -> Option<f64> {
    let others = values.len().checked_sub(1).filter(|others| 1 <= *others)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / others as f64).sqrt())
}

/// The median of `values`, which may be in any order. `None` if there are none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    percentile(&values, 0.5)
}

/// Which percentiles of a sample have a distribution-free upper bound, see
/// [`sample_size_with_bound`]. The others are interpolations towards the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PercentileBounds {
    /// Whether the 95th percentile has one: from 59 values on.
    pub p95: bool,
    /// Whether the 99th percentile has one: from 299 values on.
    pub p99: bool,
}

impl PercentileBounds {
    /// Those of a sample of `count` values.
    pub fn of(count: usize) -> PercentileBounds {
        let bounded = |q| sample_size_with_bound(q) <= count;
        PercentileBounds { p95: bounded(0.95), p99: bounded(0.99) }
    }
}

/// The least number of values at which their maximum is an upper bound of the `q` percentile with
/// 95 % confidence, whatever the distribution: the least `n` with `1 - q^n >= 0.95`.
///
/// Below it a printed percentile is an interpolation towards the maximum and bounds nothing.
pub fn sample_size_with_bound(q: f64) -> usize {
    assert!(q > 0.0 && q < 1.0, "a fraction between 0 and 1, not {q}");
    (0.05_f64.ln() / q.ln()).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_equal_numpy() {
        // numpy 2: np.percentile(values, [50, 95, 99])
        let check = |values: &[f64], expected: [f64; 3]| {
            let spread = Spread::of(values.to_vec()).expect("not empty");
            for (ours, numpy) in [spread.p50, spread.p95, spread.p99].into_iter().zip(expected) {
                assert!((ours - numpy).abs() < 1e-9, "{values:?}: {ours} instead of {numpy}");
            }
        };
        check(&[10.0, 20.0, 30.0, 40.0, 50.0], [30.0, 48.0, 49.6]);
        check(&[50.0, 10.0, 40.0, 20.0, 30.0], [30.0, 48.0, 49.6]);
        check(&[7.0], [7.0, 7.0, 7.0]);
        check(&[1.0, 2.0], [1.5, 1.95, 1.99]);
        check(&[3.5, 1.25, 9.0, 2.0, 2.0, 100.0, 4.75], [3.5, 72.7, 94.54]);
    }

    #[test]
    fn an_empty_sample_has_no_spread() {
        assert_eq!(Spread::of(Vec::new()), None);
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn bounds_begin_at_59_and_299_values() {
        assert_eq!(sample_size_with_bound(0.95), 59);
        assert_eq!(sample_size_with_bound(0.99), 299);
        let bounds = |count| PercentileBounds::of(count);
        assert_eq!(bounds(58), PercentileBounds { p95: false, p99: false });
        assert_eq!(bounds(59), PercentileBounds { p95: true, p99: false });
        assert_eq!(bounds(299), PercentileBounds { p95: true, p99: true });
    }

    #[test]
    fn deviation_is_that_of_a_sample() {
        // numpy 2: np.std([2, 4, 4, 4, 5, 5, 7, 9], ddof=1)
        let values = vec![2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        let std = Spread::of(values).and_then(|spread| spread.std).expect("several values");
        assert!((std - 2.138_089_935_299_395).abs() < 1e-12, "{std}");
        assert_eq!(Spread::of(vec![7.0]).expect("one value").std, None);
    }

    proptest! {
        #[test]
        fn percentiles_are_ordered_and_inside_the_sample(
            values in prop::collection::vec(-1e9_f64..1e9, 1..200),
        ) {
            let spread = Spread::of(values).expect("not empty");
            prop_assert!(spread.min <= spread.p50 && spread.p50 <= spread.p95);
            prop_assert!(spread.p95 <= spread.p99 && spread.p99 <= spread.max);
        }
    }
}
