//! Everything that a level sends, written before it begins.

use std::sync::Arc;

use workload::dataset::{Item, Message, Output, Prompt};
use workload::lengths::{LengthLaws, Lengths, SharedPrefix};
use workload::load::LevelPlan;
use workload::random::RequestKey;

use crate::client::{Call, Connection};
use crate::config::{Api, BenchConfig};
use crate::conversation::{Ask, RequestWriter, Turn};
use crate::dataset::Items;
use crate::drive::{Asked, Request};
use crate::error::BenchError;
use crate::probe::ServerFacts;
use crate::prompts::{Counted, PromptWriter};

/// Writes requests.
pub(crate) struct Script {
    prompts: PromptWriter,
    /// For counting tokens.
    connection: Connection,
    writer: Arc<RequestWriter>,
    items: Option<Items>,
    /// Most tokens of prompt and answer, if the server says so.
    max_model_len: Option<u32>,
    seed: u64,
    /// How often the run was continued.
    resumes: u32,
    /// Requests of the data set that were left out since the server's context is shorter.
    too_long: usize,
}

/// One request in words.
struct Line {
    says: Vec<Message>,
    /// Tokens of the prompt, as far as they are known.
    prompt_tokens: Option<u32>,
    output_tokens: u32,
}

/// Lengths where neither an option nor the data set says one.
const UNSAID: Lengths = Lengths { prompt_tokens: 16, output_tokens: 128 };

impl Script {
    /// A script of `config` for `server`.
    pub(crate) fn new(
        config: &BenchConfig,
        server: &ServerFacts,
        prompts: PromptWriter,
        connection: Connection,
        resumes: u32,
    ) -> Script {
        let writer = RequestWriter {
            client: prompts.client().clone(),
            model: server.model.clone(),
            form: config.form.clone(),
            ignore_eos: config.lengths.ignore_eos,
            sampling: config.sampling,
        };
        Script {
            prompts,
            connection,
            writer: Arc::new(writer),
            items: config.dataset.clone().map(|file| Items::new(file, config.seed)),
            max_model_len: server.info.as_ref().and_then(|info| info.max_model_len),
            seed: config.seed,
            resumes,
            too_long: 0,
        }
    }

    /// Whether prompts are cut by the server's own count.
    pub(crate) fn is_exact(&self) -> bool {
        self.prompts.is_exact()
    }

    /// Requests that were left out since the last call: the server's context is shorter.
    pub(crate) fn take_too_long(&mut self) -> usize {
        std::mem::take(&mut self.too_long)
    }

    /// The request before the first level, and the tokens of its prompt.
    pub(crate) async fn warm_up(&mut self, laws: &LengthLaws) -> (Call, u32) {
        let key = self.key(0, 0, 0);
        let lengths = laws.draw(key).unwrap_or(UNSAID);
        let (text, prompt_tokens) = self.words(key, lengths, laws.prefix).await;
        (self.writer.call(&[Message::user(text)], lengths.output_tokens), prompt_tokens)
    }

    /// The first prompt was meant to have `target` tokens and had so many.
    pub(crate) fn learn(&mut self, target: u32, tokens: u32) {
        self.prompts.learn(target, tokens);
    }

    /// A level begins in a run that has sent so many requests before.
    pub(crate) fn begin_level(&mut self, sent: usize) {
        if let Some(items) = &mut self.items {
            items.go_on_after(sent);
        }
    }

    /// What a user says in its requests from `begin` on, as many as one conversation has but at most
    /// `most`, which is at least 1.
    pub(crate) async fn conversation(
        &mut self,
        plan: &LevelPlan,
        (level, user, begin): (u32, u32, u32),
        most: u32,
    ) -> Result<Vec<Request>, BenchError> {
        let most = most.min(plan.lengths.turns);
        let lines = match self.items {
            None => self.invented(&plan.lengths, (level, user, begin), most).await,
            Some(_) => self.recorded(&plan.lengths, (level, user, begin), most).await?,
        };
        let requests = (begin..).zip(lines).map(|(request, line)| {
            let Line { says, prompt_tokens, output_tokens } = line;
            // What a chat's template adds is the server's.
            let is_exact = self.writer.form.api == Api::Completions && request == begin;
            let asked = Asked { prompt_tokens: prompt_tokens.filter(|_| is_exact), output_tokens };
            let ask = match plan.lengths.turns {
                1 => Ask::Ready(Box::new(self.writer.call(&says, output_tokens))),
                _ => Ask::Turn(Turn {
                    opens: request == begin,
                    says,
                    max_tokens: output_tokens,
                    writer: Arc::clone(&self.writer),
                }),
            };
            let think_time_ns = plan.load.think_time_ns(self.drawn(level, user, request));
            Request { ask, asked, think_time_ns }
        });
        Ok(requests.collect())
    }

