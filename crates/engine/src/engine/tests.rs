use std::fmt::Write as _;

use super::*;
use crate::clock::FakeClock;
use crate::config::Speculation;
use crate::ids::{AdapterId, TokenId};
use crate::layout::KvGroups;
use crate::policy::{SchedulingPolicy, Tenant};
use crate::request::CacheSalt;
use crate::step::StepPlan;

/// Gives the number of known tokens as the next token, unless told otherwise.
#[derive(Default)]
struct Counter {
    /// The last plan as text: `id:start..end+draft_max[blocks]` for each row.
    plan: String,
    /// What the next rows give instead, in order.
    instead: Vec<RowOutput<()>>,
    broken: bool,
}

impl Device for Counter {
    type Params = ();
    type Extra = ();

    fn run(&mut self, plan: &StepPlan<'_, ()>) -> Result<StepOutput<()>, DeviceError> {
        self.plan.clear();
        for row in &plan.rows {
            let blocks: Vec<u32> = row.blocks.iter().flatten().map(|block| block.0).collect();
            let space = if self.plan.is_empty() { "" } else { " " };
            let draft =
                if 0 < row.draft_max { format!("+{}", row.draft_max) } else { String::new() };
            write!(self.plan, "{space}{}:{:?}{draft}{blocks:?}", row.id.0, row.compute)
                .expect("a string");
        }
        if self.broken {
            return Err(DeviceError("on fire".to_owned()));
        }
        let mut instead = std::mem::take(&mut self.instead).into_iter();
        let output = |row: &crate::step::Row<'_, ()>| match row.sampled() {
            true => tokens(&[row.tokens.len() as u32]),
            false => RowOutput::Computed,
        };
        let rows = plan.rows.iter().map(|row| instead.next().unwrap_or_else(|| output(row)));
        Ok(StepOutput { rows: rows.collect() })
    }
}

fn tokens(ids: &[u32]) -> RowOutput<()> {
    let sampled = |&id| Sampled { token: TokenId(id), extra: () };
    RowOutput::Tokens { tokens: ids.iter().map(sampled).collect(), drafted: ids.len() - 1 }
}

/// Blocks of 4 positions.
fn config() -> EngineConfig {
    EngineConfig {
        block_size: 4,
        block_count: 16,
        kv_groups: KvGroups::ONE,
        max_model_len: 64,
        max_num_seqs: 4,
        max_num_batched_tokens: 32,
        max_num_queued_reqs: 4,
        prefix_cache: true,
        scheduling_policy: SchedulingPolicy::Fcfs,
        speculation: Speculation::OFF,
    }
}

/// Drafts of up to 3 tokens in steps of up to 8 positions.
fn drafting() -> EngineConfig {
    let speculation = Speculation { draft_tokens_max: 3, step_positions_max: 8 };
    EngineConfig { speculation, ..config() }
}

fn engine(config: EngineConfig) -> Engine<Counter> {
    Engine::new(config, Counter::default())
}

/// Prompts begin with 100, 101, ..., so that they share what they can.
fn prompt(length: u32) -> Vec<TokenId> {
    (100..100 + length).map(TokenId).collect()
}

/// A prompt that shares nothing with that of another `id`.
fn own_prompt(id: u64, length: u32) -> Vec<TokenId> {
    (0..length).map(|position| TokenId(1000 * (id as u32 + 1) + position)).collect()
}

fn request(prompt: Vec<TokenId>, max_tokens: u32) -> Request<()> {
    Request {
        prompt,
        max_tokens,
        min_tokens: 0,
        stop_tokens: vec![TokenId(0)],
        priority: 0,
        use_prefix_cache: true,
        cache_salt: CacheSalt::default(),
        adapter: None,
        tenant: Tenant::default(),
        params: (),
    }
}

impl Engine<Counter> {
    fn ask(&mut self, id: u64, prompt: Vec<TokenId>, max_tokens: u32) {
        self.submit(RequestId(id), request(prompt, max_tokens), Nanos(0)).expect("it is allowed");
    }

    /// Runs a step; the plan as text.
    fn plan_of_step(&mut self) -> String {
        self.step(&FakeClock::new()).expect("the device works");
        self.check_invariants();
        self.device.plan.clone()
    }

    fn run_until_idle(&mut self) {
        while !self.is_idle() {
            self.plan_of_step();
        }
    }

