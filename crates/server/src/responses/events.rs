//! The stream of `/v1/responses`: `response.created` and `response.in_progress`, for each item
//! `response.output_item.added`, its text as it comes and `response.output_item.done`, then
//! `response.completed`, `response.incomplete` or `response.failed`. Events are numbered from 0.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::answer::{Answer, Block, Finish, Part as Came};
use crate::openai::error::ApiError;
use crate::openai::reply::{ReplyHead, keep_alive};
use crate::stream::{Events, Generation, Piece, named_event};

use super::reply::{Echo, Item, Part, Response, Status, item_id};

/// The events of one stream.
#[derive(Debug)]
pub struct ResponseEvents {
    head: ReplyHead,
    echo: Echo,
    answer: Answer,
    /// Events so far.
    count: u64,
}

impl ResponseEvents {
    /// For a stream that has not begun.
    pub fn new(head: ReplyHead, echo: Echo) -> Self {
        ResponseEvents { head, echo, answer: Answer::empty(), count: 0 }
    }

    /// The next event: its data says its name and its number, too.
    fn event(&mut self, name: &str, mut data: Value) -> Bytes {
        data["type"] = name.into();
        data["sequence_number"] = self.count.into();
        self.count += 1;
        named_event(name, &data)
    }

    /// An event about the item that came last; all but those of the item itself and of calls are about its
    /// one part.
    fn item_event(&mut self, name: &str, mut data: Value) -> Bytes {
        let (index, block) = self.last();
        data["output_index"] = index.into();
        if !name.starts_with("response.output_item.") {
            data["item_id"] = item_id(&self.head, index, block).into();
            if !matches!(block, Block::Call(_)) {
                data["content_index"] = 0.into();
            }
        }
        self.event(name, data)
    }

    fn last(&self) -> (usize, &Block) {
        let index = self.answer.blocks.len() - 1;
        (index, &self.answer.blocks[index])
    }

    fn part(&mut self, part: &Came) -> Vec<Bytes> {
        let mut events = Vec::new();
        let begins = !self.answer.goes_on_with(part);
        if begins {
            events.extend(self.close(Status::Completed));
        }
        self.answer.add(part);
        if begins {
            events.extend(self.open());
        }
        let (name, text) = match part {
            Came::Content(text) => ("response.output_text.delta", text),
            Came::Reasoning(text) => ("response.reasoning_text.delta", text),
            Came::Arguments { text, .. } => ("response.function_call_arguments.delta", text),
            Came::Call { .. } => return events,
        };
        let mut data = json!({"delta": text});
        if matches!(part, Came::Content(_)) {
            data["logprobs"] = json!([]);
        }
        events.push(self.item_event(name, data));
        events
    }

    /// The item that came last begins.
    fn open(&mut self) -> Vec<Bytes> {
        let (index, block) = self.last();
        let item = json!(Item::begun(block, &item_id(&self.head, index, block)));
        let part = match block {
            Block::Content(_) => Part::new(&Block::Content(String::new())),
            Block::Reasoning(_) => Part::new(&Block::Reasoning(String::new())),
            Block::Call(_) => None,
        };
        let mut events = vec![self.item_event("response.output_item.added", json!({"item": item}))];
        if let Some(part) = part {
            events.push(self.item_event("response.content_part.added", json!({"part": part})));
        }
        events
    }

    /// The item that came last, if there is one, ends.
    fn close(&mut self, status: Status) -> Vec<Bytes> {
        if self.answer.blocks.is_empty() {
            return Vec::new();
        }
        let (index, block) = self.last();
        let item = json!(Item::new(block, &item_id(&self.head, index, block), status));
        let part = Part::new(block).map(|part| json!(part));
        let (name, data) = match block {
            Block::Content(text) => {
                ("response.output_text.done", json!({"text": text, "logprobs": []}))
            }
            Block::Reasoning(text) => ("response.reasoning_text.done", json!({"text": text})),
            Block::Call(call) => (
                "response.function_call_arguments.done",
                json!({"name": call.name, "arguments": call.arguments}),
            ),
        };
        let mut events = vec![self.item_event(name, data)];
        if let Some(part) = part {
            events.push(self.item_event("response.content_part.done", json!({"part": part})));
        }
        events.push(self.item_event("response.output_item.done", json!({"item": item})));
        events
    }
}

impl Events for ResponseEvents {
    fn begin(&mut self, _: &Generation) -> Vec<Bytes> {
        let response = json!(Response::begun(&self.head, &self.echo));
        let data = json!({"response": response});
        vec![self.event("response.created", data.clone()), self.event("response.in_progress", data)]
    }

    fn piece(&mut self, piece: &Piece, generation: &Generation) -> Vec<Bytes> {
        let mut events: Vec<Bytes> = piece.parts.iter().flat_map(|part| self.part(part)).collect();
        if let Some(finish) = piece.finish {
            let is_cut = finish == Finish::Length;
            events.extend(self.close(Status::of(is_cut)));
            let response = json!(Response::ended(generation, &self.echo, &self.answer, finish));
            let name = if is_cut { "response.incomplete" } else { "response.completed" };
            events.push(self.event(name, json!({"response": response})));
        }
        events
    }

    fn quiet(&mut self) -> Bytes {
        keep_alive()
    }

    fn failed(&mut self, error: &ApiError) -> Bytes {
        let response = json!(Response::failed(&self.head, &self.echo, &self.answer, error));
        self.event("response.failed", json!({"response": response}))
    }
}
