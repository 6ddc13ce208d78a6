//! Streams of completions and chats: chunks.
//!
//! One for each part that a step brought, the first one for the first token even if that is only part
//! of a character (so that its arrival can be timed), one for each token with `continuous_usage_stats`, ids
//! or log-probabilities, and one with the finish reason, which carries the last text; then, if asked for,
//! the usage; then `[DONE]`.

use bytes::Bytes;

use crate::openai::error::ApiError;
use crate::openai::log_probs::{ChatLogProbs, CompletionLogProbs, LogProbsBody, ScoredToken};
use crate::openai::prompt::ToldPrompt;
use crate::openai::reply::{
    ChunkWriter, Delta, Endpoint, Extras, ReplyHead, Timings, UsageField, done, error_event,
    keep_alive,
};
use crate::stream::{Events, Generation, Piece};
use crate::validate::StreamRules;

/// The chunks of one stream.
#[derive(Debug)]
pub struct Chunks {
    endpoint: Endpoint,
    writer: ChunkWriter,
    rules: StreamRules,
}

impl Chunks {
    /// For a stream of `endpoint` that begins with `head`.
    pub fn new(endpoint: Endpoint, head: &ReplyHead, rules: StreamRules) -> Self {
        Chunks { endpoint, writer: ChunkWriter::new(endpoint, head), rules }
    }

    /// A chunk for each part, one at least; the last one says how the choice ended.
    fn parts(&self, piece: &Piece, generation: &Generation) -> Vec<Bytes> {
        let chunks = piece.parts.len().max(1);
        let chunk = |chunk: usize| {
            let is_last = chunk + 1 == chunks;
            let delta = Delta {
                index: piece.choice,
                first: piece.first && chunk == 0,
                part: piece.parts.get(chunk),
                log_probs: if chunk == 0 {
                    self.log_probs(&piece.tokens, generation)
                } else {
                    None
                },
                ids: generation.tells_ids().then_some(match chunk {
                    0 => &piece.ids[..],
                    _ => &[],
                }),
                finish: piece.finish.filter(|_| is_last),
            };
            let timings = self.last_timings(generation).filter(|_| is_last);
            let prompt = match piece.first && chunk == 0 {
                true => generation.told_prompt(piece.choice),
                false => ToldPrompt::default(),
            };
            let extras = Extras { usage: self.usage_so_far(generation), timings, prompt };
            self.writer.delta(&delta, &extras)
        };
        (0..chunks).map(chunk).collect()
    }

    /// What a chunk says of `tokens`.
    fn log_probs<'a>(
        &self,
        tokens: &'a [ScoredToken],
        generation: &'a Generation,
    ) -> Option<LogProbsBody<'a>> {
        let tokenizer = generation.tokenizer();
        let of = || match self.endpoint {
            Endpoint::Chat => LogProbsBody::Chat(ChatLogProbs::new(tokenizer, tokens)),
            Endpoint::Completions => {
                LogProbsBody::Completion(CompletionLogProbs::new(tokenizer, tokens))
            }
        };
        (!tokens.is_empty()).then(of)
    }

    fn usage_so_far(&self, generation: &Generation) -> UsageField {
        if self.rules.continuous_usage {
            UsageField::Figures(generation.usage())
        } else if self.rules.include_usage {
            UsageField::Null
        } else {
            UsageField::Absent
        }
    }

    /// The timings, if the chunk in the making is the stream's last one.
    fn last_timings(&self, generation: &Generation) -> Option<Timings> {
        (generation.is_done() && !self.rules.include_usage).then(|| generation.timings())
    }
}

impl Events for Chunks {
    fn begin(&mut self, _: &Generation) -> Vec<Bytes> {
        Vec::new()
    }

    fn piece(&mut self, piece: &Piece, generation: &Generation) -> Vec<Bytes> {
        let due = piece.first
            || !piece.parts.is_empty()
            || !piece.tokens.is_empty()
            || !piece.ids.is_empty()
            || piece.finish.is_some();
        let mut chunks = Vec::new();
        if due || self.rules.continuous_usage {
            chunks = self.parts(piece, generation);
        }
        if generation.is_done() {
            if self.rules.include_usage {
                let usage = UsageField::Figures(generation.usage());
                let timings = Some(generation.timings());
                chunks.push(self.writer.without_choices(&Extras {
                    usage,
                    timings,
                    ..Extras::default()
                }));
            }
            chunks.push(done());
        }
        chunks
    }

    fn quiet(&mut self) -> Bytes {
        keep_alive()
    }

    fn failed(&mut self, error: &ApiError) -> Bytes {
        error_event(&error.body())
    }
}
