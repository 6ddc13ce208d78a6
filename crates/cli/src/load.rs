//! Options of `bench` that say how the server is loaded.

use anyhow::{Result, bail};
use bench::{Arrivals, Distribution, Extent, Loads};
use clap::{Args, ValueEnum};

/// How the server is loaded: by users who wait for their answers (`--levels`), or by a schedule that
/// does not (`--rate`).
#[derive(Args)]
pub struct LoadArgs {
    /// Closed loop: numbers of users, one level after another. Each user waits for the whole answer
    /// before its next request.
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = [1, 4, 8, 16, 32, 64],
        value_name = "N,N,…",
        conflicts_with = "rate"
    )]
    levels: Vec<u32>,

    /// Requests that each user sends, one after another.
    #[arg(long, default_value_t = 5, value_name = "N", conflicts_with = "rate")]
    requests_per_user: u32,

    /// Open loop: requests per second, one level after another. Requests are sent when they are
    /// due, whether or not earlier ones have been answered. FROM..TO is a ramp.
    #[arg(long, value_delimiter = ',', value_name = "R,R,…")]
    rate: Vec<Rate>,

    /// How requests are spread in time: poisson (at random, independent of one another), constant
    /// (at equal distances), ramp (at equal distances that change evenly, from FROM to TO).
    #[arg(long, value_name = "NAME", default_value = "poisson", requires = "rate")]
    arrivals: Process,

    /// Requests of each level of an open loop [default: 100].
    #[arg(long, value_name = "N", requires = "rate", conflicts_with = "duration")]
    requests: Option<u32>,

    /// Seconds in which the requests of a level of an open loop are due, instead of their number.
    #[arg(long, value_name = "SECONDS", requires = "rate")]
    duration: Option<f64>,

    /// Most requests of an open loop that may be on their way at once. What is due beyond that is
    /// not sent but counted as dropped, and the run is no success.
    #[arg(long, default_value_t = 1024, value_name = "N", requires = "rate")]
    max_connections: u32,
}

/// How requests are spread in time.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Process {
    Poisson,
    Constant,
    Ramp,
}

/// `10` or `1..10`, requests per second.
#[derive(Clone, Copy)]
struct Rate {
    from: f64,
    to: Option<f64>,
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let number = |text: &str| match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() && 0.0 <= number => Ok(number),
            _ => Err(format!("`{text}` is no rate: give requests per second, like 10 or 1..10")),
        };
        match text.split_once("..") {
            None => Ok(Rate { from: number(text)?, to: None }),
            Some((from, to)) => Ok(Rate { from: number(from)?, to: Some(number(to)?) }),
        }
    }
}

/// Requests of a level of an open loop, unless said otherwise.
const REQUESTS: u32 = 100;

impl LoadArgs {
    /// The levels that these options describe.
    pub fn loads(&self) -> Result<Loads> {
        if self.rate.is_empty() {
            return Ok(Loads::Closed {
                levels: self.levels.clone(),
                requests_per_user: self.requests_per_user,
                think_time_s: Distribution::fixed(0.0),
            });
        }
        let arrivals = self.rate.iter().map(|rate| self.schedule(*rate));
        let extent = match self.duration {
            Some(seconds) => Extent::Seconds(seconds),
            None => Extent::Requests(self.requests.unwrap_or(REQUESTS)),
        };
        Ok(Loads::Open {
            arrivals: arrivals.collect::<Result<_>>()?,
            extent,
            max_connections: self.max_connections,
        })
    }

    fn schedule(&self, Rate { from, to }: Rate) -> Result<Arrivals> {
        match (self.arrivals, to) {
            (Process::Poisson, None) => Ok(Arrivals::Poisson { rate: from }),
            (Process::Constant, None) => Ok(Arrivals::Constant { rate: from }),
            (Process::Ramp, Some(to)) => Ok(Arrivals::Ramp { from, to }),
            (Process::Ramp, None) => {
                bail!("`--arrivals ramp` needs `--rate` as FROM..TO, not {from}")
            }
            (_, Some(to)) => bail!("`--rate {from}..{to}` needs `--arrivals ramp`"),
        }
    }
}
