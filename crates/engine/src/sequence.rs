//! One request on its way: its tokens, how far they are computed, its blocks.

use std::ops::Range;

use crate::clock::Nanos;
use crate::event::{FinishReason, RequestTimes};
use crate::ids::{AdapterId, RequestId, TokenId};
use crate::kv::BlockTable;
use crate::layout::KvGroups;
use crate::policy::Rank;
use crate::request::Request;

/// A request that was accepted and has not ended.
pub struct Sequence<P> {
    pub id: RequestId,
    pub rank: Rank,
    pub tenant_id: u64,
    /// Under `Fair`, its place in the order of running sequences, before its rank.
    pub turn: u64,
    /// How often it gave way to another tenant.
    pub yields: u32,
    /// All known tokens: the prompt, then what was generated. They only grow, also through
    /// preemptions.
    pub tokens: Vec<TokenId>,
    pub prompt_len: usize,
    /// The positions `0..computed` have keys and values in `table`; always fewer than are known.
    pub computed: usize,
    pub table: BlockTable,
    pub adapter: Option<AdapterId>,
    pub params: P,
    pub use_prefix_cache: bool,
    pub preemptions: u32,
    max_tokens: usize,
    min_tokens: usize,
    stop_tokens: Vec<TokenId>,
    /// Prompt positions counted as computed or cached, so that recomputing counts nothing twice.
    prompt_counted: usize,
    cached_prompt_tokens: usize,
    draft_tokens: u64,
    accepted_draft_tokens: u64,
    arrived: Nanos,
    scheduled: Option<Nanos>,
    first_token: Option<Nanos>,
}

impl<P> Sequence<P> {
    /// A sequence of which nothing is computed.
    pub fn new(
        (id, rank): (RequestId, Rank),
        groups: KvGroups,
        request: Request<P>,
        arrived: Nanos,
    ) -> Self {
        Sequence {
            id,
            rank,
            tenant_id: request.tenant.id,
            turn: 0,
            yields: 0,
            prompt_len: request.prompt.len(),
            table: BlockTable::new(request.origin(), groups),
            adapter: request.adapter,
            tokens: request.prompt,
            computed: 0,
            params: request.params,
            use_prefix_cache: request.use_prefix_cache,
            preemptions: 0,
            max_tokens: request.max_tokens as usize,
            min_tokens: request.min_tokens as usize,
            stop_tokens: request.stop_tokens,
            prompt_counted: 0,
            cached_prompt_tokens: 0,
            draft_tokens: 0,
            accepted_draft_tokens: 0,
            arrived,
            scheduled: None,
            first_token: None,
        }
    }

    /// Begins to run with its first `cached` positions found in the cache. Says whether this is
    /// the first time, not a return after a preemption.
    pub fn begin(&mut self, cached: usize, now: Nanos) -> bool {
        self.computed = cached;
        self.prompt_counted = self.prompt_counted.max(cached.min(self.prompt_len));
        if self.scheduled.is_some() {
            return false;
        }
        self.scheduled = Some(now);
        self.cached_prompt_tokens = cached;
        true
    }

    /// Positions known and not computed; at least 1.
    pub fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether a part of the prompt is not computed.
    pub fn in_prefill(&self) -> bool {
        self.computed < self.prompt_len
    }

    /// The positions to compute next, at most `budget` of them.
    pub fn next_compute(&self, budget: usize) -> Range<usize> {
        self.computed..self.tokens.len().min(self.computed + budget)
    }

    /// Records that all positions before `computed` are computed. Gives how many of the prompt
    /// were so for the first time.
    pub fn advance(&mut self, computed: usize) -> usize {
        self.computed = computed;
        let prompt = computed.min(self.prompt_len).max(self.prompt_counted);
        prompt - std::mem::replace(&mut self.prompt_counted, prompt)
    }

    /// Loses what was computed, but no token.
    pub fn preempt(&mut self) {
        self.computed = 0;
        self.preemptions += 1;
    }

