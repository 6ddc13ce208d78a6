//! How much each tenant gets, exactly.

use super::*;

fn fair_engine(config: EngineConfig) -> Engine<Counter> {
    engine(EngineConfig {
        scheduling_policy: SchedulingPolicy::Fair,
        max_model_len: 10_000,
        max_num_queued_reqs: 60,
        ..config
    })
}

impl Engine<Counter> {
    fn ask_as(&mut self, (tenant_id, weight): (u64, u32), id: u64, prompt: u32, max_tokens: u32) {
        let tenant = Tenant { id: tenant_id, weight };
        let request = Request { tenant, ..request(own_prompt(id, prompt), max_tokens) };
        self.submit(RequestId(id), request, Nanos(0)).expect("it is allowed");
    }

    /// Runs a step: ids and positions of its rows, in order.
    fn positions_of_step(&mut self) -> Vec<(u64, u32)> {
        let plan = self.plan_of_step();
        let number = |text: &str| text.parse::<u32>().expect("a number");
        let row = |row: &str| {
            let (id, rest) = row.split_once(':')?;
            let (start, rest) = rest.split_once("..")?;
            let end = &rest[..rest.find(|c: char| !c.is_ascii_digit())?];
            Some((u64::from(number(id)), number(end) - number(start)))
        };
        // Ids of blocks within a row have no colon.
        plan.split(' ').filter_map(row).collect()
    }

    fn ids_of_step(&mut self) -> Vec<u64> {
        self.positions_of_step().into_iter().map(|(id, _)| id).collect()
    }
}

#[test]
fn running_sequences_take_turns_by_weight() {
    let mut engine = fair_engine(EngineConfig { max_num_seqs: 5, ..config() });
    for (tenant, id) in [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5)] {
        engine.ask_as((tenant, tenant as u32), id, 3, 9);
    }
    engine.plan_of_step();
    assert_eq!(engine.ids_of_step(), [1, 3, 4, 2, 5], "the second tenant has two turns for one");
}

#[test]
fn who_has_most_for_its_weight_is_preempted_first_and_not_who_came_last() {
    let mut engine = fair_engine(EngineConfig { block_count: 4, ..config() });
    for (tenant, id) in [(1, 1), (1, 2), (2, 3)] {
        engine.ask_as((tenant, 1), id, 4, 9);
    }
    assert_eq!(engine.ids_of_step(), [1, 3, 2]);
    assert_eq!(engine.ids_of_step(), [1, 3], "each needs a block, and there is one");
}

#[test]
fn positions_go_by_weight_once_a_newcomer_had_the_step_it_is_owed() {
    let config = EngineConfig { block_count: 4096, max_num_batched_tokens: 256, ..config() };
    let mut engine = fair_engine(config);
    engine.ask_as((1, 1), 1, 3000, 1);
    engine.plan_of_step();
    engine.ask_as((2, 3), 2, 3000, 1);
    assert_eq!(engine.positions_of_step(), [(1, 1), (2, 255)]);
    let mut sums = [0, 0];
    for _ in 0..4 {
        for (id, positions) in engine.positions_of_step() {
            sums[id as usize - 1] += positions;
        }
    }
    assert_eq!(sums.iter().sum::<u32>(), 4 * 256);
    assert!(sums[0].abs_diff(256) <= 64, "a quarter, but for a portion: {sums:?}");
}

#[test]
fn a_decode_counts_as_the_position_that_it_is() {
    let config = EngineConfig { block_count: 4096, max_num_seqs: 20, ..config() };
    let mut engine = fair_engine(EngineConfig { max_num_batched_tokens: 264, ..config });
    for id in 1..=8 {
        engine.ask_as((1, 1), id, 3, 99);
    }
    engine.plan_of_step();
    engine.ask_as((1, 1), 9, 3000, 1);
    engine.ask_as((2, 1), 10, 3000, 1);
    // The newcomer is owed a step.
    engine.plan_of_step();
    for _ in 0..4 {
        let positions = engine.positions_of_step();
        let of = |wanted| positions.iter().find(|(id, _)| *id == wanted).map_or(0, |row| row.1);
        assert_eq!(of(9) + of(10), 256);
        assert!(of(9).abs_diff(128) <= 64, "half, but for a portion: {positions:?}");
    }
}

/// A tenant decodes behind prompts of these lengths while another reads for twelve steps. Then it brings a
/// prompt of its own: for how many steps the other one has to wait.
fn steps_owed(max_num_seqs: u32, block_count: u32, prompts: &[u32]) -> usize {
    let config = EngineConfig { block_count, max_num_seqs, prefix_cache: false, ..config() };
    let mut engine = fair_engine(EngineConfig { max_num_batched_tokens: 64, ..config });
    for (id, &prompt) in (1..).zip(prompts) {
        engine.ask_as((1, 1), id, prompt, 500);
    }
    while engine.positions_of_step().iter().any(|(_, positions)| 1 < *positions) {}
    engine.ask_as((2, 1), 98, 1_500, 1);
    for _ in 0..12 {
        assert!(engine.ids_of_step().contains(&98));
    }
    engine.ask_as((1, 1), 99, 640, 1);
    (0..20).take_while(|_| !engine.ids_of_step().contains(&98)).count()
}

#[test]
fn who_wanted_less_than_its_share_is_owed_eight_steps() {
    assert_eq!(steps_owed(6, 2_000, &[3]), 8);
    assert_eq!(steps_owed(6, 2_000, &[3, 3, 3]), 8, "3 of 6 places are its share");
}

#[test]
fn who_runs_more_than_its_share_is_owed_nothing() {
    assert_eq!(steps_owed(6, 2_000, &[3, 3, 3, 3]), 0);
}

