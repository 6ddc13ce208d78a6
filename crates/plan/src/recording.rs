//! Recorded requests, as a modelled server is asked them.

use std::collections::VecDeque;

use engine::TokenId;
use workload::dataset::{Dataset, Item, Message, Output, Prompt};
use workload::lengths::LengthLaws;
use workload::load::{LevelPlan, Load};
use workload::random::RequestKey;

/// Makes token ids of texts, as the server that is modelled would.
pub trait Tokens {
    /// Those of a prompt or an answer.
    ///
    /// # Errors
    /// Why it has none.
    fn of_text(&self, text: &str) -> Result<Vec<u32>, String>;

    /// Those of the prompt that a chat becomes.
    ///
    /// # Errors
    /// Why it becomes none.
    fn of_chat(&self, messages: &[Message]) -> Result<Vec<u32>, String>;
}

/// Recorded requests in the order in which they are sent, over and over.
pub struct Recording<'a> {
    dataset: &'a Dataset,
    /// Places in the data set.
    order: Vec<usize>,
    /// When each is due after the first, nanoseconds; empty if that was not recorded.
    times_ns: Vec<u64>,
    tokens: Option<&'a dyn Tokens>,
}

/// Why recorded requests cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// The length of a text is not known here.
    #[error(
        "request {line} is a text, and how many tokens that has is known only with a model's \
         tokenizer: give --model with one that Millrace serves, or record `prompt_tokens` and \
         `output_tokens` in place of texts"
    )]
    Text {
        /// The request's line.
        line: usize,
    },
    /// The tokenizer or the chat template refuses a text.
    #[error("request {line} cannot be made into tokens: {why}")]
    Refused {
        /// The request's line.
        line: usize,
        /// What it said.
        why: String,
    },
    /// No request fits.
    #[error("each of the {requests} recorded requests needs more than {max_model_len} tokens")]
    TooLong {
        /// How many there are.
        requests: usize,
        /// Most tokens of prompt and answer.
        max_model_len: u32,
    },
}

/// One request, as far as an engine sees it.
pub(crate) struct Line {
    /// Whether it begins a conversation.
    pub(crate) opens: bool,
    /// Whether it then begins with a shared prefix.
    pub(crate) has_prefix: bool,
    /// What it adds to what was said.
    pub(crate) says: Says,
    /// Tokens of the answer.
    pub(crate) output_tokens: u32,
}

/// What a user says in a request.
pub(crate) enum Says {
    /// So many tokens that nobody else says.
    Own(u32),
    /// A text.
    Text(Vec<TokenId>),
}

impl Says {
    fn len(&self) -> u32 {
        match self {
            Says::Own(tokens) => *tokens,
            Says::Text(ids) => u32::try_from(ids.len()).unwrap_or(u32::MAX),
        }
    }
}

/// Ids of texts begin here, so that they are nobody else's.
pub(crate) const TEXTS: u32 = 1 << 30;

/// Tokens of an answer whose length nobody says, as in a load test.
const OUTPUT_UNSAID: u32 = 128;

