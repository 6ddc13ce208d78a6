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
}

impl Spread {
    /// Sums up `values`, which may be in any order. `None` if there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        Some(Spread {
            min: *values.first()?,
            max: *values.last()?,
            mean: values.iter().sum::<f64>() / count as f64,
            p50: percentile(&values, 0.50)?,
            p95: percentile(&values, 0.95)?,
            p99: percentile(&values, 0.99)?,
        })
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
