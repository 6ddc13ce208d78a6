//! What one seed asks for: sizes of the engine, clients, faults.

use std::time::Duration;

use engine::{
    AdapterId, CacheSalt, DRAFT_TOKENS_MAX, EngineConfig, KvGroups, Request, SchedulingPolicy,
    Speculation, Tenant, TokenId,
};

use crate::device::{Faults, Script};
use crate::rng::Rng;

/// Everything that a seed decides before it runs.
#[derive(Debug, Clone)]
pub struct Workload {
    pub config: EngineConfig,
    /// Which bits of a prefix hash count; few of them force collisions.
    pub hash_mask: u64,
    pub faults: Faults,
    pub right_guess_percent: u64,
    /// Rounds of arrivals and cancels, each followed by a step.
    pub rounds: usize,
    pub arrival_percent: u64,
    /// Most arrivals at once.
    pub burst_max: usize,
    pub cancel_percent: u64,
    pub cancel_preempted_percent: u64,
    /// How often somebody comes or leaves while a step runs.
    pub meanwhile_percent: u64,
    pub drain_percent: u64,
    /// How often a request is several at once.
    pub choices_percent: u64,
    /// Whom requests are for, mostly the first.
    tenants: [Tenant; 3],
    /// How often a tenant has another weight than before.
    other_weight_percent: u64,
    invalid_percent: u64,
    /// Answers as long as the context allows; they fight for blocks.
    long_answer_percent: u64,
    vocabulary: u32,
    prompt_len_max: usize,
    /// Beginnings that prompts share.
    families: Vec<Vec<TokenId>>,
}

impl Workload {
    pub fn new(rng: &mut Rng) -> Self {
        let config = config(rng);
        let vocabulary = rng.pick(&[2, 6, 30]);
        let longest = config.kv_layout().longest(config.block_count);
        let room = longest.clamp(1, config.max_model_len) as usize;
        let family = |rng: &mut Rng| {
            (0..room).map(|_| TokenId(rng.between(0, vocabulary as usize - 1) as u32)).collect()
        };
        let families = (0..rng.between(1, 3)).map(|_| family(rng)).collect();
        let calm = Faults::default();
        let stormy = Faults { row_failure_percent: 3, ..calm };
        let breaking = Faults { row_failure_percent: 1, device_failure_percent: 2, ..calm };
        let panicking = Faults { device_panic_percent: 2, ..calm };
        Workload {
            config,
            hash_mask: rng.pick(&[u64::MAX, u64::MAX, 0b11, 0]),
            faults: rng.pick(&[calm, calm, calm, stormy, breaking, panicking]),
            right_guess_percent: rng.pick(&[0, 50, 90, 100]),
            rounds: rng.between(10, 50),
            arrival_percent: rng.pick(&[10, 30, 60]),
            burst_max: rng.between(1, 6),
            cancel_percent: rng.pick(&[0, 5, 25]),
            cancel_preempted_percent: rng.pick(&[0, 0, 30]),
            meanwhile_percent: rng.pick(&[0, 10, 40]),
            drain_percent: rng.pick(&[0, 0, 0, 2]),
            choices_percent: rng.pick(&[0, 20]),
            tenants: tenants(rng),
            other_weight_percent: rng.pick(&[0, 10]),
            invalid_percent: rng.pick(&[0, 5]),
            long_answer_percent: rng.pick(&[10, 80]),
            vocabulary,
            prompt_len_max: rng.between_one_of(1, &[1.max(room / 3), 1.max(room - 1)]),
            families,
        }
    }

    /// The next client's request. `earlier` is what an earlier client knows in the end.
    pub fn request(&self, rng: &mut Rng, earlier: Option<&[TokenId]>) -> Request<Script> {
        let invalid = rng.chance(self.invalid_percent);
        let prompt = if invalid { self.odd_prompt(rng) } else { self.prompt(rng, earlier) };
        let room = (self.config.max_model_len as usize).saturating_sub(prompt.len()).max(1);
        let most = if rng.chance(self.long_answer_percent) { room } else { room.min(12) };
        let max_tokens = if invalid { rng.between(0, 80) } else { rng.between(1, most) };
        let min_tokens = if rng.chance(30) { rng.between(0, max_tokens) } else { 0 };
        let stop = |rng: &mut Rng| TokenId(rng.between(0, self.vocabulary as usize - 1) as u32);
        let by_priority = self.config.scheduling_policy == SchedulingPolicy::Priority;
        let stop_tokens = (0..rng.between_one_of(0, &[0, 2])).map(|_| stop(rng)).collect();
        let priority = if invalid || by_priority { rng.between(0, 2) as i32 - 1 } else { 0 };
        let use_prefix_cache = rng.chance(90);
        let tenant = self.tenant(rng);
        let seed = rng.number();
        // Mostly none.
        let salt = [0, 0, 0, 0, 0, 0, 1, 2][seed as usize % 8];
        let adapter = [None, None, None, Some(0), Some(1)][seed as usize / 8 % 5].map(AdapterId);
        Request {
            prompt,
            max_tokens: max_tokens as u32,
            min_tokens: min_tokens as u32,
            stop_tokens,
            priority,
            use_prefix_cache,
            cache_salt: CacheSalt([salt; 32]),
            adapter,
            tenant,
            params: Script { seed, vocabulary: self.vocabulary, salt },
        }
    }

