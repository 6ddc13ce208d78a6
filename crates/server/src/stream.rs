//! From tokens to text to the client: decoder, stop strings, parts, events.
//!
//! What a stream consists of is decided by its [`Events`], one form for each kind of endpoint.
//!
//! The reply begins with the first token, so that a failure before it is told by the status; but
//! not later than [`KEEP_ALIVE`]: then with a comment, another one follows each such time without
//! a chunk, and a failure is told by an error event.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde::Serialize;
use text::Tokenizer;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::answer::{Answer, AnswerForm, Finish, Part};
use crate::choice::Choice;
use crate::dispatch::{ChoiceEvent, Submitted};
use crate::limits::KEEP_ALIVE;
use crate::openai::error::ApiError;
use crate::openai::log_probs::ScoredToken;
use crate::openai::prompt::ToldPrompt;
use crate::openai::reply::{PromptTokensDetails, ReplyHead, Timings, Usage, WholeAnswer};
use crate::panics::Stream;
use crate::validate::{PromptSums, StopRules};

/// A reply in the making.
pub struct Generation {
    submitted: Submitted,
    tokenizer: Arc<Tokenizer>,
    choices: Vec<Choice>,
    rules: StopRules,
    prompts: PromptSums,
    /// What the log calls it.
    head: ReplyHead,
    failure: Option<String>,
}

/// What came to a choice in one event.
#[derive(Debug)]
pub struct Piece {
    /// Which choice.
    pub choice: usize,
    /// Whether it is the choice's first piece.
    pub first: bool,
    /// What is new, if anything is.
    pub parts: Vec<Part>,
    /// With log-probabilities: the token, also if its text is held back.
    pub tokens: Vec<ScoredToken>,
    /// The token's id, if ids are told.
    pub ids: Vec<u32>,
    /// Set in the choice's last piece.
    pub finish: Option<Finish>,
}

impl Generation {
    /// A reply to what was submitted.
    pub fn new(
        submitted: Submitted,
        tokenizer: &Arc<Tokenizer>,
        rules: StopRules,
        answers: &AnswerForm,
        (prompts, head): (PromptSums, ReplyHead),
    ) -> Self {
        submitted.count_samples(prompts.samples);
        let choice = |index: usize| {
            let mut choice = Choice::new(tokenizer, &rules, answers, prompts.tells_ids);
            let echo = prompts.told[index / prompts.samples].echo.as_ref();
            choice.characters = echo.map_or(0, |echo| echo.characters());
            choice
        };
        let choices = (0..submitted.choices()).map(choice).collect();
        let tokenizer = Arc::clone(tokenizer);
        Generation { submitted, tokenizer, choices, rules, prompts, head, failure: None }
    }

    /// Waits for the next event; none when it was cancelled since its reader is too slow.
    pub async fn next(&mut self) -> Option<ChoiceEvent> {
        self.submitted.events.recv().await
    }

    /// Waits until every choice has ended; gives them in order.
    pub async fn collect(&mut self) -> Result<Vec<WholeAnswer>, ApiError> {
        let empty = |_| (Answer::empty(), Vec::new(), Vec::new());
        let mut wholes: Vec<_> = self.choices.iter().map(empty).collect();
        while !self.is_done() {
            let event = self.next().await;
            let mut piece = self.take(event)?;
            let (answer, tokens, ids) = &mut wholes[piece.choice];
            piece.parts.iter().for_each(|part| _ = answer.add(part));
            tokens.append(&mut piece.tokens);
            ids.append(&mut piece.ids);
        }
        let whole = |(index, (mut answer, tokens, ids)): (usize, (Answer, Vec<_>, Vec<_>))| {
            let finish = self.choices[index].finish;
            answer.finish = finish.expect("every choice has ended, and not by a failure");
            let tokens = (!tokens.is_empty()).then_some(tokens);
            let ids = self.tells_ids().then_some(ids);
            WholeAnswer { answer, tokens, ids, prompt: self.told_prompt(index) }
        };
        Ok(wholes.into_iter().enumerate().map(whole).collect())
    }

    /// Whether ids of tokens are told.
    pub fn tells_ids(&self) -> bool {
        self.prompts.tells_ids
    }

    /// What is told of the prompt of a choice.
    pub fn told_prompt(&self, choice: usize) -> ToldPrompt {
        self.prompts.told[choice / self.prompts.samples].clone()
    }

    /// What `event` adds to its choice.
    pub fn take(&mut self, event: Option<ChoiceEvent>) -> Result<Piece, ApiError> {
        let piece = self.advance(event);
        self.failure = piece.as_ref().err().map(ApiError::to_string);
        piece
    }

