//! From tokens to text to the client: decoder, stop strings, parts, chunks.
//!
//! Which chunks a stream has: one for each part that a step brought, the first one for the first
//! token even if that is only part of a character (so that its arrival can be timed), one for each
//! token with `continuous_usage_stats` or log-probabilities, and one with the finish reason, which
//! carries the last text; then, if asked for, the usage; then `[DONE]`.
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
use engine::{FinishReason, RequestTimes, TokenId};
use hyper::body::{Body, Frame};
use text::{Decoder, StopMatcher, Tokenizer};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::answer::{Answer, AnswerForm, Divider, Finish, Part};
use crate::dispatch::{ChoiceEvent, End, Generated, Submitted};
use crate::limits::KEEP_ALIVE;
use crate::openai::error::ApiError;
use crate::openai::log_probs::{ChatLogProbs, CompletionLogProbs, LogProbsBody, ScoredToken};
use crate::openai::reply::{
    ChunkWriter, Delta, Endpoint, Extras, PromptTokensDetails, ReplyHead, Timings, Usage,
    UsageField, WholeAnswer, done, error_event, keep_alive,
};
use crate::validate::{PromptSums, StopRules, StreamRules};

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
    choice: usize,
    first: bool,
    parts: Vec<Part>,
    /// With log-probabilities: the token, also if its text is held back.
    tokens: Vec<ScoredToken>,
    finish: Option<Finish>,
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
        let choice = |_| Choice::new(tokenizer, &rules, answers);
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
        let mut wholes: Vec<_> =
            self.choices.iter().map(|_| (Answer::empty(), Vec::new())).collect();
        while !self.is_done() {
            let event = self.next().await;
            let mut piece = self.take(event)?;
            let (answer, tokens) = &mut wholes[piece.choice];
            piece.parts.into_iter().for_each(|part| answer.add(part));
            tokens.append(&mut piece.tokens);
        }
        let whole = |((mut answer, tokens), choice): ((Answer, Vec<_>), &Choice)| {
            answer.finish = choice.finish.expect("every choice has ended, and not by a failure");
            WholeAnswer { answer, tokens: (!tokens.is_empty()).then_some(tokens) }
        };
        Ok(wholes.into_iter().zip(&self.choices).map(whole).collect())
    }

    /// What `event` adds to its choice.
    pub fn take(&mut self, event: Option<ChoiceEvent>) -> Result<Piece, ApiError> {
        let piece = self.advance(event);
        self.failure = piece.as_ref().err().map(ApiError::to_string);
        piece
    }

    fn advance(&mut self, event: Option<ChoiceEvent>) -> Result<Piece, ApiError> {
        let Some(ChoiceEvent { choice: index, token, end }) = event else {
            let message = "the client reads too slowly; the request was cancelled".to_owned();
            return Err(ApiError::Failed { message });
        };
        let index = usize::from(index);
        let choice = &mut self.choices[index];
        let first = choice.generated == 0;
        let stopped_before = choice.stopped;
        let mut tokens = Vec::new();
        let mut text = match token {
            Some(token) => choice.push(token, &self.rules, &mut tokens),
            None => String::new(),
        };
        if let Some(end) = end {
            self.submitted.ended(index);
            choice.finish(*end, &mut text)?;
        }
        let parts = choice.divide(text);
        if choice.finish.is_none() && choice.stopped && !stopped_before {
            self.submitted.stop(index);
        }
        Ok(Piece { choice: index, first, parts, tokens, finish: choice.finish })
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

    /// The first choice of each prompt says how much of it was cached; its siblings find what the
    /// first one computed.
    fn cached_prompt_tokens(&self) -> u32 {
        let firsts = self.choices.iter().step_by(self.prompts.samples);
        firsts.filter_map(|choice| choice.times.as_ref()).map(|t| t.cached_prompt_tokens).sum()
    }

    /// What a chunk says of `tokens`.
    fn log_probs_body(&self, tokens: &[ScoredToken]) -> Option<LogProbsBody<'_>> {
        let of = || match self.head.endpoint {
            Endpoint::Chat => LogProbsBody::Chat(ChatLogProbs::new(&self.tokenizer, tokens)),
            Endpoint::Completions => {
                LogProbsBody::Completion(CompletionLogProbs::new(&self.tokenizer, tokens))
            }
        };
        (!tokens.is_empty()).then(of)
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
        let timings = self.timings();
        tracing::info!(
            id = %self.head.id,
            request_id = self.head.request_id.as_str(),
            outcome,
            finish,
            failure = self.failure,
            choices = self.choices.len(),
            prompt_tokens = self.prompts.tokens,
            completion_tokens = self.usage().completion_tokens,
            cached_prompt_tokens = timings.cached_prompt_tokens,
            queue_ms = timings.queue_ms,
            prefill_ms = timings.prefill_ms,
            decode_ms = timings.decode_ms,
            "request"
        );
    }
}

