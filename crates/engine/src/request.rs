//! What is asked of the engine, and what it refuses at the door.

use crate::ids::{AdapterId, TokenId};
use crate::layout::KvLayout;
use crate::policy::{SchedulingPolicy, Tenant};

/// Keeps what is cached of some requests apart: those with other salts never share a block. The zeros
/// stand for no salt. Compared as a whole, so that it may be the digest of a client's text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheSalt(pub [u8; 32]);

/// What sets the beginning of a request apart from equal tokens of others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin {
    /// Says with whom it may share.
    pub salt: CacheSalt,
    /// Computes other keys and values of the same tokens.
    pub adapter: Option<AdapterId>,
}

/// One request: a prompt to continue. Valid once [`Limits::check`] has passed it.
#[derive(Debug, Clone)]
pub struct Request<P> {
    /// The prompt; at least one token.
    pub prompt: Vec<TokenId>,
    /// Most tokens to generate; at least 1.
    pub max_tokens: u32,
    /// A stop token does not end the request while fewer tokens than this are generated.
    pub min_tokens: u32,
    /// Tokens that end the request: the model's end tokens and the client's `stop_token_ids`.
    /// Empty means that only `max_tokens` ends it.
    pub stop_tokens: Vec<TokenId>,
    /// A lower number goes first; 0 unless the policy is [`SchedulingPolicy::Priority`].
    pub priority: i32,
    /// Whether what earlier requests computed may be attached in place of being computed again. False
    /// for a request that wants something of every position of its prompt.
    pub use_prefix_cache: bool,
    /// With whom it may share what is cached.
    pub cache_salt: CacheSalt,
    /// What is added to the model for it.
    pub adapter: Option<AdapterId>,
    /// Whom it is for.
    pub tenant: Tenant,
    /// For the device alone: how to choose a token.
    pub params: P,
}

impl<P> Request<P> {
    /// With whose equal tokens it may share what is cached.
    pub fn origin(&self) -> Origin {
        Origin { salt: self.cache_salt, adapter: self.adapter }
    }

    /// The same request with other parameters.
    pub fn with_params<Q>(self, params: Q) -> Request<Q> {
        Request {
            prompt: self.prompt,
            max_tokens: self.max_tokens,
            min_tokens: self.min_tokens,
            stop_tokens: self.stop_tokens,
            priority: self.priority,
            tenant: self.tenant,
            use_prefix_cache: self.use_prefix_cache,
            cache_salt: self.cache_salt,
            adapter: self.adapter,
            params,
        }
    }
}

/// What a request must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens of prompt and answer together.
    pub max_model_len: u32,
    /// How sequences are kept in blocks.
    pub kv: KvLayout,
    /// Blocks in the whole pool.
    pub block_count: u32,
    /// Whether priorities count.
    pub scheduling_policy: SchedulingPolicy,
}

impl Limits {
    /// Says whether `request` can ever be served, alone if need be.
    pub fn check<P>(&self, request: &Request<P>) -> Result<(), SubmitError> {
        let prompt_tokens = request.prompt.len() as u64;
        if prompt_tokens == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if request.max_tokens == 0 {
            return Err(SubmitError::MaxTokensZero);
        }
        let Request { priority, .. } = *request;
        if priority != 0 && self.scheduling_policy != SchedulingPolicy::Priority {
            return Err(SubmitError::PriorityUnused { priority });
        }
        let tokens = prompt_tokens + u64::from(request.max_tokens);
        if u64::from(self.max_model_len) < tokens {
            let max_tokens = request.max_tokens;
            let limit = self.max_model_len;
            return Err(SubmitError::PromptTooLong { prompt_tokens, max_tokens, limit });
        }
        // The last token generated is never computed, so it needs no room.
        let blocks = self.kv.blocks_of(tokens - 1);
        if u64::from(self.block_count) < blocks {
            return Err(SubmitError::NeverFits { blocks, limit: self.block_count });
        }
        Ok(())
    }

    /// Most tokens of prompt and answer: `max_model_len`, or less where the pool is smaller.
    pub fn longest(&self) -> u32 {
        // The last token generated is never computed, so it needs no room in the pool.
        self.max_model_len.min(self.kv.longest(self.block_count).saturating_add(1))
    }
}