    fn advance(&mut self, event: Option<ChoiceEvent>) -> Result<Piece, ApiError> {
        let Some(ChoiceEvent { choice: index, mut token, end }) = event else {
            let message = "the client reads too slowly; the request was cancelled".to_owned();
            return Err(ApiError::Failed { message });
        };
        let index = usize::from(index);
        if !self.prompts.has_answer {
            // The engine ends requests with a token. Nobody asked for this one.
            token = None;
        }
        let first = self.choices[index].generated == 0;
        let prompt = if first { self.told_prompt(index) } else { ToldPrompt::default() };
        let choice = &mut self.choices[index];
        let stopped_before = choice.stopped;
        let is_token = token.is_some();
        let (mut tokens, mut ids) = (Vec::new(), Vec::new());
        if let Some(token) = &token
            && choice.tells_ids
            && !stopped_before
        {
            ids.push(token.id);
        }
        let mut text = match token {
            Some(token) => choice.push(token, &self.rules, &mut tokens),
            None => String::new(),
        };
        if let Some(end) = end {
            self.submitted.ended(index);
            choice.finish(*end, &self.rules, &mut text)?;
        }
        let mut parts = choice.divide(text);
        choice.thought += u32::from(is_token && choice.is_thinking());
        if let Some(echo) = &prompt.echo {
            parts.insert(0, Part::Content(echo.text.clone()));
            tokens.splice(0..0, ScoredToken::of_prompt(&prompt));
        }
        if choice.finish.is_some() && !self.prompts.has_answer {
            choice.finish = Some(Finish::Length);
        }
        if choice.finish.is_none() && choice.stopped && !stopped_before {
            self.submitted.stop(index);
        }
        Ok(Piece { choice: index, first, parts, tokens, ids, finish: choice.finish })
    }

    /// Whether every choice has ended.
    pub fn is_done(&self) -> bool {
        self.choices.iter().all(|choice| choice.finish.is_some())
    }

    /// Tokens so far; cached ones are known once every choice has ended.
    pub fn usage(&self) -> Usage {
        let completion_tokens = self.choices.iter().map(|choice| choice.generated).sum();
        let details = PromptTokensDetails { cached_tokens: self.cached_prompt_tokens() };
        Usage {
            prompt_tokens: self.prompts.tokens,
            completion_tokens,
            total_tokens: self.prompts.tokens + completion_tokens,
            prompt_tokens_details: self.is_done().then_some(details),
        }
    }

    /// How many of the tokens so far were thought.
    pub fn reasoning_tokens(&self) -> u32 {
        self.choices.iter().map(|choice| choice.thought).sum()
    }

    /// How long the stages took, as far as choices have ended.
    pub fn timings(&self) -> Timings {
        let times = || self.choices.iter().filter_map(|choice| choice.times.as_ref());
        let arrived = times().map(|t| t.arrived).min();
        let scheduled = times().filter_map(|t| t.scheduled).min();
        let first_token = times().filter_map(|t| t.first_token).min();
        let finished = times().map(|t| t.finished).max();
        let stage = |from: Option<engine::Nanos>, to: Option<engine::Nanos>| match (from, to) {
            (Some(from), Some(to)) => milliseconds(to.since(from)),
            _ => 0.0,
        };
        Timings {
            queue_ms: stage(arrived, scheduled),
            prefill_ms: stage(scheduled, first_token),
            decode_ms: stage(first_token, finished),
            cached_prompt_tokens: self.cached_prompt_tokens(),
        }
    }

    /// Tokens that were guessed for choices that have ended, and how many of them were right; none if
    /// nothing was guessed.
    fn draft_tokens(&self) -> Option<(u64, u64)> {
        let times = self.choices.iter().filter_map(|choice| choice.times.as_ref());
        let of_each = times.map(|times| (times.draft_tokens, times.accepted_draft_tokens));
        let sum = of_each.fold((0, 0), |all, own| (all.0 + own.0, all.1 + own.1));
        (0 < sum.0).then_some(sum)
    }

    /// The first choice of each prompt says how much of it was cached; its siblings find what the
    /// first one computed.
    fn cached_prompt_tokens(&self) -> u32 {
        let firsts = self.choices.iter().step_by(self.prompts.samples);
        firsts.filter_map(|choice| choice.times.as_ref()).map(|t| t.cached_prompt_tokens).sum()
    }

    /// The stop string that ended a choice, if one did.
    pub fn stop_string(&self, choice: usize) -> Option<&str> {
        let index = self.choices[choice].stop_string?;
        self.rules.strings.as_ref().map(|strings| strings.get(index))
    }

    /// The tokenizer of the model.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The head of the reply.
    pub fn head(&self) -> &ReplyHead {
        &self.head
    }
}

