//! Options that say how a server is loaded, a real one by `bench` or a modelled one by `plan`.

use std::fs::File;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bench::{Arrivals, DatasetFile, Distribution, Extent, Loads};
use clap::{Args, ValueEnum};
use workload::lengths::LENGTH_LIMITS;
use workload::load::Load;

/// How the server is loaded: by users who wait for their answers (`--levels`), or by a schedule that
/// does not (`--rate`, `--trace`).
#[derive(Args)]
pub struct LoadArgs {
    /// Closed loop: numbers of users, one level after another. Each user waits for the whole answer
    /// before its next request. `auto` doubles the users from 1 until two doublings in a row gain
    /// less than 5 % of throughput, or requests fail [default: 1,4,8,16,32,64].
    #[arg(long, value_name = "N,N,…", conflicts_with = "open")]
    levels: Option<Levels>,

    /// Requests that each user sends, one after another.
    #[arg(long, default_value_t = 5, value_name = "N", conflicts_with = "open")]
    requests_per_user: u32,

    /// Seconds from the end of an answer to the user's next request: a number, uniform:MIN..MAX,
    /// normal:MEAN,SD or lognormal:MEAN,SD (bounded with ,MIN..MAX behind), file:PATH.
    #[arg(
        long,
        default_value = "0",
        value_name = "SECONDS",
        conflicts_with = "open",
        value_parser = think_time
    )]
    think_time: Distribution,

    /// Open loop: requests per second, one level after another. Requests are sent when they are
    /// due, whether or not earlier ones have been answered. FROM..TO is a ramp.
    #[arg(long, value_delimiter = ',', value_name = "R,R,…", group = "open")]
    rate: Vec<Rate>,

    /// How requests are spread in time: poisson (at random, independent of one another), constant
    /// (at equal distances), ramp (at equal distances that change evenly, from FROM to TO).
    #[arg(long, value_name = "NAME", default_value = "poisson", requires = "rate")]
    arrivals: Process,

    /// Open loop: requests that were recorded with their times, sent at the same distances: JSON lines
    /// with `timestamp` (milliseconds) or `timestamp_s`, and `prompt`, `messages` or `prompt_tokens`.
    #[arg(long, value_name = "FILE", group = "open")]
    trace: Option<PathBuf>,

    /// How many times faster than recorded a trace is sent, one level after another.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "X,X,…",
        default_value = "1",
        requires = "trace"
    )]
    trace_speed: Vec<f64>,

    /// Requests of each level of an open loop [default: 100, of a trace all].
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    requests: Option<u32>,

    /// Seconds in which the requests of a level of an open loop are due, instead of their number.
    #[arg(long, value_name = "SECONDS", requires = "rate")]
    duration: Option<f64>,
}

/// `1,4,8` or `auto`.
#[derive(Clone)]
enum Levels {
    Listed(Vec<u32>),
    Auto,
}

/// Levels if nothing is said.
const LEVELS: [u32; 6] = [1, 4, 8, 16, 32, 64];

/// Most users that `--levels auto` tries.
const AUTO_USERS_MAX: u32 = 1024;

impl std::str::FromStr for Levels {
    type Err = String;

    fn from_str(text: &str) -> Result<Levels, String> {
        if text == "auto" {
            return Ok(Levels::Auto);
        }
        let users = text.split(',').map(|users| {
            let wrong = || format!("`{users}` is no number of users: give N,N,… or auto");
            users.trim().parse().map_err(|_| wrong())
        });
        users.collect::<Result<_, _>>().map(Levels::Listed)
    }
}

/// Longest time that a user may think, seconds.
const THINK_TIME_S_MAX: f64 = 3600.0;

fn think_time(text: &str) -> Result<Distribution> {
    distribution(text, 0.0..=THINK_TIME_S_MAX)
}

/// How lengths are spread: a distribution of whole tokens.
pub fn length(text: &str) -> Result<Distribution> {
    distribution(text, LENGTH_LIMITS)
}

/// Largest file of values.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// Reads what [`Distribution::parse`] does, and `file:PATH` with one value a line.
fn distribution(text: &str, limits: RangeInclusive<f64>) -> Result<Distribution> {
    let Some(path) = text.strip_prefix("file:") else {
        return Ok(Distribution::parse(text, limits)?);
    };
    let read = || -> std::io::Result<String> {
        let mut list = String::new();
        File::open(path)?.take(LIST_BYTES_MAX + 1).read_to_string(&mut list)?;
        Ok(list)
    };
    let list = read().with_context(|| format!("cannot read `{path}`"))?;
    if LIST_BYTES_MAX < list.len() as u64 {
        bail!("`{path}` is larger than {LIST_BYTES_MAX} bytes");
    }
    Distribution::listed(&list, limits).with_context(|| format!("`{path}` holds no values"))
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
    /// The trace that is to be sent, if one is.
    pub fn trace(&self) -> Result<Option<DatasetFile>> {
        Ok(self.trace.as_deref().map(DatasetFile::read_trace).transpose()?)
    }

    /// Whether levels were given.
    pub fn is_given(&self) -> bool {
        self.levels.is_some() || !self.rate.is_empty() || self.trace.is_some()
    }

    /// Refuses a number of requests where users decide it.
    pub fn check_requests(&self) -> Result<()> {
        let is_open = !self.rate.is_empty() || self.trace.is_some();
        match self.requests {
            Some(requests) if !is_open => bail!(
                "--requests is {requests}: it goes with --rate or --trace; of users say \
                 --requests-per-user"
            ),
            _ => Ok(()),
        }
    }

    /// Requests of each level of an open loop, if they were given.
    pub fn requests(&self) -> Option<u32> {
        self.requests
    }

    /// A level of so many users.
    pub fn closed(&self, users: u32) -> Load {
        Load::Closed {
            users,
            requests_per_user: self.requests_per_user,
            think_time_s: self.think_time.clone(),
        }
    }

    /// The levels that these options describe, given the `trace`; of an open loop at most
    /// `max_connections` requests are on their way at once.
    pub fn loads(&self, trace: Option<&DatasetFile>, max_connections: u32) -> Result<Loads> {
        if let Some(trace) = trace.filter(|trace| trace.is_trace()) {
            let all = u32::try_from(trace.name.requests).unwrap_or(u32::MAX);
            let requests = self.requests.map_or(all, |requests| requests.min(all));
            let level = |speed: &f64| Arrivals::Trace {
                span_s: trace.span_s(requests) / speed,
                speed: *speed,
            };
            return Ok(Loads::Open {
                arrivals: self.trace_speed.iter().map(level).collect(),
                extent: Extent::Requests(requests),
                max_connections,
            });
        }
        if self.rate.is_empty() {
            let (requests_per_user, think_time_s) =
                (self.requests_per_user, self.think_time.clone());
            let levels = match &self.levels {
                None => LEVELS.to_vec(),
                Some(Levels::Listed(levels)) => levels.clone(),
                Some(Levels::Auto) => {
                    let users_max = AUTO_USERS_MAX;
                    return Ok(Loads::Doubling { users_max, requests_per_user, think_time_s });
                }
            };
            return Ok(Loads::Closed { levels, requests_per_user, think_time_s });
        }
        let arrivals = self.rate.iter().map(|rate| self.schedule(*rate));
        let extent = match self.duration {
            Some(seconds) => Extent::Seconds(seconds),
            None => Extent::Requests(self.requests.unwrap_or(REQUESTS)),
        };
        Ok(Loads::Open { arrivals: arrivals.collect::<Result<_>>()?, extent, max_connections })
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