/// Why a request was refused at the door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// There is nothing to continue.
    #[error("the prompt has no tokens; give at least one")]
    EmptyPrompt,
    /// Nothing is asked for.
    #[error("max_tokens is 0; ask for at least 1")]
    MaxTokensZero,
    /// It wants another place in the order than the policy gives it.
    #[error(
        "priority is {priority}, but requests are not served in order of priority; leave it out or \
         start the server with --scheduling-policy priority"
    )]
    PriorityUnused {
        /// What was asked for.
        priority: i32,
    },
    /// Prompt and answer together exceed the context.
    #[error(
        "this model's maximum context length is {limit} tokens, and the prompt of {prompt_tokens} \
         tokens with max_tokens {max_tokens} needs more; shorten the prompt or lower max_tokens"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt_tokens: u64,
        /// Tokens asked for.
        max_tokens: u32,
        /// `max_model_len`.
        limit: u32,
    },
    /// Even alone it would run out of KV blocks.
    #[error(
        "the request needs {blocks} KV blocks and the whole pool has {limit}; lower max_tokens or \
         give the server more KV memory"
    )]
    NeverFits {
        /// Most blocks that it would hold at once.
        blocks: u64,
        /// Blocks in the pool.
        limit: u32,
    },
    /// All places for running and waiting requests are taken.
    #[error(
        "{in_flight} requests are running or waiting and the limit is {limit}; try again later"
    )]
    QueueFull {
        /// Requests accepted and not yet ended.
        in_flight: u32,
        /// `max_num_seqs + max_num_queued_reqs`.
        limit: u32,
    },
    /// The tenant holds its share of the places.
    #[error(
        "{in_flight} requests of this client are running or waiting and its share is {limit}; try \
         again later"
    )]
    ShareFull {
        /// Requests of the tenant accepted and not yet ended.
        in_flight: u32,
        /// Its share at the moment: the more tenants, the less.
        limit: u32,
    },
    /// The engine finishes what it has and takes nothing more.
    #[error("the server is shutting down and takes no more requests; use another one")]
    Draining,
    /// The engine has stopped, normally or by a failure.
    #[error("the engine has stopped; restart the server")]
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::KvGroups;

    fn check(prompt: usize, max_tokens: u32) -> Result<(), SubmitError> {
        limits(SchedulingPolicy::Fcfs).check(&request(prompt, max_tokens))
    }

    fn limits(scheduling_policy: SchedulingPolicy) -> Limits {
        let kv = KvLayout { block_size: 4, groups: KvGroups::ONE, step_max: 8 };
        Limits { max_model_len: 20, kv, block_count: 4, scheduling_policy }
    }

    fn request(prompt: usize, max_tokens: u32) -> Request<()> {
        Request {
            prompt: vec![TokenId(1); prompt],
            max_tokens,
            min_tokens: 0,
            stop_tokens: Vec::new(),
            priority: 0,
            use_prefix_cache: true,
            cache_salt: CacheSalt::default(),
            adapter: None,
            tenant: Tenant::default(),
            params: (),
        }
    }

    #[test]
    fn a_priority_needs_the_policy_of_this_name() {
        let request = Request { priority: -3, ..request(1, 1) };
        let refusal = SubmitError::PriorityUnused { priority: -3 };
        assert_eq!(limits(SchedulingPolicy::Fcfs).check(&request), Err(refusal));
        assert_eq!(limits(SchedulingPolicy::Priority).check(&request), Ok(()));
    }

    #[test]
    fn an_empty_prompt_is_refused() {
        assert_eq!(check(0, 1), Err(SubmitError::EmptyPrompt));
    }

    #[test]
    fn asking_for_no_tokens_is_refused() {
        assert_eq!(check(1, 0), Err(SubmitError::MaxTokensZero));
    }

    #[test]
    fn prompt_and_answer_must_fit_the_context() {
        let refusal = SubmitError::PromptTooLong { prompt_tokens: 20, max_tokens: 1, limit: 20 };
        assert_eq!(check(20, 1), Err(refusal));
        let refusal =
            SubmitError::PromptTooLong { prompt_tokens: 1, max_tokens: u32::MAX, limit: 20 };
        assert_eq!(check(1, u32::MAX), Err(refusal));
    }

    #[test]
    fn the_last_token_needs_no_room() {
        assert_eq!(check(10, 7), Ok(()));
        assert_eq!(check(10, 8), Err(SubmitError::NeverFits { blocks: 5, limit: 4 }));
        assert_eq!(limits(SchedulingPolicy::Fcfs).longest(), 17);
    }

    #[test]
    fn what_lies_behind_the_window_needs_no_room() {
        let window = |window| {
            let mut limits = limits(SchedulingPolicy::Fcfs);
            limits.kv.groups = KvGroups { full: 0, windowed: 1, window };
            limits
        };
        assert_eq!(window(5).check(&request(10, 10)), Ok(()));
        assert_eq!(window(5).longest(), 20);
        let refusal = SubmitError::NeverFits { blocks: 5, limit: 4 };
        assert_eq!(window(12).check(&request(10, 10)), Err(refusal));
    }
}
