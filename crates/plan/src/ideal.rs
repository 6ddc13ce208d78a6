//! What a step would take on a device that did nothing but read and multiply, and how a device that
//! was measured carries over to another one.

use crate::balance::rates;
use crate::cost::StepCost;
use crate::hardware::Hardware;
use crate::shape::Shape;

/// Bounds that follow from a device's data sheet and a model's shape, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ideal {
    /// Reading the weights of a step once, at full bandwidth.
    pub step_us: f64,
    /// Multiplying one position with the layers' matrices, at full speed.
    pub token_us: f64,
    /// Multiplying one row with the head, at full speed.
    pub row_us: f64,
    /// Reading the keys and values of one position, at full bandwidth.
    pub kv_token_us: f64,
}

impl Ideal {
    /// Of a model on a device; `None` if nobody says how fast the device multiplies.
    pub fn new(shape: &Shape, hardware: &Hardware, kv_token_bytes: u64) -> Option<Ideal> {
        let [products, _] = rates(shape, hardware)?;
        // A multiply-add is two operations.
        let multiplying = |elements: u64| 2e6 * elements as f64 / products;
        let reading = |bytes: u64| 1e6 * bytes as f64 / hardware.bandwidth;
        Some(Ideal {
            step_us: reading(shape.step_weight_bytes()),
            token_us: multiplying(shape.layer_matrices()),
            row_us: multiplying(shape.embedding()),
            kv_token_us: reading(kv_token_bytes),
        })
    }
}

impl StepCost {
    /// The cost on another device, or of another model, if the program that drives it is the same:
    /// the host's times stay, the device's change as their bounds do.
    pub fn carried_over(&self, from: &Ideal, to: &Ideal) -> StepCost {
        StepCost {
            host_us: self.host_us,
            step_us: carry_over(self.step_us, from.step_us, to.step_us),
            token_us: carry_over(self.token_us, from.token_us, to.token_us),
            row_us: carry_over(self.row_us, from.row_us, to.row_us),
            kv_token_us: carry_over(self.kv_token_us, from.kv_token_us, to.kv_token_us),
            request_us: self.request_us,
        }
    }
}

/// What a time above its bound has beside it stays; a time below it, which a data sheet's rate or a
/// fit may give, keeps its proportion.
fn carry_over(time_us: f64, from_us: f64, to_us: f64) -> f64 {
    if from_us <= time_us { time_us - from_us + to_us } else { time_us * to_us / from_us }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::KvDtype;
    use crate::preset::SEED;

    fn ideal(shape: &Shape, device: &str) -> Ideal {
        let hardware = Hardware::named(device).expect("it is in the table");
        Ideal::new(shape, &hardware, shape.kv_bytes(KvDtype::F16)).expect("its rates are known")
    }

    #[test]
    fn the_seeds_bounds_follow_from_the_data_sheet() {
        let ideal = ideal(&Shape::seed(), "rtx-4090");
        // 965 MB and 122,880 bytes at 1,008 GB/s; 2 · 24 · 12 · 1280² operations at 165.2 Tflop/s.
        assert!((ideal.step_us - 957.8).abs() < 0.5, "{ideal:?}");
        assert!((ideal.token_us - 5.713).abs() < 0.01, "{ideal:?}");
        assert!((ideal.kv_token_us - SEED.cost.kv_token_us).abs() < 1e-4, "{ideal:?}");
    }

    #[test]
    fn nothing_changes_on_the_same_device() {
        let here = ideal(&Shape::seed(), "rtx-4090");
        let same = SEED.cost.carried_over(&here, &here);
        for (same, before) in same.values().iter().zip(SEED.cost.values()) {
            assert!((same / before - 1.0).abs() < 1e-12, "{same} {before}");
        }
    }

    #[test]
    fn the_host_stays_and_the_device_changes_with_its_bounds() {
        let here = Ideal { step_us: 900.0, token_us: 6.0, row_us: 0.5, kv_token_us: 0.2 };
        let there = Ideal { step_us: 300.0, token_us: 3.0, row_us: 0.1, kv_token_us: 0.1 };
        let cost = StepCost {
            host_us: 3000.0,
            step_us: 3100.0,
            token_us: 4.0,
            row_us: 40.5,
            kv_token_us: 0.2,
            request_us: 7.0,
        };
        let expected = StepCost {
            host_us: 3000.0,
            step_us: 2500.0,
            token_us: 2.0,
            row_us: 40.1,
            kv_token_us: 0.1,
            request_us: 7.0,
        };
        let carried = cost.carried_over(&here, &there);
        for (carried, expected) in carried.values().iter().zip(expected.values()) {
            assert!((carried / expected - 1.0).abs() < 1e-12, "{carried} {expected}");
        }
    }

    #[test]
    fn a_device_without_rates_has_no_bounds() {
        let device = Hardware::named("m4-max").expect("it is in the table");
        assert_eq!(Ideal::new(&Shape::seed(), &device, 1), None);
    }
}
