//! The body of a request for an answer.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use workload::dataset::Message;
use workload::lengths::Sampling;

/// What is asked, as a stream with a count of its tokens at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// The model that is to answer.
    pub(crate) model: &'a str,
    /// What is to be answered or continued.
    pub(crate) content: Content<'a>,
    /// Most tokens of the answer.
    pub(crate) max_tokens: u32,
    /// Whether end tokens are ignored, so that all of them come.
    pub(crate) ignore_eos: bool,
    /// How they are drawn.
    pub(crate) sampling: Sampling,
}

/// What is to be answered or continued.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// A text, for `/v1/completions`.
    Text(&'a str),
    /// What was said, for `/v1/chat/completions`.
    Messages(&'a [Message]),
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Settings<'a> {
    model: &'a str,
    max_tokens: u32,
    ignore_eos: bool,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(flatten)]
    sampling: Sampling,
}

impl Question<'_> {
    /// The JSON text of it, with the fields of `extra_body` in place of ours or beside them.
    pub(crate) fn body(&self, extra_body: &Map<String, Value>) -> Bytes {
        let Question { model, content, max_tokens, ignore_eos, sampling } = *self;
        let stream_options = StreamOptions { include_usage: true };
        let settings =
            Settings { model, max_tokens, ignore_eos, stream: true, stream_options, sampling };
        let mut body = serde_json::to_value(settings).expect("plain data with text keys");
        match content {
            Content::Text(prompt) => body["prompt"] = Value::from(prompt),
            Content::Messages(messages) => body["messages"] = json!(messages),
        }
        for (name, value) in extra_body {
            body[name.as_str()] = value.clone();
        }
        Bytes::from(body.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: Question<'_> = Question {
        model: "m",
        content: Content::Text("river \"stone\""),
        max_tokens: 7,
        ignore_eos: true,
        sampling: Sampling { temperature: 1.0, top_p: 0.8, top_k: 30, repetition_penalty: 10.0 },
    };

    fn body(question: Question<'_>, extra_body: &Map<String, Value>) -> Value {
        serde_json::from_slice(&question.body(extra_body)).expect("JSON")
    }

    #[test]
    fn every_setting_is_sent_under_its_name() {
        let expected = json!({
            "model": "m", "prompt": "river \"stone\"", "max_tokens": 7, "ignore_eos": true,
            "stream": true, "stream_options": {"include_usage": true}, "temperature": 1.0,
            "top_p": 0.8, "top_k": 30, "repetition_penalty": 10.0
        });
        assert_eq!(body(QUESTION, &Map::new()), expected);
    }

    #[test]
    fn a_chat_has_messages_in_place_of_a_prompt() {
        let messages = [Message::user("river \"stone\"".to_owned())];
        let question = Question { content: Content::Messages(&messages), ..QUESTION };
        let chat = body(question, &Map::new());
        let expected = json!([{"role": "user", "content": "river \"stone\""}]);
        assert_eq!((&chat["messages"], &chat["prompt"]), (&expected, &Value::Null));
    }

    #[test]
    fn extra_fields_come_beside_ours_and_in_their_place() {
        let extra = json!({"ignore_eos": false, "user": {"id": 1}});
        let Value::Object(extra_body) = extra else { unreachable!("it is an object") };
        let body = body(QUESTION, &extra_body);
        assert_eq!((&body["ignore_eos"], &body["user"]["id"]), (&json!(false), &json!(1)));
    }
}
