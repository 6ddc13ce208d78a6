//! From values to places along an axis, and the round values that label it.

/// An axis of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    is_log: bool,
    low: f64,
    high: f64,
}

impl Scale {
    /// Equal distances for equal differences, from `low` to `high`.
    pub(crate) fn linear(low: f64, high: f64) -> Scale {
        let high = if low < high { high } else { low + 1.0 };
        Scale { is_log: false, low, high }
    }

    /// From 0 to a little above the largest of `values`.
    pub(crate) fn from_zero(values: impl IntoIterator<Item = f64>) -> Scale {
        Scale::linear(0.0, 1.05 * values.into_iter().fold(0.0, f64::max))
    }

    /// Equal distances for equal ratios, between round values around all positive ones of `values`.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>) -> Scale {
        let positive = values.into_iter().filter(|value| 0.0 < *value && value.is_finite());
        let (low, high) =
            positive.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        if !low.is_finite() {
            return Scale { is_log: true, low: 1.0, high: 10.0 };
        }
        let below =
            rounds(low).rev().find(|round| *round <= low).expect("it begins a decade below");
        let above = rounds(high).find(|round| high <= *round).expect("it ends a decade above");
        let high = if below < above { above } else { 10.0 * below };
        Scale { is_log: true, low: below, high }
    }

    /// Equal distances for equal ratios, from the least to the largest of `values`, which are
    /// positive.
    pub(crate) fn log_exact(values: impl Iterator<Item = f64>) -> Scale {
        let (low, high) =
            values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        assert!(0.0 < low && low <= high, "no logarithm of {low} to {high}");
        Scale { is_log: true, low, high: if low < high { high } else { 2.0 * low } }
    }

    /// Where `value` lies, from 0 at the low end to 1 at the high end; what is outside is moved to
    /// the end next to it.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let place = match self.is_log {
            true if value <= 0.0 => 0.0,
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        place.clamp(0.0, 1.0)
    }

    /// The value at a place from 0 to 1.
    pub(crate) fn value(&self, place: f64) -> f64 {
        match self.is_log {
            true => self.low * (self.high / self.low).powf(place),
            false => self.low + (self.high - self.low) * place,
        }
    }

    /// Round values on the axis, ascending, at most `most` (at least 2) of them.
    pub(crate) fn ticks(&self, most: usize) -> Vec<f64> {
        assert!(2 <= most, "an axis needs two labels, not {most}");
        if self.is_log { self.log_ticks(most) } else { self.linear_ticks(most) }
    }

    fn linear_ticks(&self, most: usize) -> Vec<f64> {
        let span = self.high - self.low;
        let exponent = (span / most as f64).log10().floor() as i32;
        let steps = (exponent..).flat_map(|e| [1.0, 2.0, 5.0].map(|f| f * 10_f64.powi(e)));
        let count = |step: f64| {
            let (first, last) = ((self.low / step).ceil(), (self.high / step).floor());
            (first, (last - first + 1.0).max(0.0) as usize)
        };
        let step = steps.into_iter().find(|step| count(*step).1 <= most).expect("steps grow");
        let (first, ticks) = count(step);
        (0..ticks).map(|n| clean((first + n as f64) * step, step)).collect()
    }

    /// Multiples of 1, 2 and 5 if there is place, else powers of ten, else every so many of them.
    fn log_ticks(&self, most: usize) -> Vec<f64> {
        let inside = |factors: &[f64]| -> Vec<f64> {
            let decades = decade(self.low)..=decade(self.high);
            let all = decades.flat_map(|e| factors.iter().map(move |f| f * 10_f64.powi(e)));
            all.filter(|value| self.low * 0.999 <= *value && *value <= self.high * 1.001).collect()
        };
        for factors in [&[1.0, 2.0, 5.0][..], &[1.0]] {
            let ticks = inside(factors);
            if (2..=most).contains(&ticks.len()) {
                return ticks;
            }
        }
        let decades = inside(&[1.0]);
        let step = decades.len().div_ceil(most).max(1);
        decades.into_iter().step_by(step).collect()
    }
}

/// The exponent of the power of ten at or below `value`.
fn decade(value: f64) -> i32 {
    (value.log10() + 1e-9).floor() as i32
}

/// 1, 2 and 5 times the powers of ten around `value`, ascending.
fn rounds(value: f64) -> impl DoubleEndedIterator<Item = f64> {
    let decades = decade(value) - 1..=decade(value) + 1;
    decades.flat_map(|e| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(e)))
}

/// `value` without the dust that multiplying by a decimal step leaves.
fn clean(value: f64, step: f64) -> f64 {
    if value.abs() < step / 2.0 { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_run_from_end_to_end() {
        let linear = Scale::linear(10.0, 20.0);
        assert_eq!([5.0, 10.0, 15.0, 20.0, 99.0].map(|v| linear.at(v)), [0.0, 0.0, 0.5, 1.0, 1.0]);
        let log = Scale::log([10.0, 1000.0]);
        assert_eq!((log.at(10.0), log.at(1000.0), log.at(0.0)), (0.0, 1.0, 0.0));
        assert!((log.at(100.0) - 0.5).abs() < 1e-12);
        assert!((log.value(0.5) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(Scale::linear(0.0, 103.0).ticks(6), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(Scale::log([11.0, 15_433.0]).ticks(5), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!(Scale::log([3.0, 40.0]).ticks(6), [2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(Scale::log([1e-3, 1e9]).ticks(5), [1e-3, 1.0, 1e3, 1e6, 1e9]);
    }

    #[test]
    fn a_log_scale_reaches_round_values_around_the_data() {
        assert_eq!(Scale::log([11.0, 15_433.0]), Scale { is_log: true, low: 10.0, high: 20_000.0 });
        assert_eq!(Scale::log([7.0]), Scale { is_log: true, low: 5.0, high: 10.0 });
        assert_eq!(Scale::log([5.0]), Scale { is_log: true, low: 5.0, high: 50.0 });
        assert_eq!(Scale::log([0.0]), Scale { is_log: true, low: 1.0, high: 10.0 });
    }

    proptest! {
        #[test]
        fn ticks_are_few_ascending_and_on_the_axis(
            low in -1e6_f64..1e6, span in 1e-3_f64..1e9, most in 2_usize..12, is_log: bool,
        ) {
            let ends = [low.abs() + 1e-3, low.abs() + span];
            let scale = if is_log { Scale::log(ends) } else { Scale::linear(low, low + span) };
            let ticks = scale.ticks(most);
            prop_assert!(!ticks.is_empty() && ticks.len() <= most, "{ticks:?}");
            prop_assert!(ticks.is_sorted_by(|a, b| a < b));
            let slack = span * 1e-6;
            for tick in ticks {
                prop_assert!(scale.low * (1.0 - 1e-3) - slack <= tick || tick == scale.low);
                prop_assert!(tick <= scale.high * (1.0 + 1e-3) + slack || tick == scale.high);
            }
        }
    }
}
