//! Recorded requests for a modelled server: their texts become tokens by the model's own tokenizer.

use anyhow::{Context, Result};
use bench::DatasetFile;
use plan::recording::{Recording, Tokens};
use text::{ChatTemplate, Tokenizer};
use workload::dataset::Message;

use super::model::Model;

/// A file of recorded requests, and what makes tokens of its texts.
pub(super) struct Recorded {
    pub(super) file: DatasetFile,
    texts: Option<Texts>,
}

impl Recorded {
    /// The requests of `file`; texts among them need a `model` that this engine serves.
    pub(super) fn new(file: DatasetFile, model: &Model) -> Result<Recorded> {
        Ok(Recorded { file, texts: Texts::of(model)? })
    }

    /// The requests in the order of `seed`, or of their times.
    pub(super) fn recording(&self, seed: u64) -> Recording<'_> {
        let DatasetFile { dataset, name, .. } = &self.file;
        let requests = u32::try_from(name.requests).unwrap_or(u32::MAX);
        let times_ns = self.file.schedule_ns(requests, 1.0);
        let tokens = self.texts.as_ref().map(|texts| texts as &dyn Tokens);
        Recording::new(dataset, self.file.order(seed), times_ns, tokens)
    }
}

/// A model's tokenizer and chat template.
struct Texts {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
}

impl Texts {
    fn of(model: &Model) -> Result<Option<Texts>> {
        let Some((_, file)) = &model.ours else { return Ok(None) };
        let tokenizer = Tokenizer::new(file.tokenizer.clone()).context("tokenizer")?;
        let template = file.chat_template.as_ref();
        let template = template.map(|source| ChatTemplate::new(source, &tokenizer)).transpose();
        Ok(Some(Texts { template: template.context("chat template")?, tokenizer }))
    }
}

impl Tokens for Texts {
    fn of_text(&self, text: &str) -> Result<Vec<u32>, String> {
        self.tokenizer.encode_prompt(text).map_err(|error| error.to_string())
    }

    fn of_chat(&self, messages: &[Message]) -> Result<Vec<u32>, String> {
        let template = self.template.as_ref().ok_or("the model has no chat template")?;
        let messages: Vec<_> =
            messages.iter().map(|m| text::Message::new(&*m.role, &*m.content)).collect();
        let segments = template.render(&messages, &[], true).map_err(|error| error.to_string())?;
        self.tokenizer.encode_segments(&segments).map_err(|error| error.to_string())
    }
}
