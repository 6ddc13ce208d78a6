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
        Ok(valid)
    }

    /// `error` about a chat, said of the body that it was made of.
    pub fn told(&self, error: ApiError, fields: &Fields) -> ApiError {
        match error {
            ApiError::Invalid { param: Some(param), message } => {
                ApiError::invalid(self.renamed(&param, fields), message)
            }
            ApiError::ContextLength { param, message } => {
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
        theirs(param, fields).unwrap_or(param).to_owned()
    }
}

fn theirs(param: &str, fields: &Fields) -> Option<&'static str> {
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
        let told = |param: &str| {
            let error =
                origins.told(ApiError::invalid(param, "bad"), &[("stop", "stop_sequences")]);
            match error {
                ApiError::Invalid { param, .. } => param.expect("a field"),
                other => panic!("{other}"),
            }
        };
        assert_eq!(told("messages[0].content"), "system");
        assert_eq!(told("messages[1].tool_calls[0].id"), "messages[0].content[2]");
        assert_eq!(told("messages"), "messages");
        assert_eq!(told("stop"), "stop_sequences");
        assert_eq!(told("top_k"), "top_k");
    }
}
