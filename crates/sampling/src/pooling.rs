//! One vector out of the states of a prompt's positions, in place of a token.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};

/// Which positions' states make the vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all positions.
    Mean,
    /// That of the last position.
    Last,
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Last => "last",
        })
    }
}

impl FromStr for Pooling {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "mean" => Ok(Self::Mean),
            "last" => Ok(Self::Last),
            other => Err(format!("`{other}` is no way to pool; give mean or last")),
        }
    }
}

/// The vector of one prompt in the making.
///
/// It goes with the request through all steps that compute it; whoever waits for the vector keeps a
/// clone. States are added one by one in the order of positions, so that the vector does not depend
/// on where steps end.
#[derive(Debug, Clone)]
pub struct Pool {
    pooling: Pooling,
    sums: Arc<Mutex<Sums>>,
}

#[derive(Debug, Default)]
struct Sums {
    count: usize,
    /// Empty before the first state.
    values: Vec<f64>,
}

impl Pool {
    /// Nothing added yet.
    pub fn new(pooling: Pooling) -> Self {
        Pool { pooling, sums: Arc::default() }
    }

    /// Whether the state of `position` is wanted, in a prompt of `prompt_len` positions.
    pub fn wants(&self, position: usize, prompt_len: usize) -> bool {
        self.pooling == Pooling::Mean || position + 1 == prompt_len
    }

    /// Adds the state of a wanted position. The first one begins anew, since a sequence that lost its
    /// blocks is computed again.
    pub fn add(&self, position: usize, state: &[f32]) {
        let mut sums = self.lock();
        if position == 0 || self.pooling == Pooling::Last {
            *sums = Sums { count: 0, values: vec![0.0; state.len()] };
        }
        let due = if self.pooling == Pooling::Mean { sums.count } else { position };
        assert_eq!(position, due, "the states of a prompt are added in order");
        sums.count += 1;
        for (sum, value) in sums.values.iter_mut().zip(state) {
            *sum += f64::from(*value);
        }
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        self.lock().values.iter().all(|sum| sum.is_finite())
    }

    /// The vector; empty if no state was added.
    pub fn vector(&self) -> Vec<f32> {
        let sums = self.lock();
        sums.values.iter().map(|sum| (sum / sums.count as f64) as f32).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().expect("only an addition out of order panics, and then its step ends")
    }
}

/// Two are equal if they are one.
impl PartialEq for Pool {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sums, &other.sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_over_all_positions_and_begins_anew_at_the_first() {
        let pool = Pool::new(Pooling::Mean);
        pool.add(0, &[9.0, 9.0]);
        for (position, state) in [[1.0, -2.0], [2.0, 0.0], [6.0, 8.0]].iter().enumerate() {
            assert!(pool.wants(position, 3));
            pool.add(position, state);
        }
        assert_eq!(pool.vector(), [3.0, 2.0]);
    }

    #[test]
    fn the_last_is_that_of_the_last_position() {
        let pool = Pool::new(Pooling::Last);
        assert_eq!([0, 1, 2].map(|position| pool.wants(position, 3)), [false, false, true]);
        pool.add(2, &[1.0]);
        pool.add(2, &[5.0]);
        assert_eq!(pool.vector(), [5.0]);
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn a_position_that_is_left_out_is_noticed() {
        let pool = Pool::new(Pooling::Mean);
        pool.add(0, &[1.0]);
        pool.add(2, &[1.0]);
    }

    #[test]
    fn a_number_that_is_not_finite_is_noticed() {
        let pool = Pool::new(Pooling::Mean);
        pool.add(0, &[1.0, f32::INFINITY]);
        assert!(!pool.is_finite());
        assert_eq!(Pool::new(Pooling::Last).vector(), [0.0; 0]);
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for pooling in [Pooling::Mean, Pooling::Last] {
            assert_eq!(pooling.to_string().parse(), Ok(pooling));
        }
        assert!("max".parse::<Pooling>().unwrap_err().contains("`max`"));
    }
}
