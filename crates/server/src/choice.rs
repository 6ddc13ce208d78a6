//! One choice of a reply: its tokens become text and parts.

use std::sync::Arc;

use engine::{FinishReason, RequestTimes, TokenId};
use text::{Decoder, StopMatcher, StopOutput, Tokenizer};

use crate::answer::{AnswerForm, Divider, Finish, Part};
use crate::dispatch::{End, Generated};
use crate::openai::error::ApiError;
use crate::openai::log_probs::ScoredToken;
use crate::validate::StopRules;

/// One choice of a reply.
pub struct Choice {
    decoder: Decoder,
    matcher: Option<StopMatcher>,
    divider: Divider,
    /// Whether ids are told.
    pub tells_ids: bool,
    shows_stop: bool,
    /// Tokens up to and including the one that ended the text.
    pub generated: u32,
    /// Of these, tokens that were thought.
    pub thought: u32,
    /// Whole characters told so far, counted where log-probabilities are asked for.
    pub characters: u32,
    /// Whether a stop string was found, or the only call is complete: what follows is neither shown nor counted.
    pub stopped: bool,
    /// Which stop string was found.
    pub stop_string: Option<usize>,
    /// How it ended.
    pub finish: Option<Finish>,
    /// When.
    pub times: Option<RequestTimes>,
}

impl Choice {
    /// A choice of which nothing has come.
    pub fn new(
        tokenizer: &Arc<Tokenizer>,
        rules: &StopRules,
        answers: &AnswerForm,
        tells_ids: bool,
    ) -> Self {
        let marks = answers.rules.marks.clone();
        let skip_control = !rules.shown.control;
        Choice {
            decoder: Decoder::new(Arc::clone(tokenizer), skip_control).showing(marks),
            matcher: rules.strings.clone().map(StopMatcher::new),
            divider: Divider::new(answers),
            tells_ids,
            shows_stop: rules.shown.stop,
            generated: 0,
            thought: 0,
            characters: 0,
            stopped: false,
            stop_string: None,
            finish: None,
            times: None,
        }
    }

    /// The text that `token` makes safe to show. With log-probabilities it goes to `scored`.
    pub fn push(
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
            log_probs: Some(log_probs),
        }));
        let ends = rules.min_tokens <= self.generated && rules.tokens.contains(&TokenId(id));
        if ends && !self.shows_stop {
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
        let StopOutput { mut emit, stopped } = matcher.push(&decoded);
        self.stopped = stopped.is_some();
        self.stop_string = stopped;
        if let (Some(stop), true) = (stopped, self.shows_stop) {
            emit.push_str(&matcher.strings()[stop]);
        }
        emit
    }

    /// The parts that `text` adds; those that were held back too, if the choice has ended.
    pub fn divide(&mut self, text: String) -> Vec<Part> {
        let parts = self.divider.push(text, self.finish.is_some());
        self.stopped |= self.divider.is_over();
        // What is complete is so whatever else its last token used up.
        let reason = |finish| if self.stopped { Finish::Stop } else { finish };
        self.finish = self.finish.map(|finish| self.divider.finish(reason(finish)));
        parts
    }

    /// Whether the answer's thoughts are open.
    pub fn is_thinking(&self) -> bool {
        self.divider.is_thinking()
    }

    /// Ends the choice: adds held-back text to `text`.
    pub fn finish(
        &mut self,
        end: End,
        rules: &StopRules,
        text: &mut String,
    ) -> Result<(), ApiError> {
        let (reason, times) = match end {
            End::Finished { reason, times } => (reason, times),
            End::Failed(failure) => return Err(failure.told(rules.masked_by)),
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