#[test]
fn who_holds_more_blocks_than_its_share_is_owed_nothing() {
    // Twelve steps and the ones before leave 600 blocks of 2,400 positions and some.
    let held = |prompt: u32| (prompt + 15).div_ceil(4);
    assert_eq!(steps_owed(6, 2 * held(2_400), &[2_400]), 8, "half of the blocks");
    assert_eq!(steps_owed(6, 2 * held(2_400) - 2, &[2_400]), 0, "one more than half");
}

#[test]
fn only_who_is_within_its_share_overtakes_a_head_that_does_not_fit() {
    let mut engine = fair_engine(config());
    engine.ask_as((1, 1), 1, 30, 9);
    engine.plan_of_step();
    engine.ask_as((2, 1), 2, 48, 1);
    engine.ask_as((1, 1), 3, 4, 1);
    assert_eq!(engine.ids_of_step(), [1], "8 of 16 blocks are left, and the second needs 12");
}

#[test]
fn nobody_gives_way_who_has_no_more_than_its_share_of_places() {
    let config = EngineConfig { max_num_seqs: 10, block_count: 64, ..config() };
    let mut engine = fair_engine(config);
    for (tenant, id) in [(2, 1), (3, 2), (4, 3), (2, 4), (3, 5), (4, 6)] {
        engine.ask_as((tenant, 1), id, 3, 9);
    }
    for id in 11..15 {
        engine.ask_as((1, 3), id, 3, 9);
    }
    engine.plan_of_step();
    assert_eq!(engine.ids_of_step().last(), Some(&14), "the last in turn");
    // One of seven parts of ten places is one place, and three parts are four.
    engine.ask_as((5, 1), 20, 3, 1);
    let ids = engine.ids_of_step();
    assert!(ids.contains(&20) && (11..15).all(|id| ids.contains(&id)), "{ids:?}");
}

#[test]
fn nobody_gives_way_who_has_no_more_than_its_share_of_blocks() {
    let mut engine = fair_engine(EngineConfig { block_count: 24, ..config() });
    engine.ask_as((1, 1), 1, 45, 3);
    for id in [2, 3] {
        engine.ask_as((2, 1), id, 13, 3);
    }
    engine.plan_of_step();
    engine.plan_of_step();
    engine.ask_as((3, 1), 4, 29, 1);
    assert_eq!(engine.ids_of_step(), [2, 4, 3], "the first has 12 blocks, the second its 8");
}

#[test]
fn a_prompt_within_its_share_gets_the_blocks_that_decodes_took_beyond_theirs() {
    let config = EngineConfig { max_num_batched_tokens: 8, prefix_cache: false, ..config() };
    let mut engine = fair_engine(config);
    for id in [1, 2] {
        engine.ask_as((1, 1), id, 12, 40);
    }
    while engine.positions_of_step() != [(1, 1), (2, 1)] {}
    // It needs 8 of the 9 blocks that are left, and the decodes take three.
    engine.ask_as((2, 1), 3, 32, 1);
    for _ in 0..4 {
        assert_eq!(engine.positions_of_step(), [(1, 1), (3, 6), (2, 1)]);
    }
    assert_eq!(engine.snapshot().preemptions_total, 0);
    let step = engine.positions_of_step();
    assert_eq!(step, [(1, 1), (3, 7)], "the position of the one that lost its blocks is used, too");
}

#[test]
fn a_prompt_beyond_its_share_waits_for_blocks() {
    let config = EngineConfig { max_num_batched_tokens: 8, prefix_cache: false, ..config() };
    let mut engine = fair_engine(config);
    engine.ask_as((1, 1), 1, 27, 6);
    while engine.ids_of_step() != [1] || engine.snapshot().generation_tokens_total == 0 {}
    engine.ask_as((2, 1), 2, 36, 1);
    while engine.snapshot().requests_finished_total < 2 {
        engine.plan_of_step();
    }
    assert_eq!(engine.snapshot().preemptions_total, 0, "the first is within its share");
}

#[test]
fn accepted_tokens_of_drafts_count_for_who_had_them() {
    let config = EngineConfig { block_count: 100, max_num_batched_tokens: 8, ..drafting() };
    let mut engine = fair_engine(config);
    for id in [1, 2] {
        engine.ask_as((id, 1), id, 3, 40);
    }
    engine.plan_of_step();
    for _ in 0..5 {
        // The first has 4 tokens in each step, the second 1.
        engine.device.instead = vec![tokens(&[7, 7, 7, 7]), tokens(&[7])];
        assert_eq!(engine.positions_of_step(), [(1, 1), (2, 1)]);
    }
    engine.ask_as((1, 1), 3, 60, 1);
    engine.ask_as((2, 1), 4, 60, 1);
    // The second tenant is 15 positions behind, and 6 are left beside decodes.
    for _ in 0..3 {
        assert_eq!(engine.positions_of_step(), [(1, 1), (2, 1), (4, 6)]);
    }
    assert_eq!(engine.positions_of_step(), [(1, 1), (2, 1), (3, 6)]);
}

#[test]
fn as_many_as_eight_times_the_places_overtake_a_head_that_does_not_fit() {
    let mut engine = fair_engine(EngineConfig { block_count: 200, max_num_seqs: 3, ..config() });
    engine.ask_as((1, 1), 1, 3, 600);
    engine.plan_of_step();
    engine.ask_as((2, 1), 2, 800, 1);
    let mut overtakes = |id| {
        engine.ask_as((3, 1), id, 3, 1);
        engine.ids_of_step().contains(&id)
    };
    let count = (10..).take_while(|&id| overtakes(id)).count();
    assert_eq!(count, 8 * (3 + 60));
}
