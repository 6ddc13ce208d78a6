//! Tenants share places, blocks and positions.

use super::*;

fn fair_engine(config: EngineConfig) -> Engine<Counter> {
    engine(EngineConfig {
        scheduling_policy: SchedulingPolicy::Fair,
        max_num_queued_reqs: 60,
        ..config
    })
}

impl Engine<Counter> {
    fn ask_for(&mut self, tenant_id: u64, id: u64, prompt_len: u32, max_tokens: u32) {
        let tenant = Tenant { id: tenant_id, ..Tenant::default() };
        let request = Request { tenant, ..request(own_prompt(id, prompt_len), max_tokens) };
        self.submit(RequestId(id), request, Nanos(0)).expect("it is allowed");
    }
}

#[test]
fn alone_a_tenant_is_served_first_come_first_served() {
    let mut engine = fair_engine(EngineConfig { max_num_seqs: 2, ..config() });
    for id in [1, 2, 3] {
        engine.ask_for(1, id, 3, 1);
    }
    assert_eq!(engine.plan_of_step(), "1:0..3[0] 2:0..3[1]");
    assert_eq!(engine.plan_of_step(), "3:0..3[0]");
}

#[test]
fn a_newcomer_within_its_share_gets_a_place_from_who_has_more() {
    let mut engine = fair_engine(EngineConfig { max_num_seqs: 2, ..config() });
    engine.ask_for(1, 1, 3, 9);
    engine.ask_for(1, 2, 3, 9);
    engine.plan_of_step();
    engine.ask_for(2, 3, 3, 1);
    engine.ask_for(2, 4, 3, 1);
    assert_eq!(engine.plan_of_step(), "1:3..4[0] 3:0..3[1]", "the last of the first tenant goes");
    assert_eq!(engine.plan_of_step(), "1:4..5[0, 1] 4:0..3[2]");
    assert_eq!(engine.plan_of_step(), "1:5..6[0, 1] 2:0..4[2]");
    assert_eq!(engine.snapshot().preemptions_total, 1);
}

#[test]
fn a_sequence_gives_way_three_times() {
    let mut engine = fair_engine(EngineConfig { max_num_seqs: 2, ..config() });
    engine.ask_for(1, 1, 3, 40);
    engine.ask_for(1, 2, 3, 40);
    for id in 3..9 {
        engine.plan_of_step();
        engine.ask_for(2, id, 3, 1);
        engine.plan_of_step();
        engine.plan_of_step();
    }
    // Both sequences of the first tenant have given way as often as they must.
    assert_eq!(engine.snapshot().preemptions_total, 6);
    engine.ask_for(2, 9, 3, 1);
    for _ in 0..3 {
        assert!(!engine.plan_of_step().contains("9:"));
    }
}

#[test]
fn blocks_come_back_from_who_has_more_than_its_share() {
    let mut engine = fair_engine(EngineConfig { block_count: 8, ..config() });
    engine.ask_for(1, 1, 12, 9);
    engine.ask_for(1, 2, 12, 9);
    engine.plan_of_step();
    engine.ask_for(2, 3, 12, 1);
    assert_eq!(engine.plan_of_step(), "1:12..13[0, 1, 2, 6] 3:0..12[7, 5, 4]");
}

#[test]
fn who_asks_for_more_than_its_share_waits() {
    let mut engine = fair_engine(EngineConfig { block_count: 8, ..config() });
    engine.ask_for(1, 1, 12, 4);
    engine.ask_for(1, 2, 12, 4);
    engine.plan_of_step();
    engine.ask_for(2, 3, 17, 1);
    while engine.snapshot().requests_finished_total < 2 {
        assert!(!engine.plan_of_step().contains("3:"));
    }
    assert!(engine.plan_of_step().starts_with("3:0..17"));
    assert_eq!(engine.snapshot().preemptions_total, 0);
}

#[test]
fn prompts_of_two_tenants_advance_together() {
    let config = EngineConfig { block_count: 99, max_model_len: 999, ..config() };
    let mut engine = fair_engine(EngineConfig { max_num_batched_tokens: 128, ..config });
    engine.ask_for(1, 1, 190, 2);
    engine.plan_of_step();
    engine.ask_for(2, 2, 100, 2);
    // The newcomer is owed a step, so that the first has one position: it always advances.
    let step = engine.plan_of_step();
    assert!(step.starts_with("1:128..1") && step.contains(" 2:0..100"), "{step}");
}

#[test]
fn with_more_weight_a_tenant_gets_more_places() {
    let mut engine = fair_engine(EngineConfig { max_num_seqs: 4, ..config() });
    for id in 1..5 {
        engine.ask_for(1, id, 3, 9);
    }
    engine.plan_of_step();
    for id in 5..9 {
        let tenant = Tenant { id: 2, weight: 3 };
        let request = Request { tenant, ..request(own_prompt(id, 3), 9) };
        engine.submit(RequestId(id), request, Nanos(0)).expect("it is allowed");
    }
    engine.plan_of_step();
    let running = engine.queues()[0].clone();
    let heavy = running.iter().filter(|id| 5 <= id.0).count();
    assert_eq!((running.len(), heavy), (4, 3), "{running:?}");
}

#[test]
fn nobody_overtakes_for_ever() {
    let small = EngineConfig { block_count: 12, max_num_seqs: 6, ..config() };
    let mut engine = engine(EngineConfig {
        scheduling_policy: SchedulingPolicy::Fair,
        max_num_queued_reqs: 2,
        ..small
    });
    // The second asks for nearly all blocks; others within their share keep coming.
    engine.ask_for(1, 1, 4, 3);
    engine.plan_of_step();
    engine.ask_for(2, 2, 44, 1);
    let mut steps = 0;
    while !engine.plan_of_step().split(' ').any(|row| row.starts_with("2:0")) {
        steps += 1;
        assert!(steps < 150, "it is overtaken for ever");
        let (id, tenant) = (10 + steps, Tenant { id: 1 + 2 * (steps % 2), weight: 1 });
        let request = Request { tenant, ..request(own_prompt(id, 4), 3) };
        // It may find its share full.
        let _ = engine.submit(RequestId(id), request, Nanos(0));
    }
    assert!(50 < steps, "others within their shares do go first: {steps}");
}
