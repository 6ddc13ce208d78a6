//! More seeds of the simulation than the tests run, or one of them, step by step.
//!
//! `cargo run -p engine --example simulation -- 0..1000000` runs these seeds and counts rare
//! events; `cargo run -p engine --example simulation -- 123` tells what seed 123 does.

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

use std::process::ExitCode;

use run::{Trace, simulate};
use sometimes::Sometimes;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    let number = |text: &str| text.parse::<u64>().ok();
    let mut sometimes = Sometimes::default();
    if let Some(seed) = number(&argument) {
        // At once, so that all before a failure is seen.
        simulate(seed, &mut sometimes, Trace(Some(&mut |line| println!("{line}"))));
        return ExitCode::SUCCESS;
    }
    let range = argument.split_once("..").and_then(|(a, b)| Some(number(a)?..number(b)?));
    let Some(range) = range else {
        eprintln!("`{argument}`: give a range of seeds, as 0..100000, or one seed");
        return ExitCode::FAILURE;
    };
    for seed in range {
        let mut of_seed = Sometimes::default();
        simulate(seed, &mut of_seed, Trace(None));
        sometimes.add(of_seed);
    }
    sometimes.check(1);
    ExitCode::SUCCESS
}
