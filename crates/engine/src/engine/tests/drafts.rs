use super::*;

#[test]
fn a_row_has_room_for_a_draft_and_what_is_accepted_is_computed() {
    let mut engine = engine(drafting());
    engine.ask(1, prompt(5), 9);
    engine.device.instead = vec![tokens(&[8, 9, 10])];
    assert_eq!(engine.plan_of_step(), "1:0..5+3[0, 1]");
    assert_eq!(engine.told(), "1+8 1+9 1+10");
    assert_eq!(engine.plan_of_step(), "1:7..8+3[0, 1, 2]");
    let snapshot = engine.snapshot();
    assert_eq!((snapshot.computed_tokens_total, snapshot.last_step_tokens), (5 + 2 + 1, 1));
    assert_eq!((snapshot.drafts_total, snapshot.draft_tokens_total), (1, 2));
    assert_eq!(snapshot.accepted_draft_tokens_total[..3], [1, 1, 0]);
}

#[test]
fn blocks_that_only_the_draft_needed_go_back() {
    let mut engine = engine(drafting());
    engine.ask(1, prompt(6), 9);
    assert_eq!(engine.plan_of_step(), "1:0..6+2[0, 1]");
    assert_eq!(engine.plan_of_step(), "1:6..7+3[0, 1, 2]");
    assert_eq!(engine.snapshot().blocks_used, 2);
}

#[test]
fn of_several_tokens_those_behind_the_end_are_dropped() {
    let mut engine = engine(drafting());
    engine.ask(1, prompt(5), 9);
    engine.device.instead = vec![tokens(&[8, 0, 7])];
    engine.plan_of_step();
    assert_eq!(engine.told(), "1+8 1+0 1.Stop { token: TokenId(0) }");
    assert_eq!(engine.snapshot().accepted_draft_tokens_total[..2], [1, 0]);
}

#[test]
fn a_draft_is_no_longer_than_the_answer_may_become() {
    let mut engine = engine(drafting());
    engine.ask(1, prompt(3), 3);
    engine.ask(2, own_prompt(2, 1), 1);
    engine.device.instead = vec![tokens(&[1, 2, 3])];
    assert_eq!(engine.plan_of_step(), "1:0..3+2[0, 2] 2:0..1[1]");
    assert_eq!(engine.told(), "1+1 1+2 1+3 1.Length 2+1 2.Length");
}

#[test]
fn rows_share_what_a_step_has_left_and_a_large_step_has_no_drafts() {
    let mut engine = engine(drafting());
    for id in 1..=4 {
        engine.ask(id, own_prompt(id, 2), 9);
    }
    assert_eq!(engine.plan_of_step(), "1:0..2[0] 2:0..2[1] 3:0..2[2] 4:0..2[3]");
    assert_eq!(
        engine.plan_of_step(),
        "1:2..3+1[0] 2:2..3+1[1] 3:2..3+1[2] 4:2..3+1[3]",
        "8 positions, 4 of them of drafts"
    );
    engine.cancel(RequestId(4), Nanos(0));
    assert_eq!(engine.plan_of_step(), "1:3..4+1[0, 3] 2:3..4+1[1, 4] 3:3..4+1[2, 5]");
}

#[test]
fn a_draft_takes_no_blocks_from_others() {
    let mut engine = engine(EngineConfig { block_count: 3, ..drafting() });
    engine.ask(1, own_prompt(1, 3), 5);
    engine.ask(2, own_prompt(2, 3), 5);
    assert_eq!(engine.plan_of_step(), "1:0..3+1[0] 2:0..3+1[1]");
    assert_eq!(engine.plan_of_step(), "1:3..4+3[0, 2] 2:3..4[1]");
    assert_eq!(engine.snapshot().preemptions_total, 0);
}

#[test]
fn the_account_of_a_request_counts_its_drafts() {
    let mut engine = engine(drafting());
    engine.ask(1, prompt(3), 3);
    let sampled = |id| Sampled { token: TokenId(id), extra: () };
    engine.device.instead =
        vec![RowOutput::Tokens { tokens: vec![sampled(5), sampled(6)], drafted: 2 }];
    engine.plan_of_step();
    engine.run_until_idle();
    let Some(Event::Finished { times, .. }) = engine.drain_events().pop() else {
        panic!("it is finished");
    };
    assert_eq!((times.draft_tokens, times.accepted_draft_tokens), (2, 1));
}