    fn tenant(&self, rng: &mut Rng) -> Tenant {
        let tenant = self.tenants[rng.pick(&[0, 0, 0, 1, 2])];
        let other = rng.chance(self.other_weight_percent);
        Tenant { weight: if other { rng.between(1, 9) as u32 } else { tenant.weight }, ..tenant }
    }

    /// How much time passes between two things.
    pub fn pause(&self, rng: &mut Rng) -> Duration {
        Duration::from_nanos(rng.pick(&[0, 1, 1_000_000, 3_600_000_000_000]))
    }

    /// A shared beginning or an earlier conversation, then tokens of its own.
    fn prompt(&self, rng: &mut Rng, earlier: Option<&[TokenId]>) -> Vec<TokenId> {
        let length = rng.between(1, self.prompt_len_max);
        let family = &self.families[rng.between(0, self.families.len() - 1)];
        let beginning = earlier.filter(|_| rng.chance(30)).unwrap_or(family);
        let shared = if rng.chance(40) { length } else { rng.between(0, length) };
        let mut prompt = beginning[..shared.min(beginning.len())].to_vec();
        while prompt.len() < length {
            prompt.push(TokenId(rng.between(0, self.vocabulary as usize - 1) as u32));
        }
        prompt
    }

    /// A prompt of any length, so that it may not be allowed.
    fn odd_prompt(&self, rng: &mut Rng) -> Vec<TokenId> {
        vec![TokenId(0); rng.between(0, 2 * self.config.max_model_len as usize)]
    }
}

/// Three users of one key, or three keys of which the later weigh more.
fn tenants(rng: &mut Rng) -> [Tenant; 3] {
    let by_user = ["", "alice", "bob"].map(|user| Tenant::named(user.as_bytes()));
    let by_key = [1, 2, 3].map(|number| Tenant { id: number, weight: number as u32 });
    rng.pick(&[by_user, by_key])
}

/// One group, or some of two kinds; the window is about a block, or of any size.
fn kv_groups(rng: &mut Rng, block_size: u32) -> KvGroups {
    let window = rng.pick(&[1, 2, 5, 8, 33, block_size, block_size + 1, (block_size - 1).max(1)]);
    let kinds = [(1, 0), (1, 0), (0, 1), (1, 1), (1, 2), (2, 1)];
    let (full, windowed) = rng.pick(&kinds);
    KvGroups { full, windowed, window }
}

fn config(rng: &mut Rng) -> EngineConfig {
    let block_size = rng.pick(&[1, 2, 3, 4, 8, 16]);
    let block_count = rng.between_one_of(1, &[2, 6, 16, 64]) as u32;
    let pool = (block_size * block_count) as usize;
    EngineConfig {
        block_size,
        block_count,
        kv_groups: kv_groups(rng, block_size),
        max_model_len: rng.between(2, (pool + 8).clamp(2, 90)) as u32,
        max_num_seqs: rng.between(1, 8) as u32,
        max_num_batched_tokens: rng.between_one_of(1, &[4, 16, 64]) as u32,
        max_num_queued_reqs: rng.between(0, 8) as u32,
        prefix_cache: rng.chance(80),
        scheduling_policy: rng.pick(&[
            SchedulingPolicy::Fcfs,
            SchedulingPolicy::Priority,
            SchedulingPolicy::Fair,
        ]),
        speculation: Speculation {
            draft_tokens_max: rng.pick(&[0, 0, 1, 4, DRAFT_TOKENS_MAX as u32]),
            step_positions_max: rng.pick(&[4, 8, 30]),
        },
    }
}
