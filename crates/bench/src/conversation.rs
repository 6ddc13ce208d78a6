//! What a user says, and what has been said before.

use std::sync::Arc;

use bytes::Bytes;
use workload::dataset::Message;
use workload::lengths::Sampling;

use crate::answer;
use crate::client::{Call, Client, RawAnswer};
use crate::completion::{Content, Question};
use crate::config::{Api, RequestForm};

/// Writes requests: everything about them that is the same in the whole run.
#[derive(Debug)]
pub(crate) struct RequestWriter {
    pub(crate) client: Client,
    pub(crate) model: String,
    pub(crate) form: RequestForm,
    pub(crate) ignore_eos: bool,
    pub(crate) sampling: Sampling,
}

impl RequestWriter {
    /// The request for an answer to `messages`, at least one; text alone is one of the user's.
    pub(crate) fn call(&self, messages: &[Message], max_tokens: u32) -> Call {
        let text: String;
        let content = match self.form.api {
            Api::Chat => Content::Messages(messages),
            Api::Completions => {
                text = messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n");
                Content::Text(&text)
            }
        };
        let question = Question {
            model: &self.model,
            content,
            max_tokens,
            ignore_eos: self.ignore_eos,
            sampling: self.sampling,
        };
        let body: Bytes = question.body(&self.form.extra_body);
        self.client.post(self.form.api.path(), body)
    }
}

/// What a request says.
#[derive(Debug)]
pub(crate) enum Ask {
    /// All that it says is known beforehand.
    Ready(Box<Call>),
    /// A turn of a conversation.
    Turn(Turn),
}

/// What a user adds to a conversation. What was answered before is known only when it is due.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Whether it is the first of its conversation.
    pub(crate) opens: bool,
    /// What the user says.
    pub(crate) says: Vec<Message>,
    /// Most tokens of the answer.
    pub(crate) max_tokens: u32,
    /// Writes the request.
    pub(crate) writer: Arc<RequestWriter>,
}

/// What a user and the server have said to each other.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    messages: Vec<Message>,
    /// How many of them the server has answered.
    answered: usize,
}

impl Conversation {
    /// The request in which the user says `turn`. What was said and not answered is taken back.
    pub(crate) fn say(&mut self, turn: Turn) -> Call {
        self.messages.truncate(if turn.opens { 0 } else { self.answered });
        self.messages.extend(turn.says);
        turn.writer.call(&self.messages, turn.max_tokens)
    }

    /// Takes in what came back.
    pub(crate) fn hear(&mut self, answer: &RawAnswer) {
        if let Some(content) = answer::text(answer) {
            self.messages.push(Message { role: "assistant".to_owned(), content });
            self.answered = self.messages.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Clock;
    use crate::endpoint::Endpoint;

    fn writer(api: Api) -> Arc<RequestWriter> {
        let endpoint = Endpoint::parse("http://127.0.0.1:1").expect("an address");
        let client = Client::new(endpoint, None, None, &[], Clock::start_at(0));
        let form = RequestForm { api, ..RequestForm::default() };
        let (model, sampling) = ("m".to_owned(), Sampling::GREEDY);
        Arc::new(RequestWriter { client, model, form, ignore_eos: true, sampling })
    }

    fn turn(writer: &Arc<RequestWriter>, opens: bool, text: &str) -> Turn {
        let says = vec![Message::user(text.to_owned())];
        Turn { opens, says, max_tokens: 5, writer: Arc::clone(writer) }
    }

    fn body(call: &Call) -> Value {
        serde_json::from_slice(call.body()).expect("JSON")
    }

    fn answer(text: &str) -> RawAnswer {
        let chunk = json!({"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]});
        let bytes = format!("data: {chunk}\n\ndata: [DONE]\n\n").into_bytes();
        let reads = vec![(1, bytes.len())];
        RawAnswer { status: Some(200), bytes, reads, ..RawAnswer::default() }
    }

    #[test]
    fn a_turn_repeats_what_was_said_and_answered() {
        let writer = writer(Api::Chat);
        let mut conversation = Conversation::default();
        conversation.say(turn(&writer, true, "one"));
        conversation.hear(&answer("1"));
        let second = body(&conversation.say(turn(&writer, false, "two")));
        let said = json!([{"role": "user", "content": "one"},
            {"role": "assistant", "content": "1"}, {"role": "user", "content": "two"}]);
        assert_eq!(second["messages"], said);
        let other = body(&conversation.say(turn(&writer, true, "new")));
        assert_eq!(other["messages"], json!([{"role": "user", "content": "new"}]));
    }

    #[test]
    fn what_got_no_answer_is_not_said_again() {
        let writer = writer(Api::Completions);
        let mut conversation = Conversation::default();
        conversation.say(turn(&writer, true, "one"));
        conversation.hear(&answer("1"));
        conversation.say(turn(&writer, false, "lost"));
        conversation.hear(&RawAnswer { status: Some(503), ..RawAnswer::default() });
        let third = body(&conversation.say(turn(&writer, false, "three")));
        assert_eq!(third["prompt"], "one\n1\nthree");
    }
}