/// To the microsecond: finer digits are noise.
fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

/// One choice of a reply.
struct Choice {
    decoder: Decoder,
    matcher: Option<StopMatcher>,
    divider: Divider,
    /// Tokens up to and including the one that ended the text.
    generated: u32,
    /// Whole characters decoded so far, counted where log-probabilities are asked for.
    characters: u32,
    /// Whether a stop string was found, or the only call is complete: what follows is neither shown nor counted.
    stopped: bool,
    finish: Option<Finish>,
    times: Option<RequestTimes>,
}

impl Choice {
    fn new(tokenizer: &Arc<Tokenizer>, rules: &StopRules, answers: &AnswerForm) -> Self {
        let marks = answers.rules.marks.clone();
        Choice {
            decoder: Decoder::new(Arc::clone(tokenizer), true).showing(marks),
            matcher: rules.strings.clone().map(StopMatcher::new),
            divider: Divider::new(answers),
            generated: 0,
            characters: 0,
            stopped: false,
            finish: None,
            times: None,
        }
    }

    /// The text that `token` makes safe to show. With log-probabilities it goes to `scored`.
    fn push(
        &mut self,
        token: Generated,
        rules: &StopRules,
        scored: &mut Vec<ScoredToken>,
    ) -> String {
        if self.stopped {
            return String::new();
        }
        self.generated += 1;
        let Generated { id, log_probs } = token;
        let is_scored = log_probs.is_some();
        scored.extend(log_probs.map(|log_probs| ScoredToken {
            id,
            offset: self.characters,
            log_probs,
        }));
        if rules.min_tokens <= self.generated && rules.tokens.contains(&TokenId(id)) {
            return String::new();
        }
        let decoded = self.decoder.push(id);
        if is_scored {
            self.characters += decoded.chars().count() as u32;
        }
        // As in vLLM, stop strings are looked for only in text after the first min_tokens.
        if self.generated <= rules.min_tokens { decoded } else { self.show(decoded) }
    }

    /// What of `decoded` may be shown.
    fn show(&mut self, decoded: String) -> String {
        let Some(matcher) = &mut self.matcher else { return decoded };
        if decoded.is_empty() {
            return decoded;
        }
        let output = matcher.push(&decoded);
        self.stopped = output.stopped.is_some();
        output.emit
    }

    /// The parts that `text` adds; those that were held back too, if the choice has ended.
    fn divide(&mut self, text: String) -> Vec<Part> {
        let parts = self.divider.push(text, self.finish.is_some());
        self.stopped |= self.divider.is_over();
        self.finish = self.finish.map(|finish| self.divider.finish(finish));
        parts
    }