    /// Turns of words drawn by the run's seed.
    async fn invented(
        &mut self,
        laws: &LengthLaws,
        (level, user, begin): (u32, u32, u32),
        turns: u32,
    ) -> Vec<Line> {
        let mut lines = Vec::new();
        for request in begin..begin + turns {
            let lengths = laws.draw(self.drawn(level, user, request)).unwrap_or(UNSAID);
            let prefix = if request == begin { laws.prefix } else { SharedPrefix::default() };
            let key = self.key(level, user, request);
            let (text, prompt_tokens) = self.words(key, lengths, prefix).await;
            lines.push(Line {
                says: vec![Message::user(text)],
                prompt_tokens: Some(prompt_tokens),
                output_tokens: lengths.output_tokens,
            });
        }
        lines
    }

    /// The next conversation of the data set that the server's context can hold.
    async fn recorded(
        &mut self,
        laws: &LengthLaws,
        (level, user, begin): (u32, u32, u32),
        turns: u32,
    ) -> Result<Vec<Line>, BenchError> {
        let all = self.items.as_ref().map_or(0, Items::len);
        for _ in 0..all {
            let item = self.items.as_mut().expect("there is a data set").next();
            let output = laws.draw_output(self.drawn(level, user, begin));
            let output_tokens = self.output_tokens(&item, output).await;
            let lines =
                self.lines(item, (level, user, begin), turns, (output_tokens, laws.prefix)).await;
            let tokens = lines[0].prompt_tokens.unwrap_or(0).saturating_add(output_tokens);
            if self.max_model_len.is_none_or(|most| tokens <= most) {
                return Ok(lines);
            }
            self.too_long += 1;
        }
        let most = self.max_model_len.unwrap_or(0);
        Err(BenchError::Dataset {
            file: self.items.as_ref().map_or_else(String::new, Items::file).into(),
            why: format!(
                "each of its {all} requests needs more than the {most} tokens of the server's \
                 context"
            ),
        })
    }

    async fn output_tokens(&mut self, item: &Item, drawn: Option<u32>) -> u32 {
        match (drawn, &item.output) {
            (Some(drawn), _) => drawn,
            (None, Output::Tokens(tokens)) => *tokens,
            (None, Output::AsLongAs(answer)) => {
                self.prompts.tokens(&mut self.connection, answer).await.tokens
            }
            (None, Output::Unsaid) => UNSAID.output_tokens,
        }
    }

    async fn lines(
        &mut self,
        item: Item,
        (level, user, begin): (u32, u32, u32),
        turns: u32,
        (output_tokens, prefix): (u32, SharedPrefix),
    ) -> Vec<Line> {
        let line = |says, prompt_tokens| Line { says, prompt_tokens, output_tokens };
        match item.prompt {
            Prompt::Tokens(tokens) => {
                let key = self.key(level, user, begin);
                let lengths = Lengths { prompt_tokens: tokens, output_tokens };
                let (text, tokens) = self.words(key, lengths, prefix).await;
                vec![line(vec![Message::user(text)], Some(tokens))]
            }
            Prompt::Text(text) => {
                let tokens = self.count(&text).await;
                vec![line(vec![Message::user(text)], tokens)]
            }
            Prompt::Messages(messages) => vec![line(messages, None)],
            Prompt::Turns(said) => {
                let tokens = self.count(&said[0]).await;
                let turns = said.into_iter().take(turns as usize);
                let turns = turns.map(|text| line(vec![Message::user(text)], None));
                let mut lines: Vec<Line> = turns.collect();
                lines[0].prompt_tokens = tokens;
                lines
            }
        }
    }

    /// Tokens of `text` by the server's count.
    async fn count(&mut self, text: &str) -> Option<u32> {
        let Counted { tokens, is_exact } = self.prompts.tokens(&mut self.connection, text).await;
        is_exact.then_some(tokens)
    }

    async fn words(
        &mut self,
        key: RequestKey,
        lengths: Lengths,
        prefix: SharedPrefix,
    ) -> (String, u32) {
        let target = lengths.prompt_tokens;
        let text = self.prompts.write(&mut self.connection, key, target, prefix).await;
        (text, target + prefix.tokens)
    }

    /// What lengths and times are drawn by.
    fn drawn(&self, level: u32, user: u32, request: u32) -> RequestKey {
        RequestKey { seed: self.seed, level, user, request }
    }

    /// What words are drawn by. A level that is run again has other prompts: the server's cache may
    /// hold the first ones.
    fn key(&self, level: u32, user: u32, request: u32) -> RequestKey {
        let seed = self.seed.wrapping_add(u64::from(self.resumes) << 48);
        RequestKey { seed, level, user, request }
    }
}