    /// The events as text: `id+token`, `id.reason`, `id!message`.
    fn told(&mut self) -> String {
        let text = |event: Event<()>| match event {
            Event::Token { id, token, .. } => format!("{}+{}", id.0, token.0),
            Event::Finished { id, reason, .. } => format!("{}.{reason:?}", id.0),
            Event::Failed { id, failure } => format!("{}!{}", id.0, failure.message),
        };
        self.drain_events().into_iter().map(text).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn a_request_is_computed_token_by_token_and_finishes() {
    let mut engine = engine(config());
    engine.ask(1, prompt(5), 2);
    assert_eq!(engine.plan_of_step(), "1:0..5[0, 1]");
    assert_eq!(engine.told(), "1+5");
    assert_eq!(engine.plan_of_step(), "1:5..6[0, 1]");
    assert_eq!(engine.told(), "1+6 1.Length");
    assert!(engine.is_idle());
    let snapshot = engine.snapshot();
    assert_eq!((snapshot.steps_total, snapshot.computed_tokens_total), (2, 6));
    assert_eq!((snapshot.prompt_tokens_total, snapshot.generation_tokens_total), (5, 2));
}

#[test]
fn a_stop_token_is_told_and_then_the_request_is_finished() {
    let mut engine = engine(config());
    engine.ask(1, prompt(5), 9);
    engine.device.instead = vec![tokens(&[0])];
    engine.plan_of_step();
    assert_eq!(engine.told(), "1+0 1.Stop { token: TokenId(0) }");
}

#[test]
fn a_long_prompt_is_computed_in_chunks_beside_decodes() {
    let mut engine = engine(EngineConfig { max_num_batched_tokens: 6, ..config() });
    engine.ask(1, own_prompt(1, 3), 9);
    assert_eq!(engine.plan_of_step(), "1:0..3[0]");
    engine.ask(2, own_prompt(2, 8), 9);
    assert_eq!(engine.plan_of_step(), "1:3..4[0] 2:0..5[1, 2]");
    assert_eq!(engine.plan_of_step(), "1:4..5[0, 3] 2:5..8[1, 2]");
    assert_eq!(engine.told(), "1+3 1+4 1+5 2+8");
}

#[test]
fn requests_beyond_max_num_seqs_wait_in_order() {
    let mut engine = engine(EngineConfig { max_num_seqs: 1, ..config() });
    for id in [1, 2, 3] {
        engine.ask(id, own_prompt(id, 3), 1);
    }
    assert_eq!(engine.plan_of_step(), "1:0..3[0]");
    assert_eq!((engine.snapshot().running, engine.snapshot().waiting), (0, 2));
    assert_eq!(engine.plan_of_step(), "2:0..3[0]");
    assert_eq!(engine.plan_of_step(), "3:0..3[0]");
}

#[test]
fn nobody_overtakes_a_head_that_does_not_fit() {
    let mut engine = engine(EngineConfig { block_count: 4, ..config() });
    engine.ask(1, own_prompt(1, 8), 2);
    engine.ask(2, own_prompt(2, 10), 1);
    engine.ask(3, own_prompt(3, 1), 1);
    assert_eq!(engine.plan_of_step(), "1:0..8[0, 1]");
    assert_eq!(engine.plan_of_step(), "1:8..9[0, 1, 2]");
    assert_eq!(engine.plan_of_step(), "2:0..10[2, 3, 1] 3:0..1[0]");
}

#[test]
fn the_whole_prompt_must_fit_although_only_a_chunk_is_computed() {
    let mut engine = engine(EngineConfig { block_count: 4, max_num_batched_tokens: 5, ..config() });
    engine.ask(1, own_prompt(1, 5), 3);
    assert_eq!(engine.plan_of_step(), "1:0..5[0, 1]");
    engine.ask(2, own_prompt(2, 9), 1);
    assert_eq!(engine.plan_of_step(), "1:5..6[0, 1]", "4 positions of request 2 would fit");
}

#[test]
fn the_last_running_request_is_preempted_and_is_first_in_the_queue() {
    let mut engine = engine(EngineConfig { block_count: 4, ..config() });
    for id in [1, 2, 3] {
        engine.ask(id, own_prompt(id, 4), 5);
    }
    assert_eq!(engine.plan_of_step(), "1:0..4[0] 2:0..4[1] 3:0..4[2]");
    engine.ask(4, own_prompt(4, 4), 5);
    // One block is left for three requests that need one each; the freed one goes to request 2.
    assert_eq!(engine.plan_of_step(), "1:4..5[0, 3] 2:4..5[1, 2]");
    let snapshot = engine.snapshot();
    assert_eq!((snapshot.running, snapshot.waiting, snapshot.preemptions_total), (2, 2, 1));
    engine.cancel(RequestId(1), Nanos(0));
    assert_eq!(engine.plan_of_step(), "2:5..6[1, 2] 3:0..5[3, 0]");
    engine.told();
    engine.run_until_idle();
    assert!(engine.told().contains("3+8 3.Length"), "it goes on where it was");
}

#[test]
fn a_request_that_wants_its_whole_prompt_computed_finds_nothing_but_leaves_its_blocks() {
    let mut engine = engine(config());
    engine.ask(1, prompt(9), 1);
    engine.plan_of_step();
    let whole = Request { use_prefix_cache: false, ..request(prompt(12), 1) };
    engine.submit(RequestId(2), whole, Nanos(0)).expect("it is allowed");
    assert_eq!(engine.plan_of_step(), "2:0..12[2, 3, 4]");
    let snapshot = engine.snapshot();
    assert_eq!((snapshot.prefix_queries_total, snapshot.prefix_hits_total), (9, 0));
    assert_eq!(snapshot.prompt_tokens_total, 21);
    engine.ask(3, prompt(13), 1);
    assert!(engine.plan_of_step().starts_with("3:12..13"));
}

#[test]
fn what_is_cached_is_shared_only_with_the_same_salt() {
    let mut engine = engine(config());
    let salted = |salt| Request { cache_salt: CacheSalt([salt; 32]), ..request(prompt(9), 1) };
    for (id, salt, plan) in
        [(1, 0, "1:0..9"), (2, 1, "2:0..9"), (3, 2, "3:0..9"), (4, 1, "4:8..9"), (5, 0, "5:8..9")]
    {
        engine.submit(RequestId(id), salted(salt), Nanos(0)).expect("it is allowed");
        assert!(engine.plan_of_step().starts_with(plan), "{plan}");
    }
}

#[test]
fn what_is_cached_is_shared_only_with_the_same_adapter_which_its_rows_name() {
    let mut engine = engine(config());
    let adapters = [None, Some(AdapterId(0)), Some(AdapterId(1)), Some(AdapterId(0)), None];
    let plans = ["1:0..9", "2:0..9", "3:0..9", "4:8..9", "5:8..9"];
    for ((id, adapter), plan) in (1..).zip(adapters).zip(plans) {
        let request = Request { adapter, ..request(prompt(9), 1) };
        engine.submit(RequestId(id), request, Nanos(0)).expect("it is allowed");
        assert!(engine.plan_of_step().starts_with(plan), "{plan}");
    }
}

#[test]
fn a_cached_beginning_is_not_computed_again() {
    let mut engine = engine(config());
    engine.ask(1, prompt(9), 1);
    engine.plan_of_step();
    engine.ask(2, prompt(11), 1);
    assert_eq!(engine.plan_of_step(), "2:8..11[0, 1, 2]");
    let snapshot = engine.snapshot();
    assert_eq!((snapshot.prefix_queries_total, snapshot.prefix_hits_total), (20, 8));
    assert_eq!(snapshot.prompt_tokens_total, 12);
}

#[test]
fn the_last_token_is_computed_even_if_all_blocks_are_cached() {
    let mut engine = engine(config());
    engine.ask(1, prompt(8), 1);
    engine.plan_of_step();
    engine.ask(2, prompt(8), 1);
    assert_eq!(engine.plan_of_step(), "2:4..8[0, 2]");
}

#[test]
fn two_requests_share_the_blocks_of_a_third_while_it_runs() {
    let mut engine = engine(config());
    engine.ask(1, prompt(4), 9);
    engine.plan_of_step();
    engine.ask(2, prompt(5), 9);
    engine.ask(3, prompt(5), 9);
    assert_eq!(engine.plan_of_step(), "1:4..5[0, 1] 2:4..5[0, 2] 3:4..5[0, 3]");
    assert_eq!(engine.block_state(BlockId(0)), BlockState::Held { holders: 3 });
}

#[test]
fn a_conversation_finds_its_answer_in_the_cache() {
    let mut engine = engine(config());
    engine.ask(1, prompt(3), 3);
    engine.run_until_idle();
    let mut conversation = prompt(3);
    conversation.extend([TokenId(3), TokenId(4)]);
    engine.ask(2, conversation, 1);
    assert_eq!(engine.plan_of_step(), "2:4..5[0, 1]");
}

#[test]
fn the_tail_of_a_cached_beginning_is_evicted_first() {
    let mut engine = engine(EngineConfig { block_count: 3, ..config() });
    engine.ask(1, prompt(12), 1);
    engine.run_until_idle();
    engine.ask(2, own_prompt(2, 4), 1);
    engine.run_until_idle();
    assert_eq!(engine.snapshot().prefix_evictions_total, 1);
    engine.ask(3, prompt(12), 1);
    assert_eq!(engine.plan_of_step(), "3:8..12[0, 1, 2]");
}

#[test]
fn without_the_cache_nothing_is_shared() {
    let mut engine = engine(EngineConfig { prefix_cache: false, ..config() });
    engine.ask(1, prompt(8), 1);
    engine.run_until_idle();
    engine.ask(2, prompt(9), 1);
    assert_eq!(engine.plan_of_step(), "2:0..9[0, 1, 2]");
    assert_eq!(engine.block_state(BlockId(0)), BlockState::Free);
}

#[test]
fn the_computed_blocks_of_a_cancelled_request_stay_cached() {
    let mut engine = engine(EngineConfig { max_num_batched_tokens: 6, ..config() });
    engine.ask(1, prompt(12), 1);
    engine.plan_of_step();
    engine.cancel(RequestId(1), Nanos(0));
    assert_eq!(engine.told(), "1.Cancelled");
    assert_eq!(engine.block_state(BlockId(0)), BlockState::Cached);
    assert_eq!(engine.block_state(BlockId(1)), BlockState::Free);
    assert_eq!(engine.snapshot().blocks_used, 0);
}

#[test]
fn a_cancel_of_an_ended_or_unknown_request_is_nothing() {
    let mut engine = engine(config());
    engine.ask(1, prompt(3), 1);
    engine.plan_of_step();
    engine.cancel(RequestId(1), Nanos(0));
    engine.cancel(RequestId(99), Nanos(0));
    assert_eq!(engine.told(), "1+3 1.Length");
}

#[test]
fn a_failed_row_ends_only_its_request() {
    let mut engine = engine(config());
    engine.ask(1, own_prompt(1, 3), 2);
    engine.ask(2, own_prompt(2, 3), 1);
    engine.device.instead = vec![RowOutput::Failed(Failure::fault("not finite"))];
    engine.plan_of_step();
    assert_eq!(engine.told(), "1!not finite 2+3 2.Length");
    assert_eq!(engine.snapshot().requests_failed_total, 1);
    assert_eq!(engine.snapshot().rows_faulty_total, 1);
    assert_eq!(engine.block_state(BlockId(0)), BlockState::Free);
}

#[test]
fn a_request_that_leaves_no_token_fails_and_is_no_fault() {
    let mut engine = engine(config());
    engine.ask(1, own_prompt(1, 3), 2);
    engine.device.instead = vec![RowOutput::Failed(Failure::no_token("all masked"))];
    engine.plan_of_step();
    let failure = Failure { cause: Cause::NoToken, message: "all masked".to_owned() };
    assert_eq!(engine.drain_events(), [Event::Failed { id: RequestId(1), failure }]);
    engine.check_invariants();
    assert_eq!(engine.snapshot().requests_failed_total, 1);
    assert_eq!(engine.snapshot().rows_faulty_total, 0);
}

#[test]
fn a_broken_device_fails_every_request_and_every_later_one() {
    let mut engine = engine(EngineConfig { max_num_seqs: 1, ..config() });
    engine.ask(1, prompt(3), 1);
    engine.ask(2, prompt(3), 1);
    engine.device.broken = true;
    assert_eq!(engine.step(&FakeClock::new()), Err(DeviceError("on fire".to_owned())));
    engine.check_invariants();
    assert_eq!(engine.told(), "1!the device failed: on fire 2!the device failed: on fire");
    assert_eq!(engine.snapshot().rows_faulty_total, 0);
    let answer = engine.submit(RequestId(3), request(prompt(3), 1), Nanos(0));
    assert_eq!(answer, Err(SubmitError::Stopped));
}

#[test]
fn a_full_queue_refuses() {
    let mut engine = engine(EngineConfig { max_num_seqs: 1, max_num_queued_reqs: 1, ..config() });
    engine.ask(1, prompt(3), 1);
    engine.ask(2, prompt(3), 1);
    let refusal = SubmitError::QueueFull { in_flight: 2, limit: 2 };
    let answer = engine.submit(RequestId(3), request(prompt(3), 1), Nanos(0));
    assert_eq!(answer, Err(refusal));
}

#[test]
fn an_idle_step_does_nothing() {
    let mut engine = engine(config());
    assert_eq!(engine.plan_of_step(), "");
    assert_eq!(engine.snapshot().steps_total, 0);
}

#[test]
fn the_account_of_a_request_says_when_and_how_much() {
    use std::time::Duration;
    let mut engine = engine(config());
    let clock = FakeClock::new();
    clock.advance(Duration::from_nanos(10));
    engine.ask(1, prompt(5), 2);
    engine.step(&clock).expect("the device works");
    clock.advance(Duration::from_nanos(10));
    engine.step(&clock).expect("the device works");
    let event = engine.drain_events().pop().expect("it is finished");
    let times = crate::event::RequestTimes {
        arrived: Nanos(0),
        scheduled: Some(Nanos(10)),
        first_token: Some(Nanos(10)),
        finished: Nanos(20),
        prompt_tokens: 5,
        cached_prompt_tokens: 0,
        generated_tokens: 2,
        preemptions: 0,
        draft_tokens: 0,
        accepted_draft_tokens: 0,
    };
    let reason = FinishReason::Length;
    assert_eq!(event, Event::Finished { id: RequestId(1), reason, times });
}

mod drafts;
mod priority;
mod fair;
mod shares;
