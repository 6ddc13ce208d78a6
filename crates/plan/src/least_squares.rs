//! The parameters at which a sum of squares is least (Levenberg and Marquardt's method).

/// How far a search went.
#[derive(Clone, Debug, PartialEq)]
pub struct Minimum {
    /// The best point found.
    pub point: Vec<f64>,
    /// Half the sum of squares there.
    pub cost: f64,
}

/// Steps after which a search ends whatever it has found; those that need more wander in a valley.
const STEPS_MAX: usize = 40;
/// A step that lowers the cost by less than this part of it is the last.
const LEAST_GAIN: f64 = 1e-5;
/// Distance of the points between which a slope is taken. Residuals that jump (a request that
/// slips into the next step) are smoothed over that distance.
const SLOPE_WIDTH: f64 = 0.01;
/// No parameter moves further than this in one step.
const STRIDE_MAX: f64 = 0.7;
/// Damping at the start, and the one at which nothing better is near.
const DAMPING: (f64, f64) = (1e-3, 1e6);

/// Goes downhill from `start` until nothing better is near. `residuals` gives as many values at
/// every point, all finite.
///
/// Parameters should be scaled so that 1 is a large and [`SLOPE_WIDTH`] a small change of each.
pub fn minimise(start: &[f64], mut residuals: impl FnMut(&[f64]) -> Vec<f64>) -> Minimum {
    let mut point = start.to_vec();
    let mut here = residuals(&point);
    let mut damping = DAMPING.0;
    for _ in 0..STEPS_MAX {
        let slopes = slopes(&point, &here, &mut residuals);
        let mut gain = 0.0;
        while gain == 0.0 && damping < DAMPING.1 {
            let candidate = step_from(&point, &here, &slopes, damping);
            let there = residuals(&candidate);
            if cost(&there) < cost(&here) {
                gain = 1.0 - cost(&there) / cost(&here);
                (point, here) = (candidate, there);
                damping = (damping / 5.0).max(DAMPING.0);
            } else {
                damping *= 4.0;
            }
        }
        if gain < LEAST_GAIN {
            break;
        }
    }
    Minimum { cost: cost(&here), point }
}

fn cost(residuals: &[f64]) -> f64 {
    residuals.iter().map(|r| r * r).sum::<f64>() / 2.0
}

/// How the residuals change with each parameter. Shape: [parameters, residuals].
fn slopes(
    point: &[f64],
    here: &[f64],
    residuals: &mut impl FnMut(&[f64]) -> Vec<f64>,
) -> Vec<Vec<f64>> {
    let mut slope = |parameter: usize| {
        let mut aside = point.to_vec();
        aside[parameter] += SLOPE_WIDTH;
        let there = residuals(&aside);
        assert_eq!(there.len(), here.len(), "every point has the same residuals");
        there.iter().zip(here).map(|(there, here)| (there - here) / SLOPE_WIDTH).collect()
    };
    (0..point.len()).map(&mut slope).collect()
}

/// The point that would be best if residuals changed evenly, held back by `damping`.
fn step_from(point: &[f64], here: &[f64], slopes: &[Vec<f64>], damping: f64) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut equations: Vec<Vec<f64>> = slopes
        .iter()
        .map(|row| slopes.iter().map(|column| dot(row, column)).chain([-dot(row, here)]).collect())
        .collect();
    for (parameter, equation) in equations.iter_mut().enumerate() {
        // The least term keeps a parameter in place that changes nothing.
        equation[parameter] += damping * equation[parameter].max(1e-9);
    }
    let step = solve(equations);
    point.iter().zip(step).map(|(x, dx)| x + dx.clamp(-STRIDE_MAX, STRIDE_MAX)).collect()
}

/// Solves `n` equations, each of `n` factors and a right side, by elimination.
fn solve(mut equations: Vec<Vec<f64>>) -> Vec<f64> {
    let count = equations.len();
    for column in 0..count {
        let size = |row: &usize| equations[*row][column].abs();
        let best = (column..count).max_by(|a, b| size(a).total_cmp(&size(b)));
        equations.swap(column, best.expect("the range is not empty"));
        let pivot = equations[column].clone();
        for (row, equation) in equations.iter_mut().enumerate() {
            if row != column {
                let factor = equation[column] / pivot[column];
                equation.iter_mut().zip(&pivot).for_each(|(x, p)| *x -= factor * p);
            }
        }
    }
    (0..count).map(|row| equations[row][count] / equations[row][row]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved() {
        let equations =
            vec![vec![0.0, 2.0, 1.0, 7.0], vec![1.0, 1.0, 0.0, 3.0], vec![3.0, 0.0, -1.0, 0.0]];
        let solution = solve(equations);
        for (x, expected) in solution.iter().zip([1.0, 2.0, 3.0]) {
            assert!((x - expected).abs() < 1e-12, "{solution:?}");
        }
    }

    #[test]
    fn a_curved_valley_is_followed_to_its_end() {
        // Rosenbrock's function, least at (1, 1).
        let minimum = minimise(&[-1.2, 1.0], |x| vec![10.0 * (x[1] - x[0] * x[0]), 1.0 - x[0]]);
        let Minimum { point, cost } = minimum;
        assert!(cost < 1e-4 && (point[0] - 1.0).abs() < 0.02, "{point:?} costs {cost}");
    }

    #[test]
    fn a_parameter_that_changes_nothing_stays() {
        let minimum = minimise(&[5.0, 0.5], |x| vec![x[0] - 2.0]);
        assert!((minimum.point[0] - 2.0).abs() < 1e-3, "{minimum:?}");
        assert_eq!(minimum.point[1], 0.5);
    }
}
