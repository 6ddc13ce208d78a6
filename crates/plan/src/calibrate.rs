//! The six numbers of a device, from a load test of it.
//!
//! The simulator itself is the function that is fitted: it is asked the same load as the real
//! server was, and its parameters are changed until its levels look like the measured ones.

use engine::{EngineConfig, FakeClock};

use crate::cost::{PARAMETERS, StepCost};
use crate::figures::Figures;
use crate::least_squares::minimise;
use crate::observed::Observation;
use crate::simulate::{ModelledServer, SimulateError, check};

/// Levels to fit to, all served by one machine.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The sizes of the engine that served them.
    pub engine: EngineConfig,
    /// What decided that which was left to chance.
    pub seed: u64,
    /// The levels.
    pub levels: &'a [Observation],
}

/// Parameters that are known from elsewhere and not fitted.
pub type Held = [Option<f64>; PARAMETERS];

/// What a fit has come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The parameters.
    pub cost: StepCost,
    /// Root of the mean square of the relative differences, each in units of what its figure repeats to
    /// from run to run.
    pub misfit: f64,
    /// Simulations of all levels that it took.
    pub simulations: usize,
}

/// Why nothing could be fitted.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum CalibrateError {
    /// No level is there.
    #[error("there is no level to fit to; give a run with at least one level that succeeded")]
    NoLevels,
    /// The run cannot be simulated.
    #[error(transparent)]
    Load(#[from] SimulateError),
    /// A level has no times.
    #[error("no request of level {number} succeeded; leave it out")]
    NoTimes {
        /// Which level of its run it is, from 1.
        number: u32,
    },
}

/// A figure of a level and how well it repeats from run to run: the relative deviation that counts
/// as one. A run of five requests per user repeats its means to about a hundredth; percentiles and
/// times to first token are of few requests, or depend on who comes first.
const REPEATS_TO: [(Figure, f64); 7] = [
    (|figures| figures.total_time_s, 0.01),
    (|figures| figures.latency_ms.map(|spread| spread.mean), 0.01),
    (|figures| figures.latency_ms.map(|spread| spread.p95), 0.03),
    (|figures| figures.ttft_ms.map(|spread| spread.mean), 0.1),
    (|figures| figures.ttft_ms.map(|spread| spread.p50), 0.2),
    (|figures| figures.front_ms, 0.1),
    (|figures| figures.pace_growth, 0.01),
];
type Figure = fn(&Figures) -> Option<f64>;

/// What is not in the data stays near the start: a factor of e counts as one deviation.
const START_WEIGHT: f64 = 1.0;

/// The figures of levels like the measured ones with these parameters.
///
/// # Errors
/// A load that cannot be simulated.
pub fn predict(target: &Target<'_>, cost: StepCost) -> Result<Vec<Figures>, SimulateError> {
    let level = |measured: &Observation| {
        let Observation { plan, number, .. } = measured;
        // Where no two prompts have a beginning in common, a cache of them would only take time.
        let prefix_cache = target.engine.prefix_cache && plan.lengths.share_beginnings();
        let engine = EngineConfig { prefix_cache, ..target.engine };
        let server = ModelledServer { engine, cost };
        let run = server.level(plan, target.seed, *number, &FakeClock::new())?;
        Ok(Figures::of(&run.records))
    };
    target.levels.iter().map(level).collect()
}

