//! The fields that say what an answer must look like.

use grammar::Spec;
use serde_json::Value;

use crate::grammars::Wanted;
use crate::openai::error::ApiError;
use crate::openai::types::GenerationBody;
use crate::openai::unsupported::is_empty;

/// What the body wants its answers to look like; at most one field may say so.
pub fn wanted(body: &GenerationBody) -> Result<Option<Wanted>, ApiError> {
    let fields = [
        ("response_format", body.response_format.as_ref()),
        ("structured_outputs", body.structured_outputs.as_ref()),
        ("guided_json", body.guided_json.as_ref()),
        ("guided_regex", body.guided_regex.as_ref()),
        ("guided_choice", body.guided_choice.as_ref()),
        ("guided_grammar", body.guided_grammar.as_ref()),
        ("json_schema", body.json_schema.as_ref()),
        ("regex", body.regex.as_ref()),
        ("grammar", body.grammar.as_ref()),
    ];
    let mut found: Option<Wanted> = None;
    for (param, value) in fields {
        let Some(value) = value else { continue };
        let Some(spec) = field(param, value)? else { continue };
        if let Some(first) = &found {
            let message = format!("`{param}` stands beside `{}`; give one of them", first.param);
            return Err(ApiError::invalid(param, message));
        }
        found = Some(Wanted::new(param, spec)?);
    }
    Ok(found)
}

/// What one field asks for.
fn field(param: &'static str, value: &Value) -> Result<Option<Spec>, ApiError> {
    match param {
        "response_format" => response_format(value),
        "structured_outputs" => structured_outputs(value),
        "guided_json" | "json_schema" => schema(param, value),
        "guided_choice" => choice(param, value),
        "guided_regex" | "regex" => text(param, value, Spec::Regex),
        _ => text(param, value, Spec::Lark),
    }
}

/// OpenAI's field: text, any object, or what a schema says. `strict` may be said: nothing else is
/// served.
fn response_format(value: &Value) -> Result<Option<Spec>, ApiError> {
    const PARAM: &str = "response_format";
    if value.is_null() {
        return Ok(None);
    }
    match value["type"].as_str() {
        Some("text") => Ok(None),
        // llama-server's way to say a schema.
        Some("json_object") => match value.get("schema") {
            Some(value) => schema(PARAM, value).map(|spec| spec.or(Some(Spec::JsonObject))),
            None => Ok(Some(Spec::JsonObject)),
        },
        Some("json_schema") => match value["json_schema"].as_object() {
            Some(named) => match named.get("schema") {
                Some(value) => schema(PARAM, value).map(|spec| spec.or(Some(Spec::JsonObject))),
                None => Ok(Some(Spec::JsonObject)),
            },
            None => {
                let message = "`response_format.json_schema` must be an object with a `schema`";
                Err(ApiError::invalid(PARAM, message))
            }
        },
        _ => {
            let message = format!(
                "`response_format.type` is {}; give text, json_object or json_schema",
                value["type"]
            );
            Err(ApiError::invalid(PARAM, message))
        }
    }
}

/// vLLM's field: an object with one of `json`, `json_object`, `regex`, `choice` and `grammar`.
fn structured_outputs(value: &Value) -> Result<Option<Spec>, ApiError> {
    const PARAM: &str = "structured_outputs";
    if value.is_null() {
        return Ok(None);
    }
    let Some(fields) = value.as_object() else {
        return Err(ApiError::invalid(PARAM, "`structured_outputs` must be an object"));
    };
    let mut found = None;
    for (name, value) in fields {
        let spec = match name.as_str() {
            "json" => schema(PARAM, value)?,
            "json_object" => (!is_empty(value)).then_some(Spec::JsonObject),
            "regex" => text(PARAM, value, Spec::Regex)?,
            "choice" => choice(PARAM, value)?,
            "grammar" => text(PARAM, value, Spec::Lark)?,
            _ if is_empty(value) => None,
            other => {
                let message = format!(
                    "`structured_outputs.{other}` is not supported by this server; give one of json, \
                     json_object, regex, choice and grammar"
                );
                return Err(ApiError::invalid(PARAM, message));
            }
        };
        if spec.is_some() && found.is_some() {
            return Err(ApiError::invalid(PARAM, "`structured_outputs` must have one field"));
        }
        found = found.or(spec);
    }
    Ok(found)
}

/// A schema as an object, or as its JSON text.
fn schema(param: &'static str, value: &Value) -> Result<Option<Spec>, ApiError> {
    match value {
        Value::Null | Value::Bool(false) => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::Object(_) | Value::Bool(true) => Ok(Some(Spec::JsonSchema(value.clone()))),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Some(Spec::JsonSchema(schema))),
            Ok(_) => Err(ApiError::invalid(param, format!("`{param}`: a schema is an object"))),
            Err(error) => Err(ApiError::invalid(param, format!("`{param}` is no JSON: {error}"))),
        },
        _ => Err(ApiError::invalid(param, format!("`{param}`: a schema is an object"))),
    }
}

fn choice(param: &'static str, value: &Value) -> Result<Option<Spec>, ApiError> {
    if value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    let texts = value.as_array().and_then(|items| {
        items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    match texts {
        Some(texts) => Ok(Some(Spec::Choice(texts))),
        None => Err(ApiError::invalid(param, format!("`{param}`: choices are a list of strings"))),
    }
}

fn text(
    param: &'static str,
    value: &Value,
    spec: fn(String) -> Spec,
) -> Result<Option<Spec>, ApiError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => Ok(Some(spec(text.clone()))),
        _ => Err(ApiError::invalid(param, format!("`{param}` must be a string"))),
    }
}
