//! The engine under random workloads, with a device that notices every wrong block.
//!
//! A seed decides all: the sizes of the engine, the requests, the cancels, the faults. After every
//! step all invariants hold, the rules of the scheduler are checked against a plain model, and
//! every answer equals that of a loop over its request alone.

mod rng;
mod device;
mod oracle;
mod sometimes;
mod workload;
mod model;
mod fair;
mod run;

use std::thread;

use run::{Trace, simulate};
use sometimes::Sometimes;

const SEEDS: u64 = 2000;
/// The seeds are shared evenly among so many threads.
const THREADS: u64 = 2;

#[test]
fn any_workload_is_answered_as_if_each_request_were_alone() {
    let share = |first| {
        let mut sometimes = Sometimes::default();
        for seed in (first..SEEDS).step_by(THREADS as usize) {
            simulate(seed, &mut sometimes, &mut Trace::Nowhere);
        }
        sometimes
    };
    let mut sometimes = Sometimes::default();
    thread::scope(|scope| {
        let shares: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || share(first))).collect();
        for share in shares {
            sometimes.add(share.join().expect("every seed passes"));
        }
    });
    sometimes.check(50);
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in (0..SEEDS).step_by(40) {
        let [first, second] = [(), ()].map(|()| {
            let mut trace = Trace::Kept(Vec::new());
            simulate(seed, &mut Sometimes::default(), &mut trace);
            trace
        });
        assert_eq!(first, second, "seed {seed} differs from one run to the next");
    }
}

/// `MILLRACE_SEED=123 cargo test -p engine --test simulation replay -- --nocapture`
#[test]
fn replay() {
    let seed = std::env::var("MILLRACE_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    simulate(seed, &mut Sometimes::default(), &mut Trace::Printed);
}
