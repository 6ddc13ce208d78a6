//! The stream of `/v1/messages`: `message_start`, for each block `content_block_start`, `…_delta` and
//! `…_stop`, then `message_delta` and `message_stop`; `ping` in silence.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::answer::{Answer, Block, Part};
use crate::openai::error::ApiError;
use crate::stream::{Events, Generation, Piece, named_event};

use super::error::ErrorBody;
use super::reply::{Message, MessageUsage, Stop};

/// The events of one stream.
#[derive(Debug)]
pub struct MessageEvents {
    answer: Answer,
}

impl MessageEvents {
    /// For a stream that has not begun.
    pub fn new() -> Self {
        MessageEvents { answer: Answer::empty() }
    }

    fn part(&mut self, part: &Part) -> Vec<Bytes> {
        let mut events = Vec::new();
        let open = self.answer.blocks.len().checked_sub(1);
        if self.answer.add(part) {
            events.extend(open.map(stop));
            events.push(self.start());
        }
        let delta = match part {
            Part::Content(text) => json!({"type": "text_delta", "text": text}),
            Part::Reasoning(text) => json!({"type": "thinking_delta", "thinking": text}),
            Part::Arguments { text, .. } => {
                json!({"type": "input_json_delta", "partial_json": text})
            }
            Part::Call { .. } => return events,
        };
        let index = self.answer.blocks.len() - 1;
        events.push(event("content_block_delta", json!({"index": index, "delta": delta})));
        events
    }

    /// The block that came last begins, without its text.
    fn start(&self) -> Bytes {
        let block = match self.answer.blocks.last().expect("a block begins") {
            Block::Content(_) => json!({"type": "text", "text": ""}),
            Block::Reasoning(_) => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Block::Call(call) => {
                json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
            }
        };
        let index = self.answer.blocks.len() - 1;
        event("content_block_start", json!({"index": index, "content_block": block}))
    }
}

fn stop(index: usize) -> Bytes {
    event("content_block_stop", json!({"index": index}))
}

/// An event, whose data says its name as well.
fn event(name: &'static str, mut data: Value) -> Bytes {
    data["type"] = name.into();
    named_event(name, &data)
}

impl Events for MessageEvents {
    fn begin(&mut self, generation: &Generation) -> Vec<Bytes> {
        let message = Message::begun(generation.head(), generation.usage());
        vec![event("message_start", json!({"message": message}))]
    }

    fn piece(&mut self, piece: &Piece, generation: &Generation) -> Vec<Bytes> {
        let mut events: Vec<Bytes> = piece.parts.iter().flat_map(|part| self.part(part)).collect();
        if let Some(finish) = piece.finish {
            events.extend(self.answer.blocks.len().checked_sub(1).map(stop));
            let stop = Stop::new(&self.answer, finish, generation.stop_string(piece.choice));
            let usage = MessageUsage::from(generation.usage());
            events.push(event("message_delta", json!({"delta": stop, "usage": usage})));
            events.push(event("message_stop", json!({})));
        }
        events
    }

    fn quiet(&mut self) -> Bytes {
        event("ping", json!({}))
    }

    fn failed(&mut self, error: &ApiError) -> Bytes {
        named_event("error", &ErrorBody::new(error.status(), error.told()))
    }
}