/// One line per request, whichever way it ended. No text of the client's in it.
impl Drop for Generation {
    fn drop(&mut self) {
        for answers in self.choices.chunks(self.prompts.samples) {
            if answers.iter().all(|choice| choice.finish.is_some()) {
                let longest = answers.iter().map(|choice| choice.generated).max();
                self.submitted.count_longest(longest.expect("a prompt has an answer"));
            }
        }
        let outcome = match (&self.failure, self.is_done()) {
            (Some(_), _) => "failed",
            (None, true) => "finished",
            (None, false) => "cancelled",
        };
        let finish = self.choices.first().and_then(|choice| choice.finish).map(Finish::as_str);
        let timings = self.is_done().then(|| self.timings());
        let (draft_tokens, accepted_draft_tokens) = self.draft_tokens().unzip();
        tracing::info!(
            id = %self.head.id,
            request_id = self.head.request_id.as_str(),
            endpoint = self.head.endpoint,
            model = self.head.model,
            outcome,
            finish,
            failure = self.failure,
            choices = self.choices.len(),
            prompt_tokens = self.prompts.tokens,
            completion_tokens = self.usage().completion_tokens,
            cached_prompt_tokens = self.cached_prompt_tokens(),
            queue_ms = timings.as_ref().map(|timings| timings.queue_ms),
            prefill_ms = timings.as_ref().map(|timings| timings.prefill_ms),
            decode_ms = timings.as_ref().map(|timings| timings.decode_ms),
            draft_tokens,
            accepted_draft_tokens,
            "request"
        );
    }
}

/// To the microsecond: finer digits are noise.
fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

/// The form of a streamed reply: what becomes of the pieces of its choices, as bytes.
pub trait Events: Send {
    /// What comes before everything else, maybe nothing.
    fn begin(&mut self, generation: &Generation) -> Vec<Bytes>;

    /// What a piece adds, and what ends the stream if the piece is the last one.
    fn piece(&mut self, piece: &Piece, generation: &Generation) -> Vec<Bytes>;

    /// Says that there is nothing to tell, and that the stream is alive.
    fn quiet(&mut self) -> Bytes;

    /// The end of a stream that failed.
    fn failed(&mut self, error: &ApiError) -> Bytes;
}

/// An event with a name.
pub fn named_event<T: Serialize>(name: &str, data: &T) -> Bytes {
    let mut bytes = format!("event: {name}\ndata: ").into_bytes();
    serde_json::to_writer(&mut bytes, data).expect("a Vec takes every byte and figures are finite");
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

/// The body of a streamed reply.
pub struct SseBody {
    generation: Generation,
    events: Box<dyn Events>,
    /// Events that are ready.
    ready: VecDeque<Bytes>,
    over: bool,
    /// Ends when the client has heard nothing for [`KEEP_ALIVE`].
    silence: Pin<Box<Sleep>>,
}

impl SseBody {
    /// The stream of `generation`, once its first token has come or [`KEEP_ALIVE`] is over.
    ///
    /// A failure before that is an error, so that it can still be told by the reply's status.
    pub async fn start(
        mut generation: Generation,
        mut events: Box<dyn Events>,
    ) -> Result<Self, ApiError> {
        let first = match timeout(KEEP_ALIVE, generation.next()).await {
            Ok(event) => Some(generation.take(event)?),
            Err(_) => None,
        };
        let silence = Box::pin(sleep(KEEP_ALIVE));
        let ready = events.begin(&generation).into();
        let mut body = SseBody { generation, events, ready, over: false, silence };
        match first {
            Some(piece) => body.tell(&piece),
            None => body.ready.push_back(body.events.quiet()),
        }
        Ok(body)
    }

    fn take(&mut self, event: Option<ChoiceEvent>) {
        match self.generation.take(event) {
            Ok(piece) => self.tell(&piece),
            Err(error) => {
                self.over = true;
                let event = self.failed(&error);
                self.ready.push_back(event);
            }
        }
    }

    fn tell(&mut self, piece: &Piece) {
        self.over = self.generation.is_done();
        self.ready.extend(self.events.piece(piece, &self.generation));
    }
}

impl Stream for SseBody {
    fn failed(&mut self, error: &ApiError) -> Bytes {
        self.generation.failure = Some(error.to_string());
        self.events.failed(error)
    }
}

impl Body for SseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        loop {
            if let Some(chunk) = body.ready.pop_front() {
                body.silence.as_mut().reset(Instant::now() + KEEP_ALIVE);
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if body.over {
                return Poll::Ready(None);
            }
            match body.generation.submitted.events.poll_recv(context) {
                Poll::Ready(event) => body.take(event),
                Poll::Pending if body.silence.as_mut().poll(context).is_ready() => {
                    let quiet = body.events.quiet();
                    body.ready.push_back(quiet);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
