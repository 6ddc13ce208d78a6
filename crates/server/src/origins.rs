//! Where the messages of a translated body come from, for errors.

use crate::openai::error::ApiError;
use crate::validate::Valid;

/// Names of fields of chats, each with the one that it stands for.
pub type Fields = [(&'static str, &'static str)];

/// The path of what each message of a chat was made of, in the body that was translated.
#[derive(Debug, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Says where the next message comes from.
    pub fn push(&mut self, path: impl Into<String>) {
        self.0.push(path.into());
    }

    /// What became of a chat, its errors and those to come said of the body that it was made of.
    pub fn valid(
        &self,
        valid: Result<Valid, ApiError>,
        fields: &Fields,
    ) -> Result<Valid, ApiError> {
        let mut valid = valid.map_err(|error| self.told(error, fields))?;
        if let Some(wanted) = &mut valid.wanted {
            wanted.param = theirs(wanted.param, fields).unwrap_or(wanted.param);
        }
        let masked_by = &mut valid.rules.masked_by;
        *masked_by = masked_by.map(|ours| theirs(ours, fields).unwrap_or(ours));
        Ok(valid)
    }

    /// `error` about a chat, said of the body that it was made of.
    pub fn told(&self, error: ApiError, fields: &Fields) -> ApiError {
        match error {
            ApiError::Invalid { param: Some(param), message } => {
                let message = reworded(message, &param, fields);
                ApiError::invalid(self.renamed(&param, fields), message)
            }
            ApiError::ContextLength { param, message } => {
                // The engine's word, in a message of the engine's, which quotes nobody.
                let word = "max_tokens";
                let message = message.replace(word, theirs(word, fields).unwrap_or(word));
                ApiError::ContextLength { param: theirs(param, fields).unwrap_or(param), message }
            }
            other => other,
        }
    }

    fn renamed(&self, param: &str, fields: &Fields) -> String {
        let message = param.strip_prefix("messages[").and_then(|rest| rest.split_once(']'));
        if let Some((index, _)) = message
            && let Some(path) = index.parse().ok().and_then(|index: usize| self.0.get(index))
        {
            return path.clone();
        }
        // Other forms have a function's fields in the tool itself.
        if let Some((tool, field)) = param.split_once(".function")
            && tool.starts_with("tools[")
        {
            return format!("{tool}{}", theirs(field, fields).unwrap_or(field));
        }
        theirs(param, fields).unwrap_or(param).to_owned()
    }
}

/// `message` about `param`, with the name that this has in `fields`. It names the field at its beginning or
/// in back quotes, so that what it quotes beside is left alone.
fn reworded(message: String, param: &str, fields: &Fields) -> String {
    let Some(theirs) = theirs(param, fields) else { return message };
    let message = match message.strip_prefix(param) {
        Some(rest) if rest.starts_with(' ') => format!("{theirs}{rest}"),
        _ => message,
    };
    let quoted = |name: &str, end: char| format!("`{name}{end}");
    ['`', '.']
        .iter()
        .fold(message, |message, end| message.replace(&quoted(param, *end), &quoted(theirs, *end)))
}

/// The name that the chat's field `param` has in `fields`.
pub fn theirs(param: &str, fields: &Fields) -> Option<&'static str> {
    fields.iter().find_map(|(ours, theirs)| (*ours == param).then_some(*theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_what_the_client_wrote() {
        let mut origins = Origins::default();
        origins.push("system");
        origins.push("messages[0].content[2]");
        let fields = &[
            ("stop", "stop_sequences"),
            ("max_tokens", "max_output_tokens"),
            ("response_format", "text.format"),
            (".parameters", ".input_schema"),
        ];
        let told = |param: &str, message: &str| {
            let told = origins.told(ApiError::invalid(param, message), fields).told();
            (told.param.expect("a field"), told.message)
        };
        for (param, theirs) in [
            ("messages[0].content", "system"),
            ("messages[1].tool_calls[0].id", "messages[0].content[2]"),
            ("messages", "messages"),
            ("stop", "stop_sequences"),
            ("top_k", "top_k"),
            ("tools[3].function.name", "tools[3].name"),
            ("tools[3].function.parameters", "tools[3].input_schema"),
            ("tools[3].function", "tools[3]"),
            ("tools[3].type", "tools[3].type"),
        ] {
            assert_eq!(told(param, "bad").0, theirs);
        }
        for (param, message, theirs) in [
            ("max_tokens", "max_tokens is 0", "max_output_tokens is 0"),
            ("response_format", "`response_format.type` is 5", "`text.format.type` is 5"),
            ("response_format", "`response_format`: no", "`text.format`: no"),
            ("stop", "a stop string", "a stop string"),
            ("tools[0].function.name", "a function `stop`", "a function `stop`"),
        ] {
            assert_eq!(told(param, message).1, theirs);
        }
        let message = "lower max_tokens".to_owned();
        let error = ApiError::ContextLength { param: "max_tokens", message };
        let told = origins.told(error, fields).told();
        assert_eq!(told.param.as_deref(), Some("max_output_tokens"));
        assert_eq!(told.message, "lower max_output_tokens");
    }
}
