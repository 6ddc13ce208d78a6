//! Prompts of the right length, cut with the server's own tokenizer where it has one.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;

use workload::lengths::SharedPrefix;
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

/// Tokens of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) tokens: u32,
    /// Whether the server counted them.
    pub(crate) is_exact: bool,
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
    /// The shared prefixes that were written, by their numbers.
    prefixes: HashMap<u32, String>,
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
            prefixes: HashMap::new(),
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

    /// What it asks the server with.
    pub(crate) fn client(&self) -> &Client {
        &self.client
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

    /// The prompt of `key` with `target` tokens behind its `prefix`, if it has one. If the server
    /// stops counting, the rest of the prompts is approximate.
    pub(crate) async fn write(
        &mut self,
        connection: &mut Connection,
        key: RequestKey,
        target: u32,
        prefix: SharedPrefix,
    ) -> String {
        let Some(number) = prefix.pick(key) else {
            return self.behind(connection, "", 0, (key, target)).await;
        };
        let beginning = match self.prefixes.get(&number) {
            Some(beginning) => beginning.clone(),
            None => {
                let prefix_key = SharedPrefix::key(key.seed, number);
                self.behind(connection, "", 0, (prefix_key, prefix.tokens)).await
            }
        };
        let prompt = self.behind(connection, &beginning, prefix.tokens, (key, target)).await;
        self.prefixes.insert(number, beginning);
        prompt
    }

    /// `prefix`, which has so many tokens, with `target` tokens of `key` behind it.
    async fn behind(
        &mut self,
        connection: &mut Connection,
        prefix: &str,
        prefix_tokens: u32,
        (key, target): (RequestKey, u32),
    ) -> String {
        if let Some(form) = self.form {
            let guess = self.words(target);
            let fit = PromptFit::new(key, prefix, prefix_tokens + target, guess);
            match self.fit(connection, form, fit).await {
                Some(prompt) => {
                    let own = prompt.tokens.saturating_sub(prefix_tokens).max(1);
                    self.words_per_token = prompt.words as f64 / f64::from(own);
                    return prompt.text;
                }
                None => self.form = None,
            }
        }
        prompt_text(key, prefix, self.words(target))
    }

    /// Tokens of `text`: by the server's count, or else about a quarter of its characters.
    pub(crate) async fn tokens(&self, connection: &mut Connection, text: &str) -> Counted {
        let counted = match self.form {
            Some(form) => self.count(connection, form, text).await,
            None => None,
        };
        match counted {
            Some(tokens) => Counted { tokens, is_exact: true },
            None => {
                let tokens = u32::try_from(text.chars().count() / 4).unwrap_or(u32::MAX).max(1);
                Counted { tokens, is_exact: false }
            }
        }
    }

    /// Words that a prompt of `target` tokens will probably need.
    fn words(&self, target: u32) -> usize {
        ((f64::from(target) * self.words_per_token).round() as usize).max(1)
    }

    async fn fit(
        &self,
        connection: &mut Connection,
        form: TokenizeForm,
        mut fit: PromptFit,
    ) -> Option<FittedPrompt> {
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
