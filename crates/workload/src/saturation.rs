//! Where a sweep of levels ends by itself: when more users bring no more throughput.

use std::fmt;

use crate::summary::LevelSummary;

/// A doubling of the users that gains less than this share of throughput gains nothing.
pub const GAIN_LEAST: f64 = 0.05;
/// So many doublings in a row that gain nothing end the sweep: one alone may be chance.
const FLAT_DOUBLINGS: usize = 2;

/// Why a sweep goes no further.
#[derive(Clone, Debug, PartialEq)]
pub enum Saturation {
    /// The last doublings gained too little; the share that each gained.
    Flat(Vec<f64>),
    /// Requests failed: how many at the last level.
    Failures(usize),
    /// The last level was not finished, or none of its requests succeeded.
    Incomplete,
    /// So many users are the most that may be tried.
    Limit(u32),
}

impl fmt::Display for Saturation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Saturation::Flat(gains) => {
                let gains: Vec<_> =
                    gains.iter().map(|gain| format!("{:.1} %", 100.0 * gain)).collect();
                write!(f, "the last doublings changed throughput by {}", gains.join(" and "))
            }
            Saturation::Failures(failed) => write!(f, "{failed} requests failed"),
            Saturation::Incomplete => write!(f, "the last level has no throughput"),
            Saturation::Limit(users) => write!(f, "no more than {users} users are tried"),
        }
    }
}

/// How many users the level after `levels` has, in a sweep that doubles them from 1 up to
/// `users_max`.
///
/// # Errors
/// Why there is no level after them.
pub fn next_users(levels: &[LevelSummary], users_max: u32) -> Result<u32, Saturation> {
    let Some(last) = levels.last() else { return Ok(1) };
    if 0 < last.counts.failed {
        return Err(Saturation::Failures(last.counts.failed));
    }
    if !last.is_complete() || last.tokens_per_second.is_none() {
        return Err(Saturation::Incomplete);
    }
    let rates: Vec<f64> = levels.iter().filter_map(|level| level.tokens_per_second).collect();
    let gains: Vec<f64> = rates.windows(2).map(|pair| pair[1] / pair[0] - 1.0).collect();
    let flat = gains.iter().rev().take_while(|gain| **gain < GAIN_LEAST).count();
    if FLAT_DOUBLINGS <= flat {
        return Err(Saturation::Flat(gains[gains.len() - FLAT_DOUBLINGS..].to_vec()));
    }
    match last.plan.users().and_then(|users| users.checked_mul(2)) {
        Some(users) if users <= users_max => Ok(users),
        _ => Err(Saturation::Limit(users_max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lengths::Lengths;
    use crate::load::{LevelPlan, Load};
    use crate::summary::Counts;

    /// Complete levels of 1, 2, 4, … users with these throughputs.
    fn levels(rates: &[f64]) -> Vec<LevelSummary> {
        let lengths = Lengths { prompt_tokens: 1, output_tokens: 1 };
        let level = |(power, rate): (u32, &f64)| {
            let plan = LevelPlan { load: Load::closed(1 << power, 1), lengths: lengths.into() };
            let requests = plan.requests();
            LevelSummary {
                counts: Counts { sent: requests, ok: requests, ..Counts::default() },
                tokens_per_second: Some(*rate),
                ..LevelSummary::of(plan, 0, &[], &[])
            }
        };
        (0..).zip(rates).map(level).collect()
    }

    #[test]
    fn users_double_until_two_doublings_gain_nothing() {
        assert_eq!(next_users(&[], 1024), Ok(1));
        assert_eq!(next_users(&levels(&[10.0]), 1024), Ok(2));
        assert_eq!(next_users(&levels(&[10.0, 10.2]), 1024), Ok(4));
        assert_eq!(next_users(&levels(&[10.0, 10.2, 20.0]), 1024), Ok(8));
        let flat = next_users(&levels(&[10.0, 20.0, 20.5, 20.1]), 1024).expect_err("it is flat");
        assert!(matches!(&flat, Saturation::Flat(gains) if gains.len() == 2));
        let words = "the last doublings changed throughput by 2.5 % and -2.0 %";
        assert_eq!(flat.to_string(), words);
    }

    #[test]
    fn failures_an_unfinished_level_and_the_limit_end_it_too() {
        let mut failing = levels(&[10.0, 20.0]);
        failing[1].counts.failed = 1;
        assert_eq!(next_users(&failing, 1024), Err(Saturation::Failures(1)));
        let mut stopped = levels(&[10.0, 20.0]);
        stopped[1].counts.ok -= 1;
        assert_eq!(next_users(&stopped, 1024), Err(Saturation::Incomplete));
        assert_eq!(next_users(&levels(&[10.0, 20.0]), 3), Err(Saturation::Limit(3)));
    }
}
