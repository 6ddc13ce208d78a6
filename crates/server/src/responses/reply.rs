//! The reply of `/v1/responses`.

use sampling::SamplingRequest;
use serde::Serialize;
use serde_json::{Value, json};
use text::JsonObject;

use crate::answer::{Answer, Block, Call, Finish};
use crate::config::as_written;
use crate::limits::TOOLS;
use crate::openai::error::ApiError;
use crate::openai::integer::Integer;
use crate::openai::reply::ReplyHead;
use crate::responses::types::{ResponsesBody, TextConfig, TextFormat, ToolBody, ToolChoice};
use crate::stream::Generation;

/// What is told back of a request: each field as it was checked, so that all of it is bounded.
#[derive(Debug, Clone, Serialize)]
pub struct Echo {
    instructions: Option<String>,
    max_output_tokens: Option<Integer>,
    metadata: Option<JsonObject>,
    parallel_tool_calls: bool,
    temperature: f64,
    text: TextConfig,
    tool_choice: ToolChoice,
    /// Those that the model is told of.
    tools: Vec<ToolBody>,
    top_p: f64,
    user: Option<String>,
}

impl Echo {
    /// Of a body, of which nothing is kept unless the rest of it is found good, too.
    pub fn new(body: &ResponsesBody, sampling: &SamplingRequest) -> Self {
        let told = |value: Option<f64>, default: f32| value.unwrap_or_else(|| as_written(default));
        let auto = || ToolChoice::Mode("auto".to_owned());
        let tool_choice = body.tool_choice.clone().unwrap_or_else(auto);
        // More than so many are refused.
        let is_told = |tool: &&ToolBody| match &tool_choice {
            ToolChoice::Mode(mode) => mode != "none",
            ToolChoice::Named(_) => true,
            ToolChoice::Allowed { tools, .. } => {
                tools.iter().take(TOOLS).any(|allowed| Some(&allowed.name) == tool.name.as_ref())
            }
        };
        let tools = body.tools.iter().flatten().take(TOOLS).filter(is_told).cloned().collect();
        let format = body.text.as_ref().and_then(|text| text.format.clone());
        Echo {
            instructions: body.instructions.clone(),
            max_output_tokens: body.max_output_tokens,
            metadata: body.metadata.clone(),
            parallel_tool_calls: body.parallel_tool_calls.unwrap_or(true),
            temperature: told(body.temperature, sampling.temperature),
            text: TextConfig { format: Some(format.unwrap_or_else(TextFormat::text)) },
            tools,
            tool_choice,
            top_p: told(body.top_p, sampling.top_p),
            user: body.user.clone(),
        }
    }
}

/// A reply: whole, begun or failed.
#[derive(Debug, Serialize)]
pub struct Response<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    background: bool,
    error: Option<Value>,
    incomplete_details: Option<Value>,
    model: &'a str,
    output: Vec<Item>,
    previous_response_id: Option<String>,
    store: bool,
    truncation: &'static str,
    usage: Option<Value>,
    #[serde(flatten)]
    echo: &'a Echo,
}

impl<'a> Response<'a> {
    /// A reply that begins.
    pub fn begun(head: &'a ReplyHead, echo: &'a Echo) -> Self {
        Response {
            id: &head.id,
            object: "response",
            created_at: head.created,
            status: "in_progress",
            background: false,
            error: None,
            incomplete_details: None,
            model: &head.model,
            output: Vec::new(),
            previous_response_id: None,
            store: false,
            truncation: "disabled",
            usage: None,
            echo,
        }
    }

    /// The reply with `answer`, which ended with `finish`.
    pub fn ended(
        generation: &'a Generation,
        echo: &'a Echo,
        answer: &Answer,
        finish: Finish,
    ) -> Self {
        let is_cut = finish == Finish::Length;
        let head = generation.head();
        Response {
            status: if is_cut { "incomplete" } else { "completed" },
            incomplete_details: is_cut.then(|| json!({"reason": "max_output_tokens"})),
            output: items(head, answer, Status::of(is_cut)),
            usage: Some(usage(generation)),
            ..Self::begun(head, echo)
        }
    }

