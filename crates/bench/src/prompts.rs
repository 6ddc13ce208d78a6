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

/// Writes prompts of given numbers of tokens.
#[derive(Debug)]
pub(crate) struct PromptWriter {
    client: Client,
    model: String,
    /// How the server counts tokens; `None` if it does not.
    form: Option<TokenizeForm>,
    /// Words that make up a token, as far as is known.
    words_per_token: f64,
}

impl PromptWriter {
    /// A writer of prompts for `model`; asks the server how it counts.
    pub(crate) async fn new(
        client: &Client,
        connection: &mut Connection,
        model: &str,
    ) -> PromptWriter {
        let mut writer = PromptWriter {
            client: client.clone(),
            model: model.to_owned(),
            form: None,
            words_per_token: 1.0,
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

    /// Without a tokenizer: learns the number of words from a prompt of `target` tokens that was
    /// found to have so many `tokens`.
    pub(crate) fn learn(&mut self, target: u32, tokens: u32) {
        if !self.is_exact() && 0 < tokens {
            self.words_per_token *= f64::from(target) / f64::from(tokens);
        }
    }

    /// The prompt of `key` with `target` tokens. If the server stops counting, the rest of the
    /// prompts is approximate.
    pub(crate) async fn write(
        &mut self,
        connection: &mut Connection,
        key: RequestKey,
        target: u32,
    ) -> String {
        if let Some(form) = self.form {
            match self.fit(connection, form, key, target).await {
                Some(prompt) => {
                    self.words_per_token = prompt.words as f64 / f64::from(prompt.tokens.max(1));
                    return prompt.text;
                }
                None => self.form = None,
            }
        }
        prompt_text(key, self.words(target))
    }

    /// Words that a prompt of `target` tokens will probably need.
    fn words(&self, target: u32) -> usize {
        ((f64::from(target) * self.words_per_token).round() as usize).max(1)
    }

    async fn fit(
        &self,
        connection: &mut Connection,
        form: TokenizeForm,
        key: RequestKey,
        target: u32,
    ) -> Option<FittedPrompt> {
        let mut fit = PromptFit::new(key, target, self.words(target));
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
