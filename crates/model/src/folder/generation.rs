//! How a model's makers choose tokens: `generation_config.json`.

use sampling::{SamplingParams, SamplingRequest};
use serde_json::{Map, Value};

use super::config_json::shown;
use crate::error::LoadError;

/// The file's name.
pub(super) const FILE: &str = "generation_config.json";

/// What counts where a request says nothing, as vLLM takes it from the file: numbers alone, whatever
/// `do_sample` says. A model of `vocabulary` tokens.
pub(super) fn sampling(
    file: &Map<String, Value>,
    vocabulary: usize,
) -> Result<SamplingRequest, LoadError> {
    let wrong = |key: &str, value: &Value, expected| LoadError::WrongKind {
        key: key.to_string(),
        found: shown(value),
        expected,
    };
    let number = |key: &str, usual: f32| match file.get(key) {
        None | Some(Value::Null) => Ok(usual),
        Some(value) => {
            value.as_f64().map(|number| number as f32).ok_or_else(|| wrong(key, value, "a number"))
        }
    };
    let usual = SamplingRequest::default();
    let top_k = match file.get("top_k") {
        None | Some(Value::Null) => usual.top_k,
        // More than any vocabulary has is as good as all.
        Some(value) if value.as_i64() == Some(-1) => 0,
        Some(value) => {
            let count = value.as_u64().ok_or_else(|| wrong("top_k", value, "a whole number"))?;
            u32::try_from(count).unwrap_or(0)
        }
    };
    let request = SamplingRequest {
        temperature: number("temperature", usual.temperature)?,
        top_p: number("top_p", usual.top_p)?,
        top_k,
        min_p: number("min_p", usual.min_p)?,
        repetition_penalty: number("repetition_penalty", usual.repetition_penalty)?,
        ..usual
    };
    match SamplingParams::new(request.clone(), vocabulary) {
        Ok(_) => Ok(request),
        Err(error) => Err(LoadError::Unfit {
            place: format!("`{}`", error.param),
            found: error.value,
            expected: error.limit.to_string(),
        }),
    }
}