    /// A reply that failed when `answer` had come.
    pub fn failed(head: &'a ReplyHead, echo: &'a Echo, answer: &Answer, error: &ApiError) -> Self {
        // OpenAI's codes; of those for the client's own error this is the general one.
        let is_clients = error.status().is_client_error();
        let code = if is_clients { "invalid_prompt" } else { "server_error" };
        Response {
            status: "failed",
            error: Some(json!({"code": code, "message": error.told().message})),
            output: items(head, answer, Status::Incomplete),
            ..Self::begun(head, echo)
        }
    }
}

/// The items of `answer`: all are whole but the last, which is as far as `last` says.
fn items(head: &ReplyHead, answer: &Answer, last: Status) -> Vec<Item> {
    let item = |(index, block): (usize, &Block)| {
        let is_last = index + 1 == answer.blocks.len();
        let status = if is_last { last } else { Status::Completed };
        Item::new(block, &item_id(head, index, block), status)
    };
    answer.blocks.iter().enumerate().map(item).collect()
}

fn usage(generation: &Generation) -> Value {
    let usage = generation.usage();
    let cached = usage.prompt_tokens_details.map_or(0, |details| details.cached_tokens);
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": generation.reasoning_tokens()},
        "total_tokens": usage.total_tokens,
    })
}

/// How far an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// More follows.
    InProgress,
    /// It is whole.
    Completed,
    /// It was cut off.
    Incomplete,
}

impl Status {
    /// Of an item that has ended.
    pub fn of(is_cut: bool) -> Self {
        if is_cut { Self::Incomplete } else { Self::Completed }
    }
}

/// An item of the output.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    /// What is said.
    Message {
        /// Its id.
        id: String,
        /// Always the assistant's.
        role: &'static str,
        /// How far it is.
        status: Status,
        /// One text.
        content: Vec<Part>,
    },
    /// Thoughts.
    Reasoning {
        /// Its id.
        id: String,
        /// How far they are.
        status: Status,
        /// None: they are told whole.
        summary: [(); 0],
        /// One text.
        content: Vec<Part>,
    },
    /// A call of a function.
    FunctionCall {
        /// Its id as an item.
        id: String,
        /// Its id as a call.
        call_id: String,
        /// The function.
        name: String,
        /// JSON in a string.
        arguments: String,
        /// How far it is.
        status: Status,
    },
}

/// A part of an item.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// What is said.
    OutputText {
        /// The text.
        text: String,
        /// None.
        annotations: [(); 0],
        /// None.
        logprobs: [(); 0],
    },
    /// Thoughts.
    ReasoningText {
        /// The text.
        text: String,
    },
}

impl Item {
    /// `block` as an item.
    pub fn new(block: &Block, id: &str, status: Status) -> Self {
        let id = id.to_owned();
        let content = Part::new(block).into_iter().collect();
        match block {
            Block::Content(_) => Item::Message { id, role: "assistant", status, content },
            Block::Reasoning(_) => Item::Reasoning { id, status, summary: [], content },
            Block::Call(call) => {
                let Call { id: call_id, name, arguments } = call.clone();
                Item::FunctionCall { id, call_id, name, arguments, status }
            }
        }
    }

    /// The item as it begins: without its text.
    pub fn begun(block: &Block, id: &str) -> Self {
        let mut item = Self::new(block, id, Status::InProgress);
        match &mut item {
            Item::Message { content, .. } | Item::Reasoning { content, .. } => content.clear(),
            Item::FunctionCall { arguments, .. } => arguments.clear(),
        }
        item
    }
}

impl Part {
    /// The part that holds the text of `block`; none for a call.
    pub fn new(block: &Block) -> Option<Self> {
        match block.clone() {
            Block::Content(text) => Some(Part::OutputText { text, annotations: [], logprobs: [] }),
            Block::Reasoning(text) => Some(Part::ReasoningText { text }),
            Block::Call(_) => None,
        }
    }
}

/// Id of the `index`-th item of a reply.
pub fn item_id(head: &ReplyHead, index: usize, block: &Block) -> String {
    let prefix = match block {
        Block::Content(_) => "msg",
        Block::Reasoning(_) => "rs",
        Block::Call(_) => "fc",
    };
    let reply = head.id.trim_start_matches("resp_");
    format!("{prefix}_{reply}_{index}")
}
