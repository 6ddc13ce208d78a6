//! Each loop against a plain one, at every length.

use super::*;

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37) % 101) as f32 - 50.0).collect()
}

#[test]
fn exp2_agrees_with_the_library_to_the_last_digits() {
    let mut worst = 0.0_f64;
    for step in 0..1_260_000 {
        let x = -(step as f32) * 1e-4;
        worst = worst.max((f64::from(exp2(x)) / f64::from(x).exp2() - 1.0).abs());
    }
    assert!(worst < 2e-7, "{worst}");
}

#[test]
fn exp2_ends_at_zero_and_never_below() {
    assert_eq!((exp2(0.0), exp2(-1.0), exp2(-126.0)), (1.0, 0.5, f32::MIN_POSITIVE));
    for x in [-127.0, -127.5, -1e9, f32::MIN, f32::NEG_INFINITY] {
        assert_eq!(exp2(x), 0.0, "{x}");
    }
    for step in 0..20_000 {
        let x = -126.0 - step as f32 * 1e-4;
        assert!((0.0..=f32::MIN_POSITIVE).contains(&exp2(x)), "{x}: {}", exp2(x));
    }
}

#[test]
fn maxima_are_those_of_every_sixteenth_value_of_a_block() {
    for len in (0..70).chain([511, 512, 513, 1040]) {
        let values = values(len);
        let mut maxima = vec![Lanes([9.0; LANES])];
        assert!(lane_maxima(&values, &mut maxima));
        assert_eq!(maxima.len(), len.div_ceil(BLOCK));
        for (block, lanes) in maxima.iter().enumerate() {
            for (lane, &max) in lanes.0.iter().enumerate() {
                let own = (block * BLOCK + lane..len.min((block + 1) * BLOCK)).step_by(LANES);
                let plain = own.map(|at| values[at]).fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(max, plain, "length {len}, block {block}, lane {lane}");
            }
        }
        assert_eq!(max(&maxima), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    }
}

#[test]
fn a_value_that_is_not_finite_is_seen_wherever_it_stands() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
        for at in [0, 17, 511, 512, 1029] {
            let mut values = values(1030);
            assert!(lane_maxima(&values, &mut Vec::new()));
            values[at] = value;
            assert!(!lane_maxima(&values, &mut Vec::new()), "{value} at {at}");
        }
    }
}

#[test]
fn values_of_a_bound_and_above_are_visited_in_order() {
    for len in (0..70).chain([600]) {
        let values = values(len);
        for bound in [-60.0, -20.0, 50.0, 51.0] {
            let mut found = Vec::new();
            each_at_least(&values, bound, |at| found.push(at));
            let plain: Vec<_> = (0..len).filter(|&at| bound <= values[at]).collect();
            assert_eq!(found, plain, "length {len}, bound {bound}");
        }
    }
}

#[test]
fn weights_and_their_sums_agree_with_double_precision() {
    for (len, floor) in [(512, f32::MIN), (512, -7.0), (45, f32::MIN), (3, f32::MIN), (0, 0.0)] {
        let logits: Vec<f32> = values(len).iter().map(|value| value / 5.0).collect();
        let weigher = Weigher { max: 10.0, floor, scale: 1.5 };
        let mut weights = vec![9.0; len];
        let sum = weigher.weigh(&logits, &mut weights);
        let exact = |logit: f32| {
            if logit < floor { 0.0 } else { ((f64::from(logit) - 10.0) * 1.5).exp2() }
        };
        for (&logit, &weight) in logits.iter().zip(&weights) {
            assert_eq!(weight, weigher.weight(logit), "one by one and in vectors");
            let apart = (f64::from(weight) - exact(logit)).abs();
            assert!(apart <= exact(logit) * 3e-6, "{logit}: {weight}");
        }
        let plain: f64 = logits.iter().map(|&logit| exact(logit)).sum();
        assert!((sum - plain).abs() <= plain * 3e-6, "{sum}, not {plain}");
        let heavy: f64 = weights.iter().filter(|w| **w >= 0.25).map(|&w| f64::from(w)).sum();
        assert!((sum_at_least(&weights, 0.25) - heavy).abs() <= heavy * 2e-6);
    }
}

#[test]
fn powers_of_two_and_exponents_are_each_other_s_inverse() {
    for exponent_of in -126..=127 {
        assert_eq!(f64::from(power_of_two(exponent_of)), 2_f64.powi(exponent_of));
        assert_eq!(exponent(power_of_two(exponent_of) * 1.99), exponent_of);
    }
}
