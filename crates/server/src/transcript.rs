//! A chat made of a body in another form.

use std::collections::HashMap;

use crate::limits::{MESSAGES, TOOL_CALLS};
use crate::openai::error::ApiError;
use crate::openai::tools::{Arguments, CallBody, ToolCallBody};
use crate::openai::types::{ChatMessage, Content, Messages};
use crate::origins::Origins;

/// Messages in the making, each with the place that it comes from, and what was called so far. More
/// than a chat may have are refused as soon as they come.
#[derive(Debug)]
pub struct Transcript {
    /// The field that the messages are made of.
    field: &'static str,
    messages: Vec<ChatMessage>,
    origins: Origins,
    /// Functions by the ids of their calls.
    functions: HashMap<String, String>,
}

impl Transcript {
    /// Without messages, which are made of `field`.
    pub fn of(field: &'static str) -> Self {
        let (messages, origins) = (Vec::new(), Origins::default());
        Transcript { field, messages, origins, functions: HashMap::new() }
    }

    /// A message that comes from `origin`.
    pub fn push(&mut self, origin: String, message: ChatMessage) -> Result<(), ApiError> {
        if self.messages.len() == MESSAGES {
            return Err(ApiError::invalid(self.field, format!("more than {MESSAGES} messages")));
        }
        self.origins.push(origin);
        self.messages.push(message);
        Ok(())
    }

    /// A message in which `role` says `content`.
    pub fn say(&mut self, role: &str, origin: String, content: Content) -> Result<(), ApiError> {
        self.push(origin, ChatMessage { content: Some(content), ..ChatMessage::of(role) })
    }

    /// Adds a call to those of the message that comes from `origin`.
    pub fn call(
        &mut self,
        origin: &str,
        calls: &mut Vec<ToolCallBody>,
        (id, name): (String, String),
        arguments: Option<Arguments>,
    ) -> Result<(), ApiError> {
        if calls.len() == TOOL_CALLS {
            let message = format!("more than {TOOL_CALLS} calls in one message");
            return Err(ApiError::invalid(origin, message));
        }
        self.functions.insert(id.clone(), name.clone());
        calls.push(ToolCallBody { id: Some(id), function: CallBody { name, arguments } });
        Ok(())
    }

    /// The result of the call `id`, as a message.
    pub fn result(&mut self, origin: String, id: String, content: Content) -> Result<(), ApiError> {
        let message = ChatMessage {
            content: Some(content),
            // Some templates write the function's name beside its result.
            name: self.functions.get(&id).cloned(),
            tool_call_id: Some(id),
            ..ChatMessage::of("tool")
        };
        self.push(origin, message)
    }

    /// Who speaks last.
    pub fn last_role(&self) -> Option<&str> {
        self.messages.last().map(|message| message.role.as_str())
    }

    /// The messages, and where they come from.
    pub fn end(self) -> (Messages, Origins) {
        (Messages(self.messages), self.origins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Content {
        Content::Text("a".to_owned())
    }

    fn call(transcript: &mut Transcript, calls: &mut Vec<ToolCallBody>, id: &str, name: &str) {
        let call = (id.to_owned(), name.to_owned());
        transcript.call("origin", calls, call, None).expect("not too many");
    }

    #[test]
    fn a_result_has_the_name_that_was_called_last_by_its_id() {
        let (mut transcript, mut calls) = (Transcript::of("messages"), Vec::new());
        for (id, name) in [("1", "f"), ("2", "g"), ("1", "h")] {
            call(&mut transcript, &mut calls, id, name);
        }
        for id in ["1", "2", "3"] {
            transcript.result(String::new(), id.to_owned(), text()).expect("not too many");
        }
        let (Messages(messages), _) = transcript.end();
        let names: Vec<_> = messages.iter().map(|message| message.name.as_deref()).collect();
        assert_eq!(names, [Some("h"), Some("g"), None]);
        assert_eq!(calls.len(), 3);
    }

    #[test]
    fn one_message_or_call_too_many_is_refused_when_it_comes() {
        let mut transcript = Transcript::of("input");
        for _ in 0..MESSAGES {
            transcript.say("user", String::new(), text()).expect("as many as may be");
        }
        let error = transcript.say("user", String::new(), text()).expect_err("one more");
        assert_eq!(error.told().param.as_deref(), Some("input"));
        let mut calls = Vec::new();
        for _ in 0..TOOL_CALLS {
            call(&mut transcript, &mut calls, "1", "f");
        }
        let more = ("1".to_owned(), "f".to_owned());
        let error = transcript.call("input[5]", &mut calls, more, None).expect_err("one more");
        assert_eq!(error.told().param.as_deref(), Some("input[5]"));
    }
}
