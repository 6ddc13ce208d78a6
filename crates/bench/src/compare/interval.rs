//! How sure a difference is: 95 % confidence intervals of the ratio B / A.

use workload::percentile::percentile;

/// The ratio of B to A with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    /// Lower end of the ratio, above 0.
    pub low: f64,
    /// Upper end of the ratio.
    pub high: f64,
}

/// 97.5th percentiles of Student's t with 1 to 30 degrees of freedom.
const T_975: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// The same of the normal distribution.
const NORMAL_975: f64 = 1.960;

/// The interval between the 2.5th and 97.5th percentile of resampled ratios, of samples of so many
/// `wholes` each; `None` without any.
///
/// Few wholes vary less than what they are drawn from: the ends are moved away from the median by
/// sqrt(n / (n - 1)) and by Student's t over the normal quantile (after Hesterberg, "What Teachers
/// Should Know About the Bootstrap", The American Statistician 69, 2015).
pub(super) fn of_resamples(mut ratios: Vec<f64>, wholes: &[usize]) -> Option<Interval> {
    ratios.sort_by(f64::total_cmp);
    let least = *wholes.iter().min()? as f64;
    let freedom: usize = wholes.iter().map(|wholes| wholes - 1).sum();
    let t = T_975[freedom.clamp(1, T_975.len()) - 1];
    let widening = t / NORMAL_975 * (least / (least - 1.0)).sqrt();
    let middle = percentile(&ratios, 0.5)?;
    // As ratios, so that the interval of A / B is the inverse of that of B / A.
    let away = |end: f64| middle * (end / middle).powf(widening);
    let (low, high) = (percentile(&ratios, 0.025)?, percentile(&ratios, 0.975)?);
    Some(Interval { low: away(low), high: away(high) })
}

/// Welch's t-interval over the logarithms of one value a run.
///
/// `None` below two runs a side, or where a value is not above 0.
pub(super) fn over_runs(a: &[f64], b: &[f64]) -> Option<Interval> {
    let (a, b) = (Logs::of(a)?, Logs::of(b)?);
    let error = a.error + b.error;
    let spread = a.error.powi(2) / a.freedom + b.error.powi(2) / b.freedom;
    // Without any spread the number of degrees does not matter.
    let freedom = if 0.0 < spread { error.powi(2) / spread } else { a.freedom + b.freedom };
    // Degrees are rounded down, which makes the interval a little wider; but 3.999999 is a 4 that was
    // computed.
    let index = ((freedom + 1e-6).floor() as usize).clamp(1, T_975.len()) - 1;
    let half = T_975[index] * error.sqrt();
    let middle = b.mean - a.mean;
    Some(Interval { low: (middle - half).exp(), high: (middle + half).exp() })
}

/// The mean of logarithms, its squared standard error, and its degrees of freedom.
struct Logs {
    mean: f64,
    error: f64,
    freedom: f64,
}

impl Logs {
    fn of(values: &[f64]) -> Option<Logs> {
        if values.len() < 2 || values.iter().any(|value| *value <= 0.0) {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().map(|value| value.ln()).sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value.ln() - mean).powi(2)).sum();
        let freedom = count - 1.0;
        Some(Logs { mean, error: squares / freedom / count, freedom })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_runs_a_side_give_welchs_interval() {
        // Logarithms -0.1, 0, 0.1 on both sides: error 0.01 / 3 each, 4 degrees, t = 2.776.
        let runs = [-0.1_f64, 0.0, 0.1].map(f64::exp);
        let twice = runs.map(|value| 2.0 * value);
        let interval = over_runs(&runs, &twice).expect("three runs a side");
        let half = 2.776 * (0.02_f64 / 3.0).sqrt();
        assert!((interval.low - 2.0 * (-half).exp()).abs() < 1e-9, "{interval:?}");
        assert!((interval.high - 2.0 * half.exp()).abs() < 1e-9, "{interval:?}");
    }

    #[test]
    fn one_run_or_a_zero_has_no_interval() {
        assert_eq!(over_runs(&[1.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(over_runs(&[1.0, 0.0, 1.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(of_resamples(Vec::new(), &[5, 5]), None);
        let ratios = || (0..=1000).map(|n| 1.0 + f64::from(n) / 1000.0).collect();
        let width = |wholes: [usize; 2]| {
            let ends = of_resamples(ratios(), &wholes).expect("many ratios");
            ends.high.ln() - ends.low.ln()
        };
        // Student's t of 8 degrees over the normal 1.960, times sqrt(5 / 4).
        let widening = width([5, 5]) / (1.975_f64 / 1.025).ln();
        assert!((widening - 2.306 / 1.960 * 1.25_f64.sqrt()).abs() < 1e-9, "{widening}");
        assert!(width([40, 40]) < width([5, 5]));
    }
}
