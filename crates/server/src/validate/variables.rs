//! What clients tell a chat template beside the chat: scalars under names of their own.

use std::collections::BTreeMap;

use serde_json::Value;
use text::{ChatTemplate, Variable};

use crate::limits::{TEMPLATE_NAME_BYTES, TEMPLATE_TEXT_BYTES, TEMPLATE_VARIABLES};
use crate::openai::error::ApiError;

/// The variables of `chat_template_kwargs`, of which null ones are left out.
pub(super) fn variables(
    kwargs: &BTreeMap<String, Value>,
    template: Option<&ChatTemplate>,
) -> Result<Vec<(String, Variable)>, ApiError> {
    if TEMPLATE_VARIABLES < kwargs.len() {
        return refused(format!("{} variables, more than {TEMPLATE_VARIABLES}", kwargs.len()));
    }
    let mut variables = Vec::with_capacity(kwargs.len());
    for (name, value) in kwargs {
        if !is_name(name) {
            return refused(format!(
                "a name is a word of letters, digits and `_`, of at most {TEMPLATE_NAME_BYTES} bytes"
            ));
        }
        if template.is_some_and(|template| !template.takes_variable(name)) {
            return refused(format!("`{name}` is the template's own; give it another way"));
        }
        let variable = match value {
            Value::Null => continue,
            Value::Bool(on) => Variable::Switch(*on),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Variable::Whole(whole),
                (None, Some(number)) if number.is_finite() => Variable::Number(number),
                _ => return refused(format!("`{name}` is too large a number")),
            },
            Value::String(text) if text.len() <= TEMPLATE_TEXT_BYTES => {
                Variable::Text(text.clone())
            }
            Value::String(text) => {
                let length = text.len();
                return refused(format!(
                    "`{name}` has {length} bytes, more than {TEMPLATE_TEXT_BYTES}"
                ));
            }
            Value::Array(_) | Value::Object(_) => {
                return refused(format!("`{name}` is no boolean, number or text"));
            }
        };
        variables.push((name.clone(), variable));
    }
    Ok(variables)
}

fn is_name(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.len() <= TEMPLATE_NAME_BYTES
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(is_word)
}

fn refused<T>(message: String) -> Result<T, ApiError> {
    Err(ApiError::invalid("chat_template_kwargs", message))
}
