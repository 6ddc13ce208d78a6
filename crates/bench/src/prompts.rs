//! Prompts of the right length, cut with the server's own tokenizer where it has one.

use serde::{Deserialize, Serialize};
use workload::prompts::{FittedPrompt, PromptFit, prompt_text};
use workload::random::RequestKey;

use crate::client::{Client, Connection};

/// How a server's `/tokenize` wants the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenizeForm {
    /// vLLM's: `{"model", "prompt"}`.
    Prompt,
    /// llama-server's: `{"content", "add_special"}`.
    Content,
}

#[derive(Serialize)]
struct PromptBody<'a> {
    model: &'a str,
    prompt: &'a str,
}

#[derive(Serialize)]
struct ContentBody<'a> {
    content: &'a str,
    add_special: bool,
}

#[derive(Deserialize)]
struct Tokenized {
    count: Option<u32>,
    tokens: Option<Vec<serde::de::IgnoredAny>>,
}

/// Writes prompts of a fixed number of tokens.
#[derive(Debug)]
pub(crate) struct PromptWriter {
    client: Client,
    model: String,
    target: u32,
    /// How the server counts tokens; `None` if it does not.
    form: Option<TokenizeForm>,
    /// Words that the next prompt will probably need.
    words: usize,
}

impl PromptWriter {
    /// A writer of prompts of `target` tokens for `model`; asks the server how it counts.
    pub(crate) async fn new(
        client: &Client,
        connection: &mut Connection,
        model: &str,
        target: u32,
    ) -> PromptWriter {
        let mut writer = PromptWriter {
            client: client.clone(),
            model: model.to_owned(),
            target,
            form: None,
            words: target as usize,
        };
        for form in [TokenizeForm::Prompt, TokenizeForm::Content] {
            let counted = writer.count(connection, form, "river stone market").await;
            if counted.is_some_and(|tokens| 0 < tokens) {
                writer.form = Some(form);
                break;
            }
        }
        writer
    }

    /// Whether prompts are cut by the server's own count.
    pub(crate) fn is_exact(&self) -> bool {
        self.form.is_some()
    }

    /// Without a tokenizer: takes the number of words from a prompt that is known to have had so
    /// many `tokens`.
    pub(crate) fn learn(&mut self, tokens: u32) {
        if !self.is_exact() && 0 < tokens {
            let words = self.words as f64 * f64::from(self.target) / f64::from(tokens);
            self.words = (words.round() as usize).max(1);
        }
    }

    /// The prompt of `key`. If the server stops counting, the rest of the prompts is approximate.
    pub(crate) async fn write(&mut self, connection: &mut Connection, key: RequestKey) -> String {
        if let Some(form) = self.form {
            match self.fit(connection, form, key).await {
                Some(prompt) => {
                    self.words = prompt.words;
                    return prompt.text;
                }
                None => self.form = None,
            }
        }
        prompt_text(key, self.words)
    }

    async fn fit(
        &self,
        connection: &mut Connection,
        form: TokenizeForm,
        key: RequestKey,
    ) -> Option<FittedPrompt> {
        let mut fit = PromptFit::new(key, self.target, self.words);
        loop {
            let tokens = self.count(connection, form, &fit.text()).await?;
            if let Some(prompt) = fit.answer(tokens) {
                return Some(prompt);
            }
        }
    }

    async fn count(
        &self,
        connection: &mut Connection,
        form: TokenizeForm,
        text: &str,
    ) -> Option<u32> {
        let body = match form {
            TokenizeForm::Prompt => {
                serde_json::to_vec(&PromptBody { model: &self.model, prompt: text })
            }
            TokenizeForm::Content => {
                serde_json::to_vec(&ContentBody { content: text, add_special: true })
            }
        };
        let body = body.expect("plain data with text keys");
        let answer = connection.ask(&self.client.post("/tokenize", body.into())).await?;
        let tokenized: Tokenized = serde_json::from_slice(&answer).ok()?;
        let listed = || tokenized.tokens.and_then(|tokens| u32::try_from(tokens.len()).ok());
        tokenized.count.or_else(listed)
    }
}
