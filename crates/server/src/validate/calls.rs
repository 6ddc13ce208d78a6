//! What an answer must look like that may think first, call functions or say something.

use grammar::{Frame, Spec};
use serde_json::{Value, json};
use text::{AnswerRules, END_THINK, Reasoning, THINK, Tokenizer, Tool};

use crate::grammars::Wanted;
use crate::limits::TOOL_CALLS;
use crate::openai::error::ApiError;

use super::tools::{Forced, ToolUse};

/// An answer that is calls, if `tool_use` forces them, or else says what `content` wants, if it wants anything,
/// or calls functions that it may call. Thoughts may come before, where the model has any.
pub(super) fn wanted(
    tool_use: &ToolUse,
    rules: &AnswerRules,
    tokenizer: &Tokenizer,
    content: Option<Wanted>,
) -> Result<Option<Wanted>, ApiError> {
    let writer = Writer::new(rules, tokenizer);
    let thoughts = writer.thoughts(rules.reasoning);
    let (param, answer) = match (tool_use.forced, content) {
        (None, None) => return Ok(None),
        // What it says is about content, of which there is none beside forced calls.
        (Some(forced), _) => ("tools", calls(&tool_use.tools, forced, rules, &writer)?),
        (None, Some(content)) if tool_use.tools.is_empty() && thoughts.is_empty() => {
            return Ok(Some(content));
        }
        (None, Some(Wanted { param, spec })) if tool_use.tools.is_empty() => {
            (param, spec.into_frame())
        }
        (None, Some(Wanted { param, spec })) => {
            let calls = calls(&tool_use.tools, Forced::Any, rules, &writer)?;
            (param, Frame::Choice(vec![spec.into_frame(), calls]))
        }
    };
    let answer = thoughts.into_iter().chain([answer]).collect();
    Wanted::new(param, Spec::Frame(Frame::Sequence(answer))).map(Some)
}

/// Calls of `tools` in the form in which `rules` reads them, with arguments as each function's schema says.
fn calls(
    tools: &[Tool],
    forced: Forced,
    rules: &AnswerRules,
    writer: &Writer<'_>,
) -> Result<Frame, ApiError> {
    let spelling = rules.tools.expect("there are functions to call").spelling();
    let (callable, most) = match forced {
        Forced::Named(place) => (place..place + 1, 1),
        Forced::Any if rules.ends_with_call => (0..tools.len(), 1),
        Forced::Any => (0..tools.len(), TOOL_CALLS),
    };
    let call = |place: usize| {
        let name = &tools[place].name;
        let mut call = writer.text(&format!("{}{name}{}", spelling.open, spelling.middle));
        call.push(Frame::Json(arguments(place, &tools[place])?));
        call.extend(writer.text(&spelling.close));
        Ok(Frame::Sequence(call))
    };
    let item = Box::new(Frame::Choice(callable.map(call).collect::<Result<_, ApiError>>()?));
    let between = Box::new(Frame::Sequence(writer.text(&spelling.between)));
    let mut calls = writer.text(&spelling.begin);
    calls.push(Frame::Repeated { item, between, most });
    calls.extend(writer.text(&spelling.end));
    Ok(Frame::Sequence(calls))
}

/// The schema of a function's arguments, which are an object.
fn arguments(place: usize, tool: &Tool) -> Result<Value, ApiError> {
    let Some(parameters) = &tool.parameters else {
        // OpenAI: a function without parameters.
        return Ok(json!({"type": "object", "additionalProperties": false}));
    };
    let mut schema: Value =
        serde_json::from_str(&parameters.to_string()).expect("an object is written as JSON");
    if refers_to_object(&schema) {
        return Ok(schema);
    }
    let kind = &mut schema["type"];
    let is_object = match &*kind {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "object"),
        kind => kind == "object",
    };
    if !is_object {
        let message = format!("the parameters are of type {kind}; arguments are an object");
        return Err(ApiError::invalid(format!("tools[{place}].function.parameters"), message));
    }
    *kind = "object".into();
    Ok(schema)
}

/// Whether a schema is a reference to one of an object; nothing may stand beside one that refers to itself.
fn refers_to_object(schema: &Value) -> bool {
    let pointer = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    let target = pointer.and_then(|pointer| schema.pointer(pointer));
    target.is_some_and(|target| target["type"] == "object")
}

/// Writes texts as a model does: some marks are tokens of their own.
struct Writer<'a> {
    marks: Vec<(&'a str, u32)>,
}

impl<'a> Writer<'a> {
    fn new(rules: &AnswerRules, tokenizer: &'a Tokenizer) -> Self {
        let mark = |id: &u32| Some((tokenizer.token_text(*id)?, *id));
        Writer { marks: rules.marks.iter().filter_map(mark).collect() }
    }

    /// `text` without what is empty.
    fn text(&self, text: &str) -> Vec<Frame> {
        let first =
            self.marks.iter().filter_map(|(mark, id)| Some((text.find(mark)?, mark.len(), *id)));
        let Some((at, len, id)) = first.min() else {
            return (!text.is_empty()).then(|| Frame::Text(text.to_owned())).into_iter().collect();
        };
        let mut parts = self.text(&text[..at]);
        parts.push(Frame::Token(id));
        parts.extend(self.text(&text[at + len..]));
        parts
    }

    /// Thoughts that may come before the calls.
    fn thoughts(&self, reasoning: Reasoning) -> Vec<Frame> {
        let mut rest = match self.marks.iter().find(|(mark, _)| *mark == END_THINK) {
            Some((_, id)) => vec![Frame::Any, Frame::Token(*id)],
            None => vec![Frame::Through(END_THINK.to_owned())],
        };
        rest.push(Frame::Text("\n\n".to_owned()));
        match reasoning {
            Reasoning::None => Vec::new(),
            Reasoning::Open => rest,
            Reasoning::MayOpen => {
                let mut thoughts = self.text(THINK);
                thoughts.extend(rest);
                vec![Frame::Optional(Box::new(Frame::Sequence(thoughts)))]
            }
        }
    }
}