/// Finds the parameters whose simulation is nearest to all levels of all `targets`, which must be
/// of the same machine. `tell` hears of each simulation: how many there were.
///
/// # Errors
/// Nothing to fit to, or requests that could not have been served.
pub fn fit(
    targets: &[Target<'_>],
    held: &Held,
    mut tell: impl FnMut(usize),
) -> Result<Fit, CalibrateError> {
    for target in targets {
        target.check()?;
    }
    let start = start(targets, held)?;
    let free: Vec<usize> = (0..PARAMETERS).filter(|place| held[*place].is_none()).collect();
    let cost_at = |point: &[f64]| {
        let mut values = start.values();
        for (place, ln) in free.iter().zip(point) {
            values[*place] = ln.exp();
        }
        StepCost::from_values(values)
    };
    let origin: Vec<f64> = free.iter().map(|place| start.values()[*place].ln()).collect();
    let mut simulations = 0;
    let minimum = minimise(&origin, |point| {
        simulations += 1;
        tell(simulations);
        let mut residuals = residuals(targets, cost_at(point));
        let moved = point.iter().zip(&origin);
        residuals.extend(moved.map(|(ln, start)| START_WEIGHT * (ln - start)));
        residuals
    });
    let cost = cost_at(&minimum.point);
    let residuals = residuals(targets, cost);
    let squares: f64 = residuals.iter().map(|r| r * r).sum();
    let misfit = (squares / residuals.len() as f64).sqrt();
    Ok(Fit { cost, misfit, simulations })
}

/// Relative differences of all figures that both sides have, in units of [`REPEATS_TO`].
fn residuals(targets: &[Target<'_>], cost: StepCost) -> Vec<f64> {
    let mut residuals = Vec::new();
    for target in targets {
        let predicted = predict(target, cost).expect("the targets were checked");
        for (level, predicted) in target.levels.iter().zip(&predicted) {
            let measured = &level.figures;
            for (figure, repeats_to) in REPEATS_TO {
                if let (Some(measured), Some(predicted)) = (figure(measured), figure(predicted)) {
                    residuals.push((predicted / measured).ln() / repeats_to);
                }
            }
        }
    }
    residuals
}

impl Target<'_> {
    fn check(&self) -> Result<(), CalibrateError> {
        for Observation { plan, number, figures } in self.levels {
            if figures.ttft_ms.is_none() || figures.total_time_s.is_none() {
                return Err(CalibrateError::NoTimes { number: *number });
            }
            check(&self.engine, plan)?;
        }
        Ok(())
    }
}

/// A level in the few figures that a first guess is made of.
struct Rough {
    /// Sequences that ran at once.
    sequences: f64,
    /// Time per token, microseconds.
    step_us: f64,
    /// Median time to first token, microseconds.
    ttft_us: f64,
    /// Tokens of a prompt.
    prompt: f64,
    /// Positions that a row reads, on average.
    context: f64,
}

impl Rough {
    fn of(engine: &EngineConfig, level: &Observation) -> Option<Rough> {
        let Figures { ttft_ms, latency_ms, tokens_mean, concurrency, .. } = level.figures;
        let (ttft, latency, output) = (ttft_ms?, latency_ms?, tokens_mean?);
        let (least, most) = level.plan.lengths.prompt.as_ref()?.bounds();
        let prompt = (least + most) / 2.0;
        Some(Rough {
            sequences: concurrency?.min(f64::from(engine.max_num_seqs)),
            step_us: 1e3 * (latency.mean - ttft.mean) / (output - 1.0).max(1.0),
            ttft_us: 1e3 * ttft.p50,
            prompt,
            context: prompt + output / 2.0,
        })
    }
}

/// Where the search begins: the level with the fewest sequences tells the fixed costs, its distance
/// to the one with the most tells those that grow. Every value is above 0.
fn start(targets: &[Target<'_>], held: &Held) -> Result<StepCost, CalibrateError> {
    let levels = targets.iter().flat_map(|target| {
        target.levels.iter().filter_map(|level| Rough::of(&target.engine, level))
    });
    let mut levels: Vec<Rough> = levels.collect();
    levels.sort_by(|a, b| a.sequences.total_cmp(&b.sequences));
    let (Some(least), Some(most)) = (levels.first(), levels.last()) else {
        return Err(CalibrateError::NoLevels);
    };
    let alone_us = least.step_us.max(1.0);
    let growth_us = (most.step_us - least.step_us) / (most.sequences - least.sequences).max(1.0);
    let growth_us = growth_us.max(alone_us / 1e3);
    let prefill_us = (least.ttft_us - alone_us).max(least.ttft_us / 10.0).max(1.0);
    let token_us = prefill_us / 2.0 / least.prompt;
    let guess = StepCost {
        host_us: alone_us,
        step_us: (alone_us - growth_us).max(alone_us / 4.0),
        token_us,
        row_us: (0.8 * growth_us - token_us).max(growth_us / 10.0),
        kv_token_us: 0.2 * growth_us / most.context,
        request_us: prefill_us / 3.0,
    };
    let mut values = guess.values();
    for (value, held) in values.iter_mut().zip(held) {
        *value = held.unwrap_or(*value);
    }
    Ok(StepCost::from_values(values))
}

#[cfg(test)]
mod tests;
