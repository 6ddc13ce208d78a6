//! What computes a step: the model on the processor, a scripted one in tests, a modelled one in plans.

use crate::step::{StepOutput, StepPlan};

/// Computes keys and values, keeps them in blocks and chooses tokens.
///
/// What a row gives must depend on that row alone, never on the others in the plan, on where a
/// chunk ends or on whether its blocks were shared.
pub trait Device {
    /// How a request wants its tokens chosen.
    type Params: Send + 'static;
    /// What goes with a chosen token.
    type Extra: Send + 'static;

    /// Computes every row of `plan`: first writes the keys and values of each row's `compute`
    /// positions into its blocks, then gives the next tokens of the sampled rows. Of a row with room
    /// for a draft it may give several: those that it would give one by one, whatever it guesses.
    ///
    /// An error means that the device as a whole is broken: every request fails and the engine
    /// stops.
    fn run(
        &mut self,
        plan: &StepPlan<'_, Self::Params>,
    ) -> Result<StepOutput<Self::Extra>, DeviceError>;
}

/// The device as a whole is broken; the text says how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the device failed: {0}")]
pub struct DeviceError(pub String);
