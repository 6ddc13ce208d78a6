//! Requests with a lower number go first.

use super::*;

fn priority_engine(config: EngineConfig) -> Engine<Counter> {
    engine(EngineConfig { scheduling_policy: SchedulingPolicy::Priority, ..config })
}

impl Engine<Counter> {
    fn ask_with_priority(&mut self, id: u64, priority: i32, prompt_len: u32, max_tokens: u32) {
        let request = Request { priority, ..request(own_prompt(id, prompt_len), max_tokens) };
        self.submit(RequestId(id), request, Nanos(0)).expect("it is allowed");
    }
}

#[test]
fn the_queue_is_in_order_of_priority_and_then_of_arrival() {
    let mut engine = priority_engine(EngineConfig { max_num_seqs: 1, ..config() });
    for (id, priority) in [(1, 0), (2, i32::MAX), (3, 0), (4, i32::MIN)] {
        engine.ask_with_priority(id, priority, 1, 1);
    }
    let order: Vec<String> = (0..4).map(|_| engine.plan_of_step()).collect();
    assert_eq!(order, ["4:0..1[0]", "1:0..1[0]", "3:0..1[0]", "2:0..1[0]"]);
}

#[test]
fn first_come_first_served_refuses_priorities() {
    let request = Request { priority: 1, ..request(prompt(1), 1) };
    let refusal = SubmitError::PriorityUnused { priority: 1 };
    assert_eq!(engine(config()).submit(RequestId(1), request, Nanos(0)), Err(refusal));
}

#[test]
fn a_running_request_keeps_its_place_when_a_better_one_comes() {
    let mut engine = priority_engine(EngineConfig { max_num_seqs: 1, ..config() });
    engine.ask_with_priority(1, 5, 1, 2);
    engine.plan_of_step();
    engine.ask_with_priority(2, -5, 1, 1);
    assert_eq!(engine.plan_of_step(), "1:1..2[0]");
    assert_eq!(engine.plan_of_step(), "2:0..1[0]");
}

#[test]
fn the_token_budget_goes_to_the_better_first() {
    let mut engine = priority_engine(EngineConfig { max_num_batched_tokens: 2, ..config() });
    engine.ask_with_priority(1, 5, 4, 1);
    assert_eq!(engine.plan_of_step(), "1:0..2[0]");
    engine.ask_with_priority(2, 0, 1, 1);
    assert_eq!(engine.plan_of_step(), "1:2..4[0]", "2 does not run yet, and 1 takes the budget");
    engine.ask_with_priority(3, 5, 9, 1);
    assert_eq!(engine.plan_of_step(), "2:0..1[1] 3:0..1[2]");
    engine.ask_with_priority(4, 0, 1, 3);
    assert_eq!(engine.plan_of_step(), "3:1..3[2]");
}

#[test]
fn when_blocks_run_out_the_worst_is_preempted() {
    let mut engine = priority_engine(EngineConfig { block_count: 4, ..config() });
    for (id, priority) in [(1, 1), (2, 9), (3, 1)] {
        engine.ask_with_priority(id, priority, 4, 5);
    }
    assert_eq!(engine.plan_of_step(), "1:0..4[0] 3:0..4[1] 2:0..4[2]");
    engine.ask_with_priority(4, 2, 4, 5);
    assert_eq!(engine.plan_of_step(), "1:4..5[0, 3] 3:4..5[1, 2]", "2 gave its block back");
    engine.told();
    engine.run_until_idle();
    let told = engine.told();
    let first = |id: u64| told.find(&format!("{id}+")).expect("it is answered");
    assert!(first(4) < first(2), "4 is better than the preempted one: {told}");
}
