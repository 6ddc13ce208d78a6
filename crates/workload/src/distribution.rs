//! Distributions of lengths and times, as they are written on a command line and as they are drawn.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// How a length (in tokens) or a time (in seconds) is spread over the requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "distribution", rename_all = "snake_case")]
pub enum Distribution {
    /// Always the same.
    Fixed {
        /// That value.
        value: f64,
    },
    /// Each value between the bounds, both included, equally likely.
    Uniform {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// Normal; what falls outside the bounds is drawn again.
    Normal {
        /// Mean before it is bounded.
        mean: f64,
        /// Standard deviation before it is bounded.
        sd: f64,
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// Log-normal; what falls outside the bounds is drawn again.
    LogNormal {
        /// Mean of the values (not of their logarithms) before they are bounded.
        mean: f64,
        /// Standard deviation of the values before they are bounded.
        sd: f64,
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// One of a list, all equally likely.
    Listed {
        /// The list, not empty.
        values: Vec<f64>,
    },
}

/// Why a text is no distribution.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadDistribution {
    /// Neither a number nor the name of a distribution.
    #[error(
        "`{0}` is no distribution: give a number, `uniform:MIN..MAX`, `normal:MEAN,SD` or \
         `lognormal:MEAN,SD`, the last two with `,MIN..MAX` behind them if they are to be bounded"
    )]
    Unknown(String),
    /// A value that cannot be drawn.
    #[error("{value} is not between {min} and {max}")]
    OutOfBounds {
        /// The value.
        value: f64,
        /// Least possible value.
        min: f64,
        /// Largest possible value.
        max: f64,
    },
    /// Bounds in the wrong order.
    #[error("the bounds {min}..{max} are in the wrong order")]
    Disordered {
        /// The first bound.
        min: f64,
        /// The second bound, which is smaller.
        max: f64,
    },
    /// A standard deviation below 0, or a mean that a log-normal distribution cannot have.
    #[error("a distribution with mean {mean} and standard deviation {sd} does not exist")]
    Impossible {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        sd: f64,
    },
    /// A line of a list.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A list of nothing.
    #[error("the list is empty")]
    Empty,
}

/// Draws outside the bounds before the nearest bound is taken.
const DRAWS_MAX: u32 = 64;

impl Distribution {
    /// Always `value`.
    pub const fn fixed(value: f64) -> Distribution {
        Distribution::Fixed { value }
    }

    /// Reads `100`, `uniform:50..150`, `normal:100,20`, `lognormal:100,80` or, bounded,
    /// `normal:100,20,50..200`. No value may lie outside `limits`.
    pub fn parse(text: &str, limits: RangeInclusive<f64>) -> Result<Distribution, BadDistribution> {
        let unknown = || BadDistribution::Unknown(text.to_owned());
        let (least, most) = (*limits.start(), *limits.end());
        let distribution = match text.trim().split_once(':') {
            None => Distribution::fixed(number(text).ok_or_else(unknown)?),
            Some(("uniform", bounds)) => {
                let (min, max) = range(bounds).ok_or_else(unknown)?;
                Distribution::Uniform { min, max }
            }
            Some((name @ ("normal" | "lognormal"), values)) => {
                let mut values = values.splitn(3, ',');
                let mut next = || number(values.next()?);
                let (mean, sd) = next().zip(next()).ok_or_else(unknown)?;
                let (min, max) = match values.next() {
                    None => (least, most),
                    Some(bounds) => range(bounds).ok_or_else(unknown)?,
                };
                match name {
                    "normal" => Distribution::Normal { mean, sd, min, max },
                    _ => Distribution::LogNormal { mean, sd, min, max },
                }
            }
            Some(_) => return Err(unknown()),
        };
        distribution.check(limits)?;
        Ok(distribution)
    }

    /// The values in `text`, one a line; blank lines are passed over.
    pub fn listed(
        text: &str,
        limits: RangeInclusive<f64>,
    ) -> Result<Distribution, BadDistribution> {
        let mut values = Vec::new();
        for (line, value) in (1..).zip(text.lines()).filter(|(_, value)| !value.trim().is_empty()) {
            let bad = |why: String| BadDistribution::Line { line, why };
            let excerpt: String = value.trim().chars().take(40).collect();
            let value = number(value).ok_or_else(|| bad(format!("`{excerpt}` is no number")))?;
            inside(value, &limits).map_err(|error| bad(error.to_string()))?;
            values.push(value);
        }
        if values.is_empty() { Err(BadDistribution::Empty) } else { Ok(Self::Listed { values }) }
    }