    /// Appends a generated token; says whether it is the last.
    pub fn append(&mut self, token: TokenId, now: Nanos) -> Option<FinishReason> {
        self.tokens.push(token);
        self.first_token.get_or_insert(now);
        let generated = self.generated();
        if self.min_tokens <= generated && self.stop_tokens.contains(&token) {
            return Some(FinishReason::Stop { token });
        }
        (self.max_tokens <= generated).then_some(FinishReason::Length)
    }

    /// Most tokens of a draft of which all may be accepted: one more token always follows them.
    pub fn draft_max(&self) -> usize {
        self.max_tokens - self.generated() - 1
    }

    /// Counts a draft of so many tokens.
    pub fn count_draft(&mut self, tokens: usize, accepted: usize) {
        self.draft_tokens += tokens as u64;
        self.accepted_draft_tokens += accepted as u64;
    }

    /// The account of a sequence that ends now.
    pub fn times(&self, finished: Nanos) -> RequestTimes {
        let count = |n: usize| u32::try_from(n).expect("max_model_len is a u32");
        RequestTimes {
            arrived: self.arrived,
            scheduled: self.scheduled,
            first_token: self.first_token,
            finished,
            prompt_tokens: count(self.prompt_len),
            cached_prompt_tokens: count(self.cached_prompt_tokens),
            generated_tokens: count(self.generated()),
            preemptions: self.preemptions,
            draft_tokens: self.draft_tokens,
            accepted_draft_tokens: self.accepted_draft_tokens,
        }
    }

    fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{SchedulingPolicy, Tenant};
    use crate::request::CacheSalt;

    fn sequence(max_tokens: u32, min_tokens: u32) -> Sequence<()> {
        let request = Request {
            prompt: vec![TokenId(1); 6],
            max_tokens,
            min_tokens,
            stop_tokens: vec![TokenId(0)],
            priority: 0,
            use_prefix_cache: true,
            cache_salt: CacheSalt::default(),
            adapter: None,
            tenant: Tenant::default(),
            params: (),
        };
        let rank = SchedulingPolicy::Fcfs.rank(0, 0);
        Sequence::new((RequestId(1), rank), KvGroups::ONE, request, Nanos(5))
    }

    #[test]
    fn a_stop_token_ends_it() {
        let mut sequence = sequence(3, 0);
        assert_eq!(sequence.append(TokenId(7), Nanos(6)), None);
        let stop = FinishReason::Stop { token: TokenId(0) };
        assert_eq!(sequence.append(TokenId(0), Nanos(7)), Some(stop));
    }

    #[test]
    fn max_tokens_end_it_and_a_stop_token_in_the_last_place_counts_as_stop() {
        let mut long = sequence(1, 0);
        assert_eq!(long.append(TokenId(7), Nanos(6)), Some(FinishReason::Length));
        let mut stopped = sequence(1, 0);
        let stop = FinishReason::Stop { token: TokenId(0) };
        assert_eq!(stopped.append(TokenId(0), Nanos(6)), Some(stop));
    }

    #[test]
    fn a_stop_token_before_min_tokens_does_not_end_it() {
        let mut sequence = sequence(9, 3);
        assert_eq!(sequence.append(TokenId(0), Nanos(6)), None);
        assert_eq!(sequence.append(TokenId(0), Nanos(7)), None);
        assert!(sequence.append(TokenId(0), Nanos(8)).is_some());
    }

    #[test]
    fn recomputed_prompt_tokens_are_not_counted_again() {
        let mut sequence = sequence(3, 0);
        assert!(sequence.begin(2, Nanos(6)));
        assert_eq!(sequence.advance(5), 3);
        sequence.preempt();
        assert!(!sequence.begin(4, Nanos(9)));
        assert_eq!(sequence.advance(6), 1);
        assert_eq!(sequence.times(Nanos(9)).cached_prompt_tokens, 2);
        assert_eq!(sequence.times(Nanos(9)).scheduled, Some(Nanos(6)));
    }
}