impl<'a> Recording<'a> {
    /// The requests of `dataset` in this `order`, each due after so many nanoseconds if
    /// `times_ns` says so, in that order. Without `tokens` only lengths can be asked.
    pub fn new(
        dataset: &'a Dataset,
        order: Vec<usize>,
        times_ns: Vec<u64>,
        tokens: Option<&'a dyn Tokens>,
    ) -> Recording<'a> {
        assert_eq!(order.len(), dataset.items.len(), "an order names each request once");
        assert!(times_ns.is_empty() || times_ns.len() == order.len(), "each has a time, or none");
        Recording { dataset, order, times_ns, tokens }
    }

    /// When the first `requests` are due at so many times the recorded speed, nanoseconds. None if
    /// no times were recorded.
    pub(crate) fn schedule_ns(&self, requests: u32, speed: f64) -> Option<Vec<u64>> {
        let times = self.times_ns.iter().take(requests as usize);
        let scaled = || times.map(|ns| (*ns as f64 / speed).round() as u64).collect();
        (!self.times_ns.is_empty()).then(scaled)
    }

    /// What each user says in the level of `key`, in a run that has `sent` so many requests before.
    /// A request that is longer than `max_model_len` is left out and the next one taken.
    ///
    /// # Errors
    /// A text that cannot be made into tokens, or none that is short enough.
    pub(crate) fn lines(
        &self,
        plan: &LevelPlan,
        key: RequestKey,
        sent: usize,
        max_model_len: u32,
    ) -> Result<Vec<VecDeque<Line>>, RecordingError> {
        let (users, of_each) = match plan.load {
            Load::Closed { users, requests_per_user, .. } => (users, requests_per_user),
            Load::Open { requests, .. } => (requests, 1),
        };
        let mut next = if self.times_ns.is_empty() { sent } else { 0 };
        let mut of_user = |user| {
            let mut lines = VecDeque::new();
            while (lines.len() as u32) < of_each {
                let begin = lines.len() as u32;
                let key = RequestKey { user, request: begin, ..key };
                let most = plan.lengths.turns.min(of_each - begin);
                let more = self.conversation(&plan.lengths, key, &mut next, max_model_len)?;
                lines.extend(more.into_iter().take(most as usize));
            }
            Ok(lines)
        };
        (0..users).map(&mut of_user).collect()
    }

    /// The next conversation that is short enough, of at most as many turns as `laws` say.
    fn conversation(
        &self,
        laws: &LengthLaws,
        key: RequestKey,
        next: &mut usize,
        max_model_len: u32,
    ) -> Result<Vec<Line>, RecordingError> {
        for _ in 0..self.order.len() {
            let item = &self.dataset.items[self.order[*next % self.order.len()]];
            *next += 1;
            let lines = self.turns(item, laws, key)?;
            let prefix = if lines[0].has_prefix { laws.prefix.tokens } else { 0 };
            let prompt = lines[0].says.len().saturating_add(prefix);
            if prompt.saturating_add(lines[0].output_tokens) <= max_model_len {
                return Ok(lines);
            }
        }
        Err(RecordingError::TooLong { requests: self.order.len(), max_model_len })
    }

    fn turns(
        &self,
        item: &Item,
        laws: &LengthLaws,
        key: RequestKey,
    ) -> Result<Vec<Line>, RecordingError> {
        let output_tokens = match (laws.draw_output(key), &item.output) {
            (Some(drawn), _) => drawn,
            (None, Output::Tokens(tokens)) => *tokens,
            (None, Output::AsLongAs(answer)) => self.text(item, answer)?.len().max(1),
            (None, Output::Unsaid) => OUTPUT_UNSAID,
        };
        let line = |opens, has_prefix, says| Line { opens, has_prefix, says, output_tokens };
        Ok(match &item.prompt {
            Prompt::Tokens(tokens) => vec![line(true, true, Says::Own(*tokens))],
            Prompt::Text(text) => vec![line(true, false, self.text(item, text)?)],
            Prompt::Messages(messages) => {
                let says = self.ids(item, |tokens| tokens.of_chat(messages))?;
                vec![line(true, false, says)]
            }
            Prompt::Turns(said) => {
                let said = said.iter().take(laws.turns as usize).enumerate();
                let turn = |(turn, text): (usize, &String)| {
                    Ok(line(turn == 0, false, self.text(item, text)?))
                };
                said.map(turn).collect::<Result<_, RecordingError>>()?
            }
        })
    }

    fn text(&self, item: &Item, text: &str) -> Result<Says, RecordingError> {
        self.ids(item, |tokens| tokens.of_text(text))
    }

    fn ids(
        &self,
        item: &Item,
        make: impl Fn(&dyn Tokens) -> Result<Vec<u32>, String>,
    ) -> Result<Says, RecordingError> {
        let line = item.line;
        let tokens = self.tokens.ok_or(RecordingError::Text { line })?;
        let ids = make(tokens).map_err(|why| RecordingError::Refused { line, why })?;
        if ids.is_empty() {
            let why = "it has no token".to_owned();
            return Err(RecordingError::Refused { line, why });
        }
        Ok(Says::Text(ids.into_iter().map(|id| TokenId(TEXTS + id)).collect()))
    }
}

#[cfg(test)]
mod tests;