    fn check(&self, limits: RangeInclusive<f64>) -> Result<(), BadDistribution> {
        let (min, max) = self.bounds();
        inside(min, &limits)?;
        inside(max, &limits)?;
        if max < min {
            return Err(BadDistribution::Disordered { min, max });
        }
        let impossible = match *self {
            Distribution::Normal { mean, sd, .. } if sd < 0.0 => Some((mean, sd)),
            Distribution::LogNormal { mean, sd, .. } if sd < 0.0 || mean <= 0.0 => Some((mean, sd)),
            _ => None,
        };
        impossible.map_or(Ok(()), |(mean, sd)| Err(BadDistribution::Impossible { mean, sd }))
    }

    /// The smallest and the largest value that can come.
    pub fn bounds(&self) -> (f64, f64) {
        match self {
            Distribution::Fixed { value } => (*value, *value),
            Distribution::Uniform { min, max }
            | Distribution::Normal { min, max, .. }
            | Distribution::LogNormal { min, max, .. } => (*min, *max),
            Distribution::Listed { values } => {
                values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| {
                    (min.min(*value), max.max(*value))
                })
            }
        }
    }

    /// The value that always comes, if only one can.
    pub fn constant(&self) -> Option<f64> {
        let (min, max) = self.bounds();
        (min == max).then_some(min)
    }

    /// The next value.
    pub fn draw(&self, random: &mut Random) -> f64 {
        match self {
            Distribution::Fixed { value } => *value,
            Distribution::Uniform { min, max } => min + (max - min) * random.unit(),
            Distribution::Normal { mean, sd, min, max } => {
                bounded(*min..=*max, || mean + sd * random.normal())
            }
            Distribution::LogNormal { mean, sd, min, max } => {
                let variance = (1.0 + (sd / mean).powi(2)).ln();
                let middle = mean.ln() - variance / 2.0;
                bounded(*min..=*max, || (middle + variance.sqrt() * random.normal()).exp())
            }
            Distribution::Listed { values } => values[random.below(values.len())],
        }
    }

    /// The next value as a whole number, at least 0; of a uniform distribution each equally likely.
    pub fn draw_count(&self, random: &mut Random) -> u32 {
        match self {
            Distribution::Uniform { min, max } => {
                let (min, max) = (min.ceil() as u32, max.floor() as u32);
                min + random.below(max.saturating_sub(min) as usize + 1) as u32
            }
            _ => self.draw(random).round() as u32,
        }
    }
}

/// As on the command line; a list is its size and bounds.
impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distribution::Fixed { value } => write!(f, "{value}"),
            Distribution::Uniform { min, max } => write!(f, "uniform:{min}..{max}"),
            Distribution::Normal { mean, sd, min, max } => {
                write!(f, "normal:{mean},{sd},{min}..{max}")
            }
            Distribution::LogNormal { mean, sd, min, max } => {
                write!(f, "lognormal:{mean},{sd},{min}..{max}")
            }
            Distribution::Listed { values } => {
                let (min, max) = self.bounds();
                write!(f, "{} listed values, {min}..{max}", values.len())
            }
        }
    }
}

fn bounded(bounds: RangeInclusive<f64>, mut draw: impl FnMut() -> f64) -> f64 {
    let mut value = draw();
    for _ in 1..DRAWS_MAX {
        if bounds.contains(&value) {
            break;
        }
        value = draw();
    }
    value.clamp(*bounds.start(), *bounds.end())
}

fn inside(value: f64, limits: &RangeInclusive<f64>) -> Result<(), BadDistribution> {
    let (min, max) = (*limits.start(), *limits.end());
    if limits.contains(&value) {
        Ok(())
    } else {
        Err(BadDistribution::OutOfBounds { value, min, max })
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| value.is_finite())
}

fn range(text: &str) -> Option<(f64, f64)> {
    let (min, max) = text.split_once("..")?;
    Some((number(min)?, number(max)?))
}

#[cfg(test)]
mod tests;