    /// Ends the choice: adds held-back text to `text`.
    fn finish(&mut self, end: End, text: &mut String) -> Result<(), ApiError> {
        let (reason, times) = match end {
            End::Finished { reason, times } => (reason, times),
            End::Failed(failure) => return Err(failure.into()),
        };
        self.times = Some(times);
        if !self.stopped {
            let rest = self.decoder.finish();
            text.push_str(&self.show(rest));
        }
        if !self.stopped
            && let Some(matcher) = &mut self.matcher
        {
            text.push_str(&matcher.finish());
        }
        self.finish = match reason {
            _ if self.stopped => Some(Finish::Stop),
            FinishReason::Stop { .. } => Some(Finish::Stop),
            FinishReason::Length => Some(Finish::Length),
            FinishReason::Cancelled => {
                let message = "the request was cancelled".to_owned();
                return Err(ApiError::Failed { message });
            }
        };
        Ok(())
    }
}

/// The body of a streamed reply.
pub struct SseBody {
    generation: Generation,
    writer: ChunkWriter,
    rules: StreamRules,
    /// Chunks that are ready.
    ready: VecDeque<Bytes>,
    over: bool,
    /// Ends when the client has heard nothing for [`KEEP_ALIVE`].
    silence: Pin<Box<Sleep>>,
}

impl SseBody {
    /// The stream of `generation`, once its first token has come or [`KEEP_ALIVE`] is over.
    ///
    /// A failure before that is an error, so that it can still be told by the reply's status.
    pub async fn start(mut generation: Generation, rules: StreamRules) -> Result<Self, ApiError> {
        let first = match timeout(KEEP_ALIVE, generation.next()).await {
            Ok(event) => Some(generation.take(event)?),
            Err(_) => None,
        };
        let writer = ChunkWriter::new(generation.head());
        let silence = Box::pin(sleep(KEEP_ALIVE));
        let ready = VecDeque::new();
        let mut body = SseBody { generation, writer, rules, ready, over: false, silence };
        match first {
            Some(piece) => body.tell(&piece),
            None => body.ready.push_back(keep_alive()),
        }
        Ok(body)
    }

    fn take(&mut self, event: Option<ChoiceEvent>) {
        match self.generation.take(event) {
            Ok(piece) => self.tell(&piece),
            Err(error) => {
                self.over = true;
                self.ready.push_back(error_event(&error.body()));
            }
        }
    }

    fn tell(&mut self, piece: &Piece) {
        self.over = self.generation.is_done();
        let due = piece.first
            || !piece.parts.is_empty()
            || !piece.tokens.is_empty()
            || piece.finish.is_some();
        if due || self.rules.continuous_usage {
            self.tell_parts(piece);
        }
        if self.over {
            if self.rules.include_usage {
                let usage = UsageField::Figures(self.generation.usage());
                let timings = Some(self.generation.timings());
                self.ready.push_back(self.writer.without_choices(&Extras { usage, timings }));
            }
            self.ready.push_back(done());
        }
    }

    /// A chunk for each part, one at least; the last one says how the choice ended.
    fn tell_parts(&mut self, piece: &Piece) {
        let chunks = piece.parts.len().max(1);
        for chunk in 0..chunks {
            let is_last = chunk + 1 == chunks;
            let delta = Delta {
                index: piece.choice,
                first: piece.first && chunk == 0,
                part: piece.parts.get(chunk),
                log_probs: if chunk == 0 {
                    self.generation.log_probs_body(&piece.tokens)
                } else {
                    None
                },
                finish: piece.finish.filter(|_| is_last),
            };
            let timings = self.last_timings().filter(|_| is_last);
            let extras = Extras { usage: self.usage_so_far(), timings };
            self.ready.push_back(self.writer.delta(&delta, &extras));
        }
    }

    fn usage_so_far(&self) -> UsageField {
        if self.rules.continuous_usage {
            UsageField::Figures(self.generation.usage())
        } else if self.rules.include_usage {
            UsageField::Null
        } else {
            UsageField::Absent
        }
    }

    /// The timings, if the chunk in the making is the stream's last one.
    fn last_timings(&self) -> Option<Timings> {
        (self.over && !self.rules.include_usage).then(|| self.generation.timings())
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
                    body.ready.push_back(keep_alive());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
