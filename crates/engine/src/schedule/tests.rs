//! That the checks notice what they are for.

use super::*;
use crate::config::Speculation;
use crate::ids::TokenId;
use crate::layout::KvGroups;
use crate::request::{CacheSalt, Request};

/// Two sequences run at most.
fn scheduler() -> Scheduler<()> {
    let config = EngineConfig {
        block_size: 2,
        block_count: 8,
        kv_groups: KvGroups::ONE,
        max_model_len: 8,
        max_num_seqs: 2,
        max_num_batched_tokens: 8,
        max_num_queued_reqs: 4,
        prefix_cache: true,
        scheduling_policy: SchedulingPolicy::Fair,
        speculation: Speculation::OFF,
    };
    Scheduler::new(config, u64::MAX)
}

/// One that arrived as number `arrival`, with a place for it.
fn arrive(scheduler: &mut Scheduler<()>, arrival: u64) {
    let request = Request {
        prompt: vec![TokenId(1); 3],
        max_tokens: 2,
        min_tokens: 0,
        stop_tokens: Vec::new(),
        priority: 0,
        use_prefix_cache: true,
        cache_salt: CacheSalt::default(),
        adapter: None,
        tenant: Tenant::default(),
        params: (),
    };
    scheduler.reserve(request.tenant).expect("there is a place");
    let rank = SchedulingPolicy::Fair.rank(0, arrival);
    let id = RequestId(arrival);
    scheduler.enqueue(Sequence::new((id, rank), KvGroups::ONE, request, Nanos(0)));
}

/// A scheduler with two sequences that wait, in order.
fn two() -> Scheduler<()> {
    let mut scheduler = scheduler();
    arrive(&mut scheduler, 2);
    arrive(&mut scheduler, 1);
    scheduler.check_invariants();
    scheduler
}

#[test]
#[should_panic(expected = "too many sequences run")]
fn more_that_run_than_places_is_a_panic() {
    let mut scheduler = two();
    scheduler.running.extend(scheduler.waiting.drain(..));
    scheduler.check_invariants();
    scheduler.config.max_num_seqs = 1;
    scheduler.check_invariants();
}

#[test]
#[should_panic(expected = "the queue is not in order of rank")]
fn a_queue_that_is_not_in_order_is_a_panic() {
    let mut scheduler = two();
    scheduler.waiting.swap(0, 1);
    scheduler.check_invariants();
}

#[test]
#[should_panic(expected = "no two have one rank")]
fn a_rank_that_is_there_is_a_panic() {
    let mut scheduler = two();
    arrive(&mut scheduler, 2);
}

#[test]
#[should_panic(expected = "has no work")]
fn a_sequence_without_work_is_a_panic() {
    let mut scheduler = two();
    scheduler.waiting[0].computed = 3;
    scheduler.check_invariants();
}

#[test]
#[should_panic(expected = "waits with computed tokens")]
fn who_waits_and_has_something_computed_is_a_panic() {
    let mut scheduler = two();
    scheduler.waiting[0].computed = 1;
    scheduler.check_invariants();
}

#[test]
#[should_panic(expected = "a place is lost")]
fn a_place_that_nobody_holds_is_a_panic() {
    let mut scheduler = two();
    scheduler.waiting.pop_back();
    scheduler.check_invariants();
}

#[test]
#[should_panic(expected = "tenant 7 is not forgotten")]
fn a_tenant_that_is_gone_and_kept_is_a_panic() {
    let mut scheduler = two();
    scheduler.served.insert(7, 0);
    scheduler.check_invariants();
}

#[test]
#[should_panic(expected = "has idle blocks or lacks some")]
fn blocks_that_do_not_fit_what_is_computed_are_a_panic() {
    let mut scheduler = two();
    scheduler.kv.grow(&mut scheduler.waiting[0].table, 1);
    scheduler.check_invariants();
}
