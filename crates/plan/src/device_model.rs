//! A fitted device, as a file.

use serde::{Deserialize, Serialize};

use crate::cost::StepCost;
use crate::error::{PlanError, bad};

/// The parameters of a device, and where they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceModel {
    /// What was fitted, in words.
    pub source: String,
    /// The parameters.
    pub cost: StepCost,
}

/// A parameter larger than this is a slip: a step of a quarter of an hour.
const PARAMETER_US_MAX: f64 = 1e9;

impl DeviceModel {
    /// Reads what [`DeviceModel::to_json`] wrote.
    ///
    /// # Errors
    /// A text of another form; a parameter that no device has.
    pub fn from_json(text: &str) -> Result<DeviceModel, PlanError> {
        let what = "the file of a device model";
        let model: DeviceModel =
            serde_json::from_str(text).map_err(|cause| PlanError::Json { what, cause })?;
        for (name, value) in StepCost::NAMES.into_iter().zip(model.cost.values()) {
            check_parameter(name, value)?;
        }
        Ok(model)
    }

    /// The model as the text of a file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("text and numbers are always JSON") + "\n"
    }
}

/// Refuses a value that the parameter `name` cannot have.
///
/// # Errors
/// It is below 0, too large or no number.
pub fn check_parameter(name: &str, value: f64) -> Result<(), PlanError> {
    match (0.0..=PARAMETER_US_MAX).contains(&value) {
        true => Ok(()),
        false => Err(bad(name, value, format!("0 to {PARAMETER_US_MAX} microseconds"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::SEED;

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let model = DeviceModel { source: "a run".to_owned(), cost: SEED.cost };
        assert_eq!(DeviceModel::from_json(&model.to_json()).expect("our own file"), model);
    }

    #[test]
    fn parameters_that_no_device_has_are_refused_by_name() {
        let model = DeviceModel { source: "a run".to_owned(), cost: SEED.cost };
        let negative = StepCost { row_us: -1.0, ..SEED.cost };
        let text = DeviceModel { cost: negative, ..model.clone() }.to_json();
        let error = DeviceModel::from_json(&text).expect_err("below 0").to_string();
        assert!(error.contains("row_us is -1") && error.contains("0 to"), "{error}");
        let text = model.to_json().replace("host_us", "hosts_us");
        let error = DeviceModel::from_json(&text).expect_err("no such name").to_string();
        assert!(error.contains("hosts_us"), "{error}");
    }
}
