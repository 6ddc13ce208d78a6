//! What a step costs: six numbers that stand for a device and the program that drives it.

use std::time::Duration;

use engine::StepPlan;
use serde::{Deserialize, Serialize};

/// The time that a device takes for a step, and a request for its way there.
///
/// A step takes the longer of two times, since the host prepares the next step while the device
/// computes: `max(host, step + token · positions + row · rows + kv_token · kv_tokens)`, where
/// `positions` are computed in the step, `rows` give a token, and `kv_tokens` are the positions
/// whose keys and values are read, each row its own from 0 to the last it computes.
///
/// All in microseconds, at least 0. The comments say where a value comes from:
/// [`calibrate`](crate::calibrate) finds those of a machine that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepCost {
    /// The host's work for a step: scheduling, launching, handing out tokens. No step is shorter.
    /// Source: the time per token of one sequence, where that is more than the device needs.
    pub host_us: f64,
    /// What the device spends on any step: the weights read once, and starting its work.
    /// Source: bytes of the weights over memory bandwidth, plus what starting takes.
    pub step_us: f64,
    /// Multiplying one position with all weights but the head.
    /// Source: operations of a position over operations per second, as prompts reach them.
    pub token_us: f64,
    /// Choosing one token: the head's product, sampling, the token's way out.
    /// Source: how the time per token grows with the number of sequences.
    pub row_us: f64,
    /// Reading the keys and values of one position.
    /// Source: bytes of a position over memory bandwidth.
    pub kv_token_us: f64,
    /// From a client's first byte until the engine has the request: network, HTTP, tokenizer, the
    /// queue's lock, and back for the first token. Source: the time to first token of one user,
    /// less its step.
    pub request_us: f64,
}

/// How many parameters there are.
pub const PARAMETERS: usize = 6;

/// The work of a step, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepWork {
    /// Positions computed.
    pub positions: usize,
    /// Rows that give a token.
    pub rows: usize,
    /// Positions whose keys and values are read, summed over the rows.
    pub kv_tokens: usize,
}

impl StepWork {
    /// Counts the work of `plan`.
    pub fn of<P>(plan: &StepPlan<'_, P>) -> StepWork {
        let mut work = StepWork::default();
        for row in &plan.rows {
            work.positions += row.compute.len();
            work.rows += usize::from(row.sampled());
            work.kv_tokens += row.compute.end;
        }
        work
    }
}

impl StepCost {
    /// The parameters' names, in the order in which they are declared.
    pub const NAMES: [&str; PARAMETERS] =
        ["host_us", "step_us", "token_us", "row_us", "kv_token_us", "request_us"];

    /// The parameters, in the order of [`StepCost::NAMES`].
    pub fn values(&self) -> [f64; PARAMETERS] {
        let StepCost { host_us, step_us, token_us, row_us, kv_token_us, request_us } = *self;
        [host_us, step_us, token_us, row_us, kv_token_us, request_us]
    }

    /// The parameters from [`StepCost::values`].
    pub fn from_values(values: [f64; PARAMETERS]) -> StepCost {
        let [host_us, step_us, token_us, row_us, kv_token_us, request_us] = values;
        StepCost { host_us, step_us, token_us, row_us, kv_token_us, request_us }
    }

    /// How long a step with this work takes.
    pub fn step(&self, work: StepWork) -> Duration {
        let StepWork { positions, rows, kv_tokens } = work;
        let device_us = self.step_us
            + self.token_us * positions as f64
            + self.row_us * rows as f64
            + self.kv_token_us * kv_tokens as f64;
        microseconds(device_us.max(self.host_us))
    }

    /// How long a request is on its way to the engine.
    pub fn request(&self) -> Duration {
        microseconds(self.request_us)
    }
}

/// A time that is not negative, to the nanosecond.
fn microseconds(us: f64) -> Duration {
    Duration::from_nanos((us * 1e3).round() as u64)
}

#[cfg(test)]
mod tests {
    use engine::{BlockId, RequestId, Row, TokenId};

    use super::*;

    const COST: StepCost = StepCost {
        host_us: 100.0,
        step_us: 50.0,
        token_us: 2.0,
        row_us: 10.0,
        kv_token_us: 0.5,
        request_us: 7.25,
    };

    #[test]
    fn a_plan_is_counted_row_by_row() {
        let (tokens, blocks) = ([TokenId(1); 20], [vec![BlockId(0)]]);
        let row = |compute| Row {
            id: RequestId(0),
            tokens: &tokens,
            prompt_len: 20,
            compute,
            blocks: &blocks,
            draft_max: 0,
            adapter: None,
            params: &(),
        };
        let plan = StepPlan { rows: vec![row(19..20), row(4..12)] };
        let expected = StepWork { positions: 9, rows: 1, kv_tokens: 32 };
        assert_eq!(StepWork::of(&plan), expected);
    }

    #[test]
    fn a_step_takes_the_longer_of_host_and_device() {
        let work = StepWork { positions: 1, rows: 1, kv_tokens: 10 };
        assert_eq!(COST.step(work), Duration::from_micros(100));
        let work = StepWork { positions: 30, rows: 2, kv_tokens: 41 };
        assert_eq!(COST.step(work), Duration::from_nanos(150_500));
        assert_eq!(COST.request(), Duration::from_nanos(7_250));
    }

    #[test]
    fn a_name_that_is_no_parameter_is_refused() {
        let json = serde_json::to_string(&COST).unwrap();
        assert_eq!(serde_json::from_str::<StepCost>(&json).unwrap(), COST);
        let wrong = json.replace("row_us", "rows_us");
        assert!(serde_json::from_str::<StepCost>(&wrong).is_err(), "{wrong}");
    }
}
