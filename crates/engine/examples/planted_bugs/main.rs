//! Plants mistakes in copies of the engine, one each, and tells how many seeds of the simulation it
//! takes to find them. `cargo run -p engine --example planted_bugs`; it fails if one is not found.
//!
//! Copies are built without network, from the crates that this one was built from.

mod bugs;

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Output};

use bugs::{BUGS, Bug};

/// Seeds after which a mistake counts as not found.
const SEEDS_MAX: u64 = 20_000;

/// What the copies need in place of the workspace.
const MANIFEST: &str = "[package]\nname = \"engine\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
    [dependencies]\nthiserror = \"2\"\n[[example]]\nname = \"simulation\"\n\
    path = \"tests/simulation/seeds.rs\"\n[workspace]\n[profile.dev]\nopt-level = 1\n";

fn main() -> ExitCode {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = engine.join("../../target/planted_bugs");
    let mut unfound = 0;
    println!("| seeds | what was wrong |\n|---|---|");
    for bug in &BUGS {
        let found = try_bug(engine, &copy, bug).expect("files can be copied and cargo can be run");
        match found {
            Some(seed) => println!("| {} | {} |", seed + 1, bug.name),
            None => {
                println!("| not within {SEEDS_MAX} | {} |", bug.name);
                unfound += 1;
            }
        }
    }
    if unfound == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The first seed that finds the mistake.
fn try_bug(engine: &Path, copy: &Path, bug: &Bug) -> io::Result<Option<u64>> {
    for folder in ["src", "tests"] {
        copy_folder(&engine.join(folder), &copy.join(folder))?;
    }
    fs::write(copy.join("Cargo.toml"), MANIFEST)?;
    fs::copy(engine.join("../../Cargo.lock"), copy.join("Cargo.lock"))?;
    let file = copy.join("src").join(bug.file);
    let text = fs::read_to_string(&file)?;
    fs::write(&file, text.replacen(bug.right, bug.wrong, 1))?;
    let cargo = |arguments: &[&str]| -> io::Result<Output> {
        Command::new(env!("CARGO"))
            .args(arguments)
            .arg("--offline")
            .arg("--example=simulation")
            .current_dir(copy)
            .env("CARGO_TARGET_DIR", copy.join("target"))
            .output()
    };
    let build = cargo(&["build"])?;
    let complaint = String::from_utf8_lossy(&build.stderr);
    assert!(build.status.success(), "`{}` does not build: {complaint}", bug.name);
    let run = Command::new(copy.join("target/debug/examples/simulation"))
        .arg(format!("0..{SEEDS_MAX}"))
        .output()?;
    let told = String::from_utf8_lossy(&run.stderr);
    let seed = told.lines().find_map(|line| line.strip_prefix("seed ")?.split_once(" failed"));
    Ok(seed.map(|(seed, _)| seed.parse().expect("a number")))
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_has_its_one_place_in_the_engine() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for bug in &BUGS {
            let text = fs::read_to_string(src.join(bug.file)).expect("a file of the engine");
            let places = text.matches(bug.right).count();
            assert_eq!(places, 1, "`{}` must have one place in {}", bug.name, bug.file);
            assert_ne!(bug.right, bug.wrong);
        }
    }

    #[test]
    fn every_mistake_has_its_own_name() {
        let mut names: Vec<_> = BUGS.iter().map(|bug| bug.name).collect();
        names.sort();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
