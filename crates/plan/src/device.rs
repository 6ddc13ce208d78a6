//! A device that computes nothing and takes the time that computing would take.

use engine::{Device, DeviceError, FakeClock, RowOutput, StepOutput, StepPlan, TokenId};

use crate::cost::{StepCost, StepWork};

/// The token that every sampled row gets; the prompts of a simulation hold other ones.
pub const TOKEN: TokenId = TokenId(0);

/// Moves a clock on by what each step costs, and gives every sampled row one token.
#[derive(Debug)]
pub struct ModelledDevice {
    cost: StepCost,
    clock: FakeClock,
}

impl ModelledDevice {
    /// A device that takes `cost` on `clock`, which the engine must read too.
    pub fn new(cost: StepCost, clock: FakeClock) -> ModelledDevice {
        ModelledDevice { cost, clock }
    }
}

impl Device for ModelledDevice {
    type Params = ();
    type Extra = ();

    fn run(&mut self, plan: &StepPlan<'_, ()>) -> Result<StepOutput<()>, DeviceError> {
        self.clock.advance(self.cost.step(StepWork::of(plan)));
        let output = |sampled| match sampled {
            true => RowOutput::token(TOKEN, ()),
            false => RowOutput::Computed,
        };
        Ok(StepOutput { rows: plan.rows.iter().map(|row| output(row.sampled())).collect() })
    }
}
