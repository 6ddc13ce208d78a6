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
mod drafts;
mod windows;
mod fair;
mod run;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;
use run::{Trace, simulate};
use sometimes::Sometimes;

const SEEDS: u64 = 20_000;
/// The seeds are shared evenly among so many threads.
const THREADS: u64 = 2;

#[test]
fn any_workload_is_answered_as_if_each_request_were_alone() {
    let failed = AtomicBool::new(false);
    let share = |first| {
        let _on_failure = StopTheOthers(&failed);
        let mut sometimes = Sometimes::default();
        let seeds = (first..SEEDS).step_by(THREADS as usize);
        for seed in seeds.take_while(|_| !failed.load(Ordering::Relaxed)) {
            simulate(seed, &mut sometimes, Trace(None));
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
    sometimes.check(100);
}

#[test]
fn workloads_of_seeds_that_nobody_chose_are_answered_too() {
    fuzz::check(1000, &any::<u64>().no_shrink(), |seed| {
        simulate(seed, &mut Sometimes::default(), Trace(None));
        Ok(())
    });
}

/// One failure is enough: the other threads need not go on to their ends.
struct StopTheOthers<'a>(&'a AtomicBool);

impl Drop for StopTheOthers<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in (0..SEEDS).step_by(400) {
        let [first, second] = [(), ()].map(|()| {
            let mut lines = Vec::new();
            let mut keep = |line| lines.push(line);
            simulate(seed, &mut Sometimes::default(), Trace(Some(&mut keep)));
            lines
        });
        assert_eq!(first, second, "seed {seed} differs from one run to the next");
    }
}
