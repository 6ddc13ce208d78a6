//! Times to first token and shares, where one client floods the server.

use std::time::Duration;

use engine::{EngineConfig, SchedulingPolicy, Tenant};

use crate::trial::{Crowd, ENGINE, Trial, crowd, floods};

const TIME: Duration = Duration::from_secs(120);

/// For clients that want no more than their share.
#[test]
fn a_flood_makes_nobody_wait_more_than_twice_as_long_and_a_step() {
    let quiet = [(32, 1), (128, 4), (512, 1), (512, 4), (1000, 1), (64, 10)];
    for budget in [256, 2048] {
        let engine = EngineConfig { max_num_batched_tokens: budget, ..ENGINE };
        for (prompt_tokens, users) in quiet {
            let quiet = crowd(1, users, prompt_tokens, 40);
            let alone = Trial::run(engine, &[quiet], TIME).percentile(0, 99);
            for flood in floods() {
                let flooded = Trial::run(engine, &[quiet, flood], TIME);
                let p99 = flooded.percentile(0, 99);
                let limit = 2 * alone + flooded.step_ns_max;
                let case = format!("budget {budget}, {users} x {prompt_tokens}, {flood:?}");
                assert!(p99 <= limit, "{case}: p99 of {p99} ns, alone {alone}, limit {limit}");
            }
        }
    }
}

#[test]
fn sharing_costs_no_throughput() {
    for flood in floods() {
        let crowds = [crowd(1, 4, 512, 40), flood];
        let tokens = |scheduling_policy| {
            let engine = EngineConfig { scheduling_policy, ..ENGINE };
            Trial::run(engine, &crowds, TIME).tokens.iter().sum::<u64>()
        };
        let (fair, fcfs) = (tokens(SchedulingPolicy::Fair), tokens(SchedulingPolicy::Fcfs));
        assert!(fcfs * 95 <= fair * 100, "{fair} tokens fairly, {fcfs} first come, first served");
    }
}

#[test]
fn two_floods_share_by_weight() {
    for weight in [1, 3] {
        let second = Tenant { id: 2, weight };
        let crowds =
            [crowd(1, 10_000, 400, 50), Crowd { tenant: second, ..crowd(2, 10_000, 400, 50) }];
        let tokens = Trial::run(ENGINE, &crowds, TIME).tokens;
        let percent = tokens[1] * 100 / (tokens[0] * u64::from(weight));
        assert!((90..=110).contains(&percent), "{tokens:?} at 1 to {weight}");
    }
}
